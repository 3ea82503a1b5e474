//! What the crate tells its operator: each notice once in a process, with the cause and the fix.
//!
//! Through `tracing` with that feature, and to standard error without it. No key ever appears.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

/// A misconfiguration that shows only in traffic.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Notice {
    MissingPeerAddress,
    UnusableProxyHeader,
    /// What a key extractor says is missing.
    MissingKey(&'static str),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingPeerAddress => f.write_str(
                "a request has no peer address, so it cannot be limited by one: serve the axum router with \
                 `into_make_service_with_connect_info::<SocketAddr>()`, enable tower-weir's feature `axum` or \
                 `tonic` for the server in use, or insert a `SocketAddr` into the request's extensions",
            ),
            Self::UnusableProxyHeader => f.write_str(
                "a request from a trusted proxy names no usable client address, so it cannot be limited by one: \
                 let the proxy write the header that `ClientIp` reads (`X-Forwarded-For`, or the one declared with \
                 `forwarded` or `header`), and check the networks of `behind` or the number of `hops`",
            ),
            Self::MissingKey(what) => write!(
                f,
                "a request has no key to be limited by: {what}; put the layer inside the one that provides it, or \
                 say with `on_missing_key` what such requests get"
            ),
        }
    }
}

/// Tells a notice unless one of its kind was told before.
pub(crate) fn notify(notice: Notice) {
    static MISSING_PEER_ADDRESS: AtomicBool = AtomicBool::new(false);
    static UNUSABLE_PROXY_HEADER: AtomicBool = AtomicBool::new(false);
    static MISSING_KEY: AtomicBool = AtomicBool::new(false);
    let told = match notice {
        Notice::MissingPeerAddress => &MISSING_PEER_ADDRESS,
        Notice::UnusableProxyHeader => &UNUSABLE_PROXY_HEADER,
        Notice::MissingKey(_) => &MISSING_KEY,
    };
    if !told.swap(true, Ordering::Relaxed) {
        tell(notice);
    }
}

#[cfg(feature = "tracing")]
fn tell(notice: Notice) {
    tracing::error!(target: "tower_weir", "{notice}");
}

#[cfg(not(feature = "tracing"))]
fn tell(notice: Notice) {
    eprintln!("tower-weir: {notice}");
}
