//! The network that stands for a client. Only this module turns addresses into keys.

use std::net::IpAddr;

use crate::error::ConfigError;

/// The bits of an address that form its key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Prefixes {
    pub(super) v4: u32,
    pub(super) v6: u128,
}

impl Default for Prefixes {
    /// Uses the whole IPv4 address, and the /64 of an IPv6 address.
    fn default() -> Self {
        Self { v4: u32::MAX, v6: u128::MAX << 64 }
    }
}

impl Prefixes {
    pub(super) fn v4_mask(bits: u8) -> Result<u32, ConfigError> {
        let zeros = 32_u32.checked_sub(bits.into()).ok_or(ConfigError::InvalidPrefixLength { bits, most: 32 })?;
        Ok(u32::MAX.checked_shl(zeros).unwrap_or(0))
    }

    pub(super) fn v6_mask(bits: u8) -> Result<u128, ConfigError> {
        let zeros = 128_u32.checked_sub(bits.into()).ok_or(ConfigError::InvalidPrefixLength { bits, most: 128 })?;
        Ok(u128::MAX.checked_shl(zeros).unwrap_or(0))
    }

    #[inline]
    pub(super) fn network(self, address: Address) -> Address {
        match nat64_unwrapped(address) {
            Address::V4(v4) => Address::V4(v4 & self.v4),
            Address::V6(v6) => Address::V6(v6 & self.v6),
        }
    }
}

/// An address as a number, in canonical form, never IPv4-mapped. The compiler moves numbers faster than the bytes of an
/// `IpAddr`.
#[derive(Clone, Copy)]
pub(super) enum Address {
    V4(u32),
    V6(u128),
}

impl From<IpAddr> for Address {
    #[inline]
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            // `to_ipv4` would convert ::1 to 0.0.0.1.
            IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(Self::V6(v6.to_bits()), |v4| Self::V4(v4.to_bits())),
        }
    }
}

impl From<Address> for IpAddr {
    #[inline]
    fn from(address: Address) -> Self {
        match address {
            Address::V4(v4) => Self::V4(v4.into()),
            Address::V6(v6) => Self::V6(v6.into()),
        }
    }
}

/// The IPv4 address in a NAT64 address. The deprecated IPv4-compatible form (::/96) and 6to4 are not unwrapped: the
/// owner of such an address may not own the IPv4 address.
#[inline]
pub(super) fn nat64_unwrapped(address: Address) -> Address {
    /// The NAT64 prefix is 64:ff9b::/96 (RFC 6052).
    const NAT64: u128 = 0x0064_ff9b << 96;

    match address {
        Address::V6(v6) => u32::try_from(v6 ^ NAT64).map_or(Address::V6(v6), Address::V4),
        v4 => v4,
    }
}
