//! The values that the keys of a limit have, by the text of its key.

use super::client_ip::ClientIp;
use super::client_ip::text::CLIENT_IP;
use super::key_parts::{KeyPart, KeyParts};

/// The parts of a key that a text defines.
pub(crate) struct KeyShape(Vec<Part>);

enum Part {
    Address(Box<ClientIp>),
    Text,
    Digest,
    Global,
    /// A function or an extractor of the program.
    Unknown,
}

impl KeyShape {
    /// Reads the text of an extractor; see [`ParsedKey`](super::ParsedKey).
    pub(crate) fn of(text: &str) -> Self {
        let mut words = text.split_whitespace().peekable();
        let mut parts = Vec::new();
        while words.peek().is_some() {
            let is_hashed = words.next_if_eq(&"hashed").is_some();
            parts.push(match words.next() {
                Some("header" | "cookie") => {
                    words.next();
                    if is_hashed { Part::Digest } else { Part::Text }
                }
                Some(CLIENT_IP) => {
                    ClientIp::from_words(&mut words).map_or(Part::Unknown, |ip| Part::Address(ip.into()))
                }
                Some("global") => Part::Global,
                Some("method" | "route" | "grpc-method" | "grpc-service") => Part::Text,
                _ => Part::Unknown,
            });
            // Up to the next part.
            words.by_ref().take_while(|word| *word != "+").for_each(drop);
        }
        Self(parts)
    }

    /// The key that requests have, if a request can have a key like this one: an address becomes that of its network.
    /// Returns `None` if no request has such a key.
    pub(crate) fn fit(&self, key: KeyParts) -> Option<KeyParts> {
        let has_code = self.0.iter().any(|part| matches!(part, Part::Unknown));
        match (&*self.0, key) {
            (_, key) if key == KeyParts::One(vec![KeyPart::Missing]) => Some(key),
            ([part], KeyParts::One(values)) => part.fit(values).map(KeyParts::One),
            (parts, KeyParts::Joined(joined)) if parts.len() == joined.len() && parts.len() > 1 => {
                let fitted = parts.iter().zip(joined).map(|(part, values)| part.fit(values));
                fitted.collect::<Option<_>>().map(KeyParts::Joined)
            }
            // A part that is code may consist of parts itself.
            (_, key) => has_code.then_some(key),
        }
    }
}

impl Part {
    fn fit(&self, values: Vec<KeyPart>) -> Option<Vec<KeyPart>> {
        match (self, &*values) {
            (Self::Unknown, _) | (Self::Global, []) | (Self::Text, [KeyPart::Text(_)]) => Some(values),
            (Self::Digest, [KeyPart::Bytes(bytes)]) => (bytes.len() == 16).then_some(values),
            (Self::Address(of), [KeyPart::Ip(ip)]) => Some(vec![KeyPart::Ip(of.network_of_address(*ip))]),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> KeyPart {
        KeyPart::Ip(text.parse().unwrap())
    }

    fn text(text: &str) -> KeyPart {
        KeyPart::Text(text.into())
    }

    #[test]
    fn an_address_becomes_that_of_its_network() {
        for (per, given, want) in [
            ("client-ip", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("client-ip", "2001:db8:1:2::", "2001:db8:1:2::"),
            ("client-ip", "::ffff:203.0.113.7", "203.0.113.7"),
            ("client-ip behind 10.0.0.0/8 header x-real-ip v6-prefix 48", "2001:db8:1:2::9", "2001:db8:1::"),
            ("client-ip hops 2 v4-prefix 24", "203.0.113.7", "203.0.113.0"),
            ("(code)", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6"),
        ] {
            let fitted = KeyShape::of(per).fit(KeyParts::One(vec![ip(given)]));
            assert_eq!(fitted, Some(KeyParts::One(vec![ip(want)])), "{per}");
        }
        let joined = |address| KeyParts::Joined(vec![vec![text("GET")], vec![ip(address)], vec![KeyPart::Unsigned(7)]]);
        let shape = KeyShape::of("method + client-ip behind 10.0.0.0/8 unix: + (code)");
        assert_eq!(shape.fit(joined("2001:db8::9")), Some(joined("2001:db8::")));
    }

    #[test]
    fn a_key_that_no_request_has_does_not_fit() {
        let digest = || KeyPart::Bytes(vec![7; 16]);
        for (per, fits, others) in [
            ("client-ip", vec![ip("203.0.113.7")], vec![vec![text("203.0.113.7")], vec![], vec![digest()]]),
            ("header x-tenant", vec![text("acme")], vec![vec![KeyPart::Unsigned(7)], vec![text("a"), text("b")]]),
            ("header +", vec![text("acme")], vec![vec![]]),
            ("hashed header x-api-key", vec![digest()], vec![vec![text("secret")], vec![KeyPart::Bytes(vec![7])]]),
            ("hashed cookie session", vec![digest()], vec![vec![text("secret")]]),
            ("global", vec![], vec![vec![text("global")]]),
            ("route", vec![text("/a")], vec![vec![ip("::")]]),
        ] {
            let shape = KeyShape::of(per);
            assert!(shape.fit(KeyParts::One(fits.clone())).is_some(), "{per}");
            assert!(shape.fit(KeyParts::One(vec![KeyPart::Missing])).is_some(), "{per}");
            for other in others {
                assert_eq!(shape.fit(KeyParts::One(other)), None, "{per}");
            }
            let joined = |parts: usize| KeyParts::Joined(vec![fits.clone(); parts]);
            assert_eq!(shape.fit(joined(1)), None, "{per}");
            let twice = KeyShape::of(&format!("{per} + {per}"));
            assert_eq!(twice.fit(joined(2)), Some(joined(2)), "{per}");
            assert_eq!((twice.fit(joined(3)), twice.fit(KeyParts::One(fits.clone()))), (None, None), "{per}");
        }
    }

    /// A key of the program may have any values, and its parts may have parts.
    #[test]
    fn every_key_fits_code() {
        let joined = KeyParts::Joined(vec![vec![text("a")]; 4]);
        for per in ["(code)", "(code) + global", "client-ip + (code)", "tenant"] {
            assert_eq!(KeyShape::of(per).fit(joined.clone()), Some(joined.clone()), "{per}");
        }
        assert!(KeyShape::of("(code)").fit(KeyParts::One(vec![KeyPart::Unsigned(7)])).is_some());
    }
}
