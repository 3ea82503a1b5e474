//! Several instances and stores on one key.

use std::time::Duration;

use tower_weir::{RateLimit, RateLimiter};

use crate::support::ledger::{Admission, Ledger, now};
use crate::support::servers::{Flavor, Server};
use crate::{builder, held, limiter, rate, redis, spend};

/// Whom to ask.
#[derive(Clone, Copy, Debug)]
enum By {
    Redis,
    Hybrid,
    Suppressed,
}

async fn is_admitted(rl: &RateLimiter, by: By, rate: &RateLimit) -> bool {
    let decision = match by {
        By::Redis => rl.redis().absolute().inc("k", rate, 1).await,
        By::Hybrid => rl.hybrid().absolute().inc("k", rate, 1).await,
        By::Suppressed => rl.hybrid().suppressed().inc("k", rate, 1).await,
    };
    // A machine that stands still for longer than the deadline loses some answers; it admits less for that.
    decision.is_ok_and(|decision| decision.is_allowed())
}

/// So many tasks for each of these, each asking every few milliseconds, for so long.
async fn load(askers: &[(RateLimiter, By)], tasks: usize, rate: RateLimit, duration: Duration) -> Vec<Ledger> {
    let until = now() + u64::try_from(duration.as_nanos()).unwrap();
    let ask = |rl: RateLimiter, by: By| async move {
        let mut admitted = Vec::new();
        while now() < until {
            let sent = now();
            if is_admitted(&rl, by, &rate).await {
                admitted.push(Admission { sent, received: now(), cost: 1 });
            }
            tokio::time::sleep(Duration::from_millis(fastrand::u64(2..7))).await;
        }
        admitted
    };
    let start =
        |(rl, by): &(RateLimiter, By)| -> Vec<_> { (0..tasks).map(|_| tokio::spawn(ask(rl.clone(), *by))).collect() };
    let started: Vec<Vec<_>> = askers.iter().map(start).collect();
    let mut ledgers = Vec::new();
    for tasks in started {
        let mut ledger = Ledger::default();
        for task in tasks {
            ledger.0.extend(task.await.unwrap());
        }
        ledgers.push(ledger);
    }
    ledgers
}

fn sum(ledgers: &[Ledger]) -> Ledger {
    Ledger(ledgers.iter().flat_map(|ledger| ledger.0.iter().copied()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_redis_and_the_hybrid_store_have_one_budget() {
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        let (one, other) = (limiter(&server, 60, 50), limiter(&server, 60, 50));
        let minute = rate(1.0);
        spend(&one, "k", minute, 20).await;
        assert!(held(&one, "k").await >= 20);
        one.hybrid().shutdown().await;
        assert!(other.redis().absolute().inc("k", &minute, 30).await.unwrap().is_allowed());
        assert_eq!(one.hybrid().absolute().get("k").await.unwrap(), 50);
        assert!(!one.hybrid().absolute().inc("k", &minute, 11).await.unwrap().is_allowed());
        spend(&other, "k", minute, 10).await;
        assert!(!other.redis().absolute().inc("k", &minute, 1).await.unwrap().is_allowed());

        let (limit, periods) = (200, if flavor == Flavor::Debian { 3 } else { 2 });
        let server = Server::start(flavor);
        let (one, other) = (limiter(&server, 1, 20), limiter(&server, 1, 20));
        let askers = [(one.clone(), By::Redis), (one, By::Hybrid), (other.clone(), By::Redis), (other, By::Hybrid)];
        let ledgers = load(&askers, 2, rate(limit as f64), Duration::from_millis(1_010 * periods)).await;
        let units: Vec<u64> = ledgers.iter().map(Ledger::units).collect();
        let mut all = sum(&ledgers);
        let (most, share) = (all.most_within(Duration::from_secs(1)), all.units() as f64 / (limit * periods) as f64);
        println!("{flavor}: {units:?} units by Redis and hybrid in turns, at most {most}, {share:.3} of the limit");
        assert!(most <= limit, "{flavor}: {most} in one window");
        assert!(share >= 0.85, "{flavor}: {share:.3} of the limit");
        assert!(units.iter().all(|units| *units > 0), "{flavor}: {units:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suppressed_instances_admit_about_the_limit_and_never_more_than_the_cap() {
    const LIMIT: u64 = 400;
    for instances in [2, 4] {
        let server = Server::start(Flavor::Debian);
        let limiter = |_| {
            let options = builder(redis(server.url()), 1, 20).hard_limit_factor(1.5.try_into().unwrap());
            (options.build().unwrap(), By::Suppressed)
        };
        let askers: Vec<_> = (0..instances).map(limiter).collect();
        // 8 tasks ask about 1 600 times a second.
        let ledgers = load(&askers, 8 / instances, rate(LIMIT as f64), Duration::from_secs(8)).await;
        let mut all = sum(&ledgers);
        let most = all.most_within(Duration::from_secs(1));
        // The first window is below the limit until it is full. Then a stall of the machine makes the seconds around
        // it poorer, but not the median of all.
        let start = all.0[0].sent;
        let admitted_from =
            |from: u64| all.0.iter().filter(|it| (from..from + 1_000_000_000).contains(&it.sent)).count();
        let mut seconds: Vec<usize> = (20..70).map(|tenth| admitted_from(start + tenth * 100_000_000)).collect();
        seconds.sort_unstable();
        let median = seconds[seconds.len() / 2] as f64 / LIMIT as f64;
        println!("{instances} instances: {seconds:?}, {median:.3} of the limit, at most {most} in a window");
        assert!(most <= LIMIT * 3 / 2, "{instances} instances: {most} in one window");
        assert!((0.9..=1.1).contains(&median), "{instances} instances: {median:.3} of the limit");
    }
}
