//! How exact: four instances on one key.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tower_weir::{OnStoreError, RateLimit, RateLimiter, RedisOptions, SyncIntervalMs};
use trypema::RateLimiterBuilder as _;
use trypema::hybrid::{HybridRateLimiterProvider, SyncInterval};
use trypema::redis::RedisKey;

use crate::report::{Failure, Table, version};
use crate::server::Server;

const INSTANCES: usize = 4;
const LIMIT: u32 = 1_000;
const WINDOW: Duration = Duration::from_secs(1);
const BUCKET: Duration = Duration::from_millis(10);
pub const SECONDS: u32 = 4;

type Asked = Pin<Box<dyn Future<Output = bool> + Send>>;
/// One instance: asks for one unit of the key.
type Instance = Arc<dyn Fn() -> Asked + Send + Sync>;

/// An admission: when it was asked for, and when that was answered.
type Admission = (Duration, Duration);

pub async fn measure(server: &Server) -> Result<Table, Failure> {
    let heads = ["4 instances, 1 000 units in a second", "most in any second", "used", "script calls per second"];
    let mut table = Table::new(heads);
    for interval in [10, 100] {
        for load in [0.8, 1.05, 4.0] {
            let title = format!("demand of {load} x the limit, sync interval of {interval} ms");
            println!("{title} ..");
            for name in ["tower-weir", "trypema"] {
                server.flush().await?;
                let mut instances: Vec<Instance> = Vec::new();
                for _ in 0..INSTANCES {
                    instances.push(match name {
                        "trypema" => trypema(server, interval).await?,
                        _ => weir(server, interval)?,
                    });
                }
                server.reset_stats().await?;
                let mut admitted = offer(&instances, load).await?;
                let calls = f64::from(u32::try_from(server.stats().await?.scripts)?) / f64::from(SECONDS);
                // What a window of this demand has room for, with the hold of one bucket.
                let room = f64::from(LIMIT) * f64::from(SECONDS - 1) / (WINDOW + BUCKET).as_secs_f64();
                let room = room.min(f64::from(LIMIT) * load * f64::from(SECONDS - 1));
                let later = admitted.iter().filter(|(sent, _)| *sent >= WINDOW).count() as f64;
                let name = if name == "trypema" { version(name) } else { name.into() };
                let most = most_within(&mut admitted).to_string();
                table.row([
                    format!("{title}: {name}"),
                    most,
                    format!("{:.0} %", 100.0 * later / room),
                    format!("{calls:.0}"),
                ]);
            }
        }
    }
    Ok(table)
}

fn weir(server: &Server, interval: u64) -> Result<Instance, Failure> {
    let options = RedisOptions::url(server.url()).deadline(Duration::from_secs(1)).on_store_error(OnStoreError::Reject);
    let builder = RateLimiter::builder().window_size_seconds(WINDOW.as_secs().try_into()?);
    let limiter = builder.redis(options).sync_interval_ms(SyncIntervalMs::try_from(interval)?).build()?;
    let rate = RateLimit::try_from(f64::from(LIMIT))?;
    Ok(Arc::new(move || {
        let limiter = limiter.clone();
        Box::pin(async move {
            let decision = limiter.hybrid().absolute().inc("key", &rate, 1).await;
            decision.expect("Redis answers").is_allowed()
        })
    }))
}

async fn trypema(server: &Server, interval: u64) -> Result<Instance, Failure> {
    let builder = HybridRateLimiterProvider::builder(server.manager().await?)
        .window_size(trypema::WindowSize::seconds_or_panic(WINDOW.as_secs()))
        .sync_interval(SyncInterval::milliseconds_or_panic(interval));
    let provider = builder.build()?;
    let (key, rate) = (RedisKey::new_or_panic("key".into()), trypema::RateLimit::per_second_or_panic(LIMIT.into()));
    Ok(Arc::new(move || {
        let (provider, key) = (Arc::clone(&provider), key.clone());
        Box::pin(async move {
            let decision = provider.absolute().inc(&key, &rate, 1).await;
            matches!(decision.expect("Redis answers"), trypema::RateLimitDecision::Allowed)
        })
    }))
}

/// Offers requests at a multiple of the limit, to each instance as many; returns the admissions.
async fn offer(instances: &[Instance], load: f64) -> Result<Vec<Admission>, Failure> {
    let start = Instant::now();
    let each = f64::from(LIMIT) * load / instances.len() as f64;
    let tasks = instances.iter().enumerate().map(|(at, instance)| {
        let (instance, offset) = (Arc::clone(instance), at as f64 / instances.len() as f64);
        tokio::spawn(async move {
            let mut asked = Vec::new();
            let mut sent = 0_u32;
            while start.elapsed() < WINDOW * SECONDS {
                let due = ((start.elapsed().as_secs_f64() * each) + offset) as u32;
                while sent < due {
                    sent += 1;
                    let ask = instance();
                    asked.push(tokio::spawn(async move {
                        let before = start.elapsed();
                        let is_admitted = ask.await;
                        is_admitted.then(|| (before, start.elapsed()))
                    }));
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            asked
        })
    });
    let mut admitted = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        for answer in task.await? {
            admitted.extend(answer.await?);
        }
    }
    Ok(admitted)
}

/// The most that was certainly admitted within one window.
fn most_within(admitted: &mut [Admission]) -> usize {
    admitted.sort_unstable();
    let within = |at: usize| {
        let end = admitted[at].0 + WINDOW;
        admitted[at..].iter().take_while(|(sent, _)| *sent < end).filter(|(_, answered)| *answered < end).count()
    };
    (0..admitted.len()).map(within).max().unwrap_or(0)
}
