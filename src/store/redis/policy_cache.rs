//! A policy as the script reads it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::{Limit, Spans};
use crate::redis::Keyspace;
use crate::script::{EncodedPolicy, Mode};

/// Keeps the last encoded policy for as long as its keys keep history for the same windows.
#[derive(Default)]
pub(super) struct PolicyCache(Mutex<Option<Cached>>);

struct Cached {
    spans: Spans,
    mode: Mode,
    limits: Arc<[Limit]>,
    encoded: EncodedPolicy,
}

impl PolicyCache {
    /// The policy of the keys. `encode` is called if the last one had other limits, or another layer has added or ended
    /// a window of the same keys.
    pub(super) fn get(
        &self,
        keys: &Keyspace,
        mode: Mode,
        limits: &Arc<[Limit]>,
        encode: impl FnOnce() -> EncodedPolicy,
    ) -> EncodedPolicy {
        // Read before it is encoded: if the windows change meanwhile, the next call encodes it again.
        let spans = keys.horizon.spans();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(cached) if cached.spans == spans && cached.mode == mode && cached.limits == *limits => {
                cached.encoded.clone()
            }
            _ => {
                let encoded = encode();
                *last = Some(Cached { spans, mode, limits: Arc::clone(limits), encoded: encoded.clone() });
                encoded
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_encoded_again_if_the_windows_of_its_keys_change() {
        let (cache, keys) = (PolicyCache::default(), Keyspace::new("weir", Some("api")));
        let limits: Arc<[Limit]> =
            Arc::new([Limit { capacity: 10, hard: 10, window: 100, span: 100, ticks_in_200ms: 20 }]);
        let encode = || EncodedPolicy::decide(10, &keys.horizon, Mode::Absolute, &limits);
        let cached = || cache.get(&keys, Mode::Absolute, &limits, || unreachable!("it is kept"));
        keys.horizon.widen(&[100]);
        let first = cache.get(&keys, Mode::Absolute, &limits, encode);
        assert_eq!(cached(), first);
        keys.horizon.widen(&[100, 200]);
        let second = cache.get(&keys, Mode::Absolute, &limits, encode);
        assert!(second != first && second == encode());
        assert_eq!(cached(), second);
    }

    #[test]
    fn a_policy_is_encoded_again_for_other_limits_or_another_mode() {
        let (cache, keys) = (PolicyCache::default(), Keyspace::new("weir", None));
        keys.horizon.widen(&[100]);
        let limits = |capacity| -> Arc<[Limit]> {
            Arc::new([Limit { capacity, hard: 10, window: 100, span: 100, ticks_in_200ms: 20 }])
        };
        for (mode, capacity) in [(Mode::Absolute, 10), (Mode::Peek, 10), (Mode::Absolute, 10), (Mode::Absolute, 9)] {
            let encode = || EncodedPolicy::decide(10, &keys.horizon, mode, &limits(capacity));
            assert_eq!(cache.get(&keys, mode, &limits(capacity), encode), encode());
        }
    }
}
