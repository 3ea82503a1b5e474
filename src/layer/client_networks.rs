//! Lists of networks, each with what reads a client's address.

use crate::key::{ClientIp, Networks};

/// The networks of each reader of addresses.
pub(super) type ClientNetworks = Vec<(ClientIp, Networks)>;

/// Adds networks to those of an equal reader, so that a request's address is read once for all of them.
pub(super) fn add(all: &mut ClientNetworks, ip: ClientIp, networks: &Networks) {
    match all.iter_mut().find(|(other, _)| *other == ip) {
        Some((_, known)) => *known = Networks::union([&*known, networks]),
        None => all.push((ip, networks.clone())),
    }
}
