//! The replacement for TLS if the feature is off; the user's own connection can use its own TLS.

pub(super) fn prepare() {}

/// Without TLS, no error has a TLS cause.
pub(super) fn cause(_: &std::io::Error) -> Option<&'static str> {
    None
}

pub(super) fn cause_of_text(_: &str) -> Option<&'static str> {
    None
}

pub(super) const NO_TLS: &str = "the server may not use TLS on this port; write redis:// in the URL";
