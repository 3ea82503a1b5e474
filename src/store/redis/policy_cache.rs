//! A layer's policy as the script reads it.

use std::sync::{Mutex, PoisonError};

use crate::engine::Spans;
use crate::redis::Keyspace;
use crate::script::EncodedPolicy;

/// Keeps an encoded policy for as long as its keys keep history for the same windows.
#[derive(Default)]
pub(super) struct PolicyCache(Mutex<Option<(Spans, EncodedPolicy)>>);

impl PolicyCache {
    /// The policy of the keys; `encode` is called if another layer has added or ended a window of the same keys.
    pub(super) fn get(&self, keys: &Keyspace, encode: impl FnOnce() -> EncodedPolicy) -> EncodedPolicy {
        // Read before it is encoded: if the windows change meanwhile, the next call encodes it again.
        let spans = keys.horizon.spans();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((of, policy)) if *of == spans => policy.clone(),
            _ => {
                let policy = encode();
                *kept = Some((spans, policy.clone()));
                policy
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Limit;
    use crate::script::Mode;

    #[test]
    fn a_policy_is_encoded_again_if_the_windows_of_its_keys_change() {
        let (cache, keys) = (PolicyCache::default(), Keyspace::new("weir", Some("api")));
        let limit = Limit { capacity: 10, hard: 10, window: 100, span: 100, ticks_in_200ms: 20 };
        let encode = || EncodedPolicy::decide(10, &keys.horizon, Mode::Absolute, &[limit]);
        keys.horizon.widen(&[100]);
        let first = cache.get(&keys, encode);
        assert_eq!(cache.get(&keys, || unreachable!("it is kept")), first);
        keys.horizon.widen(&[100, 200]);
        let second = cache.get(&keys, encode);
        assert!(second != first && second == encode());
        assert_eq!(cache.get(&keys, || unreachable!("it is kept")), second);
    }
}
