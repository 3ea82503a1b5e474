//! What the crate tells its operator: each notice once in a process, with the cause and the fix.
//!
//! Through `tracing` with that feature, and to standard error without it. No key ever appears.

use std::sync::atomic::{AtomicBool, Ordering};

/// A misconfiguration that shows only in traffic.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Notice {
    MissingPeerAddress,
}

impl Notice {
    fn message(self) -> &'static str {
        match self {
            Self::MissingPeerAddress => {
                "a request has no peer address, so it cannot be limited by one: serve the axum router with \
                 `into_make_service_with_connect_info::<SocketAddr>()`, enable tower-weir's feature `axum` or \
                 `tonic` for the server in use, or insert a `SocketAddr` into the request's extensions"
            }
        }
    }

    fn told(self) -> &'static AtomicBool {
        static MISSING_PEER_ADDRESS: AtomicBool = AtomicBool::new(false);
        match self {
            Self::MissingPeerAddress => &MISSING_PEER_ADDRESS,
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
