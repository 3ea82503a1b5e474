//! The absolute strategy: what fits all limits is admitted, and a refusal writes nothing.

use super::limit::{Horizon, Limit};
use super::outcome::{Outcome, Verdict};
use super::window::{View, Window};

/// Decides on `cost` units at tick `now`, and charges them if all limits hold and `charge` says so.
#[inline]
pub(crate) fn absolute(
    window: &mut Window,
    now: u64,
    cost: u64,
    limits: &[Limit],
    horizon: &Horizon,
    charge: bool,
) -> Outcome {
    let now = window.clamp(now);
    match survey(window, now, cost, limits, horizon, |limit| limit.capacity) {
        Ok(nearest) => admit(window, nearest, now, if charge { cost } else { 0 }, limits, horizon),
        Err(refusal) => refusal,
    }
}

/// Looks at every limit, once: an admission described by the limit that is nearest to exhaustion, or, where
/// any has no room under the cap that `cap` names, a refusal described by the one that takes longest.
#[inline]
pub(super) fn survey(
    window: &Window,
    now: u64,
    cost: u64,
    limits: &[Limit],
    horizon: &Horizon,
    cap: impl Fn(&Limit) -> u64,
) -> Result<Outcome, Outcome> {
    let mut nearest: Option<Outcome> = None;
    let mut refusal: Option<Outcome> = None;
    for (index, limit) in limits.iter().enumerate() {
        let view = window.view(now, limit.span, horizon);
        let described = describe(window, view, limit, index);
        if view.used.saturating_add(cost) > cap(limit) {
            refusal = Some(refuse(window, view, limit, cap(limit), cost, described, refusal));
        } else if nearest.is_none_or(|nearest| has_less_room(&described, &nearest)) {
            nearest = Some(described);
        }
    }
    match refusal {
        Some(refusal) => Err(refusal),
        None => Ok(nearest.unwrap_or(Outcome::UNLIMITED)),
    }
}

/// One more refusal: the longer wait of the two, and all the limits that refuse.
fn refuse(
    window: &Window,
    view: View,
    limit: &Limit,
    cap: u64,
    cost: u64,
    described: Outcome,
    earlier: Option<Outcome>,
) -> Outcome {
    let (fits_at, free_then) = window.fits_at(view, limit, cap, cost);
    let refusal = Outcome { verdict: Verdict::Rejected, fits_at, free_then, ..described };
    let longest = earlier.filter(|earlier| earlier.fits_at >= fits_at).unwrap_or(refusal);
    Outcome { violated: earlier.map_or(0, |earlier| earlier.violated) | 1 << described.binding, ..longest }
}

/// Charges a cost that fits all limits.
#[inline]
pub(super) fn admit(
    window: &mut Window,
    nearest: Outcome,
    now: u64,
    cost: u64,
    limits: &[Limit],
    horizon: &Horizon,
) -> Outcome {
    if cost == 0 {
        return nearest;
    }
    window.charge(now, cost, horizon);
    let used = nearest.used + cost;
    let free_then = nearest.capacity.saturating_sub(used);
    let outcome = Outcome { used, free_then, stamp: now, ..nearest };
    let limit = limits.get(outcome.binding);
    let empty_at = limit.map_or(0, |limit| now + u64::from(limit.span) + 1);
    // With one limit, or with equal costs throughout, the one with the least room tells.
    let fits_at = if free_then < cost || limits.len() > 1 { fits_at(window, now, cost, limits, horizon) } else { 0 };
    Outcome { empty_at, fits_at, ..outcome }
}

/// When the same cost would fit all limits once more.
fn fits_at(window: &Window, now: u64, cost: u64, limits: &[Limit], horizon: &Horizon) -> u64 {
    let wait = |limit: &Limit| window.fits_at(window.view(now, limit.span, horizon), limit, limit.capacity, cost).0;
    limits.iter().map(wait).max().unwrap_or(0)
}

#[inline]
pub(super) fn describe(window: &Window, view: View, limit: &Limit, index: usize) -> Outcome {
    Outcome {
        verdict: Verdict::Allowed,
        binding: index,
        violated: 0,
        capacity: limit.capacity,
        used: view.used,
        fits_at: 0,
        free_then: limit.capacity.saturating_sub(view.used),
        empty_at: if view.used == 0 { 0 } else { window.tick() + u64::from(limit.span) + 1 },
        factor: 0.0,
        stamp: 0,
    }
}

/// Whether a smaller part of `a`'s capacity is free than of `b`'s.
fn has_less_room(a: &Outcome, b: &Outcome) -> bool {
    let free = |of: &Outcome, against: &Outcome| u128::from(of.free_then) * u128::from(against.capacity);
    free(a, b) < free(b, a)
}
