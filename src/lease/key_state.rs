//! One key on one instance, as a state machine: no I/O, no clock, no lock and no await; time is an argument.
//!
//! A driver reports events to it and executes its actions. A request is decided, or asks for a sync. A sync takes the
//! lease out of use ([`KeyState::start_sync`]) and ends with [`KeyState::handle_reply`] or [`KeyState::abandon`]. The
//! id of the sync distinguishes it from later ones, so a late reply has no effect.

mod round_trip;

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::events::{Action, Asked, Request, TimerAction};
use super::lease::Lease;
use super::limit_set::{LimitSet, OwnedLimitSet};
use super::outbox::Outbox;
use super::params::{StoreContext, StoreParams};
use super::refusal::Refusals;
use crate::decision::{Charge, Decision, Verdict};
use crate::engine::{self, Dither, Outcome, Retention, Window, factor_in_band, retry_tick};
use crate::geometry::{EMPTY_SHARES, WindowGeometry};
use crate::script::LeaseId;

/// The time beyond the deadline after which another sync may replace this one.
const GRACE_MS: u64 = 25;
/// How long to keep a refusal that no wait ends.
const NEVER_FITS_MS: u64 = 1_000;

/// The state of one key on this instance.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct KeyState {
    /// The key's name in Redis.
    pub(crate) name: Box<[u8]>,
    lease: Option<Box<Lease>>,
    outbox: Option<Box<Outbox>>,
    refusals: Refusals,
    changes: u32,
    /// The sync in flight, and its start.
    sync: Option<(LeaseId, u64)>,
    /// Closes when the sync ends, for the tasks that wait for it.
    sync_done: Option<Arc<Semaphore>>,
    /// The limits of the last reply; 0 if no valid reply exists.
    limits_id: u64,
    /// The limits of the lease.
    lent_limits: Option<OwnedLimitSet>,
    /// The last reply's figures of the binding limit: units used, without leases, and units free.
    binding: u8,
    used: u64,
    free: u64,
    /// Until when the units used at that time may count.
    used_until: u64,
    /// The delay after which a refusal may be obsolete, by the last reply; 0 if it stays valid.
    ask_again_ms: u32,
    /// The suppressed strategy's ratio, and until when it is valid.
    ratio: f64,
    ratio_until: u64,
    dither: Dither,
    /// The units shed since the last report.
    shed_units: u64,
    /// The units offered since `since`, and the recent rate in units per millisecond.
    offered: u64,
    since: u64,
    rate: f64,
    is_new: bool,
    /// The epoch of the value in Redis, and until when the value exists at least.
    epoch: u32,
    lives_until: u64,
    /// The units that this instance has admitted.
    local_history: Window,
}

impl KeyState {
    pub(crate) fn new(name: Box<[u8]>, now: u64, scale: &WindowGeometry) -> Self {
        Self {
            name,
            lease: None,
            outbox: None,
            refusals: Refusals::default(),
            changes: 0,
            sync: None,
            sync_done: None,
            limits_id: 0,
            lent_limits: None,
            binding: 0,
            used: 0,
            free: 0,
            used_until: 0,
            ask_again_ms: 0,
            ratio: 1.0,
            ratio_until: 0,
            dither: Dither::default(),
            shed_units: 0,
            offered: 0,
            since: now,
            rate: 0.0,
            is_new: true,
            epoch: 0,
            lives_until: 0,
            local_history: Window::new(scale.at(now)),
        }
    }

    /// Decides a request, if this needs no call.
    #[inline]
    pub(crate) fn handle_request(&mut self, now: u64, request: &Request<'_>, params: &StoreParams) -> Action {
        let (cost, limits) = (request.cost, &request.limits);
        if cost == 0 {
            return Action::AskAlone;
        }
        if limits.is_suppressed {
            return self.spend_or_shed(now, request, params);
        }
        if self.limits_id == limits.limits_id
            && let Some(lease) = &mut self.lease
            && lease.spend(now, cost)
        {
            if !request.is_retry {
                self.offered = self.offered.saturating_add(cost);
            }
            let low = (lease.runs_low() && self.free >= lease.units()).then_some(lease.id);
            let decision = self.admitted(now, cost, Verdict::Allowed, 0.0, limits, params);
            return low.map_or(Action::Decided(decision), |id| Action::DecidedLow(decision, id));
        }
        self.refuse_or_sync(now, request, params)
    }

    /// Returns the valid refusal of a request that no lease may serve.
    pub(crate) fn known_refusal(&self, now: u64, request: &Request<'_>, params: &StoreParams) -> Option<Decision> {
        self.refusals.get(now, request.cost, request.limits.limits_id, params)
    }

    fn spend_or_shed(&mut self, now: u64, request: &Request<'_>, params: &StoreParams) -> Action {
        let (cost, limits) = (request.cost, &request.limits);
        let left = self.lease.as_ref().map_or(0, |lease| lease.left(now));
        if self.limits_id != limits.limits_id || now >= self.ratio_until || left < cost {
            return self.refuse_or_sync(now, request, params);
        }
        if !request.is_retry {
            self.offered = self.offered.saturating_add(cost);
        }
        let is_in_band = self.ratio < 1.0;
        if is_in_band && !self.dither.draw(self.ratio, fastrand::u32(..)) {
            self.add_shed_units(cost);
            return Action::Decided(self.shed(now, cost, limits, params));
        }
        if let Some(lease) = &mut self.lease {
            lease.spend(now, cost);
        }
        let (verdict, factor) = match is_in_band {
            true => (Verdict::Suppressed { is_allowed: true }, factor_in_band(self.ratio)),
            false => (Verdict::Allowed, 0.0),
        };
        Action::Decided(self.admitted(now, cost, verdict, factor, limits, params))
    }

    /// Returns the valid refusal, or asks for a sync.
    fn refuse_or_sync(&mut self, now: u64, request: &Request<'_>, params: &StoreParams) -> Action {
        let (cost, limits) = (request.cost, &request.limits);
        if !request.is_retry && self.is_demand(now, request) {
            self.offered = self.offered.saturating_add(cost);
        }
        if let Some(decision) = self.refusals.get(now, cost, limits.limits_id, params) {
            if limits.is_suppressed {
                self.add_shed_units(cost);
            }
            return Action::Decided(decision);
        }
        match self.sync {
            Some((_, since)) => match (since + params.deadline_ms + GRACE_MS).saturating_sub(now) {
                // The runtime of the sync stalls, or is gone.
                0 => Action::Sync,
                rest => Action::Wait(rest),
            },
            None => Action::Sync,
        }
    }

    /// Whether a request could be admitted. A cost above the free units is not demand that a lease could serve.
    fn is_demand(&self, now: u64, Request { cost, limits, .. }: &Request<'_>) -> bool {
        let left = self.lease.as_ref().map_or(0, |lease| lease.left(now));
        let fits_free = limits.is_suppressed
            || self.limits_id != limits.limits_id
            || *cost <= self.free.saturating_add(left).max(1);
        fits_free && limits.limits.iter().all(|limit| *cost <= limit.hard)
    }

    /// Returns an admission from the lease. Its figures of other instances are from the last reply.
    #[inline]
    fn admitted(
        &self,
        now: u64,
        cost: u64,
        verdict: Verdict,
        factor: f32,
        limits: &LimitSet<'_>,
        params: &StoreParams,
    ) -> Decision {
        let (used, free) = match &self.lease {
            Some(lease) => (self.used.saturating_add(lease.used()), lease.left(now).saturating_add(self.free)),
            None => (self.used, self.free),
        };
        let limit = limits.limits.get(usize::from(self.binding));
        let window_ms = limit.map_or(0, |limit| params.geometry.window_ms(limit) + params.geometry.bucket_ms());
        Decision {
            verdict,
            limit_index: usize::from(self.binding),
            factor: f64::from(factor),
            retry_after_ms: if free >= cost { 0 } else { self.wait(now, window_ms, params) },
            reset_after_ms: window_ms,
            charge: Charge::Lease {
                number: self.lease.as_ref().map_or(0, |lease| lease.id.counter),
                at_ms: now,
                units: cost,
            },
            ..Decision::allowed(limit.map_or(u64::MAX, |limit| limit.capacity), used)
        }
    }

    /// The time until more units are free: by a refusal, otherwise the whole window.
    #[cold]
    fn wait(&self, now: u64, window_ms: u64, params: &StoreParams) -> u64 {
        self.refusals.wait(now, params).unwrap_or(window_ms)
    }

    /// Returns the decision for a request that is shed here.
    fn shed(&self, now: u64, cost: u64, limits: &LimitSet<'_>, params: &StoreParams) -> Decision {
        let index = usize::from(self.binding).min(limits.limits.len().saturating_sub(1));
        let tick = params.geometry.at(now);
        let fits_at = limits.limits.get(index).map_or(0, |limit| retry_tick(tick, cost, limit, 0, fastrand::u32(..)));
        let outcome = Outcome {
            verdict: Verdict::Suppressed { is_allowed: false },
            binding: self.binding,
            violated: 1 << index,
            factor: factor_in_band(self.ratio),
            used: self.used.saturating_add(self.lease.as_ref().map_or(0, |lease| lease.used())),
            newest: tick,
            fits_at,
            used_then: self.used,
        };
        params.geometry.decision(&outcome, 0, limits.limits, now)
    }

    /// Returns the decision on a peek at one unit, if this needs no call.
    pub(crate) fn peek(&self, now: u64, limits: &LimitSet<'_>, params: &StoreParams) -> Option<Decision> {
        if self.limits_id == limits.limits_id && self.lease.as_ref().is_some_and(|lease| lease.left(now) > 0) {
            return Some(Decision {
                charge: Charge::None,
                ..self.admitted(now, 1, Verdict::Allowed, 0.0, limits, params)
            });
        }
        self.refusals.get(now, 1, limits.limits_id, params)
    }

    /// The ratio of the suppressed strategy, while it is valid.
    pub(crate) fn ratio(&self, now: u64, limits: &LimitSet<'_>) -> Option<f64> {
        (self.limits_id == limits.limits_id && now < self.ratio_until).then_some(self.ratio)
    }

    /// The units that count in the window, as far as this instance knows.
    pub(crate) fn estimate(&self, now: u64, params: &StoreParams) -> u64 {
        let used = if now < self.used_until { self.used } else { 0 };
        let from = now.saturating_sub(u64::from(params.geometry.span()) * params.geometry.bucket_ms());
        // The last reply does not include the units that the sync reports.
        let reported = self.outbox.as_ref().map_or(0, |outbox| outbox.spent_since(from));
        used.saturating_add(reported).saturating_add(self.lease.as_ref().map_or(0, |lease| lease.spent_since(from)))
    }

    /// Ends the use of the lease, and queues a report of its spent units.
    fn close_lease(&mut self, now: u64, store: StoreContext<'_>) {
        let StoreContext { params, retention, .. } = store;
        let Some(lease) = self.lease.take() else { return };
        for (before, units) in lease.spent() {
            self.local_history.record_external(params.geometry.at(before.min(now)), units, retention);
        }
        self.outbox().push_lease(&lease, now);
    }

    fn outbox(&mut self) -> &mut Outbox {
        self.outbox.get_or_insert_default()
    }

    /// The limits for a sync that asks for another lease.
    pub(crate) fn lent_limits(&self) -> Option<OwnedLimitSet> {
        self.lent_limits.clone()
    }

    /// Keeps a refusal that a wait can end.
    fn refuse(&mut self, now: u64, asked: &Asked, cost: u64, decision: Decision, limits_id: u64, params: &StoreParams) {
        let wait = decision.retry_after_ms;
        // A change through the API may have made an older refusal obsolete.
        if wait == 0 || asked.changes != self.changes {
            return;
        }
        let holds = match self.ask_again_ms {
            _ if wait == u64::MAX => NEVER_FITS_MS,
            _ if asked.is_alone => wait.min(params.interval_ms),
            0 => wait,
            again => wait.min(u64::from(again)),
        };
        let instants = (asked.sent.saturating_add(holds), now.saturating_add(wait));
        self.refusals.insert(cost, limits_id, instants, decision);
    }

    /// Records a decision of Redis for later requests, and for outages.
    pub(crate) fn record_outcome(
        &mut self,
        now: u64,
        asked: &Asked,
        cost: u64,
        decision: Decision,
        limits: &LimitSet<'_>,
        store: StoreContext<'_>,
    ) {
        let StoreContext { params, retention, .. } = store;
        if decision.charge.units() > 0 {
            // A refusal describes the key before that.
            self.refusals.clear();
            self.local_history.record_external(params.geometry.at(now), decision.charge.units(), retention);
        } else if !decision.is_allowed() && (!limits.is_suppressed || decision.factor >= 1.0) {
            self.refuse(now, asked, cost, decision, limits.limits_id, params);
        }
    }

    /// Whether the key has a lease.
    #[inline]
    pub(crate) fn has_lease(&self) -> bool {
        self.lease.is_some()
    }

    /// The number of changes of the key through the API.
    pub(crate) fn changes(&self) -> u32 {
        self.changes
    }

    /// Forgets refusals, after units were returned.
    pub(crate) fn clear_refusals(&mut self) {
        self.refusals.clear();
        self.changes = self.changes.wrapping_add(1);
    }

    /// Forgets the values that a change of the key through the API makes obsolete.
    pub(crate) fn invalidate(&mut self) {
        self.clear_refusals();
        (self.limits_id, self.shed_units, self.used) = (0, 0, 0);
    }

    /// Records the key's total from a change through the API.
    pub(crate) fn record_total(&mut self, now: u64, total: u64, params: &StoreParams) {
        self.used = total;
        self.used_until = now + u64::from(params.geometry.span() + 1) * params.geometry.bucket_ms();
    }

    /// Forgets all admissions.
    pub(crate) fn forget(&mut self, now: u64, params: &StoreParams) {
        self.local_history = Window::new(params.geometry.at(now));
        self.invalidate();
    }

    /// Adds units that the suppressed strategy shed.
    pub(crate) fn add_shed_units(&mut self, units: u64) {
        self.shed_units = self.shed_units.saturating_add(units);
    }

    /// Frees memory from a busier time.
    pub(crate) fn trim(&mut self, now: u64, params: &StoreParams) {
        self.local_history.trim(params.geometry.at(now));
    }

    /// Expects no value in Redis from now on.
    pub(crate) fn clear_epoch(&mut self) {
        (self.epoch, self.lives_until) = (0, 0);
    }

    /// Decides by this instance's share of the limits, as one of `instances`. A later report contains the units.
    pub(crate) fn decide_by_share(
        &mut self,
        now: u64,
        request: &Request<'_>,
        instances: u64,
        store: StoreContext<'_>,
    ) -> Decision {
        let StoreContext { params, retention, .. } = store;
        let Request { cost, limits, .. } = request;
        // Spent units of a lease count. A lease that can still be spent stays, and all of its units count as spent.
        if self.lease.as_ref().is_some_and(|lease| lease.left(now) == 0) {
            self.close_lease(now, store);
        }
        let held = self.lease.as_ref().map_or(0, |lease| lease.units());
        let mut parts = EMPTY_SHARES;
        let parts = params.geometry.local_shares(limits.limits, instances, &mut parts);
        for part in parts.iter_mut() {
            (part.capacity, part.hard) = (part.capacity.saturating_sub(held), part.hard.saturating_sub(held));
        }
        let tick = params.geometry.at(now);
        let outcome = match limits.is_suppressed {
            true => engine::suppressed(&mut self.local_history, tick, *cost, parts, retention, fastrand::u32(..)),
            false => engine::absolute(&mut self.local_history, tick, *cost, parts, retention, true),
        };
        let decision = params.geometry.local_share_decision(&outcome, *cost, limits.limits, parts, now);
        if decision.charge.units() > 0 {
            self.outbox().admit(now, decision.charge.units(), kept_ms(retention, params));
        }
        decision
    }

    /// Takes back up to `cost` units of a charge to this key's lease or share, if they are still known.
    pub(crate) fn refund(&mut self, cost: u64, charge: Charge, horizon: &Retention) {
        match charge {
            Charge::Lease { number, at_ms, units } => {
                // The units of an earlier lease are reported as spent.
                if let Some(lease) = self.lease.as_mut().filter(|lease| lease.id.counter == number) {
                    lease.refund(at_ms, cost.min(units));
                }
            }
            Charge::LocalShare { tick, units } => {
                self.local_history.refund(tick, tick, cost.min(units), horizon);
                if let Some(outbox) = &mut self.outbox {
                    outbox.refund(cost.min(units));
                }
            }
            Charge::None | Charge::Window { .. } => {}
        }
    }

    /// Decides what to do with a lease at its due time.
    pub(crate) fn handle_timeout(&mut self, now: u64, id: LeaseId, params: &StoreParams) -> TimerAction {
        let Some(lease) = self.lease.as_deref().filter(|lease| lease.id == id) else { return TimerAction::Nothing };
        if self.sync.is_some() {
            TimerAction::Nothing
        } else if now < lease.deadline() && lease.used() == 0 {
            TimerAction::Later(lease.deadline() + params.lag_ms)
        } else {
            TimerAction::Sync { wants: now < lease.deadline() && lease.unspent() > 0 }
        }
    }

    /// Whether to set a timer for reports that no request carries to Redis. It returns true once per timer.
    pub(crate) fn needs_retry(&mut self) -> bool {
        let Some(outbox) = &mut self.outbox else { return false };
        !outbox.is_empty() && !std::mem::replace(&mut outbox.is_scheduled, true)
    }

    /// Decides what to do with reports at their due time.
    pub(crate) fn handle_retry(&mut self) -> TimerAction {
        if let Some(outbox) = &mut self.outbox {
            outbox.is_scheduled = false;
        }
        self.outbox.take_if(|outbox| outbox.is_empty());
        match self.outbox {
            Some(_) if self.sync.is_none() => TimerAction::Sync { wants: false },
            _ => TimerAction::Nothing,
        }
    }

    /// During an outage, moves the lease into the reports, and forgets reports that have left the window.
    pub(crate) fn expire(&mut self, now: u64, store: StoreContext<'_>) {
        let StoreContext { params, retention, .. } = store;
        if self.lease.as_ref().is_some_and(|lease| lease.left(now) == 0) {
            self.close_lease(now, store);
        }
        if let Some(outbox) = &mut self.outbox {
            outbox.expire(now, kept_ms(retention, params));
        }
    }

    /// The units of the lease that can still be spent.
    #[cfg(test)]
    pub(crate) fn left(&self, now: u64) -> u64 {
        self.lease.as_ref().map_or(0, |lease| lease.left(now))
    }

    /// Forgets unacknowledged reports, so that a test can observe the effect.
    #[cfg(test)]
    pub(crate) fn forget_reports(&mut self) {
        self.outbox = None;
    }

    /// Whether any units can be returned or reported now.
    pub(crate) fn can_return(&self) -> bool {
        let reports = self.outbox.as_ref().is_some_and(|outbox| !outbox.is_empty());
        (self.lease.is_some() || reports) && self.sync.is_none()
    }

    /// Whether the state may be forgotten.
    pub(crate) fn is_idle(&self, now: u64, retention: &Retention, params: &StoreParams) -> bool {
        // The history also contains the units that an outbox reports, unless no unit of the lease was spent.
        let holds = |lease: &Lease| now <= lease.deadline().saturating_add(kept_ms(retention, params));
        !self.lease.as_deref().is_some_and(holds)
            && !self.refusals.holds_any(now)
            && self.sync.is_none()
            && self.local_history.is_idle(params.geometry.at(now), retention)
    }
}

/// How long this instance retains its admissions.
fn kept_ms(retention: &Retention, params: &StoreParams) -> u64 {
    u64::from(retention.keep()).saturating_mul(params.geometry.bucket_ms())
}
