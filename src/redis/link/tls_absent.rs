//! No TLS of our own; a connection that was made elsewhere brings its.

pub(super) fn prepare() {}
