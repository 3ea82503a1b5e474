//! The load: how many requests are due.

use std::time::Duration;

use crate::settings::{Pattern, Settings};

/// A generator that is late makes up for at most this time, so that a stall does not become a burst.
const LATE: Duration = Duration::from_millis(100);

/// The requests per second at a time since the start of the program.
pub(crate) fn rate(settings: &Settings, at: Duration) -> f64 {
    if settings.paused {
        return 0.0;
    }
    let at = at.as_secs_f64();
    let factor = match settings.pattern {
        Pattern::Steady => 1.0,
        // The average over two seconds is the offered load.
        Pattern::Bursts if at % 2.0 < 0.4 => 4.0,
        Pattern::Bursts => 0.25,
        Pattern::Spike if at % 12.0 < 3.0 => 4.0,
        Pattern::Spike => 1.0,
    };
    f64::from(settings.offered) * factor
}

/// Converts a rate to whole requests.
#[derive(Debug)]
pub(crate) struct Arrivals {
    last: Duration,
    /// The part of the next request that is due.
    part: f64,
    /// The part of the load that this generator sends.
    share: f64,
}

impl Arrivals {
    pub(crate) fn new(now: Duration) -> Self {
        Self { last: now, part: 0.0, share: 1.0 }
    }

    /// Sets the part of the load that this generator sends, from 0 to 1.
    pub(crate) fn set_share(&mut self, share: f64) {
        self.share = share;
    }

    /// The requests that became due since the last call.
    pub(crate) fn due(&mut self, settings: &Settings, now: Duration) -> u32 {
        let passed = now.saturating_sub(self.last).min(LATE);
        self.last = now;
        self.part += rate(settings, now) * self.share * passed.as_secs_f64();
        let whole = self.part.floor();
        self.part -= whole;
        whole as u32
    }
}
