//! One instance in a process of its own: it asks for one key at a steady rate, and reports each request.

use std::env;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime};

use redis::aio::ConnectionManager;
use tower_weir::{OnStoreError, RateLimiter, RedisOptions};
use trypema::hybrid::HybridRateLimiterProvider;
use trypema::redis::RedisRateLimiterProvider;
use trypema::{RateLimiterBuilder as _, WindowSize};

use super::LIMIT;
use crate::child::{self, Running};
use crate::instances;
use crate::offer::{Answer, Request, offer};
use crate::report::Failure;

const URL: &str = "OUTAGE_URL";
const BEGIN: &str = "OUTAGE_BEGIN";
const SECONDS: &str = "OUTAGE_SECONDS";
const RATE: &str = "OUTAGE_RATE";

/// A limiter that an instance uses, with the defaults of its library.
#[derive(Clone, Copy)]
pub enum Limiter {
    Hybrid(OnStoreError),
    Redis(OnStoreError),
    TrypemaHybrid,
    TrypemaRedis,
}

/// Starts an instance that asks from `begin` on.
pub fn start(case: &str, url: &str, begin: SystemTime, time: Duration, rate: f64) -> Result<Running, Failure> {
    let begin = begin.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64();
    let seconds = time.as_secs_f64();
    child::start(
        case,
        &[(URL, url.to_owned()), (BEGIN, begin.to_string()), (SECONDS, seconds.to_string()), (RATE, rate.to_string())],
    )
}

/// Reads the requests from the figures of a child process, with their times from the end of the warm-up.
pub fn requests(running: Running, warm: f64) -> Result<Vec<Request>, Failure> {
    let figures = running.figures()?;
    let request = |figures: &[f64]| {
        let answer = match figures[2] {
            0.0 => Answer::Admitted,
            1.0 => Answer::Refused,
            _ => Answer::Failed,
        };
        Request { sent: figures[0] - warm, answered: figures[1] - warm, answer }
    };
    Ok(figures.chunks_exact(3).map(request).collect())
}

/// Runs in the child process; returns three figures for each request.
pub fn run(limiter: Limiter) -> Vec<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let requests = runtime.expect("a runtime").block_on(ask(limiter)).expect("an instance that runs");
    let figures = |request: Request| [request.sent, request.answered, f64::from(request.answer as u8)];
    requests.into_iter().flat_map(figures).collect()
}

async fn ask(limiter: Limiter) -> Result<Vec<Request>, Failure> {
    let url: String = variable(URL)?;
    let instance = match limiter {
        Limiter::Hybrid(policy) => instances::hybrid(weir(&url, policy)?, LIMIT.try_into()?),
        Limiter::Redis(policy) => instances::redis(weir(&url, policy)?, LIMIT.try_into()?),
        Limiter::TrypemaHybrid => {
            let builder =
                HybridRateLimiterProvider::builder(manager(&url).await?).window_size(WindowSize::seconds_or_panic(1));
            instances::trypema_hybrid(builder.build()?, LIMIT)
        }
        Limiter::TrypemaRedis => {
            let builder =
                RedisRateLimiterProvider::builder(manager(&url).await?).window_size(WindowSize::seconds_or_panic(1));
            instances::trypema_redis(builder.build()?, LIMIT)
        }
    };
    let begin = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(variable(BEGIN)?);
    let start = Instant::now() + begin.duration_since(SystemTime::now())?;
    offer(instance, variable(RATE)?, 0.0, start, Duration::from_secs_f64(variable(SECONDS)?)).await
}

fn variable<T: FromStr<Err: std::error::Error + 'static>>(name: &str) -> Result<T, Failure> {
    Ok(env::var(name)?.parse()?)
}

fn weir(url: &str, policy: OnStoreError) -> Result<RateLimiter, Failure> {
    let builder = RateLimiter::builder().window_size_seconds(1.try_into()?);
    Ok(builder.redis(RedisOptions::url(url).on_store_error(policy)).build()?)
}

/// A connection as the documentation of trypema shows it.
async fn manager(url: &str) -> Result<ConnectionManager, Failure> {
    Ok(redis::Client::open(url)?.get_connection_manager().await?)
}
