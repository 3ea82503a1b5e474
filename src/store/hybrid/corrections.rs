//! Changes of a key by hand.

use std::sync::Arc;

use super::state::Shared;
use super::sync::SyncOp;
use super::table::KeyTable;
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
