//! Changes of a key through the API.

use std::sync::Arc;

use super::state::Shared;
use super::sync::SyncOp;
use super::table::KeyTable;
use crate::correction::{RateLimitComparator, SetOutcome};
use crate::engine::SetMode;
use crate::lease::KeyState;
use crate::redis::{Failure, OnDrop};
use crate::script::{Correction, CorrectionReply};

impl Shared {
    /// Returns the units that this instance holds of a key to Redis.
    pub(super) async fn give_back_key(self: &Arc<Self>, table: &Arc<KeyTable>, key: &[u8]) -> Result<(), Failure> {
        let key = table.key_ref(key);
        let visit = |state: &mut KeyState| {
            state.can_return().then(|| SyncOp::start(self, &key, state, &self.any_limits(), false))
        };
        if let Some(sync) = key.with(visit).flatten() {
            sync.wait(self.redis.dispatcher.deadline()).await?;
        }
        Ok(())
    }

    /// Sets the total of a key, if the comparator holds for its current total.
    pub(super) async fn set(
        self: &Arc<Self>,
        table: &Arc<KeyTable>,
        key: &[u8],
        comparator: RateLimitComparator,
        (count, mode): (u64, SetMode),
    ) -> Result<SetOutcome, Failure> {
        self.give_back_key(table, key).await?;
        // Redis may have applied the correction even if no reply arrived, or the caller stopped waiting.
        let changed = OnDrop(|| {
            table.with(table.fingerprint(key), KeyState::invalidate);
        });
        let set = Correction::Set { comparator, count, mode };
        let corrected = self.redis.correct(&table.keys, key, set).await?;
        let (previous_total, current_total) = (corrected.before, corrected.after);
        let now = self.time.now_ms();
        drop(changed);
        table.with(table.fingerprint(key), |state| state.record_total(now, current_total, &self.params));
        Ok(SetOutcome { matched: corrected.done, previous_total, current_total })
    }

    /// Takes back units that Redis charged, with best effort.
    pub(super) async fn refund(&self, table: &KeyTable, key: &[u8], stamp: u64, units: u64) {
        // Redis may have applied it even if no reply arrived.
        let _changed = OnDrop(|| {
            table.with(table.fingerprint(key), KeyState::clear_refusals);
        });
        let _ = self.redis.correct(&table.keys, key, Correction::Refund { stamp, units }).await;
    }

    /// Forgets a key. Other instances keep the units that they hold.
    pub(super) async fn forget(
        self: &Arc<Self>,
        table: &Arc<KeyTable>,
        key: &[u8],
    ) -> Result<CorrectionReply, Failure> {
        self.give_back_key(table, key).await?;
        let _changed = OnDrop(|| {
            let now = self.time.now_ms();
            table.with(table.fingerprint(key), |state| state.forget(now, &self.params));
        });
        self.redis.correct(&table.keys, key, Correction::Delete).await
    }
}
