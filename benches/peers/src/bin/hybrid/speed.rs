//! How many decisions a second, and how long each takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tower_weir::{OnStoreError, RateLimit, RateLimiter, RedisOptions, SyncIntervalMs};
use trypema::RateLimiterBuilder as _;
use trypema::hybrid::{HybridRateLimiterProvider, SyncInterval};
use trypema::redis::RedisKey;

use crate::Failure;
use crate::drive::{Contestant, Entrant, Lap, Load};
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

/// How often each key is asked for before it is measured.
const WARM: usize = 3;

pub async fn race(server: &Server, keys: usize, rounds: usize, time: Duration) -> Result<(), Failure> {
    let entrants = all(server, keys).await?;
    println!("\n### {keys} keys, each asked once by 64 tasks, and {WARM} times in all before what follows\n");
    for entrant in &entrants {
        for pass in 0..WARM {
            let start = Instant::now();
            entrant.once(keys).await?;
            println!("{}, pass {}: {:.0}/s", entrant.name, pass + 1, keys as f64 / start.elapsed().as_secs_f64());
        }
    }
    for tasks in [1, 64] {
        let load = Load { tasks, keys, is_admitted: true, is_timed: false };
        println!("\n### {load}\n");
        println!(
            "| | decisions/s | min .. max | p50 us | p99 us | p99.9 us | most us | script calls/s |\n|---|{}",
            "--:|".repeat(7)
        );
        let mut laps = entrants.iter().map(|_| Vec::with_capacity(rounds)).collect::<Vec<Vec<(Lap, Stats)>>>();
        for round in 0..rounds {
            for turn in 0..entrants.len() {
                let at = (round + turn) % entrants.len();
                server.reset_stats().await?;
                let lap = entrants[at].lap(load, time).await?;
                laps[at].push((lap, server.stats().await?));
            }
        }
        for (entrant, laps) in entrants.iter().zip(&laps) {
            let timed = entrant.lap(Load { is_timed: true, ..load }, time).await?;
            println!("| {} | {} |", entrant.name, figures(laps, &timed));
        }
    }
    Ok(())
}

fn figures(laps: &[(Lap, Stats)], timed: &Lap) -> String {
    let rate = |(lap, _): &(Lap, Stats)| lap.decisions as f64 / lap.elapsed.as_secs_f64();
    let mut rates: Vec<f64> = laps.iter().map(rate).collect();
    rates.sort_by(f64::total_cmp);
    let calls: f64 = laps.iter().map(|(lap, stats)| stats.scripts as f64 / lap.elapsed.as_secs_f64()).sum();
    let [p50, p99, p999, most] = [0.5, 0.99, 0.999, 1.0].map(|part| timed.latencies.quantile(part));
    format!(
        "{:.0} | {:.0} .. {:.0} | {p50:.2} | {p99:.1} | {p999:.1} | {most:.0} | {:.0}",
        rates[rates.len() / 2],
        rates[0],
        rates[rates.len() - 1],
        calls / laps.len() as f64
    )
}
