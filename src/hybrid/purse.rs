//! One key on one instance: what it may spend without asking, and what it has to account for.
//!
//! Pure: time arrives as a number, nothing here waits, locks or sends. A key is settled in two halves.
//! [`Purse::begin`] takes the lease out of use and says what became of it; [`Purse::finish`] puts in its place
//! what the answer brought, or [`Purse::lose`] nothing, where no answer came: then both leases are forgotten, and
//! what Redis holds of them runs out there by itself.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::lease::{Lease, surely};
use super::refusal::Refusal;
use crate::decision::{Decision, Verdict};
use crate::engine::{self, Dither, Horizon, Limit, Outcome, Window, band_factor, come_back_at};
use crate::redis::script::{LeaseId, Lent, Part, Report};
use crate::scale::{NO_PARTS, Scale};

/// What holds for all keys of one store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Of this instance's clock, with its lag.
    pub(super) scale: Scale,
    pub(super) lag_ms: u64,
    /// How often a key that is in use is settled at least.
    pub(super) interval_ms: u64,
    /// How long a question may be under way.
    pub(super) deadline_ms: u64,
    pub(super) nonce: u64,
}

/// One key's limits, as they are asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) limits: &'a [Limit],
    pub(super) is_suppressed: bool,
    /// Tells rules apart.
    pub(super) digest: u64,
}

/// What an instance knows of one key.
#[derive(Debug)]
pub(super) struct Purse {
    /// The key's name in Redis.
    pub(super) name: Box<[u8]>,
    lease: Option<Box<Lease>>,
    refusal: Option<Box<Refusal>>,
    changes: u32,
    is_settling: bool,
    /// Closes when the key is settled; for those who wait for that.
    gate: Option<Arc<Semaphore>>,
    /// The rules under which the last answer came; 0 where there is none that counts.
    rules: u64,
    /// What the last answer said of the limit that binds: units used, lent ones aside, and free.
    binding: u8,
    used: u64,
    free: u64,
    /// Whether others hold leases, as of the last answer: what they do not spend may be free before a refusal ends.
    is_shared: bool,
    /// The suppressed strategy's ratio, and until when it stands.
    ratio: f64,
    ratio_until: u64,
    dither: Dither,
    /// Units that were turned away since the last report.
    declined: u64,
    /// Units that were asked for since that instant, and those a millisecond of late.
    offered: u64,
    since: u64,
    rate: f64,
    is_new: bool,
    /// The value in Redis, and until when it surely lives.
    epoch: u32,
    lives_until: u64,
    /// What this instance has admitted.
    own: Window,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// It is decided.
    Decided(Decision),
    /// It is decided, from a lease that is running low: the one with this number.
    Low(Decision, u32),
    /// The key is to be settled, with this request.
    Settle,
    /// Redis is to be asked for this request alone, at best after the key is settled, where it is being settled.
    Ask,
}

/// A question to Redis: before when it was sent, and when its answer was there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trip {
    pub(super) sent: u64,
    pub(super) now: u64,
    /// The key's changes by hand before that.
    pub(super) changes: u32,
}

/// A lease was given, and is to be looked at again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Given {
    pub(super) counter: u32,
    /// When it is to be renewed, if it is in use.
    pub(super) renew_at: u64,
}

/// What is to become of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// To be looked at again at that instant.
    Later(u64),
    /// It is in use: to be settled, for another one.
    Renew,
    /// To be settled, for nobody spends it.
    Return,
}

impl Purse {
    pub(super) fn new(name: Box<[u8]>, now: u64, scale: &Scale) -> Self {
        Self {
            name,
            lease: None,
            refusal: None,
            changes: 0,
            is_settling: false,
            gate: None,
            rules: 0,
            binding: 0,
            used: 0,
            free: 0,
            is_shared: false,
            ratio: 1.0,
            ratio_until: 0,
            dither: Dither::default(),
            declined: 0,
            offered: 0,
            since: now,
            rate: 0.0,
            is_new: true,
            epoch: 0,
            lives_until: 0,
            own: Window::new(scale.at(now)),
        }
    }

    /// Decides on a request, if that needs nobody else.
    #[inline]
    pub(super) fn spend(&mut self, now: u64, cost: u64, rules: &Rules<'_>, terms: &Terms) -> Step {
        // What never fits is no demand.
        if rules.limits.iter().all(|limit| cost <= limit.hard) {
            self.offered = self.offered.saturating_add(cost);
        }
        self.spend_again(now, cost, rules, terms)
    }

    /// The same for a request that has been here before.
    #[inline]
    pub(super) fn spend_again(&mut self, now: u64, cost: u64, rules: &Rules<'_>, terms: &Terms) -> Step {
        if cost == 0 {
            return Step::Ask;
        }
        if rules.is_suppressed {
            return self.spend_or_shed(now, cost, rules, terms);
        }
        if self.rules == rules.digest
            && let Some(lease) = &mut self.lease
            && lease.spend(now, cost)
        {
            let low = (lease.runs_low() && self.free >= lease.units()).then_some(lease.counter);
            let decision = self.admitted(now, cost, Verdict::Allowed, 0.0, rules, terms);
            return low.map_or(Step::Decided(decision), |counter| Step::Low(decision, counter));
        }
        self.refused(now, cost, rules, terms)
    }

    fn spend_or_shed(&mut self, now: u64, cost: u64, rules: &Rules<'_>, terms: &Terms) -> Step {
        let left = self.lease.as_ref().map_or(0, |lease| lease.left(now));
        if self.rules != rules.digest || now >= self.ratio_until || left < cost {
            return self.refused(now, cost, rules, terms);
        }
        let is_in_band = self.ratio < 1.0;
        if is_in_band && !self.dither.draw(self.ratio, fastrand::u32(..)) {
            self.declined = self.declined.saturating_add(cost);
            let decision = self.shed(now, cost, rules, terms);
            return Step::Decided(decision);
        }
        if let Some(lease) = &mut self.lease {
            lease.spend(now, cost);
        }
        let (verdict, factor) = match is_in_band {
            true => (Verdict::Suppressed { is_allowed: true }, band_factor(self.ratio)),
            false => (Verdict::Allowed, 0.0),
        };
        Step::Decided(self.admitted(now, cost, verdict, factor, rules, terms))
    }

    /// The refusal that holds, or where the request has to go.
    fn refused(&mut self, now: u64, cost: u64, rules: &Rules<'_>, terms: &Terms) -> Step {
        if let Some(refusal) = &self.refusal
            && refusal.rules == rules.digest
        {
            if !refusal.holds(now, terms) {
                self.refusal = None;
            } else if refusal.cost == cost {
                if rules.is_suppressed {
                    self.declined = self.declined.saturating_add(cost);
                }
                return Step::Decided(refusal.at(now, terms));
            }
        }
        if self.is_settling { Step::Ask } else { Step::Settle }
    }

    /// An admission from the lease; what is said of the others is as of the last answer.
    #[inline]
    fn admitted(
        &self,
        now: u64,
        cost: u64,
        verdict: Verdict,
        factor: f32,
        rules: &Rules<'_>,
        terms: &Terms,
    ) -> Decision {
        let (used, free) = match &self.lease {
            Some(lease) => (self.used.saturating_add(lease.used()), lease.left(now).saturating_add(self.free)),
            None => (self.used, self.free),
        };
        let limit = rules.limits.get(usize::from(self.binding));
        let window_ms = limit.map_or(0, |limit| terms.scale.window_ms(limit) + terms.scale.bucket_ms());
        Decision {
            verdict,
            limit_index: usize::from(self.binding),
            factor: f64::from(factor),
            retry_after_ms: if free >= cost { 0 } else { self.wait(now, window_ms, terms) },
            reset_after_ms: window_ms,
            stamp: now,
            charged: cost,
            is_from_lease: true,
            ..Decision::allowed(limit.map_or(u64::MAX, |limit| limit.capacity), used)
        }
    }

    /// How long until more is free: as the last answer said, or at most.
    #[cold]
    fn wait(&self, now: u64, window_ms: u64, terms: &Terms) -> u64 {
        self.refusal.as_ref().map_or(window_ms, |refusal| refusal.at(now, terms).retry_after_ms)
    }

    /// What is said to a request that is shed here.
    fn shed(&self, now: u64, cost: u64, rules: &Rules<'_>, terms: &Terms) -> Decision {
        let index = usize::from(self.binding).min(rules.limits.len().saturating_sub(1));
        let tick = terms.scale.at(now);
        let fits_at = rules.limits.get(index).map_or(0, |limit| come_back_at(tick, cost, limit, 0, fastrand::u32(..)));
        let outcome = Outcome {
            verdict: Verdict::Suppressed { is_allowed: false },
            binding: self.binding,
            violated: 1 << index,
            factor: band_factor(self.ratio),
            used: self.used + self.lease.as_ref().map_or(0, |lease| lease.used()),
            newest: tick,
            fits_at,
            used_then: self.used,
        };
        terms.scale.decision(&outcome, 0, rules.limits, now)
    }

    /// Whether a look at one unit is decided without asking.
    pub(super) fn look(&self, now: u64, rules: &Rules<'_>, terms: &Terms) -> Option<Decision> {
        if self.rules == rules.digest && self.lease.as_ref().is_some_and(|lease| lease.left(now) > 0) {
            return Some(Decision { charged: 0, ..self.admitted(now, 1, Verdict::Allowed, 0.0, rules, terms) });
        }
        let refusal = self.refusal.as_ref()?;
        let holds = refusal.rules == rules.digest && refusal.cost == 1 && refusal.holds(now, terms);
        holds.then(|| refusal.at(now, terms))
    }

    /// The ratio of the suppressed strategy, while it stands.
    pub(super) fn ratio(&self, now: u64, rules: &Rules<'_>) -> Option<f64> {
        (self.rules == rules.digest && now < self.ratio_until).then_some(self.ratio)
    }

    /// The units that are used, as far as is known here.
    pub(super) fn estimate(&self) -> u64 {
        self.used.saturating_add(self.lease.as_ref().map_or(0, |lease| lease.used()))
    }

    /// Takes the lease out of use, and says what is to be sent.
    ///
    /// `wants` says whether a new lease is wanted, with which number.
    pub(super) fn begin(&mut self, now: u64, counter: u32, wants: bool, horizon: &Horizon, terms: &Terms) -> Part {
        self.is_settling = true;
        self.measure(now, terms.interval_ms);
        let is_first = std::mem::take(&mut self.is_new);
        let reports = self.lease.take().map(|lease| self.report(now, &lease, horizon, terms));
        let is_expected = self.epoch > 0 && now + terms.lag_ms + terms.deadline_ms < self.lives_until;
        Part {
            id: LeaseId { nonce: terms.nonce, counter },
            expected: if is_expected { self.epoch } else { 0 },
            proposed: fastrand::u32(1..),
            rate: self.rate,
            declined: std::mem::take(&mut self.declined),
            // Whether a key comes again nobody knows at first.
            wants: wants && !is_first,
            reports: reports.into_iter().collect(),
        }
    }

    /// What became of a lease.
    fn report(&mut self, now: u64, lease: &Lease, horizon: &Horizon, terms: &Terms) -> Report {
        self.keep(now, lease, horizon, terms);
        let spent = lease.spent().map(|(before, units)| (age(before, now, terms), units)).collect();
        Report { id: Some(LeaseId { nonce: terms.nonce, counter: lease.counter }), spent }
    }

    /// Takes what was spent of a lease into what this instance has admitted.
    fn keep(&mut self, now: u64, lease: &Lease, horizon: &Horizon, terms: &Terms) {
        for (before, units) in lease.spent() {
            self.own.absorb(terms.scale.at(before.min(now)), units, horizon);
        }
    }

    /// Says what is to be sent after Redis turned out to have lost the key: all that this instance has admitted.
    pub(super) fn restore(&self, now: u64, part: &Part, horizon: &Horizon, terms: &Terms) -> Part {
        let tick = terms.scale.at(now);
        let buckets = self.own.buckets(tick, horizon, Report::MOST);
        let entry = |(tick, units): (u64, u64)| (age((tick + 1) * terms.scale.bucket_ms(), now, terms), units);
        let report = Report { id: None, spent: buckets.into_iter().map(entry).collect() };
        Part { expected: 0, reports: vec![report], ..*part }
    }

    /// Takes up the answer.
    pub(super) fn finish(
        &mut self,
        Trip { sent, now, .. }: Trip,
        counter: u32,
        lent: &Lent,
        rules: &Rules<'_>,
        terms: &Terms,
    ) -> Option<Given> {
        self.open_gate();
        self.rules = rules.digest;
        (self.binding, self.used, self.free) = (lent.binding, lent.used, lent.free);
        self.is_shared = lent.instances > 1;
        // It was full while this instance held the rest.
        self.refusal = None;
        let horizon = u64::from(lent.horizon_ms);
        (self.ratio, self.ratio_until) = (lent.ratio, sent + horizon);
        if lent.lives_ms > 0 {
            self.lives_until = self.lives_until.max(sent + surely(u64::from(lent.lives_ms)));
        }
        self.epoch = lent.epoch;
        if lent.units == 0 {
            return None;
        }
        let life = surely(u64::from(lent.life_ms).saturating_sub(1)).saturating_sub(terms.lag_ms);
        let lease = Lease::new(counter, lent.units, now, sent + life, terms.scale.bucket_ms());
        self.lease = Some(Box::new(lease));
        Some(Given { counter, renew_at: sent + horizon })
    }

    /// No answer came: what was lent is forgotten, and runs out in Redis.
    pub(super) fn lose(&mut self) {
        self.open_gate();
        self.rules = 0;
    }

    /// What closes when the key is settled, where it is being settled.
    pub(super) fn gate(&mut self) -> Option<Arc<Semaphore>> {
        self.is_settling.then(|| Arc::clone(self.gate.get_or_insert_with(|| Arc::new(Semaphore::new(0)))))
    }

    fn open_gate(&mut self) {
        self.is_settling = false;
        if let Some(gate) = self.gate.take() {
            gate.close();
        }
    }

    /// Remembers a refusal that a wait can end.
    pub(super) fn refuse(
        &mut self,
        Trip { sent, now, changes }: Trip,
        cost: u64,
        decision: Decision,
        rules: &Rules<'_>,
        terms: &Terms,
    ) {
        let wait = decision.retry_after_ms;
        // One from before a change by hand may be untrue.
        if wait == 0 || wait == u64::MAX || changes != self.changes {
            return;
        }
        let holds = if self.is_shared { wait.min(terms.interval_ms) } else { wait };
        let (until, free_at) = (sent.saturating_add(holds), now.saturating_add(wait));
        self.refusal = Some(Box::new(Refusal { until, free_at, cost, rules: rules.digest, decision }));
    }

    /// Keeps what a decision of Redis means for the next ones, here and while Redis is gone.
    pub(super) fn remember(
        &mut self,
        trip: Trip,
        cost: u64,
        decision: Decision,
        rules: &Rules<'_>,
        horizon: &Horizon,
        terms: &Terms,
    ) {
        if decision.charged > 0 {
            // A refusal describes the key as it was before.
            self.refusal = None;
            self.own.absorb(terms.scale.at(trip.now), decision.charged, horizon);
        } else if !decision.is_allowed() && (!rules.is_suppressed || decision.factor >= 1.0) {
            self.refuse(trip, cost, decision, rules, terms);
        }
    }

    /// How often the key was changed by hand.
    pub(super) fn changes(&self) -> u32 {
        self.changes
    }

    /// Forgets a refusal, after units came back.
    pub(super) fn relent(&mut self) {
        self.refusal = None;
        self.changes = self.changes.wrapping_add(1);
    }

    /// Forgets what a change by hand makes untrue.
    pub(super) fn outdate(&mut self) {
        self.relent();
        self.rules = 0;
    }

    /// Forgets all that was admitted.
    pub(super) fn forget(&mut self, now: u64, terms: &Terms) {
        self.own = Window::new(terms.scale.at(now));
        self.outdate();
    }

    /// Keeps what was turned away for a report that can tell it.
    pub(super) fn decline(&mut self, units: u64) {
        self.declined = self.declined.saturating_add(units);
    }

    /// Gives back memory that a busier time has left behind.
    pub(super) fn trim(&mut self, now: u64, terms: &Terms) {
        self.own.trim(terms.scale.at(now));
    }

    /// Expects nothing in Redis any more.
    pub(super) fn disown(&mut self) {
        (self.epoch, self.lives_until) = (0, 0);
    }

    /// Decides by this instance's part of the limits, one of `instances`.
    pub(super) fn share(
        &mut self,
        now: u64,
        cost: u64,
        rules: &Rules<'_>,
        instances: u64,
        horizon: &Horizon,
        terms: &Terms,
    ) -> Decision {
        // What was spent of a lease counts; one that may still be spent stays, and what it holds counts as spent.
        if let Some(lease) = self.lease.take_if(|lease| lease.left(now) == 0) {
            self.keep(now, &lease, horizon, terms);
        }
        let held = self.lease.as_ref().map_or(0, |lease| lease.units());
        let mut parts = NO_PARTS;
        let parts = terms.scale.parts(rules.limits, instances, &mut parts);
        for part in parts.iter_mut() {
            (part.capacity, part.hard) = (part.capacity.saturating_sub(held), part.hard.saturating_sub(held));
        }
        let tick = terms.scale.at(now);
        let outcome = match rules.is_suppressed {
            true => engine::suppressed(&mut self.own, tick, cost, parts, horizon, fastrand::u32(..)),
            false => engine::absolute(&mut self.own, tick, cost, parts, horizon, true),
        };
        terms.scale.part_decision(&outcome, cost, rules.limits, parts, now)
    }

    /// Takes back what a decision here has charged, as far as that is still known.
    pub(super) fn refund(&mut self, cost: u64, decision: &Decision, horizon: &Horizon) {
        if decision.is_from_lease {
            self.lease.as_mut().map(|lease| lease.refund(decision.stamp, cost));
        } else if decision.is_local_share {
            self.own.refund(decision.stamp, decision.stamp, cost, horizon);
        }
    }

    /// What is to become of a lease that is due.
    pub(super) fn due(&self, now: u64, counter: u32, terms: &Terms) -> Due {
        let Some(lease) = self.lease.as_deref().filter(|lease| lease.counter == counter) else { return Due::Nothing };
        let (unspent, ends) = (lease.unspent(), lease.deadline());
        // As of the last answer what is left was hardly missed elsewhere: perhaps the key is asked for once more.
        let lies_until = ends + if unspent.saturating_mul(8) <= self.free { lease.life() / 4 } else { 0 };
        if self.is_settling || unspent == 0 {
            Due::Nothing
        } else if now < ends {
            if lease.used() > 0 { Due::Renew } else { Due::Later(ends + terms.lag_ms) }
        } else if now < lies_until {
            Due::Later(lies_until)
        } else {
            Due::Return
        }
    }

    /// Whether a lease can be given back now.
    pub(super) fn can_return(&self) -> bool {
        self.lease.is_some() && !self.is_settling
    }

    pub(super) fn is_settling(&self) -> bool {
        self.is_settling
    }

    /// Whether it may be forgotten.
    pub(super) fn is_idle(&self, now: u64, horizon: &Horizon, terms: &Terms) -> bool {
        let refuses = self.refusal.as_ref().is_some_and(|refusal| now < refusal.until);
        let kept_ms = u64::from(horizon.keep()).saturating_mul(terms.scale.bucket_ms());
        let holds = self.lease.as_ref().is_some_and(|lease| now <= lease.deadline().saturating_add(kept_ms));
        !holds && !refuses && !self.is_settling && self.own.is_idle(terms.scale.at(now), horizon)
    }

    /// Takes what was asked for into the rate; within three intervals an older rate fades.
    fn measure(&mut self, now: u64, interval_ms: u64) {
        let (passed, fades) = ((now.saturating_sub(self.since)) as f64, (3 * interval_ms) as f64);
        let offered = std::mem::take(&mut self.offered) as f64;
        self.rate =
            if passed < fades { self.rate * (1.0 - passed / fades) + offered / fades } else { offered / passed };
        self.since = now;
    }
}

/// How long ago something surely was that was before an instant, by the server's clock.
fn age(before: u64, now: u64, terms: &Terms) -> u32 {
    u32::try_from(surely(now.saturating_sub(before).saturating_sub(terms.lag_ms))).unwrap_or(u32::MAX)
}
