//! An inner service and stores that hold the layer to its contract.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::sync::oneshot;
use tower::Service;
use tower_weir::store::{Budget, BudgetRequest, BudgetResponse, Policy, Store};
use tower_weir::{ConfigError, Decision, StoreError, StoreErrorKind};

/// A service that keeps Tower's contract to the letter: only the very instance that was polled ready may be
/// called, and once. Its clones are not ready.
#[derive(Debug)]
pub(crate) struct Probe {
    id: usize,
    is_ready: bool,
    reply: Reply,
    log: Arc<Log>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    Hello,
    Fail,
    Hang,
    NeverReady,
    BrokenWhenPolled,
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    instances: AtomicUsize,
    pub(crate) readied: Mutex<Vec<usize>>,
    called: Mutex<Vec<usize>>,
    /// Held by every call that is under way.
    calls: Arc<()>,
}

impl Log {
    pub(crate) fn called(&self) -> Vec<usize> {
        self.called.lock().unwrap().clone()
    }

    pub(crate) fn calls(&self) -> usize {
        self.called().len()
    }

    pub(crate) fn under_way(&self) -> usize {
        Arc::strong_count(&self.calls) - 1
    }
}

#[derive(Debug, PartialEq)]
pub(crate) struct Boom;

impl fmt::Display for Boom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("boom")
    }
}

impl std::error::Error for Boom {}

impl Probe {
    pub(crate) fn new(reply: Reply) -> (Self, Arc<Log>) {
        let log = Arc::new(Log { instances: AtomicUsize::new(1), ..Log::default() });
        (Self { id: 0, is_ready: false, reply, log: Arc::clone(&log) }, log)
    }
}

impl Clone for Probe {
    fn clone(&self) -> Self {
        let id = self.log.instances.fetch_add(1, Ordering::SeqCst);
        Self { id, is_ready: false, reply: self.reply, log: Arc::clone(&self.log) }
    }
}

pub(crate) type Hello = Response<Full<Bytes>>;

impl Service<Request<()>> for Probe {
    type Response = Hello;
    type Error = Boom;
    type Future = Pin<Box<dyn Future<Output = Result<Hello, Boom>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Boom>> {
        match self.reply {
            Reply::NeverReady => return Poll::Pending,
            Reply::BrokenWhenPolled => return Poll::Ready(Err(Boom)),
            Reply::Hello | Reply::Fail | Reply::Hang => {}
        }
        if !self.is_ready {
            self.log.readied.lock().unwrap().push(self.id);
        }
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "instance {} is called and was not ready", self.id);
        self.log.called.lock().unwrap().push(self.id);
        let (reply, call) = (self.reply, Arc::clone(&self.log.calls));
        Box::pin(async move {
            let _held = (call, request);
            match reply {
                Reply::Fail => Err(Boom),
                Reply::Hang => std::future::pending().await,
                _ => Ok(Response::new(Full::from("hello"))),
            }
        })
    }
}

type Asker = oneshot::Sender<Result<Decision, StoreError>>;

/// A store of one's own that answers when the test says so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deferred(pub(crate) Arc<Mutex<VecDeque<Asker>>>, Arc<AtomicUsize>);

impl Deferred {
    /// The number of refunds.
    pub(crate) fn refunds(&self) -> usize {
        self.1.load(Ordering::SeqCst)
    }

    /// Admits the oldest request that waits, or tells it to come back in 1.5 s.
    pub(crate) fn settle(&self, is_admitted: bool) {
        let refusal = Decision::rejected(10, 10, Some(Duration::from_millis(1_500)));
        let decision = if is_admitted { Decision::allowed(10, 1) } else { refusal };
        let asked = self.0.lock().unwrap().pop_front().expect("a decision is under way");
        asked.send(Ok(decision)).expect("somebody waits for the decision");
    }
}

impl Store for Deferred {
    fn open(&self, _: &Policy) -> Result<Arc<dyn Budget>, ConfigError> {
        Ok(Arc::new(self.clone()))
    }
}

impl Budget for Deferred {
    fn decide(&self, _: BudgetRequest<'_>) -> BudgetResponse {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().unwrap().push_back(sender);
        let gone = |_| Err(StoreError::new(StoreErrorKind::Unavailable, "the store is gone"));
        BudgetResponse::Pending(Box::pin(async move { receiver.await.unwrap_or_else(gone) }))
    }

    fn refund(&self, _: &[u8], _: u64, _: &Decision) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }

    fn holds_permits(&self) -> bool {
        true
    }
}

/// A store that always answers the same.
#[derive(Clone, Debug)]
pub(crate) struct Always(pub(crate) fn() -> BudgetResponse);

impl Store for Always {
    fn open(&self, _: &Policy) -> Result<Arc<dyn Budget>, ConfigError> {
        Ok(Arc::new(self.clone()))
    }
}

impl Budget for Always {
    fn decide(&self, _: BudgetRequest<'_>) -> BudgetResponse {
        (self.0)()
    }

    fn refund(&self, _: &[u8], _: u64, _: &Decision) {}
}
