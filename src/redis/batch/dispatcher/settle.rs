//! Reports the units that shares admitted during an outage; see `debts`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;

use super::Dispatcher;
use crate::redis::debts::Debt;
use crate::redis::transport::Failure;
use crate::runtime;
use crate::script::{CORRECT, EncodedPolicy};

/// The most keys to report at the same time.
const AT_ONCE: usize = 64;
/// The rounds before a breaker closes: 4096 keys. The rest is reported while Redis already decides.
const ROUNDS: usize = 64;

impl Dispatcher {
    /// Reports the units that shares of a partition's keys admitted, as far as this is quick.
    pub(super) async fn settle(&self, at: usize) {
        for _ in 0..ROUNDS {
            let taken = self.debts.take(AT_ONCE, |name| self.partition_of(name) == at);
            if taken.is_empty() {
                return;
            }
            let report = |(name, debt): (Box<[u8]>, Debt)| async move {
                let horizon = &debt.keys.horizon;
                let span = horizon.keep();
                let longest = Duration::from_millis(u64::from(span).saturating_mul(self.bucket_ms));
                let mut units = debt.ages(longest).peekable();
                if units.peek().is_none() {
                    return Ok(());
                }
                let policy = EncodedPolicy::charge(self.bucket_ms, horizon, span, units);
                let result = self.evaluate(&CORRECT, &[&name], &[policy.as_bytes(), b""], self.deadline).await;
                if result.as_ref().is_err_and(|failure| !failure.may_have_run()) {
                    self.debts.put_back(name, debt);
                }
                result.map(drop)
            };
            let results: Vec<Result<(), Failure>> = join_all(taken.into_iter().map(report)).await;
            if results.iter().any(Result::is_err) {
                return;
            }
        }
    }

    /// Reports the rest, and units that shares admitted although no breaker opened.
    #[cold]
    pub(super) fn settle_in_background(self: &Arc<Self>, at: usize) {
        if self.is_settling.swap(true, Ordering::Relaxed) {
            return;
        }
        let settling = Settling(Arc::clone(self));
        let _ = runtime::spawn(async move { settling.0.settle(at).await });
    }
}

/// However a report ends, the next may start.
struct Settling(Arc<Dispatcher>);

impl Drop for Settling {
    fn drop(&mut self) {
        self.0.is_settling.store(false, Ordering::Relaxed);
    }
}
