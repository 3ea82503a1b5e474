//! Round trips: decisions that arrive during a round trip share the next one.
//!
//! A caller that finds its partition idle sends at once and waits for one round trip. Callers that arrive during it
//! join a queue, and a loop sends the whole queue. One script call serves many keys, with one step per key for all its
//! requests. So more concurrent callers need fewer calls each.
//!
//! If a round trip takes longer than an eighth of the deadline, the loop sends the next batch without waiting. As soon
//! as half a call's keys wait, one more batch goes at once, so the server has work while this process reads a reply.
//!
//! Without a cluster, one partition exists. On a cluster, each partition is a range of slots with its own breaker, so a
//! dead node affects no keys of other nodes.

mod joint;
mod probes;
mod returning;
mod settle;
mod tasks;
#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use redis::Value;

use super::call::ScriptCall;
use super::question::{KeyReply, KeyRequest, Question};
use super::queue::{Answer, DirectGuard, Enqueued, Pending, Queue};
use crate::redis::breaker::Breaker;
use crate::redis::debts::Debts;
use crate::redis::health::{self, HealthLog};
use crate::redis::returning::Returning;
use crate::redis::transport::{Failure, FailureKind, Transport, slot};
use crate::runtime;
use crate::script::{Ask, DECIDE, EncodedPolicy, Script, ScriptReply};

/// The partitions of a cluster, with the same number of slots each.
const CLUSTER_LANES: usize = 64;
const SLOTS: usize = 16_384;
/// The most keys in one script call.
const KEYS_PER_CALL: usize = 64;
/// The calls of one batch that are in flight together. The server executes everything that it has read from one
/// connection before it serves another client.
const CALLS_AT_ONCE: usize = 4;
/// The same if each call has one key.
const CALLS_OF_ONE_SLOT: usize = 128;
/// The time beyond the round trip's deadline for which a caller waits for the reply of its loop.
const GRACE: Duration = Duration::from_millis(5);

/// The least time that a probe allows for a new connection and a reply.
const CONNECTING: Duration = Duration::from_millis(500);

/// The partitions of one Redis, each with a breaker and a queue.
pub(crate) struct Dispatcher {
    link: Transport,
    partitions: Box<[Partition]>,
    deadline: Duration,
    /// The prefix of probe keys; no limit uses it.
    probe: Box<str>,
    /// The policy of a probe.
    probing: EncodedPolicy,
    health: HealthLog,
    /// Whether the server turned out to be a cluster behind one address, which accepts one slot per call.
    has_slots: AtomicBool,
    /// Whether a check of an unknown error is in progress.
    is_questioning: AtomicBool,
    /// The units of shares that Redis does not know yet.
    debts: Debts,
    is_settling: AtomicBool,
    /// The store that takes part in the end of an outage.
    returning: OnceLock<Weak<dyn Returning>>,
    bucket_ms: u64,
}

struct Partition {
    breaker: Arc<Breaker>,
    queue: Queue,
}

impl Dispatcher {
    pub(crate) fn new(link: Transport, deadline: Duration, prefix: &str, bucket_ms: u64) -> Arc<Self> {
        let count = if link.is_cluster() { CLUSTER_LANES } else { 1 };
        // The sum of a pause, the two parts of a probe, and a margin for a busy machine.
        let probe_timeout = Breaker::LONGEST_PAUSE + deadline.max(CONNECTING) * 2 + Duration::from_secs(1);
        let breaker = || Breaker::new(Breaker::DEFAULT_THRESHOLD, probe_timeout);
        let lane = || Partition { breaker: breaker(), queue: Queue::default() };
        let partitions = std::iter::repeat_with(lane).take(count).collect();
        Arc::new(Self {
            link,
            partitions,
            deadline,
            probe: format!("{prefix}:probe:").into(),
            probing: Self::probing(),
            health: HealthLog::default(),
            has_slots: AtomicBool::new(false),
            is_questioning: AtomicBool::new(false),
            debts: Debts::default(),
            is_settling: AtomicBool::new(false),
            returning: OnceLock::new(),
            bucket_ms,
        })
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(crate) fn link(&self) -> &Transport {
        &self.link
    }

    fn partition_of(&self, key: &[u8]) -> usize {
        match self.partitions.len() {
            1 => 0,
            count => usize::from(slot(key)) * count / SLOTS,
        }
    }

    /// The name of a key if the answer of [`allows`](Self::allows) depends on it, as on a cluster.
    #[inline]
    pub(crate) fn name_to_route(&self, name: impl FnOnce() -> Box<[u8]>) -> Option<Box<[u8]>> {
        (self.partitions.len() > 1).then(name)
    }

    /// Whether Redis can be asked about a key; `name` is the key's [name to route](Self::name_to_route).
    #[inline]
    pub(crate) fn allows(&self, name: Option<&[u8]>) -> bool {
        self.partitions[name.map_or(0, |name| self.partition_of(name))].breaker.allows()
    }

    pub(crate) fn debts(&self) -> &Debts {
        &self.debts
    }

    /// Whether Redis is unavailable, or was within `time`.
    pub(crate) fn had_outage_within(&self, time: Duration) -> bool {
        self.health.was_within(time)
    }

    /// Records that Redis has lost charges.
    pub(crate) fn forgot(&self) {
        self.health.forgot();
    }

    /// Sends one request about a key, in a batch with concurrent ones.
    pub(crate) async fn decide(self: &Arc<Self>, request: KeyRequest) -> Result<KeyReply, Failure> {
        self.exchange(Question::Key(request)).await.and_then(|reply| self.checked(reply))
    }

    async fn exchange(self: &Arc<Self>, mut question: Question) -> Result<KeyReply, Failure> {
        let at = self.partition_of(question.key());
        let lane = &self.partitions[at];
        let mut within = self.deadline;
        // The queue's loop may end with its runtime, or be abandoned. The requests that it did not send go again.
        let mut began = None;
        loop {
            if !lane.breaker.allows() {
                return Err(Failure::unavailable());
            }
            let _timer = self.health.watch.time();
            match lane.queue.enter(question)? {
                Enqueued::Alone(question) => {
                    let _single = DirectGuard(&lane.queue);
                    let result = self.decide_alone(&question, within).await;
                    return self.judge(at, question.key(), result);
                }
                Enqueued::Queued { answer, number, starts, overflow } => {
                    let began = *began.get_or_insert_with(Instant::now);
                    let spawned = match overflow {
                        Some(batch) => self.send_overflow(at, batch),
                        None if starts => self.start_loop(at, number),
                        None => Ok(()),
                    };
                    if let Err(no_runtime) = spawned {
                        return self.judge(at, &[], Err(no_runtime.into()));
                    }
                    match runtime::timeout(within + GRACE, answer)?.await {
                        Ok(Ok(Answer::Served(result))) => return result,
                        Ok(Ok(Answer::Unsent(unsent))) => question = unsent,
                        Ok(Err(_)) => return Err(Failure::orphaned()),
                        Err(_) => {
                            lane.queue.abandon_if_stuck(number, self.deadline);
                            return Err(Failure::timeout());
                        }
                    }
                    within = self.deadline.saturating_sub(began.elapsed());
                    if within.is_zero() {
                        return Err(Failure::timeout());
                    }
                }
            }
        }
    }

    /// Returns the reply, or the failure of its key alone. The call has decided the other keys.
    fn checked(&self, reply: KeyReply) -> Result<KeyReply, Failure> {
        if !ScriptReply::is_foreign(&reply.answer, reply.part.start) {
            return Ok(reply);
        }
        Err(self.on_foreign())
    }

    #[cold]
    fn on_foreign(&self) -> Failure {
        let failure = Failure::foreign();
        health::count_failure(&failure);
        self.health.on_unexpected_reply(&failure);
        failure
    }

    async fn decide_alone(&self, question: &Question, within: Duration) -> Result<KeyReply, Failure> {
        let question = match question {
            Question::Key(request) => request,
            Question::Joint(keys) => return Box::pin(self.decide_joint_alone(keys, within)).await,
        };
        let mut body = Vec::with_capacity(Ask::BYTES);
        question.body.write(&mut body);
        let args = [question.policy.as_bytes(), b"", &body];
        let sent = Instant::now();
        let answer = self.evaluate(&DECIDE, &[&question.key], &args, within).await?;
        let total = question.body.answer();
        Ok(KeyReply { answer: Arc::new(answer), total, part: 0..total, sent, received: Instant::now() })
    }

    /// Sends a call, unless its deadline has passed and no caller waits any more.
    async fn send_call(&self, call: ScriptCall, until: Instant) -> Result<(), Failure> {
        let keys: Vec<&[u8]> = call.keys.iter().map(|key| &**key).collect();
        let args = call.arguments();
        let sent = Instant::now();
        let result = match until.saturating_duration_since(sent) {
            Duration::ZERO => Err(Failure::timeout()),
            within => self.evaluate(call.script(), &keys, &args, within).await.map(Arc::new),
        };
        if call.keys.len() > 1 {
            self.learn_slots(&result);
        }
        let (total, received) = (call.total, Instant::now());
        for (part, reply) in call.replies {
            let own =
                result.as_ref().map(|answer| KeyReply { answer: Arc::clone(answer), total, part, sent, received });
            let _ = reply.send(Answer::Served(own.map_err(Failure::clone)));
        }
        result.map(drop)
    }

    /// Finds out from a call with several keys whether the server is a cluster behind one address.
    fn learn_slots<T>(&self, result: &Result<T, Failure>) {
        // A proxy in front of a cluster has its own error text. Calls with one key each show whether this was the
        // cause.
        let is_for_slots = |failure: &Failure| failure.kind() == FailureKind::CrossSlot || failure.is_unknown_refusal();
        if result.as_ref().is_err_and(is_for_slots) {
            self.has_slots.store(true, Ordering::Relaxed);
        }
    }

    fn has_slots(&self) -> bool {
        self.partitions.len() > 1 || self.has_slots.load(Ordering::Relaxed)
    }

    /// Runs a script on one key.
    pub(crate) async fn run(
        self: &Arc<Self>,
        script: &Script,
        key: &[u8],
        policy: &EncodedPolicy,
    ) -> Result<Vec<u8>, Failure> {
        let at = self.partition_of(key);
        if !self.partitions[at].breaker.allows() {
            return Err(Failure::unavailable());
        }
        let result = self.evaluate(script, &[key], &[policy.as_bytes(), b""], self.deadline).await;
        self.judge(at, key, result)
    }

    /// Makes one round trip, or two if the server does not have the script.
    async fn evaluate(
        &self,
        script: &Script,
        keys: &[&[u8]],
        args: &[&[u8]],
        within: Duration,
    ) -> Result<Vec<u8>, Failure> {
        // A pinned future is not moved, and rare cases are in a box, because each decision in flight takes this space.
        let trip = pin!(async {
            match self.link.send(&script.evalsha(keys, args.iter().copied())).await {
                Err(failure) if failure.kind() == FailureKind::NoScript => {
                    let eval = script.eval(keys, args.iter().copied());
                    Box::pin(self.link.send(&eval)).await
                }
                result => result,
            }
        });
        match runtime::timeout(within, trip)?.await {
            Ok(Ok(Value::BulkString(answer))) => Ok(answer),
            Ok(Ok(_)) => Err(Failure::unreadable()),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::timeout()),
        }
    }

    /// Reports the result of a call to the partition's breaker.
    fn judge<T>(self: &Arc<Self>, at: usize, key: &[u8], result: Result<T, Failure>) -> Result<T, Failure> {
        match &result {
            Ok(_) => {
                if self.partitions[at].breaker.on_success().is_some() {
                    self.health.on_close();
                }
                if !self.debts.is_empty() {
                    self.settle_in_background(at);
                }
            }
            Err(failure) => self.note(at, key, failure),
        }
        result
    }

    /// Counts a failure; the failure that opens the breaker starts the probe.
    #[cold]
    fn note(self: &Arc<Self>, at: usize, key: &[u8], failure: &Failure) {
        health::count_failure(failure);
        match failure.kind() {
            // Protocol and no-runtime errors are not evidence that Redis is down, so they do not trip the breaker.
            FailureKind::NoRuntime => return self.health.on_unexpected_reply(failure),
            FailureKind::Protocol if failure.is_unknown_refusal() => return self.question_refusal(at, key, failure),
            FailureKind::Protocol => return self.health.on_unexpected_reply(failure),
            // On a cluster, a slot moves in moments, and its node is healthy.
            FailureKind::Moved if self.link.is_cluster() => return self.health.on_unexpected_reply(failure),
            _ => {}
        }
        self.count(at, key, failure);
    }

    fn count(self: &Arc<Self>, at: usize, key: &[u8], failure: &Failure) {
        let Some(opened) = self.partitions[at].breaker.on_failure() else { return };
        if opened.is_transition() {
            self.health.on_open(failure);
        }
        if failure.kind() == FailureKind::Timeout {
            // The socket may be dead without an error.
            self.link.reset();
        }
        let _ = runtime::spawn(Self::probe(Arc::downgrade(self), at, opened, self.probe_key(key)));
    }

    /// Sends the batch of a partition.
    async fn serve(self: &Arc<Self>, at: usize, mut batch: Vec<Pending>) {
        if !self.partitions[at].breaker.allows() {
            for waiting in batch {
                let _ = waiting.reply.send(Answer::Served(Err(Failure::unavailable())));
            }
            return;
        }
        batch.retain(|waiting| !waiting.reply.is_closed());
        let Some(first) = batch.iter().map(|waiting| waiting.since).min() else { return };
        // After a stall of this process, callers that still wait get a grace period, in which a healthy Redis replies.
        let until = (first + self.deadline).max(Instant::now() + GRACE);
        let has_slots = self.has_slots();
        let keys_per_call = if has_slots { 1 } else { KEYS_PER_CALL };
        let mut calls = ScriptCall::of(batch, keys_per_call);
        let key = calls.first().and_then(|call| call.keys.first()).cloned().unwrap_or_default();
        let at_once = if has_slots { CALLS_OF_ONE_SLOT } else { CALLS_AT_ONCE };
        let results: Vec<_> = match calls.len() {
            1 => vec![self.send_call(calls.remove(0), until).await],
            _ => stream::iter(calls).map(|call| self.send_call(call, until)).buffer_unordered(at_once).collect().await,
        };
        // The calls went together, so they count as one result. One slow moment is not an outage.
        let result = results.into_iter().reduce(|all, one| if all.is_ok() { all } else { one });
        let _ = self.judge(at, &key, result.unwrap_or(Ok(())));
    }
}
