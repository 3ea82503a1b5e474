//! One connection for all callers, made at the first use and again after its end.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::redis::ConnectionAddr;
use tokio::sync::watch;

use super::backend::Boxed;
use super::cause::SLOW_CONNECT_MESSAGE;
use super::connector::Connector;
use super::failure::Failure;
use super::failure_kind::FailureKind;
use super::guarded_connection::GuardedConnection;
use crate::runtime;

/// The extra time for which callers wait beyond the time limit of an attempt. After that, its runtime is stalled.
const GRACE: Duration = Duration::from_millis(500);

/// See the module documentation.
///
/// The attempt runs as its own task. A caller may stop waiting without stopping the attempt, and later callers join it.
/// This matters because a decision's deadline is shorter than many TLS handshakes.
pub(super) struct SingleFlight<C> {
    shared: Arc<Shared<C>>,
}

struct Shared<C> {
    dial: Box<dyn Connector<C>>,
    /// The lock is held for state changes only, and never across an await.
    state: Mutex<State<C>>,
    /// The start of the current renewal.
    renewing: Mutex<Option<Instant>>,
}

enum State<C> {
    Down,
    Dialing(watch::Receiver<Outcome<C>>, Instant),
    Up(Arc<GuardedConnection<C>>),
}

/// `None` during the attempt.
type Outcome<C> = Option<Result<Arc<GuardedConnection<C>>, Failure>>;

impl<C: Clone + Send + Sync + 'static> SingleFlight<C> {
    pub(super) fn new(dial: impl Connector<C>) -> Self {
        let state = Mutex::new(State::Down);
        Self { shared: Arc::new(Shared { dial: Box::new(dial), state, renewing: Mutex::default() }) }
    }

    /// Returns the connection if it is ready.
    pub(super) fn live(&self) -> Option<Arc<GuardedConnection<C>>> {
        match &*self.shared.lock() {
            State::Up(live) if !live.is_gone() => Some(live.clone()),
            _ => None,
        }
    }

    /// Returns the connection. It waits for the current attempt, or starts one.
    pub(super) async fn get(&self) -> Result<Arc<GuardedConnection<C>>, Failure> {
        // The second round is for an attempt whose runtime was shut down.
        for _ in 0..2 {
            let mut attempt = match self.begin()? {
                Begun::Up(live) => return Ok(live),
                Begun::Dialing(attempt) => attempt,
            };
            if let Ok(outcome) = attempt.wait_for(Option::is_some).await
                && let Some(outcome) = outcome.clone()
            {
                return outcome;
            }
        }
        Err(Failure::new(
            FailureKind::Unreachable,
            "the runtime that connected to Redis was shut down, or has no I/O driver; build it with `enable_all()`",
        ))
    }

    fn begin(&self) -> Result<Begun<C>, Failure> {
        let mut state = self.shared.lock();
        match &*state {
            State::Up(live) if !live.is_gone() => return Ok(Begun::Up(live.clone())),
            // An attempt changes the state before it ends. An attempt without a sender was dropped.
            State::Dialing(attempt, since) if attempt.has_changed().is_ok() && !self.shared.is_stuck(*since) => {
                return Ok(Begun::Dialing(attempt.clone()));
            }
            _ => {}
        }
        let (told, attempt) = watch::channel(None);
        let (shared, own) = (self.shared.clone(), attempt.clone());
        runtime::spawn(async move {
            let outcome = shared.dial().await;
            let state = outcome.clone().map_or(State::Down, State::Up);
            shared.replace(state, |now| matches!(now, State::Dialing(attempt, _) if attempt.same_channel(&own)));
            told.send_replace(Some(outcome));
        })?;
        let before = mem::replace(&mut *state, State::Dialing(attempt.clone(), Instant::now()));
        drop(state);
        drop(before);
        Ok(Begun::Dialing(attempt))
    }

    /// The address of the connection, if there is one.
    pub(super) fn target(&self) -> Option<ConnectionAddr> {
        self.shared.dial.target()
    }

    /// Abandons the connection. A current attempt stays, because it makes a new connection anyway.
    pub(super) fn reset(&self) {
        if self.shared.dial.overlaps() {
            return self.renew();
        }
        let mut state = self.shared.lock();
        if matches!(*state, State::Up(_)) {
            let before = mem::replace(&mut *state, State::Down);
            drop(state);
            drop(before);
        }
    }

    /// Makes a new connection in the background; the old one serves until the new one is ready.
    fn renew(&self) {
        let since = self.shared.renewing().replace(Instant::now());
        if let Some(since) = since.filter(|since| !self.shared.is_stuck(*since)) {
            *self.shared.renewing() = Some(since);
            return;
        }
        let renewal = Renewal(self.shared.clone());
        // Without a runtime nothing was sent, so no renewal is needed.
        let _ = runtime::spawn(async move {
            if let Ok(live) = renewal.0.dial().await {
                renewal.0.replace(State::Up(live), |_| true);
            }
        });
    }
}

/// Lets the next renewal begin, even if the runtime drops this one.
struct Renewal<C>(Arc<Shared<C>>);

impl<C> Drop for Renewal<C> {
    fn drop(&mut self) {
        *self.0.renewing() = None;
    }
}

enum Begun<C> {
    Up(Arc<GuardedConnection<C>>),
    Dialing(watch::Receiver<Outcome<C>>),
}

impl<C> Shared<C> {
    fn renewing(&self) -> MutexGuard<'_, Option<Instant>> {
        self.renewing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Send + Sync + 'static> Shared<C> {
    async fn dial(&self) -> Result<Arc<GuardedConnection<C>>, Failure> {
        let dial: Boxed<'_, Arc<GuardedConnection<C>>> = self.dial.dial();
        match runtime::timeout(self.dial.within(), dial)?.await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::new(FailureKind::Unreachable, SLOW_CONNECT_MESSAGE)),
        }
    }

    /// Whether an attempt that began at `since` has exceeded its time limit.
    fn is_stuck(&self, since: Instant) -> bool {
        since.elapsed() > self.dial.within() + GRACE
    }

    fn replace(&self, state: State<C>, if_so: impl Fn(&State<C>) -> bool) {
        let mut now = self.lock();
        if if_so(&now) {
            // The previous state is dropped outside the lock.
            let before = mem::replace(&mut *now, state);
            drop(now);
            drop(before);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
