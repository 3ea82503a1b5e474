//! What must be done before a breaker closes.

use std::sync::Weak;

use super::Dispatcher;
use crate::redis::returning::Returning;
use crate::redis::transport::Failure;
use crate::script::{EncodedPolicy, Script};

impl Dispatcher {
    /// Sets the store that takes part in the end of an outage.
    pub(crate) fn set_returning(&self, store: Weak<dyn Returning>) {
        let _ = self.returning.set(store);
    }

    /// Lets the store bring the keys of a partition up to date.
    pub(super) async fn bring_back(&self, at: usize) {
        if let Some(store) = self.returning.get().and_then(Weak::upgrade) {
            store.bring_back(&|name| self.partition_of(name) == at).await;
        }
    }

    /// Runs a script on one key, also while the breaker is open.
    pub(crate) async fn run_unjudged(
        &self,
        script: &Script,
        key: &[u8],
        policy: &EncodedPolicy,
    ) -> Result<Vec<u8>, Failure> {
        self.evaluate(script, &[key], &[policy.as_bytes(), b""], self.deadline).await
    }
}
