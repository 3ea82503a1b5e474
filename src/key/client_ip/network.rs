//! The network that stands for a client. Only this module turns addresses into keys.

use std::net::IpAddr;

use crate::error::ConfigError;

/// The bits of an address that form its key.
#[derive(Clone, Copy, Debug)]
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

    pub(super) fn network(self, ip: IpAddr) -> IpAddr {
        match unmapped(ip) {
            IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & self.v4).into()),
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & self.v6).into()),
        }
    }
}

/// The IPv4 address in an IPv4-mapped or a NAT64 address. The deprecated IPv4-compatible form (::/96) and 6to4 are not
/// unwrapped: the owner of such an address may not own the IPv4 address.
fn unmapped(ip: IpAddr) -> IpAddr {
    /// The NAT64 prefix is 64:ff9b::/96 (RFC 6052).
    const NAT64: u128 = 0x0064_ff9b << 96;

    match ip.to_canonical() {
        IpAddr::V6(v6) => u32::try_from(v6.to_bits() ^ NAT64).map_or(IpAddr::V6(v6), |v4| IpAddr::V4(v4.into())),
        v4 => v4,
    }
}
