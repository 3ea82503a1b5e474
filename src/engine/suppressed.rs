//! The suppressed strategy: thins the stream before the wall, so that an overload is shed smoothly.
//!
//! While everything offered in the window fits the capacity *C*, everything is admitted. Beyond that a
//! request is admitted with the ratio
//!
//! ```text
//! q = min(1, C / D * g(f)),   f = admitted in the window / C
//! g(f) = 2 - f                      below the limit
//!        1 - (f - 1) / (h - 1)      above it, 0 at the hard cap h * C; never steeper than 5
//! ```
//!
//! *D* is the demand per window: what was offered in the last one, held within two standard deviations of a
//! fast estimate. The first factor makes the admitted rate independent of how large the overload is, the
//! second removes the estimate's bias: its fixed point is f = 1 for every overload. The hard cap is exact.
//!
//! Which requests are admitted is settled by error diffusion with a dithered threshold, not by coin flips:
//! over any stretch the admissions stay within two of q times the requests, and clients that alternate
//! cannot fall into step with it.
//!
//! Demand is admitted units, which the window knows exactly, and declined ones, which are counted here in a
//! fixed number of slots. The state exists from the first request that is at odds with the limit.

use super::absolute::{admit, survey};
use super::limit::{Horizon, Limit};
use super::outcome::Outcome;
use super::window::Window;
use crate::decision::Verdict;

/// Slots of declined units in a window; one more is kept for the part that the window cuts.
const SLOTS: usize = 16;

/// The most by which the feedback falls for a unit of fill above the limit.
///
/// With h of 1.1 the straight line to the hard cap would fall by 10: so steep that noise, which the other
/// side of the limit meets with 1, costs 3 % of the admissions at twice the limit.
const STEEPEST: f64 = 5.0;

/// The state of a key that is, or lately was, over its limit.
#[derive(Clone, Debug, Default)]
pub(super) struct Shed {
    dither: Dither,
    demands: Vec<Demand>,
}

/// The demand for one window's length.
#[derive(Clone, Debug)]
struct Demand {
    window: u64,
    /// Ticks in a slot, the number of the newest one, and the units declined in each; a slot that is full says
    /// less than there was, and the fast estimate then tells the demand.
    slot_ticks: u64,
    slot: u64,
    declined: [u32; SLOTS + 1],
    /// Offered units of the previous and the current fast interval, and its number.
    fast_ticks: u64,
    fast: u64,
    offered: [u64; 2],
}

impl Demand {
    /// Starts with what the window remembers; nothing was declined so far.
    fn new(window: &Window, now: u64, limit: &Limit, horizon: &Horizon) -> Self {
        let (slot_ticks, fast_ticks) = (u64::from(limit.window).div_ceil(SLOTS as u64), u64::from(limit.fast()));
        let fast = now / fast_ticks;
        let since = |ticks: u64| window.used(now, u32::try_from(ticks).unwrap_or(u32::MAX), horizon);
        let current = since(now - fast * fast_ticks);
        let both = since(now - fast.saturating_sub(1) * fast_ticks);
        Self {
            window: u64::from(limit.window),
            slot_ticks,
            slot: now / slot_ticks,
            declined: [0; SLOTS + 1],
            fast_ticks,
            fast,
            offered: [both.saturating_sub(current), current],
        }
    }

    /// Whether a clock has dated the demand ahead of `now`. It would stand still until the clock has caught up.
    ///
    /// A thread that read the clock earlier is behind by less than a slot.
    fn is_ahead(&self, now: u64) -> bool {
        self.slot > now / self.slot_ticks + 1 || self.fast > now / self.fast_ticks + 1
    }

    /// Forgets what has left the window.
    fn roll(&mut self, now: u64) {
        let slot = now / self.slot_ticks;
        for gone in (self.slot + 1..=slot).take(SLOTS + 1) {
            self.declined[Self::index(gone)] = 0;
        }
        self.slot = self.slot.max(slot);
        let fast = now / self.fast_ticks;
        if fast > self.fast {
            self.offered = [if fast == self.fast + 1 { self.offered[1] } else { 0 }, 0];
            self.fast = fast;
        }
    }

    fn index(slot: u64) -> usize {
        usize::try_from(slot % (SLOTS as u64 + 1)).unwrap_or(0)
    }

    fn record(&mut self, cost: u64, declined: bool) {
        self.offered[1] = self.offered[1].saturating_add(cost);
        if declined {
            let newest = &mut self.declined[Self::index(self.slot)];
            *newest = newest.saturating_add(u32::try_from(cost).unwrap_or(u32::MAX));
        }
    }

    /// Declined units in the window: those certainly in it, and an estimate with a share of the cut slot.
    fn declined(&self, now: u64) -> (u64, f64) {
        let oldest = (now + 1).saturating_sub(self.window);
        let (mut certain, mut cut) = (0_u64, 0.0);
        for slot in self.slot.saturating_sub(SLOTS as u64)..=self.slot {
            let (start, units) = (slot * self.slot_ticks, u64::from(self.declined[Self::index(slot)]));
            if start >= oldest {
                certain = certain.saturating_add(units);
            } else {
                let inside = (start + self.slot_ticks).saturating_sub(oldest);
                cut += units as f64 * inside as f64 / self.slot_ticks as f64;
            }
        }
        (certain, certain as f64 + cut)
    }

    /// The demand per window for a request of `cost`, given an estimate of what the window was offered.
    fn per_window(&self, now: u64, offered: f64, cost: f64) -> f64 {
        // Another thread may have read the clock later and come first.
        let into = now.saturating_sub(self.fast * self.fast_ticks) as f64 + 0.5;
        let lately = self.offered[0] as f64 * (1.0 - into / self.fast_ticks as f64) + self.offered[1] as f64 + cost;
        let scale = self.window as f64 / self.fast_ticks as f64;
        // Arrivals of this cost are taken to be Poisson.
        let deviation = 2.0 * (lately * cost).sqrt() * scale;
        offered.max(lately * scale - deviation).min(lately * scale + deviation)
    }
}

/// Settles requests by error diffusion.
///
/// In requests and not in units, so that a request's cost does not change its chance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dither {
    /// Admissions owed, in requests.
    owed: f64,
    /// How many must be owed before one is paid, 0.5 to 1.5.
    threshold: f64,
}

impl Default for Dither {
    fn default() -> Self {
        Self { owed: 0.0, threshold: 1.0 }
    }
}

impl Dither {
    /// The most that is owed while the hard cap admits nothing: the next request that fits passes at once.
    const MOST_OWED: f64 = 4.0;

    /// Owes a request that the hard cap refused its part, so that the cap does not lower the average.
    fn owe(&mut self, ratio: f64) {
        self.owed = (self.owed + ratio).min(self.owed.max(Self::MOST_OWED));
    }

    /// Whether a request passes, of which this part does; `random` is uniform.
    pub(crate) fn draw(&mut self, ratio: f64, random: u32) -> bool {
        self.owed += ratio;
        let admitted = self.owed >= self.threshold;
        if admitted {
            self.owed -= 1.0;
            self.threshold = 0.5 + f64::from(random) / f64::from(u32::MAX);
        }
        admitted
    }
}

impl Shed {
    fn demand(&self, limit: &Limit) -> Option<&Demand> {
        self.demands.iter().find(|demand| demand.window == u64::from(limit.window))
    }

    /// Whether nothing has been declined within any window by `now`.
    pub(super) fn is_over(&self, now: u64) -> bool {
        self.demands.iter().all(|demand| now / demand.slot_ticks > demand.slot + SLOTS as u64)
    }

    fn record(&mut self, cost: u64, declined: bool) {
        for demand in &mut self.demands {
            demand.record(cost, declined);
        }
    }
}

/// Decides on `cost` units at tick `now`, and charges them if they are admitted; `random` is uniform.
pub(crate) fn suppressed(
    window: &mut Window,
    now: u64,
    cost: u64,
    limits: &[Limit],
    horizon: &Horizon,
    random: u32,
) -> Outcome {
    let now = window.clamp(now);
    let nearest = match survey(window, now, cost, limits, horizon, |limit| limit.hard) {
        Ok(nearest) => nearest,
        Err(refusal) => {
            // A cost above the hard cap is no demand that could ever be served.
            if cost > 0 && limits.iter().all(|limit| cost <= limit.hard) {
                roll(window, now, limits, horizon);
                let Share { ratio, .. } = share(window, now, cost, limits, horizon);
                let shed = start(window, now, limits, horizon);
                shed.dither.owe(ratio);
                shed.record(cost, true);
            }
            return Outcome { verdict: Verdict::Suppressed { is_allowed: false }, factor: 1.0, ..refusal };
        }
    };
    if cost == 0 {
        return nearest;
    }
    roll(window, now, limits, horizon);
    let Share { ratio, tightest, fits } = share(window, now, cost, limits, horizon);
    if ratio >= 1.0 {
        if let Some(shed) = window.shed_mut() {
            shed.record(cost, false);
        }
        let outcome = admit(window, nearest, now, cost, limits, horizon);
        if fits {
            return outcome;
        }
        return Outcome { verdict: Verdict::Suppressed { is_allowed: true }, factor: band_factor(ratio), ..outcome };
    }
    let shed = start(window, now, limits, horizon);
    let is_allowed = shed.dither.draw(ratio, random);
    shed.record(cost, !is_allowed);
    let outcome = match is_allowed {
        true => admit(window, nearest, now, cost, limits, horizon),
        false => turn_away(window, now, cost, limits, tightest, horizon, random),
    };
    Outcome { verdict: Verdict::Suppressed { is_allowed }, factor: band_factor(ratio), ..outcome }
}

/// The suppression factor for an admit ratio in the band; rounding must not take it out of there.
pub(crate) fn band_factor(ratio: f64) -> f32 {
    ((1.0 - ratio) as f32).clamp(f32::MIN_POSITIVE, 1.0 - f32::EPSILON)
}

/// The part of a unit request's demand that would be turned away now, 0 to 1; records no demand.
pub(crate) fn factor(window: &mut Window, now: u64, limits: &[Limit], horizon: &Horizon) -> f64 {
    let now = window.clamp(now);
    roll(window, now, limits, horizon);
    if survey(window, now, 1, limits, horizon, |limit| limit.hard).is_err() {
        return 1.0;
    }
    1.0 - share(window, now, 1, limits, horizon).ratio
}

/// The declined units in the first limit's window, and the [`factor`] of all; records no demand.
pub(crate) fn pressure(window: &mut Window, now: u64, limits: &[Limit], horizon: &Horizon) -> (u64, f64) {
    let factor = factor(window, now, limits, horizon);
    let demand = limits.first().and_then(|limit| window.shed()?.demand(limit));
    let declined = demand.map_or(0.0, |demand| demand.declined(window.clamp(now)).1);
    (declined.round() as u64, factor)
}

/// Lets the demand forget what has left its window by `now`, and follow limits that have changed.
fn roll(window: &mut Window, now: u64, limits: &[Limit], horizon: &Horizon) {
    let Some(mut demands) = window.shed_mut().map(|shed| std::mem::take(&mut shed.demands)) else { return };
    demands.retain(|demand| !demand.is_ahead(now));
    for demand in &mut demands {
        demand.roll(now);
        let limit = limits.iter().find(|limit| u64::from(limit.window) == demand.window);
        if let Some(limit) = limit.filter(|limit| u64::from(limit.fast()) != demand.fast_ticks) {
            let fresh = Demand::new(window, now, limit, horizon);
            (demand.fast_ticks, demand.fast, demand.offered) = (fresh.fast_ticks, fresh.fast, fresh.offered);
        }
    }
    if let Some(shed) = window.shed_mut() {
        shed.demands = demands;
    }
}

/// How much of the demand is admitted.
struct Share {
    /// The admit ratio for a request, 0 to 1.
    ratio: f64,
    /// The limit that asks for it.
    tightest: usize,
    /// Whether all that is offered fits every limit.
    fits: bool,
}

fn share(window: &Window, now: u64, cost: u64, limits: &[Limit], horizon: &Horizon) -> Share {
    let mut share = Share { ratio: 1.0, tightest: 0, fits: true };
    for (index, limit) in limits.iter().enumerate() {
        let demand = window.shed().and_then(|shed| shed.demand(limit));
        let (certain, declined) = demand.map_or((0, 0.0), |demand| demand.declined(now));
        let admitted = window.certain(now, limit.window, horizon);
        if admitted.saturating_add(certain).saturating_add(cost) <= limit.capacity {
            continue;
        }
        share.fits = false;
        // Between what is held, which is a little more than the window's, and what is certainly in it.
        let used = (window.view(now, limit.span, horizon).used + admitted) as f64 / 2.0;
        let (capacity, cost) = (limit.capacity as f64, cost as f64);
        let offered = used + declined + cost;
        let demand = match demand {
            Some(demand) => demand.per_window(now, offered, cost),
            None => Demand::new(window, now, limit, horizon).per_window(now, offered, cost),
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

/// The shedding state, with a demand for every limit.
fn start<'a>(window: &'a mut Window, now: u64, limits: &[Limit], horizon: &Horizon) -> &'a mut Shed {
    let is_missing = |limit: &&Limit| window.shed().is_none_or(|shed| shed.demand(limit).is_none());
    let mut missing: Vec<Demand> = Vec::new();
    for limit in limits.iter().filter(is_missing) {
        if missing.iter().all(|demand| demand.window != u64::from(limit.window)) {
            missing.push(Demand::new(window, now, limit, horizon));
        }
    }
    let shed = window.start_shedding();
    // Exactly: a vector that grows by itself would take four times the room.
    shed.demands.reserve_exact(missing.len());
    shed.demands.extend(missing);
    shed
}

/// What to tell a request that was shed.
fn turn_away(
    window: &Window,
    now: u64,
    cost: u64,
    limits: &[Limit],
    tightest: usize,
    horizon: &Horizon,
    random: u32,
) -> Outcome {
    let limit = &limits[tightest];
    let view = window.view(now, limit.span, horizon);
    let (room_at, _) = window.fits_at(view, limit, limit.capacity.max(cost), cost);
    let fits_at = come_back_at(now, cost, limit, room_at, random);
    Outcome { violated: 1 << tightest, fits_at, ..Outcome::allowed(tightest, view.used, window.tick()) }
}

/// When a request that was shed might try again: an estimate, for the next draw is open.
///
/// When the limit has room again if nothing else comes, but no less than the time in which the limit
/// serves such a request; and up to as much again, so that the shed do not return together.
pub(crate) fn come_back_at(now: u64, cost: u64, limit: &Limit, room_at: u64, random: u32) -> u64 {
    let service = (u128::from(cost) * u128::from(limit.window)).div_ceil(u128::from(limit.capacity.max(1)));
    let wait = room_at.saturating_sub(now).max(u64::try_from(service).unwrap_or(u64::MAX)).max(1);
    let jitter = u128::from(wait) * u128::from(random) / u128::from(u32::MAX);
    now.saturating_add(wait).saturating_add(u64::try_from(jitter).unwrap_or(u64::MAX))
}
