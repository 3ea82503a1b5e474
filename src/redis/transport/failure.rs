//! What a failure means: whether the command ran, whether the connection still works, and how to fix the cause.

use std::error::Error;
use std::fmt;

use ::redis::{ErrorKind, RedisError, RedisResult, Value};

use super::cause::{self, LATE_MESSAGE};
use super::failure_kind::FailureKind;
use super::words::words;
use crate::error::{StoreError, StoreErrorKind};
use crate::runtime::NoRuntime;

/// Why a command has no value.
#[derive(Clone)]
pub(crate) struct Failure {
    kind: FailureKind,
    message: &'static str,
    source: Option<RedisError>,
}

impl Failure {
    pub(super) fn new(kind: FailureKind, message: &'static str) -> Self {
        Self { kind, message, source: None }
    }

    /// The call had no reply within its caller's deadline.
    #[cold]
    pub(crate) fn timeout() -> Self {
        Self::new(FailureKind::Timeout, LATE_MESSAGE)
    }

    /// The reply is not a reply of the script or command.
    #[cold]
    pub(crate) fn protocol(message: &'static str) -> Self {
        Self::new(FailureKind::Protocol, message)
    }

    /// The reply to a script call has a format that this crate's scripts do not use.
    #[cold]
    pub(crate) fn unreadable() -> Self {
        Self::protocol("the reply of Redis is not a reply of the script; check whether a proxy changes replies")
    }

    /// The connection ended twice before a command could be sent.
    #[cold]
    pub(super) fn lost() -> Self {
        Self::new(FailureKind::Unreachable, cause::CLOSED_MESSAGE)
    }

    /// One of our keys holds a value of another type.
    #[cold]
    pub(crate) fn foreign() -> Self {
        Self::protocol(cause::WRONGTYPE_MESSAGE)
    }

    /// The runtime that carried a call was shut down.
    #[cold]
    pub(crate) fn orphaned() -> Self {
        Self::new(FailureKind::NoRuntime, cause::RUNTIME_GONE_MESSAGE)
    }

    /// The breaker is open.
    #[cold]
    pub(crate) fn unavailable() -> Self {
        Self::new(
            FailureKind::Unreachable,
            "circuit breaker open: Redis failed repeatedly; it is retried in the background",
        )
    }

    /// More requests wait for Redis than it can serve in time.
    #[cold]
    pub(crate) fn crowded() -> Self {
        Self::new(FailureKind::Unreachable, "too many requests wait for Redis; check whether it is overloaded")
    }

    pub(crate) fn kind(&self) -> FailureKind {
        self.kind
    }

    /// Whether the command may have run, so that a retry may charge twice.
    pub(crate) fn may_have_run(&self) -> bool {
        matches!(self.kind, FailureKind::ConnectionLost | FailureKind::Timeout | FailureKind::Protocol)
            || self.message == cause::RUNTIME_GONE_MESSAGE
    }

    pub(super) fn calls_for_reconnect(&self) -> bool {
        match self.kind {
            FailureKind::ConnectionLost | FailureKind::ReadOnly => true,
            // Either the protocol is out of step, or the script's reply is unexpected. Only the former is a fault of
            // the connection.
            FailureKind::Protocol => self.source.as_ref().is_some_and(|error| error.kind() == ErrorKind::Parse),
            _ => false,
        }
    }

    /// Whether the failure does not show its cause, so that a search is useful; see `diagnosis`.
    pub(crate) fn is_vague(&self) -> bool {
        matches!(self.kind, FailureKind::Timeout | FailureKind::ConnectionLost) || cause::is_vague(self.message)
    }

    /// Whether the server refused the call with an error text that this crate does not know.
    pub(crate) fn is_unknown_refusal(&self) -> bool {
        self.kind == FailureKind::Protocol
            && self
                .source
                .as_ref()
                .is_some_and(|error| matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension))
            && self.message == cause::UNKNOWN_MESSAGE
    }

    /// Whether the failure of a connection has its own cause: a certificate, or a name that cannot be resolved.
    #[cfg(feature = "redis-sentinel")]
    pub(super) fn is_exact(&self) -> bool {
        !self.is_vague() && ![cause::REFUSED_MESSAGE, cause::NO_ROUTE_MESSAGE].contains(&self.message)
    }

    /// The same failure with another kind and message, and the text of its source.
    pub(super) fn renamed(self, kind: FailureKind, message: &'static str) -> Self {
        Self { kind, message, ..self }
    }

    /// Whether the server itself refuses to serve, for a reason other than the client's login.
    pub(super) fn turns_all_away(&self) -> bool {
        let is_login = [cause::NOAUTH_MESSAGE, cause::WRONGPASS_MESSAGE, cause::NOPERM_MESSAGE].contains(&self.message);
        matches!(self.kind, FailureKind::Refused | FailureKind::NothingRan) && !is_login
    }

    pub(super) fn message(&self) -> &'static str {
        self.message
    }

    /// Classifies a result of the redis crate: server errors arrive as values, or as errors.
    pub(super) fn check(result: RedisResult<Value>) -> Result<Value, Self> {
        match result {
            Ok(Value::ServerError(error)) => Err(Self::of_command(error.into())),
            Ok(value) => Ok(value),
            Err(error) => Err(Self::of_command(error)),
        }
    }

    /// Classifies an error during connection setup, before any command was sent.
    #[cold]
    pub(super) fn of_connect(error: RedisError) -> Self {
        let message = cause::of_connect(&error);
        let failure = Self::of_command(error);
        match failure.kind {
            // The server gave the reason.
            FailureKind::Refused | FailureKind::NothingRan | FailureKind::ReadOnly | FailureKind::Unreachable => {
                failure
            }
            _ => failure.renamed(FailureKind::Unreachable, message),
        }
    }

    #[cold]
    pub(super) fn of_command(error: RedisError) -> Self {
        let (kind, message) = cause::of(&error);
        Self { kind, message, source: cause::tells_no_address(&error).then_some(error) }
    }
}

impl From<NoRuntime> for Failure {
    fn from(error: NoRuntime) -> Self {
        Self::new(FailureKind::NoRuntime, error.message())
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let kind = match failure.kind {
            FailureKind::Timeout => StoreErrorKind::Timeout,
            FailureKind::Protocol => StoreErrorKind::Protocol,
            _ => StoreErrorKind::Unavailable,
        };
        let error = Self::new(kind, failure.message);
        match failure.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure").field("kind", &self.kind).field("source", &self.source).finish_non_exhaustive()
    }
}

impl PartialEq for Failure {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, self.message) == (other.kind, other.message)
    }
}

impl fmt::Display for Failure {
    /// Writes the cause and the fix. `{:#}` adds the text of the source, without addresses and keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)?;
        match self.source.as_ref().filter(|_| f.alternate()).and_then(words) {
            Some(words) => write!(f, " ({words})"),
            None => Ok(()),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
