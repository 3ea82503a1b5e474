//! Charges that grow with the response: a meter counts the units of each frame before the frame is sent.
//!
//! The cost of the request is a reservation. Frames spend it first, and then ask the limit for their units. A spent unit
//! is dated when its frame is sent. What is not spent returns when the body ends, however it ends.

mod account;
mod as_text;
mod at_limit;
mod metering;
mod running;

pub use self::as_text::MeterUnit;
pub use self::at_limit::AtLimit;
pub(super) use self::metering::{MeteredLimit, Metering, Units};
pub(super) use self::running::{Meter, Polled};
