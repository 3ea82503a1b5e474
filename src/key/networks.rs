//! A list of networks.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::cidr::{Cidr, HostBits, Range};
use crate::error::{ConfigError, shortened};

/// A list of networks, to exempt or to deny their clients.
///
/// A network is a text such as `"192.0.2.0/24"`, `"2001:db8::/32"` or the address `"198.51.100.7"`. Two lists with the
/// same addresses are equal. A clone shares the list, and a search in `n` networks takes about log2(`n`) steps.
///
/// Use it with [`exempt_networks`](crate::RateLimitLayerBuilder::exempt_networks),
/// [`deny_networks`](crate::RateLimitLayerBuilder::deny_networks), or in a function of your own.
///
/// # Examples
///
/// ```
/// use tower_weir::key::Networks;
///
/// let office = Networks::new(["192.0.2.0/24", "2001:db8::/32"])?;
/// assert!(office.contains("192.0.2.7".parse().unwrap()));
/// assert!(!office.contains("198.51.100.7".parse().unwrap()));
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks {
    v4: Ranges<Ipv4Addr>,
    v6: Ranges<Ipv6Addr>,
}

impl Networks {
    /// Parses a list of networks. Whitespace around a text is ignored.
    ///
    /// An IPv4-mapped IPv6 network such as `::ffff:10.0.0.0/104` is the IPv4 network `10.0.0.0/8`. No other IPv6
    /// network contains an IPv4 address, not even `::/0`.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] for a text that is not a network, for a network with bits beyond its prefix, and for
    /// an empty list.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::ConfigError;
    /// use tower_weir::key::Networks;
    ///
    /// let from_a_file = "192.0.2.0/24\n198.51.100.7\n";
    /// assert!(Networks::new(from_a_file.lines()).is_ok());
    /// let error = Networks::new(["192.0.2.7/24"]).unwrap_err();
    /// assert!(error.to_string().contains(r#"write "192.0.2.0/24" for the network"#));
    /// ```
    pub fn new<N>(networks: N) -> Result<Self, ConfigError>
    where
        N: IntoIterator<Item: AsRef<str>>,
    {
        let mut ranges = Vec::new();
        for text in networks {
            let text = text.as_ref().trim();
            let cidr = Cidr::parse(text).ok_or_else(|| ConfigError::InvalidNetwork(shortened(text)))?;
            ranges.push(cidr.range().map_err(|HostBits { network, address }| ConfigError::NetworkHostBits {
                given: text.to_owned(),
                network,
                address,
            })?);
        }
        match ranges.is_empty() {
            true => Err(ConfigError::NoNetwork),
            false => Ok(Self::from_ranges(ranges)),
        }
    }

    pub(super) fn from_ranges(ranges: impl IntoIterator<Item = Range>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for range in ranges {
            match range {
                Range::V4(first, last) => v4.push((first, last)),
                Range::V6(first, last) => v6.push((first, last)),
            }
        }
        Self {
            v4: Ranges::merged(v4, |ip| ip.to_bits().checked_add(1).map(Ipv4Addr::from_bits)),
            v6: Ranges::merged(v6, |ip| ip.to_bits().checked_add(1).map(Ipv6Addr::from_bits)),
        }
    }

    /// Whether an address belongs to one of the networks.
    ///
    /// An IPv4-mapped IPv6 address is the IPv4 address. An address of the NAT64 prefix 64:ff9b::/96 is not.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::key::Networks;
    ///
    /// let networks = Networks::new(["192.0.2.0/24"])?;
    /// assert!(networks.contains("::ffff:192.0.2.7".parse().unwrap()));
    /// assert!(!networks.contains("64:ff9b::192.0.2.7".parse().unwrap()));
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(v4) => self.v4.contains(v4),
            IpAddr::V6(v6) => self.v6.contains(v6),
        }
    }

    /// The addresses of all lists.
    pub(crate) fn union<'a>(lists: impl IntoIterator<Item = &'a Self>) -> Self {
        Self::from_ranges(lists.into_iter().flat_map(|list| {
            let v4 = list.v4.0.iter().map(|(first, last)| Range::V4(*first, *last));
            v4.chain(list.v6.0.iter().map(|(first, last)| Range::V6(*first, *last)))
        }))
    }

    /// The smallest list of networks with these addresses, as texts.
    pub(crate) fn texts(&self) -> impl Iterator<Item = String> {
        let v4 = self.v4.0.iter().flat_map(|(first, last)| {
            let blocks = blocks(first.to_bits().into(), last.to_bits().into(), 32);
            // A number below 2^32.
            blocks.map(|(base, bits)| text(Ipv4Addr::from_bits(base as u32).into(), bits, 32))
        });
        let v6 = self.v6.0.iter().flat_map(|(first, last)| {
            let blocks = blocks(first.to_bits(), last.to_bits(), 128);
            blocks.map(|(base, bits)| text(Ipv6Addr::from_bits(base).into(), bits, 128))
        });
        v4.chain(v6)
    }

    /// A network with all addresses of its family, if the list covers one.
    pub(crate) fn everything(&self) -> Option<&'static str> {
        match (self.v4.0.first(), self.v6.0.first()) {
            (Some((Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST)), _) => Some("0.0.0.0/0"),
            (_, Some((Ipv6Addr::UNSPECIFIED, last))) if last.to_bits() == u128::MAX => Some("::/0"),
            _ => None,
        }
    }
}

impl fmt::Display for Networks {
    /// Writes the smallest list of networks with the same addresses, with blanks between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.texts().collect::<Vec<_>>().join(" "))
    }
}

/// The aligned blocks from `first` to `last`, each with its base and the bits of its prefix.
fn blocks(first: u128, last: u128, width: u32) -> impl Iterator<Item = (u128, u32)> {
    let mut next = Some(first);
    std::iter::from_fn(move || {
        let base = next.filter(|base| *base <= last)?;
        // The largest block that begins here and does not pass the last address.
        let fits = |host: &u32| u128::MAX.checked_shl(*host).map_or(base == 0, |mask| base & !mask == 0);
        let end = |host: u32| base | !u128::MAX.checked_shl(host).unwrap_or(0);
        let host = (0..=width).rev().find(|host| fits(host) && end(*host) <= last)?;
        next = end(host).checked_add(1);
        Some((base, width - host))
    })
}

fn text(base: IpAddr, bits: u32, width: u32) -> String {
    if bits == width { base.to_string() } else { format!("{base}/{bits}") }
}

/// Ranges in ascending order, with a gap between each two, so that equal lists have equal ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranges<T>(Arc<[(T, T)]>);

impl<T: Copy + Ord> Ranges<T> {
    /// Sorts the ranges, and merges those that overlap or touch.
    fn merged(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Self {
        ranges.sort_unstable();
        ranges.dedup_by(|(first, last), (_, before)| {
            let is_joined = next(*before).is_none_or(|next| *first <= next);
            *before = if is_joined { (*before).max(*last) } else { *before };
            is_joined
        });
        Self(ranges.into())
    }

    fn contains(&self, at: T) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= at);
        self.0[..after].last().is_some_and(|(_, last)| at <= *last)
    }
}

/// The networks that a layer's builder accepts: [`Networks`], or a list of texts.
///
/// If a text is invalid, the layer's `build` returns an error.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a list of networks",
    label = "not a list of networks",
    note = "pass `Networks`, or a list of texts such as `[\"192.0.2.0/24\"]`"
)]
pub trait IntoNetworks {
    /// Converts into networks.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Networks::new`].
    fn into_networks(self) -> Result<Networks, ConfigError>;
}

impl IntoNetworks for Networks {
    fn into_networks(self) -> Result<Networks, ConfigError> {
        Ok(self)
    }
}

impl IntoNetworks for &Networks {
    fn into_networks(self) -> Result<Networks, ConfigError> {
        Ok(self.clone())
    }
}

impl<N: IntoIterator<Item: AsRef<str>>> IntoNetworks for N {
    fn into_networks(self) -> Result<Networks, ConfigError> {
        Networks::new(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks<const N: usize>(texts: [&str; N]) -> Networks {
        Networks::new(texts).unwrap()
    }

    /// A network near the ends of a family or around one address, so that networks overlap, touch and repeat.
    fn network() -> impl Strategy<Value = String> {
        let v4 = (prop_oneof![0..8_u32, Just(u32::MAX), 0x0a00_0000..0x0a00_0020_u32, any::<u32>()], 0..=32_u32);
        let v6 = (
            prop_oneof![0..8_u128, Just(u128::MAX), (0xffff << 32)..(0xffff_u128 << 32) + 16, any::<u128>()],
            0..=128_u32,
        );
        prop_oneof![
            v4.prop_map(|(ip, bits)| {
                let host = u32::MAX.checked_shr(bits).unwrap_or(0);
                format!("{}/{bits}", Ipv4Addr::from_bits(ip & !host))
            }),
            v6.prop_map(|(ip, bits)| {
                let host = u128::MAX.checked_shr(bits).unwrap_or(0);
                format!("{}/{bits}", Ipv6Addr::from_bits(ip & !host))
            }),
        ]
    }

    /// Compares the leading bits one by one.
    fn naive(text: &str, ip: IpAddr) -> bool {
        let bits = |ip: IpAddr| match ip {
            IpAddr::V4(v4) => format!("{:032b}", v4.to_bits()),
            IpAddr::V6(v6) => format!("{:0128b}", v6.to_bits()),
        };
        let (base, length) = text.split_once('/').unwrap();
        let (given, mut length): (IpAddr, usize) = (base.parse().unwrap(), length.parse().unwrap());
        let base = if length >= 96 { given.to_canonical() } else { given };
        if base.is_ipv4() != given.is_ipv4() {
            length -= 96;
        }
        base.is_ipv4() == ip.is_ipv4() && bits(base)[..length] == bits(ip)[..length]
    }

    /// The addresses at both ends of a network and next to them.
    fn borders(text: &str) -> Vec<IpAddr> {
        match Cidr::parse(text).unwrap().range().unwrap() {
            Range::V4(first, last) => [first.to_bits(), last.to_bits()]
                .into_iter()
                .flat_map(|at| [at.wrapping_sub(1), at, at.wrapping_add(1)])
                .map(|at| IpAddr::from(at.to_be_bytes()))
                .collect(),
            Range::V6(first, last) => [first.to_bits(), last.to_bits()]
                .into_iter()
                .flat_map(|at| [at.wrapping_sub(1), at, at.wrapping_add(1)])
                .map(|at| IpAddr::from(at.to_be_bytes()).to_canonical())
                .collect(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_list_contains_what_one_of_its_networks_contains(
            texts in prop::collection::vec(network(), 1..12),
            other in any::<u32>(),
        ) {
            let networks = Networks::new(&texts).unwrap();
            for ip in texts.iter().flat_map(|text| borders(text)).chain([IpAddr::V4(other.into())]) {
                let want = texts.iter().any(|text| naive(text, ip));
                prop_assert_eq!(networks.contains(ip), want, "{} in {:?}", ip, texts);
                let mapped = match ip {
                    IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
                    v6 => v6,
                };
                prop_assert_eq!(networks.contains(mapped), want);
            }
        }

        #[test]
        fn a_list_parses_from_its_text(
            texts in prop::collection::vec(network(), 1..12),
            others in prop::collection::vec(network(), 1..4),
        ) {
            let (networks, more) = (Networks::new(&texts).unwrap(), Networks::new(&others).unwrap());
            let read = Networks::new(networks.to_string().split(' ')).unwrap();
            prop_assert_eq!(&read, &networks, "{}", networks);
            prop_assert!(networks.texts().count() <= texts.len(), "{} is longer than {:?}", networks, texts);
            prop_assert_eq!(Networks::union([&networks, &more]), Networks::new([texts, others].concat()).unwrap());
        }

        #[test]
        fn the_order_and_repetitions_of_networks_do_not_matter(
            texts in prop::collection::vec(network(), 1..12),
            seed in any::<usize>(),
        ) {
            let mut other = [&texts[..], &texts[..1]].concat();
            let len = other.len();
            other.rotate_left(seed % len);
            other.reverse();
            prop_assert_eq!(Networks::new(&texts).unwrap(), Networks::new(&other).unwrap());
        }
    }

    #[test]
    fn networks_that_overlap_or_touch_are_one_range() {
        for (texts, want) in [
            (["10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16"], "10.0.0.0/8"),
            (["::/1", "8000::/1", "fd00::/8"], "::/0"),
            (["0.0.0.0/1", "128.0.0.0/1", "255.255.255.255"], "0.0.0.0/0"),
        ] {
            let merged = networks(texts);
            assert_eq!(merged, networks([want]));
            assert_eq!(merged.v4.0.len() + merged.v6.0.len(), 1);
        }
        assert_ne!(networks(["10.0.0.0/9"]), networks(["10.0.0.0/8"]));
        assert_eq!(networks(["10.0.0.0/32", "10.0.0.2/32"]).v4.0.len(), 2, "a gap of one address");
    }

    #[test]
    fn a_list_that_covers_a_family_is_known() {
        for (texts, want) in [
            (["0.0.0.0/0", "fd00::/8"], Some("0.0.0.0/0")),
            (["128.0.0.0/1", "0.0.0.0/1"], Some("0.0.0.0/0")),
            (["::ffff:0:0/96", "fd00::/8"], Some("0.0.0.0/0")),
            (["::/0", "10.0.0.0/8"], Some("::/0")),
            (["128.0.0.0/1", "8000::/1"], None),
            (["::/1", "0.0.0.0/1"], None),
        ] {
            assert_eq!(networks(texts).everything(), want, "{texts:?}");
        }
    }

    #[test]
    fn a_list_shows_its_addresses() {
        let text = format!("{:?}", networks(["192.0.2.0/24", "2001:db8::1"]));
        assert!(text.contains("(192.0.2.0, 192.0.2.255)") && text.contains("2001:db8::1"), "{text}");
    }

    #[test]
    fn an_error_states_what_to_write() {
        let error = |text: &str| Networks::new(["192.0.2.0/24", text]).unwrap_err();
        for text in ["", "192.0.2.0/33", "unix:", "localhost", "192.0.2.0 - 192.0.2.9"] {
            assert_eq!(error(text), ConfigError::InvalidNetwork(text.into()));
            assert!(error(text).to_string().contains("write"), "{text}");
        }
        assert_eq!(error(&"x".repeat(999)), ConfigError::InvalidNetwork("x".repeat(64)));
        assert_eq!(
            error(" 10.1.2.3/8 ").to_string(),
            "\"10.1.2.3/8\" has bits set beyond its prefix; write \"10.0.0.0/8\" for the network, or \"10.1.2.3\" for \
             the one address"
        );
        assert_eq!(Networks::new([""; 0]).unwrap_err(), ConfigError::NoNetwork);
        assert!(ConfigError::NoNetwork.to_string().contains("write"));
    }
}
