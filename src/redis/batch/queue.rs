//! The queue of one partition: it decides which caller sends directly, which waits, and which loop serves. No I/O.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::question::{KeyReply, KeyRequest};
use crate::redis::transport::Failure;

/// The most callers that wait in a partition; further callers fail at once.
const MOST_WAITING: usize = 100_000;

/// See the module documentation.
#[derive(Default)]
pub(super) struct Queue(Mutex<State>);

/// The calls in flight in a partition, and the requests that wait.
#[derive(Default)]
struct State {
    /// Whether a caller that found the partition idle is sending directly.
    has_single: bool,
    /// The loop that serves the queue; if it loses its runtime, the next loop replaces it.
    looping: Option<u64>,
    loops: u64,
    /// When the loop last took the queue.
    turned: Option<Instant>,
    queue: Vec<Pending>,
}

pub(super) struct Pending {
    pub(super) question: KeyRequest,
    pub(super) since: Instant,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// The result of a queued request.
pub(super) enum Answer {
    Served(Result<KeyReply, Failure>),
    /// The loop ended before it sent the request.
    Unsent(KeyRequest),
}

/// How a request is served.
pub(super) enum Enqueued {
    /// The caller sends it at once.
    Alone(KeyRequest),
    /// The loop with this number sends it; if `starts`, the caller must start that loop.
    Queued { answer: oneshot::Receiver<Answer>, number: u64, starts: bool },
}

impl Queue {
    fn traffic(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, question: KeyRequest) -> Result<Enqueued, Failure> {
        let mut traffic = self.traffic();
        if traffic.looping.is_none() && !traffic.has_single {
            traffic.has_single = true;
            return Ok(Enqueued::Alone(question));
        }
        if traffic.queue.len() >= MOST_WAITING {
            return Err(Failure::crowded());
        }
        let (reply, answer) = oneshot::channel();
        traffic.queue.push(Pending { question, since: Instant::now(), reply });
        let starts = traffic.looping.is_none();
        if starts {
            traffic.loops += 1;
            traffic.looping = Some(traffic.loops);
        }
        Ok(Enqueued::Queued { answer, number: traffic.loops, starts })
    }

    /// Returns the next batch of the loop with this number, or `None` if the loop must end.
    pub(super) fn next(&self, number: u64) -> Option<Vec<Pending>> {
        let mut traffic = self.traffic();
        if traffic.looping != Some(number) {
            return None;
        }
        if traffic.queue.is_empty() {
            traffic.looping = None;
            return None;
        }
        traffic.turned = Some(Instant::now());
        Some(std::mem::take(&mut traffic.queue))
    }

    /// Ends a loop that is gone, or stalls with its runtime. A loop that has just taken a batch continues.
    pub(super) fn abandon_if_stuck(&self, number: u64, deadline: Duration) {
        if self.traffic().turned.is_none_or(|turned| turned.elapsed() >= deadline) {
            self.abandon(number);
        }
    }

    /// Ends a loop that no longer serves; its waiting callers get their requests back.
    pub(super) fn abandon(&self, number: u64) {
        let mut traffic = self.traffic();
        if traffic.looping == Some(number) {
            traffic.looping = None;
            let unsent = std::mem::take(&mut traffic.queue);
            drop(traffic);
            for waiting in unsent {
                let _ = waiting.reply.send(Answer::Unsent(waiting.question));
            }
        }
    }
}

/// A caller that sends directly; its drop releases the partition.
pub(super) struct DirectGuard<'a>(pub(super) &'a Queue);

impl Drop for DirectGuard<'_> {
    fn drop(&mut self) {
        self.0.traffic().has_single = false;
    }
}
