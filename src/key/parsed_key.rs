//! A key that is read from a text.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::client_ip::ClientIp;
use super::client_ip::text::{CLIENT_IP, Words};
use super::cookie::Cookie;
use super::extractor::{CODE, KeyExtractor};
use super::global::Global;
use super::grpc::{GrpcMethod, GrpcService};
use super::header::Header;
use super::http_method::HttpMethod;
use super::joined::joined_text;
use super::missing_key::MissingKey;
use super::request_view::RequestView;
use super::writer::KeyWriter;
use crate::error::{ConfigError, shortened};

/// A key that a text defines, such as the one of a limit in a file.
///
/// | text | key |
/// |---|---|
/// | `client-ip` | [`ClientIp::peer()`](ClientIp::peer) |
/// | `client-ip behind 10.0.0.0/8 unix:` | [`ClientIp::behind`], with networks of your proxies |
/// | `client-ip hops 2 header x-real-ip` | [`ClientIp::hops`], with a header of your proxies |
/// | `header x-tenant`, `hashed header x-api-key` | [`Header`] |
/// | `cookie session`, `hashed cookie session` | [`Cookie`] |
/// | `method`, `grpc-service`, `grpc-method` | [`HttpMethod`], [`GrpcService`], [`GrpcMethod`] |
/// | `route` | `Route` (feature `axum`) |
/// | `global` | [`Global`] |
/// | `client-ip + header x-tenant` | a tuple of the two |
///
/// It writes the same bytes as that key, so a limit that moves from the code to a file keeps its histories.
///
/// # Examples
///
/// ```
/// use tower_weir::key::ParsedKey;
/// use tower_weir::{Limit, RateLimitLayer};
///
/// let key: ParsedKey = "hashed header x-api-key + method".parse()?;
/// let layer = RateLimitLayer::builder().limit(Limit::per(key).quota("100/min")).build()?;
/// assert!("header".parse::<ParsedKey>().unwrap_err().to_string().contains("header x-tenant"));
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct ParsedKey {
    /// At least one.
    parts: Arc<[Arc<dyn KeyExtractor>]>,
}

impl ParsedKey {
    /// The extractor itself. A key without a `+` needs no step more than one in the code.
    pub(crate) fn into_extractor(self) -> Arc<dyn KeyExtractor> {
        match &*self.parts {
            [part] => Arc::clone(part),
            _ => Arc::new(self),
        }
    }
}

impl Default for ParsedKey {
    /// The key of a limit without one: [`ClientIp::peer`].
    fn default() -> Self {
        Self { parts: Arc::new([Arc::new(ClientIp::peer())]) }
    }
}

impl KeyExtractor for ParsedKey {
    fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
        match &*self.parts {
            [part] => part.key(req, out),
            // As a tuple of the parts does.
            parts => parts.iter().try_for_each(|part| {
                part.key(req, out)?;
                out.end();
                Ok(())
            }),
        }
    }

    fn is_global(&self) -> bool {
        self.parts.iter().all(KeyExtractor::is_global)
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.parts.iter().try_for_each(KeyExtractor::check)
    }

    fn text(&self) -> Cow<'static, str> {
        joined_text(&self.parts.iter().map(KeyExtractor::text).collect::<Vec<_>>())
    }
}

impl FromStr for ParsedKey {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let mut words = text.split_whitespace().peekable();
        let mut parts = Vec::new();
        loop {
            let part = part(&mut words, text)?;
            part.check()?;
            parts.push(part);
            match words.next() {
                None => return Ok(Self { parts: parts.into() }),
                Some("+") => {}
                Some(_) => return Err(ConfigError::InvalidKey(shortened(text))),
            }
        }
    }
}

/// Reads one key, up to the end or a `+`. `text` is the whole text, for errors.
fn part(words: &mut Words<'_>, text: &str) -> Result<Arc<dyn KeyExtractor>, ConfigError> {
    let invalid = || ConfigError::InvalidKey(shortened(text));
    let is_hashed = words.next_if_eq(&"hashed").is_some();
    Ok(match words.next().ok_or_else(invalid)? {
        "header" => {
            let header = Header::new(words.next().ok_or_else(invalid)?);
            Arc::new(if is_hashed { header.hashed() } else { header })
        }
        "cookie" => {
            let cookie = Cookie::new(words.next().ok_or_else(invalid)?);
            Arc::new(if is_hashed { cookie.hashed() } else { cookie })
        }
        _ if is_hashed => return Err(invalid()),
        CLIENT_IP => Arc::new(ClientIp::from_words(words)?),
        "global" => Arc::new(Global),
        "method" => Arc::new(HttpMethod),
        "grpc-method" => Arc::new(GrpcMethod),
        "grpc-service" => Arc::new(GrpcService),
        #[cfg(feature = "axum")]
        "route" => Arc::new(super::route::Route),
        CODE => return Err(ConfigError::CodeInText(shortened(text))),
        _ => return Err(invalid()),
    })
}

#[cfg(feature = "serde")]
crate::quota::serde_text!(ParsedKey);

impl fmt::Display for ParsedKey {
    /// Writes the text that parses as the same key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for ParsedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ParsedKey").field(&self.text()).finish()
    }
}

/// Two keys with the same text read the same values.
impl PartialEq for ParsedKey {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::key::tests::bytes;

    /// Each key with its text.
    fn every() -> Vec<(Arc<dyn KeyExtractor>, &'static str)> {
        let ip = ClientIp::behind(["10.0.0.0/8"]).unwrap().header("x-real-ip").v6_prefix(56);
        vec![
            (Arc::new(Global), "global"),
            (Arc::new(HttpMethod), "method"),
            (Arc::new(GrpcMethod), "grpc-method"),
            (Arc::new(GrpcService), "grpc-service"),
            #[cfg(feature = "axum")]
            (Arc::new(super::super::route::Route), "route"),
            (Arc::new(Header::new("X-Tenant")), "header x-tenant"),
            (Arc::new(Header::new("x-api-key").hashed()), "hashed header x-api-key"),
            (Arc::new(Cookie::new("Session")), "cookie Session"),
            (Arc::new(Cookie::new("header").hashed()), "hashed cookie header"),
            (Arc::new(Header::new("+")), "header +"),
            (Arc::new(ClientIp::peer()), "client-ip"),
            (Arc::new(ClientIp::hops(1)), "client-ip hops 1"),
            (Arc::new(ip), "client-ip behind 10.0.0.0/8 header x-real-ip v6-prefix 56"),
        ]
    }

    /// A request in which every key of `every` has a value.
    fn full(method: &str, path: &str, value: &str) -> http::Request<()> {
        let peer: SocketAddr = "[2001:db8:1:2:3:4:5:6]:4000".parse().unwrap();
        let mut request = http::Request::builder().method(method).uri(path).extension(peer).body(()).unwrap();
        for name in ["x-tenant", "x-api-key", "+"] {
            request.headers_mut().insert(http::HeaderName::from_static(name), value.parse().unwrap());
        }
        request.headers_mut().insert("cookie", format!("Session={value}; header={value}").parse().unwrap());
        request.headers_mut().insert("x-forwarded-for", "203.0.113.9".parse().unwrap());
        request
    }

    #[test]
    fn each_key_has_a_text_that_parses_as_the_same_key() {
        let request = full("POST", "/pkg.Echo/Slow", "acme");
        for (key, text) in every() {
            assert_eq!(key.text(), text);
            let parsed: ParsedKey = text.parse().unwrap();
            assert_eq!(parsed.to_string(), text);
            assert_eq!(bytes(&parsed, &request), bytes(&key, &request), "{text}");
            assert_eq!(bytes(&parsed.clone().into_extractor(), &request), bytes(&key, &request), "{text}");
            assert_eq!(parsed.is_global(), key.is_global(), "{text}");
        }
        assert_eq!(ParsedKey::default(), "client-ip".parse().unwrap());
    }

    proptest! {
        /// A limit that moves from the code to a file keeps its histories in Redis.
        #[test]
        fn joined_keys_write_the_bytes_of_a_tuple(
            at in prop::collection::vec(any::<prop::sample::Index>(), 4),
            value in "[a-z]{1,9}",
            path in "/[a-z]{0,3}(/[a-z]{0,3})?",
        ) {
            let (every, request) = (every(), full("PUT", &path, &value));
            let pick = |n: usize| Arc::clone(&at[n].get(&every).0);
            let (two, three) = ((pick(0), pick(1)), (pick(0), pick(1), pick(2)));
            let four = (pick(0), pick(1), pick(2), pick(3));
            for tuple in [Arc::new(two) as Arc<dyn KeyExtractor>, Arc::new(three), Arc::new(four)] {
                let parsed: ParsedKey = tuple.text().parse().unwrap();
                prop_assert_eq!(parsed.text(), tuple.text());
                prop_assert_eq!(parsed.is_global(), tuple.is_global());
                prop_assert_eq!(bytes(&parsed, &request), bytes(&tuple, &request), "{}", parsed);
                prop_assert_eq!(bytes(&parsed.into_extractor(), &request), bytes(&tuple, &request));
            }
        }

        #[test]
        fn no_text_panics(text in "((client-ip|header|cookie|hashed|\\+|behind|hops|10.0.0.0/8|[0-9]) ?){0,9}|\\PC{0,40}") {
            if let Ok(key) = text.parse::<ParsedKey>() {
                prop_assert_eq!(key.to_string().parse::<ParsedKey>(), Ok(key));
            }
        }
    }

    #[test]
    fn a_key_of_the_code_cannot_be_read_back() {
        struct Own;
        impl KeyExtractor for Own {
            fn key(&self, _: &RequestView<'_>, _: &mut KeyWriter) -> Result<(), MissingKey> {
                Ok(())
            }
        }
        assert_eq!(Own.text(), "(code)");
        assert_eq!((Own, Global).text(), "(code) + global");
        // A pair in a pair writes other bytes than three keys.
        assert_eq!(((Global, HttpMethod), Global).text(), "(code) + global");
        for text in ["(code)", "(code) + global", "global + (code)"] {
            assert_eq!(text.parse::<ParsedKey>().unwrap_err(), ConfigError::CodeInText(text.into()));
        }
    }

    #[test]
    fn an_invalid_text_lists_what_to_write() {
        for text in
            ["", "+", "global +", "+ global", "header", "hashed", "hashed global", "ip", "global method", "x-tenant"]
        {
            let error = text.parse::<ParsedKey>().unwrap_err();
            assert!(matches!(error, ConfigError::InvalidKey(_)), "{text}: {error}");
            assert!(error.to_string().contains("client-ip behind 10.0.0.0/8"), "{error}");
        }
        assert!(matches!("header a:b".parse::<ParsedKey>().unwrap_err(), ConfigError::InvalidHeaderName(_)));
        assert!(matches!("cookie a;b".parse::<ParsedKey>().unwrap_err(), ConfigError::InvalidCookieName(_)));
        assert!(matches!("client-ip behind x".parse::<ParsedKey>().unwrap_err(), ConfigError::InvalidTrustedProxy(_)));
    }
}
