//! What is kept on the server: names, times to live, bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tower_weir::store::{BudgetRequest, BudgetResponse, Policy, Store, Strategy};
use tower_weir::{HistoryPreservation, OnStoreError, RateLimitComparator, RateLimiter};

use super::{builder, factor, limiter, rate, redis};
use crate::support::servers::{Flavor, Server};

/// Bytes of a value before its words.
const HEADER: u64 = 36;

/// Every key with its time to live, as of one instant.
const LIFETIMES: &str = "local out = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  out[#out + 1] = key .. ' ' .. redis.call('PTTL', key)
end
return out";

fn lifetimes(server: &Server) -> Vec<(String, i64)> {
    let text = server.cli(&["EVAL", LIFETIMES, "0"]);
    let pair = |line: &str| {
        let (key, ttl) = line.rsplit_once(' ').unwrap();
        (key.to_owned(), ttl.parse().unwrap())
    };
    text.lines().map(pair).collect()
}

/// Everything that a limiter can do to a key, at random.
async fn traffic(rl: RateLimiter, seed: u64, is_over: Arc<AtomicBool>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (absolute, suppressed) = (rl.redis().absolute(), rl.redis().suppressed());
    let quotas = vec!["20/s".parse().unwrap(), "30/s".parse().unwrap()];
    let policy =
        Policy::new("api", quotas, Strategy::Suppressed(factor(1.5))).with_on_store_error(OnStoreError::Reject);
    let budget = rl.redis().open(&policy).unwrap();
    while !is_over.load(Ordering::Relaxed) {
        let key = format!("client-secret-{}", random.u32(0..8));
        let (rate, n) = (rate(random.f64() * 20.0 + 1.0), random.u64(0..6));
        match random.u32(0..12) {
            0..3 => drop(absolute.inc(&key, &rate, n).await.unwrap()),
            3..6 => drop(suppressed.inc(&key, &rate, n).await.unwrap()),
            6 => drop(absolute.set_if(&key, &rate, RateLimitComparator::Lt(10), n).await.unwrap()),
            7 => {
                let which = HistoryPreservation::PreserveOldest;
                let any = RateLimitComparator::Always;
                assert!(absolute.set_if_preserve_history(&key, &rate, any, n, which).await.unwrap().matched);
            }
            8 => drop(absolute.delete(&key).await.unwrap()),
            9 => drop(suppressed.get_suppression_factor(&key, &rate).await.unwrap()),
            _ => {
                let decision = match budget.decide(BudgetRequest::new(key.as_bytes(), n)) {
                    BudgetResponse::Ready(result) => result.unwrap(),
                    BudgetResponse::Pending(pending) => pending.await.unwrap(),
                };
                budget.refund(key.as_bytes(), 1, &decision);
            }
        }
        tokio::time::sleep(Duration::from_millis(random.u64(0..3))).await;
    }
}

/// The longest life of a key with a window of 1 s: the window, an eighth of it, and some buckets of 10 ms.
const MOST_MS: i64 = 1_150;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_ends_by_itself_and_names_no_client() {
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        // With its share of the limit kept, an instance also says that it is there.
        let options = redis(server.url()).on_store_error(OnStoreError::LocalShare);
        let rl = builder(options, 1).hard_limit_factor(factor(1.5)).build().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = (0..8).map(|seed| tokio::spawn(traffic(rl.clone(), seed, Arc::clone(&is_over)))).collect();
        let (mut seen, mut longest, began) = (std::collections::BTreeSet::new(), 0, Instant::now());
        while began.elapsed() < Duration::from_millis(1_500) || seen.len() < 17 {
            for (key, ttl) in lifetimes(&server) {
                assert!(ttl > 0 || ttl == -2, "{flavor}: {key} lives for {ttl} ms");
                assert!(!key.contains("client") && !key.contains("secret"), "{flavor}: {key}");
                match key.strip_prefix("weir:1:{").and_then(|rest| rest.split_once('}')) {
                    Some((digest, "" | ":api")) => {
                        assert_eq!(digest.len(), 22, "{key}");
                        assert!(ttl <= MOST_MS, "{flavor}: {key} lives for {ttl} ms");
                        longest = longest.max(ttl);
                    }
                    _ => assert!(key == "weir:instances" && ttl <= 16_000, "{flavor}: {key} lives for {ttl} ms"),
                }
                seen.insert(key);
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{seen:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        is_over.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.unwrap();
        }
        // Refunds may still be under way; they make nothing live longer.
        loop {
            let left: Vec<_> = lifetimes(&server).into_iter().filter(|(key, _)| key != "weir:instances").collect();
            if left.is_empty() {
                break;
            }
            assert!(left.iter().all(|(_, ttl)| *ttl <= MOST_MS), "{flavor}: {left:?}");
            assert!(began.elapsed() < Duration::from_secs(90), "{flavor}: {left:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        println!("{flavor}: {} keys, the longest lived for {longest} ms", seen.len());
    }
}

#[tokio::test]
async fn keys_are_small() {
    for flavor in Flavor::available() {
        let server = Server::start(flavor);
        let mut options = builder(redis(server.url()).deny_cache(false), 60);
        options = options.rate_group_size_ms(1.try_into().unwrap()).hard_limit_factor(factor(1.5));
        let rl = options.build().unwrap();
        let usage = |key: &str| server.cli(&["MEMORY", "USAGE", key]).parse::<u64>().unwrap();
        let (absolute, suppressed, rate) = (rl.redis().absolute(), rl.redis().suppressed(), rate(100.0));

        assert!(absolute.inc("one", &rate, 1).await.unwrap().is_allowed());
        let name = server.cli(&["KEYS", "weir:1:*"]);
        let one = usage(&name);
        absolute.clear().await.unwrap();

        // However many decisions a bucket has, the limit is not reached.
        let wide = super::rate(100_000.0);
        let length = |name: &str| server.cli(&["STRLEN", name]).parse::<u64>().unwrap();
        let mut name = String::new();
        while name.is_empty() || length(&name) < HEADER + 9 * 255 {
            assert!(absolute.inc("many", &wide, 1).await.unwrap().is_allowed());
            name = server.cli(&["KEYS", "weir:1:*"]);
        }
        let many = usage(&name);
        // However much longer it goes on, it gets no larger: buckets merge.
        for _ in 0..600 {
            assert!(absolute.inc("many", &wide, 1).await.unwrap().is_allowed());
            assert!(length(&name) <= HEADER + 9 * 256, "{flavor}: {} bytes", length(&name));
        }
        absolute.clear().await.unwrap();

        assert!(suppressed.inc("shed", &rate, 6_000).await.unwrap().is_allowed());
        while suppressed.inc("shed", &rate, 1).await.unwrap().is_allowed() {}
        let shed = usage(&server.cli(&["KEYS", "weir:1:*"]));
        println!("{flavor}: one request {one} bytes, 256 buckets {many}, one bucket and shedding {shed}");
        assert!(one <= 200, "{flavor}: {one} bytes for one request");
        assert!(many <= 3_300, "{flavor}: {many} bytes for 256 buckets");
        assert!(shed <= 400, "{flavor}: {shed} bytes where requests are shed");
    }
}

/// The values 256 KiB and 1 MiB of a key's bytes, and none, cost the same.
#[tokio::test]
async fn a_key_costs_the_same_whatever_its_client_sends() {
    let server = Server::start(Flavor::Debian);
    let rl = limiter(redis(server.url()), 60);
    let mut usages = Vec::new();
    for length in [0, 1, 1 << 18, 1 << 20] {
        assert!(rl.redis().absolute().inc(vec![b'x'; length], &rate(1.0), 1).await.unwrap().is_allowed());
        let name = server.cli(&["KEYS", "weir:1:*"]);
        usages.push(server.cli(&["MEMORY", "USAGE", &name]));
        rl.redis().absolute().clear().await.unwrap();
    }
    assert!(usages.iter().all(|usage| *usage == usages[0]), "{usages:?}");
}
