//! The stores under test, behind calls of one shape.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tower_weir::limiter::SetOutcome;
use tower_weir::store::{
    Absolute, Commit, HybridLimits, LocalLimits, LocalReservation, RedisLimits, Reservation, Store, Suppressed,
};
use tower_weir::time::PreciseClock;
use tower_weir::{
    Decision, HardLimitFactor, HistoryPreservation, OnStoreError, RateLimit, RateLimitComparator, RateLimitDecision,
    RateLimiter, RedisOptions,
};

use crate::support::servers::{Flavor, Server};

/// How long a test may take at most for what is asserted to stand still within a minute.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A store's calls with one strategy; a failure of the store fails the test.
pub(crate) trait Calls: Send + Sync {
    fn decide<'a>(&'a self, key: &'a [u8], rate: &'a RateLimit, n: u64) -> Boxed<'a, Decision>;
    fn inc<'a>(&'a self, key: &'a [u8], rate: &'a RateLimit, n: u64) -> Boxed<'a, RateLimitDecision>;
    fn is_allowed<'a>(&'a self, key: &'a [u8], rate: &'a RateLimit) -> Boxed<'a, RateLimitDecision>;
    fn get<'a>(&'a self, key: &'a [u8]) -> Boxed<'a, u64>;
    fn set_if<'a>(
        &'a self,
        key: &'a [u8],
        rate: &'a RateLimit,
        comparator: RateLimitComparator,
        count: u64,
        which: Option<HistoryPreservation>,
    ) -> Boxed<'a, SetOutcome>;
    fn delete<'a>(&'a self, key: &'a [u8]) -> Boxed<'a, Option<u64>>;
    fn clear(&self) -> Boxed<'_, ()>;
}

/// Implements [`Calls`] for a store's handle; after the semicolon stands what makes its answers plain.
macro_rules! calls {
    ($limits:ty; $($plain:tt)*) => {
        impl Calls for $limits {
            fn decide<'a>(&'a self, key: &'a [u8], rate: &'a RateLimit, n: u64) -> Boxed<'a, Decision> {
                Box::pin(async move { <$limits>::decide(self, key, rate, n) $($plain)* })
            }
            fn inc<'a>(&'a self, key: &'a [u8], rate: &'a RateLimit, n: u64) -> Boxed<'a, RateLimitDecision> {
                Box::pin(async move { <$limits>::inc(self, key, rate, n) $($plain)* })
            }
            fn is_allowed<'a>(&'a self, key: &'a [u8], rate: &'a RateLimit) -> Boxed<'a, RateLimitDecision> {
                Box::pin(async move { <$limits>::is_allowed(self, key, rate) $($plain)* })
            }
            fn get<'a>(&'a self, key: &'a [u8]) -> Boxed<'a, u64> {
                Box::pin(async move { <$limits>::get(self, key) $($plain)* })
            }
            fn set_if<'a>(
                &'a self,
                key: &'a [u8],
                rate: &'a RateLimit,
                comparator: RateLimitComparator,
                count: u64,
                which: Option<HistoryPreservation>,
            ) -> Boxed<'a, SetOutcome> {
                Box::pin(async move {
                    match which {
                        None => <$limits>::set_if(self, key, rate, comparator, count) $($plain)*,
                        Some(which) => {
                            <$limits>::set_if_preserve_history(self, key, rate, comparator, count, which) $($plain)*
                        }
                    }
                })
            }
            fn delete<'a>(&'a self, key: &'a [u8]) -> Boxed<'a, Option<u64>> {
                Box::pin(async move { <$limits>::delete(self, key) $($plain)* })
            }
            fn clear(&self) -> Boxed<'_, ()> {
                Box::pin(async move { <$limits>::clear(self) $($plain)* })
            }
        }
    };
}

calls!(LocalLimits<'_, Absolute>;);
calls!(LocalLimits<'_, Suppressed>;);
calls!(RedisLimits<'_, Absolute>; .await.unwrap());
calls!(RedisLimits<'_, Suppressed>; .await.unwrap());
calls!(HybridLimits<'_, Absolute>; .await.unwrap());
calls!(HybridLimits<'_, Suppressed>; .await.unwrap());

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Absolute,
    Suppressed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Local,
    Redis,
    Hybrid,
}

/// A reservation of any store.
pub(crate) enum Reserved {
    Local(LocalReservation),
    Remote(Reservation),
}

impl Reserved {
    pub(crate) fn units(&self) -> u64 {
        match self {
            Self::Local(reservation) => reservation.units(),
            Self::Remote(reservation) => reservation.units(),
        }
    }

    pub(crate) fn left(&self) -> u64 {
        match self {
            Self::Local(reservation) => reservation.left(),
            Self::Remote(reservation) => reservation.left(),
        }
    }

    pub(crate) fn spend(&mut self, units: u64) -> bool {
        match self {
            Self::Local(reservation) => reservation.spend(units),
            Self::Remote(reservation) => reservation.spend(units),
        }
    }

    pub(crate) async fn commit(self, actual: u64) -> Commit {
        match self {
            Self::Local(reservation) => reservation.commit(actual),
            Self::Remote(reservation) => reservation.commit(actual).await.unwrap(),
        }
    }
}

/// A store to be tested, whose keys no other test touches.
pub(crate) struct Rig {
    pub(crate) name: String,
    place: Place,
    window: u64,
    rl: RateLimiter,
    /// Another instance that shares the histories; of a store in one process the same one.
    twin: RateLimiter,
}

static SERVERS: LazyLock<Vec<Server>> = LazyLock::new(|| Flavor::available().into_iter().map(Server::start).collect());

impl Rig {
    /// All stores, over a window of so many seconds and with this factor for the hard cap.
    pub(crate) fn all(window: u64, hard: f64) -> Vec<Self> {
        static PREFIXES: AtomicUsize = AtomicUsize::new(0);
        let builder = || {
            RateLimiter::builder()
                .window_size_seconds(window.try_into().unwrap())
                .hard_limit_factor(HardLimitFactor::try_from(hard).unwrap())
                .clock(PreciseClock::new())
        };
        let local = builder().build().unwrap();
        let mut all =
            vec![Self { name: "local".to_owned(), place: Place::Local, window, twin: local.clone(), rl: local }];
        for (server, cache) in SERVERS.iter().flat_map(|server| [(server, true), (server, false)]) {
            // What the cache does is one thing on all of them.
            if !cache && server.flavor() != Flavor::Debian {
                continue;
            }
            let prefix = format!("rig{}", PREFIXES.fetch_add(1, Ordering::Relaxed));
            let options = || {
                RedisOptions::url(server.url())
                    .prefix(prefix.as_str())
                    .deadline(Duration::from_secs(1))
                    .on_store_error(OnStoreError::Reject)
                    .deny_cache(cache)
            };
            let limiter = || builder().redis(options()).build().unwrap();
            let name = format!("{}{}", server.flavor(), if cache { "" } else { " without the deny cache" });
            all.push(Self { name, place: Place::Redis, window, rl: limiter(), twin: limiter() });
            if cache {
                let name = format!("hybrid on {}", server.flavor());
                let prefix = format!("{prefix}-hybrid");
                let limiter = || builder().redis(options().prefix(prefix.as_str())).build().unwrap();
                all.push(Self { name, place: Place::Hybrid, window, rl: limiter(), twin: limiter() });
            }
        }
        all
    }

    /// The most by which a stated wait exceeds the true one: a bucket, and twice the lag of the hybrid store's clock.
    pub(crate) fn blur(&self) -> Duration {
        Duration::from_millis(if self.place == Place::Hybrid { 26 } else { 10 })
    }

    /// The rate that admits so many units in a window.
    pub(crate) fn rate(&self, units: u32) -> RateLimit {
        RateLimit::try_from(f64::from(units) / self.window as f64).unwrap()
    }

    pub(crate) fn calls(&self, kind: Kind) -> Box<dyn Calls + '_> {
        Self::of(&self.rl, self.place, kind)
    }

    /// The same through the other instance.
    pub(crate) fn twin(&self, kind: Kind) -> Box<dyn Calls + '_> {
        Self::of(&self.twin, self.place, kind)
    }

    fn of(rl: &RateLimiter, place: Place, kind: Kind) -> Box<dyn Calls + '_> {
        match (place, kind) {
            (Place::Local, Kind::Absolute) => Box::new(rl.local().absolute()),
            (Place::Local, Kind::Suppressed) => Box::new(rl.local().suppressed()),
            (Place::Redis, Kind::Absolute) => Box::new(rl.redis().absolute()),
            (Place::Redis, Kind::Suppressed) => Box::new(rl.redis().suppressed()),
            (Place::Hybrid, Kind::Absolute) => Box::new(rl.hybrid().absolute()),
            (Place::Hybrid, Kind::Suppressed) => Box::new(rl.hybrid().suppressed()),
        }
    }

    pub(crate) async fn factor(&self, key: &[u8], rate: &RateLimit) -> f64 {
        match self.place {
            Place::Local => self.rl.local().suppressed().get_suppression_factor(key, rate),
            Place::Redis => self.rl.redis().suppressed().get_suppression_factor(key, rate).await.unwrap(),
            Place::Hybrid => self.rl.hybrid().suppressed().get_suppression_factor(key, rate).await.unwrap(),
        }
    }

    /// Whether so many units would be admitted.
    pub(crate) async fn would_allow(&self, key: &[u8], rate: &RateLimit, n: u64) -> RateLimitDecision {
        match self.place {
            Place::Local => self.rl.local().absolute().would_allow(key, rate, n),
            Place::Redis => self.rl.redis().absolute().would_allow(key, rate, n).await.unwrap(),
            Place::Hybrid => self.rl.hybrid().absolute().would_allow(key, rate, n).await.unwrap(),
        }
    }

    /// Waits for units, by the absolute strategy.
    pub(crate) async fn until_allowed(
        &self,
        key: &[u8],
        rate: &RateLimit,
        n: u64,
        max_wait: Duration,
    ) -> RateLimitDecision {
        match self.place {
            Place::Local => self.rl.local().absolute().until_allowed(key, rate, n, max_wait).await.unwrap(),
            Place::Redis => self.rl.redis().absolute().until_allowed(key, rate, n, max_wait).await.unwrap(),
            Place::Hybrid => self.rl.hybrid().absolute().until_allowed(key, rate, n, max_wait).await.unwrap(),
        }
    }

    /// Reserves units, all or none, or as many as fit; through the other instance if `is_twin`.
    pub(crate) async fn reserve(
        &self,
        is_twin: bool,
        key: &[u8],
        rate: &RateLimit,
        n: u64,
        ttl: Duration,
        is_partial: bool,
    ) -> Reserved {
        let rl = if is_twin { &self.twin } else { &self.rl };
        match (self.place, is_partial) {
            (Place::Local, false) => Reserved::Local(rl.local().absolute().reserve(key, rate, n, ttl)),
            (Place::Local, true) => Reserved::Local(rl.local().absolute().reserve_up_to(key, rate, n, ttl)),
            (Place::Redis, false) => Reserved::Remote(rl.redis().absolute().reserve(key, rate, n, ttl).await.unwrap()),
            (Place::Redis, true) => {
                Reserved::Remote(rl.redis().absolute().reserve_up_to(key, rate, n, ttl).await.unwrap())
            }
            (Place::Hybrid, false) => {
                Reserved::Remote(rl.hybrid().absolute().reserve(key, rate, n, ttl).await.unwrap())
            }
            (Place::Hybrid, true) => {
                Reserved::Remote(rl.hybrid().absolute().reserve_up_to(key, rate, n, ttl).await.unwrap())
            }
        }
    }

    pub(crate) fn is_local(&self) -> bool {
        self.place == Place::Local
    }

    /// Decides without waiting, if the store has this call. Returns `None` if it cannot decide at once.
    pub(crate) fn try_inc(
        &self,
        kind: Kind,
        key: &[u8],
        rate: &RateLimit,
        n: u64,
    ) -> Option<Option<RateLimitDecision>> {
        let hybrid = self.rl.hybrid();
        (self.place == Place::Hybrid).then(|| match kind {
            Kind::Absolute => hybrid.absolute().try_inc(key, rate, n).unwrap(),
            Kind::Suppressed => hybrid.suppressed().try_inc(key, rate, n).unwrap(),
        })
    }

    /// The stores of the two instances, as a layer takes them.
    pub(crate) fn stores(&self) -> [Arc<dyn Store>; 2] {
        [&self.rl, &self.twin].map(|rl| match self.place {
            Place::Local => Arc::new(rl.local().clone()) as Arc<dyn Store>,
            Place::Redis => Arc::new(rl.redis().clone()),
            Place::Hybrid => Arc::new(rl.hybrid().clone()),
        })
    }
}

/// A refusal looks as its strategy says, and tells no wait where none helps.
#[track_caller]
pub(crate) fn assert_refused(decision: RateLimitDecision, kind: Kind) {
    match (kind, decision) {
        (Kind::Absolute, RateLimitDecision::Rejected { retry_after_ms, .. }) => assert_ne!(retry_after_ms, 0),
        (Kind::Suppressed, RateLimitDecision::Suppressed { suppression_factor, is_allowed: false }) => {
            assert_eq!(suppression_factor, 1.0);
        }
        _ => panic!("{kind:?} refuses with {decision:?}"),
    }
}
