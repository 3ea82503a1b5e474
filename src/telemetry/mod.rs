//! What the crate tells its operator: each notice once in a process, with the cause and the fix.
//!
//! Through `tracing` with that feature, and to standard error without it. No key ever appears.

use std::sync::atomic::{AtomicBool, Ordering};

/// A misconfiguration that shows only in traffic.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Notice {
    MissingPeerAddress,
    UnusableProxyHeader,
}

impl Notice {
    fn message(self) -> &'static str {
        match self {
            Self::MissingPeerAddress => {
                "a request has no peer address, so it cannot be limited by one: serve the axum router with \
                 `into_make_service_with_connect_info::<SocketAddr>()`, enable tower-weir's feature `axum` or \
                 `tonic` for the server in use, or insert a `SocketAddr` into the request's extensions"
            }
            Self::UnusableProxyHeader => {
                "a request from a trusted proxy names no usable client address, so it cannot be limited by one: \
                 let the proxy write the header that `ClientIp` reads (`X-Forwarded-For`, or the one declared with \
                 `forwarded` or `header`), and check the networks of `behind` or the number of `hops`"
            }
        }
    }

    fn told(self) -> &'static AtomicBool {
        static MISSING_PEER_ADDRESS: AtomicBool = AtomicBool::new(false);
        static UNUSABLE_PROXY_HEADER: AtomicBool = AtomicBool::new(false);
        match self {
            Self::MissingPeerAddress => &MISSING_PEER_ADDRESS,
            Self::UnusableProxyHeader => &UNUSABLE_PROXY_HEADER,
        }
    }
}

/// Tells a notice unless it was told before.
pub(crate) fn notify(notice: Notice) {
    if !notice.told().swap(true, Ordering::Relaxed) {
        tell(notice.message());
    }
}

#[cfg(feature = "tracing")]
fn tell(message: &str) {
    tracing::error!(target: "tower_weir", "{message}");
}

#[cfg(not(feature = "tracing"))]
fn tell(message: &str) {
    eprintln!("tower-weir: {message}");
}
