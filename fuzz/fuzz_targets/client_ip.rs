//! Runs the check of this name; the corpus is replayed by tests/fuzz/main.rs on a stable compiler.
#![no_main]

#[path = "../../tests/fuzz/client_ip.rs"]
mod client_ip;

libfuzzer_sys::fuzz_target!(|data: &[u8]| client_ip::check(data));
