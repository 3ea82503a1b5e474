//! What the fuzzer found worth keeping, run through the fuzzer's own checks.
#![cfg(feature = "middleware")]
#![allow(clippy::unwrap_used)]

mod client_ip;
mod forwarded;

use std::panic::catch_unwind;
use std::path::Path;

/// Checks every file, and nothing of less than what is known to be there.
fn replay(target: &str, at_least: usize, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut checked = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let input = std::fs::read(&path).unwrap();
        assert!(catch_unwind(|| check(&input)).is_ok(), "{} fails the check", path.display());
        checked += 1;
    }
    assert!(checked >= at_least, "only {checked} files in {}", folder.display());
}

#[test]
fn the_address_walk_holds_on_its_corpus() {
    replay("client_ip", 400, client_ip::check);
}

#[test]
fn forwarded_holds_on_its_corpus() {
    replay("forwarded", 60, forwarded::check);
}
