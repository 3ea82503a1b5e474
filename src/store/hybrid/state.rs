//! The state that the handles of one hybrid store share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::schedule::SyncSchedule;
use super::table::KeyTable;
use crate::error::ConfigError;
use crate::geometry::WindowGeometry;
use crate::keyspace::registry::PolicyRegistry;
use crate::keyspace::{LazyQueues, Settings};
use crate::lease::{LimitSet, NameSource, OwnedLimitSet, StoreContext, StoreParams};
use crate::policy::OnStoreError;
use crate::quota::{SyncIntervalMs, Tolerance};
use crate::redis::Client;
use crate::store::budget::Store;
use crate::time::{TimeSource, millis};

/// The state that the handles of one store share.
pub(super) struct Shared {
    pub(super) redis: Arc<Client>,
    /// The store of the limits that no lease can serve, in the same Redis.
    pub(super) direct: Arc<dyn Store>,
    pub(super) time: TimeSource,
    pub(super) params: StoreParams,
    pub(super) tolerance: Tolerance,
    pub(super) max_keys: usize,
    pub(super) names: NameSource,
    pub(super) on_store_error: OnStoreError,
    /// The calls that wait.
    pub(super) queues: LazyQueues,
    /// The keys of the engine's own calls.
    pub(super) main: Arc<KeyTable>,
    /// The keys of the limits that layers opened.
    pub(super) named: PolicyRegistry<KeyTable>,
    pub(super) schedule: Arc<SyncSchedule>,
    pub(super) is_closed: AtomicBool,
}

/// The units that count against a key; see [`HybridLimits::usage`](crate::store::HybridLimits::usage).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// The admitted units, as far as instances have reported them.
    pub used: u64,
    /// The units that instances hold in advance. Each of them is spent or returns.
    pub held: u64,
}

/// One requested decision.
pub(super) struct Wanted<'a> {
    pub(super) key: &'a [u8],
    pub(super) cost: u64,
    pub(super) limits: LimitSet<'a>,
    pub(super) on_store_error: OnStoreError,
    /// Whether units may be leased for the request. The units of a lease that has ended cannot be refunded.
    pub(super) is_leased: bool,
}

impl Shared {
    pub(super) fn new(
        redis: &Arc<Client>,
        direct: Arc<dyn Store>,
        settings: &Settings,
        interval: SyncIntervalMs,
        tolerance: Tolerance,
    ) -> Result<Self, ConfigError> {
        // The clock of the options is not suitable: a test may set it, and Redis uses real time.
        let time = TimeSource::system();
        let lag_ms = time.lag_ms();
        let params = StoreParams {
            geometry: WindowGeometry::new(settings.bucket_ms, lag_ms, settings.window_seconds, settings.hard)?,
            server: redis.geometry,
            lag_ms,
            interval_ms: interval.get(),
            deadline_ms: millis(redis.dispatcher.deadline()),
        };
        let main = KeyTable::new(redis.keyspace(None), None, settings.max_keys);
        main.keys.horizon.widen(&[redis.geometry.span()]);
        main.here.widen(&[params.geometry.span()]);
        Ok(Self {
            time,
            params,
            tolerance,
            max_keys: settings.max_keys,
            names: NameSource::default(),
            on_store_error: redis.on_store_error,
            redis: Arc::clone(redis),
            direct,
            queues: LazyQueues::new(settings.queues),
            main: Arc::new(main),
            named: PolicyRegistry::new(TimeSource::system()),
            schedule: SyncSchedule::new(),
            is_closed: AtomicBool::new(false),
        })
    }

    /// Limits for a sync that asks for no units; any limit over the window is sufficient.
    pub(super) fn any_limits(&self) -> OwnedLimitSet {
        OwnedLimitSet::new([self.redis.geometry.limit_of(1)].into(), false, self.tolerance)
    }

    /// What the states of a table's keys borrow from this store.
    pub(super) fn context<'a>(&'a self, table: &'a KeyTable) -> StoreContext<'a> {
        StoreContext { names: &self.names, retention: &table.here, params: &self.params }
    }

    pub(super) fn tables(&self) -> Vec<Arc<KeyTable>> {
        std::iter::once(Arc::clone(&self.main)).chain(self.named.all()).collect()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.schedule.wake();
    }
}
