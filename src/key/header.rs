use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderName;

use super::cardinality::CardinalitySketch;
use super::{credentials, digest};
use crate::error::{ConfigError, shortened};
use crate::key::extractor::{CODE, KeyExtractor};
use crate::key::missing_key::MissingKey;
use crate::key::request_view::RequestView;
use crate::key::writer::KeyWriter;

/// A key from the value of a header, such as an API key.
///
/// A client chooses its headers, and each new value has a new budget. So use a value that your authentication has
/// *found* ([`Extension`](crate::key::Extension) or [`key_lookup`](crate::RateLimitLayerBuilder::key_lookup)), not the
/// value that it reads. If you use the header itself, put the limit inside the layer that checks the value, or add a
/// layer that limits by address. Only your authentication knows all spellings of a credential that it accepts.
///
/// # Keys
///
/// The key is the one spelling on which the common readers agree. If they can disagree, the request has no key, and
/// the client is at fault:
///
/// | header | key | no key |
/// |---|---|---|
/// | any | the text without surrounding whitespace | several lines, an empty value, bytes that are not UTF-8 |
/// | `Authorization`, `Proxy-Authorization` | the credentials without the scheme and its whitespace | more than two words; `Basic` without canonical base64 |
/// | `Host` | the host in lower case, without the port | a value without a host |
///
/// # Examples
///
/// ```
/// use tower_weir::RateLimitLayer;
/// use tower_weir::key::Header;
///
/// let layer =
///     RateLimitLayer::builder().quota("100/min".parse()?).key(Header::new("x-api-key").hashed()).build()?;
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Header {
    name: Result<HeaderName, ConfigError>,
    form: Form,
}

/// How a value becomes a key.
#[derive(Clone, Debug)]
enum Form {
    /// The value itself. The log reports clients that send a new value with each request.
    Plain(Arc<CardinalitySketch>),
    Hashed,
}

impl Form {
    fn plain() -> Self {
        Self::Plain(Arc::new(CardinalitySketch::new()))
    }
}

impl Header {
    /// Uses the header with this name. The case of the name does not matter.
    ///
    /// If the name is invalid, the layer's `build` returns an error.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let name = name.parse().map_err(|_| ConfigError::InvalidHeaderName(shortened(name)));
        Self { name, form: Form::plain() }
    }

    /// Uses a one-way digest of the value as the key, so that the value itself never reaches a store.
    ///
    /// The digest is SHA-256, cut to 128 bits, and the same in every process. Someone who reads it in a store can
    /// still guess values. It protects long random secrets, but not short numbers or names.
    #[must_use]
    pub fn hashed(mut self) -> Self {
        self.form = Form::Hashed;
        self
    }
}

impl From<HeaderName> for Header {
    fn from(name: HeaderName) -> Self {
        Self { name: Ok(name), form: Form::plain() }
    }
}

impl KeyExtractor for Header {
    fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
        let name = self.name.as_ref().map_err(|_| MissingKey::server_fault("the header name is invalid"))?;
        let value = credentials::value(req.headers(), name)?;
        match &self.form {
            Form::Hashed => digest::write(value.as_bytes(), out),
            Form::Plain(values) => {
                values.see(value.as_bytes());
                out.write(&value);
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.name.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    fn text(&self) -> Cow<'static, str> {
        let hashed = if matches!(self.form, Form::Hashed) { "hashed " } else { "" };
        self.name.as_ref().map_or(CODE.into(), |name| format!("{hashed}header {name}").into())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::key::tests::{bytes, missing, request};

    fn with(lines: &[&'static str]) -> http::Request<()> {
        let mut request = request("/");
        for line in lines {
            request.headers_mut().append("x-api-key", HeaderValue::from_static(line));
        }
        request
    }

    #[test]
    fn a_hashed_value_does_not_occur_in_the_key() {
        let (plain, hashed) = (Header::new("x-api-key"), Header::new("X-Api-Key").hashed());
        let request = with(&["correct horse"]);
        let contains = |key: &[u8]| key.windows(13).any(|window| window == b"correct horse");
        assert!(contains(&bytes(&plain, &request)));
        assert!(!contains(&bytes(&hashed, &request)));
        assert_eq!(bytes(&hashed, &request), bytes(&hashed, &with(&["correct horse"])));
        assert_ne!(bytes(&hashed, &request), bytes(&hashed, &with(&["correct house"])));
    }

    /// Most checks read the first line, so a second line must not give a second budget.
    #[test]
    fn several_lines_are_no_key() {
        let expected = MissingKey::client_fault("the header that is the key has several lines");
        for key in [Header::new("x-api-key"), Header::new("x-api-key").hashed()] {
            assert_eq!(missing(&key, &with(&["a", "b"])), expected);
            assert_eq!(missing(&key, &with(&["a", "a"])), expected);
            assert_ne!(bytes(&key, &with(&["a"])), bytes(&key, &with(&["b"])));
        }
    }

    #[test]
    fn without_the_header_the_client_is_at_fault() {
        let expected = MissingKey::client_fault("the header that is the key is missing");
        assert_eq!(missing(&Header::new("x-api-key").hashed(), &with(&[])), expected);
    }
}
