//! Each protection of the protocol: all conditions hold with it, and the simulation finds the fault without it.

use super::super::events::{Action, Request};
use super::model::{Model, Policy};
use super::rules::{Key, lent};
use super::setup::{BUCKET_MS, CALM, Change, Faults, MS, SECOND, Setup, Without};
use super::world::World;
use crate::engine::Limit;
use crate::script::{Ask, LeaseId, Lending, Report, ReportKind, SyncRequest};

const SERVER_MS: u64 = 1_790_000_000_000;

fn setup(load: &[(u64, f64)]) -> Setup {
    Setup {
        seed: 5,
        instances: 4,
        per_second: 1_000,
        window_ms: 1_000,
        sync_ms: 50,
        tolerance: 0.0,
        load: load.to_vec(),
        is_skewed: false,
        until: 10 * SECOND,
        faults: CALM,
        changes: Vec::new(),
        long: (0, 0),
        heavy: (0, 0),
        without: Without::Nothing,
    }
}

/// Runs a course with and without a protection.
fn both(setup: Setup, without: Without) -> (World, World) {
    let (with, without) = (World::run(setup.clone()), World::run(Setup { without, ..setup }));
    let show = |world: &World| (world.admitted, world.central_admitted, world.peak_from(0));
    println!("with {:?}, without {:?}", show(&with), show(&without));
    (with, without)
}

/// The admitted part of what an ideal limiter admits.
fn part(world: &World) -> f64 {
    world.admitted as f64 / world.central_admitted as f64
}

/// Units resubmitted after a step back belong to the current window, and not to an earlier one.
#[test]
fn one_clock_decides_and_stamps() {
    let limit = |window| Limit { capacity: 100, hard: 100, window, span: window, ticks_in_200ms: 20 };
    let limits = [limit(100), limit(1_000)];
    let policy = Policy { limits: &limits, lending: Lending { interval_ms: 100, tolerance: 0.0 } };
    let used = |without| {
        let (mut model, start, id) =
            (Model::new(BUCKET_MS, 1_000).without(without), SERVER_MS, LeaseId { nonce: 1, counter: 1 });
        assert!(model.ask(start, Ask { cost: 1, random: 0 }, &limits).is_allowed());
        let report = Report { id, kind: ReportKind::Extra, spent: vec![(500, 7)] };
        let request =
            SyncRequest { id, expected: 0, proposed: 1, rate: 0.0, shed_units: 0, wants: false, reports: vec![report] };
        // The clock is behind by less than the shorter window.
        let now = start + 60 - 990;
        model.sync(now, &request, &[], policy);
        model.used(now, 100)
    };
    assert_eq!((used(Without::Nothing), used(Without::OneClock)), (8, 1));
}

/// Many replies are lost, and the resubmitted units arrive several times.
#[test]
fn resubmitted_units_count_once() {
    let faults = Faults { loss: 0.4, ..CALM };
    let changes = vec![(4 * SECOND, Change::Forget)];
    // An age errs by up to 2/9.
    let most = |world: &World| world.ledger.surplus(world.setup.window_us() * 11 / 9, 4 * SECOND);
    let (mut held, mut held_without) = (0, 0);
    for seed in 0..10 {
        let base =
            Setup { seed, faults, changes: changes.clone(), instances: 8, until: 6 * SECOND, ..setup(&[(0, 0.6)]) };
        let (with, without) = both(base, Without::Marks);
        println!("held and not admitted: {} and {}", most(&with), most(&without));
        (held, held_without) = (held + most(&with), held_without + most(&without));
    }
    assert!(held * 3 < held_without * 2, "{held} and {held_without}");
}

#[test]
fn a_sync_whose_runtime_stands_still_is_replaced() {
    let faults = Faults { freeze: 0.05, ..CALM };
    let (with, without) = both(Setup { faults, ..setup(&[(0, 0.7)]) }, Without::Takeover);
    assert!(part(&with) > 0.85, "{}", part(&with));
    assert!(part(&without) < part(&with) - 0.2, "{}", part(&without));
    assert!(with.peak_from(0) <= with.setup.bound());
}

#[test]
fn a_report_is_sent_until_a_reply_arrives() {
    let (faults, until) = (Faults { loss: 0.2, ..CALM }, 40 * SECOND);
    let (with, without) = both(Setup { faults, window_ms: 5_000, until, ..setup(&[(0, 0.9)]) }, Without::KeptReports);
    assert!(part(&without) < part(&with) - 0.02, "{} {}", part(&with), part(&without));
    assert!(with.peak_from(0) <= with.setup.bound());
}

/// A cost that the instance cannot be granted does not count as demand for units.
#[test]
fn a_cost_that_does_not_fit_is_not_demand() {
    let mut key = Key::new(1_000, 100);
    let sync = key.start(1_000);
    let mut answer = lent(50, 1_000);
    answer.reply.free = 100;
    key.answer(1_000, &sync, &answer);
    let mut rate_after = |cost: u64, now: u64| {
        for _ in 0..100 {
            let request = Request { cost, limits: key.limits.borrow(), is_retry: false };
            let action = key.state.handle_request(now, &request, &key.params);
            assert!(matches!(action, Action::Sync), "{action:?}");
        }
        let sync = key.start(now);
        key.answer(now, &sync, &answer);
        sync.1.rate
    };
    assert_eq!(rate_after(500, 1_010), 0.0);
    assert!(rate_after(120, 1_020) > 10.0);
}

/// Two limits, heavy costs, stalled runtimes, and a server whose clock steps back by more than the shorter window.
#[test]
fn no_limit_of_several_is_exceeded_with_all_faults_at_once() {
    let mut frozen = 0;
    for seed in 0..12 {
        let sync_ms = [10, 50, 100][seed as usize % 3];
        let changes = [2_100, 4_700, 7_300].map(|at| (at * MS, Change::StepBack(400 * (seed + 1)))).to_vec();
        let world = World::run(Setup {
            seed,
            instances: [2, 4, 16][seed as usize / 4],
            sync_ms,
            changes: if seed % 2 == 0 { changes } else { Vec::new() },
            faults: Faults { freeze: 0.05, ..super::setup::ROUGH },
            long: (20, 8),
            heavy: (5, [3, 60, 1_200][seed as usize % 3]),
            tolerance: [0.0, 0.05][seed as usize % 2],
            per_second: [100, 1_000][seed as usize % 2],
            ..setup(&[(0, 3.0), (2 * SECOND, 0.3), (4 * SECOND, 0.9), (6 * SECOND, 6.0)])
        });
        let (window, bound) = (world.setup.window_us(), world.setup.bound());
        let (peak, long) = (world.ledger.peak(window, 0, u64::MAX), world.ledger.peak(20 * window, 0, u64::MAX));
        assert!(peak <= bound && long <= 8 * bound + 8, "{peak} and {long} of {bound}: {:?}", world.setup);
        assert!(world.admitted * 4 >= bound, "{} of {bound}: {:?}", world.admitted, world.setup);
        frozen += world.frozen;
    }
    assert!(frozen > 100, "{frozen}");
}

/// The window of the step may contain twice the limit; later windows must not, and no request waits for an hour.
#[test]
fn a_step_forward_costs_one_window() {
    for seed in 0..4 {
        let at = 4 * SECOND;
        let changes = vec![(at, Change::StepForward(3_600_000)), (at + 3 * SECOND, Change::StepBack(3_600_000))];
        let world = World::run(Setup { seed, changes, ..setup(&[(0, 3.0)]) });
        let (window, bound) = (world.setup.window_us(), world.setup.bound());
        assert!(world.ledger.peak(window, 0, at - window) <= bound);
        assert!(world.ledger.peak(window, at + window, u64::MAX) <= bound);
        assert!(world.peak_from(0) <= 2 * bound, "{}", world.peak_from(0));
    }
}
