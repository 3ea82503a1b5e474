//! Requests with several limits: each has a key for every limit, and one script call decides on all of them.

use super::call::{Asker, KEY_WEIGHT, MOST_WEIGHT, ScriptCall};
use super::question::{JointKey, joint_bodies};
use crate::script::ScriptReply;

/// The script defines the functions of the general case anew for each key.
const DEFINITIONS: usize = 2;

impl JointKey {
    fn weight(&self) -> usize {
        self.policy.weight() * (1 + KEY_WEIGHT) + DEFINITIONS
    }
}

impl ScriptCall {
    /// Combines requests with several limits, in their order. Keys of different slots do not share a call, so on a
    /// cluster each request has its own.
    pub(super) fn joint(requests: Vec<(Box<[JointKey]>, Asker)>, most_keys: usize) -> Vec<Self> {
        let mut calls: Vec<Self> = Vec::new();
        for (keys, reply) in requests {
            let weight: usize = keys.iter().map(JointKey::weight).sum();
            let takes =
                |call: &&mut Self| call.keys.len() + keys.len() <= most_keys && call.weight + weight <= MOST_WEIGHT;
            if calls.last_mut().filter(takes).is_none() {
                calls.push(Self::new(true));
            }
            let Some(call) = calls.last_mut() else { continue };
            call.weight += weight;
            call.bodies.extend(joint_bodies(&keys));
            let at = call.total;
            call.total += keys.len() * ScriptReply::RECORD;
            call.replies.push((at..call.total, reply));
            for JointKey { policy, name, .. } in keys {
                call.policies.push(policy);
                call.keys.push(name);
            }
        }
        calls
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::engine::{Limit, Retention};
    use crate::script::{Ask, EncodedPolicy, JointAsk, Mode};

    /// A request with so many limits, whose first cost is its number.
    fn request(number: u64, limits: u64) -> (Box<[JointKey]>, Asker) {
        let limit = Limit { capacity: 100, hard: 100, window: 100, span: 100, ticks_in_200ms: 20 };
        let horizon = Retention::new(Retention::WORDS_PER_SPAN);
        assert!(horizon.widen(&[100]));
        let policy = EncodedPolicy::decide(10, &horizon, Mode::Absolute, &[limit]);
        let key = |at: u64| JointKey {
            policy: policy.clone(),
            name: Box::from([number.to_be_bytes(), at.to_be_bytes()].concat()),
            ask: JointAsk { ask: Ask { cost: number, random: 0 }, is_enforced: true, is_needed: at == 0 },
        };
        ((0..limits).map(key).collect(), oneshot::channel().0)
    }

    fn calls(requests: u64, limits: u64, most_keys: usize) -> Vec<ScriptCall> {
        ScriptCall::joint((0..requests).map(|number| request(number, limits)).collect(), most_keys)
    }

    #[test]
    fn a_call_holds_whole_requests_up_to_its_weight() {
        for (limits, most_keys, expected) in [(2, 64, 21), (3, 64, 14), (8, 64, 5), (8, 16, 2), (3, 1, 1)] {
            let calls = calls(50, limits, most_keys);
            let shapes: Vec<_> = calls.iter().map(|call| (call.replies.len(), call.keys.len())).collect();
            assert_eq!(shapes[0], (expected, expected * limits as usize), "{limits} limits, {most_keys} keys");
            assert_eq!(shapes.iter().map(|shape| shape.0).sum::<usize>(), 50);
        }
    }

    #[test]
    fn each_request_ends_with_its_last_key_and_has_its_own_part_of_the_reply() {
        let [call] = &calls(3, 2, 64)[..] else { panic!("one call is sufficient") };
        let ends: Vec<_> = call.bodies.iter().map(|body| (body[0], body[9], body[10], body[11])).collect();
        assert_eq!(ends, [(0, 1, 1, 0), (0, 1, 0, 1), (1, 1, 1, 0), (1, 1, 0, 1), (2, 1, 1, 0), (2, 1, 0, 1)]);
        let parts: Vec<_> = call.replies.iter().map(|(part, _)| part.clone()).collect();
        assert_eq!((parts, call.total), (vec![0..66, 66..132, 132..198], 198));
        let args = call.arguments();
        assert_eq!(args.len(), 1 + 2 * 6);
        assert!(args[0].is_empty() && args[2] == &call.bodies[0][..] && args[12] == &call.bodies[5][..]);
    }
}
