//! TLS through rustls.

use rustls::crypto::{CryptoProvider, ring};

/// Sees to it that rustls has a cryptographic provider: without one, or with two to choose from, it panics.
///
/// What the application has installed stays. This is what rustls does by itself where only one is compiled in.
pub(super) fn prepare() {
    if CryptoProvider::get_default().is_none() {
        // An error says that the application was faster.
        drop(ring::default_provider().install_default());
    }
}
