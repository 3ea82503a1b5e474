//! Work that no request waits for.

use std::future::Future;
use std::task::{Context, Waker};

/// Runs a future that needs no I/O at once. One that does continues on the runtime of the caller, if there is one.
///
/// A store that needs I/O brings a runtime. Without one, the work is lost.
pub(super) fn in_background(future: impl Future<Output = ()> + Send + 'static) {
    let mut future = Box::pin(future);
    if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        #[cfg(feature = "_redis")]
        let _ = crate::runtime::spawn(future);
    }
}
