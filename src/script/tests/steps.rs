//! The server's clock steps back by any time, with several quotas on a key.

use super::*;

/// Quotas as (capacity, window in ms), in buckets of 10 ms.
type Quotas = &'static [(u64, u64)];

const BUCKET_MS: u64 = 10;

/// A key with several quotas, and its admissions in true time.
struct Judged {
    key: Key,
    quotas: Quotas,
    admitted: Vec<u64>,
}

impl Judged {
    fn new(server: &Server, name: &str, quotas: Quotas) -> Self {
        Self { key: Key { server: connect(server), name: name.into() }, quotas, admitted: Vec::new() }
    }

    /// Asks for one unit at a true time, while the server's clock shows another time.
    fn ask(&mut self, true_ms: u64, now_ms: u64) -> bool {
        let ticks = |ms: u64| u32::try_from(ms.div_ceil(BUCKET_MS)).unwrap();
        let limits: Vec<Limit> = self
            .quotas
            .iter()
            .map(|&(capacity, window)| Limit {
                capacity,
                hard: capacity,
                window: ticks(window),
                span: ticks(window),
                ticks_in_200ms: 20,
            })
            .collect();
        let horizon = Retention::new(Retention::WORDS_PER_SPAN);
        assert!(horizon.widen(&limits.iter().map(|limit| limit.span).collect::<Vec<_>>()));
        let policy = EncodedPolicy::decide(BUCKET_MS, &horizon, Mode::Absolute, &limits);
        let (mut packed, ask, time) = (Vec::new(), Ask { cost: 1, random: 0 }, now_ms.to_string());
        ask.write(&mut packed);
        let args = [policy.as_bytes(), time.as_bytes(), &packed];
        let answer = persistent(DECIDE.eval(&[&self.key.name], args), &self.key.name, &mut self.key.server);
        let is_allowed = read(&answer, 1).unwrap().outcome(0, ask, &limits, now_ms / BUCKET_MS).unwrap().is_allowed();
        if is_allowed {
            self.admitted.push(true_ms);
        }
        is_allowed
    }

    fn admitted_since(&self, since_ms: u64) -> u64 {
        self.admitted.iter().rev().take_while(|&&at| at >= since_ms).count() as u64
    }
}

/// Each quota holds by itself across any number of steps back. After a step, the shortest quota admits again within two
/// of its windows: one for the step, and one for the units that it then holds.
#[test]
fn every_quota_holds_across_steps_back_and_serves_again() {
    let server = Server::start(Flavor::Debian);
    let cases: [Quotas; 3] =
        [&[(5, 200), (400, 20_000)], &[(3, 100), (20, 1_000), (500, 60_000)], &[(10, 500), (2_000, 3_600_000)]];
    for (case, quotas) in cases.into_iter().enumerate() {
        let mut judged = Judged::new(&server, &format!("steps{case}"), quotas);
        let mut random = fastrand::Rng::with_seed(case as u64);
        let (shortest, longest) = (quotas[0].1, quotas[quotas.len() - 1].1);
        let (mut true_ms, mut now_ms) = (0, DAY);
        let mut is_starved_since = None;
        for _ in 0..2_500 {
            let passed = random.u64(0..shortest / 10);
            (true_ms, now_ms) = (true_ms + passed, now_ms + passed);
            let back = match random.u32(0..120) {
                0 => random.u64(0..2 * shortest),
                1 => random.u64(0..2 * longest),
                _ => 0,
            };
            now_ms -= back;
            if back > 0 {
                is_starved_since = None;
            }
            let is_allowed = judged.ask(true_ms, now_ms);
            if is_allowed {
                for &(capacity, window) in quotas {
                    let units = judged.admitted_since((true_ms + 1).saturating_sub(window));
                    assert!(units <= capacity, "{units} of {capacity} in {window} ms at {true_ms} ms");
                }
            }
            // A request that fits every quota but the shortest is refused for at most two of its windows.
            let fits = quotas[1..].iter().all(|&(capacity, window)| {
                // Three steps may each hold a unit for slightly longer in the longer windows.
                judged.admitted_since(true_ms.saturating_sub(window + 6 * longest)) < capacity
            });
            is_starved_since = if is_allowed || !fits { None } else { is_starved_since.or(Some(true_ms)) };
            let starved = is_starved_since.map_or(0, |since| true_ms - since);
            assert!(starved <= 2 * shortest + 3 * BUCKET_MS, "no admission for {starved} ms, window {shortest} ms");
        }
    }
}

/// A deployment adds a longer window to those of a key. From then on, its history is retained for that window.
#[test]
fn a_window_that_is_added_counts_what_came_before_it() {
    let server = Server::start(Flavor::Debian);
    let mut judged = Judged::new(&server, "added", &[(5, 1_000), (50, 5_000)]);
    for n in 0..3 {
        assert!(judged.ask(n, DAY + n));
    }
    judged.quotas = &[(5, 1_000), (50, 5_000), (6, 20_000)];
    for at in [2_000, 4_000, 6_000] {
        assert!(judged.ask(at, DAY + at));
    }
    for at in [7_000, 9_000, 19_900] {
        assert!(!judged.ask(at, DAY + at), "six are in the window at {at} ms");
    }
    assert!(judged.ask(20_020, DAY + 20_020));
}

/// A server whose clock is 20 s behind takes over: `100/s` must not wait for it because `100000/h` does.
#[test]
fn a_step_back_does_not_starve_the_shorter_quota() {
    let server = Server::start(Flavor::Debian);
    let mut judged = Judged::new(&server, "starve", &[(10, 1_000), (100_000, 3_600_000)]);
    for n in 0..3 {
        assert!(judged.ask(n, DAY + n));
    }
    let mut admitted = [0; 4];
    for n in 0..4_000 {
        if n % 20 == 0 && judged.ask(3 + n, DAY + n - 20_000) {
            admitted[usize::try_from(n / 1_000).unwrap()] += 1;
        }
    }
    assert_eq!(admitted[0], 7, "the three units from before the step still count");
    assert!(admitted[1..].iter().all(|&admitted| (9..=10).contains(&admitted)), "{admitted:?}");
}

/// The demand has dates too. If they stayed ahead of the clock, the shedding would last until the clock catches up.
#[test]
fn a_step_back_does_not_prolong_the_shedding() {
    let server = Server::start(Flavor::Debian);
    let limits = [Limit { capacity: 20, hard: 30, window: 100, span: 100, ticks_in_200ms: 20 }];
    let horizon = Retention::new(Retention::WORDS_PER_SPAN);
    assert!(horizon.widen(&[100]));
    let policy = EncodedPolicy::decide(BUCKET_MS, &horizon, Mode::Suppressed, &limits);
    let mut connection = connect(&server);
    let mut ask = |now_ms: u64, random| {
        let (mut packed, ask, time) = (Vec::new(), Ask { cost: 1, random }, now_ms.to_string());
        ask.write(&mut packed);
        let args = [policy.as_bytes(), time.as_bytes(), &packed];
        let answer: Vec<u8> = DECIDE.eval(&[b"shedding"], args).query(&mut connection).unwrap();
        read(&answer, 1).unwrap().outcome(0, ask, &limits, now_ms / BUCKET_MS).unwrap().is_allowed()
    };
    let mut random = fastrand::Rng::with_seed(1);
    for n in 0..400 {
        ask(DAY + 5 * n, random.u32(..));
    }
    let back = DAY - 3_600_000;
    // The units from before the step leave the window. Then half of the limit is offered, and all of it is admitted.
    for n in 0..40 {
        ask(back + 100 * n, random.u32(..));
    }
    assert!((40..80).all(|n| ask(back + 100 * n, random.u32(..))), "half of the limit is shed");
}
