//! The formats of access logs: their detection, and the parts of a line.

mod address;
mod alb;
mod common;
mod envoy;
mod fields;
mod json;
mod parser;
mod text;
mod time;

pub(crate) use self::address::{address, socket, write_network};
pub(crate) use self::fields::{Fields, Record};
pub(crate) use self::parser::{Format, Parser};
pub(crate) use self::time::{date_and_time, stamp};
