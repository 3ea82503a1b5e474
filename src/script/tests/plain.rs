//! Plain decisions: the cost of one on the server, and the life of a key whose time to live is not set each time.

use super::*;

/// The calls of each command since the last reset of the server's statistics.
fn calls(server: &mut redis::Connection) -> Vec<(String, u64)> {
    let info: String = redis::cmd("INFO").arg("commandstats").query(server).unwrap();
    let calls = info.lines().filter_map(|line| {
        let (name, fields) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), fields.split(',').next()?.parse().ok()?))
    });
    let mut calls: Vec<_> =
        calls.filter(|(name, _)| !["config|resetstat", "config", "info"].contains(&&**name)).collect();
    calls.sort();
    calls
}

/// The general case would create its functions and write the whole value.
#[test]
fn a_plain_decision_reads_once_and_writes_at_most_once() {
    let server = Server::start(Flavor::Debian);
    let mut key = Key { server: connect(&server), name: b"plain".to_vec() };
    let mut ask = |now_ms, capacity, commands: &[&str]| {
        let _: () = redis::cmd("CONFIG").arg("RESETSTAT").query(&mut key.server).unwrap();
        let (is_allowed, used, _) = key.ask(now_ms, 10, capacity, 1_000);
        let seen = calls(&mut key.server);
        let expected: Vec<_> = ["eval"].iter().chain(commands).map(|name| ((*name).to_owned(), 1)).collect();
        assert_eq!(seen, expected, "at {now_ms} ms");
        (is_allowed, used)
    };
    assert_eq!(ask(DAY, 100, &["getrange", "set"]), (true, 1), "a new key");
    assert_eq!(ask(DAY + 9, 100, &["getrange", "setrange"]), (true, 2), "the open bucket");
    assert_eq!(ask(DAY + 10, 100, &["getrange", "set"]), (true, 3), "the next bucket");
    assert_eq!(ask(DAY + 500, 3, &["getrange"]), (false, 3), "a refusal");
    assert_eq!(ask(DAY + 1_015, 100, &["getrange", "set"]), (true, 2), "an old bucket has expired");
    assert_eq!(ask(DAY + 9_000, 100, &["getrange", "set"]), (true, 1), "all have expired");
    for n in 1..14 {
        ask(DAY + 9_000 + 10 * n, 100, &["getrange", "set"]);
    }
    assert_eq!(ask(DAY + 9_135, 100, &["getrange", "setrange"]), (true, 15), "the open bucket of a long history");
    assert_eq!(ask(DAY + 9_140, 100, &["get", "getrange", "set"]), (true, 16), "the next bucket of a long history");
    assert_eq!(ask(DAY + 9_140, 16, &["get", "getrange"]), (false, 16), "a refusal by a long history");
}

/// Most charges do not set the time to live. Real time does not pass here, so the test shortens it between the steps.
#[test]
fn a_key_that_is_charged_again_lives_for_as_long_as_its_newest_unit_counts() {
    let server = Server::start(Flavor::Debian);
    for (case, (bucket_ms, window_ms)) in [(10, 1_000_u64), (100, 300), (1, 20_000)].into_iter().enumerate() {
        let mut key = Key { server: connect(&server), name: format!("again{case}").into() };
        let (span, mut random) = (window_ms.div_ceil(bucket_ms), fastrand::Rng::with_seed(case as u64));
        let (mut now, mut ttl) = (DAY, 0);
        for step in 0..600 {
            let passed = random.u64(0..window_ms / 20);
            now += passed;
            ttl = u64::saturating_sub(ttl, passed);
            if step > 0 {
                // Both times are far from the real ones, so the key does not expire between two commands.
                let _: () = redis::cmd("PEXPIRE").arg(&key.name).arg(ttl + AN_HOUR).query(&mut key.server).unwrap();
            }
            let began = std::time::Instant::now();
            assert!(key.ask(now, bucket_ms, 1_000_000, window_ms).0);
            let left = u64::try_from(key.ttl()).unwrap();
            // More than half an hour is the time set above; less is set by this charge, which a stall may delay.
            if left < AN_HOUR / 2 {
                ttl = left + u64::try_from(began.elapsed().as_millis()).unwrap() + 1;
            }
            let counts = (now / bucket_ms + span + 1) * bucket_ms - now;
            assert!(ttl >= counts, "step {step}: {ttl} ms for a unit that counts for {counts} ms");
        }
    }
}

const AN_HOUR: u64 = 3_600_000;
