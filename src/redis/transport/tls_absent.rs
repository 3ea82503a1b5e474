//! No TLS of our own; a connection that was made elsewhere brings its.

pub(super) fn prepare() {}

/// There is no TLS that could be wrong.
pub(super) fn cause(_: &std::io::Error) -> Option<&'static str> {
    None
}

pub(super) fn cause_of_text(_: &str) -> Option<&'static str> {
    None
}

pub(super) const NO_TLS: &str = "the server may not speak TLS at this port; write redis:// in the URL";
