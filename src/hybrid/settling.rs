//! How a key is settled with Redis: one round trip that reports, decides, and lends.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::purse::{Given, Rules, Trip};
use super::table::Purses;
use super::{Shared, runtime};
use crate::decision::{Decision, Verdict};
use crate::engine::{Limit, Outcome};
use crate::fingerprint::Fingerprint;
use crate::quota::Tolerance;
use crate::redis::script::{Ask, Lending, Lent, Mode, Part, PolicyBytes};
use crate::redis::{Body, Failure, Question, Reply};
use crate::scale::Scale;

/// A key's limits, to be held.
#[derive(Clone, Debug)]
pub(super) struct OwnRules {
    limits: Arc<[Limit]>,
    /// The same with the tolerance, as Redis is to hold them.
    pub(super) scaled: Arc<[Limit]>,
    pub(super) is_suppressed: bool,
    digest: u64,
}

impl OwnRules {
    pub(super) fn new(limits: Arc<[Limit]>, is_suppressed: bool, tolerance: Tolerance) -> Self {
        let digest = digest(&limits, is_suppressed);
        let scaled = if tolerance.get() > 0.0 {
            let scale = |limit: &Limit| {
                let (capacity, hard) = (tolerance.widen(limit.capacity), tolerance.widen(limit.hard));
                Limit { capacity, hard, ..*limit }
            };
            limits.iter().map(scale).collect()
        } else {
            Arc::clone(&limits)
        };
        Self { limits, scaled, is_suppressed, digest }
    }

    pub(super) fn borrow(&self) -> Rules<'_> {
        Rules { limits: &self.limits, is_suppressed: self.is_suppressed, digest: self.digest }
    }

    pub(super) fn mode(&self) -> Mode {
        if self.is_suppressed { Mode::Suppressed } else { Mode::Absolute }
    }

    /// A decision on the scaled limits, as it is told.
    pub(super) fn told(&self, decision: Decision) -> Decision {
        let limit = self.limits.get(decision.limit_index).map_or(decision.limit, |limit| limit.capacity);
        Decision { limit, ..decision }
    }
}

/// Tells rules apart. Never 0.
#[inline]
pub(super) fn digest(limits: &[Limit], is_suppressed: bool) -> u64 {
    Limit::digest(limits) << 2 | u64::from(is_suppressed) << 1 | 1
}

/// A key that is being settled. Dropped before there is an answer, the key has lost what was under way.
pub(super) struct Settling {
    shared: Arc<Shared>,
    purses: Arc<Purses>,
    print: Fingerprint,
    name: Box<[u8]>,
    part: Part,
    rules: OwnRules,
    ask: Option<Ask>,
    /// When it began, by the clock of the store.
    trip: Trip,
    began: Instant,
    is_done: bool,
}

impl Settling {
    pub(super) fn new(
        shared: Arc<Shared>,
        purses: Arc<Purses>,
        print: Fingerprint,
        name: Box<[u8]>,
        part: Part,
        rules: OwnRules,
        trip: Trip,
    ) -> Self {
        let began = Instant::now();
        Self { shared, purses, print, name, part, rules, ask: None, trip, began, is_done: false }
    }

    /// Decides on a request, too.
    pub(super) fn with_ask(mut self, cost: u64) -> Self {
        self.ask = Some(Ask { cost, random: fastrand::u32(..) });
        self
    }

    /// The round trip, which goes on in the background where its caller does not wait for it.
    pub(super) fn fly(self) -> Flight {
        Flight(Some(Box::pin(self.run())))
    }

    pub(super) async fn run(mut self) -> Result<Option<Decision>, Failure> {
        let mut reply = self.shared.redis.lanes.decide(self.question()).await?;
        if self.lent(&reply)?.is_lost {
            reply = self.bring_back().await?;
        }
        let (answered, lent) = (reply.read()?, self.lent(&reply)?);
        let shared = &self.shared;
        let read = |ask: Ask| shared.redis.read(&reply, ask, ask.cost, &self.rules.scaled);
        let decision = self.ask.map(read).transpose()?.map(|decision| self.rules.told(decision));
        let full = full(&lent, answered.now_ms, &shared.redis.scale, &self.rules);
        let rules = self.rules.borrow();
        let (trip, counter) = (Trip { now: shared.time.now_ms(), ..self.trip }, self.part.id.counter);
        let given = self.purses.with(self.print, |purse| {
            let given = purse.finish(trip, counter, &lent, &rules, &shared.terms);
            if let (Some(decision), Some(ask)) = (decision, self.ask) {
                purse.remember(trip, ask.cost, decision, &rules, &self.purses.here, &shared.terms);
            }
            if let Some(full) = full
                && self.ask.is_none_or(|ask| ask.cost <= 1)
            {
                purse.refuse(trip, 1, full, &rules, &shared.terms);
            }
            given
        });
        if given.is_some() || decision.is_some_and(|decision| decision.charged > 0) {
            shared.redis.beat();
        }
        self.is_done = true;
        if let Some(Some(Given { counter, renew_at })) = given {
            // A limiter that was shut down meanwhile holds nothing.
            let at = if shared.is_closed.load(Ordering::SeqCst) { trip.now } else { renew_at };
            shared.syncer.expect(at, counter, &self.purses, self.print, &self.rules);
        }
        Ok(decision)
    }

    fn question(&self) -> Question {
        let lending = Lending {
            interval_ms: self.shared.syncer.interval_ms(self.shared.terms.interval_ms),
            tolerance: self.shared.tolerance.get(),
        };
        let bucket_ms = self.shared.terms.scale.bucket_ms();
        let policy =
            PolicyBytes::lend(bucket_ms, &self.purses.keys.horizon, self.rules.mode(), &self.rules.scaled, lending);
        let asks = self.ask.as_slice();
        let body = Body::Part { bytes: self.part.bytes(asks), asks: asks.len() };
        Question { policy, key: self.name.clone(), body }
    }

    /// Tells Redis all that this instance has admitted, after it has lost it.
    async fn bring_back(&mut self) -> Result<Reply, Failure> {
        let (shared, here) = (&self.shared, &self.purses.here);
        let now = shared.time.now_ms();
        let restore = |purse: &mut super::Purse| purse.restore(now, &self.part, here, &shared.terms);
        let Some(part) = self.purses.with(self.print, restore) else { return Err(Failure::unreadable()) };
        // Else it came to its end.
        if part.reports.iter().any(|report| !report.spent.is_empty()) {
            shared.redis.lanes.forgot();
        }
        (self.part, self.trip.sent) = (part, now);
        let within = Duration::from_millis(self.shared.terms.deadline_ms).saturating_sub(self.began.elapsed());
        let question = self.question();
        runtime::timeout(within, self.shared.redis.lanes.decide(question))?.await.unwrap_or(Err(Failure::timeout()))
    }

    fn lent(&self, reply: &Reply) -> Result<Lent, Failure> {
        let asks = self.ask.as_slice().len();
        reply.read()?.behind(asks).and_then(Lent::read).ok_or_else(Failure::unreadable)
    }
}

/// The refusal that follows where nothing is free; `scale` is that of the server.
pub(super) fn full(lent: &Lent, now_ms: u64, scale: &Scale, rules: &OwnRules) -> Option<Decision> {
    if lent.fits_at == 0 || (rules.is_suppressed && lent.ratio >= 1.0) {
        return None;
    }
    let verdict = match rules.is_suppressed {
        true => Verdict::Suppressed { is_allowed: false },
        false => Verdict::Rejected,
    };
    let outcome = Outcome {
        verdict,
        binding: lent.binding,
        violated: 1 << lent.binding,
        factor: if rules.is_suppressed { 1.0 } else { 0.0 },
        used: lent.used + lent.units,
        newest: scale.at(now_ms),
        fits_at: lent.fits_at,
        // One unit at least is free then.
        used_then: rules.scaled.get(usize::from(lent.binding)).map_or(0, |limit| limit.capacity.saturating_sub(1)),
    };
    Some(rules.told(scale.decision(&outcome, 0, &rules.scaled, now_ms)))
}

impl Drop for Settling {
    fn drop(&mut self) {
        if !self.is_done {
            self.purses.with(self.print, super::Purse::lose);
        }
    }
}

type Boxed = Pin<Box<dyn Future<Output = Result<Option<Decision>, Failure>> + Send>>;

/// A round trip under way. Dropped, it goes on in the background: the answer is not only its caller's.
pub(super) struct Flight(Option<Boxed>);

impl Future for Flight {
    type Output = Result<Option<Decision>, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(trip) = &mut self.0 else { return Poll::Ready(Err(Failure::unreadable())) };
        let landed = trip.as_mut().poll(cx);
        if landed.is_ready() {
            self.0 = None;
        }
        landed
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(trip) = self.0.take() {
            let _ = runtime::spawn(async move {
                let _ = trip.await;
            });
        }
    }
}
