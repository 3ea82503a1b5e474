//! Two instances of a service that share one limit through Redis: one pair on the Redis store, and one on hybrid.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Semaphore, watch};
use tower_weir::store::{BudgetRequest, BudgetResponse};
use tower_weir::{ConfigError, RateLimiter, RedisOptions};

use crate::history::Stopwatch;
use crate::limit::{KEY, Limit};
use crate::load::Arrivals;
use crate::pair::{Pair, Request};
use crate::servers::Redis;
use crate::settings::Settings;

/// The time between two steps of an instance, which sends all requests that are due.
const STEP: Duration = Duration::from_millis(10);
/// The most steps whose decisions an instance awaits at a time. Beyond it, requests are not sent.
const MOST_IN_FLIGHT: usize = 64;

/// The pairs, or none if there is no Redis.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fleet {
    pub(crate) pairs: Vec<Pair>,
}

impl Fleet {
    /// Starts the instances; they need not reach Redis.
    pub(crate) fn start(
        watch: Stopwatch,
        changes: &watch::Receiver<Settings>,
        redis: &Redis,
    ) -> Result<Self, ConfigError> {
        let mut pairs = Vec::new();
        for (name, url) in ["redis", "hybrid"].into_iter().zip(redis.urls()) {
            let pair = Pair::new(name, &changes.borrow());
            for index in 0..2 {
                let mut changes = changes.clone();
                let settings = changes.borrow_and_update().clone();
                let redis = RedisOptions::url(url).instances(2).prefix(format!("playground-{}", std::process::id()));
                let limiter = RateLimiter::builder().redis(redis).build()?;
                let limit = match name {
                    "hybrid" => Limit::open(limiter.hybrid().clone(), name, false, &settings)?,
                    _ => Limit::open(limiter.redis().clone(), name, false, &settings)?,
                };
                let sender = Sender { watch, changes, settings, limit, pair: pair.clone(), index };
                tokio::spawn(sender.run());
            }
            pairs.push(pair);
        }
        Ok(Self { pairs })
    }
}

/// A request that waits for Redis.
type Waiting = Pin<Box<dyn Future<Output = Request> + Send>>;

/// One instance, with its part of the load.
struct Sender {
    watch: Stopwatch,
    changes: watch::Receiver<Settings>,
    settings: Settings,
    limit: Limit,
    pair: Pair,
    index: usize,
}

impl Sender {
    /// Runs until the settings are dropped.
    async fn run(mut self) {
        let in_flight = Arc::new(Semaphore::new(MOST_IN_FLIGHT));
        let mut arrivals = Arrivals::new(self.watch.elapsed());
        let mut steps = tokio::time::interval(STEP);
        while self.changes.has_changed().is_ok() {
            steps.tick().await;
            self.follow_settings();
            let first = f64::from(self.settings.split) / 100.0;
            arrivals.set_share(if self.index == 0 { first } else { 1.0 - first });
            let due = arrivals.due(&self.settings, self.watch.elapsed());
            self.pair.lock().look(self.watch.ms());
            let Ok(permit) = Arc::clone(&in_flight).try_acquire_owned() else { continue };
            let mut waiting = self.send(due);
            let (pair, index, on_outage) = (self.pair.clone(), self.index, self.settings.on_outage);
            tokio::spawn(async move {
                while let Some(request) = waiting.next().await {
                    pair.lock().count(index, &request, on_outage);
                }
                drop(permit);
            });
        }
    }

    fn follow_settings(&mut self) {
        if !self.changes.has_changed().unwrap_or(false) {
            return;
        }
        let settings = self.changes.borrow_and_update().clone();
        if settings.has_other_limit(&self.settings) {
            if let Err(error) = self.limit.apply(&settings) {
                eprintln!("an instance keeps its old settings: {error}");
                return;
            }
            self.pair.lock().apply(&settings, self.watch.ms());
        }
        self.settings = settings;
    }

    /// Sends requests, counts those that are decided at once, and returns the others.
    fn send(&self, requests: u32) -> FuturesUnordered<Waiting> {
        let waiting = FuturesUnordered::new();
        let watch = self.watch;
        for _ in 0..requests {
            let sent_ms = watch.ms();
            match self.limit.budget().decide(BudgetRequest::new(KEY, 1)) {
                BudgetResponse::Ready(result) => {
                    let request = Request { result, has_waited: false, sent_ms, decided_ms: watch.ms_rounded_up() };
                    self.pair.lock().count(self.index, &request, self.settings.on_outage);
                }
                BudgetResponse::Pending(pending) => {
                    let request: Waiting = Box::pin(async move {
                        let result = pending.await;
                        Request { result, has_waited: true, sent_ms, decided_ms: watch.ms_rounded_up() }
                    });
                    waiting.push(request);
                }
            }
        }
        waiting
    }
}
