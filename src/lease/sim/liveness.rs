//! How much of a limit is used, how many requests are refused unnecessarily, and the number of calls.

use super::setup::{BUCKET_MS, CALM, MS, SECOND, Setup, Without};
use super::world::World;

/// The result of one course.
struct Figures {
    /// The peak of a window and the admitted units, as parts of the available units.
    peak: f64,
    used: f64,
    /// The part of the requests that were refused, although one exact limiter for all would have admitted them.
    refused_in_vain: f64,
    calls_per_second: f64,
}

fn figures(setup: Setup) -> Figures {
    let (window, until) = (setup.window_us(), setup.until);
    let period = window + BUCKET_MS * 1_000;
    let world = World::run(setup);
    let capacity = world.setup.capacity() as f64;
    // The measurement starts after the first windows.
    let windows = (until - 2 * window) / period;
    let vain = world.central_admitted.saturating_sub(world.admitted);
    Figures {
        peak: world.peak_from(0) as f64 / capacity,
        used: world.ledger.units(until - windows * period, until) as f64 / (capacity * windows as f64),
        refused_in_vain: vain as f64 / world.offered as f64,
        calls_per_second: world.calls as f64 / (until as f64 / SECOND as f64),
    }
}

/// Runs one course at both loads, and returns the figures that miss their bound.
fn row(instances: usize, per_second: u64, window_ms: u64, sync_ms: u64, is_skewed: bool) -> Option<String> {
    let run = |load: f64| {
        // Small limits run fast, and need more windows to distinguish a fault from chance.
        let windows = if per_second <= 100 { 60 } else { 8 };
        let until = windows.min(if window_ms == 1_000 { 60 } else { 20 }) * window_ms * MS;
        figures(Setup {
            seed: instances as u64 + per_second + sync_ms,
            instances,
            per_second,
            window_ms,
            sync_ms,
            tolerance: 0.0,
            load: vec![(0, load)],
            is_skewed,
            until,
            faults: CALM,
            changes: Vec::new(),
            long: (0, 0),
            heavy: (0, 0),
            without: Without::Nothing,
        })
    };
    let (below, above) = (run(0.8), run(10.0));
    let skew = if is_skewed { "zipf" } else { "even" };
    println!(
        "{instances:>3} | {per_second:>6}/s | {:>2} s | {sync_ms:>3} ms | {skew} | {:+.1} % | {:.1} % | {:.2} % | {:.0} | {:.0}",
        window_ms / 1_000,
        100.0 * (above.peak.max(below.peak) - 1.0),
        100.0 * above.used,
        100.0 * below.refused_in_vain,
        above.calls_per_second,
        below.calls_per_second,
    );
    let is_good = above.peak <= 1.0 && below.peak <= 1.0 && above.used >= 0.98 && below.refused_in_vain <= 0.02;
    (!is_good).then(|| format!("{instances} instances, {per_second}/s, {window_ms} ms, every {sync_ms} ms, {skew}"))
}

#[test]
fn the_limit_is_used_and_few_requests_are_refused_unnecessarily() {
    println!(
        "  N |    limit |    W |   sync | skew | peak over | used at 10x | needless refusals at 0.8x | calls/s at 10x | at 0.8x"
    );
    let mut misses = Vec::new();
    for instances in [2, 4, 16, 64] {
        for per_second in [10, 100, 1_000, 10_000] {
            for (window_ms, sync_ms, is_skewed) in
                [(1_000, 10, false), (1_000, 100, true), (1_000, 100, false), (10_000, 10, true), (10_000, 100, true)]
            {
                if per_second == 10_000 && window_ms == 10_000 && instances != 4 {
                    continue;
                }
                misses.extend(row(instances, per_second, window_ms, sync_ms, is_skewed));
            }
        }
    }
    assert!(misses.is_empty(), "{misses:#?}");
}
