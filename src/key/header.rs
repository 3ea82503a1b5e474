use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::values::Values;
use super::{KeyExtractor, KeyWriter, MissingKey, RequestView, digest};
use crate::error::ConfigError;

/// A key from the value of a header, such as an API key.
///
/// A client chooses its headers, and with a new value it has a new budget: limit by one only behind whatever
/// checks it, or beside a layer of its own that limits by address. Where a header has several lines, all of
/// them are the key.
///
/// # Examples
///
/// ```
/// use tower_weir::{Header, RateLimitLayer};
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
    /// As it stands; of clients that send ever new ones the log tells.
    Plain(Arc<Values>),
    Hashed,
}

impl Form {
    fn plain() -> Self {
        Self::Plain(Arc::new(Values::new()))
    }
}

impl Header {
    /// Reads the header with this name; case does not matter.
    ///
    /// Where it is no legal name, the layer's `build` says so.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let name = name.parse().map_err(|_| ConfigError::InvalidHeaderName(name.chars().take(64).collect()));
        Self { name, form: Form::plain() }
    }

    /// Makes a one-way digest of the value the key, so that the value itself never reaches a store.
    ///
    /// The digest is SHA-256, cut to 128 bits, and the same in every process. Whoever reads it in a store can
    /// still try out values: it hides secrets that are long and random, not short numbers or names.
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
        let name = self.name.as_ref().map_err(|_| MissingKey::from_server("the header name is not legal"))?;
        let lines = || req.headers().get_all(name).iter().map(HeaderValue::as_bytes);
        if lines().next().is_none() {
            return Err(MissingKey::from_client("the header that is the key is missing"));
        }
        match &self.form {
            Form::Hashed => digest::write(lines(), out),
            Form::Plain(values) => {
                values.see(lines());
                lines().for_each(|line| out.write(line));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.name.as_ref().map(|_| ()).map_err(Clone::clone)
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn all_lines_are_the_key() {
        for key in [Header::new("x-api-key"), Header::new("x-api-key").hashed()] {
            assert_ne!(bytes(&key, &with(&["a", "b"])), bytes(&key, &with(&["a"])));
            assert_ne!(bytes(&key, &with(&["a", "b"])), bytes(&key, &with(&["ab"])));
        }
    }

    #[test]
    fn without_the_header_the_client_is_at_fault() {
        let expected = MissingKey::from_client("the header that is the key is missing");
        assert_eq!(missing(&Header::new("x-api-key").hashed(), &with(&[])), expected);
    }
}
