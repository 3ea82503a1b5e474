//! The queue of one partition: it decides which caller sends directly, which waits, and which loop serves. No I/O.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::question::{KeyReply, Question};
use crate::redis::transport::Failure;

/// The most callers that wait in a partition; further callers fail at once.
const MOST_WAITING: usize = 100_000;

/// The number of waiting requests at which a batch goes although the loop waits for its reply.
const FULL: usize = 32;

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
    /// Whether a batch is in flight beside the one of the loop.
    has_overflow: bool,
    queue: Vec<Pending>,
}

pub(super) struct Pending {
    pub(super) question: Question,
    pub(super) since: Instant,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// The result of a queued request.
pub(super) enum Answer {
    Served(Result<KeyReply, Failure>),
    /// The loop ended before it sent the request.
    Unsent(Question),
}

/// How a request is served.
pub(super) enum Enqueued {
    /// The caller sends it at once.
    Alone(Question),
    /// The loop with this number sends it; if `starts`, the caller must start that loop. If there is an overflow, the
    /// caller must start a task that sends it; this request is part of it.
    Queued { answer: oneshot::Receiver<Answer>, number: u64, starts: bool, overflow: Option<Vec<Pending>> },
}

impl Queue {
    fn traffic(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, question: Question) -> Result<Enqueued, Failure> {
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
        let overflows = !starts && !traffic.has_overflow && traffic.queue.len() >= FULL;
        let overflow = overflows.then(|| std::mem::take(&mut traffic.queue));
        traffic.has_overflow |= overflows;
        Ok(Enqueued::Queued { answer, number: traffic.loops, starts, overflow })
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
            give_back(unsent);
        }
    }

    /// Ends an overflow. The callers of requests that it did not send get them back.
    pub(super) fn end_overflow(&self, unsent: Vec<Pending>) {
        self.traffic().has_overflow = false;
        give_back(unsent);
    }
}

fn give_back(unsent: Vec<Pending>) {
    for waiting in unsent {
        let _ = waiting.reply.send(Answer::Unsent(waiting.question));
    }
}

/// A caller that sends directly; its drop releases the partition.
pub(super) struct DirectGuard<'a>(pub(super) &'a Queue);

impl Drop for DirectGuard<'_> {
    fn drop(&mut self) {
        self.0.traffic().has_single = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Retention;
    use crate::redis::batch::{KeyRequest, Payload};
    use crate::script::{Ask, EncodedPolicy, Mode};

    fn request(number: usize) -> Question {
        let policy = EncodedPolicy::decide(10, &Retention::new(Retention::WORDS_PER_SPAN), Mode::Absolute, &[]);
        let body = Payload::Ask(Ask { cost: 1, random: 0 });
        Question::Key(KeyRequest { policy, key: Box::from(number.to_be_bytes()), body })
    }

    /// The receiver of a queued request's reply, and the overflow.
    fn queued(queue: &Queue, number: usize) -> (oneshot::Receiver<Answer>, Option<Vec<Pending>>) {
        match queue.enter(request(number)) {
            Ok(Enqueued::Queued { answer, overflow, .. }) => (answer, overflow),
            _ => panic!("request {number} does not wait"),
        }
    }

    #[test]
    fn a_full_queue_overflows_once_at_a_time() {
        let queue = Queue::default();
        assert!(matches!(queue.enter(request(0)), Ok(Enqueued::Alone(_))));
        let waiting: Vec<_> = (1..=2 * FULL).map(|number| queued(&queue, number)).collect();
        let sizes: Vec<_> = waiting.iter().map(|(_, overflow)| overflow.as_ref().map(Vec::len)).collect();
        assert_eq!(sizes[FULL - 1], Some(FULL));
        assert_eq!(sizes.iter().flatten().count(), 1, "{sizes:?}");
        assert_eq!(queue.next(1).map(|batch| batch.len()), Some(FULL), "the loop sends the rest");
        queue.end_overflow(Vec::new());
        let again = (0..FULL).filter_map(|number| queued(&queue, number).1).count();
        assert_eq!(again, 1, "the next overflow may go");
    }

    #[test]
    fn an_overflow_that_is_dropped_unsent_gives_its_requests_back() {
        let queue = Queue::default();
        assert!(matches!(queue.enter(request(0)), Ok(Enqueued::Alone(_))));
        let mut waiting: Vec<_> = (1..=FULL).map(|number| queued(&queue, number)).collect();
        let overflow = waiting[FULL - 1].1.take().unwrap();
        queue.end_overflow(overflow);
        for (number, (answer, _)) in waiting.iter_mut().enumerate() {
            let Ok(Answer::Unsent(request)) = answer.try_recv() else { panic!("request {number} is lost") };
            assert_eq!(request.key(), (number + 1).to_be_bytes());
        }
    }
}
