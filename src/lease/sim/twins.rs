//! The model against the script on a real server: the same calls, and equal replies.

use super::judge::Ledger;
use super::model::{Model, Policy};
use crate::correction::RateLimitComparator;
use crate::engine::{Limit, Outcome, Retention, SetMode};
use crate::redis::servers::{Flavor, Server};
use crate::script::{
    Ask, CORRECT, Correction, CorrectionReply, DECIDE, EncodedPolicy, LeaseId, Lending, Mode, Report, ReportKind,
    Script, ScriptReply, SyncReply, SyncRequest,
};

const DAY: u64 = 1_790_000_000_000;
/// Shortly before the low 32 bits of a tick wrap, with 10 ms buckets.
const WRAP: u64 = 417 * (1 << 32) * 10 - 2_000;

/// The script alone, on one key.
pub(super) struct Real {
    server: redis::Connection,
    key: Vec<u8>,
    horizon: Retention,
    bucket_ms: u64,
}

impl Real {
    pub(super) fn new(server: &Server, key: &str, horizon: Retention, bucket_ms: u64) -> Self {
        let server = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
        Self { server, key: key.into(), horizon, bucket_ms }
    }

    fn call(&mut self, script: &Script, args: &[&[u8]]) -> Vec<u8> {
        let command = script.evalsha(&[&self.key], args.iter().copied());
        let answer = command.query(&mut self.server).or_else(|error: redis::RedisError| {
            assert_eq!(error.code(), Some("NOSCRIPT"), "{error}");
            script.eval(&[&self.key], args.iter().copied()).query(&mut self.server)
        });
        // The test injects the time, so the server's own time must not expire the key.
        let _: i64 = redis::cmd("PERSIST").arg(&self.key).query(&mut self.server).unwrap();
        answer.unwrap()
    }

    pub(super) fn sync(
        &mut self,
        now_ms: u64,
        request: &SyncRequest,
        asks: &[Ask],
        policy: Policy<'_>,
    ) -> (Vec<Outcome>, SyncReply) {
        let Policy { limits, lending } = policy;
        let bytes = EncodedPolicy::lend(self.bucket_ms, &self.horizon, Mode::Absolute, limits, lending);
        let time = now_ms.to_string();
        let answer = self.call(&DECIDE, &[bytes.as_bytes(), time.as_bytes(), &request.bytes(asks)]);
        let total = asks.len() * ScriptReply::RECORD + SyncReply::BYTES;
        let answered = ScriptReply::read(&answer, total, 0..total).unwrap();
        let lent = SyncReply::read(answered.behind(asks.len()).unwrap(), limits.len()).unwrap();
        let now = now_ms / self.bucket_ms;
        let outcome = |(index, ask): (usize, &Ask)| answered.outcome(index, *ask, limits, now).unwrap();
        let outcomes = if lent.is_lost { Vec::new() } else { asks.iter().enumerate().map(outcome).collect() };
        (outcomes, lent)
    }

    fn correct(&mut self, now_ms: u64, span: u32, correction: Correction) -> CorrectionReply {
        let policy = EncodedPolicy::correct(self.bucket_ms, &self.horizon, span, correction);
        let answer = self.call(&CORRECT, &[policy.as_bytes(), now_ms.to_string().as_bytes()]);
        CorrectionReply::read(&answer).unwrap()
    }

    /// The number of leases and marks of reports in the value.
    fn listed(&mut self) -> u16 {
        let value: Vec<u8> = redis::cmd("GET").arg(&self.key).query(&mut self.server).unwrap();
        u16::from_le_bytes([value[30], value[31]])
    }

    fn lose(&mut self) {
        let _: i64 = redis::cmd("DEL").arg(&self.key).query(&mut self.server).unwrap();
    }
}

/// One course of calls.
struct Course {
    limits: &'static [(u64, u32)],
    bucket_ms: u64,
    start_ms: u64,
    most_gap_ms: u64,
    lending: Lending,
}

const fn every(interval_ms: u32, tolerance: f64) -> Lending {
    Lending { interval_ms, tolerance }
}

const COURSES: &[Course] = &[
    Course { limits: &[(30, 100)], bucket_ms: 10, start_ms: DAY, most_gap_ms: 60, lending: every(10, 0.0) },
    Course { limits: &[(30, 100)], bucket_ms: 10, start_ms: WRAP, most_gap_ms: 60, lending: every(100, 0.05) },
    Course { limits: &[(4_000, 200)], bucket_ms: 10, start_ms: DAY, most_gap_ms: 60, lending: every(50, 0.2) },
    Course { limits: &[(1_000, 100)], bucket_ms: 10, start_ms: WRAP, most_gap_ms: 300, lending: every(50, 0.0) },
    Course { limits: &[(40, 20), (300, 200)], bucket_ms: 10, start_ms: DAY, most_gap_ms: 80, lending: every(10, 0.0) },
    Course {
        limits: &[(9, 6), (60, 200)],
        bucket_ms: 100,
        start_ms: DAY + 7,
        most_gap_ms: 500,
        lending: every(2_000, 0.0),
    },
    Course {
        limits: &[(40, 20), (150, 100), (200, 200)],
        bucket_ms: 10,
        start_ms: DAY,
        most_gap_ms: 80,
        lending: every(30, 0.1),
    },
];

/// The source of random calls.
struct Caller {
    random: fastrand::Rng,
    /// The leases given so far: ids and units.
    given: Vec<(LeaseId, u64)>,
    counter: u32,
    largest: u64,
}

impl Caller {
    fn request(&mut self, epoch: u32) -> SyncRequest {
        let random = &mut self.random;
        // Two of the names differ only in the highest bit.
        let nonce = [1, 2, 3, 3 + (1 << 63)][self.counter as usize % 4];
        self.counter += 1;
        let id = match self.given.last() {
            Some(&(id, _)) if random.u32(0..40) == 0 => id,
            _ => LeaseId { nonce, counter: self.counter.div_ceil(4) },
        };
        let expected = match random.u32(0..20) {
            0..9 => 0,
            9 => random.u32(1..),
            _ => epoch,
        };
        let rate = [0.0, 0.001, 0.02, 0.2, 1.0, 30.0, 1e7, -1.0, f64::INFINITY][random.usize(0..9)];
        let wants = random.u32(0..5) > 0;
        let reports = (0..[0, 1, 1, 1, 2, 3][random.usize(0..6)]).map(|_| self.report()).collect();
        let proposed = self.random.u32(1..);
        SyncRequest { id, expected, proposed, rate, shed_units: 0, wants, reports }
    }

    fn report(&mut self) -> Report {
        let random = &mut self.random;
        let (id, units) = match (random.u32(0..12), self.given.len()) {
            // A few ids, so that some repeat.
            (0, _) => (LeaseId { nonce: random.u64(1..5), counter: u32::MAX - random.u32(0..20) }, self.largest / 8),
            (1, _) | (_, 0) => {
                (LeaseId { nonce: random.u64(1..5), counter: random.u32(1 << 30..1 << 31) }, self.largest)
            }
            // The report may be repeated later.
            (2, count) => (self.given[random.usize(0..count)].0, self.largest),
            (_, count) => self.given.swap_remove(random.usize(0..count)),
        };
        let kind = if id.counter > 1 << 31 { ReportKind::Extra } else { ReportKind::Lease };
        let entry = |_| {
            let age = match random.u32(0..12) {
                0 => random.u32(..),
                1 => u32::MAX,
                2 => 0,
                _ => random.u32(0..400),
            };
            (age, if random.u32(0..8) == 0 { random.u64(0..=2 * units + 2) } else { random.u64(0..=units / 2 + 1) })
        };
        Report { id, kind, spent: (0..4).map(entry).collect() }
    }

    fn asks(&mut self) -> Vec<Ask> {
        let random = &mut self.random;
        let count = [0, 0, 1, 1, 3][random.usize(0..5)];
        let largest = self.largest;
        let cost = |random: &mut fastrand::Rng| match random.u32(0..10) {
            0 => 0,
            1..8 => random.u64(1..=1 + largest / 10),
            _ => random.u64(1..=largest + 1),
        };
        (0..count).map(|_| Ask { cost: cost(random), random: random.u32(..) }).collect()
    }
}

impl Course {
    fn limits(&self) -> Vec<Limit> {
        let ticks_in_200ms = u32::try_from(200_u64.div_ceil(self.bucket_ms)).unwrap();
        let limit = |&(capacity, window)| Limit { capacity, hard: capacity, window, span: window, ticks_in_200ms };
        self.limits.iter().map(limit).collect()
    }

    fn run(&self, server: &Server, case: usize, steps: usize) -> u64 {
        let (mut limits, horizon) = (self.limits(), Retention::new(Retention::WORDS_PER_SPAN));
        assert!(horizon.widen(&limits.iter().map(|limit| limit.span).collect::<Vec<_>>()));
        let mut model = Model::new(self.bucket_ms, horizon.keep());
        let mut real = Real::new(server, &format!("lease{case}"), horizon, self.bucket_ms);
        let largest = limits.iter().map(|limit| limit.capacity).min().unwrap();
        let random = fastrand::Rng::with_seed(case as u64);
        let mut caller = Caller { random, given: Vec::new(), counter: 0, largest };
        let (mut now, mut latest, mut lent_units) = (self.start_ms, self.start_ms, 0);
        let shortest = u64::from(limits[0].window) * self.bucket_ms;
        for step in 0..steps {
            match caller.random.u32(0..60) {
                0..20 => {}
                20..57 => now += caller.random.u64(0..self.most_gap_ms),
                57 => now += caller.random.u64(0..40 * self.most_gap_ms),
                // The clock steps back, by less than a window in all.
                _ => now = latest - caller.random.u64(0..shortest - self.bucket_ms),
            }
            latest = latest.max(now);
            let lending = match caller.random.u32(0..20) {
                0 => Lending { interval_ms: 2 * self.lending.interval_ms, ..self.lending },
                _ => self.lending,
            };
            let ended = model.ended;
            model.end(now);
            if model.ended > ended {
                real.lose();
            }
            let (request, asks) = (caller.request(model.epoch), caller.asks());
            let policy = Policy { limits: &limits, lending };
            let (outcomes, lent) = model.sync(now, &request, &asks, policy);
            let (real_outcomes, real_lent) = real.sync(now, &request, &asks, policy);
            let told = || format!("course {case}, step {step} at {now}: {request:?} {asks:?} {policy:?}");
            assert_eq!(real_lent, lent, "{}", told());
            assert_eq!(real_outcomes.len(), outcomes.len());
            for (real, outcome) in real_outcomes.iter().zip(&outcomes) {
                let key = |outcome: &Outcome| {
                    (
                        outcome.verdict,
                        outcome.binding,
                        outcome.violated,
                        outcome.used,
                        outcome.newest,
                        outcome.fits_at,
                        outcome.used_then,
                    )
                };
                assert_eq!(key(real), key(outcome), "{}", told());
            }
            if lent.units > 0 {
                caller.given.push((request.id, lent.units));
                lent_units += lent.units;
            }
            let span = limits[0].span;
            match caller.random.u32(0..300) {
                0..4 => {
                    model.delete(now);
                    real.correct(now, span, Correction::Delete);
                }
                4..10 => {
                    let count = caller.random.u64(0..=largest);
                    let (comparator, mode) = (RateLimitComparator::Always, SetMode::Replace { age: 0 });
                    let corrected = real.correct(now, span, Correction::Set { comparator, count, mode });
                    assert_eq!((corrected.before, corrected.after), model.set(now, span, count), "{}", told());
                }
                10 => {
                    model.lose();
                    real.lose();
                }
                11..14 => {
                    limits[0].capacity = caller.random.u64(1..=2 * self.limits[0].0);
                    limits[0].hard = limits[0].capacity;
                }
                _ => {}
            }
        }
        lent_units
    }
}

#[test]
fn model_and_script_agree_on_35_000_steps() {
    let server = Server::start(Flavor::Debian);
    for (case, course) in COURSES.iter().enumerate() {
        let lent = course.run(&server, case, 5_000);
        assert!(lent > 2_000, "course {case}: {lent} units were leased");
    }
}

/// A lease: the units left, its deadline, and when units were spent.
#[derive(Clone)]
struct Holding {
    id: LeaseId,
    left: u64,
    until: u64,
    uses: Vec<(u64, u64)>,
}

/// A full log merges units, which then become free later, and never earlier.
#[test]
fn a_full_log_frees_no_unit_early() {
    let server = Server::start(Flavor::Debian);
    for (case, words) in [4, 8, 16].into_iter().enumerate() {
        let (bucket_ms, window_ms, capacity) = (10, 1_000, 200);
        let limits = [Limit { capacity, hard: capacity, window: 100, span: 100, ticks_in_200ms: 20 }];
        let horizon = Retention::new(words);
        assert!(horizon.widen(&[100]));
        let mut real = Real::new(&server, &format!("full{case}"), horizon, bucket_ms);
        let mut random = fastrand::Rng::with_seed(case as u64);
        let policy = Policy { limits: &limits, lending: every(40, 0.0) };
        let mut held: Vec<Option<Holding>> = vec![None; 6];
        let (mut now, mut ledger, start) = (DAY, Ledger::default(), DAY);
        for counter in 0..6_000 {
            now += random.u64(0..12);
            let mine = &mut held[random.usize(0..6)];
            if let Some(Holding { left, until, uses, .. }) = mine
                && now < *until
                && *left > 0
                && random.u32(0..3) > 0
            {
                let units = random.u64(1..=*left);
                *left -= units;
                uses.push((now, units));
                ledger.admit(now, units);
                continue;
            }
            let entry = |&(at, units): &(u64, u64)| ((now - at) as u32, units);
            let report = |Holding { id, uses, .. }: Holding| {
                assert!(uses.len() <= Report::MOST);
                Report { id, kind: ReportKind::Lease, spent: uses.iter().map(entry).collect() }
            };
            let reports = mine.take().map(report).into_iter().collect();
            let id = LeaseId { nonce: 9, counter };
            let rate = random.f64();
            let request = SyncRequest { id, expected: 0, proposed: 1, rate, shed_units: 0, wants: true, reports };
            let asks = vec![Ask { cost: 1, random: 0 }; random.usize(0..3)];
            let (outcomes, lent) = real.sync(now, &request, &asks, policy);
            ledger.admit(now, outcomes.iter().filter(|outcome| outcome.is_allowed()).count() as u64);
            let until = now + u64::from(lent.life_ms);
            *mine = (lent.units > 0).then(|| Holding { id, left: lent.units, until, uses: Vec::new() });
        }
        ledger.close();
        let (peak, all) = (ledger.peak(window_ms, 0, u64::MAX), ledger.units(0, u64::MAX));
        assert!(peak <= capacity, "{words} words: {peak}");
        assert!(all * window_ms * 2 > capacity * (now - start), "{words} words: {all}");
    }
}

fn real_key(server: &Server, key: &str, window: u32) -> (Real, Limit) {
    let horizon = Retention::new(Retention::WORDS_PER_SPAN);
    assert!(horizon.widen(&[window]));
    (Real::new(server, key, horizon, 10), Limit { capacity: 400, hard: 400, window, span: window, ticks_in_200ms: 20 })
}

/// A call of the instance with this name, without reports.
fn call(nonce: u64, rate: f64, wants: bool) -> SyncRequest {
    let id = LeaseId { nonce, counter: 1 };
    SyncRequest { id, expected: 0, proposed: 1, rate, shed_units: 0, wants, reports: Vec::new() }
}

#[test]
fn a_quarter_of_the_free_units_stays_for_instances_without_a_lease() {
    let server = Server::start(Flavor::Debian);
    let (mut real, limit) = real_key(&server, "reserve", 100);
    let policy = Policy { limits: &[limit], lending: every(50, 0.0) };
    let (_, lent) = real.sync(DAY, &call(1, 1e7, true), &[], policy);
    assert_eq!((lent.units, lent.free), (300, 100));
    let (outcomes, _) = real.sync(DAY, &call(2, 0.0, false), &[100, 1].map(|cost| Ask { cost, random: 0 }), policy);
    assert!(outcomes[0].is_allowed() && !outcomes[1].is_allowed(), "{outcomes:?}");
}

/// Instances that take a lease and never return.
#[test]
fn ended_leases_leave_the_list_and_stay_charged() {
    let server = Server::start(Flavor::Debian);
    let (mut real, limit) = real_key(&server, "ended", 6_000);
    let limits = [Limit { capacity: 100_000, hard: 100_000, ..limit }];
    let policy = Policy { limits: &limits, lending: every(50, 0.0) };
    let (mut now, mut units) = (DAY, 0);
    for nonce in 1..=700 {
        now += 5;
        let (_, lent) = real.sync(now, &call(nonce, 0.02, true), &[], policy);
        assert!(lent.units > 0, "instance {nonce} got no lease");
        units += lent.units;
        assert!(real.listed() <= 512, "{} leases after {nonce}", real.listed());
    }
    now += 10_000;
    let (_, reply) = real.sync(now, &call(701, 0.0, false), &[], policy);
    assert_eq!((real.listed(), reply.used), (0, units));
}

/// The reply to a report may be lost, and the total may change before the report is repeated.
#[test]
fn a_report_counts_once_even_if_the_key_changes() {
    let server = Server::start(Flavor::Debian);
    let set = Correction::Set { comparator: RateLimitComparator::Always, count: 0, mode: SetMode::Replace { age: 0 } };
    for (key, change) in [("set", set), ("delete", Correction::Delete)] {
        let (mut real, limit) = real_key(&server, key, 100);
        let policy = Policy { limits: &[limit], lending: every(50, 0.0) };
        let report = Report { id: LeaseId { nonce: 1, counter: 2 }, kind: ReportKind::Extra, spent: vec![(20, 7)] };
        let request = SyncRequest { reports: vec![report], ..call(1, 0.0, false) };
        assert_eq!(real.sync(DAY, &request, &[], policy).1.used, 7);
        real.correct(DAY + 100, 100, change);
        assert_eq!(real.sync(DAY + 200, &request, &[], policy).1.used, 0, "{key}");
    }
}
