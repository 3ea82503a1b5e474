//! Counts admissions in windows, independently of the limiter that admitted them.

use std::collections::VecDeque;

/// The longest window, in milliseconds.
pub(crate) const LONGEST_WINDOW_MS: u64 = 10_000;

/// The admissions of the recent past, and the most in any position of the window.
///
/// The count is that of windows that end with an admission, and no other position of the window holds more. If an
/// admission was decided at an unknown time between two readings of the clock, the meter uses the readings that lie
/// farthest apart. So it never counts two admissions in one window that were not in one.
#[derive(Debug)]
pub(crate) struct Meter {
    window_ms: u64,
    /// The end of the window.
    now_ms: u64,
    /// Times in milliseconds and units, in the order of the times.
    admitted: VecDeque<(u64, u64)>,
    /// The index of the first admission in the current window.
    first: usize,
    /// The units of the current window.
    used: u64,
    most: u64,
}

impl Meter {
    pub(crate) fn new(window_ms: u64) -> Self {
        Self { window_ms, now_ms: 0, admitted: VecDeque::new(), first: 0, used: 0, most: 0 }
    }

    /// Counts a unit that was admitted at or after the first time, and before or at the second.
    pub(crate) fn admit(&mut self, earliest_ms: u64, latest_ms: u64) {
        self.move_to(latest_ms);
        let is_inside = earliest_ms + self.window_ms > self.now_ms;
        let later = self.admitted.iter().rev().take_while(|(at_ms, _)| *at_ms > earliest_ms).count();
        let index = self.admitted.len() - later;
        match index.checked_sub(1).and_then(|index| self.admitted.get_mut(index)) {
            Some((at_ms, units)) if *at_ms == earliest_ms => *units += 1,
            _ => {
                self.admitted.insert(index, (earliest_ms, 1));
                self.first += usize::from(!is_inside);
            }
        }
        self.used += u64::from(is_inside);
        self.most = self.most.max(self.used);
    }

    /// The units in the window that ends at this time.
    pub(crate) fn used(&mut self, now_ms: u64) -> u64 {
        self.move_to(now_ms);
        self.used
    }

    /// The most units in any window that ended with an admission since the last [`restart`](Self::restart).
    pub(crate) fn most(&self) -> u64 {
        self.most
    }

    /// Forgets the most units, and keeps the admissions.
    pub(crate) fn restart(&mut self) {
        self.most = 0;
    }

    /// Changes the length of the window, and forgets the most units.
    pub(crate) fn set_window(&mut self, window_ms: u64) {
        self.window_ms = window_ms;
        (self.first, self.used) = (0, self.admitted.iter().map(|(_, units)| units).sum());
        self.restart();
    }

    /// Moves the end of the window. It never moves back, although times of two threads can arrive out of order.
    fn move_to(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        while let Some((at_ms, units)) = self.admitted.get(self.first)
            && at_ms + self.window_ms <= self.now_ms
        {
            self.used -= units;
            self.first += 1;
        }
        let is_old = |(at_ms, _): &(u64, u64)| at_ms + LONGEST_WINDOW_MS <= self.now_ms;
        while self.first > 0 && self.admitted.front().is_some_and(is_old) {
            self.admitted.pop_front();
            self.first -= 1;
        }
    }
}
