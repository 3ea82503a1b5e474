//! The script against the engine: the same traces, with injected time and random numbers, and equal outcomes.

mod damage;
mod holds;
mod joint;
mod plain;
mod renew;
mod steps;

use super::*;
use crate::correction::RateLimitComparator;
use crate::engine::{self, Limit, Retention, SetMode, Window};
use crate::quota::MAX_CAPACITY;
use crate::redis::servers::{Flavor, Server};

fn connect(server: &Server) -> redis::Connection {
    redis::Client::open(server.url()).unwrap().get_connection().unwrap()
}

/// Returns the reply to a call on a key with injected time. The server's own time must not expire the key, even if a
/// busy machine delays this thread's next command.
fn persistent(call: Cmd, key: &[u8], server: &mut redis::Connection) -> Vec<u8> {
    let mut both = redis::pipe();
    both.atomic().add_command(call).cmd("PERSIST").arg(key).ignore();
    let (answer,): (Vec<u8>,) = both.query(server).unwrap();
    answer
}

/// Reads a reply that contains exactly this number of asks.
fn read(answer: &[u8], asks: usize) -> Option<ScriptReply<'_>> {
    let total = asks * ScriptReply::RECORD;
    ScriptReply::read(answer, total, 0..total)
}

/// The two algorithms in parallel on one key.
struct Twins {
    server: redis::Connection,
    key: Vec<u8>,
    bucket_ms: u64,
    horizon: Retention,
    window: Option<Window>,
    steps: usize,
}

/// A key that only the script decides.
struct Key {
    server: redis::Connection,
    name: Vec<u8>,
}

impl Key {
    /// Returns whether one unit is admitted, the units then used, and the tick at which one fits.
    fn ask(&mut self, now_ms: u64, bucket_ms: u64, capacity: u64, window_ms: u64) -> (bool, u64, u64) {
        let window = u32::try_from(window_ms.div_ceil(bucket_ms)).unwrap();
        let limits = [Limit { capacity, hard: capacity, window, span: window, ticks_in_200ms: 1 }];
        let horizon = Retention::new(Retention::WORDS_PER_SPAN);
        assert!(horizon.widen(&[window]));
        let policy = EncodedPolicy::decide(bucket_ms, &horizon, Mode::Absolute, &limits);
        let (mut packed, ask, time) = (Vec::new(), Ask { cost: 1, random: 0 }, now_ms.to_string());
        ask.write(&mut packed);
        let args = [policy.as_bytes(), time.as_bytes(), &packed];
        let answer: Vec<u8> = DECIDE.eval(&[&self.name], args).query(&mut self.server).unwrap();
        let answer = read(&answer, 1).unwrap();
        let outcome = answer.outcome(0, ask, &limits, now_ms / bucket_ms).unwrap();
        (outcome.is_allowed(), outcome.used, outcome.fits_at)
    }

    fn ttl(&mut self) -> i64 {
        redis::cmd("PTTL").arg(&self.name).query(&mut self.server).unwrap()
    }
}

/// A rolling deployment: half of the instances use one bucket size, and half another.
#[test]
fn a_value_with_other_buckets_is_converted_and_never_reset() {
    let server = Server::start(Flavor::Debian);
    for (case, (a, b)) in [(10, 100), (100, 10), (7, 30), (1, 250)].into_iter().enumerate() {
        let mut key = Key { server: connect(&server), name: format!("buckets{case}").into() };
        let (window_ms, capacity) = (1_000, 20);
        let mut random = fastrand::Rng::with_seed(case as u64);
        let (mut now, mut admitted, mut refused_in_vain): (u64, Vec<u64>, u32) = (DAY, Vec::new(), 0);
        for _ in 0..1_500 {
            now += random.u64(0..90);
            // One writer runs for a while, then the other.
            let bucket_ms = if random.u32(0..8) == 0 || now / 700 % 2 == 0 { a } else { b };
            let live = |past: u64| admitted.iter().filter(|&&at| at + past > now).count() as u64;
            let (is_allowed, used, _) = key.ask(now, bucket_ms, capacity, window_ms);
            if is_allowed {
                assert!(live(window_ms) < capacity, "{a} and {b} ms: {used} used");
                admitted.push(now);
            } else if live(window_ms + 2 * (a + b)) < capacity {
                refused_in_vain += 1;
            }
            assert!(key.ttl() > 0, "a key without a time to live");
        }
        assert!(admitted.len() > 200, "{}", admitted.len());
        // Each conversion may raise a stamp by a bucket. One side writes a unit, and the other reads it.
        assert!(refused_in_vain < 60, "{a} and {b} ms: {refused_in_vain}");
    }
}

#[test]
fn a_step_back_of_an_hour_refuses_for_a_window_and_not_for_an_hour() {
    let server = Server::start(Flavor::Debian);
    let mut key = Key { server: connect(&server), name: b"hour".to_vec() };
    for n in 0..5 {
        assert!(key.ask(DAY + n, 10, 5, 1_000).0);
    }
    assert!(!key.ask(DAY + 500, 10, 5, 1_000).0);
    let back = DAY - 3_600_000;
    assert!(!key.ask(back, 10, 5, 1_000).0, "the units admitted just before still count");
    assert!(!key.ask(back + 900, 10, 5, 1_000).0);
    assert!(key.ask(back + 1_020, 10, 5, 1_000).0, "the wait is not an hour");
    assert!(key.ttl() > 0 && key.ttl() < 10_000);
}

#[test]
fn a_step_back_of_less_than_a_window_is_waited_for() {
    let server = Server::start(Flavor::Debian);
    let mut key = Key { server: connect(&server), name: b"back".to_vec() };
    assert!(key.ask(DAY + 900, 10, 1, 1_000).0);
    assert!(!key.ask(DAY, 10, 1, 1_000).0);
    assert!(!key.ask(DAY + 1_899, 10, 1, 1_000).0, "the unit is held for its window from its admission");
    assert!(key.ask(DAY + 1_910, 10, 1, 1_000).0);
}

/// A key that expires before its newest unit frees that unit too early. A key without a time to live never expires.
#[test]
fn a_key_lives_for_as_long_as_its_newest_unit_counts() {
    let server = Server::start(Flavor::Debian);
    for (case, (bucket_ms, window_ms)) in
        [(10, 1_000_u64), (100, 1_000), (1, 60_000), (7, 1_000)].into_iter().enumerate()
    {
        let mut key = Key { server: connect(&server), name: format!("life{case}").into() };
        let span = window_ms.div_ceil(bucket_ms);
        let mut newest = 0;
        // The times are the start of a bucket, later, the end of a bucket, and after a step back.
        for now in [0, 333, 999, 250].map(|ms| DAY.next_multiple_of(bucket_ms) + ms) {
            let began = std::time::Instant::now();
            assert!(key.ask(now, bucket_ms, 100, window_ms).0);
            let ttl = u64::try_from(key.ttl()).unwrap();
            let passed = u64::try_from(began.elapsed().as_millis()).unwrap() + 1;
            newest = newest.max(now / bucket_ms);
            let counts = (newest + span + 1) * bucket_ms - now;
            assert!(ttl + passed >= counts, "{ttl} ms for a unit that counts for {counts} ms");
            assert!(ttl <= counts + (span / 8 + 3) * bucket_ms, "{ttl} ms for a unit that counts for {counts} ms");
        }
    }
}

impl Twins {
    fn call(&mut self, script: &Script, args: &[&[u8]]) -> Vec<u8> {
        persistent(script.evalsha(&[&self.key], args.iter().copied()), &self.key, &mut self.server)
    }

    fn decide(&mut self, now_ms: u64, asks: &[Ask], mode: Mode, limits: &[Limit]) {
        let policy = EncodedPolicy::decide(self.bucket_ms, &self.horizon, mode, limits);
        let mut packed = Vec::new();
        asks.iter().for_each(|ask| ask.write(&mut packed));
        let time = now_ms.to_string();
        let answer = self.call(&DECIDE, &[policy.as_bytes(), time.as_bytes(), &packed]);
        let answer = read(&answer, asks.len()).unwrap();
        assert_eq!(answer.now_ms, now_ms);
        let mut now = now_ms / self.bucket_ms;
        if let Some(window) = &mut self.window {
            now = window.follow(now, &self.horizon);
            if mode == Mode::Suppressed {
                window.trim(now);
            }
        }
        for (index, ask) in asks.iter().enumerate() {
            let outcome = answer.outcome(index, *ask, limits, now).unwrap();
            let mut window = self.window.clone().unwrap_or_else(|| Window::new(now));
            let expected = match mode {
                Mode::Suppressed => engine::suppressed(&mut window, now, ask.cost, limits, &self.horizon, ask.random),
                _ => engine::absolute(&mut window, now, ask.cost, limits, &self.horizon, mode == Mode::Absolute),
            };
            assert_eq!(outcome, expected, "step {} at {now}, ask {ask:?} of {}, {limits:?}", self.steps, asks.len());
            if self.window.is_some() || (expected.is_allowed() && ask.cost > 0 && mode != Mode::Peek) {
                self.window = Some(window);
            }
            self.steps += 1;
        }
    }

    fn factor(&mut self, now_ms: u64, limits: &[Limit]) {
        let policy = EncodedPolicy::decide(self.bucket_ms, &self.horizon, Mode::Factor, limits);
        let mut packed = Vec::new();
        Ask { cost: 1, random: 0 }.write(&mut packed);
        let time = now_ms.to_string();
        let answer = self.call(&DECIDE, &[policy.as_bytes(), time.as_bytes(), &packed]);
        let now = now_ms / self.bucket_ms;
        let mut window = self.window.clone().unwrap_or_else(|| Window::new(now));
        let now = window.follow(now, &self.horizon);
        window.trim(now);
        let expected = engine::factor(&mut window, now, limits);
        assert_eq!(read(&answer, 1).unwrap().factor(0), Some(expected), "step {}", self.steps);
        self.steps += 1;
    }

    fn correct(&mut self, now_ms: u64, span: u32, correction: Correction) {
        let policy = EncodedPolicy::correct(self.bucket_ms, &self.horizon, span, correction);
        let time = now_ms.to_string();
        let answer = self.call(&CORRECT, &[policy.as_bytes(), time.as_bytes()]);
        let answer = CorrectionReply::read(&answer).unwrap();
        let now = now_ms / self.bucket_ms;
        let known = self.window.is_some();
        let mut window = self.window.take().unwrap_or_else(|| Window::new(now));
        let now = window.follow(now, &self.horizon);
        let before = window.used(now, span);
        assert_eq!(answer.before, before, "step {} {correction:?}", self.steps);
        self.steps += 1;
        match correction {
            Correction::Set { comparator, count, mode } => {
                assert_eq!(answer.done, comparator.matches(before));
                if answer.done {
                    window.set(now, count, mode, span, &self.horizon);
                }
                let is_kept =
                    (known || (answer.done && count > 0)) && !(answer.done && window.is_empty(now, &self.horizon));
                self.window = is_kept.then_some(window);
            }
            Correction::Refund { stamp, units } => {
                window.refund(now, stamp, units, &self.horizon);
                self.window = known.then_some(window);
            }
            Correction::Delete => return assert_eq!(answer.done, known),
            // An engine's window has no holds; `holds.rs` compares them with a model.
            Correction::Hold { .. } => return,
        }
        let after = self.window.as_ref().map_or(0, |window| window.used(now, span));
        assert_eq!(answer.after, after, "step {} {correction:?}", self.steps);
    }
}

/// One configuration: limits as (capacity, hard, window), words per span, and the first instant.
struct Setup {
    limits: &'static [(u64, u64, u32)],
    words: usize,
    bucket_ms: u64,
    start_ms: u64,
    most_gap_ms: u64,
    suppressed: bool,
}

const DAY: u64 = 1_790_000_000_000;
/// Shortly before the low 32 bits of a tick wrap, with 10 ms buckets.
const WRAP: u64 = 417 * (1 << 32) * 10 - 2_000;

const SETUPS: &[Setup] = &[
    Setup { limits: &[(20, 20, 100)], words: 256, bucket_ms: 10, start_ms: DAY, most_gap_ms: 120, suppressed: false },
    Setup { limits: &[(200, 200, 100)], words: 8, bucket_ms: 10, start_ms: WRAP, most_gap_ms: 40, suppressed: false },
    Setup { limits: &[(7, 7, 6)], words: 4, bucket_ms: 100, start_ms: DAY + 1, most_gap_ms: 400, suppressed: false },
    Setup {
        limits: &[(5, 5, 10), (40, 40, 200), (300, 300, 3_000)],
        words: 16,
        bucket_ms: 10,
        start_ms: WRAP,
        most_gap_ms: 60,
        suppressed: false,
    },
    // The running total wraps around every few admissions.
    Setup {
        limits: &[(MAX_CAPACITY, MAX_CAPACITY, 100)],
        words: 16,
        bucket_ms: 10,
        start_ms: DAY,
        most_gap_ms: 40,
        suppressed: false,
    },
    Setup { limits: &[(50, 75, 100)], words: 256, bucket_ms: 10, start_ms: WRAP, most_gap_ms: 20, suppressed: true },
    Setup { limits: &[(600, 600, 600)], words: 16, bucket_ms: 10, start_ms: DAY, most_gap_ms: 30, suppressed: true },
    // More units are shed than a slot can count.
    Setup {
        limits: &[(1 << 36, 3 << 35, 100)],
        words: 32,
        bucket_ms: 10,
        start_ms: DAY,
        most_gap_ms: 20,
        suppressed: true,
    },
    Setup {
        limits: &[(12, 15, 20), (100, 200, 300)],
        words: 32,
        bucket_ms: 10,
        start_ms: DAY + 7,
        most_gap_ms: 25,
        suppressed: true,
    },
];

impl Setup {
    fn limits(&self) -> Vec<Limit> {
        let ticks_in_200ms = u32::try_from(200_u64.div_ceil(self.bucket_ms)).unwrap();
        let limit = |&(capacity, hard, window)| Limit { capacity, hard, window, span: window, ticks_in_200ms };
        self.limits.iter().map(limit).collect()
    }

    fn twins(&self, server: &Server) -> Twins {
        let horizon = Retention::new(self.words);
        assert!(horizon.widen(&self.limits().iter().map(|limit| limit.span).collect::<Vec<_>>()));
        let key = format!("twins:{:?}", self.limits).into_bytes();
        let mut connection = connect(server);
        for script in [&*DECIDE, &*CORRECT] {
            let _: String = redis::cmd("SCRIPT").arg("LOAD").arg(script.body).query(&mut connection).unwrap();
        }
        Twins { server: connection, key, bucket_ms: self.bucket_ms, horizon, window: None, steps: 0 }
    }
}

fn trace(setup: &Setup, steps: usize, server: &Server) -> usize {
    let (mut limits, mut twins) = (setup.limits(), setup.twins(server));
    let mut random = fastrand::Rng::with_seed(setup.start_ms + steps as u64);
    let (mut now, mut latest, mut stamp) = (setup.start_ms, setup.start_ms, 0);
    let longest = limits.iter().map(|limit| u64::from(limit.window)).max().unwrap();
    let largest = limits.iter().map(|limit| limit.capacity).min().unwrap();
    while twins.steps < steps {
        match random.u32(0..40) {
            0..20 => {}
            20..38 => now += random.u64(0..setup.most_gap_ms),
            38 => now += random.u64(0..40 * setup.most_gap_ms),
            // The clock steps back, by less than the shortest window or by any time; at the end it is corrected.
            _ if random.bool() => now = latest - random.u64(0..u64::from(limits[0].window) * setup.bucket_ms / 2),
            _ => now = latest - random.u64(0..3 * longest * setup.bucket_ms),
        }
        latest = latest.max(now);
        let mut ask = || {
            let cost = match random.u32(0..20) {
                0 => 0,
                1..14 => 1,
                14..18 => random.u64(1..=2 + largest / 4),
                _ => random.u64(1..=largest + 2),
            };
            Ask { cost, random: random.u32(..) }
        };
        let asks: Vec<Ask> = (0..[1, 1, 1, 2, 5][twins.steps % 5]).map(|_| ask()).collect();
        let mode = match random.u32(0..30) {
            0 | 1 => Mode::Peek,
            2 if setup.suppressed => Mode::Absolute,
            _ if setup.suppressed => Mode::Suppressed,
            _ => Mode::Absolute,
        };
        twins.decide(now, &asks, mode, &limits);
        let span = limits[0].span;
        match random.u32(0..400) {
            0..8 => twins.factor(now, &limits),
            8 => stamp = now / setup.bucket_ms,
            9..20 => twins.correct(now, span, Correction::Refund { stamp, units: random.u64(0..4) }),
            20..28 => {
                stamp = now / setup.bucket_ms;
                twins.correct(now, span, Correction::Refund { stamp, units: random.u64(0..4) });
            }
            28..44 => {
                let comparator = match random.u32(0..5) {
                    0 => RateLimitComparator::Always,
                    1 => RateLimitComparator::Eq(random.u64(0..largest)),
                    2 => RateLimitComparator::Ne(random.u64(0..largest)),
                    3 => RateLimitComparator::Lt(random.u64(0..=largest)),
                    _ => RateLimitComparator::Gt(random.u64(0..largest)),
                };
                let replace = SetMode::Replace { age: random.u32(0..=span) };
                let mode = [replace, SetMode::Newest, SetMode::Oldest][random.usize(0..3)];
                let count = random.u64(0..=largest);
                twins.correct(now, span, Correction::Set { comparator, count, mode });
            }
            44 => twins.correct(now, span, Correction::Delete),
            // A limit is an argument, so it may change at any time.
            45 if limits[0].capacity > 2 => {
                let capacity = random.u64(1..=2 * setup.limits[0].0).min(MAX_CAPACITY);
                (limits[0].capacity, limits[0].hard) = (capacity, capacity * 3 / 2);
            }
            _ => {}
        }
    }
    twins.steps
}

#[test]
fn script_and_engine_agree_on_120_000_steps() {
    let server = Server::start(Flavor::Debian);
    let steps: usize = SETUPS.iter().map(|setup| trace(setup, 18_000, &server)).sum();
    assert!(steps >= 120_000, "{steps}");
}
