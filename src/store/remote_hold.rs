//! Units in Redis that are spent over time.
//!
//! A script moves the charged units into a lease, which counts until the last instant at which a unit may be spent, and
//! a window longer. The end of the hold replaces the lease by the spent units, each dated when it was spent. So units
//! count for long enough even if this process dies, and no longer than the time of the hold and a window.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::budget::{BudgetChange, Hold};
use crate::error::{StoreError, StoreErrorKind};
use crate::lease::{Lease, NameSource, life_for, min_elapsed};
use crate::redis::{Client, Failure, Keyspace};
use crate::runtime::{self, Carrier};
use crate::script::{Correction, LeaseId};
use crate::time::{TimeSource, millis};

/// The longest time of a hold.
pub(super) const LONGEST: Duration = Duration::from_secs(30 * 60);
/// The pauses between the attempts to report the end of a hold. Without a report, its units count as spent.
const PAUSES: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];

/// The error of a hold without units.
const TOO_MANY: &str = "the key has 1024 reservations already, or was reset meanwhile; reserve fewer at a time";

/// Called with a key after its units changed.
type OnChange = dyn Fn(&[u8]) + Send + Sync;

/// The place of a hold's units.
pub(crate) struct HeldKey {
    pub(crate) client: Arc<Client>,
    pub(crate) keys: Arc<Keyspace>,
    pub(crate) key: Box<[u8]>,
    /// Forgets what this instance knows of the key, after units became free.
    pub(crate) on_change: Box<OnChange>,
}

/// Units in Redis that this process may spend.
pub(crate) struct RemoteHold(Arc<Core>);

struct Core {
    held: HeldKey,
    time: TimeSource,
    carrier: Carrier,
    /// `None` when the end is, or will be, reported.
    lease: Mutex<Option<Lease>>,
}

/// A hold whose units may be in the log or in a lease. Without an answer, they are freed wherever they are.
struct Beginning {
    held: Option<HeldKey>,
    id: LeaseId,
    stamp: u64,
    units: u64,
    carrier: Carrier,
}

impl RemoteHold {
    /// Moves units that a decision charged at a tick into a hold, from which they can be spent for `ttl`.
    ///
    /// If it fails or is dropped, the units are free again.
    pub(crate) async fn begin(
        held: HeldKey,
        (stamp, units): (u64, u64),
        ttl: Duration,
        names: &NameSource,
    ) -> Result<Box<dyn Hold>, StoreError> {
        let (time, id, ttl_ms) = (TimeSource::system(), names.next(), millis(ttl.min(LONGEST)).max(1));
        // The lease is in Redis for long enough, even by a clock that is faster than this one.
        let life_ms = life_for(ttl_ms.saturating_add(time.lag_ms())).saturating_add(1);
        let asked_ms = time.now_ms();
        let hold = Correction::Hold { id, life_ms: u32::try_from(life_ms).unwrap_or(u32::MAX), stamp, units };
        let carrier = Carrier::here();
        let (client, keys, bucket_ms) = (Arc::clone(&held.client), Arc::clone(&held.keys), held.bucket_ms());
        let key = held.key.clone();
        let mut beginning = Beginning { held: Some(held), id, stamp, units, carrier: carrier.clone() };
        let reply = client.correct(&keys, &key, hold).await?;
        let Some(held) = beginning.held.take().filter(|_| reply.after > 0) else {
            return Err(StoreError::new(StoreErrorKind::Unavailable, TOO_MANY));
        };
        let lease = Lease::new(id, reply.after, asked_ms, asked_ms + ttl_ms, bucket_ms);
        let core = Arc::new(Core { held, time, carrier, lease: Mutex::new(Some(lease)) });
        let ended = Arc::downgrade(&core);
        let _ = runtime::spawn(async move { end_in_time(ended, ttl).await });
        Ok(Box::new(Self(core)))
    }
}

impl HeldKey {
    fn bucket_ms(&self) -> u64 {
        self.client.geometry.bucket_ms()
    }

    /// Frees the units of a hold, or those that the log still has because the hold did not begin.
    async fn free(&self, id: LeaseId, stamp: u64, units: u64) {
        let ended = self.client.commit(&self.keys, &self.key, id, &[]).await;
        if ended.is_ok_and(|reply| !reply.done) {
            let _ = self.client.correct(&self.keys, &self.key, Correction::Refund { stamp, units }).await;
        }
        (self.on_change)(&self.key);
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            let Self { id, stamp, units, .. } = *self;
            let _ = self.carrier.spawn(async move { held.free(id, stamp, units).await });
        }
    }
}

/// Frees the rest when the time of a hold is over, also if its holder has nothing to do.
async fn end_in_time(core: Weak<Core>, ttl: Duration) {
    let Ok(timer) = runtime::sleep(ttl) else { return };
    timer.await;
    let Some(core) = core.upgrade() else { return };
    if let Some(lease) = core.take() {
        core.report_until_answered(lease).await;
    }
}

impl Core {
    fn with<R>(&self, with: impl FnOnce(&mut Lease) -> R) -> R
    where
        R: Default,
    {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map_or_else(R::default, with)
    }

    /// Whoever takes the lease reports its end.
    fn take(&self) -> Option<Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn report(&self, lease: &Lease) -> Result<(), Failure> {
        let (held, now, lag_ms) = (&self.held, self.time.now_ms(), self.time.lag_ms());
        // A unit is dated too late rather than too early.
        let age = |before: u64| Duration::from_millis(min_elapsed(now.saturating_sub(before).saturating_sub(lag_ms)));
        let spent: Vec<(Duration, u64)> = lease.spent().map(|(before, units)| (age(before), units)).collect();
        let result = held.client.commit(&held.keys, &held.key, lease.id, &spent).await;
        (held.on_change)(&held.key);
        result.map(drop)
    }

    /// Reports the end of the hold, and tries again if that fails. A report counts once, however often it arrives.
    async fn report_until_answered(&self, lease: Lease) {
        for pause in PAUSES {
            if self.report(&lease).await.is_ok() {
                return;
            }
            match runtime::sleep(pause) {
                Ok(timer) => timer.await,
                Err(_) => return,
            }
        }
        let _ = self.report(&lease).await;
    }
}

impl Hold for RemoteHold {
    fn spend(&mut self, units: u64) -> bool {
        let now = self.0.time.now_ms();
        self.0.with(|lease| lease.spend(now, units))
    }

    fn left(&self) -> u64 {
        self.0.with(|lease| lease.unspent())
    }

    fn end(&mut self) -> BudgetChange {
        let mut ending = Ending::of(&self.0);
        Box::pin(async move {
            if let Some(lease) = &ending.lease {
                ending.core.report(lease).await?;
            }
            ending.reported();
            Ok(())
        })
    }
}

impl Drop for RemoteHold {
    fn drop(&mut self) {
        drop(Ending::of(&self.0));
    }
}

/// The end of a hold. It is reported in the background, unless it is reported before.
struct Ending {
    core: Arc<Core>,
    lease: Option<Lease>,
}

impl Ending {
    fn of(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core), lease: core.take() }
    }

    fn reported(&mut self) {
        self.lease = None;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            let core = Arc::clone(&self.core);
            let _ = self.core.carrier.spawn(async move { core.report_until_answered(lease).await });
        }
    }
}

impl fmt::Debug for RemoteHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteHold").field("left", &self.left()).finish_non_exhaustive()
    }
}
