//! A key as people read it.

use std::fmt;

use super::joined::PLUS;
use super::key_parts::{KeyPart, KeyParts};
use super::writer::{Key, KeyWriter};

/// The name of a key that a limit tracks; see [`TopKeys::names`](crate::TopKeys::names).
///
/// It prints as the value of the key: `acme`, `203.0.113.7`, `42`, or `acme + GET` for joined keys. Bytes, such as
/// digests, print as hexadecimal digits. Different keys may print alike, as the text `42` and the number 42 do. As a
/// [`Key`], it is exactly the tracked key. Its `Debug` omits the value, because a name may be personal data.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_weir::key::Header;
/// use tower_weir::{Limit, RateLimitLayer, TopKeys};
///
/// let layer = RateLimitLayer::builder()
///     .limit(Limit::per(Header::new("x-tenant")).quota("100/h").name("tenant").top_keys(TopKeys::names(100)))
///     .build()?;
/// # use tower::{Layer, ServiceExt};
/// # let hello = tower::service_fn(async |_| Ok::<_, std::convert::Infallible>(http::Response::new(())));
/// # let request = http::Request::builder().header("x-tenant", "acme").body(())?;
/// # layer.layer(hello).oneshot(request).await?;
/// // Later, the busiest tenant starts anew:
/// let limit = layer.control().limit("tenant")?;
/// let report = limit.top_keys().ok_or("not tracked")?;
/// let name = report.by_requests()[0].name().ok_or("no name")?;
/// assert_eq!(name.to_string(), "acme");
/// limit.key(name).reset().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyName(Box<[u8]>);

impl KeyName {
    /// The name of the key with these bytes.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes of the key.
    #[cfg(feature = "admin")]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Key for KeyName {
    fn write_to(&self, out: &mut KeyWriter) {
        out.raw(&self.0);
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match KeyParts::read(&self.0) {
            None => fmt::Display::fmt(&Hex(&self.0), f),
            Some(KeyParts::One(values)) => write_values(f, &values),
            Some(KeyParts::Joined(parts)) => write_parts(f, &parts),
        }
    }
}

fn write_parts(f: &mut fmt::Formatter<'_>, parts: &[Vec<KeyPart>]) -> fmt::Result {
    for (at, values) in parts.iter().enumerate() {
        f.write_str(if at == 0 { "" } else { PLUS })?;
        write_values(f, values)?;
    }
    Ok(())
}

/// Most keys have one value. A key without values is that of `Global`.
fn write_values(f: &mut fmt::Formatter<'_>, values: &[KeyPart]) -> fmt::Result {
    for (at, value) in values.iter().enumerate() {
        f.write_str(if at == 0 { "" } else { ", " })?;
        write_value(f, value)?;
    }
    if values.is_empty() { f.write_str("(global)") } else { Ok(()) }
}

fn write_value(f: &mut fmt::Formatter<'_>, value: &KeyPart) -> fmt::Result {
    match value {
        KeyPart::Text(text) => text.chars().try_for_each(|char| write_char(f, char)),
        KeyPart::Bytes(bytes) => fmt::Display::fmt(&Hex(bytes), f),
        KeyPart::Ip(ip) => write!(f, "{ip}"),
        KeyPart::Unsigned(number) => write!(f, "{number}"),
        KeyPart::Signed(number) => write!(f, "{number}"),
        KeyPart::Wide(number) => write!(f, "{number}"),
        KeyPart::Bool(bool) => write!(f, "{bool}"),
        KeyPart::Char(char) => write_char(f, *char),
        KeyPart::Unit => f.write_str("()"),
        KeyPart::None => f.write_str("(none)"),
        KeyPart::Some(values) => write_values(f, values),
        KeyPart::Tuple(parts) => write_parts(f, parts),
        KeyPart::Missing => f.write_str("(missing)"),
    }
}

/// A client can send any character, and a terminal or a log must not interpret it.
fn write_char(f: &mut fmt::Formatter<'_>, char: char) -> fmt::Result {
    let is_plain = char == ' ' || !(char.is_control() || char.is_whitespace() || is_invisible(char));
    if is_plain { write!(f, "{char}") } else { write!(f, "{}", char.escape_unicode()) }
}

/// Whether a character formats the text around it, as those do that change its direction.
fn is_invisible(char: char) -> bool {
    matches!(char, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Bytes that print as pairs of hexadecimal digits.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyName").field("len", &self.0.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::key::extractor::KeyExtractor;
    use crate::key::tests::{bytes, request, written};
    use crate::key::{Global, Header, HttpMethod};

    fn name<K: Key + ?Sized>(key: &K) -> String {
        KeyName::new(&written(key)).to_string()
    }

    #[test]
    fn a_name_is_the_value_of_the_key() {
        let mut get = request("/");
        get.headers_mut().insert("x-tenant", "acme".parse().unwrap());
        let of = |key: &dyn Fn() -> Vec<u8>| KeyName::new(&key()).to_string();
        assert_eq!(of(&|| bytes(&Header::new("x-tenant"), &get)), "acme");
        assert_eq!(of(&|| bytes(&(Header::new("x-tenant"), HttpMethod), &get)), "acme + GET");
        assert_eq!(of(&|| bytes(&(Global, HttpMethod), &get)), "(global) + GET");
        assert_eq!(of(&|| bytes(&Global, &get)), "(global)");
        assert!(
            Header::new("x-tenant").hashed().key(&crate::key::RequestView::new(&get), &mut KeyWriter::new()).is_ok()
        );
        assert_eq!(of(&|| bytes(&Header::new("x-tenant").hashed(), &get)).len(), 32, "a digest");
        assert_eq!(name(&Ipv4Addr::new(203, 0, 113, 7)), "203.0.113.7");
        assert_eq!((name(&42_u8), name(&-42), name(&7_u128)), ("42".into(), "-42".into(), "7".into()));
        assert_eq!((name(&true), name(&'x'), name(&())), ("true".into(), "x".into(), "()".into()));
        assert_eq!((name(&None::<u8>), name(&Some("a"))), ("(none)".into(), "a".into()));
        assert_eq!(name(&("a", [0x9f_u8, 0x86])), "a + 9f86");
        assert_eq!(name("a\nb\u{1b}[31m \u{202e}c"), "a\\u{a}b\\u{1b}[31m \\u{202e}c");
        assert_eq!(KeyName::new(&[0xff, 1]).to_string(), "ff01", "bytes that are no key");
    }

    #[test]
    fn a_name_is_exactly_its_key_and_its_debug_form_hides_it() {
        let key = written(&("acme", 7));
        assert_eq!(written(&KeyName::new(&key)), key);
        assert!(!format!("{:?}", KeyName::new(&written("acme"))).contains("acme"));
    }
}
