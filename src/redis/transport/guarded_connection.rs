//! A connection that detects its own end.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ::redis::aio::ConnectionLike;
use futures_util::future::select;
use tokio::sync::oneshot;

use crate::runtime::{self, Carrier, NoRuntime};

/// The time without activity after which the guard sends a `PING`.
const PING_AFTER: Duration = Duration::from_secs(10);
/// The time limit of that `PING`.
const PING_WITHIN: Duration = Duration::from_secs(5);
/// The idle time after which the next use first polls the socket.
const IDLE: Duration = Duration::from_millis(20);

/// Is set once, when the connection is no longer usable.
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
/// The guard is a task on the runtime of the connection's own task. It sends a `PING` at intervals, so that neither the
/// server's idle `timeout` nor a firewall closes the connection. A runtime that shuts down drops the guard, and stops
/// the connection without an error. Both events are detected before the next command is sent.
#[derive(Debug)]
pub(super) struct GuardedConnection<C> {
    connection: C,
    gone: ClosedFlag,
    start: Instant,
    /// The time of the last use, in milliseconds from the start.
    used: AtomicU64,
    carrier: Carrier,
    /// Dropping the connection also drops this sender, which ends the guard.
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

    /// Records a use. Returns whether the connection was idle for so long that the server may have closed it unnoticed.
    pub(super) fn use_after_idling(&self) -> bool {
        let now = self.start.elapsed().as_millis() as u64;
        now.saturating_sub(self.used.swap(now, Ordering::Relaxed)) >= IDLE.as_millis() as u64
    }
}

impl<C: Clone + Send + 'static> GuardedConnection<C> {
    /// Guards a connection; `keeper` ends when the connection is no longer usable.
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

/// Sends a `PING` whenever a connection is idle, until a reply is missing.
pub(super) async fn ping_until_gone(mut connection: impl ConnectionLike) {
    let ping = ::redis::cmd("PING");
    loop {
        let Ok(idle) = runtime::sleep(PING_AFTER) else { return };
        idle.await;
        let Ok(answer) = runtime::timeout(PING_WITHIN, connection.req_packed_command(&ping)) else { return };
        // An error reply is a reply too, so the connection works.
        if !matches!(answer.await, Ok(Ok(_))) {
            return;
        }
    }
}
