//! The suppressed strategy: it thins the stream below the hard cap, so that an overload is shed smoothly.
//!
//! While all units offered in the window fit the capacity *C*, it admits everything. Beyond that, it admits a request
//! with the ratio
//!
//! ```text
//! q = min(1, C / D * g(f)),   f = admitted in the window / C
//! g(f) = 2 - f                      below the limit
//!        1 - (f - 1) / (h - 1)      above it, 0 at the hard cap h * C; never steeper than 5
//! ```
//!
//! *D* is the demand per window: the units offered in the last window, held within two standard deviations of a fast
//! estimate. The first factor makes the admitted rate independent of the size of the overload. The second factor
//! removes the bias of the estimate: its fixed point is f = 1 for every overload. The hard cap is exact.
//!
//! Error diffusion with a dithered threshold selects the admitted requests, instead of coin flips. Over any sequence,
//! the number of admissions stays within two of q times the requests. Clients that alternate cannot synchronize with
//! it.
//!
//! The demand consists of admitted units, which the window knows exactly, and shed units, which a fixed number of slots
//! counts. The state exists from the first request that does not fit the limit.

use super::absolute::{admit, check_limits};
use super::demand::Demand;
use super::limit::{Limit, Retention};
use super::outcome::Outcome;
use super::window::Window;
use crate::decision::Verdict;

/// The steepest decrease of the feedback per unit of fill above the limit.
///
/// For h = 1.1, the straight line to the hard cap would have a slope of 10. The slope on the other side of the limit is
/// 1. Because of this asymmetry, noise would cost 3 % of the admissions at twice the limit.
const STEEPEST: f64 = 5.0;

/// Decides on `cost` units at tick `now`, and charges them if they are admitted; `random` is uniform.
pub(crate) fn suppressed(
    window: &mut Window,
    now: u64,
    cost: u64,
    limits: &[Limit],
    horizon: &Retention,
    random: u32,
) -> Outcome {
    decide(window, now, cost, limits, horizon, random, false)
}

/// Does the same, for a caller that needs only the verdict and the factor. The other figures may be those from before
/// the decision.
pub(crate) fn suppressed_briefly(
    window: &mut Window,
    now: u64,
    cost: u64,
    limits: &[Limit],
    horizon: &Retention,
    random: u32,
) -> Outcome {
    decide(window, now, cost, limits, horizon, random, true)
}

#[inline]
fn decide(
    window: &mut Window,
    now: u64,
    cost: u64,
    limits: &[Limit],
    horizon: &Retention,
    random: u32,
    briefly: bool,
) -> Outcome {
    let now = window.clamp(now);
    let fit = match check_limits(window, now, cost, limits, |limit| limit.hard) {
        Ok(fit) => fit,
        Err(refusal) => {
            // A cost above the hard cap is not part of the demand, because no such request can be admitted.
            if cost > 0 && limits.iter().all(|limit| cost <= limit.hard) {
                roll(window, now, limits);
                let Share { ratio, .. } = share(window, now, cost, limits);
                start(window, now, limits);
                if let Some(shed) = window.shed_mut() {
                    shed.dither.owe(ratio);
                    shed.record(cost, true);
                }
            }
            return Outcome { verdict: Verdict::Suppressed { is_allowed: false }, factor: 1.0, ..refusal };
        }
    };
    if cost == 0 {
        return fit.outcome;
    }
    let admit = |window: &mut Window| match briefly {
        true => {
            window.charge(now, cost, horizon);
            fit.outcome
        }
        false => admit(window, fit, now, cost, limits, horizon),
    };
    roll(window, now, limits);
    let Share { ratio, tightest, fits } = share(window, now, cost, limits);
    if ratio >= 1.0 {
        if let Some(shed) = window.shed_mut() {
            shed.record(cost, false);
        }
        let outcome = admit(window);
        if fits {
            return outcome;
        }
        return Outcome { verdict: Verdict::Suppressed { is_allowed: true }, factor: factor_in_band(ratio), ..outcome };
    }
    start(window, now, limits);
    let is_allowed = window.shed_mut().is_some_and(|shed| {
        let is_allowed = shed.dither.draw(ratio, random);
        shed.record(cost, !is_allowed);
        is_allowed
    });
    let outcome = match is_allowed {
        true => admit(window),
        false if briefly => fit.outcome,
        false => shed_outcome(window, now, cost, limits, tightest, random),
    };
    Outcome { verdict: Verdict::Suppressed { is_allowed }, factor: factor_in_band(ratio), ..outcome }
}

/// Returns the outcome at the hard cap, for a request that is refused for another reason. It records no demand.
pub(crate) fn at_hard_cap(window: &Window, now: u64, cost: u64, limits: &[Limit]) -> Outcome {
    match check_limits(window, window.clamp(now), cost, limits, |limit| limit.hard) {
        Ok(fit) => fit.outcome,
        Err(full) => Outcome { verdict: Verdict::Suppressed { is_allowed: false }, factor: 1.0, ..full },
    }
}

/// Charges a request that all offered units fit, without a look into the history; see [`Window::charge_unexpired`].
#[inline]
pub(crate) fn charge_unshed(
    window: &mut Window,
    now: u64,
    cost: u64,
    limit: &Limit,
    horizon: &Retention,
) -> Option<u64> {
    // Without shed units, the offered units are those in use.
    match window.shed() {
        None => window.charge_unexpired(now, cost, limit, horizon),
        Some(_) => None,
    }
}

/// Returns the suppression factor for an admit ratio in the band; rounding must not move it out of the band.
pub(crate) fn factor_in_band(ratio: f64) -> f32 {
    ((1.0 - ratio) as f32).clamp(f32::MIN_POSITIVE, 1.0 - f32::EPSILON)
}

/// Returns the part of the demand of requests with cost 1 that would be shed now, 0 to 1. It records no demand.
pub(crate) fn factor(window: &mut Window, now: u64, limits: &[Limit]) -> f64 {
    let now = window.clamp(now);
    roll(window, now, limits);
    if check_limits(window, now, 1, limits, |limit| limit.hard).is_err() {
        return 1.0;
    }
    1.0 - share(window, now, 1, limits).ratio
}

/// Returns the shed units in the first limit's window, and the [`factor`] of all limits. It records no demand.
pub(crate) fn pressure(window: &mut Window, now: u64, limits: &[Limit]) -> (u64, f64) {
    let factor = factor(window, now, limits);
    let demand = limits.first().and_then(|limit| window.shed()?.demand(limit));
    let declined = demand.map_or(0.0, |demand| demand.declined(window.clamp(now)).1);
    (declined.round() as u64, factor)
}

/// Drops the demand that has left its window by `now`, and adapts to changed limits.
fn roll(window: &mut Window, now: u64, limits: &[Limit]) {
    let Some(shed) = window.shed_mut() else { return };
    shed.roll(now);
    for (index, limit) in limits.iter().enumerate() {
        let is_first = limits[..index].iter().all(|other| other.window != limit.window);
        let demand = window.shed().and_then(|shed| shed.demand(limit));
        // A changed limit of the same window needs another fast estimate.
        if is_first && demand.is_some_and(|demand| !demand.is_of(limit)) {
            let fresh = fresh_demand(window, now, limit);
            if let Some(demand) = window.shed_mut().and_then(|shed| shed.demand_mut(limit)) {
                demand.estimate_like(&fresh);
            }
        }
    }
}

/// The part of the demand that is admitted.
struct Share {
    /// The admit ratio for a request, 0 to 1.
    ratio: f64,
    /// The limit with the lowest ratio.
    tightest: usize,
    /// Whether all offered units fit every limit.
    fits: bool,
}

fn share(window: &Window, now: u64, cost: u64, limits: &[Limit]) -> Share {
    let mut share = Share { ratio: 1.0, tightest: 0, fits: true };
    for (index, limit) in limits.iter().enumerate() {
        let demand = window.shed().and_then(|shed| shed.demand(limit));
        let (certain, declined) = demand.map_or((0, 0.0), |demand| demand.declined(now));
        let admitted = window.min_used(now, limit.window);
        if admitted.saturating_add(certain).saturating_add(cost) <= limit.capacity {
            continue;
        }
        share.fits = false;
        // The estimate is the mean of an upper bound (the held units) and a lower bound (the units certainly in the
        // window).
        let used = (window.look_back(now, limit.span).used + admitted) as f64 / 2.0;
        let (capacity, cost) = (limit.capacity as f64, cost as f64);
        let offered = used + declined + cost;
        let demand = match demand {
            Some(demand) => demand.per_window(now, offered, cost),
            None => fresh_demand(window, now, limit).per_window(now, offered, cost),
        };
        let fill = used / capacity;
        let feedback = match limit.hard as f64 / capacity - 1.0 {
            _ if fill <= 1.0 => 2.0 - fill,
            room if room > 0.0 => (1.0 - (fill - 1.0) * (1.0 / room).min(STEEPEST)).max(0.0),
            _ => 0.0,
        };
        let ratio = capacity / demand * feedback;
        if ratio < share.ratio {
            (share.ratio, share.tightest) = (ratio, index);
        }
    }
    share
}

/// The demand of a limit according to the window alone.
fn fresh_demand(window: &Window, now: u64, limit: &Limit) -> Demand {
    Demand::new(now, limit, |ticks| window.used(now, u32::try_from(ticks).unwrap_or(u32::MAX)))
}

/// Makes sure that the window has a shedding state with a demand for every limit.
fn start(window: &mut Window, now: u64, limits: &[Limit]) {
    let is_missing = |limit: &&Limit| window.shed().is_none_or(|shed| shed.demand(limit).is_none());
    if !limits.iter().any(|limit| is_missing(&limit)) {
        return;
    }
    let mut missing: Vec<Demand> = Vec::new();
    for limit in limits.iter().filter(is_missing) {
        if missing.iter().all(|demand| demand.window != u64::from(limit.window)) {
            missing.push(fresh_demand(window, now, limit));
        }
    }
    window.start_shedding();
    if let Some(shed) = window.shed_mut() {
        // A vector that grows by itself would allocate four times the memory.
        shed.demands.reserve_exact(missing.len());
        shed.demands.extend(missing);
    }
}

/// Returns the outcome of a shed request.
fn shed_outcome(window: &Window, now: u64, cost: u64, limits: &[Limit], tightest: usize, random: u32) -> Outcome {
    let limit = &limits[tightest];
    let view = window.look_back(now, limit.span);
    let (room_at, _) = window.fits_at(view, limit, limit.capacity.max(cost), cost);
    let fits_at = retry_tick(now, cost, limit, room_at, random);
    Outcome { violated: 1 << tightest, fits_at, ..Outcome::allowed(tightest, view.used, window.tick()) }
}

/// Returns when a shed request may retry. This is an estimate, because the next draw is open.
///
/// The estimate is the time until the limit has room if no other request arrives. It is at least the time in which the
/// limit serves such a request. Jitter adds up to the same time again, so that shed requests do not return together.
pub(crate) fn retry_tick(now: u64, cost: u64, limit: &Limit, room_at: u64, random: u32) -> u64 {
    let service = (u128::from(cost) * u128::from(limit.window)).div_ceil(u128::from(limit.capacity.max(1)));
    let wait = room_at.saturating_sub(now).max(u64::try_from(service).unwrap_or(u64::MAX)).max(1);
    let jitter = u128::from(wait) * u128::from(random) / u128::from(u32::MAX);
    now.saturating_add(wait).saturating_add(u64::try_from(jitter).unwrap_or(u64::MAX))
}
