//! The algorithm: the sliding window of one key, and the two strategies that decide on it.
//!
//! It is pure and synchronous. Time is an argument in ticks, and randomness is an argument. The engine contains no map,
//! lock, I/O or clock.
//!
//! # The window
//!
//! A *word* is 64 bits, `[tick: 24 | cum: 40]`. It contains the tick of a bucket, and the running total of all units
//! admitted for the key up to the end of that bucket. The count of a bucket is the difference of two words, so no count
//! is stored:
//!
//! ```text
//! base ── word ── word ── word ── open        used = open.cum - cum of the newest word that has expired
//! ```
//!
//! A unit stamped with tick *k* is live at tick *j* while *j - k <= span*. The span covers the window, rounded up, and
//! the clock's lag. So a unit is held for its window and at most one bucket (and the lag) more.
//!
//! **The engine never over-admits.** Take the last unit admitted in a half-open interval of one window's length. When
//! it was decided, every earlier unit in the interval was at most `span` ticks old. So the decision counted them all,
//! and the sum fitted the capacity. Clocks that step back, and coarsening, only raise stamps.
//!
//! A limit is an argument of a decision and leaves no state. Several limits are several look-backs into one log. A
//! changed limit applies to the existing history.
//!
//! # Coarsening
//!
//! The log holds at most a fixed number of words for each window in use. When it is full, words in one aligned cell
//! merge, and the older units take the newer stamp. At most half of the words remain. The smallest window for which the
//! words are still live determines the size of the cell. The cell of the largest window would starve the smaller ones.
//! New words are exact until the log fills up again.

mod absolute;
mod demand;
mod limit;
mod outcome;
mod ring;
mod suppressed;
mod window;
mod word;

#[cfg(test)]
mod tests;

pub(crate) use absolute::{absolute, room, stands};
#[cfg(feature = "_redis")]
pub(crate) use demand::Dither;
#[cfg(feature = "_redis")]
pub(crate) use limit::Spans;
pub(crate) use limit::{Limit, Retention};
pub(crate) use outcome::{NEVER, Outcome};
pub(crate) use suppressed::{at_hard_cap, charge_unshed, factor, pressure, suppressed, suppressed_briefly};
#[cfg(feature = "_redis")]
pub(crate) use suppressed::{factor_in_band, retry_tick};
pub(crate) use window::{SetMode, Window};
