//! Loopback ports that stay ours.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which systems take the local port of an outgoing connection. A port from that range
/// would be lent out while its server is down, and a client that redials it may even reach itself.
const FIRST: u16 = 10_000;
/// A cluster's bus listens 10 000 above, which stays below that range too.
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port that is free now, together with the one of its bus, and was not given out before in this process.
///
/// Another process may take it before the server does: whoever starts one tries again with the next.
pub(crate) fn free() -> u16 {
    // Test processes start far apart from one another.
    let _ = NEXT.compare_exchange(0, fastrand::u16(1..COUNT), Ordering::Relaxed, Ordering::Relaxed);
    for _ in 0..COUNT {
        let step = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |step| Some(step % COUNT + 1)).unwrap();
        let port = FIRST + step - 1;
        let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
    panic!("none of {COUNT} loopback ports from {FIRST} up is free");
}
