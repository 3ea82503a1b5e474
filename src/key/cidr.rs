//! The text of one network: an address, or an address and the length of its prefix.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network as it was written, in canonical form.
///
/// `::ffff:10.0.0.0/104` is `10.0.0.0/8`, because addresses are compared in canonical form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cidr {
    ip: IpAddr,
    bits: u8,
}

/// The first and the last address of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Range {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

/// A network with bits set beyond its prefix, and its two corrections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostBits {
    pub(super) network: String,
    pub(super) address: String,
}

impl Cidr {
    /// Returns `None` if the text is not a network.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (ip, bits) = match text.split_once('/') {
            None => (text, None),
            Some((ip, bits)) => (ip, Some(length(bits)?)),
        };
        let ip: IpAddr = ip.parse().ok()?;
        let whole = if ip.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(whole);
        match (ip, ip.to_canonical()) {
            _ if bits > whole => None,
            (IpAddr::V6(_), v4 @ IpAddr::V4(_)) if bits >= 96 => Some(Self { ip: v4, bits: bits - 96 }),
            _ => Some(Self { ip, bits }),
        }
    }

    /// Whether the network has all addresses of its family.
    pub(super) fn is_everything(self) -> bool {
        self.bits == 0
    }

    pub(super) fn range(self) -> Result<Range, HostBits> {
        let (base, range) = match self.ip {
            IpAddr::V4(v4) => {
                let host = u32::MAX.checked_shr(self.bits.into()).unwrap_or(0);
                let base = Ipv4Addr::from_bits(v4.to_bits() & !host);
                (IpAddr::V4(base), Range::V4(base, Ipv4Addr::from_bits(v4.to_bits() | host)))
            }
            IpAddr::V6(v6) => {
                let host = u128::MAX.checked_shr(self.bits.into()).unwrap_or(0);
                let base = Ipv6Addr::from_bits(v6.to_bits() & !host);
                (IpAddr::V6(base), Range::V6(base, Ipv6Addr::from_bits(v6.to_bits() | host)))
            }
        };
        match base == self.ip {
            true => Ok(range),
            false => Err(HostBits { network: format!("{base}/{}", self.bits), address: self.ip.to_string() }),
        }
    }
}

/// The length of a prefix: one to three digits without a sign.
fn length(text: &str) -> Option<u8> {
    let is_number = text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        Cidr::parse(text).unwrap().range().unwrap()
    }

    #[test]
    fn a_network_has_a_first_and_a_last_address() {
        for (text, first, last) in [
            ("10.0.0.0/8", "10.0.0.0", "10.255.255.255"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.7"),
            ("192.0.2.7/32", "192.0.2.7", "192.0.2.7"),
            ("128.0.0.0/1", "128.0.0.0", "255.255.255.255"),
            ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
            ("::ffff:10.0.0.0/104", "10.0.0.0", "10.255.255.255"),
            ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.7"),
            ("::ffff:0:0/96", "0.0.0.0", "255.255.255.255"),
            ("2001:db8::/32", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::1"),
            ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("64:ff9b::/96", "64:ff9b::", "64:ff9b::ffff:ffff"),
        ] {
            let want = match (first.parse().unwrap(), last.parse().unwrap()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => Range::V4(first, last),
                (IpAddr::V6(first), IpAddr::V6(last)) => Range::V6(first, last),
                _ => unreachable!(),
            };
            assert_eq!(range(text), want, "{text}");
        }
    }

    #[test]
    fn any_other_text_is_not_a_network() {
        for text in ["", "/8", "10/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/0008", "10.0.0.0/8/8"] {
            assert!(Cidr::parse(text).is_none(), "{text}");
        }
        for text in
            ["::/129", "::/300", "::/ 8", "::ffff:0:0/129", "10.0.0", "010.0.0.1", "localhost", "[::1]", "::1%1"]
        {
            assert!(Cidr::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn bits_beyond_the_prefix_are_an_error_with_both_meanings() {
        for (text, network, address) in [
            ("10.1.2.3/8", "10.0.0.0/8", "10.1.2.3"),
            ("fd00::1/8", "fd00::/8", "fd00::1"),
            ("::ffff:10.1.2.3/104", "10.0.0.0/8", "10.1.2.3"),
            ("::ffff:0:0/90", "::ffc0:0:0/90", "::ffff:0.0.0.0"),
            ("::1/0", "::/0", "::1"),
        ] {
            let want = HostBits { network: network.into(), address: address.into() };
            assert_eq!(Cidr::parse(text).unwrap().range(), Err(want), "{text}");
        }
    }

    #[test]
    fn only_a_prefix_of_zero_bits_is_everything() {
        for (text, want) in
            [("0.0.0.0/0", true), ("::/0", true), ("::ffff:0:0/96", true), ("10.0.0.0/0", true), ("128.0.0.0/1", false)]
        {
            assert_eq!(Cidr::parse(text).unwrap().is_everything(), want, "{text}");
        }
    }
}
