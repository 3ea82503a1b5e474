//! Checks in the background whether Redis decides: after a breaker opened, and after an error with unknown text.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::{CONNECTING, Dispatcher};
use crate::engine::{Limit, Retention};
use crate::quota::MAX_CAPACITY;
use crate::redis::breaker::{Breaker, ProbeTicket};
use crate::redis::transport::{Failure, FailureKind};
use crate::runtime;
use crate::script::{Ask, DECIDE, EncodedPolicy, Mode};

/// A check whether Redis refuses all calls. However it ends, the next may start.
struct Questioning(Arc<Dispatcher>);

impl Drop for Questioning {
    fn drop(&mut self) {
        self.0.is_questioning.store(false, Ordering::Relaxed);
    }
}

impl Dispatcher {
    /// Checks whether an error with unknown text concerns one key or all keys.
    ///
    /// The check decides on a key that no client uses. If that fails too, the breaker opens. Otherwise every request
    /// would make a useless call.
    pub(super) fn question_refusal(self: &Arc<Self>, at: usize, key: &[u8], failure: &Failure) {
        if self.is_questioning.swap(true, Ordering::Relaxed) {
            return;
        }
        let questioning = Questioning(Arc::clone(self));
        let (key, failure) = (key.to_vec(), failure.clone());
        let _ = runtime::spawn(async move {
            let dispatcher = &questioning.0;
            match dispatcher.is_back(&dispatcher.probe_key(&key)).await {
                Err(again) if again.is_unknown_refusal() => {
                    for _ in 0..Breaker::DEFAULT_THRESHOLD {
                        dispatcher.count(at, &key, &again);
                    }
                }
                _ => dispatcher.health.on_unexpected_reply(&failure),
            }
        });
    }

    /// Returns an unused key in the slot of the given one.
    pub(super) fn probe_key(&self, key: &[u8]) -> Vec<u8> {
        let at = |brace| key.iter().position(|&byte| byte == brace);
        let tag = at(b'{').zip(at(b'}')).and_then(|(open, close)| key.get(open..=close));
        [self.probe.as_bytes(), tag.unwrap_or_default()].concat()
    }

    /// Checks whether Redis decides again, and in time. The first probe may have to connect.
    ///
    /// The probe sends the same script as a decision. With another command, a server that refuses only the script would
    /// seem available again, and the breaker would flap many times a second.
    async fn is_back(&self, key: &[u8]) -> Result<(), Failure> {
        let mut ask = Vec::new();
        Ask { cost: 1, random: 0 }.write(&mut ask);
        let args = [self.probing.as_bytes(), b"", &ask];
        for (is_first, within) in [(true, self.deadline.max(CONNECTING)), (false, self.deadline)] {
            let Err(failure) = self.evaluate(&DECIDE, &[key], &args, within).await else { continue };
            // The socket may have died since the breaker opened. On a cluster, the sockets of healthy nodes stay.
            if failure.kind() == FailureKind::Timeout && is_first && !self.link.is_cluster() {
                self.link.reset();
            }
            return Err(failure);
        }
        Ok(())
    }

    /// Handles a failed probe: it looks for the cause once per outage, if none is known.
    fn goes_on(self: &Arc<Self>, failure: Failure) {
        if !failure.is_vague() || !self.health.seek() {
            return self.health.goes_on(&failure);
        }
        let dispatcher = Arc::clone(self);
        let _ = runtime::spawn(async move {
            let found = dispatcher.link.diagnose(failure).await;
            dispatcher.health.found(&found);
        });
    }

    /// A limit that admits every probe, on a key that expires after some seconds.
    pub(super) fn probing() -> EncodedPolicy {
        let (horizon, ticks) = (Retention::new(Retention::WORDS_PER_SPAN), 1);
        horizon.widen(&[ticks]);
        let limit =
            Limit { capacity: MAX_CAPACITY, hard: MAX_CAPACITY, window: ticks, span: ticks, ticks_in_200ms: ticks };
        EncodedPolicy::decide(1_000, &horizon, Mode::Absolute, &[limit])
    }

    /// Probes until Redis answers, or the limiter is dropped.
    pub(super) async fn probe(dispatcher: Weak<Self>, at: usize, opened: ProbeTicket, key: Vec<u8>) {
        let is_back = || {
            let (dispatcher, key) = (dispatcher.clone(), key.clone());
            async move {
                let Some(dispatcher) = dispatcher.upgrade() else { return false };
                match dispatcher.is_back(&key).await {
                    Ok(()) => {
                        dispatcher.settle(at).await;
                        dispatcher.bring_back(at).await;
                        true
                    }
                    Err(failure) => {
                        dispatcher.goes_on(failure);
                        false
                    }
                }
            }
        };
        if opened.probe(is_back).await.is_some()
            && let Some(dispatcher) = dispatcher.upgrade()
        {
            dispatcher.health.on_close();
        }
    }
}
