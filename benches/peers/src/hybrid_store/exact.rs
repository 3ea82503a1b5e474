//! How exact: four instances on one key.

use std::time::{Duration, Instant};

use tower_weir::{OnStoreError, RateLimiter, RedisOptions, SyncIntervalMs};
use trypema::RateLimiterBuilder as _;
use trypema::hybrid::{HybridRateLimiterProvider, SyncInterval};

use crate::admissions::Admissions;
use crate::instances;
use crate::offer::{Answer, Instance, Request, offer};
use crate::report::{Failure, Table, version};
use crate::server::Server;

const INSTANCES: usize = 4;
const LIMIT: u32 = 1_000;
const WINDOW: Duration = Duration::from_secs(1);
const BUCKET: Duration = Duration::from_millis(10);
pub const SECONDS: u32 = 4;

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
                let admitted = offer_all(instances, load).await?;
                let calls = f64::from(u32::try_from(server.stats().await?.scripts)?) / f64::from(SECONDS);
                // What a window of this demand has room for, with the hold of one bucket.
                let room = f64::from(LIMIT) * f64::from(SECONDS - 1) / (WINDOW + BUCKET).as_secs_f64();
                let room = room.min(f64::from(LIMIT) * load * f64::from(SECONDS - 1));
                let later = admitted.within(WINDOW.as_secs_f64(), f64::INFINITY) as f64;
                let name = if name == "trypema" { version(name) } else { name.into() };
                let most = admitted.most(WINDOW.as_secs_f64(), 0.0, f64::INFINITY).to_string();
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
    Ok(instances::hybrid(limiter, f64::from(LIMIT).try_into()?))
}

async fn trypema(server: &Server, interval: u64) -> Result<Instance, Failure> {
    let builder = HybridRateLimiterProvider::builder(server.manager().await?)
        .window_size(trypema::WindowSize::seconds_or_panic(WINDOW.as_secs()))
        .sync_interval(SyncInterval::milliseconds_or_panic(interval));
    Ok(instances::trypema_hybrid(builder.build()?, LIMIT.into()))
}

/// Offers requests at a multiple of the limit, to each instance as many; returns the admissions.
async fn offer_all(instances: Vec<Instance>, load: f64) -> Result<Admissions, Failure> {
    let start = Instant::now();
    let count = instances.len() as f64;
    let each = f64::from(LIMIT) * load / count;
    let tasks = instances.into_iter().enumerate().map(|(at, instance)| {
        let offered = offer(instance, each, at as f64 / count, start, WINDOW * SECONDS);
        tokio::spawn(async move { offered.await.map_err(|failure| failure.to_string()) })
    });
    let mut requests = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        requests.extend(task.await??);
    }
    if requests.iter().any(|request| request.answer == Answer::Failed) {
        return Err("a request got no decision".into());
    }
    Ok(Admissions::new(requests.iter().filter_map(Request::admission)))
}
