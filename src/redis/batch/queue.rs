//! The queue of one lane: who is served alone, who waits, and which loop serves those who wait. No I/O.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::question::{KeyReply, KeyRequest};
use crate::redis::transport::Failure;

/// Callers that wait in a lane; more are turned away at once.
const MOST_WAITING: usize = 100_000;

/// See the module.
#[derive(Default)]
pub(super) struct Queue(Mutex<State>);

/// What is under way in a lane, and what waits.
#[derive(Default)]
struct State {
    /// Whether a caller who found the lane idle is under way by itself.
    has_single: bool,
    /// The loop that serves the queue; one that lost its runtime is replaced by the next.
    looping: Option<u64>,
    loops: u64,
    /// When the loop took the queue last.
    turned: Option<Instant>,
    queue: Vec<Pending>,
}

pub(super) struct Pending {
    pub(super) question: KeyRequest,
    pub(super) since: Instant,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// What becomes of a queued question.
pub(super) enum Answer {
    Served(Result<KeyReply, Failure>),
    /// Its loop ended before it was sent.
    Unsent(KeyRequest),
}

/// How a question is served.
pub(super) enum Enqueued {
    /// By its caller, at once.
    Alone(KeyRequest),
    /// By the loop with this number, which the caller has to start if it is not there yet.
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

    /// What the loop with this number serves next; nothing if it is to end.
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

    /// Ends a loop that is gone, or stands still with its runtime; one that has just taken its turn goes on.
    pub(super) fn abandon_if_stuck(&self, number: u64, deadline: Duration) {
        if self.traffic().turned.is_none_or(|turned| turned.elapsed() >= deadline) {
            self.abandon(number);
        }
    }

    /// Ends a loop that does not serve any more; those who wait for it get their questions back.
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

/// A caller that is under way by itself; dropped, it leaves the lane.
pub(super) struct DirectGuard<'a>(pub(super) &'a Queue);

impl Drop for DirectGuard<'_> {
    fn drop(&mut self) {
        self.0.traffic().has_single = false;
    }
}
