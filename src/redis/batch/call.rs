//! One script call: what has gathered in a lane, put together, and its answer, given out.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Answer, Body, Lanes, Question, Reply, Waiting};
use crate::redis::transport::{Failure, FailureKind};
use crate::script::{DECIDE, PolicyBytes};

/// Asks in one script call, of few keys or many: as long as it runs, the server serves nobody else.
const ASKS_PER_CALL: usize = 512;

/// One script call: keys under one policy, and for each key its asks in the order in which they came.
pub(super) struct Call {
    policy: PolicyBytes,
    pub(super) keys: Vec<Box<[u8]>>,
    bodies: Vec<Vec<u8>>,
    /// Whether another ask may stand behind those of the last key.
    is_open: bool,
    /// How long the answers are.
    total: usize,
    replies: Vec<(Range<usize>, Asker)>,
}

/// Who waits for an answer.
type Asker = oneshot::Sender<Answer>;

impl Call {
    pub(super) fn of(mut batch: Vec<Waiting>, most_keys: usize) -> Vec<Self> {
        // Stable, so that asks of one key stay in order.
        batch.sort_by(|a, b| {
            let (a, b) = (&a.question, &b.question);
            a.policy.as_bytes().cmp(b.policy.as_bytes()).then_with(|| a.key.cmp(&b.key))
        });
        let mut calls: Vec<Self> = Vec::new();
        for Waiting { question: Question { policy, key, body }, reply, .. } in batch {
            let is_ask = matches!(body, Body::Ask(_));
            let joins = |call: &Self| is_ask && call.is_open && call.keys.last() == Some(&key);
            let takes = |call: &&mut Self| {
                call.policy == policy
                    && call.replies.len() < ASKS_PER_CALL
                    && (joins(call) || call.keys.len() < most_keys)
            };
            if calls.last_mut().filter(takes).is_none() {
                calls.push(Self {
                    policy,
                    keys: Vec::new(),
                    bodies: Vec::new(),
                    is_open: false,
                    total: 0,
                    replies: Vec::new(),
                });
            }
            let Some(call) = calls.last_mut() else { continue };
            if !joins(call) {
                call.keys.push(key);
                call.bodies.push(Vec::new());
                call.is_open = is_ask;
            }
            if let Some(bytes) = call.bodies.last_mut() {
                body.write(bytes);
            }
            let at = call.total;
            call.total += body.answer();
            call.replies.push((at..call.total, reply));
        }
        calls
    }

    pub(super) async fn make(self, lanes: &Lanes, within: Duration) -> Result<(), Failure> {
        let keys: Vec<&[u8]> = self.keys.iter().map(|key| &**key).collect();
        let head = [self.policy.as_bytes(), b""];
        let args: Vec<&[u8]> = head.into_iter().chain(self.bodies.iter().map(Vec::as_slice)).collect();
        let sent = Instant::now();
        let result = lanes.evaluate(&DECIDE, &keys, &args, within).await.map(Arc::new);
        // A proxy before a cluster says it in its own words: calls of one key will show whether it was that.
        let is_for_slots = |failure: &Failure| failure.kind() == FailureKind::CrossSlot || failure.is_unknown_refusal();
        if self.keys.len() > 1 && result.as_ref().is_err_and(is_for_slots) {
            lanes.has_slots.store(true, Ordering::Relaxed);
        }
        let (total, received) = (self.total, Instant::now());
        for (part, reply) in self.replies {
            let own = result.as_ref().map(|answer| Reply { answer: Arc::clone(answer), total, part, sent, received });
            let _ = reply.send(Answer::Served(own.map_err(Failure::clone)));
        }
        result.map(drop)
    }
}
