use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::ask::Ask;
use super::in_flight::InFlight;
use super::sleep::Sleep;
#[cfg(feature = "_redis")]
use crate::decision::RateLimitDecision;
use crate::decision::{Decision, Verdict};
use crate::error::StoreError;
#[cfg(feature = "_redis")]
use crate::error::StoreErrorKind;
use crate::keyspace::{Ahead, HeadRefusal, Queues, Ticket};
#[cfg(feature = "_redis")]
use crate::policy::OnStoreError;
use crate::time::{TimeSource, millis};

/// Waits for an admission, for at most `max_wait`. Otherwise returns the refusal, as soon as it is known.
///
/// The only charge is that of the returned admission.
pub(in crate::store) async fn until_allowed<A: Ask>(
    queues: &Arc<Queues>,
    time: &TimeSource,
    ask: &A,
    max_wait: Duration,
) -> Result<Decision, StoreError> {
    let deadline = time.now_ms().saturating_add(millis(max_wait));
    if ask.cost() == 0 || ask.cost() > ask.capacity() {
        // The call takes no units, so it can pass the queue.
        return ask.decide().complete().await;
    }
    let key = ask.fingerprint(queues);
    if !queues.is_waited_for(key)
        && let Some(decision) = ask.at_once()
        && next_try(&decision, time.now_ms(), deadline).is_none()
    {
        return Ok(decision);
    }
    let ticket = Arc::new(queues.join(key, (ask.cost(), ask.capacity()), deadline)?);
    if let Some(refusal) = turn(&ticket, time, ask, deadline).await {
        return Ok(refusal);
    }
    loop {
        let decision = InFlight::new(ask, &ticket).await?;
        let Some(ask_at) = next_try(&decision, time.now_ms(), deadline) else { return Ok(decision) };
        ticket.record(HeadRefusal { ask_at, refusal: decision });
        Sleep::until(time, ask_at).await;
    }
}

/// Applies the policy of a store that failed. A full queue is no failure of the store.
#[cfg(feature = "_redis")]
pub(in crate::store) fn or_admitted(
    result: Result<Decision, StoreError>,
    on_store_error: OnStoreError,
) -> Result<RateLimitDecision, StoreError> {
    match result {
        Err(error) if error.kind() != StoreErrorKind::QueueFull && on_store_error == OnStoreError::Allow => {
            Ok(RateLimitDecision::Allowed)
        }
        result => result.map(Into::into),
    }
}

/// When to ask again after a decision; `None` if it is final.
fn next_try(decision: &Decision, now: u64, deadline: u64) -> Option<u64> {
    let ask_at = now.saturating_add(decision.retry_after_ms.max(1));
    let is_final = decision.is_allowed() || decision.retry_after_ms == u64::MAX || ask_at > deadline;
    (!is_final).then_some(ask_at)
}

/// Waits for the turn. Returns a refusal if it comes too late, as soon as that is known.
async fn turn<A: Ask>(ticket: &Ticket, time: &TimeSource, ask: &A, deadline: u64) -> Option<Decision> {
    let mut end = pin!(Sleep::until(time, deadline));
    poll_fn(|cx| {
        let Some(ahead) = ticket.ahead(cx.waker()) else { return Poll::Ready(None) };
        let now = time.now_ms();
        let refusal = behind(ask, &ahead, now);
        let is_too_late = now.saturating_add(refusal.retry_after_ms) > deadline;
        if is_too_late || end.as_mut().poll(cx).is_ready() { Poll::Ready(Some(refusal)) } else { Poll::Pending }
    })
    .await
}

/// The refusal of a call behind others. Its wait is the least that is possible if they all stay.
///
/// Let the units of these calls and of this one be `rounds` times the capacity and a rest. While a unit counts, no more
/// than the capacity is admitted. So the rest is admitted at least `rounds` such times before this call is.
fn behind<A: Ask>(ask: &A, ahead: &Ahead, now: u64) -> Decision {
    let (cost, capacity) = (ask.cost(), ask.capacity().max(1));
    let units = ahead.units.saturating_add(cost);
    // Calls with other limits may be admitted faster, but what exceeds this limit must first stop to count.
    let rounds = (units - 1) / capacity;
    let (rounds, rest) = match ahead.is_same_limit {
        true => (rounds, units - rounds * capacity),
        false => (rounds.min(1), cost),
    };
    let in_rounds = rounds.saturating_mul(ask.hold_ms());
    let foreseen = ask.foresee(rest);
    let (known, wait) = match (&foreseen, &ahead.refused) {
        (Some(decision), _) if decision.is_allowed() => (*decision, in_rounds),
        (Some(decision), _) => (*decision, decision.retry_after_ms.saturating_add(in_rounds)),
        (None, Some(refused)) => (refused.refusal, refused.ask_at.saturating_sub(now).max(in_rounds)),
        (None, None) => (Decision::rejected(capacity, capacity, None), in_rounds),
    };
    let free_then = match (foreseen, rounds) {
        (Some(decision), 0) => decision.remaining_after_waiting.saturating_sub(ahead.units),
        _ => 0,
    };
    Decision {
        verdict: Verdict::Rejected,
        violated: 1,
        retry_after_ms: wait.max(1),
        remaining_after_waiting: free_then.max(cost),
        factor: 0.0,
        ..known
    }
}
