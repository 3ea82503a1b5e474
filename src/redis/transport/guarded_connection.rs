//! A connection that knows when it is gone.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ::redis::aio::ConnectionLike;
use futures_util::future::select;
use tokio::sync::oneshot;

use crate::runtime::{self, Carrier, NoRuntime};

/// How long a connection is left alone before its guard sends a `PING`.
const PING_AFTER: Duration = Duration::from_secs(10);
/// How long that may take.
const PING_WITHIN: Duration = Duration::from_secs(5);
/// How long without a use makes it worth to look at the socket before the next.
const IDLE: Duration = Duration::from_millis(20);

/// Set once, when the connection is of no use any more.
#[derive(Clone, Debug, Default)]
pub(super) struct ClosedFlag(Arc<AtomicBool>);

impl ClosedFlag {
    pub(super) fn mark(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_marked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection and its guard.
///
/// The guard is a task beside the connection's own, on the same runtime. It pings now and then, so that
/// neither the server's idle `timeout` nor a firewall cuts the connection; and it is dropped when the runtime
/// is shut down, which stops the connection without a word. Both are noticed before the next command is sent.
#[derive(Debug)]
pub(super) struct GuardedConnection<C> {
    connection: C,
    gone: ClosedFlag,
    start: Instant,
    /// When it was used last, in milliseconds from the start.
    used: AtomicU64,
    carrier: Carrier,
    /// Dropped with this, which ends the guard.
    _stop: oneshot::Sender<()>,
}

impl<C: Clone> GuardedConnection<C> {
    pub(super) fn connection(&self) -> C {
        self.connection.clone()
    }

    pub(super) fn mark_gone(&self) {
        self.gone.mark();
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.is_marked()
    }

    /// Whether its runtime was shut down.
    pub(super) fn lost_its_runtime(&self) -> bool {
        self.carrier.is_over()
    }

    /// Notes a use; whether there was none for so long that the other side may have hung up unnoticed.
    pub(super) fn use_after_idling(&self) -> bool {
        let now = self.start.elapsed().as_millis() as u64;
        now.saturating_sub(self.used.swap(now, Ordering::Relaxed)) >= IDLE.as_millis() as u64
    }
}

impl<C: Clone + Send + 'static> GuardedConnection<C> {
    /// Guards a connection; `keeper` ends where it finds that the connection is of no use any more.
    pub(super) fn guarded(
        connection: C,
        gone: ClosedFlag,
        keeper: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Arc<Self>, NoRuntime> {
        let (stop, stopped) = oneshot::channel::<()>();
        let mark = MarkOnDrop(gone.clone());
        runtime::spawn(async move {
            let _mark = mark;
            select(Box::pin(keeper), stopped).await;
        })?;
        let (start, used, carrier) = (Instant::now(), AtomicU64::new(0), Carrier::here());
        Ok(Arc::new(Self { connection, gone, start, used, carrier, _stop: stop }))
    }
}

struct MarkOnDrop(ClosedFlag);

impl Drop for MarkOnDrop {
    fn drop(&mut self) {
        self.0.mark();
    }
}

/// Sends a `PING` where a connection idles, until there is no answer.
pub(super) async fn ping_until_gone(mut connection: impl ConnectionLike) {
    let ping = ::redis::cmd("PING");
    loop {
        let Ok(idle) = runtime::sleep(PING_AFTER) else { return };
        idle.await;
        let Ok(answer) = runtime::timeout(PING_WITHIN, connection.req_packed_command(&ping)) else { return };
        // An error that the server answers is an answer: the connection works.
        if !matches!(answer.await, Ok(Ok(_))) {
            return;
        }
    }
}
