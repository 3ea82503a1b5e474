use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// The reason why a store could not decide.
///
/// The layer then follows its `on_store_error`.
pub struct StoreError {
    kind: StoreErrorKind,
    message: Cow<'static, str>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The kind of a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store did not respond in time.
    Timeout,
    /// The store is unreachable or refuses to serve.
    Unavailable,
    /// The store sent an invalid response.
    Protocol,
    /// The limiter was built without this store.
    NotConfigured,
    /// Too many calls wait for units already, so this call cannot wait.
    QueueFull,
}

impl StoreError {
    /// Creates an error. `message` must not contain a key, an address or a secret.
    #[cold]
    #[must_use]
    pub fn new(kind: StoreErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The error of a call that needs Redis, on a limiter that was built without it.
    #[cfg(feature = "_redis")]
    #[cold]
    pub(crate) fn no_redis() -> Self {
        let text = "this limiter has no Redis; write .redis_url(\"redis://host:6379\") on its builder";
        Self::new(StoreErrorKind::NotConfigured, text)
    }

    /// The error of a call that cannot wait, because a bound on waiting calls is reached.
    #[cold]
    pub(crate) fn queue_full() -> Self {
        let text = "too many calls wait for units; respond with a refusal, or raise max_waiting(..) and \
                    max_waiting_per_key(..) on the limiter's builder";
        Self::new(StoreErrorKind::QueueFull, text)
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind of this failure.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreError").field("kind", &self.kind).field("message", &self.message).finish_non_exhaustive()
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}
