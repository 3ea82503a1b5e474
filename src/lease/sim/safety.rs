//! No window admits more than its limit, whatever goes wrong, and yet the available units are used.

use super::setup::{CALM, Change, Faults, MS, ROUGH, SECOND, Setup, Without};
use super::world::World;

fn setup(seed: u64, instances: usize, per_second: u64, window_ms: u64, sync_ms: u64) -> Setup {
    let window = window_ms * MS;
    Setup {
        seed,
        instances,
        per_second,
        window_ms,
        sync_ms,
        tolerance: [0.0, 0.05][seed as usize % 2],
        // The load is over the limit, far below it, near it, and far above it.
        load: vec![(0, 3.0), (window, 0.3), (2 * window, 0.9), (3 * window, 6.0)],
        is_skewed: seed.is_multiple_of(3),
        until: 5 * window,
        faults: ROUGH,
        changes: Vec::new(),
        long: (0, 0),
        heavy: (0, 0),
        without: Without::Nothing,
    }
}

/// Checks that no window exceeds the bound, all units are accounted for and become free, and enough are admitted.
fn check(world: &World, least_part: f64) {
    let (setup, window) = (&world.setup, world.setup.window_us());
    let told = || {
        format!(
            "{:?} lost {} {setup:?}: {} offered, {} admitted",
            world.model,
            world.lost(),
            world.offered,
            world.admitted
        )
    };
    assert!(world.peak_from(0) <= setup.bound(), "{} of {}: {}", world.peak_from(0), setup.bound(), told());
    assert_eq!(world.ledger.missing(window, 0), 0, "{}", told());
    assert_eq!(world.ledger.held_last(), 0, "{}", told());
    let least = (world.central_admitted as f64 * least_part) as u64;
    assert!(world.admitted >= least, "{} and {least}: {}", world.central_admitted, told());
}

#[test]
fn no_window_exceeds_its_limit_with_all_faults_at_once() {
    let (mut crashes, mut seed) = (0, 0);
    for instances in [2, 4, 16, 64] {
        for per_second in [10, 100, 1_000, 10_000] {
            for (window_ms, sync_ms) in [(1_000, 10), (1_000, 100), (10_000, 10), (10_000, 100)] {
                // Large limits with long windows take longest, and behave like large limits with short windows.
                if window_ms == 10_000 && per_second > [1_000, 100][usize::from(instances != 4)] {
                    continue;
                }
                seed += 1;
                let world = World::run(setup(seed, instances, per_second, window_ms, sync_ms));
                check(&world, 0.25);
                crashes += world.crashes;
            }
        }
    }
    assert!(crashes > 500, "{crashes}");
}

#[test]
fn no_window_exceeds_its_limit_if_half_of_the_messages_are_lost() {
    for seed in 0..4 {
        for (sync_ms, life) in [(10, SECOND), (100, SECOND), (100, 0)] {
            let faults = Faults { loss: 0.5, slow: 0.3, life, ..ROUGH };
            let world = World::run(Setup { faults, ..setup(seed, 16, 1_000, 1_000, sync_ms) });
            check(&world, 0.1);
        }
    }
}

#[test]
fn forks_exceed_a_limit_by_no_more_than_was_held() {
    for seed in 0..8 {
        let fork = |n: usize| (((500 + 470 * n) as u64 * MS), Change::Fork(n % 3));
        let changes = (0..8).map(fork).collect();
        let world = World::run(Setup { changes, ..setup(seed, 4, 1_000, 1_000, [10, 100][seed as usize % 2]) });
        let (peak, bound) = (world.peak_from(0), world.setup.bound());
        assert!(peak <= bound + world.forked, "{peak} of {bound} and {}, seed {seed}", world.forked);
        assert!(world.admitted * 4 >= world.central_admitted, "{} {}", world.admitted, world.central_admitted);
    }
}

/// Leases are long, and clocks are as wrong as allowed. An error of an age is then larger than a bucket.
#[test]
fn clocks_that_run_at_different_speeds_exceed_no_limit() {
    for seed in 0..6 {
        let faults = Faults { drift: 10_000, loss: 0.02, life: 30 * SECOND, ..CALM };
        let load = vec![(0, 0.4), (100 * SECOND, 1.2), (150 * SECOND, 0.2), (180 * SECOND, 4.0)];
        let long = Setup { faults, load, until: 200 * SECOND, ..setup(seed, 4, 50, 60_000, 1_000) };
        let world = World::run(long);
        check(&world, 0.5);
    }
}

/// The clocks of the instances and of the server are slewed apart by 10 % each: chrony does up to 8.3 %, Linux 10 %.
#[test]
fn clocks_that_are_slewed_apart_exceed_no_limit() {
    let run = |drift: i64, seed: u64| {
        // Long leases are spent while little is wanted; then every unit that comes free is wanted.
        let load = vec![(0, 0.45), (60 * SECOND, 6.0)];
        let base =
            Setup { faults: Faults { drift, ..CALM }, load, tolerance: 0.0, ..setup(seed, 8, 50, 60_000, 1_000) };
        World::run(Setup { until: 180 * SECOND, ..base })
    };
    for seed in 0..6 {
        check(&run(200_000, seed), 0.9);
    }
    // The same course finds a break with clocks that are further apart than that.
    let breaks = (0..6).map(|seed| run(600_000, seed)).filter(|world| world.peak_from(0) > world.setup.bound());
    assert!(breaks.count() >= 3);
}

#[test]
fn a_server_that_loses_everything_forgets_no_more_than_it_held() {
    for seed in 0..8 {
        let at = 3 * SECOND + 500 * MS;
        let faults = if seed % 2 == 0 { CALM } else { Faults { life: 0, ..ROUGH } };
        let changes = vec![(at, Change::Forget)];
        let base = setup(seed, [2, 4, 16, 64][seed as usize / 2], 1_000, 1_000, [10, 100][seed as usize % 2]);
        let world = World::run(Setup { changes, faults, load: vec![(0, 5.0)], ..base });
        let (bound, window) = (world.setup.bound(), world.setup.window_us());
        let peak = |from: u64, to: u64| world.ledger.peak(window, from, to);
        assert!(world.forgotten > bound / 2, "{}", world.forgotten);
        assert!(peak(0, at - window) <= bound, "before: {} of {bound}, seed {seed}", peak(0, at - window));
        assert!(peak(at + window, u64::MAX) <= bound, "after: {} of {bound}, seed {seed}", peak(at + window, u64::MAX));
        let most = peak(0, u64::MAX);
        assert!(most <= bound + world.forgotten, "{most} of {bound} and {}", world.forgotten);
        assert!(world.lost() > 0, "no instance learned of the loss");
        // The instances resubmit their admissions. If messages are fast, they do so before many units are leased.
        if seed % 2 == 0 {
            assert!(most * 10 <= bound * 13, "{most} of {bound}, seed {seed}");
        }
        assert!(world.admitted * 2 >= world.central_admitted);
    }
}

#[test]
fn a_clock_of_the_server_that_steps_back_frees_nothing() {
    for seed in 0..6 {
        // Many units are leased and spent at once, and the clock steps back before they are reported.
        let steps = [(2_020 + 15 * seed, 990), (6_500, 400), (8_030 + 15 * seed, 950)];
        let changes = steps.map(|(at, ms)| (at * MS, Change::StepBack(ms))).to_vec();
        let load = (0..12).map(|second| (second * SECOND, [0.3, 0.0, 8.0, 0.6][second as usize % 4])).collect();
        let base = setup(seed, 4, 1_000, 1_000, 100);
        let world = World::run(Setup { changes, load, faults: CALM, until: 12 * SECOND, tolerance: 0.0, ..base });
        let (peak, bound) = (world.peak_from(0), world.setup.bound());
        assert!(peak <= bound, "{peak} of {bound}, seed {seed}");
        assert!(world.admitted * 2 >= world.central_admitted);
    }
}

#[test]
fn lost_units_are_resubmitted() {
    for seed in 0..6 {
        let at = 3 * SECOND;
        let (changes, load) = (vec![(at, Change::Forget)], vec![(0, 0.8), (at + 400 * MS, 8.0)]);
        let base = setup(seed, [2, 4, 16][seed as usize / 2], 1_000, 1_000, [10, 100][seed as usize % 2]);
        let world = World::run(Setup { changes, load, faults: CALM, ..base });
        let (peak, bound) = (world.peak_from(0), world.setup.bound());
        assert!(peak * 10 <= bound * 11, "{peak} of {bound}, seed {seed}");
        assert!(world.admitted * 10 >= world.central_admitted * 9);
    }
}

/// The units held at the end are the admitted ones, each for no longer than a report takes.
#[test]
fn reported_units_are_held_once() {
    for seed in 0..8 {
        let until = 4 * SECOND;
        let faults = Faults { twice: 0.3, drift: 10_000, ..CALM };
        let changes = vec![(until + 20 * MS, Change::GiveBack)];
        let load = vec![(0, [0.3, 0.7, 3.0, 10.0][seed as usize % 4])];
        let base = setup(seed, [2, 16][seed as usize / 4], 1_000, 1_000, [10, 100][seed as usize % 2]);
        let world = World::run(Setup { faults, changes, load, until, ..base });
        check(&world, 0.9);
        // The tolerance is a slot, a bucket, the lag of a clock and its drift, and the travel time.
        let late = world.setup.longest_lease_us() / 16 + 45 * MS;
        let surplus = world.ledger.surplus(world.setup.window_us() + late, until + 60 * MS);
        assert_eq!(surplus, 0, "seed {seed}");
    }
}
