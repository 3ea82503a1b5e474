//! One call of the user's function, from its start to its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_timer::Delay;

use super::slot::{Answer, Slot};
use crate::key::RequestView;
use crate::quota::Quotas;
use crate::telemetry::{Notice, notify};
use crate::time::TimeSource;

/// What the user's function returns: the quotas, or `None` if it failed.
type Finding = Pin<Box<dyn Future<Output = Option<Quotas>> + Send>>;

/// The user's function.
pub(super) type Function = dyn Fn(&RequestView<'_>) -> Finding + Send + Sync;

const ERROR: &str = "it returned an error";
const PANIC: &str = "it panicked";
const TIMEOUT: &str = "it did not end in time";

/// A lookup that has a slot for its result.
pub(super) struct Lookup {
    pub(super) slot: Arc<Slot>,
    pub(super) clock: TimeSource,
    pub(super) began_ms: u64,
    pub(super) deadline: Duration,
}

impl Lookup {
    /// Calls the function. Returns the rest of the lookup, or its answer if the function panicked.
    pub(super) fn start(
        self,
        function: &Function,
        request: &RequestView<'_>,
    ) -> Result<impl Future<Output = Answer> + Send + 'static, Answer> {
        match catch_unwind(AssertUnwindSafe(|| function(request))) {
            Ok(finding) => Ok(self.run(finding)),
            Err(_) => Err(self.failed(PANIC)),
        }
    }

    async fn run(self, finding: Finding) -> Answer {
        let mut bounded = Bounded { finding, timer: None, deadline: self.deadline };
        let found = (&mut bounded).await;
        let answer = match found {
            Ok(quotas) => self.slot.found(quotas, self.began_ms),
            Err(cause) => self.failed(cause),
        };
        // After the result is stored, because foreign code runs.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(bounded)));
        answer
    }

    fn failed(&self, cause: &'static str) -> Answer {
        let answer = self.slot.failed(self.clock.now_ms());
        notify(Notice::QuotaLookupFailed, Some(cause));
        answer
    }
}

/// The user's future with a deadline. A panic is an error.
struct Bounded {
    finding: Finding,
    /// Created if the future is not ready at once.
    timer: Option<Delay>,
    deadline: Duration,
}

impl Bounded {
    fn poll_both(&mut self, cx: &mut Context<'_>) -> Poll<Result<Quotas, &'static str>> {
        if let Poll::Ready(found) = self.finding.as_mut().poll(cx) {
            return Poll::Ready(found.ok_or(ERROR));
        }
        let timer = self.timer.get_or_insert_with(|| Delay::new(self.deadline));
        Pin::new(timer).poll(cx).map(|()| Err(TIMEOUT))
    }
}

impl Future for Bounded {
    type Output = Result<Quotas, &'static str>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        catch_unwind(AssertUnwindSafe(|| self.poll_both(cx))).unwrap_or(Poll::Ready(Err(PANIC)))
    }
}
