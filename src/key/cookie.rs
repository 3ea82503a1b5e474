use http::{HeaderValue, header};

use super::{KeyExtractor, KeyWriter, MissingKey, RequestView, digest};
use crate::error::ConfigError;

/// A key from the value of a cookie, such as a session.
///
/// A client chooses its cookies, and with a new value it has a new budget: limit by one only behind whatever
/// checks it. Where several cookies have the name the first one counts; some libraries take the last, and then
/// a client could put any value before its real one. Such a service reads the session itself, leaves what it
/// found in the request's extensions, and limits by [`Extension`](crate::Extension).
///
/// The `Cookie` header is read as RFC 6265, section 4.2.1, has it: pairs between semicolons, in one line or
/// (RFC 9113, section 8.2.3) several. Names are case-sensitive. White space around names and values does not
/// count, nor do quotes around a value.
///
/// # Examples
///
/// ```
/// use tower_weir::{Cookie, RateLimitLayer};
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
    /// Reads the cookie with this name.
    ///
    /// Where it is no legal name, the layer's `build` says so.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let is_legal = !name.is_empty() && name.bytes().all(is_token);
        let illegal = || ConfigError::InvalidCookieName(name.chars().take(64).collect());
        Self { name: is_legal.then(|| name.into()).ok_or_else(illegal), is_hashed: false }
    }

    /// Makes a one-way digest of the value the key, so that the value itself never reaches a store.
    ///
    /// The digest is that of [`Header::hashed`](crate::Header::hashed).
    #[must_use]
    pub fn hashed(mut self) -> Self {
        self.is_hashed = true;
        self
    }
}

impl KeyExtractor for Cookie {
    fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
        let name = self.name.as_ref().map_err(|_| MissingKey::from_server("the cookie name is not legal"))?;
        let lines = req.headers().get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
        let value = lines.filter_map(|line| find(line, name.as_bytes())).next();
        let value = value.ok_or(MissingKey::from_client("the cookie that is the key is missing"))?;
        if self.is_hashed {
            digest::write(std::iter::once(value), out);
        } else {
            out.write(value);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.name.as_ref().map(|_| ()).map_err(Clone::clone)
    }
}

/// The value of the first cookie with this name in a line.
fn find<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    line.split(|&byte| byte == b';').find_map(|pair| {
        let equals = pair.iter().position(|&byte| byte == b'=')?;
        (pair[..equals].trim_ascii() == name).then(|| unquoted(pair[equals + 1..].trim_ascii()))
    })
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value)
}

/// Whether a byte may stand in a token (RFC 9110, section 5.6.2), which the name of a cookie is.
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
    fn the_first_cookie_with_the_name_is_the_key() {
        for (lines, expected) in [
            (&["session=abc"][..], Some("abc")),
            (&["a=b; session=abc; c=d"], Some("abc")),
            (&["a=b", "c=d;session=abc"], Some("abc")),
            (&["session=abc; session=def"], Some("abc")),
            (&["session=abc", "session=def"], Some("abc")),
            (&[" session\t = abc\t;"], Some("abc")),
            (&["session=\"abc\""], Some("abc")),
            (&["session=\""], Some("\"")),
            (&["session=a=b=="], Some("a=b==")),
            (&["session="], Some("")),
            (&["session; session=abc"], Some("abc")),
            (&["xsession=abc; sessionx=abc; Session=abc; session"], None),
            (&["a=\"session=abc\""], None),
            (&["", ";;;", "=", "=session"], None),
            (&[], None),
        ] {
            let (key, request) = (Cookie::new("session"), with(lines));
            match expected {
                Some(value) => assert_eq!(bytes(&key, &request), written(value), "{lines:?}"),
                None => {
                    let expected = MissingKey::from_client("the cookie that is the key is missing");
                    assert_eq!(missing(&key, &request), expected, "{lines:?}");
                    assert_eq!(missing(&key.hashed(), &request), expected, "{lines:?}");
                }
            }
        }
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
            line in prop::collection::vec(prop_oneof![any::<u8>(), Just(b';'), Just(b'='), Just(b'"'), Just(b's')], 0..60),
        ) {
            if let Some(value) = find(&line, b"s") {
                prop_assert!(value.is_empty() || line.windows(value.len()).any(|window| window == value));
                prop_assert!(!value.contains(&b';'));
            }
        }

        /// A cookie is found among any others.
        #[test]
        fn what_a_browser_sends_is_found(
            others in prop::collection::vec("[a-rt-z]{1,5}=[!#-+\\--:<-~]{0,9}", 0..5),
            value in "[!#-+\\--:<-~]{0,9}",
            at in any::<prop::sample::Index>(),
        ) {
            let mut pairs = others;
            pairs.insert(at.index(pairs.len() + 1), format!("s={value}"));
            let line = pairs.join("; ");
            prop_assert_eq!(find(line.as_bytes(), b"s"), Some(value.as_bytes()));
        }
    }
}
