//! Detects in a process's first requests that the peer is a proxy.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderMap;
use http::header::FORWARDED;

use super::network::Address;
use super::source::X_FORWARDED_FOR;
use crate::telemetry::{Notice, notify};

/// The number of sampled requests.
const SAMPLE: u32 = 1_000;
/// The minimum number of requests with a forwarding header, if any client may have sent them.
const FEW: u32 = 20;

/// The detector for all keys by peer address, which are all wrong behind a proxy.
pub(super) static PROXY_DETECTOR: ProxyDetector = ProxyDetector::new();
/// The detector for all keys behind trusted networks. A proxy that always omits the header is not a client.
pub(super) static BEHIND: ProxyDetector = ProxyDetector::new();

pub(super) struct ProxyDetector {
    is_over: AtomicBool,
    sample: Mutex<Sample>,
}

impl ProxyDetector {
    const fn new() -> Self {
        Self { is_over: AtomicBool::new(false), sample: Mutex::new(Sample::new()) }
    }

    /// Samples a request that is limited by its peer. After the sample, this is one load.
    #[inline]
    pub(super) fn see(&self, peer: Address, headers: &HeaderMap) {
        if !self.is_over.load(Ordering::Relaxed) {
            self.look(peer.into(), headers);
        }
    }

    /// Samples a request that is exempt by its peer, if it has a forwarding header. Without one, it is probably a health
    /// check, and many of those from one private address are no sign of a proxy.
    #[inline]
    pub(super) fn see_exempt(&self, peer: Address, headers: &HeaderMap) {
        if !self.is_over.load(Ordering::Relaxed) && is_forwarded(headers) {
            self.look(peer.into(), headers);
        }
    }

    /// Samples a request behind trusted proxies. `is_own` states that the proxy sent no client address. After the
    /// sample, this is one load.
    #[inline]
    pub(super) fn see_trusted(&self, address: Address, is_own: bool) {
        if !self.is_over.load(Ordering::Relaxed) {
            let case = "a trusted proxy that sends no forwarding header";
            self.sample(|sample| sample.add_trusted(address.into(), is_own), Some(case));
        }
    }

    #[cold]
    fn look(&self, peer: IpAddr, headers: &HeaderMap) {
        self.sample(|sample| sample.add(peer, is_forwarded(headers)), None);
    }

    #[cold]
    fn sample(&self, add: impl FnOnce(&mut Sample) -> Option<Notice>, case: Option<&'static str>) {
        // No request waits for the lock: one that arrives during another's turn is not sampled.
        let Ok(mut sample) = self.sample.try_lock() else { return };
        let notice = add(&mut sample);
        self.is_over.store(sample.seen >= SAMPLE, Ordering::Relaxed);
        drop(sample);
        if let Some(notice) = notice {
            notify(notice, case);
        }
    }
}

#[cold]
fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(X_FORWARDED_FOR) || headers.contains_key(FORWARDED)
}

/// The sample so far.
struct Sample {
    seen: u32,
    forwarded: u32,
    /// A private peer, and how many more requests it sent than all others (Boyer and Moore, "MJRTY", 1981).
    leader: IpAddr,
    lead: u32,
}

impl Sample {
    const fn new() -> Self {
        Self { seen: 0, forwarded: 0, leader: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), lead: 0 }
    }

    fn add(&mut self, peer: IpAddr, is_forwarded: bool) -> Option<Notice> {
        let is_private = is_private(peer);
        self.seen = self.seen.saturating_add(1);
        self.forwarded += u32::from(is_forwarded);
        // `UntrustedForwardingHeader` covers a private peer with a header.
        self.vote(peer, is_private && !is_forwarded);
        let is_common = self.forwarded >= FEW && self.forwarded > self.seen / 2;
        if is_forwarded && (is_private || is_common) {
            return Some(Notice::UntrustedForwardingHeader);
        }
        self.shared_peer()
    }

    fn add_trusted(&mut self, address: IpAddr, is_own: bool) -> Option<Notice> {
        self.seen = self.seen.saturating_add(1);
        self.vote(address, is_own);
        self.shared_peer()
    }

    fn vote(&mut self, peer: IpAddr, is_candidate: bool) {
        match self.lead {
            0 if is_candidate => (self.leader, self.lead) = (peer, 1),
            lead if is_candidate && self.leader == peer => self.lead = lead + 1,
            lead => self.lead = lead.saturating_sub(1),
        }
    }

    fn shared_peer(&self) -> Option<Notice> {
        (self.seen == SAMPLE && self.lead > SAMPLE / 2).then_some(Notice::SharedPrivatePeer)
    }
}

/// Whether an address, in canonical form, cannot be an Internet client: RFC 1918, 3927, 4193, 4291, 6598.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let is_shared = v4.to_bits() & 0xffc0_0000 == 0x6440_0000;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || is_shared
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));

    fn client(n: u32) -> IpAddr {
        IpAddr::from((0xcb00_7100_u32 + n).to_be_bytes())
    }

    /// The notices that requests cause, each with the number of requests before it.
    fn notices(requests: impl IntoIterator<Item = (IpAddr, bool)>) -> Vec<(usize, Notice)> {
        let mut sample = Sample::new();
        let notices = requests.into_iter().enumerate().take(SAMPLE as usize);
        notices.filter_map(|(n, (peer, is_forwarded))| Some((n + 1, sample.add(peer, is_forwarded)?))).collect()
    }

    #[test]
    fn addresses_are_private_or_an_internet_clients() {
        for text in
            ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "127.0.0.1", "169.254.1.1", "100.64.0.1"]
                .into_iter()
                .chain(["100.127.255.255", "::1", "fd00::1", "fc00::1", "fe80::1"])
        {
            assert!(is_private(text.parse().unwrap()), "{text}");
        }
        for text in ["11.0.0.1", "172.32.0.1", "192.169.1.1", "100.63.255.255", "100.128.0.1", "203.0.113.9"]
            .into_iter()
            .chain(["2001:db8::1", "2600::1", "ff02::1"])
        {
            assert!(!is_private(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_header_from_a_private_address_is_reported_at_once() {
        let mixed = (0..10).map(|n| if n == 4 { (PROXY, true) } else { (client(n), false) });
        assert_eq!(notices(mixed), [(5, Notice::UntrustedForwardingHeader)]);
    }

    /// An Internet client can always add the header.
    #[test]
    fn a_header_from_other_addresses_is_reported_if_most_requests_have_it() {
        let cdn = notices((0..1_000).map(|n| (client(n % 5), true)));
        assert_eq!(cdn[0], (20, Notice::UntrustedForwardingHeader));
        assert!(cdn.iter().all(|(_, notice)| *notice == Notice::UntrustedForwardingHeader));
        let scanners = notices((0..1_000).map(|n| (client(n), n % 2 == 1)));
        assert_eq!(scanners, [], "half of them is no majority");
    }

    #[test]
    fn one_private_address_with_most_requests_is_reported_at_the_end() {
        let of =
            |others: u32| notices((0..1_000).map(move |n| (if n % 100 < others { client(n) } else { PROXY }, false)));
        for others in [0, 10, 20] {
            assert_eq!(of(others), [(1_000, Notice::SharedPrivatePeer)], "{others} % others");
        }
        for others in [30, 50, 90, 100] {
            assert_eq!(of(others), [], "{others} % others");
        }
        let many = |n: u32| IpAddr::from((0x0a00_0000 + n % 3).to_be_bytes());
        assert_eq!(notices((0..1_000).map(|n| (many(n), false))), [], "a network of clients");
        assert_eq!(notices((0..1_000).map(|_| (client(1), false))), [], "a client of the Internet");
        assert_eq!(notices((0..999).map(|_| (PROXY, false))), [], "too few requests");
    }

    #[test]
    fn a_trusted_proxy_that_forgets_the_header_is_reported_at_the_end() {
        let of = |probes: u32| {
            let mut sample = Sample::new();
            let is_own = |n: u32| n % 100 < probes;
            let notices = (0..SAMPLE).map(|n| sample.add_trusted(if is_own(n) { PROXY } else { client(n) }, is_own(n)));
            notices.flatten().collect::<Vec<_>>()
        };
        for probes in [100, 90, 80] {
            assert_eq!(of(probes), [Notice::SharedPrivatePeer], "{probes} % without a header");
        }
        for probes in [60, 50, 1, 0] {
            assert_eq!(of(probes), [], "{probes} % health checks");
        }
    }
}
