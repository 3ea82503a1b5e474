use std::fmt;
use std::marker::PhantomData;

use crate::key::extractor::KeyExtractor;
use crate::key::missing_key::MissingKey;
use crate::key::request_view::RequestView;
use crate::key::writer::Key;
use crate::key::writer::KeyWriter;

/// A key from a value in the request's extensions, such as the authenticated user.
///
/// A layer outside this one, or axum's `middleware::from_fn`, must insert the value. If it is missing, the service is
/// at fault, and the response is 500 unless `on_missing_key` changes it.
///
/// # Examples
///
/// ```
/// use tower_weir::RateLimitLayer;
/// use tower_weir::key::{Extension, Key, KeyWriter};
///
/// /// Put into the request's extensions by the authentication.
/// #[derive(Clone)]
/// struct User {
///     id: u64,
/// }
///
/// impl Key for User {
///     fn write_to(&self, out: &mut KeyWriter) {
///         out.write(&self.id);
///     }
/// }
///
/// let layer =
///     RateLimitLayer::builder().quota("100/min".parse()?).key(Extension::<User>::new()).build()?;
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
pub struct Extension<T>(PhantomData<fn() -> T>);

impl<T> Extension<T> {
    /// Uses the extension of this type.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: Key + Send + Sync + 'static> KeyExtractor for Extension<T> {
    fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
        let value = req.extensions().get::<T>();
        out.write(value.ok_or(MissingKey::server_fault("the extension that is the key is missing"))?);
        Ok(())
    }
}

impl<T> Default for Extension<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Extension<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Extension<T> {}

impl<T> fmt::Debug for Extension<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extension<{}>", std::any::type_name::<T>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::tests::{bytes, missing, request, written};

    #[test]
    fn the_extension_of_that_type_is_the_key() {
        let mut request = request("/");
        request.extensions_mut().insert(7_u32);
        request.extensions_mut().insert("alice".to_owned());
        assert_eq!(bytes(&Extension::<String>::new(), &request), written("alice"));
        assert_eq!(bytes(&Extension::<u32>::new(), &request), written(&7_u32));
        assert!(!Extension::<u32>::new().is_global());
    }

    #[test]
    fn without_the_extension_the_service_is_at_fault() {
        let expected = MissingKey::server_fault("the extension that is the key is missing");
        assert_eq!(missing(&Extension::<String>::new(), &request("/")), expected);
    }
}
