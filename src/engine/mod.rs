//! The algorithm: one key's sliding window, and the two strategies that decide on it.
//!
//! Pure and synchronous, `&mut` in and an outcome out. Time arrives as ticks and randomness as a number;
//! there is no map, no lock, no I/O and no clock in here.
//!
//! # The window
//!
//! A *word* is 64 bits, `[tick: 24 | cum: 40]`: the tick of a bucket and the running total of all units ever
//! admitted for the key up to the end of that bucket. A bucket's count is the difference of two words, so
//! nothing else is stored:
//!
//! ```text
//! base ── word ── word ── word ── open        used = open.cum - cum of the newest word that has expired
//! ```
//!
//! A unit stamped with tick *k* is live at tick *j* while *j - k <= span*, where the span covers the window,
//! rounded up, and the clock's lag. It is therefore held for its window and at most one bucket (and the lag)
//! more. **Never over-admits:** of the units admitted in a half-open interval of one window's length, take
//! the last; when it was decided every earlier one was at most `span` ticks old, so it was counted, and the
//! sum fitted the capacity. Clocks that step back, and coarsening, only ever raise stamps.
//!
//! A limit is an argument of a decision and leaves nothing behind: several limits are several look-backs
//! into one log, and a changed limit applies to the history as it stands.
//!
//! # Coarsening
//!
//! The log holds at most a fixed number of words for each window in use. When it is full, words that lie in
//! one aligned cell are merged, the older units taking the newer stamp, so that at most half stay. The
//! cell's size follows from the smallest window for which the words are still live; merging by the largest
//! would starve the smaller ones. New words are exact until the log fills up again.

mod absolute;
mod demand;
mod limit;
mod outcome;
mod ring;
mod suppressed;
mod window;

#[cfg(test)]
mod tests;

pub(crate) use absolute::absolute;
#[cfg(feature = "_redis")]
pub(crate) use demand::Dither;
#[cfg(feature = "_redis")]
pub(crate) use limit::Spans;
pub(crate) use limit::{Limit, Retention};
pub(crate) use outcome::{NEVER, Outcome};
pub(crate) use suppressed::{factor, pressure, suppressed};
#[cfg(feature = "_redis")]
pub(crate) use suppressed::{factor_in_band, retry_tick};
pub(crate) use window::{SetMode, Window};
