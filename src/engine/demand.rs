//! The demand of a key: admitted and shed units in the window, and the error diffusion between them.

use super::limit::Limit;

/// Slots of shed units in a window. One more slot exists for the part that the start of the window cuts.
const SLOTS: usize = 16;

/// The state of a key that is, or recently was, over its limit.
#[derive(Clone, Debug, Default)]
pub(super) struct ShedState {
    pub(super) dither: Dither,
    pub(super) demands: Vec<Demand>,
}

/// The demand for one length of window.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    pub(super) window: u64,
    /// The ticks in a slot, the number of the newest slot, and the units shed in each. A slot that saturates counts too
    /// few units; the fast estimate then determines the demand.
    pub(super) slot_ticks: u64,
    pub(super) slot: u64,
    declined: [u32; SLOTS + 1],
    /// The sum of all slots.
    all_declined: u64,
    /// The units offered in the previous and the current fast interval, and the number of the current one.
    pub(super) fast_ticks: u64,
    pub(super) fast: u64,
    pub(super) offered: [u64; 2],
}

impl Demand {
    /// Starts with the units that the window used within some ticks, and with no shed units.
    pub(super) fn new(now: u64, limit: &Limit, since: impl Fn(u64) -> u64) -> Self {
        let (slot_ticks, fast_ticks) = (u64::from(limit.window).div_ceil(SLOTS as u64), u64::from(limit.fast()));
        let fast = now / fast_ticks;
        let current = since(now - fast * fast_ticks);
        let both = since(now - fast.saturating_sub(1) * fast_ticks);
        Self {
            window: u64::from(limit.window),
            slot_ticks,
            slot: now / slot_ticks,
            declined: [0; SLOTS + 1],
            all_declined: 0,
            fast_ticks,
            fast,
            offered: [both.saturating_sub(current), current],
        }
    }

    /// Whether the fast estimate has the length that a limit asks for.
    pub(super) fn is_of(&self, limit: &Limit) -> bool {
        self.fast_ticks == u64::from(limit.fast())
    }

    /// Takes the fast estimate of another demand.
    pub(super) fn estimate_like(&mut self, other: &Self) {
        (self.fast_ticks, self.fast, self.offered) = (other.fast_ticks, other.fast, other.offered);
    }

    /// Whether the demand is dated after `now`. The demand would then not change until the clock catches up.
    ///
    /// A thread that read the clock earlier is behind by less than a slot.
    pub(super) fn is_ahead(&self, now: u64) -> bool {
        self.slot > now / self.slot_ticks + 1 || self.fast > now / self.fast_ticks + 1
    }

    /// Drops the slots that have left the window.
    pub(super) fn roll(&mut self, now: u64) {
        let slot = now / self.slot_ticks;
        for gone in (self.slot + 1..=slot).take(SLOTS + 1) {
            let gone = std::mem::take(&mut self.declined[Self::index(gone)]);
            self.all_declined -= u64::from(gone);
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

    pub(super) fn record(&mut self, cost: u64, declined: bool) {
        self.offered[1] = self.offered[1].saturating_add(cost);
        if declined {
            let newest = &mut self.declined[Self::index(self.slot)];
            let before = std::mem::replace(newest, newest.saturating_add(u32::try_from(cost).unwrap_or(u32::MAX)));
            self.all_declined += u64::from(*newest - before);
        }
    }

    /// Returns the shed units in the window: those that are certainly in it, and an estimate that includes a share of
    /// the cut slot.
    pub(super) fn declined(&self, now: u64) -> (u64, f64) {
        let oldest = (now + 1).saturating_sub(self.window);
        let (mut certain, mut cut) = (self.all_declined, 0.0);
        for slot in self.slot.saturating_sub(SLOTS as u64)..=self.slot {
            let (start, units) = (slot * self.slot_ticks, u64::from(self.declined[Self::index(slot)]));
            if start >= oldest {
                break;
            }
            certain -= units;
            let inside = (start + self.slot_ticks).saturating_sub(oldest);
            cut += units as f64 * inside as f64 / self.slot_ticks as f64;
        }
        (certain, certain as f64 + cut)
    }

    /// Returns the demand per window for a request of `cost`, given an estimate of the units offered in the window.
    pub(super) fn per_window(&self, now: u64, offered: f64, cost: f64) -> f64 {
        // Another thread may have read the clock later and run first.
        let into = now.saturating_sub(self.fast * self.fast_ticks) as f64 + 0.5;
        let lately = self.offered[0] as f64 * (1.0 - into / self.fast_ticks as f64) + self.offered[1] as f64 + cost;
        let scale = self.window as f64 / self.fast_ticks as f64;
        // This assumes Poisson arrivals of this cost.
        let deviation = 2.0 * (lately * cost).sqrt() * scale;
        offered.max(lately * scale - deviation).min(lately * scale + deviation)
    }
}

/// Decides on requests by error diffusion.
///
/// It counts requests and not units, so a request's cost does not change its chance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dither {
    /// The admissions owed, in requests.
    owed: f64,
    /// The debt at which a request is admitted, 0.5 to 1.5.
    threshold: f64,
}

impl Default for Dither {
    fn default() -> Self {
        Self { owed: 0.0, threshold: 1.0 }
    }
}

impl Dither {
    /// The most debt while the hard cap admits nothing. The next request that fits is then admitted at once.
    const MOST_OWED: f64 = 4.0;

    /// Adds the admit ratio of a request that the hard cap refused, so that the cap does not lower the average.
    pub(super) fn owe(&mut self, ratio: f64) {
        self.owed = (self.owed + ratio).min(self.owed.max(Self::MOST_OWED));
    }

    /// Whether to admit a request with the admit ratio `ratio`; `random` is uniform.
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

impl ShedState {
    pub(super) fn demand(&self, limit: &Limit) -> Option<&Demand> {
        self.demands.iter().find(|demand| demand.window == u64::from(limit.window))
    }

    pub(super) fn demand_mut(&mut self, limit: &Limit) -> Option<&mut Demand> {
        self.demands.iter_mut().find(|demand| demand.window == u64::from(limit.window))
    }

    /// Drops what has left its window by `now`, and demand that is dated later.
    pub(super) fn roll(&mut self, now: u64) {
        self.demands.retain_mut(|demand| {
            let keeps = !demand.is_ahead(now);
            if keeps {
                demand.roll(now);
            }
            keeps
        });
    }

    /// Whether no units were shed within any window by `now`.
    pub(super) fn is_over(&self, now: u64) -> bool {
        self.demands.iter().all(|demand| now / demand.slot_ticks > demand.slot + SLOTS as u64)
    }

    pub(super) fn record(&mut self, cost: u64, declined: bool) {
        for demand in &mut self.demands {
            demand.record(cost, declined);
        }
    }
}
