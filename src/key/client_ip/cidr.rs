//! The networks of trusted proxies.

use std::net::IpAddr;

use super::network::Prefixes;
use crate::error::{ConfigError, shortened};

/// The trusted proxies, by address.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    /// Base and mask.
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
    unix: bool,
}

impl Proxies {
    pub(super) fn parse<P>(texts: P) -> Result<Self, ConfigError>
    where
        P: IntoIterator<Item: AsRef<str>>,
    {
        let mut proxies = Self::default();
        for text in texts {
            proxies.add(text.as_ref().trim())?;
        }
        if proxies.v4.is_empty() && proxies.v6.is_empty() && !proxies.unix {
            return Err(ConfigError::NoTrustedProxy);
        }
        Ok(proxies)
    }

    fn add(&mut self, text: &str) -> Result<(), ConfigError> {
        if text == "unix:" {
            self.unix = true;
            return Ok(());
        }
        let invalid = || ConfigError::InvalidTrustedProxy(shortened(text));
        let (ip, bits) = split(text).ok_or_else(invalid)?;
        let whole = if ip.is_ipv4() { 32 } else { 128 };
        let (ip, bits) = unmap(ip, bits.unwrap_or(whole));
        if bits == 0 {
            return Err(ConfigError::TrustsEveryone(text.to_owned()));
        }
        let base: IpAddr = match ip {
            IpAddr::V4(v4) => {
                let mask = Prefixes::v4_mask(bits).map_err(|_| invalid())?;
                let base = v4.to_bits() & mask;
                self.v4.push((base, mask));
                IpAddr::V4(base.into())
            }
            IpAddr::V6(v6) => {
                let mask = Prefixes::v6_mask(bits).map_err(|_| invalid())?;
                let base = v6.to_bits() & mask;
                self.v6.push((base, mask));
                IpAddr::V6(base.into())
            }
        };
        if base != ip {
            let [network, address] = [format!("{base}/{bits}"), ip.to_string()];
            return Err(ConfigError::TrustedProxyHostBits { given: text.to_owned(), network, address });
        }
        Ok(())
    }

    /// Whether a canonical address belongs to a trusted proxy.
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(v4) => self.v4.iter().any(|(base, mask)| v4.to_bits() & mask == *base),
            IpAddr::V6(v6) => self.v6.iter().any(|(base, mask)| v6.to_bits() & mask == *base),
        }
    }

    pub(super) fn is_unix_trusted(&self) -> bool {
        self.unix
    }
}

/// Parses an address and, after a slash, the length of its prefix.
fn split(text: &str) -> Option<(IpAddr, Option<u8>)> {
    let Some((ip, bits)) = text.split_once('/') else { return Some((text.parse().ok()?, None)) };
    let is_number = bits.len() <= 3 && bits.bytes().all(|byte| byte.is_ascii_digit());
    Some((ip.parse().ok()?, Some(bits.parse().ok().filter(|_| is_number)?)))
}

/// `::ffff:10.0.0.0/104` means `10.0.0.0/8`, because peers are compared in canonical form.
fn unmap(ip: IpAddr, bits: u8) -> (IpAddr, u8) {
    match (ip, ip.to_canonical()) {
        (IpAddr::V6(_), v4 @ IpAddr::V4(_)) if (96..=128).contains(&bits) => (v4, bits - 96),
        _ => (ip, bits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Proxies::parse([text]).unwrap_err().to_string()
    }

    #[test]
    fn a_proxy_is_a_network_an_address_or_a_unix_socket() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            (" 10.0.0.0/8 ", "10.0.0.0", "9.255.255.255"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.0"),
            ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("fd00::/8", "fdff::1", "fc00::1"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
            ("128.0.0.0/1", "255.0.0.0", "127.0.0.0"),
            ("8000::/1", "ffff::", "255.0.0.0"),
            ("64:ff9b::/96", "64:ff9b::10.0.0.1", "10.0.0.1"),
        ] {
            let proxies = Proxies::parse([text]).unwrap();
            assert!(proxies.contains(inside.parse().unwrap()), "{text}");
            assert!(!proxies.contains(outside.parse().unwrap()), "{text}");
            assert!(!proxies.is_unix_trusted());
        }
        let unix = Proxies::parse(["unix:"]).unwrap();
        assert!(unix.is_unix_trusted() && !unix.contains("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn an_error_states_what_to_write() {
        for text in
            ["", "/8", "10/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "::/129", "::/300", "localhost", "unix"]
        {
            let error = error(text);
            assert!(error.starts_with(&format!("{text:?}")) && error.contains("write"), "{text}: {error}");
            assert!(error.contains("\"10.0.0.0/8\""), "{text}: {error}");
        }
        for text in ["0.0.0.0/0", "::/0", "10.0.0.0/0", "::ffff:0:0/96"] {
            assert!(error(text).contains("write the networks of your proxies"), "{text}");
        }
        for (text, network, address) in [
            ("10.1.2.3/8", "10.0.0.0/8", "10.1.2.3"),
            ("fd00::1/8", "fd00::/8", "fd00::1"),
            ("::ffff:10.1.2.3/104", "10.0.0.0/8", "10.1.2.3"),
            ("::ffff:0:0/90", "::ffc0:0:0/90", "::ffff:0.0.0.0"),
        ] {
            let error = error(text);
            assert!(error.contains(&format!("write {network:?}")), "{error}");
            assert!(error.contains(&format!("{address:?} for the one address")), "{error}");
        }
        assert_eq!(Proxies::parse([""; 0]).unwrap_err(), ConfigError::NoTrustedProxy);
    }
}
