//! A decision that may still charge permits after its request was dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::permits::Permit;
use crate::layer::background::in_background;
use crate::store::{Budget, Decisions, PendingDecisions};
use crate::telemetry::LimitWatch;

/// A pending decision. If it is dropped, it completes in the background, and its permits return.
///
/// Otherwise a client that hangs up while a server decides would leave permits behind.
pub(in crate::layer) struct Undecided {
    /// `None` once the decision is made.
    pending: Option<PendingDecisions>,
    caps: Vec<UndecidedCap>,
}

/// A cap that is being asked.
pub(in crate::layer) struct UndecidedCap {
    /// The position in the decisions.
    pub(in crate::layer) at: usize,
    pub(in crate::layer) budget: Arc<dyn Budget>,
    pub(in crate::layer) key: Box<[u8]>,
    pub(in crate::layer) watch: LimitWatch,
}

impl Undecided {
    pub(in crate::layer) fn new(pending: PendingDecisions, caps: Vec<UndecidedCap>) -> Self {
        Self { pending: Some(pending), caps }
    }
}

impl Future for Undecided {
    type Output = Decisions;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Decisions> {
        let Some(pending) = &mut self.pending else { return Poll::Pending };
        let decisions = ready!(pending.as_mut().poll(cx));
        self.pending = None;
        Poll::Ready(decisions)
    }
}

impl Drop for Undecided {
    fn drop(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        let caps = std::mem::take(&mut self.caps);
        in_background(async move {
            let decisions = pending.await;
            for cap in caps.iter().filter(|_| decisions.is_allowed()) {
                let decision = decisions.get(cap.at).filter(|decision| decision.is_allowed());
                drop(decision.map(|decision| Permit::new(&cap.budget, &cap.key, *decision, &cap.watch)));
            }
        });
    }
}
