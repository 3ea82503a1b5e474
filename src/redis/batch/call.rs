//! One script call: it combines the requests of a partition, and distributes the reply.

use std::ops::Range;

use tokio::sync::oneshot;

use super::question::{KeyRequest, Payload, Question, joint_arguments};
use super::queue::{Answer, Pending};
use crate::script::{Ask, DECIDE, EncodedPolicy, JOINT, Script};

/// The highest weight of one script call, because the server serves no other client while it runs. The unit is one
/// request of the absolute strategy with one limit, which takes 2 to 4 us. A call therefore takes about a millisecond
/// at most.
pub(super) const MOST_WEIGHT: usize = 256;
/// The weight of reading and writing a key.
pub(super) const KEY_WEIGHT: usize = 3;
/// The same with a report and a lease, for any limits.
const SYNC_WEIGHT: usize = 15;

/// One script call: keys under one policy, and the requests of each key in the order of arrival. Or requests with
/// several limits, and a policy for each of their keys.
pub(super) struct ScriptCall {
    is_joint: bool,
    pub(super) policies: Vec<EncodedPolicy>,
    pub(super) keys: Vec<Box<[u8]>>,
    pub(super) bodies: Vec<Vec<u8>>,
    /// Whether another request for the last key may join.
    is_open: bool,
    pub(super) weight: usize,
    /// The length of all replies.
    pub(super) total: usize,
    pub(super) replies: Vec<(Range<usize>, Asker)>,
}

/// The receiver of a reply.
pub(super) type Asker = oneshot::Sender<Answer>;

impl Payload {
    /// The weight of the requests, and the extra weight if their key is not in the call yet.
    fn weight(&self, of_ask: usize) -> (usize, usize) {
        match self {
            Self::Ask(_) => (of_ask, KEY_WEIGHT * of_ask),
            Self::Part { asks, .. } => (asks * of_ask, SYNC_WEIGHT + KEY_WEIGHT * of_ask),
        }
    }
}

impl ScriptCall {
    pub(super) fn new(is_joint: bool) -> Self {
        Self {
            is_joint,
            policies: Vec::new(),
            keys: Vec::new(),
            bodies: Vec::new(),
            is_open: false,
            weight: 0,
            total: 0,
            replies: Vec::new(),
        }
    }

    /// Combines the pending requests.
    pub(super) fn of(batch: Vec<Pending>, most_keys: usize) -> Vec<Self> {
        let (mut requests, mut joint) = (Vec::with_capacity(batch.len()), Vec::new());
        for Pending { question, reply, .. } in batch {
            match question {
                Question::Key(request) => requests.push((request, reply)),
                Question::Joint(keys) => joint.push((keys, reply)),
            }
        }
        let mut calls = Self::of_keys(requests, most_keys);
        calls.extend(Self::joint(joint, most_keys));
        calls
    }

    /// Combines requests about single keys, and keeps the order of those for one key. Each call has at most the weight
    /// [`MOST_WEIGHT`], unless a single request is heavier.
    fn of_keys(mut requests: Vec<(KeyRequest, Asker)>, most_keys: usize) -> Vec<Self> {
        // The sort is stable, so the requests of one key stay in order.
        requests.sort_by(|(a, _), (b, _)| a.policy.order(&b.policy).then_with(|| a.key.cmp(&b.key)));
        let mut calls: Vec<Self> = Vec::new();
        for (KeyRequest { policy, key, body }, reply) in requests {
            let is_ask = matches!(body, Payload::Ask(_));
            let joins = |call: &Self| is_ask && call.is_open && call.keys.last() == Some(&key);
            let (ask, of_key) = body.weight(policy.weight());
            let takes = |call: &&mut Self| {
                let adds = if joins(call) { ask } else { ask + of_key };
                call.policies.last() == Some(&policy)
                    && call.weight + adds <= MOST_WEIGHT
                    && (joins(call) || call.keys.len() < most_keys)
            };
            if calls.last_mut().filter(takes).is_none() {
                calls.push(Self { policies: vec![policy], ..Self::new(false) });
            }
            let Some(call) = calls.last_mut() else { continue };
            if !joins(call) {
                call.keys.push(key);
                call.bodies.push(Vec::with_capacity(Ask::BYTES));
                call.is_open = is_ask;
                call.weight += of_key;
            }
            call.weight += ask;
            if let Some(bytes) = call.bodies.last_mut() {
                body.write(bytes);
            }
            let at = call.total;
            call.total += body.answer();
            call.replies.push((at..call.total, reply));
        }
        calls
    }

    /// The arguments of the script, on the clock of the server.
    pub(super) fn arguments(&self) -> Vec<&[u8]> {
        if self.is_joint {
            return joint_arguments(self.policies.iter().zip(&self.bodies));
        }
        let head = self.policies.iter().map(EncodedPolicy::as_bytes).chain([&b""[..]]);
        head.chain(self.bodies.iter().map(Vec::as_slice)).collect()
    }

    pub(super) fn script(&self) -> &'static Script {
        if self.is_joint { &JOINT } else { &DECIDE }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::engine::{Limit, Retention};
    use crate::script::{Lending, Mode};

    fn policy(mode: Mode, limits: usize, interval_ms: u32) -> EncodedPolicy {
        let spans: Vec<u32> = (1..=limits as u32).map(|at| 100 * at).collect();
        let limit = |&span| Limit { capacity: 100, hard: 150, window: span, span, ticks_in_200ms: 20 };
        let horizon = Retention::new(Retention::WORDS_PER_SPAN);
        assert!(horizon.widen(&spans));
        let limits: Vec<Limit> = spans.iter().map(limit).collect();
        EncodedPolicy::lend(10, &horizon, mode, &limits, Lending { interval_ms, tolerance: 0.0 })
    }

    /// Requests for these keys, each with its number as the cost.
    fn asks(policy: &EncodedPolicy, keys: impl Iterator<Item = u64>) -> Vec<Pending> {
        let ask = |(number, key): (usize, u64)| {
            let body = Payload::Ask(Ask { cost: number as u64, random: 0 });
            let request = KeyRequest { policy: policy.clone(), key: Box::from(key.to_be_bytes()), body };
            Pending { question: Question::Key(request), since: Instant::now(), reply: oneshot::channel().0 }
        };
        keys.enumerate().map(ask).collect()
    }

    /// The keys and requests of each call; the function checks that no request is lost or out of order.
    fn shapes(batch: Vec<Pending>, most_keys: usize) -> Vec<(usize, usize)> {
        let total = batch.len();
        let calls = ScriptCall::of(batch, most_keys);
        let cost = |ask: &[u8]| ask[..5].iter().rev().fold(0, |cost, byte| cost << 8 | u64::from(*byte));
        let mut seen = Vec::new();
        for call in &calls {
            for (key, body) in call.keys.iter().zip(&call.bodies) {
                seen.extend(body.chunks(9).map(|ask| (key.clone(), cost(ask))));
            }
            assert_eq!(call.replies.last().unwrap().0.end, call.total);
        }
        assert_eq!(seen.len(), total);
        assert!(seen.is_sorted(), "asks of one key are out of order");
        calls.iter().map(|call| (call.keys.len(), call.replies.len())).collect()
    }

    #[test]
    fn a_call_contains_fewer_asks_if_they_are_heavier() {
        for (mode, limits, most) in [
            (Mode::Absolute, 1, 253),
            (Mode::Absolute, 8, 29),
            (Mode::Suppressed, 1, 125),
            (Mode::Suppressed, 3, 39),
            (Mode::Suppressed, 8, 13),
        ] {
            let shapes = shapes(asks(&policy(mode, limits, 0), std::iter::repeat_n(7, 2_000)), 64);
            let full = (1, most);
            assert!(shapes[..shapes.len() - 1].iter().all(|shape| *shape == full), "{mode:?} {limits}: {shapes:?}");
            assert!(shapes[shapes.len() - 1].1 <= most, "{mode:?} {limits}: {shapes:?}");
        }
    }

    #[test]
    fn a_call_contains_fewer_keys_if_they_are_heavier() {
        for (mode, limits, most) in
            [(Mode::Absolute, 1, 64), (Mode::Absolute, 8, 8), (Mode::Suppressed, 1, 32), (Mode::Suppressed, 8, 4)]
        {
            let shapes = shapes(asks(&policy(mode, limits, 0), 0..640), 64);
            assert!(shapes.iter().all(|shape| *shape == (most, most)), "{mode:?} {limits}: {shapes:?}");
        }
        let shapes = shapes(asks(&policy(Mode::Absolute, 1, 0), 0..10), 1);
        assert_eq!(shapes, [(1, 1); 10], "one slot in a call");
    }

    #[test]
    fn a_call_contains_fewer_keys_with_reports_and_a_heavy_one_goes_alone() {
        let policy = policy(Mode::Absolute, 1, 50);
        let parts = |count: u64, asks| -> Vec<Pending> {
            let part = |key: u64| {
                let body = Payload::Part { bytes: Box::from([0; 9]), asks };
                let request = KeyRequest { policy: policy.clone(), key: Box::from(key.to_be_bytes()), body };
                Pending { question: Question::Key(request), since: Instant::now(), reply: oneshot::channel().0 }
            };
            (0..count).map(part).collect()
        };
        let keys = |count, asks| -> Vec<usize> {
            ScriptCall::of(parts(count, asks), 64).iter().map(|call| call.keys.len()).collect()
        };
        assert_eq!(keys(30, 1), [13, 13, 4]);
        assert_eq!(keys(30, 0), [14, 14, 2]);
        assert_eq!(keys(3, 1_000), [1, 1, 1]);
    }
}
