//! Each rule of the protocol on its own, in a world in which it matters.

use std::collections::HashSet;

use super::super::events::{Action, Answer, Reaction, Request, RoundTrip};
use super::super::key_state::KeyState;
use super::super::limit_set::OwnedLimitSet;
use super::super::names::NameSource;
use super::super::params::{StoreContext, StoreParams};
use super::instance::{OwnClock, params};
use super::model::{Model, NOTHING, Policy};
use super::setup::{BUCKET_MS, CALM, Change, Faults, MS, SECOND, Setup, Without};
use super::world::World;
use crate::engine::{Limit, Retention};
use crate::nonce::Nonce;
use crate::quota::Tolerance;
use crate::script::{Ask, LeaseId, Lending, Report, ReportKind, SyncReply, SyncRequest};

fn steady(seed: u64, load: &[(u64, f64)]) -> Setup {
    Setup {
        seed,
        instances: 8,
        per_second: 1_000,
        window_ms: 1_000,
        sync_ms: 100,
        tolerance: 0.0,
        load: load.to_vec(),
        is_skewed: false,
        until: 8 * SECOND,
        faults: CALM,
        changes: Vec::new(),
        long: (0, 0),
        heavy: (0, 0),
        without: Without::Nothing,
    }
}

#[test]
fn instances_need_different_names() {
    let names: HashSet<u64> = (0..1 << 17).map(|_| Nonce::default().get()).collect();
    assert_eq!(names.len(), 1 << 17);
    let run = |name_bits| {
        World::run(Setup { faults: Faults { name_bits, ..CALM }, ..steady(1, &[(0, 0.9), (3 * SECOND, 4.0)]) })
    };
    // Two instances that share a name end each other's leases.
    let (apart, same) = (run(64), run(1));
    assert!(apart.peak_from(0) <= apart.setup.bound());
    assert!(same.peak_from(0) > same.setup.bound(), "{} of {}", same.peak_from(0), same.setup.bound());
    assert!(apart.admitted * 10 >= apart.central_admitted * 9);
}

/// A fork and its parent both spend the units that the parent held, and no others.
#[test]
fn a_fork_gets_its_own_name() {
    for seed in 0..6 {
        // Many units are held when all instances fork, and demand is high afterwards.
        let at = 3 * SECOND;
        let changes = (0..8).map(|parent| (at, Change::Fork(parent))).collect();
        let base = Setup { changes, ..steady(seed, &[(0, 0.5), (at, 1.5)]) };
        let run = |without| World::run(Setup { without, ..base.clone() });
        let (with, without) = (run(Without::Nothing), run(Without::NewName));
        let (bound, later) = (with.setup.bound(), at + with.setup.longest_lease_us());
        assert!(with.forked > 0, "no unit was held");
        assert!(with.peak_from(0) <= bound + with.forked, "{} of {bound} and {}", with.peak_from(0), with.forked);
        assert!(with.peak_from(later) <= bound, "{} of {bound}, seed {seed}", with.peak_from(later));
        assert!(with.admitted * 10 >= with.central_admitted * 9);
        assert!(without.peak_from(later) > bound, "{} of {bound}, seed {seed}", without.peak_from(later));
    }
}

/// A key without requests expires, and this loses no units.
#[test]
fn an_expired_key_is_not_a_lost_key() {
    for seed in 0..4 {
        let bursts: Vec<(u64, f64)> = (0..8).map(|n| (n * 1_700 * MS, if n % 2 == 0 { 0.7 } else { 0.0 })).collect();
        let faults = Faults { drift: 10_000, ..CALM };
        let world = World::run(Setup { faults, until: 14 * SECOND, ..steady(seed, &bursts) });
        assert!(world.model.ended > 1, "{}", world.model.ended);
        assert_eq!(world.lost(), 0);
        assert!(world.peak_from(0) <= world.setup.bound());
        assert!(world.admitted * 100 >= world.central_admitted * 98, "{} {}", world.admitted, world.central_admitted);
    }
}

/// Held units are spent after the change, too, and count then.
#[test]
fn leases_outlive_a_change_through_the_api() {
    for (seed, change) in [(1, Change::Delete), (2, Change::Set(0)), (3, Change::Set(400)), (4, Change::Delete)] {
        // Many units are held and few are spent; then the key is deleted, and demand is high.
        let at = 3 * SECOND;
        let changes = vec![(at, change)];
        let world = World::run(Setup { changes, ..steady(seed, &[(0, 0.3), (at, 8.0)]) });
        let (bound, peak) = (world.setup.bound(), world.peak_from(at));
        assert!(peak <= bound, "{peak} of {bound} after {change:?}");
        assert!(world.admitted * 10 >= world.central_admitted * 9);
    }
}

#[test]
fn a_lowered_limit_holds_at_once() {
    for seed in 0..4 {
        let at = 3 * SECOND;
        let changes = vec![(at, Change::Limit(20))];
        let world = World::run(Setup { changes, ..steady(seed, &[(0, 0.5), (at, 4.0)]) });
        // Leases under the old limit are not spent under the new one; decided requests are still in flight.
        let from = at + MS;
        let peak = world.peak_from(from);
        assert!(peak <= 20, "{peak} of 20");
        assert!(world.ledger.units(from + SECOND, world.setup.until) >= 60);
    }
}

/// A lease of an instance with an inaccurate clock: when each of its units was spent, by true time.
struct Held {
    /// The instance's clock shows so much in a second.
    speed: f64,
    last_tick: u64,
    life_ms: u64,
    answered: u64,
    uses: Vec<u64>,
    /// The report as the server applies it: the tick of the stamp, and the units.
    stamps: Vec<(u64, u64)>,
}

pub(super) fn lent(units: u64, life_ms: u32) -> Answer {
    let reply = SyncReply { units, life_ms, horizon_ms: life_ms, epoch: 1, ..NOTHING };
    Answer { now_ms: 0, outcome: None, reply }
}

/// A key of an instance, driven by the test.
pub(super) struct Key {
    pub(super) state: KeyState,
    pub(super) limits: OwnedLimitSet,
    names: NameSource,
    here: Retention,
    pub(super) params: StoreParams,
}

impl Key {
    pub(super) fn new(now: u64, window: u32) -> Self {
        let (here, params) = (Retention::new(256), params(10));
        assert!(here.widen(&[window + 1]));
        let limit = Limit { capacity: 1 << 20, hard: 1 << 20, window, span: window, ticks_in_200ms: 20 };
        let limits = OwnedLimitSet::new([limit].into(), false, Tolerance::default());
        let state = KeyState::new([].into(), now, &params.geometry);
        Self { state, limits, names: NameSource::with_nonce(1), here, params }
    }

    pub(super) fn start(&mut self, now: u64) -> (RoundTrip, SyncRequest) {
        let store = StoreContext { names: &self.names, retention: &self.here, params: &self.params };
        self.state.start_sync(now, true, store)
    }

    pub(super) fn answer(&mut self, now: u64, (trip, request): &(RoundTrip, SyncRequest), answer: &Answer) -> Reaction {
        let Self { state, limits, names, here, params } = self;
        state.handle_reply(now, trip, request, answer, limits, StoreContext { names, retention: here, params })
    }

    fn spends(&mut self, now: u64) -> bool {
        let request = Request { cost: 1, limits: self.limits.borrow(), is_retry: false };
        match self.state.handle_request(now, &request, &self.params) {
            Action::Decided(decision) | Action::DecidedLow(decision, _) => decision.is_allowed(),
            _ => false,
        }
    }
}

impl Held {
    /// The longest time from the first spent unit to a report of it.
    fn oldest_ms(&self) -> f64 {
        self.life_ms as f64 * 1.3 + 300.0
    }
}

/// What the slower of two clocks shows in a second of the faster one, if each errs by an eighth.
const SLOWEST: f64 = 7.0 / 9.0;

/// The travel time of a message.
fn way(random: &mut fastrand::Rng) -> u64 {
    let most = [300, 4 * MS, 15 * MS][random.usize(0..3)];
    random.u64(200..most)
}

fn hold(random: &mut fastrand::Rng, drift: i64, life_ms: u64) -> Held {
    let clock = OwnClock { offset_us: random.u64(0..1_000 * SECOND), drift };
    let sent = random.u64(500 * SECOND..600 * SECOND);
    let mut key = Key::new(clock.at(sent), 6_000);
    let sync = key.start(clock.at(sent));
    let given = sent + way(random);
    let last_tick = (given / MS + life_ms) / BUCKET_MS;
    let answered = given + way(random);
    key.answer(clock.at(answered), &sync, &lent(1 << 19, life_ms as u32));
    let (mut uses, mut now) = (Vec::new(), answered);
    let end = given + life_ms * MS * 13 / 10 + 50 * MS;
    let step = 1 + life_ms / 2;
    while now < end {
        now += random.u64(0..=step);
        if key.spends(clock.at(now)) {
            uses.push(now);
        }
    }
    now += random.u64(0..200 * MS);
    let report = key.start(clock.at(now)).1.reports.remove(0);
    let arrives_ms = (now + way(random)) / MS;
    let stamp = |&(age, units): &(u32, u64)| ((arrives_ms - u64::from(age)) / BUCKET_MS, units);
    let speed = 1.0 + drift as f64 / 1e6;
    Held { speed, last_tick, life_ms, answered, uses, stamps: report.spent.iter().map(stamp).collect() }
}

fn each_lease(check: impl Fn(&Held)) {
    let mut random = fastrand::Rng::with_seed(7);
    // The shorter a lease's life, the less it hides the lag of a clock.
    for (life_ms, times) in [(60, 400), (200, 40), (1_000, 8), (8_500, 8)] {
        for drift in [-220_000, -100_000, -10_000, 0, 10_000, 100_000, 280_000] {
            for _ in 0..times {
                check(&hold(&mut random, drift, life_ms));
            }
        }
    }
}

/// Units spent before the server's clock stepped back do not become older.
#[test]
fn a_step_back_makes_no_unit_older() {
    let limits = [Limit { capacity: 100, hard: 100, window: 100, span: 100, ticks_in_200ms: 20 }];
    let policy = Policy { limits: &limits, lending: Lending { interval_ms: 100, tolerance: 0.0 } };
    let mut model = Model::new(BUCKET_MS, 100);
    let start = 1_790_000_000_000;
    let id = LeaseId { nonce: 1, counter: 1 };
    let request =
        SyncRequest { id, expected: 0, proposed: 1, rate: 0.2, shed_units: 0, wants: true, reports: Vec::new() };
    let (_, lent) = model.sync(start, &request, &[], policy);
    assert!(lent.units > 10);
    assert!(model.ask(start + 50, Ask { cost: 1, random: 0 }, &limits).is_allowed());
    let report = Report { id, kind: ReportKind::Lease, spent: vec![(50, lent.units)] };
    let request = SyncRequest { id: LeaseId { counter: 2, ..id }, wants: false, reports: vec![report], ..request };
    // The true time is 60 ms later, and the clock is 990 ms behind.
    model.sync(start + 60 - 990, &request, &[], policy);
    assert_eq!(model.used(start + 60 - 990, 100), lent.units + 1);
    assert_eq!(model.used(start + 60 - 990 + 2_000, 100), 0);
}

/// Reported units may be free again on the server, whether its reply arrives or not.
#[test]
fn a_lease_that_was_reported_is_not_spent_again() {
    let mut key = Key::new(1_000, 100);
    let first = key.start(1_000);
    key.answer(1_000, &first, &lent(50, 1_000));
    assert!(key.spends(1_010));
    let second = key.start(1_010);
    assert!(!key.spends(1_010), "while the sync is in flight");
    key.state.abandon(1_010, &second.0);
    assert!(!key.spends(1_010), "after the reply was lost");
    let third = key.start(1_010);
    assert_eq!(third.1.reports[0], second.1.reports[0], "the report is sent until a reply arrives");
    key.answer(1_010, &third, &lent(0, 1_000));
    assert!(!key.spends(1_010), "after a reply without a lease");
    assert!(key.start(1_020).1.reports.is_empty(), "a reply arrived");
}

/// A report in flight is not included in any reply yet.
#[test]
fn an_estimate_counts_what_is_being_reported() {
    let mut key = Key::new(1_000, 100);
    let estimate = |key: &Key| key.state.estimate(1_010, &key.params);
    let first = key.start(1_000);
    key.answer(1_000, &first, &lent(50, 1_000));
    assert!(key.spends(1_010) && estimate(&key) == 1);
    let second = key.start(1_010);
    assert_eq!(estimate(&key), 1, "while the sync is in flight");
    let mut answer = lent(0, 1_000);
    answer.reply.used = 1;
    key.answer(1_010, &second, &answer);
    assert_eq!(estimate(&key), 1, "after the reply");
}

#[test]
fn no_unit_is_spent_after_the_tick_that_it_is_charged_at() {
    each_lease(|held| {
        // The message may travel longer than a short life.
        let (Some(&first), Some(&last)) = (held.uses.first(), held.uses.last()) else {
            return assert!(held.life_ms < 100, "none of {} ms", held.life_ms);
        };
        assert!(last / MS / BUCKET_MS <= held.last_tick, "{last} after {}", held.last_tick);
        // The lease can be used for its life, less the error of the clocks.
        let lost = (held.last_tick * BUCKET_MS * MS).saturating_sub(last);
        let most = held.life_ms as f64 * (1.0 - SLOWEST / held.speed) + 60.0;
        assert!(lost <= most as u64 * MS, "{lost} of {} ms", held.life_ms);
        assert!(first <= held.answered + held.life_ms * MS / 20 + 10 * MS);
    });
}

#[test]
fn no_unit_is_charged_before_it_was_spent() {
    each_lease(|held| {
        let mut uses = held.uses.iter();
        for &(tick, units) in &held.stamps {
            for spent in uses.by_ref().take(units as usize) {
                let spent = spent / MS / BUCKET_MS;
                assert!(tick >= spent, "dated at {tick}, and spent in {spent}");
                // The tolerance is a slot, the clock error in a lease's life and a margin, and the travel time.
                let late = held.oldest_ms() * (1.0 - SLOWEST * held.speed) + held.life_ms as f64 / 16.0 + 60.0;
                let late = late as u64 / BUCKET_MS;
                assert!(tick <= spent + late, "dated at {tick}, and spent in {spent}");
            }
        }
        assert!(uses.next().is_none(), "some units are not reported");
    });
}
