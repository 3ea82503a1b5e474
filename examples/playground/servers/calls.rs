//! How often scripts are called, as the server counts it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;

/// How often the counter reads the count.
const INTERVAL: Duration = Duration::from_secs(1);
/// The readings of which the rate is an average. A key at its limit causes no calls for up to a window.
const READINGS: usize = 6;

#[derive(Debug)]
pub(crate) struct CallCounter {
    client: redis::Client,
    started: Once,
    /// `None` while the server does not answer.
    per_second: Arc<Mutex<Option<f64>>>,
}

impl CallCounter {
    pub(crate) fn new(url: &str) -> redis::RedisResult<Self> {
        Ok(Self { client: redis::Client::open(url)?, started: Once::new(), per_second: Arc::default() })
    }

    pub(crate) fn per_second(&self) -> Option<f64> {
        *self.per_second.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to count in the background, until the program ends. Only the first call starts it.
    pub(crate) fn start(&self) {
        self.started.call_once(|| self.count());
    }

    fn count(&self) {
        let (client, per_second) = (self.client.clone(), Arc::clone(&self.per_second));
        tokio::spawn(async move {
            let mut connection = None;
            let mut readings: VecDeque<(u64, Instant)> = VecDeque::new();
            let mut times = tokio::time::interval(INTERVAL);
            loop {
                times.tick().await;
                let count = read(&client, &mut connection).await;
                // A server that was started again counts from 0.
                if count.is_none_or(|count| readings.back().is_some_and(|(last, _)| count < *last)) {
                    readings.clear();
                }
                readings.extend(count.map(|count| (count, Instant::now())));
                if readings.len() > READINGS {
                    readings.pop_front();
                }
                let rate = match (readings.front(), readings.back()) {
                    (Some((old, then)), Some((new, now))) if now > then => {
                        Some((new - old) as f64 / now.duration_since(*then).as_secs_f64())
                    }
                    _ => None,
                };
                *per_second.lock().unwrap_or_else(PoisonError::into_inner) = rate;
            }
        });
    }
}

/// The calls of scripts since the server started, or `None` if it does not answer.
async fn read(client: &redis::Client, connection: &mut Option<MultiplexedConnection>) -> Option<u64> {
    if connection.is_none() {
        *connection = client.get_multiplexed_async_connection().await.ok();
    }
    let stats = redis::cmd("INFO").arg("commandstats").query_async::<String>(connection.as_mut()?).await;
    if stats.is_err() {
        *connection = None;
    }
    Some(calls(&stats.ok()?))
}

/// The calls of scripts in the text of `INFO commandstats`, with lines such as `cmdstat_evalsha:calls=21,usec=175`.
fn calls(stats: &str) -> u64 {
    let calls = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_eval")?.split_once(":calls="));
    calls.filter_map(|(_, rest)| rest.split(',').next()?.parse::<u64>().ok()).sum()
}
