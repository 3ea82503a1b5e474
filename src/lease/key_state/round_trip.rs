//! A sync of one key: its request, and the effect of a reply or of its absence.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::super::events::{Answer, Asked, Reaction, RoundTrip, Wake};
use super::super::lease::{Lease, min_elapsed};
use super::super::limit_set::{LimitSet, OwnedLimitSet};
use super::super::params::{StoreContext, StoreParams};
use super::{KeyState, kept_ms};
use crate::decision::{Decision, Verdict};
use crate::engine::Outcome;
use crate::script::{LeaseId, Report, SyncReply, SyncRequest};

/// One part in so many of a time to live, for the speed of the clocks.
///
/// If they differ by more, an instance may take an expired value for a lost one, and resubmit units unnecessarily.
const TTL_MARGIN: u64 = 64;

impl KeyState {
    /// Takes the lease out of use, and returns the request to send. It abandons a sync in flight.
    pub(crate) fn start_sync(&mut self, now: u64, wants: bool, store: StoreContext<'_>) -> (RoundTrip, SyncRequest) {
        let StoreContext { names, params, retention } = store;
        if let Some((id, _)) = self.sync.take() {
            self.give_up(now, id);
        }
        let id = names.next();
        self.sync = Some((id, now));
        self.update_rate(now, params.interval_ms);
        let is_first = std::mem::take(&mut self.is_new);
        self.close_lease(now, store);
        let mut expected =
            if self.epoch > 0 && now + params.lag_ms + params.deadline_ms < self.lives_until { self.epoch } else { 0 };
        let mut reports = Vec::new();
        if let Some(outbox) = &mut self.outbox {
            outbox.expire(now, kept_ms(retention, params));
            outbox.close(now, || names.next());
            outbox.disown(id.nonce, || names.next());
            reports = outbox.reports(now, params);
            if outbox.is_resubmission {
                expected = 0;
            }
        }
        let request = SyncRequest {
            id,
            expected,
            proposed: fastrand::u32(1..),
            rate: self.rate,
            shed_units: std::mem::take(&mut self.shed_units),
            // A key's first request never leases, because the key may have no second one.
            wants: wants && !is_first,
            reports,
        };
        (RoundTrip { id, asked: Asked { sent: now, changes: self.changes, is_alone: false } }, request)
    }

    /// Applies a reply.
    pub(crate) fn handle_reply(
        &mut self,
        now: u64,
        trip: &RoundTrip,
        request: &SyncRequest,
        answer: &Answer,
        limits: &OwnedLimitSet,
        store: StoreContext<'_>,
    ) -> Reaction {
        let StoreContext { params, .. } = store;
        let reply = &answer.reply;
        let is_current = self.sync.is_some_and(|(id, _)| id == trip.id);
        if reply.is_lost {
            return match is_current {
                true => self.resubmit(now, request, store),
                false => Reaction::Stale,
            };
        }
        let decision = answer.outcome.as_ref().map(|(ask, outcome)| {
            let decision = params.server.decision(outcome, ask.cost, &limits.scaled, answer.now_ms);
            (ask.cost, limits.unscale(decision))
        });
        let mut wake = None;
        if is_current {
            wake = self.apply_reply(now, trip, reply, &limits.borrow(), params);
            self.lent_limits = wake.map(|_| limits.clone());
        } else if reply.units > 0 {
            self.outbox().push_unspent(trip.id, now);
        }
        if let Some((cost, decision)) = decision {
            self.record_outcome(now, &trip.asked, cost, decision, &limits.borrow(), store);
        }
        if is_current && let Some(full) = refusal_when_full(answer, limits, params) {
            self.refuse(now, &trip.asked, 1, full, limits.borrow().limits_id, params);
        }
        Reaction::Done { decision: decision.map(|(_, decision)| decision), wake }
    }

    /// Returns the request to send after Redis has lost the key: all admissions of this instance, under one id.
    fn resubmit(&mut self, now: u64, request: &SyncRequest, store: StoreContext<'_>) -> Reaction {
        let StoreContext { names, params, retention } = store;
        let tick = params.geometry.at(now);
        let end = |(tick, units): (u64, u64)| ((tick + 1) * params.geometry.bucket_ms(), units);
        let spent: Vec<(u64, u64)> =
            self.local_history.buckets(tick, retention, Report::MOST).into_iter().map(end).collect();
        (self.epoch, self.lives_until) = (0, 0);
        let has_lost_units = !spent.is_empty();
        let outbox = self.outbox();
        outbox.clear();
        outbox.push_extra(names.next(), spent, now);
        outbox.is_resubmission = has_lost_units;
        let reports = outbox.reports(now, params);
        Reaction::Resubmit { request: SyncRequest { expected: 0, reports, ..request.clone() }, has_lost_units }
    }

    fn apply_reply(
        &mut self,
        now: u64,
        trip: &RoundTrip,
        reply: &SyncReply,
        limits: &LimitSet<'_>,
        params: &StoreParams,
    ) -> Option<Wake> {
        self.end_sync();
        if let Some(outbox) = &mut self.outbox {
            outbox.acknowledge();
            self.outbox.take_if(|outbox| outbox.is_empty() && !outbox.is_scheduled);
        }
        self.limits_id = limits.limits_id;
        (self.binding, self.used, self.free) = (reply.binding, reply.used, reply.free);
        let window_ms =
            limits.limits.get(usize::from(reply.binding)).map_or(0, |limit| params.geometry.window_ms(limit));
        self.used_until = now + window_ms + params.geometry.bucket_ms();
        self.ask_again_ms = reply.ask_again_ms;
        // The key was full while this instance held the rest.
        self.refusals.clear();
        let horizon_ms = u64::from(reply.horizon_ms);
        (self.ratio, self.ratio_until) = (reply.ratio, trip.asked.sent + horizon_ms);
        if reply.epoch != self.epoch {
            (self.epoch, self.lives_until) = (reply.epoch, 0);
        }
        if reply.ttl_ms > 0 {
            let ttl_ms = u64::from(reply.ttl_ms);
            let lives_until = trip.asked.sent + ttl_ms - ttl_ms.div_ceil(TTL_MARGIN);
            self.lives_until = self.lives_until.max(lives_until);
        }
        if reply.units == 0 {
            return None;
        }
        let life = min_elapsed(u64::from(reply.life_ms).saturating_sub(1)).saturating_sub(params.lag_ms);
        let lease = Lease::new(trip.id, reply.units, now, trip.asked.sent + life, params.geometry.bucket_ms());
        self.lease = Some(Box::new(lease));
        Some(Wake { at: trip.asked.sent + horizon_ms, id: trip.id })
    }

    /// Handles a missing reply. The reports are sent again, and a lease that may have been given is returned.
    pub(crate) fn abandon(&mut self, now: u64, trip: &RoundTrip) {
        if self.sync.is_some_and(|(id, _)| id == trip.id) {
            self.end_sync();
            self.give_up(now, trip.id);
        }
    }

    fn give_up(&mut self, now: u64, id: LeaseId) {
        self.outbox().push_unspent(id, now);
        self.limits_id = 0;
    }

    /// Returns a semaphore that closes when the sync in flight ends.
    pub(crate) fn sync_done(&mut self) -> Option<Arc<Semaphore>> {
        self.sync.map(|_| Arc::clone(self.sync_done.get_or_insert_with(|| Arc::new(Semaphore::new(0)))))
    }

    fn end_sync(&mut self) {
        self.sync = None;
        if let Some(done) = self.sync_done.take() {
            done.close();
        }
    }

    /// Updates the rate from the offered units; an older rate decays within three intervals.
    fn update_rate(&mut self, now: u64, interval_ms: u64) {
        let (passed, fades) = ((now.saturating_sub(self.since)) as f64, (3 * interval_ms) as f64);
        let offered = std::mem::take(&mut self.offered) as f64;
        self.rate =
            if passed < fades { self.rate * (1.0 - passed / fades) + offered / fades } else { offered / passed };
        self.since = now;
    }
}

/// Derives the refusal of one unit from a reply, if no unit is free.
fn refusal_when_full(answer: &Answer, limits: &OwnedLimitSet, params: &StoreParams) -> Option<Decision> {
    let (reply, is_suppressed) = (&answer.reply, limits.borrow().is_suppressed);
    if reply.fits_at == 0 || (is_suppressed && reply.ratio >= 1.0) {
        return None;
    }
    let verdict = match is_suppressed {
        true => Verdict::Suppressed { is_allowed: false },
        false => Verdict::Rejected,
    };
    let outcome = Outcome {
        verdict,
        binding: reply.binding,
        violated: 1_u8.checked_shl(u32::from(reply.binding)).unwrap_or(0),
        factor: if is_suppressed { 1.0 } else { 0.0 },
        used: reply.used.saturating_add(reply.units),
        newest: params.server.at(answer.now_ms),
        fits_at: reply.fits_at,
        used_then: reply.used_then,
    };
    Some(limits.unscale(params.server.decision(&outcome, 0, &limits.scaled, answer.now_ms)))
}
