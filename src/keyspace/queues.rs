//! The queues of calls that wait for units: one for each key that has any, first come, first served.
//!
//! A call holds a ticket. The ticket at the head of its queue has the turn, and only its call asks the store. A turn is
//! a position and not a message, so it cannot be lost: whichever way the head leaves, the next ticket has the turn, and
//! its task is woken. Wakers run, and are dropped, only outside the lock, because both can drop another call.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use super::fingerprint::{Fingerprint, Secret};
use super::prehashed::Prehashed;
use crate::decision::Decision;
use crate::error::StoreError;

/// An empty map with more room than this is replaced, so that a flood of waiting calls leaves no memory behind.
const MOST_IDLE_ROOM: usize = 64;

/// The maximum number of waiting calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueBounds {
    pub(crate) total: usize,
    pub(crate) per_key: usize,
}

/// The queues of one store, or of one layer.
pub(crate) struct Queues {
    secret: Secret,
    bounds: QueueBounds,
    /// The number of tickets. It changes only under the lock.
    tickets: AtomicUsize,
    queues: Mutex<HashMap<Fingerprint, Queue, Prehashed>>,
}

/// The queues of a store. They are created with the first call that may wait, because most stores have none.
#[derive(Debug)]
pub(crate) struct LazyQueues {
    bounds: QueueBounds,
    queues: OnceLock<Arc<Queues>>,
}

impl LazyQueues {
    pub(crate) fn new(bounds: QueueBounds) -> Self {
        Self { bounds, queues: OnceLock::new() }
    }

    pub(crate) fn get(&self) -> &Arc<Queues> {
        self.queues.get_or_init(|| Queues::new(self.bounds))
    }
}

/// The calls that wait for one key. It exists only while it is not empty.
#[derive(Default)]
struct Queue {
    /// Their tickets are in ascending order.
    waiting: VecDeque<Waiting>,
    next_ticket: u64,
    /// The last refusal of the head.
    refused: Option<HeadRefusal>,
}

struct Waiting {
    ticket: u64,
    cost: u64,
    capacity: u64,
    /// When the call ends at the latest.
    deadline: u64,
    waker: Option<Waker>,
}

/// A refusal of the head, and when the head asks again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadRefusal {
    pub(crate) ask_at: u64,
    pub(crate) refusal: Decision,
}

/// What stands before a ticket in its queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead {
    /// The units for which the earlier calls wait.
    pub(crate) units: u64,
    /// Whether they have the same limit as this call.
    pub(crate) is_same_limit: bool,
    pub(crate) refused: Option<HeadRefusal>,
}

/// A place in a queue. Dropping it gives up the place.
pub(crate) struct Ticket {
    queues: Arc<Queues>,
    key: Fingerprint,
    number: u64,
}

impl Queues {
    pub(crate) fn new(bounds: QueueBounds) -> Arc<Self> {
        let (secret, tickets, queues) = (Secret::random(), AtomicUsize::new(0), Mutex::default());
        Arc::new(Self { secret, bounds, tickets, queues })
    }

    pub(crate) fn fingerprint(&self, key: &[u8]) -> Fingerprint {
        self.secret.fingerprint(key)
    }

    /// Whether any call waits for the key.
    pub(crate) fn is_waited_for(&self, key: Fingerprint) -> bool {
        self.len() > 0 && self.lock().contains_key(&key)
    }

    /// The number of waiting calls.
    pub(crate) fn len(&self) -> usize {
        self.tickets.load(Ordering::Acquire)
    }

    /// Takes the last place in the queue of a key, for a call that asks for `cost` units of `capacity`.
    pub(crate) fn join(
        self: &Arc<Self>,
        key: Fingerprint,
        (cost, capacity): (u64, u64),
        deadline: u64,
    ) -> Result<Ticket, StoreError> {
        let mut queues = self.lock();
        if self.len() >= self.bounds.total {
            return Err(StoreError::queue_full());
        }
        let queue = queues.entry(key).or_default();
        if queue.waiting.len() >= self.bounds.per_key {
            return Err(StoreError::queue_full());
        }
        let number = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiting.push_back(Waiting { ticket: number, cost, capacity, deadline, waker: None });
        self.tickets.fetch_add(1, Ordering::Release);
        Ok(Ticket { queues: Arc::clone(self), key, number })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Fingerprint, Queue, Prehashed>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn position(&self, ticket: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&ticket, |waiting| waiting.ticket).ok()
    }

    /// Removes a ticket, and returns its waker. If it had the turn, also returns the waker of the next one.
    fn leave(&mut self, ticket: u64) -> (Option<Waker>, Option<Waker>) {
        let Some(position) = self.position(ticket) else { return (None, None) };
        let own = self.waiting.remove(position).and_then(|waiting| waiting.waker);
        if position > 0 {
            return (own, None);
        }
        self.refused = None;
        (own, self.waiting.front_mut().and_then(|waiting| waiting.waker.take()))
    }
}

impl Ticket {
    /// Returns `None` if the ticket has the turn. Otherwise registers the task to wake, and returns what is ahead.
    pub(crate) fn ahead(&self, waker: &Waker) -> Option<Ahead> {
        let mut queues = self.queues.lock();
        let queue = queues.get_mut(&self.key)?;
        let position = queue.position(self.number).filter(|position| *position > 0)?;
        let own = &mut queue.waiting[position];
        let is_known = own.waker.as_ref().is_some_and(|known| known.will_wake(waker));
        let outdated = if is_known { None } else { own.waker.replace(waker.clone()) };
        let capacity = own.capacity;
        let earlier = queue.waiting.iter().take(position);
        let sum = |(units, is_same): (u64, bool), waiting: &Waiting| {
            (units.saturating_add(waiting.cost), is_same && waiting.capacity == capacity)
        };
        let (units, is_same_limit) = earlier.fold((0, true), sum);
        let ahead = Ahead { units, is_same_limit, refused: queue.refused };
        drop(queues);
        drop(outdated);
        Some(ahead)
    }

    /// Records a refusal of the head, and wakes the later calls that cannot wait for so long.
    pub(crate) fn record(&self, refused: HeadRefusal) {
        let mut queues = self.queues.lock();
        let Some(queue) = queues.get_mut(&self.key) else { return };
        queue.refused = Some(refused);
        let is_too_late = |waiting: &&mut Waiting| waiting.deadline < refused.ask_at;
        let wakers = queue.waiting.iter_mut().skip(1).filter(is_too_late).filter_map(|waiting| waiting.waker.take());
        let wakers: Vec<Waker> = wakers.collect();
        drop(queues);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut queues = self.queues.lock();
        let Entry::Occupied(mut queue) = queues.entry(self.key) else { return };
        let (own, next) = queue.get_mut().leave(self.number);
        if queue.get().waiting.is_empty() {
            queue.remove();
        }
        if queues.is_empty() && queues.capacity() > MOST_IDLE_ROOM {
            *queues = HashMap::default();
        }
        self.queues.tickets.fetch_sub(1, Ordering::Release);
        drop(queues);
        drop(own);
        if let Some(next) = next {
            next.wake();
        }
    }
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queues").field("bounds", &self.bounds).field("waiting", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_queue_takes_no_memory() {
        let queues = Queues::new(QueueBounds { total: 10_000, per_key: 2 });
        let join = |key: u32| queues.join(queues.fingerprint(&key.to_le_bytes()), (1, 1), 0);
        let tickets: Vec<Ticket> = (0..5_000).flat_map(|key| [join(key), join(key)]).map(Result::unwrap).collect();
        assert!(join(6_000).is_err(), "the bound on all calls");
        assert_eq!((queues.len(), queues.lock().len()), (10_000, 5_000));
        drop(tickets);
        assert_eq!((queues.len(), queues.lock().len()), (0, 0));
        assert!(queues.lock().capacity() <= MOST_IDLE_ROOM);
        let _two = [join(1).unwrap(), join(1).unwrap()];
        assert!(join(1).is_err() && join(2).is_ok(), "the bound on the calls of one key");
    }

    /// The next call may ask for less, and be admitted earlier.
    #[test]
    fn the_refusal_of_a_head_ends_with_its_turn() {
        let queues = Queues::new(QueueBounds { total: 10, per_key: 10 });
        let join = || queues.join(queues.fingerprint(b"k"), (1, 1), 0).unwrap();
        let [first, second, third] = [join(), join(), join()];
        let refused = || third.ahead(Waker::noop()).map(|ahead| ahead.refused.map(|refused| refused.ask_at));
        assert_eq!(refused(), Some(None));
        first.record(HeadRefusal { ask_at: 7, refusal: Decision::rejected(1, 1, None) });
        assert_eq!(refused(), Some(Some(7)));
        drop(first);
        assert_eq!(refused(), Some(None));
        drop(second);
        assert_eq!(refused(), None, "it has the turn");
    }

    /// A waker that owns a call, as the task of some runtimes does. Its drop ends the call.
    #[test]
    fn a_waker_may_own_a_call() {
        struct Owner(Mutex<Option<Ticket>>);
        impl std::task::Wake for Owner {
            fn wake(self: Arc<Self>) {
                self.0.lock().unwrap().take();
            }
        }
        let queues = Queues::new(QueueBounds { total: 10, per_key: 10 });
        let join = || queues.join(queues.fingerprint(b"k"), (1, 1), 0).unwrap();
        let owner = |ticket| Waker::from(Arc::new(Owner(Mutex::new(Some(ticket)))));
        let [first, second, third, fourth] = [join(), join(), join(), join()];
        assert!(second.ahead(&owner(third)).is_some());
        assert!(second.ahead(&owner(fourth)).is_some(), "the waker with the third ticket is dropped");
        drop(first);
        assert_eq!(queues.len(), 1, "the waker with the fourth ticket has run");
        drop(second);
        assert_eq!(queues.len(), 0);
    }
}
