//! One script call: what has gathered in a lane, put together, and its answer, given out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Lanes, Question, Reply, Waiting};
use crate::redis::link::{Failure, FailureKind};
use crate::redis::script::{DECIDE, PolicyBytes};

/// Asks in one script call, of few keys or many: as long as it runs, the server serves nobody else.
const ASKS_PER_CALL: usize = 512;

/// One script call: keys under one policy, and for each key its asks in the order in which they came.
pub(super) struct Call {
    policy: PolicyBytes,
    pub(super) keys: Vec<Box<[u8]>>,
    asks: Vec<Vec<u8>>,
    replies: Vec<oneshot::Sender<Result<Reply, Failure>>>,
}

impl Call {
    pub(super) fn of(mut batch: Vec<Waiting>, most_keys: usize) -> Vec<Self> {
        // Stable, so that asks of one key stay in order.
        batch.sort_by(|a, b| {
            let (a, b) = (&a.question, &b.question);
            a.policy.as_bytes().cmp(b.policy.as_bytes()).then_with(|| a.key.cmp(&b.key))
        });
        let mut calls: Vec<Self> = Vec::new();
        for Waiting { question: Question { policy, key, ask }, reply, .. } in batch {
            let call = match calls.last_mut() {
                Some(call)
                    if call.policy == policy
                        && call.replies.len() < ASKS_PER_CALL
                        && (call.keys.last() == Some(&key) || call.keys.len() < most_keys) =>
                {
                    call
                }
                _ => {
                    calls.push(Self { policy, keys: Vec::new(), asks: Vec::new(), replies: Vec::new() });
                    let Some(call) = calls.last_mut() else { continue };
                    call
                }
            };
            if call.keys.last() != Some(&key) {
                call.keys.push(key);
                call.asks.push(Vec::new());
            }
            if let Some(asks) = call.asks.last_mut() {
                ask.write(asks);
            }
            call.replies.push(reply);
        }
        calls
    }

    pub(super) async fn make(self, lanes: &Lanes, within: Duration) -> Result<(), Failure> {
        let keys: Vec<&[u8]> = self.keys.iter().map(|key| &**key).collect();
        let head = [self.policy.as_bytes(), b""];
        let args: Vec<&[u8]> = head.into_iter().chain(self.asks.iter().map(Vec::as_slice)).collect();
        let sent = Instant::now();
        let result = lanes.evaluate(&DECIDE, &keys, &args, within).await.map(Arc::new);
        if result.as_ref().is_err_and(|failure| failure.kind() == FailureKind::CrossSlot) {
            lanes.has_slots.store(true, Ordering::Relaxed);
        }
        let (asks, received) = (self.replies.len(), Instant::now());
        for (index, reply) in self.replies.into_iter().enumerate() {
            let part = result.as_ref().map(|answer| Reply { answer: Arc::clone(answer), asks, index, sent, received });
            let _ = reply.send(part.map_err(Failure::clone));
        }
        result.map(drop)
    }
}
