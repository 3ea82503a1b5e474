use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, header};

use super::{digest, percent};
use crate::error::{ConfigError, shortened};
use crate::key::extractor::{CODE, KeyExtractor};
use crate::key::missing_key::MissingKey;
use crate::key::request_view::RequestView;
use crate::key::writer::KeyWriter;

/// A key from the value of a cookie, such as a session.
///
/// A client chooses its cookies, and each new value has a new budget. So use a value that your authentication has
/// *found* ([`Extension`](crate::key::Extension) or [`key_lookup`](crate::RateLimitLayerBuilder::key_lookup)), not the
/// value that it reads. If you use the cookie itself, put the limit inside the layer that checks the value.
///
/// # Keys
///
/// The common readers split the `Cookie` header at semicolons, in one line or several (RFC 9113, section 8.2.3). Names
/// are case-sensitive, and whitespace around names and values does not count. Some readers decode percent-encoding,
/// and some remove quotes. The key is the decoded and unquoted value, on which all of them agree.
///
/// If the readers can disagree, the request has no key, and the client is at fault. That is the case if:
///
/// - several cookies have the name and different values, because some readers use the first and others the last,
/// - the name is percent-encoded, because only some readers decode it,
/// - the line contains bytes that are not ASCII, or the decoded value is not UTF-8,
/// - the value is empty.
///
/// # Examples
///
/// ```
/// use tower_weir::RateLimitLayer;
/// use tower_weir::key::Cookie;
///
/// let layer =
///     RateLimitLayer::builder().quota("100/min".parse()?).key(Cookie::new("session").hashed()).build()?;
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cookie {
    name: Result<Box<str>, ConfigError>,
    is_hashed: bool,
}

impl Cookie {
    /// Uses the cookie with this name.
    ///
    /// If the name is invalid, the layer's `build` returns an error.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let is_legal = !name.is_empty() && name.bytes().all(is_token);
        let illegal = || ConfigError::InvalidCookieName(shortened(name));
        Self { name: is_legal.then(|| name.into()).ok_or_else(illegal), is_hashed: false }
    }

    /// Uses a one-way digest of the value as the key, so that the value itself never reaches a store.
    ///
    /// The digest is that of [`Header::hashed`](crate::key::Header::hashed).
    #[must_use]
    pub fn hashed(mut self) -> Self {
        self.is_hashed = true;
        self
    }
}

impl KeyExtractor for Cookie {
    fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
        let name = self.name.as_ref().map_err(|_| MissingKey::server_fault("the cookie name is invalid"))?;
        let raw = find(req.headers(), name.as_bytes())?;
        let mut decoded = Decoded::new();
        let value = unquoted(decoded.decode(raw).ok_or(NO_TEXT)?);
        if value.is_empty() {
            return Err(EMPTY);
        }
        if self.is_hashed {
            digest::write(value.as_bytes(), out);
        } else {
            out.write(value);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.name.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    fn text(&self) -> Cow<'static, str> {
        let hashed = if self.is_hashed { "hashed " } else { "" };
        self.name.as_ref().map_or(CODE.into(), |name| format!("{hashed}cookie {name}").into())
    }
}

/// The one value of the cookies with this name, as the header contains it.
fn find<'a>(headers: &'a HeaderMap, name: &[u8]) -> Result<&'a [u8], MissingKey> {
    let mut found = None;
    for line in headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes) {
        for pair in line.split(|&byte| byte == b';') {
            let Some(equals) = pair.iter().position(|&byte| byte == b'=') else { continue };
            let (its_name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
            if its_name != name {
                // Only readers that decode names treat this as the same cookie.
                if its_name.contains(&b'%') && percent::decode(its_name).eq(name.iter().copied()) {
                    return Err(ENCODED_NAME);
                }
                continue;
            }
            // Readers treat such a line as no cookie.
            if !line.iter().all(|&byte| byte == b'\t' || matches!(byte, b' '..=b'~')) {
                return Err(NO_TEXT);
            }
            if found.replace(value).is_some_and(|other| other != value) {
                return Err(SEVERAL);
            }
        }
    }
    found.ok_or(MISSING)
}

/// Room for a percent-encoded value. It allocates only above 64 bytes.
struct Decoded(KeyWriter);

impl Decoded {
    fn new() -> Self {
        Self(KeyWriter::new())
    }

    /// The value as a decoding reader sees it. Returns `None` if it is not UTF-8.
    fn decode<'a>(&'a mut self, value: &'a [u8]) -> Option<&'a str> {
        if !value.contains(&b'%') {
            return std::str::from_utf8(value).ok();
        }
        percent::decode(value).for_each(|byte| self.0.raw(&[byte]));
        std::str::from_utf8(self.0.as_bytes()).ok()
    }
}

/// The value without its quotes, which readers remove before or after decoding, or not at all.
fn unquoted(mut value: &str) -> &str {
    while let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        value = inner;
    }
    value
}

const MISSING: MissingKey = MissingKey::client_fault("the cookie that is the key is missing");
const SEVERAL: MissingKey = MissingKey::client_fault("several cookies have the name of the key");
const ENCODED_NAME: MissingKey = MissingKey::client_fault("the name of the cookie that is the key is percent-encoded");
const NO_TEXT: MissingKey = MissingKey::client_fault("the cookie that is the key is not text");
const EMPTY: MissingKey = MissingKey::client_fault("the cookie that is the key is empty");

/// Whether a token may contain a byte (RFC 9110, section 5.6.2). The name of a cookie is a token.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::tests::{bytes, missing, request, written};
    use proptest::prelude::*;

    fn with(lines: &[&str]) -> http::Request<()> {
        let mut request = request("/");
        for line in lines {
            request.headers_mut().append(header::COOKIE, HeaderValue::from_str(line).unwrap());
        }
        request
    }

    #[test]
    fn the_key_is_the_value_that_all_readers_find() {
        for (lines, expected) in [
            (&["session=abc"][..], Ok("abc")),
            (&["a=b; session=abc; c=d"], Ok("abc")),
            (&["a=b", "c=d;session=abc"], Ok("abc")),
            (&[" session\t = abc\t;"], Ok("abc")),
            (&["session=\"abc\""], Ok("abc")),
            (&["session=%22abc%22"], Ok("abc")),
            (&["session=\"%61b%63\""], Ok("abc")),
            (&["session=\""], Ok("\"")),
            (&["session=a=b=="], Ok("a=b==")),
            (&["session=a%3db%3D%3D"], Ok("a=b==")),
            (&["session=100%; a=%"], Ok("100%")),
            (&["session=%2"], Ok("%2")),
            (&["session=%2561"], Ok("%61")),
            (&["session=%C3%BC"], Ok("\u{fc}")),
            (&["session; session=abc"], Ok("abc")),
            (&["session=abc; session=abc", "session=abc"], Ok("abc")),
            (&["\u{fc}=a", "session=abc"], Ok("abc")),
            (&["session=abc; session=def"], Err(SEVERAL)),
            (&["session=abc", "session=def"], Err(SEVERAL)),
            (&["session=abc; session="], Err(SEVERAL)),
            (&["%73ession=abc"], Err(ENCODED_NAME)),
            (&["session=abc; s%65ssion=abc"], Err(ENCODED_NAME)),
            (&["session=%ff"], Err(NO_TEXT)),
            (&["session=\u{fc}"], Err(NO_TEXT)),
            (&["a=\u{fc}; session=abc"], Err(NO_TEXT)),
            (&["session="], Err(EMPTY)),
            (&["session=\"\""], Err(EMPTY)),
            (&["xsession=abc; sessionx=abc; Session=abc; session"], Err(MISSING)),
            (&["a=\"session=abc\""], Err(MISSING)),
            (&["", ";;;", "=", "=session", "%=%7"], Err(MISSING)),
            (&[], Err(MISSING)),
        ] {
            let (key, request) = (Cookie::new("session"), with(lines));
            match expected {
                Ok(value) => assert_eq!(bytes(&key, &request), written(value), "{lines:?}"),
                Err(expected) => {
                    assert_eq!(missing(&key, &request), expected, "{lines:?}");
                    assert_eq!(missing(&key.hashed(), &request), expected, "{lines:?}");
                }
            }
        }
    }

    #[test]
    fn a_long_value_is_decoded_whole() {
        let request = with(&[&format!("session={}%20", "x".repeat(500))]);
        assert_eq!(bytes(&Cookie::new("session"), &request), written(&format!("{} ", "x".repeat(500))[..]));
    }

    #[test]
    fn a_hashed_value_does_not_occur_in_the_key() {
        let (plain, hashed) = (Cookie::new("session"), Cookie::new("session").hashed());
        let request = with(&["session=correct-horse"]);
        let contains = |key: &[u8]| key.windows(13).any(|window| window == b"correct-horse");
        assert!(contains(&bytes(&plain, &request)));
        assert!(!contains(&bytes(&hashed, &request)));
        assert_ne!(bytes(&hashed, &request), bytes(&hashed, &with(&["session=correct-house"])));
    }

    #[test]
    fn a_name_must_be_a_token() {
        assert_eq!(Cookie::new("__Host-session.id").check(), Ok(()));
        for name in ["", "a b", "a=b", "a;b", "\"a\"", "s\u{e9}ssion"] {
            assert_eq!(Cookie::new(name).check(), Err(ConfigError::InvalidCookieName(name.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(
            line in prop::collection::vec(prop_oneof![any::<u8>(), Just(b';'), Just(b'='), Just(b'"'), Just(b's'), Just(b'%')], 0..60),
        ) {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                headers.insert(header::COOKIE, value);
            }
            if let Ok(value) = find(&headers, b"s") {
                prop_assert!(value.is_empty() || line.windows(value.len()).any(|window| window == value));
                prop_assert!(!value.contains(&b';'));
            }
        }

        /// Other cookies do not matter.
        #[test]
        fn a_cookie_is_found_among_others(
            others in prop::collection::vec("[a-rt-z]{1,5}=[!#-+\\--:<-~]{0,9}", 0..5),
            value in "[!#-+\\--:<-~]{0,9}",
            at in any::<prop::sample::Index>(),
        ) {
            let mut pairs = others;
            pairs.insert(at.index(pairs.len() + 1), format!("s={value}"));
            let line = pairs.join("; ");
            let request = with(&[&line]);
            prop_assert_eq!(find(request.headers(), b"s"), Ok(value.as_bytes()));
        }
    }
}
