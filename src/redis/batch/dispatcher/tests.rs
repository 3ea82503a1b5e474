//! The space of a decision in flight.

use std::time::Duration;

use super::*;
use crate::redis::batch::Payload;

/// Each caller that waits holds one such future. A large one also takes the slow path of many allocators.
#[test]
fn a_decision_in_flight_takes_less_than_three_kilobytes() {
    let link = Transport::to_url("redis://127.0.0.1:1").unwrap();
    let send = size_of_val(&link.send(&redis::Cmd::new()));
    let dispatcher = Dispatcher::new(link, Duration::from_millis(100), "weir", 10);
    let body = Payload::Ask(Ask { cost: 1, random: 0 });
    let decide =
        size_of_val(&dispatcher.decide(KeyRequest { policy: Dispatcher::probing(), key: Box::from(*b"key"), body }));
    assert!(decide < 3_000, "{decide} bytes, of which the transport takes {send}");
}
