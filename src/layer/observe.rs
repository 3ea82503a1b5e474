//! Reports decisions to telemetry, to the function of the builder, and to the trackers of the busiest keys.
//!
//! Without telemetry, a function and tracked keys, nothing here runs.

use super::built_limit::BuiltLimit;
use super::rules::Rule;
use super::several::Several;
use super::state::LayerState;
use super::steps::Progress;
use crate::decision::Decision;
use crate::store::BudgetResponse;
use crate::telemetry::{DecisionEvent, DecisionReason, LimitWatch, Seen};

impl LayerState {
    /// Reports the decision of a plain limit that needed no I/O. Such a layer has no function.
    #[inline]
    pub(super) fn observe_plain(&self, decision: &Decision) {
        if let Some(plain) = &self.plain {
            plain.watch.see_only(decision);
        }
    }

    /// Reports the decisions on a request. `several` has them if there is no box.
    #[inline]
    pub(super) fn observe(&self, progress: &Progress, several: Option<&Several>) {
        if LimitWatch::IS_ON || self.on_decision.is_some() || self.tracks_keys {
            self.observe_all(progress, several);
        }
    }

    #[inline(never)]
    fn observe_all(&self, progress: &Progress, several: Option<&Several>) {
        match progress {
            Progress::Store(BudgetResponse::Ready(Ok(decision))) => self.observe_plain(decision),
            Progress::Store(BudgetResponse::Ready(Err(_))) => {
                let limit = &self.limits[0];
                self.observe_failure(limit, limit.admits_on_error, true, DecisionReason::StoreError);
            }
            Progress::Decided(boxed) => boxed.as_deref().or(several).iter().for_each(|it| self.observe_several(it)),
            // The steps that ended the request reported it.
            _ => {}
        }
    }

    /// Reports the decision of each limit. The current span gets the one that matters most.
    fn observe_several(&self, several: &Several) {
        let is_admitted = several.decisions().is_allowed();
        let mut shown: Option<(&BuiltLimit, Seen)> = None;
        for (asked, ban, own) in several.decided() {
            let limit = &self.limits[asked.index];
            let decision = ban.or(own);
            let mut seen = match decision {
                Some(decision) => Seen::of(decision, asked.is_enforced),
                None => Seen::new(limit.admits_on_error, asked.is_enforced, DecisionReason::StoreError),
            };
            if limit.is_cap && !seen.admits && decision.is_some() {
                seen.reason = DecisionReason::InFlight;
            }
            if ban.is_some() {
                seen.reason = DecisionReason::Banned;
            } else if seen.admits && !is_admitted {
                seen.reason = DecisionReason::OtherLimit;
            }
            limit.watch.count(seen, decision);
            if let Some(tracker) = &limit.top_keys {
                // A failure of the store is no refusal of this key.
                tracker.see(asked.key.as_bytes(), decision.is_some() && !seen.admits);
            }
            self.call_function(limit, seen, decision);
            if shown.is_none_or(|(_, shown)| rank(seen) > rank(shown)) {
                shown = Some((limit, seen));
            }
        }
        if let Some((limit, seen)) = shown {
            limit.watch.record(seen);
        }
    }

    /// Reports a request without a key or without quotas.
    pub(super) fn observe_failure(&self, limit: &BuiltLimit, admits: bool, is_enforced: bool, reason: DecisionReason) {
        limit.watch.see(admits, is_enforced, reason);
        self.call_function(limit, Seen::new(admits, is_enforced, reason), None);
    }

    /// Reports a request that no limit decides.
    pub(super) fn observe_rule(&self, rule: Rule) {
        if LimitWatch::IS_ON {
            match rule {
                Rule::Exempt => self.watch.see(true, true, DecisionReason::Exempt),
                Rule::Deny => self.watch.see(false, true, DecisionReason::Denied),
            }
        }
    }

    fn call_function(&self, limit: &BuiltLimit, seen: Seen, decision: Option<&Decision>) {
        if let Some(see) = &self.on_decision {
            see(&DecisionEvent::new(limit.tiers.policy().name(), seen, decision));
        }
    }
}

/// Refusals matter more than those of limits in shadow, and these more than admissions.
fn rank(seen: Seen) -> (bool, bool, bool) {
    let is_tight = seen.reason == DecisionReason::NearLimit || seen.reason == DecisionReason::InBand;
    (!seen.admits && seen.is_enforced, !seen.admits, is_tight)
}
