//! A sync of a key with Redis: one round trip that reports, decides, and leases.
//!
//! A sync runs in its own task, and callers only listen for its result. If its runtime stalls, another sync replaces it
//! after the deadline. If its runtime ends, the sync is abandoned at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::state::Shared;
use super::table::{KeyRef, KeyTable};
use crate::decision::Decision;
use crate::lease::{Answer, KeyState, OwnedLimitSet, Reaction, RoundTrip};
use crate::redis::{Failure, KeyReply, KeyRequest, Payload};
use crate::runtime;
use crate::script::{Ask, EncodedPolicy, LeaseId, Lending, ScriptReply, SyncReply, SyncRequest};

/// The time beyond the deadline for which a caller waits for the result of the task.
const GRACE: Duration = Duration::from_millis(5);

/// A sync. If it is dropped before the reply, it is abandoned.
pub(super) struct SyncOp {
    shared: Arc<Shared>,
    key: KeyRef,
    /// The key's name in Redis.
    name: Box<[u8]>,
    limits: OwnedLimitSet,
    trip: RoundTrip,
    request: SyncRequest,
    ask: Option<Ask>,
    began: Instant,
    is_done: bool,
}

impl SyncOp {
    /// Starts the sync of a key; the caller holds the key's lock.
    pub(super) fn start(
        shared: &Arc<Shared>,
        key: &KeyRef,
        state: &mut KeyState,
        limits: &OwnedLimitSet,
        wants: bool,
    ) -> Self {
        let wants = wants && !shared.is_closed.load(Ordering::Relaxed);
        let now = shared.time.now_ms();
        let (trip, mut request) = state.start_sync(now, wants, shared.context(&key.table));
        if !limits.borrow().is_suppressed {
            // Only the suppressed strategy's script accepts them.
            state.add_shed_units(std::mem::take(&mut request.shed_units));
        }
        Self {
            shared: Arc::clone(shared),
            key: key.clone(),
            name: state.name.clone(),
            limits: limits.clone(),
            trip,
            request,
            ask: None,
            began: Instant::now(),
            is_done: false,
        }
    }

    /// Adds a request to decide.
    pub(super) fn with_ask(mut self, cost: u64) -> Self {
        self.ask = Some(Ask { cost, random: fastrand::u32(..) });
        self
    }

    /// Runs the sync in the background, and listens for at most `within`.
    pub(super) async fn wait(self, within: Duration) -> Result<Option<Decision>, Failure> {
        let (result, listener) = oneshot::channel();
        runtime::spawn(async move {
            let _ = result.send(self.run().await);
        })?;
        match runtime::timeout(within + GRACE, listener)?.await {
            Ok(Ok(result)) => result,
            // The sync is late, or its runtime ended.
            _ => Err(Failure::timeout()),
        }
    }

    /// Makes the round trip, or two if Redis has lost the key. Returns the decision on the request that it carried.
    pub(super) async fn run(mut self) -> Result<Option<Decision>, Failure> {
        let shared = Arc::clone(&self.shared);
        let mut answer = self.read(&shared.redis.dispatcher.decide(self.question()).await?)?;
        let mut reaction = self.handle_reply(&answer)?;
        if let Reaction::Resubmit { request, has_lost_units } = reaction {
            if has_lost_units {
                shared.redis.dispatcher.forgot();
            }
            (self.request, self.trip.asked.sent) = (request, shared.time.now_ms());
            let within = Duration::from_millis(shared.params.deadline_ms).saturating_sub(self.began.elapsed());
            let trip = shared.redis.dispatcher.decide(self.question());
            let reply = runtime::timeout(within, trip)?.await.unwrap_or(Err(Failure::timeout()))?;
            answer = self.read(&reply)?;
            reaction = self.handle_reply(&answer)?;
        }
        let Reaction::Done { decision, wake } = reaction else { return Err(Failure::unreadable()) };
        self.is_done = true;
        if wake.is_some() || decision.is_some_and(|decision| decision.charge.units() > 0) {
            shared.redis.beat();
        }
        if let Some(wake) = wake {
            // A limiter that was shut down meanwhile holds no leases.
            let at = if shared.is_closed.load(Ordering::SeqCst) { shared.time.now_ms() } else { wake.at };
            shared.schedule.add_given(at, wake.id, &self.key, &self.limits);
        }
        Ok(decision)
    }

    fn handle_reply(&self, answer: &Answer) -> Result<Reaction, Failure> {
        let shared = &self.shared;
        let now = shared.time.now_ms();
        let store = shared.context(&self.key.table);
        let visit =
            |state: &mut KeyState| state.handle_reply(now, &self.trip, &self.request, answer, &self.limits, store);
        self.key.with(visit).ok_or_else(Failure::timeout)
    }

    fn question(&self) -> KeyRequest {
        let asks = self.ask.as_slice();
        let body = Payload::Part { bytes: self.request.bytes(asks), asks: asks.len() };
        KeyRequest { policy: policy(&self.shared, &self.key.table, &self.limits), key: self.name.clone(), body }
    }

    fn read(&self, reply: &KeyReply) -> Result<Answer, Failure> {
        let answered = reply.read()?;
        let (now_ms, asks) = (answered.now_ms, self.ask.as_slice().len());
        let reply = read(&answered, asks, self.limits.scaled.len())?;
        let outcome = match self.ask {
            Some(ask) if !reply.is_lost => {
                let tick = self.shared.params.server.at(now_ms);
                let outcome = answered.outcome(0, ask, &self.limits.scaled, tick).ok_or_else(Failure::unreadable)?;
                Some((ask, outcome))
            }
            _ => None,
        };
        Ok(Answer { now_ms, outcome, reply })
    }
}

fn read(answered: &ScriptReply<'_>, asks: usize, limits: usize) -> Result<SyncReply, Failure> {
    answered.behind(asks).and_then(|bytes| SyncReply::read(bytes, limits)).ok_or_else(Failure::unreadable)
}

/// Returns what counts against a key in the window of a bare rate; reports, leases and changes nothing.
pub(super) async fn peek(shared: &Shared, table: &KeyTable, key: &[u8]) -> Result<SyncReply, Failure> {
    let request = SyncRequest {
        id: LeaseId { nonce: 0, counter: 0 },
        expected: 0,
        proposed: 0,
        rate: 0.0,
        shed_units: 0,
        wants: false,
        reports: Vec::new(),
    };
    let limits = shared.any_limits();
    let body = Payload::Part { bytes: request.bytes(&[]), asks: 0 };
    let question = KeyRequest { policy: policy(shared, table, &limits), key: table.keys.names.name(key), body };
    read(&shared.redis.dispatcher.decide(question).await?.read()?, 0, limits.scaled.len())
}

fn policy(shared: &Shared, table: &KeyTable, limits: &OwnedLimitSet) -> EncodedPolicy {
    let lending = Lending {
        interval_ms: shared.schedule.interval_ms(shared.params.interval_ms),
        tolerance: shared.tolerance.get(),
    };
    let bucket_ms = shared.params.geometry.bucket_ms();
    EncodedPolicy::lend(bucket_ms, &table.keys.horizon, limits.mode(), &limits.scaled, lending)
}

impl Drop for SyncOp {
    fn drop(&mut self) {
        self.key.table.watch.synced(self.is_done);
        if self.is_done {
            return;
        }
        let (shared, now) = (&self.shared, self.shared.time.now_ms());
        let needs_retry = self.key.with(|state| {
            state.abandon(now, &self.trip);
            state.needs_retry()
        });
        if needs_retry == Some(true) {
            shared.schedule.retry(now, &self.key, &self.limits);
        }
    }
}
