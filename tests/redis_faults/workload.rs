//! A site: one limiter under one policy, on a runtime of its own with a log of its own.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tower::{Layer, ServiceExt, service_fn};
use tower_weir::key::Header;
use tower_weir::{
    Decision, OnStoreError, RateLimit, RateLimitLayer, RateLimiter, RedisOptions, StoreError, WindowSizeSeconds,
};

use crate::bounds;
use crate::log::Log;
use crate::support::scheduler_stalls;
use crate::traffic::{By, Keys, Record, Surface};

/// What each key may take in a window.
pub(crate) const CAPACITY: u64 = 40;
pub(crate) const WINDOW: Duration = Duration::from_secs(1);
/// Of two instances; the other one is never there.
pub(crate) const PART: u64 = CAPACITY / 2;
pub(crate) const POLICIES: [OnStoreError; 3] = [OnStoreError::LocalShare, OnStoreError::Reject, OnStoreError::Allow];

/// More than the least time from one line that reports an outage to the next.
const LOG_PAUSE: Duration = Duration::from_secs(11);

/// See the module.
pub(crate) struct Site {
    pub(crate) policy: OnStoreError,
    pub(crate) log: Log,
    pub(crate) calls: Arc<Calls>,
    runtime: Runtime,
}

/// What the tasks of a site share.
pub(crate) struct Calls {
    rate: RateLimit,
    limiter: RateLimiter,
    layer: RateLimitLayer,
    is_over: AtomicBool,
    fresh: AtomicU64,
    records: Mutex<Vec<Record>>,
}

impl Site {
    pub(crate) fn new(redis: RedisOptions, policy: OnStoreError, deadline: Duration) -> Self {
        Self::with_window(redis.prefix(format!("{policy:?}")), policy, deadline, WINDOW)
    }

    /// The engine's window is this one.
    pub(crate) fn with_window(redis: RedisOptions, policy: OnStoreError, deadline: Duration, window: Duration) -> Self {
        scheduler_stalls::watch();
        let redis = redis.deadline(deadline).on_store_error(policy).instances(2);
        let seconds = WindowSizeSeconds::try_from(window.as_secs()).unwrap();
        let limiter = RateLimiter::builder().window_size_seconds(seconds).redis(redis).build().unwrap();
        let layer = RateLimitLayer::builder()
            .quota(format!("{CAPACITY}/s").parse().unwrap())
            .key(Header::new("x-client"))
            .on_store_error(policy)
            .limiter(limiter.redis())
            .build()
            .unwrap();
        let log = Log::default();
        let listening = log.clone();
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .on_thread_start(move || listening.listen())
            .build()
            .unwrap();
        let calls = Arc::new(Calls {
            rate: RateLimit::try_from(CAPACITY as f64 / window.as_secs_f64()).unwrap(),
            limiter,
            layer,
            is_over: AtomicBool::new(false),
            fresh: AtomicU64::new(0),
            records: Mutex::default(),
        });
        Self { policy, log, calls, runtime }
    }

    /// Sends requests, one after the other in each of so many tasks, until [`Self::finish`].
    pub(crate) fn flow(&self, tasks: usize, surface: Surface, keys: &Keys) {
        for _ in 0..tasks {
            let (calls, keys) = (Arc::clone(&self.calls), keys.clone());
            self.runtime.spawn(async move {
                for turn in 0.. {
                    if calls.is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let (number, key) = keys.name(turn, || calls.fresh.fetch_add(1, Ordering::Relaxed));
                    calls.request(surface, number, &key).await;
                    tokio::time::sleep(Duration::from_millis(8)).await;
                }
            });
        }
    }

    /// One request of the engine.
    pub(crate) fn request(&self, key: &str) -> Record {
        self.runtime.block_on(self.calls.request(Surface::Engine, Keys::OTHER, key))
    }

    /// Several requests at the same time.
    pub(crate) fn requests(&self, count: usize, key: &'static str) -> Vec<JoinHandle<Record>> {
        self.calls.requests(&self.runtime, count, key)
    }

    /// Whether it has been served by Redis for a while, in its flow of fresh keys.
    pub(crate) fn is_served(&self) -> bool {
        let lately = self.since(Instant::now() - Duration::from_millis(200));
        let is_fresh = |record: &&Record| record.surface == Surface::Engine && record.key == Keys::OTHER;
        lately.iter().filter(is_fresh).count() >= 5
            && lately.iter().all(|record| matches!(record.by, By::Redis | By::Somebody))
    }

    /// What became of one of [`Self::requests`]; none may take long.
    pub(crate) fn outcome(&self, request: JoinHandle<Record>) -> Record {
        let within = async { tokio::time::timeout(Duration::from_secs(10), request).await };
        let record = self.runtime.block_on(within).expect("it is answered").unwrap();
        bounds::check_latency("alone", &[record]);
        record
    }

    /// What Redis has of a key.
    pub(crate) fn get(&self, key: &str) -> Result<u64, StoreError> {
        self.runtime.block_on(self.calls.limiter.redis().absolute().get(key))
    }

    /// Forgets what the sites logged, and waits until the next outage of each one has a line of its own.
    ///
    /// A busy machine may have made the first connection take too long. No outage is reported for a while after that,
    /// and one that comes in that while lasts as long again.
    pub(crate) fn clear_logs(sites: &[Self]) {
        while sites.iter().any(|site| !site.log.is_empty()) {
            sites.iter().for_each(|site| site.log.clear());
            std::thread::sleep(LOG_PAUSE);
        }
    }

    /// The requests that ended since then.
    pub(crate) fn since(&self, instant: Instant) -> Vec<Record> {
        let records = self.calls.records.lock().unwrap();
        records.iter().filter(|record| record.received >= instant).copied().collect()
    }

    /// Ends the flows; all requests that were made.
    pub(crate) fn finish(self) -> (OnStoreError, Log, Vec<Record>) {
        self.calls.is_over.store(true, Ordering::Relaxed);
        let began = Instant::now();
        // The tasks hold the calls, and each ends with the request that it is at.
        while Arc::strong_count(&self.calls) > 1 {
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}: a request is not answered", self.policy);
            std::thread::sleep(Duration::from_millis(5));
        }
        self.runtime.shutdown_background();
        let records = std::mem::take(&mut *self.calls.records.lock().unwrap());
        (self.policy, self.log, records)
    }
}

impl Calls {
    /// Several requests at the same time, on any runtime.
    pub(crate) fn requests(
        self: &Arc<Self>,
        runtime: &Runtime,
        count: usize,
        key: &'static str,
    ) -> Vec<JoinHandle<Record>> {
        let spawn = |_| {
            let calls = Arc::clone(self);
            runtime.spawn(async move { calls.request(Surface::Engine, Keys::OTHER, key).await })
        };
        (0..count).map(spawn).collect()
    }

    pub(crate) async fn request(&self, surface: Surface, number: usize, key: &str) -> Record {
        let sent = Instant::now();
        let (is_admitted, by) = match surface {
            Surface::Engine => self.ask_engine(key).await,
            Surface::Layer => self.ask_layer(key).await,
        };
        let record = Record { surface, key: number, sent, received: Instant::now(), is_admitted, by };
        self.records.lock().unwrap().push(record);
        record
    }

    async fn ask_engine(&self, key: &str) -> (bool, By) {
        match self.limiter.redis().absolute().decide(key, &self.rate, 1).await {
            // Under `Allow`; a decision knows at least of this request.
            Ok(decision) if decision.is_allowed() && decision.used() == 0 => (true, By::Nobody),
            Ok(decision) => (decision.is_allowed(), by(&decision)),
            Err(_) => (false, By::Nobody),
        }
    }

    async fn ask_layer(&self, key: &str) -> (bool, By) {
        let inner = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
        let request = Request::get("/").header("x-client", key).body(()).unwrap();
        let Ok(response) = self.layer.clone().layer(inner).oneshot(request).await;
        match response.status() {
            StatusCode::OK => (true, By::Somebody),
            StatusCode::TOO_MANY_REQUESTS => (false, by(response.extensions().get::<Decision>().unwrap())),
            StatusCode::SERVICE_UNAVAILABLE => (false, By::Nobody),
            other => panic!("{other}"),
        }
    }
}

fn by(decision: &Decision) -> By {
    let by = if decision.is_local_share() { By::Share } else { By::Redis };
    let limit = if by == By::Share { PART } else { CAPACITY };
    assert_eq!(decision.limit(), limit, "{decision:?}");
    by
}
