//! The number of instances that share the limits: a configured number, or a count in Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::batch::Dispatcher;
use super::health;
use super::transport::{Failure, FailureKind};
use crate::nonce::Nonce;
use crate::runtime;
use crate::telemetry::{self, Notice};

/// The interval between two heartbeats of an instance with traffic.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// The time without a heartbeat after which an instance counts as gone.
const INSTANCE_TTL: Duration = Duration::from_secs(16);

/// Records this instance, removes expired ones, and returns the count.
///
/// A heartbeat with a future time predates a backward step of the server's clock. Its instance, if it lives, sends
/// another.
const SCRIPT: &str = "local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[2]))
redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])";

/// The number of instances.
pub(super) struct InstanceCount(Kind);

enum Kind {
    Fixed(u64),
    Heartbeat(Arc<Heartbeat>),
}

struct Heartbeat {
    key: Box<str>,
    /// The random name of this instance.
    name: Nonce,
    count: AtomicU64,
    /// The last count. After a step of the server's clock, a count is too low until every instance has sent a
    /// heartbeat.
    last: AtomicU64,
    start: Instant,
    /// When the next heartbeat is due, in milliseconds from the start.
    due: AtomicU64,
    is_beating: AtomicBool,
    /// Whether a failure to count was logged.
    is_told: AtomicBool,
}

impl InstanceCount {
    pub(super) fn new(fixed: Option<u64>, prefix: &str) -> Self {
        Self(match fixed {
            Some(count) => Kind::Fixed(count),
            None => Kind::Heartbeat(Arc::new(Heartbeat {
                key: format!("{prefix}:instances").into(),
                name: Nonce::default(),
                count: AtomicU64::new(1),
                last: AtomicU64::new(1),
                start: Instant::now(),
                due: AtomicU64::new(0),
                is_beating: AtomicBool::new(false),
                is_told: AtomicBool::new(false),
            })),
        })
    }

    /// The number of instances, as far as this instance knows.
    pub(super) fn count(&self) -> u64 {
        match &self.0 {
            Kind::Fixed(count) => *count,
            Kind::Heartbeat(counted) => counted.count.load(Ordering::Relaxed),
        }
    }

    /// Sends a heartbeat in the background, if one is due.
    pub(super) fn beat(&self, dispatcher: &Arc<Dispatcher>) {
        let Kind::Heartbeat(counted) = &self.0 else { return };
        let now = counted.now();
        if now < counted.due.load(Ordering::Relaxed) || counted.is_beating.swap(true, Ordering::Relaxed) {
            return;
        }
        let (beating, dispatcher) = (Beating(Arc::clone(counted)), Arc::clone(dispatcher));
        let _ = runtime::spawn(async move {
            let counted = &beating.0;
            if let Some(count) = counted.ask(&dispatcher).await {
                let last = counted.last.swap(count, Ordering::Relaxed);
                counted.count.store(count.max(last).max(1), Ordering::Relaxed);
            }
        });
    }
}

/// A heartbeat in flight. Its drop lets the next one start, even if the runtime dropped the task before it ran.
struct Beating(Arc<Heartbeat>);

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.due.store(self.0.now() + HEARTBEAT_EVERY.as_millis() as u64, Ordering::Relaxed);
        self.0.is_beating.store(false, Ordering::Relaxed);
    }
}

impl Heartbeat {
    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    async fn ask(&self, dispatcher: &Dispatcher) -> Option<u64> {
        let mut command = redis::cmd("EVAL");
        command
            .arg(SCRIPT)
            .arg(1)
            .arg(&*self.key)
            .arg(format!("{:x}", self.name.get()))
            .arg(INSTANCE_TTL.as_millis() as u64);
        match runtime::timeout(HEARTBEAT_EVERY, dispatcher.link().send(&command)).ok()?.await {
            Ok(Ok(redis::Value::Int(count))) => u64::try_from(count).ok(),
            Ok(Err(failure)) => {
                self.failed(&failure);
                None
            }
            _ => None,
        }
    }

    /// Logs the failure and goes on. Otherwise the failure would stay invisible until an outage.
    #[cold]
    fn failed(&self, failure: &Failure) {
        health::count_failure(failure);
        let stays = matches!(failure.kind(), FailureKind::Refused | FailureKind::Protocol);
        if stays && !self.is_told.swap(true, Ordering::Relaxed) {
            telemetry::report(Notice::RedisInstances, &format!("{}; logged once: {failure:#}", Notice::RedisInstances));
        }
    }
}

#[cfg(all(test, feature = "redis-tokio"))]
mod tests {
    use super::*;
    use crate::redis::transport::Transport;

    /// If each call runs on its own runtime, the first heartbeat was the last one, and the count stayed 1.
    #[test]
    fn a_heartbeat_that_never_began_does_not_block_the_next() {
        let dispatcher =
            Dispatcher::new(Transport::to_url("redis://127.0.0.1:1").unwrap(), HEARTBEAT_EVERY, "weir", 10);
        let instances = InstanceCount::new(None, "weir");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { instances.beat(&dispatcher) });
        let Kind::Heartbeat(counted) = &instances.0 else { panic!("a fixed number") };
        assert!(counted.is_beating.load(Ordering::Relaxed));
        drop(runtime);
        assert!(!counted.is_beating.load(Ordering::Relaxed));
    }
}
