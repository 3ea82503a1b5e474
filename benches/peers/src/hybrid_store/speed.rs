//! How many decisions a second, and how long each takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tower_weir::{OnStoreError, RateLimit, RateLimiter, RedisOptions, SyncIntervalMs};
use trypema::RateLimiterBuilder as _;
use trypema::hybrid::{HybridRateLimiterProvider, SyncInterval};
use trypema::redis::RedisKey;

use crate::drive::{Contestant, Entrant, Lap, Load};
use crate::figures::{Figures, time as nanos};
use crate::report::{Failure, Table, version};
use crate::server::{Server, Stats};

/// Never reached: a thousand million in a second.
const PER_SECOND: f64 = 1e9;
const INTERVAL_MS: u64 = 10;

struct Weir {
    limiter: RateLimiter,
    rate: RateLimit,
    keys: Vec<String>,
}

impl Contestant for Weir {
    async fn admits(&self, key: usize) -> bool {
        let decision = self.limiter.hybrid().absolute().inc(&self.keys[key], &self.rate, 1).await;
        decision.expect("Redis answers").is_allowed()
    }
}

struct Trypema {
    provider: Arc<HybridRateLimiterProvider>,
    rate: trypema::RateLimit,
    keys: Vec<RedisKey>,
}

impl Contestant for Trypema {
    async fn admits(&self, key: usize) -> bool {
        let decision = self.provider.absolute().inc(&self.keys[key], &self.rate, 1).await;
        matches!(decision.expect("Redis answers"), trypema::RateLimitDecision::Allowed)
    }
}

async fn all(server: &Server, keys: usize) -> Result<Vec<Entrant>, Failure> {
    let names: Vec<String> = (0..keys).map(|key| format!("client-{key:06}")).collect();
    let options = RedisOptions::url(server.url()).deadline(Duration::from_secs(1)).on_store_error(OnStoreError::Reject);
    let limiter = RateLimiter::builder().redis(options).sync_interval_ms(SyncIntervalMs::try_from(INTERVAL_MS)?);
    let weir = Weir { limiter: limiter.build()?, rate: RateLimit::try_from(PER_SECOND)?, keys: names.clone() };
    let provider = HybridRateLimiterProvider::builder(server.manager().await?)
        .sync_interval(SyncInterval::milliseconds_or_panic(INTERVAL_MS));
    let trypema = Trypema {
        provider: provider.build()?,
        rate: trypema::RateLimit::per_second_or_panic(PER_SECOND),
        keys: names.into_iter().map(RedisKey::new_or_panic).collect(),
    };
    Ok(vec![Entrant::new("tower-weir", true, weir), Entrant::new("trypema", true, trypema)])
}

/// The numbers of tasks.
const LOADS: [usize; 2] = [1, 64];

/// How often each key is asked for before it is measured.
const WARM: usize = 3;

pub async fn measure(server: &Server, rounds: usize, time: Duration) -> Result<String, Failure> {
    let heads = ["", "thousand decisions per second", "p50", "p99", "p99.9", "longest", "script calls per second"];
    let mut table = Table::new(heads);
    let mut passes = Table::new(["first passes over 100 000 keys, 64 tasks", "1st", "2nd", "3rd"]);
    for keys in [1, 100_000] {
        // One after the other, because both go on in the background: trypema syncs all keys that it knows.
        let mut rows = [const { Vec::new() }; LOADS.len()];
        for at in 0..2 {
            server.flush().await?;
            let entrant = all(server, keys).await?.swap_remove(at);
            let rates = warm(&entrant, keys).await?;
            if keys > 1 {
                let cells = rates.map(|rate| format!("{:.0} thousand per second", rate / 1e3));
                passes.row(std::iter::once(named(&entrant)).chain(cells));
            }
            for (tasks, rows) in LOADS.into_iter().zip(&mut rows) {
                let load = Load { tasks, keys, is_admitted: true, is_timed: false };
                println!("{load} ..");
                let laps = laps(server, &entrant, load, rounds, time).await?;
                let timed = entrant.lap(Load { is_timed: true, ..load }, time).await?;
                let name = format!("{load}: {}", named(&entrant));
                rows.push(std::iter::once(name).chain(figures(&laps, &timed)).collect::<Vec<_>>());
            }
        }
        rows.into_iter().flatten().for_each(|row| table.row(row));
    }
    Ok(format!("{table}\n{passes}"))
}

fn named(entrant: &Entrant) -> String {
    if entrant.name == "trypema" { version(entrant.name) } else { entrant.name.into() }
}

/// The rates of the first passes over all keys.
async fn warm(entrant: &Entrant, keys: usize) -> Result<[f64; WARM], Failure> {
    let mut rates = [0.0; WARM];
    for rate in &mut rates {
        let start = Instant::now();
        entrant.once(keys).await?;
        *rate = keys as f64 / start.elapsed().as_secs_f64();
    }
    Ok(rates)
}

async fn laps(
    server: &Server,
    entrant: &Entrant,
    load: Load,
    rounds: usize,
    time: Duration,
) -> Result<Vec<(Lap, Stats)>, Failure> {
    let mut laps = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        server.reset_stats().await?;
        let lap = entrant.lap(load, time).await?;
        laps.push((lap, server.stats().await?));
    }
    Ok(laps)
}

fn figures(laps: &[(Lap, Stats)], timed: &Lap) -> [String; 6] {
    let per_second = |count: u64, lap: &Lap| count as f64 / lap.elapsed.as_secs_f64();
    let rates = Figures::of(laps.iter().map(|(lap, _)| per_second(lap.decisions, lap) / 1e3));
    let calls = Figures::of(laps.iter().map(|(lap, stats)| per_second(stats.scripts, lap)));
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| nanos(timed.latencies.quantile(part)));
    let longest = nanos(timed.latencies.longest());
    let rates = rates.map_or("-".into(), |rates| rates.cell());
    [rates, p50, p99, p999, longest, calls.map_or("-".into(), |calls| format!("{:.0}", calls.median))]
}
