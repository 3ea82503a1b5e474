//! The absolute strategy: it admits a request that fits all limits, and a rejection changes no state.

use super::limit::{Limit, Retention};
use super::outcome::Outcome;
use super::window::Window;
use crate::decision::Verdict;

/// Decides on `cost` units at tick `now`, and charges them if all limits hold and `charge` is true.
#[inline]
pub(crate) fn absolute(
    window: &mut Window,
    now: u64,
    cost: u64,
    limits: &[Limit],
    horizon: &Retention,
    charge: bool,
) -> Outcome {
    if let ([limit], true) = (limits, charge)
        && let Some(used) = window.charge_open(now, cost, limit, horizon)
    {
        return Outcome::allowed(0, used, now);
    }
    decide_all_limits(window, now, cost, limits, horizon, charge)
}

/// The units that fit all limits at `now`.
pub(crate) fn room(window: &Window, now: u64, limits: &[Limit]) -> u64 {
    let now = window.clamp(now);
    let free = |limit: &Limit| limit.capacity.saturating_sub(window.look_back(now, limit.span).used);
    limits.iter().map(free).min().unwrap_or(0)
}

/// The ticks from and until which a refusal at `now` has the same figures, if no request changes the window.
pub(crate) fn stands(window: &Window, now: u64, limits: &[Limit]) -> (u64, u64) {
    let now = window.clamp(now);
    (now, limits.iter().map(|limit| window.next_expiry(now, limit.span)).min().unwrap_or(now))
}

#[inline(never)]
fn decide_all_limits(
    window: &mut Window,
    now: u64,
    cost: u64,
    limits: &[Limit],
    horizon: &Retention,
    charge: bool,
) -> Outcome {
    let now = window.clamp(now);
    match check_limits(window, now, cost, limits, |limit| limit.capacity) {
        Ok(fit) => admit(window, fit, now, if charge { cost } else { 0 }, limits, horizon),
        Err(refusal) => refusal,
    }
}

/// An admission before its charge.
#[derive(Clone, Copy)]
pub(super) struct Fit {
    pub(super) outcome: Outcome,
    /// Whether the same cost may not fit once more.
    is_tight: bool,
}

/// Checks every limit once. Returns an admission, described by the limit that is nearest to exhaustion. If a limit has
/// no room under the cap that `cap` selects, returns a refusal, described by the limit with the longest wait.
#[inline]
pub(super) fn check_limits(
    window: &Window,
    now: u64,
    cost: u64,
    limits: &[Limit],
    cap: impl Fn(&Limit) -> u64,
) -> Result<Fit, Outcome> {
    let mut is_tight = false;
    let (mut violated, mut fits_at, mut used_then, mut used_of, mut binding) = (0, 0, 0, 0, 0);
    for (index, limit) in limits.iter().enumerate() {
        let view = window.look_back(now, limit.span);
        if view.used.saturating_add(cost) > cap(limit) {
            let (at, then) = window.fits_at(view, limit, cap(limit), cost);
            if at > fits_at {
                (fits_at, used_then, used_of, binding) = (at, then, view.used, index);
            }
            violated |= 1 << index;
        } else if violated == 0
            && (index == 0 || has_less_room((view.used + cost, limit), (used_of + cost, &limits[binding])))
        {
            (used_of, binding) = (view.used, index);
        }
        is_tight |= view.used.saturating_add(cost).saturating_add(cost) > limit.capacity;
    }
    let nearest = Outcome::allowed(binding, used_of, window.tick());
    if violated == 0 {
        return Ok(Fit { outcome: nearest, is_tight });
    }
    Err(Outcome { verdict: Verdict::Rejected, violated, fits_at, used_then, ..nearest })
}

/// Charges a cost that fits all limits.
#[inline]
pub(super) fn admit(
    window: &mut Window,
    fit: Fit,
    now: u64,
    cost: u64,
    limits: &[Limit],
    horizon: &Retention,
) -> Outcome {
    let Fit { outcome: nearest, is_tight } = fit;
    if cost == 0 {
        return nearest;
    }
    window.charge(now, cost, horizon);
    let wait = |limit: &Limit| window.fits_at(window.look_back(now, limit.span), limit, limit.capacity, cost).0;
    let fits_at = if is_tight { limits.iter().map(wait).max().unwrap_or(0) } else { 0 };
    let used = nearest.used + cost;
    Outcome { used, used_then: used, newest: now, fits_at, ..nearest }
}

/// Whether limit `a` has a smaller part of its capacity free than `b`.
fn has_less_room(a: (u64, &Limit), b: (u64, &Limit)) -> bool {
    let free = |(used, limit): (u64, &Limit), against: &Limit| {
        u128::from(limit.capacity.saturating_sub(used)) * u128::from(against.capacity)
    };
    free(a, b.1) < free(b, a.1)
}
