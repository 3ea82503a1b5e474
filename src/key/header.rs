use http::HeaderName;

use super::{KeyExtractor, KeyWriter, MissingKey, RequestView};
use crate::error::ConfigError;

/// A key from the value of a header, such as an API key.
///
/// A client chooses its headers, and with a new value it has a new budget: limit by one only behind whatever
/// checks it, or beside a layer of its own that limits by address. Where a header has several lines, all of them are the key.
#[derive(Clone, Debug)]
pub struct Header(Result<HeaderName, ConfigError>);

impl Header {
    /// Reads the header with this name; case does not matter.
    ///
    /// Where it is no legal name, the layer's `build` says so.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.parse().map_err(|_| ConfigError::InvalidHeaderName(name.chars().take(64).collect())))
    }
}

impl From<HeaderName> for Header {
    fn from(name: HeaderName) -> Self {
        Self(Ok(name))
    }
}

impl KeyExtractor for Header {
    fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
        let name = self.0.as_ref().map_err(|_| MissingKey::from_server("the header name is not legal"))?;
        let mut values = req.headers().get_all(name).iter().peekable();
        if values.peek().is_none() {
            return Err(MissingKey::from_client("the header that is the key is missing"));
        }
        for value in values {
            out.write(value.as_bytes());
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.0.as_ref().map(|_| ()).map_err(Clone::clone)
    }
}
