//! Runs the check of this name; the corpus is replayed by tests/fuzz/main.rs on a stable compiler.
#![no_main]

#[path = "../../tests/fuzz/forwarded.rs"]
mod forwarded;

libfuzzer_sys::fuzz_target!(|data: &[u8]| forwarded::check(data));
