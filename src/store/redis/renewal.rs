//! The renewal of permits: one task of a store, which renews the permits that this instance holds.
//!
//! It runs on the runtime of the request that needed it first, holds the store weakly, and ends when no permit is held.
//! If its runtime ends, it moves to the runtime of another request in flight. If it stalls, or stayed behind in a process
//! that forked, the next request starts another one.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;

use super::permits::{Charged, HeldPermits};
use super::state::{LimitHandle, LimitKeys, Shared};
use crate::redis::{Keyspace, Return, Returning};
use crate::runtime::{self, Carrier};

/// The most calls at the same time.
const AT_ONCE: usize = 64;
/// The most keys that are renewed before a breaker closes. The task renews the rest.
const AT_RETURN: usize = 4_096;
/// The longest pause of the task.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The task with this number. However it ends, another one starts if permits are held.
struct Task {
    shared: Weak<Shared>,
    number: u64,
}

impl Drop for Task {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        if shared.renewals.end(self.number)
            && let Some(carrier) = shared.held().iter().find_map(|keys| keys.permits.as_ref()?.carrier())
        {
            shared.start_renewals(&carrier);
        }
    }
}

impl Task {
    async fn run(self) {
        loop {
            let Some(shared) = self.shared.upgrade() else { return };
            let Some(pause) = shared.renew_due(&self).await else { return };
            shared.renewals.stay_alive(pause);
            drop(shared);
            let Ok(sleep) = runtime::sleep(pause) else { return };
            sleep.await;
        }
    }
}

impl Shared {
    /// Starts the task on a runtime, unless it is alive.
    pub(super) fn start_renewals(self: &Arc<Self>, carrier: &Carrier) {
        if let Some(number) = self.renewals.begin() {
            let task = Task { shared: Arc::downgrade(self), number };
            let _ = carrier.spawn(task.run());
        }
    }

    /// The limits of which this instance may hold permits.
    fn held(&self) -> Vec<Arc<LimitKeys>> {
        self.named.all().into_iter().filter(|keys| keys.permits.is_some()).collect()
    }

    /// How long a permit counts without a renewal.
    fn time_to_live(&self, space: &Keyspace) -> Duration {
        let shortest = u64::from(space.horizon.spans().0[0]);
        Duration::from_millis(shortest.saturating_mul(self.client.geometry.bucket_ms()))
    }

    /// Renews what is due. Returns the time until the next look, or `None` if no permit is held.
    async fn renew_due(self: &Arc<Self>, task: &Task) -> Option<Duration> {
        let mut pause = None;
        for keys in self.held() {
            let Some(permits) = keys.permits.as_ref().filter(|permits| !permits.is_empty()) else { continue };
            let ttl = self.time_to_live(&keys.space);
            // A key is renewed between a quarter and a third of the time.
            let next = (ttl / 12).clamp(Duration::from_millis(5), LONGEST_PAUSE);
            pause = Some(pause.map_or(next, |pause: Duration| pause.min(next)));
            for some in permits.due(ttl / 4).chunks(AT_ONCE) {
                if !self.renewals.is_current(task.number) {
                    return None;
                }
                self.renewals.stay_alive(self.client.dispatcher.deadline());
                join_all(some.iter().map(|name| self.renew(&keys, permits, name, false))).await;
            }
        }
        pause
    }

    /// Renews the permits of one key.
    pub(super) async fn renew(
        &self,
        keys: &Arc<LimitKeys>,
        permits: &Arc<HeldPermits>,
        name: &[u8],
        is_returning: bool,
    ) {
        let dispatcher = &self.client.dispatcher;
        if !is_returning && !dispatcher.allows(Some(name)) {
            return;
        }
        let Some(renewal) = permits.begin(name) else { return };
        let total = renewal.total();
        let renewed = self.client.renew(&keys.space, &renewal.name, total, &renewal.charged, is_returning).await;
        let refunds = renewal.end(renewed.ok());
        self.refund_permits(keys, name, refunds, &Carrier::here());
    }

    /// Records permits that this instance's share admitted. Redis learns of them at once if it answers, and otherwise
    /// before its breaker closes.
    pub(super) fn owe_permits(
        self: &Arc<Self>,
        account: &LimitHandle,
        permits: &Arc<HeldPermits>,
        key: &[u8],
        units: u64,
    ) {
        if units == 0 {
            return;
        }
        let name = account.keys.space.names.name(key);
        permits.hold(name.clone(), None, units);
        self.start_renewals(&Carrier::here());
        if self.client.dispatcher.allows(Some(&name)) {
            let (shared, keys, permits) = (Arc::clone(self), Arc::clone(&account.keys), Arc::clone(permits));
            let _ = runtime::spawn(async move { shared.renew(&keys, &permits, &name, false).await });
        }
    }

    /// Returns permits, in this instance's share and in Redis.
    pub(super) fn give_back(&self, account: &LimitHandle, permits: &Arc<HeldPermits>, key: &[u8], units: u64) {
        if units == 0 {
            return;
        }
        if let Some(share) = &account.share {
            share.release(key, units);
        }
        let name = account.keys.space.names.name(key);
        if let Some((refunds, carrier)) = permits.give_back(&name, units) {
            self.refund_permits(&account.keys, &name, refunds, &carrier);
        }
    }

    /// Refunds permits in Redis, in the background.
    pub(super) fn refund_permits(&self, keys: &Arc<LimitKeys>, name: &[u8], refunds: Vec<Charged>, carrier: &Carrier) {
        for (tick, permits) in refunds {
            let (client, keys, name) = (Arc::clone(&self.client), Arc::clone(keys), Box::<[u8]>::from(name));
            let refund = async move { client.refund_name(&keys.space, &name, tick, permits).await };
            // A permit may return on a thread without a runtime.
            let _ = if runtime::check().is_ok() { runtime::spawn(refund) } else { carrier.spawn(refund) };
        }
    }
}

impl Returning for Shared {
    /// Charges the permits that this instance's shares admitted, and those that expired during the outage.
    fn bring_back<'a>(&'a self, is_here: &'a (dyn Fn(&[u8]) -> bool + Send + Sync)) -> Return<'a> {
        Box::pin(async move {
            let mut left = AT_RETURN;
            for keys in self.held() {
                let Some(permits) = &keys.permits else { continue };
                let mut due = permits.due(Duration::ZERO);
                due.retain(|name| is_here(name));
                due.truncate(left);
                left -= due.len();
                for some in due.chunks(AT_ONCE) {
                    join_all(some.iter().map(|name| self.renew(&keys, permits, name, true))).await;
                }
            }
        })
    }
}
