use std::borrow::Cow;
use std::sync::Arc;

use super::missing_key::MissingKey;
use super::request_view::RequestView;
use super::writer::KeyWriter;
use crate::error::ConfigError;

/// Reads a key from a request.
///
/// # Examples
///
/// ```
/// use tower_weir::KeyExtractor;
/// use tower_weir::key::{KeyWriter, MissingKey, RequestView};
///
/// #[derive(Clone)]
/// struct UserId(u64);
///
/// struct ByUser;
///
/// impl KeyExtractor for ByUser {
///     fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
///         let user = req.extensions().get::<UserId>().ok_or(MissingKey::server_fault("no UserId extension"))?;
///         out.write(&user.0);
///         Ok(())
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not read a key from a request",
    label = "not a `KeyExtractor`",
    note = "use a key such as `ClientIp::peer()`, `Header::new(\"x-api-key\")` or `Extension::<User>::new()`",
    note = "pass a closure to `key_fn`, and the result of `ClientIp::behind(..)` with `?`"
)]
pub trait KeyExtractor: Send + Sync + 'static {
    /// Writes the request's key.
    ///
    /// # Errors
    ///
    /// Returns [`MissingKey`] if the request has no key. The layer then follows its `on_missing_key`.
    fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey>;

    /// Whether all clients share the keys, as with [`Global`](crate::Global) or a key that depends only on the
    /// requested resource.
    ///
    /// A request that is shed with such a key gets a 503, because no single client caused the overload.
    fn is_global(&self) -> bool {
        false
    }

    /// Checks the extractor's own configuration. The layer calls this once, in its `build`.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`], which the layer's `build` returns.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// The text of the key in the table of a layer's policy.
    ///
    /// The keys of this crate return a text that parses as an equal [`ParsedKey`](crate::key::ParsedKey). The default
    /// is `(code)`, which cannot be read back.
    fn text(&self) -> Cow<'static, str> {
        CODE.into()
    }
}

/// What a policy's table contains in place of a function.
pub(crate) const CODE: &str = "(code)";

impl<K: KeyExtractor + ?Sized> KeyExtractor for Arc<K> {
    fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
        (**self).key(req, out)
    }

    fn is_global(&self) -> bool {
        (**self).is_global()
    }

    fn check(&self) -> Result<(), ConfigError> {
        (**self).check()
    }

    fn text(&self) -> Cow<'static, str> {
        (**self).text()
    }
}
