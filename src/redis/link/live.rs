//! A connection that knows when it is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::redis::Cmd;
use ::redis::aio::ConnectionLike;
use tokio::sync::oneshot;

use crate::redis::runtime::{self, NoRuntime};

/// How long a connection is left alone before its guard sends a `PING`.
const PING_AFTER: Duration = Duration::from_secs(10);
/// How long that may take.
const PING_WITHIN: Duration = Duration::from_secs(5);

/// Set once, when the connection is of no use any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Gone(Arc<AtomicBool>);

impl Gone {
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
pub(super) struct Live<C> {
    connection: C,
    gone: Gone,
    /// Dropped with this, which ends the guard.
    _stop: oneshot::Sender<()>,
}

impl<C: Clone> Live<C> {
    pub(super) fn connection(&self) -> C {
        self.connection.clone()
    }

    pub(super) fn mark_gone(&self) {
        self.gone.mark();
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.is_marked()
    }
}

impl<C: ConnectionLike + Clone + Send + 'static> Live<C> {
    /// Guards a connection; `ping` is sent where it idles, or nothing where it looks after its sockets itself.
    pub(super) fn guarded(connection: C, gone: Gone, ping: Option<Cmd>) -> Result<Arc<Self>, NoRuntime> {
        let (stop, stopped) = oneshot::channel();
        let mark = MarkOnDrop(gone.clone());
        let guarded = connection.clone();
        runtime::spawn(async move {
            let _mark = mark;
            match ping {
                Some(ping) => ping_until_gone(guarded, &ping, stopped).await,
                None => drop(stopped.await),
            }
        })?;
        Ok(Arc::new(Self { connection, gone, _stop: stop }))
    }
}

struct MarkOnDrop(Gone);

impl Drop for MarkOnDrop {
    fn drop(&mut self) {
        self.0.mark();
    }
}

async fn ping_until_gone<C: ConnectionLike>(mut connection: C, ping: &Cmd, mut stopped: oneshot::Receiver<()>) {
    loop {
        let Ok(idle) = runtime::timeout(PING_AFTER, &mut stopped) else { return };
        if idle.await.is_ok() {
            return;
        }
        let Ok(answer) = runtime::timeout(PING_WITHIN, connection.req_packed_command(ping)) else { return };
        // An error that the server answers is an answer: the connection works.
        if !matches!(answer.await, Ok(Ok(_))) {
            return;
        }
    }
}
