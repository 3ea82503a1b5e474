//! The text of a client's address, such as `client-ip behind 10.0.0.0/8`.

use std::fmt;
use std::iter::Peekable;
use std::str::{FromStr, SplitWhitespace};

use super::network::Prefixes;
use super::source::Source;
use super::{ClientIp, Trust};
use crate::error::{ConfigError, shortened};
use crate::key::extractor::KeyExtractor;

/// The first word of the text.
pub(crate) const CLIENT_IP: &str = "client-ip";
const BEHIND: &str = "behind";
const HOPS: &str = "hops";
const HEADER: &str = "header";
const V4: &str = "v4-prefix";
const V6: &str = "v6-prefix";
/// The words after which a list of proxies ends.
const OPTIONS: [&str; 6] = [BEHIND, HOPS, HEADER, V4, V6, "+"];

/// The words of a key's text.
pub(crate) type Words<'a> = Peekable<SplitWhitespace<'a>>;

impl ClientIp {
    /// Reads the options after `client-ip`, up to the end or a `+`.
    ///
    /// # Errors
    ///
    /// Returns the error of the setter that an option stands for, and [`ConfigError::InvalidKey`] for another word.
    pub(crate) fn from_words(words: &mut Words<'_>) -> Result<Self, ConfigError> {
        let (mut trust, mut header, mut v4, mut v6) = (None, None, None, None);
        while let Some(option) = words.next_if(|word| *word != "+") {
            let invalid = || ConfigError::InvalidKey(shortened(&format!("{CLIENT_IP} {option}")));
            match option {
                BEHIND if trust.is_none() => trust = Some(Self::behind(proxies(words))?),
                HOPS if trust.is_none() => {
                    let hops = number(words).filter(|n: &usize| *n > 0);
                    trust = Some(Self::hops(hops.ok_or_else(invalid)?));
                }
                HEADER if header.is_none() => header = Some(words.next().ok_or_else(invalid)?),
                HEADER => return Err(ConfigError::SeveralAddressHeaders),
                V4 if v4.is_none() => v4 = Some(number(words).ok_or_else(invalid)?),
                V6 if v6.is_none() => v6 = Some(number(words).ok_or_else(invalid)?),
                _ => return Err(invalid()),
            }
        }
        let mut ip = trust.unwrap_or_else(Self::peer);
        if let Some(name) = header {
            ip = ip.header(name);
        }
        if let Some(bits) = v4 {
            ip = ip.v4_prefix(bits);
        }
        if let Some(bits) = v6 {
            ip = ip.v6_prefix(bits);
        }
        ip.check().map(|()| ip)
    }
}

fn proxies<'a>(words: &mut Words<'a>) -> Vec<&'a str> {
    std::iter::from_fn(|| words.next_if(|word| !OPTIONS.contains(word))).collect()
}

fn number<T: FromStr>(words: &mut Words<'_>) -> Option<T> {
    words.next()?.parse().ok()
}

impl FromStr for ClientIp {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let mut words = text.split_whitespace().peekable();
        let invalid = || ConfigError::InvalidKey(shortened(text));
        if words.next() != Some(CLIENT_IP) {
            return Err(invalid());
        }
        let ip = Self::from_words(&mut words)?;
        if words.peek().is_none() { Ok(ip) } else { Err(invalid()) }
    }
}

#[cfg(feature = "serde")]
crate::quota::serde_text!(ClientIp);

impl fmt::Display for ClientIp {
    /// Writes the text that parses as the same reader of addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CLIENT_IP)?;
        match &self.trust {
            Trust::Nobody | Trust::Hops(0) => {}
            Trust::Proxies(proxies) => write!(f, " {BEHIND} {proxies}")?,
            Trust::Hops(n) => write!(f, " {HOPS} {n}")?,
        }
        let reads_no_header = matches!(self.trust, Trust::Nobody | Trust::Hops(0));
        match &self.source {
            None | Some(Source::XForwardedFor) => {}
            _ if reads_no_header => {}
            Some(source) => write!(f, " {HEADER} {}", source.name())?,
        }
        let (given, usual) = (self.prefixes, Prefixes::default());
        if given.v4 != usual.v4 {
            write!(f, " {V4} {}", given.v4.count_ones())?;
        }
        if given.v6 != usual.v6 {
            write!(f, " {V6} {}", given.v6.count_ones())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_has_a_text() {
        let behind = || ClientIp::behind(["10.0.0.0/8", "unix:", "192.0.2.1"]).unwrap();
        for (ip, text) in [
            (ClientIp::peer(), "client-ip"),
            (ClientIp::hops(2), "client-ip hops 2"),
            (ClientIp::hops(1).forwarded(), "client-ip hops 1 header forwarded"),
            (behind(), "client-ip behind 10.0.0.0/8 192.0.2.1 unix:"),
            (behind().header("X-Real-IP"), "client-ip behind 10.0.0.0/8 192.0.2.1 unix: header x-real-ip"),
            (
                ClientIp::hops(1).header("CloudFront-Viewer-Address"),
                "client-ip hops 1 header cloudfront-viewer-address",
            ),
            (ClientIp::peer().v4_prefix(24).v6_prefix(0), "client-ip v4-prefix 24 v6-prefix 0"),
            (ClientIp::hops(3).v4_prefix(0).v6_prefix(128), "client-ip hops 3 v4-prefix 0 v6-prefix 128"),
            (ClientIp::behind(["0.0.0.0/1", "128.0.0.0/1"]).unwrap(), "client-ip behind 0.0.0.0/1 128.0.0.0/1"),
            (ClientIp::behind(["::/1", "8000::/1"]).unwrap(), "client-ip behind ::/1 8000::/1"),
        ] {
            assert_eq!(ip.to_string(), text);
            assert_eq!(text.parse(), Ok(ip));
        }
        // They read the same address as the shorter text.
        assert_eq!(ClientIp::hops(0).header("x-real-ip").to_string(), "client-ip");
        assert_eq!(behind().header("x-forwarded-for").to_string(), behind().to_string());
        assert_eq!(" client-ip  v6-prefix 56\thops 2 ".parse(), Ok(ClientIp::hops(2).v6_prefix(56)));
    }

    #[test]
    fn an_invalid_text_states_what_to_write() {
        let error = |text: &str| text.parse::<ClientIp>().unwrap_err();
        for text in [
            "",
            "client_ip",
            "global",
            "client-ip peer",
            "client-ip hops",
            "client-ip hops 0",
            "client-ip hops -1",
            "client-ip hops 1 hops 1",
            "client-ip hops 1 behind 10.0.0.0/8",
            "client-ip v4-prefix 300",
            "client-ip v6-prefix",
            "client-ip hops 1 header",
            "client-ip + global",
        ] {
            let error = error(text);
            assert!(matches!(error, ConfigError::InvalidKey(_)), "{text}: {error}");
            assert!(error.to_string().contains("client-ip behind 10.0.0.0/8"), "{error}");
        }
        assert_eq!(error("client-ip behind"), ConfigError::NoTrustedProxy);
        assert_eq!(error("client-ip behind header x-real-ip"), ConfigError::NoTrustedProxy);
        assert_eq!(error("client-ip behind often"), ConfigError::InvalidTrustedProxy("often".into()));
        assert_eq!(error("client-ip header x-real-ip"), ConfigError::AddressHeaderWithoutProxy);
        assert_eq!(error("client-ip hops 1 header a header b"), ConfigError::SeveralAddressHeaders);
        assert_eq!(error("client-ip v4-prefix 33"), ConfigError::InvalidPrefixLength { bits: 33, most: 32 });
    }
}
