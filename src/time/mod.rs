//! The time of the engine: milliseconds since an origin, and ticks of one bucket each.
//!
//! The system's clock has no lag by construction: each reading asks the hardware during the call. A custom clock may
//! lag behind real time by a bound that it states, but never runs ahead of it. The engine holds every unit for that
//! much longer, so a lagging clock never admits too much.

mod clock;
mod source;
mod system;
mod ticks;

pub use self::clock::{Clock, ManualClock, PreciseClock};
pub(crate) use self::source::TimeSource;
#[cfg(feature = "middleware")]
pub(crate) use self::ticks::seconds_up;
pub(crate) use self::ticks::{Ticks, millis, millis_up};
