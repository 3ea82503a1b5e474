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
    let refusal = refusal(window, now, cost, limits, horizon, |limit| limit.capacity);
    refusal.unwrap_or_else(|| admit(window, now, cost, limits, horizon, charge))
}

/// The refusal, if any limit has no room under the cap that `cap` names; described by the one that takes
/// longest.
#[inline]
pub(super) fn refusal(
    window: &Window,
    now: u64,
    cost: u64,
    limits: &[Limit],
    horizon: &Horizon,
    cap: impl Fn(&Limit) -> u64,
) -> Option<Outcome> {
    let mut refusal: Option<Outcome> = None;
    for (index, limit) in limits.iter().enumerate() {
        let view = window.view(now, limit.span, horizon);
        if view.used.saturating_add(cost) <= cap(limit) {
            continue;
        }
        let (fits_at, free_then) = window.fits_at(view, limit, cap(limit), cost);
        let violated = refusal.map_or(0, |refusal| refusal.violated) | (1 << index);
        if let Some(longer) = refusal.as_mut().filter(|refusal| refusal.fits_at >= fits_at) {
            longer.violated = violated;
            continue;
        }
        let described = describe(window, view, limit, index);
        refusal = Some(Outcome { verdict: Verdict::Rejected, violated, fits_at, free_then, ..described });
    }
    refusal
}

/// Charges a cost that fits all limits, and describes the limit that is now nearest to exhaustion.
#[inline]
pub(super) fn admit(
    window: &mut Window,
    now: u64,
    cost: u64,
    limits: &[Limit],
    horizon: &Horizon,
    charge: bool,
) -> Outcome {
    if charge && cost > 0 {
        window.charge(now, cost, horizon);
    }
    let mut nearest: Option<Outcome> = None;
    let mut fits_at = 0;
    for (index, limit) in limits.iter().enumerate() {
        let view = window.view(now, limit.span, horizon);
        if view.used.saturating_add(cost) > limit.capacity {
            fits_at = fits_at.max(window.fits_at(view, limit, limit.capacity, cost).0);
        }
        let described = describe(window, view, limit, index);
        if nearest.is_none_or(|nearest| has_less_room(&described, &nearest)) {
            nearest = Some(described);
        }
    }
    let nearest = nearest.unwrap_or(Outcome {
        verdict: Verdict::Allowed,
        binding: 0,
        violated: 0,
        capacity: u64::MAX,
        used: 0,
        fits_at: 0,
        free_then: u64::MAX,
        empty_at: 0,
        factor: 0.0,
        stamp: now,
    });
    Outcome { fits_at, stamp: window.tick(), ..nearest }
}

#[inline]
fn describe(window: &Window, view: View, limit: &Limit, index: usize) -> Outcome {
    Outcome {
        verdict: Verdict::Allowed,
        binding: index,
        violated: 0,
        capacity: limit.capacity,
        used: view.used,
        fits_at: 0,
        free_then: limit.capacity.saturating_sub(view.used),
        empty_at: window.empty_at(view, limit),
        factor: 0.0,
        stamp: 0,
    }
}

/// Whether a smaller part of `a`'s capacity is free than of `b`'s.
fn has_less_room(a: &Outcome, b: &Outcome) -> bool {
    let free = |of: &Outcome, against: &Outcome| u128::from(of.free_then) * u128::from(against.capacity);
    free(a, b) < free(b, a)
}
