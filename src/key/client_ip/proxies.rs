//! The networks of trusted proxies.

use std::fmt;
use std::net::IpAddr;

use crate::error::{ConfigError, shortened};
use crate::key::cidr::{Cidr, HostBits};
use crate::key::networks::Networks;

/// The trusted proxies, by address.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proxies {
    networks: Networks,
    unix: bool,
}

impl Proxies {
    pub(super) fn parse<P>(texts: P) -> Result<Self, ConfigError>
    where
        P: IntoIterator<Item: AsRef<str>>,
    {
        let (mut ranges, mut unix) = (Vec::new(), false);
        for text in texts {
            let text = text.as_ref().trim();
            if text == "unix:" {
                unix = true;
                continue;
            }
            let cidr = Cidr::parse(text).ok_or_else(|| ConfigError::InvalidTrustedProxy(shortened(text)))?;
            if cidr.is_everything() {
                return Err(ConfigError::TrustsEveryone(text.to_owned()));
            }
            ranges.push(cidr.range().map_err(|HostBits { network, address }| ConfigError::TrustedProxyHostBits {
                given: text.to_owned(),
                network,
                address,
            })?);
        }
        match ranges.is_empty() && !unix {
            true => Err(ConfigError::NoTrustedProxy),
            false => Ok(Self { networks: Networks::from_ranges(ranges), unix }),
        }
    }

    /// Whether an address belongs to a trusted proxy.
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        self.networks.contains(ip)
    }

    pub(super) fn is_unix_trusted(&self) -> bool {
        self.unix
    }
}

impl fmt::Display for Proxies {
    /// Writes the texts that `parse` reads, with blanks between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut texts: Vec<String> = Vec::new();
        for text in self.networks.texts() {
            match &*text {
                // Two halves are accepted, and the whole is not.
                "0.0.0.0/0" => texts.extend(["0.0.0.0/1", "128.0.0.0/1"].map(String::from)),
                "::/0" => texts.extend(["::/1", "8000::/1"].map(String::from)),
                _ => texts.push(text),
            }
        }
        texts.extend(self.unix.then(|| "unix:".to_owned()));
        f.write_str(&texts.join(" "))
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
