//! What tests of responses share.

use std::time::Duration;

use http::Response;

/// Waits for what must end; a hang is a failure and not a stuck run.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it ends within 30 s")
}

/// Runs a future on this thread, which needs no I/O and no timer.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// The `Retry-After` of a response in seconds, if it has one.
pub(crate) fn retry_after<B>(response: &Response<B>) -> Option<u64> {
    let value = response.headers().get("retry-after")?.to_str().expect("Retry-After is text");
    Some(value.parse().expect("Retry-After is a whole number of seconds"))
}
