//! The decisions are those of the engine, which the tests ask themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use tower_weir::store::{BudgetRequest, BudgetResponse, Policy, Store as _, Strategy};
use tower_weir::{HardLimitFactor, ManualClock, Quota, RateLimiter};

use super::{Run, json, replay};

const START_MS: u64 = 1_700_000_000_000;

/// The refusals of each key, of which there is at least one.
type Refusals = BTreeMap<String, u64>;

/// Decides on requests at these times, in milliseconds since the first one.
fn decide(requests: &[(u64, String)], quotas: &[&str], strategy: Strategy) -> Refusals {
    let clock = ManualClock::new();
    let limiter = RateLimiter::builder().clock(clock.clone()).build().unwrap();
    let quotas: Vec<Quota> = quotas.iter().map(|quota| quota.parse().unwrap()).collect();
    let budget = limiter.local().open(&Policy::new("test", quotas, strategy)).unwrap();
    let (mut refusals, mut now) = (Refusals::new(), requests[0].0);
    for (at, (time, client)) in (0_u64..).zip(requests) {
        // What the suppressed strategy draws can be repeated.
        fastrand::seed(at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        clock.advance(Duration::from_millis(time - now));
        now = *time;
        let BudgetResponse::Ready(Ok(decision)) = budget.decide(BudgetRequest::new(client.as_bytes(), 1)) else {
            panic!("a local store decides at once");
        };
        if !decision.is_allowed() {
            *refusals.entry(client.clone()).or_default() += 1;
        }
    }
    refusals
}

/// Some clients with bursts and pauses.
fn requests(count: usize) -> Vec<(u64, String)> {
    let mut random = fastrand::Rng::with_seed(3);
    let mut time = 0;
    let mut next = |_| {
        time += if random.u8(..) == 0 { random.u64(..30_000) } else { random.u64(..40) };
        (time, format!("10.0.0.{}", (12.0 * random.f64().powi(3)) as u8))
    };
    (0..count).map(&mut next).collect()
}

fn log(requests: &[(u64, String)]) -> String {
    requests.iter().map(|(time, client)| json(START_MS + time, client, "GET", "/")).collect()
}

fn refusals(run: &Run, policy: usize) -> Refusals {
    run.keys(policy).into_iter().map(|(key, _, refused)| (key.to_owned(), refused)).collect()
}

#[test]
fn each_decision_is_that_of_the_engine() {
    let requests = requests(6_000);
    let limits = ["20/s", "100/min", "10/s;120/min", "3/200ms", "40/min suppressed 1.5"];
    let mut arguments = vec!["--top", "100"];
    arguments.extend(limits.iter().flat_map(|limit| ["--limit", limit]));
    let run = replay(&arguments, log(&requests).as_bytes());
    let suppressed = Strategy::Suppressed(HardLimitFactor::try_from(1.5).unwrap());
    let own = [
        decide(&requests, &["20/s"], Strategy::Absolute),
        decide(&requests, &["100/min"], Strategy::Absolute),
        decide(&requests, &["10/s", "120/min"], Strategy::Absolute),
        decide(&requests, &["3/200ms"], Strategy::Absolute),
        decide(&requests, &["40/min"], suppressed),
    ];
    for (policy, own) in own.iter().enumerate() {
        assert_eq!(refusals(&run, policy), *own, "{}", limits[policy]);
        let refused: u64 = own.values().sum();
        assert_eq!(run.policies()[policy], (6_000, refused));
        assert!(refused > 100 && refused < 5_500, "{refused} refusals: the test is not vacuous");
    }
}

/// As servers write it that log a request at its end, and as a shell orders rotated files.
#[test]
fn requests_are_replayed_in_the_order_of_their_times() {
    let requests = requests(4_000);
    let mut late = requests.clone();
    for block in late.chunks_mut(5) {
        block.reverse();
    }
    late.rotate_left(1_000);
    let run = replay(&["--limit", "10/s", "--limit", "60/min", "--top", "100"], log(&late).as_bytes());
    assert!(run.out.contains("  Lines that are earlier than a line before them: "), "{}", run.out);
    assert!(run.out.contains("All requests were put in the order of their times\n"), "{}", run.out);
    // Requests at one time are in the order of their lines.
    let mut sorted = late;
    sorted.sort_by_key(|(time, _)| *time);
    assert_eq!(refusals(&run, 0), decide(&sorted, &["10/s"], Strategy::Absolute));
    assert_eq!(refusals(&run, 1), decide(&sorted, &["60/min"], Strategy::Absolute));
}

/// A wrong time far ahead must not stop the clock for the lines after it.
#[test]
fn a_line_from_the_future_changes_no_other_decision() {
    let requests = requests(1_000);
    let far = json(START_MS * 2, "192.0.2.1", "GET", "/");
    let run = replay(&["--limit", "5/s", "--top", "100"], (far + &log(&requests)).as_bytes());
    assert_eq!(refusals(&run, 0), decide(&requests, &["5/s"], Strategy::Absolute));
}

#[test]
fn requests_of_whole_seconds_are_spread_over_them() {
    let line = |second: u64| format!("10.0.0.1 - - [10/Oct/2000:13:55:{second:02} +0000] \"GET / HTTP/1.1\" 200 1\n");
    // Steadily 20 per second, for ten seconds.
    let log: String = (0..200).map(|at| line(at / 20)).collect();
    let client = || "10.0.0.1".to_owned();
    let spread: Vec<(u64, String)> = (0..200).map(|at| (at * 50, client())).collect();
    let run = replay(&["--limit", "10/s", "--limit", "20/s", "--limit", "22/s"], log.as_bytes());
    assert!(run.out.contains("The times are whole seconds; the requests of each second were spread evenly"));
    let refused = |quota: &str| decide(&spread, &[quota], Strategy::Absolute).values().sum::<u64>();
    assert_eq!(run.policies(), [(200, refused("10/s")), (200, refused("20/s")), (200, refused("22/s"))]);
    assert_eq!(run.policies()[2].1, 0, "a steady rate below the limit is admitted");

    let burst: Vec<(u64, String)> = (0..200).map(|at| (at / 20 * 1_000, client())).collect();
    let run = replay(&["--no-spread", "--limit", "10/s"], log.as_bytes());
    let refused: u64 = decide(&burst, &["10/s"], Strategy::Absolute).values().sum();
    assert_eq!(run.policies(), [(200, refused)]);
}

#[test]
fn the_smallest_limit_for_a_target_is_found() {
    let requests = requests(5_000);
    let log = log(&requests);
    for (limit, target) in
        [("7/s", 5.0), ("7/s", 0.0), ("300/min", 20.0), ("4/s;30/min", 10.0), ("9/s suppressed 1.5", 3.0)]
    {
        let goal = format!("{target}%");
        let run = replay(&["--limit", limit, "--target", &goal], log.as_bytes());
        let found = run.out.lines().find_map(|line| line.split_once(&format!("at most {target} % is "))).unwrap().1;
        let (found, _) = found.split_once(", which refuses").unwrap();
        let strategy = limit.split_once(" suppressed").map_or("", |(_, factor)| factor);
        let with = |count: u64| {
            // The other quotas keep their proportion to the first.
            let quotas: Vec<String> =
                limit.split(" suppressed").next().unwrap().split(';').map(str::to_owned).collect();
            let split = |quota: &str| -> (u64, String) {
                let (count, window) = quota.split_once('/').unwrap();
                (count.parse().unwrap(), window.to_owned())
            };
            let first = split(&quotas[0]).0;
            let scaled = quotas
                .iter()
                .map(|quota| split(quota))
                .map(|(old, window)| format!("{}/{window}", (old * count).div_ceil(first)));
            scaled.collect::<Vec<_>>().join(", ")
        };
        let count: u64 = found.split_once('/').unwrap().0.parse().unwrap();
        assert_eq!(found, with(count), "{limit}");
        let suffix = if strategy.is_empty() { String::new() } else { format!(" suppressed{strategy}") };
        let (exact, smaller) = (format!("{found}{suffix}"), format!("{}{suffix}", with(count - 1)));
        let check = replay(&["--limit", &exact, "--limit", &smaller], log.as_bytes());
        let percent = |(all, refused): (u64, u64)| refused as f64 / all as f64 * 100.0;
        let shares = [percent(check.policies()[0]), percent(check.policies()[1])];
        assert!(shares[0] <= target && shares[1] > target, "{limit} for {target} %: {found} has {shares:?}");
    }
}

/// The search leaves out keys with fewer requests than the limit, and none with more.
#[test]
fn a_key_with_one_request_too_many_counts_in_a_search() {
    let client = |key: u64| format!("10.0.{}.{}", key % 5, key / 5);
    // A client has as many requests as the third number of its address, and one more.
    let log: String = (0..200)
        .flat_map(|key| (0..=key % 5).map(move |at| json(START_MS + key * 100 + at, &client(key), "GET", "/")))
        .collect();
    let run = replay(&["--limit", "2/h", "--limit", "2/h suppressed 1.5", "--target", "0%"], log.as_bytes());
    let found = run.out.lines().filter(|line| line.contains("at most 0 % is 5/h, which refuses 0 %"));
    assert_eq!(found.count(), 2, "{}", run.out);
}

#[test]
fn a_limit_is_per_client_or_method_or_path_or_for_all() {
    let requests: String = (0..40)
        .map(|at| {
            json(
                START_MS + at,
                &format!("10.0.0.{}", at % 4),
                ["GET", "PUT"][at as usize % 2],
                &format!("/{}?q={at}", at % 8),
            )
        })
        .collect();
    let limits =
        ["3/min per client", "3/min per method", "3/min per path", "3/min per global", "3/min per method + path"];
    let arguments: Vec<&str> = limits.iter().flat_map(|limit| ["--limit", limit]).collect();
    let run = replay(&arguments, requests.as_bytes());
    let refused: Vec<u64> = run.policies().into_iter().map(|(_, refused)| refused).collect();
    assert_eq!(refused, [40 - 4 * 3, 40 - 2 * 3, 40 - 8 * 3, 40 - 3, 40 - 8 * 3]);
    assert_eq!(run.keys(3), [("(all requests)", 40, 37)]);
    assert_eq!(run.keys(4)[0], ("GET + /0", 5, 2));
}

#[test]
fn only_requests_between_two_times_are_replayed() {
    let requests: String = (0..60).map(|at| json(START_MS + at * 1_000 + 1, "10.0.0.1", "GET", "/")).collect();
    // The log begins at 22:13:20.001.
    let run = replay(
        &["--limit", "1/d", "--from", "2023-11-14T22:13:30Z", "--to", "2023-11-14T22:13:40Z"],
        requests.as_bytes(),
    );
    assert_eq!(run.policies(), [(10, 9)]);
    assert!(run.out.contains("Lines outside --from and --to: 50\n"), "{}", run.out);
}

#[test]
fn a_full_store_is_reported() {
    let requests: String = (0..5_000_u64).map(|at| json(START_MS + at, &format!("client-{at}"), "GET", "/")).collect();
    let run = replay(&["--limit", "1/h", "--max-keys", "10", "--target", "0%"], requests.as_bytes());
    assert!(
        run.out.contains("Decisions for keys that shared a budget, because --max-keys were in use: "),
        "{}",
        run.out
    );
    assert!(run.policies()[0].1 > 1_000);
    assert_eq!(replay(&["--limit", "1/h"], requests.as_bytes()).policies(), [(5_000, 0)]);
}
