//! One hot path in each run, for a count of its instructions. `.ci/instructions` runs it under callgrind.
//!
//! `tower-weir-instructions` lists the paths, and `tower-weir-instructions NAME` runs one. Only what happens in
//! [`counted_calls`] counts: callgrind collects inside that function and nowhere else. The output is the number of
//! calls that it made.
//!
//! A path must not depend on the time of day or on the speed of the machine. So each path uses a manual clock, except
//! the one that reads the system's clock.

mod layer;
mod local;
#[cfg_attr(not(feature = "metrics"), path = "recorder_absent.rs")]
mod recorder;
#[cfg_attr(not(feature = "tracing"), path = "subscriber_absent.rs")]
mod subscriber;

use std::env;
use std::process::ExitCode;

/// A name, and a function that prepares and runs the path and returns the number of counted calls.
type Path = (&'static str, fn() -> u64);

fn main() -> ExitCode {
    // Otherwise each run dithers differently.
    fastrand::seed(42);
    let paths = || local::PATHS.iter().chain(layer::PATHS);
    let Some(wanted) = env::args().nth(1) else {
        paths().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    match paths().find(|(name, _)| *name == wanted) {
        Some((_, run)) => {
            recorder::install();
            println!("{}", subscriber::within(run));
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("there is no path {wanted:?}");
            ExitCode::FAILURE
        }
    }
}

/// Makes one call for each item. The name is part of the options of callgrind in `.ci/instructions`.
#[inline(never)]
fn counted_calls<T>(items: impl IntoIterator<Item = T>, call: impl FnMut(T)) {
    items.into_iter().for_each(call);
}
