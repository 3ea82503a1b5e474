//! A decision in flight, and the settlement of one whose call was dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::ask::Ask;
#[cfg(feature = "_redis")]
use super::ask::PendingDecision;
use crate::decision::Decision;
use crate::error::StoreError;
use crate::keyspace::Ticket;
#[cfg(feature = "_redis")]
use crate::runtime::Carrier;
use crate::store::budget::BudgetResponse;

/// The decision of the head of a queue. If it is dropped before the answer, the charge is taken back.
pub(super) struct InFlight<'a, A: Ask> {
    ask: &'a A,
    response: Option<BudgetResponse>,
    ticket: &'a Arc<Ticket>,
}

impl<'a, A: Ask> InFlight<'a, A> {
    pub(super) fn new(ask: &'a A, ticket: &'a Arc<Ticket>) -> Self {
        Self { ask, response: Some(ask.decide()), ticket }
    }
}

impl<A: Ask> Future for InFlight<'_, A> {
    type Output = Result<Decision, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.response.take() {
            Some(BudgetResponse::Ready(result)) => Poll::Ready(result),
            Some(BudgetResponse::Pending(mut pending)) => {
                let polled = pending.as_mut().poll(cx);
                if polled.is_pending() {
                    self.response = Some(BudgetResponse::Pending(pending));
                }
                polled
            }
            None => Poll::Pending,
        }
    }
}

impl<A: Ask> Drop for InFlight<'_, A> {
    fn drop(&mut self) {
        if let Some(BudgetResponse::Pending(pending)) = self.response.take() {
            self.ask.abandon(pending, Arc::clone(self.ticket));
        }
    }
}

/// Completes an abandoned decision in the background. If it was admitted, takes the charge back. Then the turn ends.
///
/// So the next call of the queue asks when the units are free again.
#[cfg(feature = "_redis")]
pub(in crate::store) fn settle<F>(
    carrier: &Carrier,
    pending: PendingDecision,
    ticket: Arc<Ticket>,
    take_back: impl FnOnce(Decision) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send,
{
    // Without a runtime, nothing can be settled: a call that is dropped there may stay charged.
    let _ = carrier.spawn(async move {
        if let Ok(decision) = pending.await
            && decision.is_allowed()
        {
            take_back(decision).await;
        }
        drop(ticket);
    });
}
