//! Checks and opens a limit that caps the requests in flight.

use std::sync::Arc;

use super::cap::check;
use crate::error::ConfigError;
use crate::key::KeyExtractor as _;
use crate::layer::build::{Building, key_source};
use crate::layer::built_limit::{BuiltLimit, CostSource, QuotaSource};
use crate::layer::limit::Limit;
use crate::layer::mode::ModeCell;
use crate::layer::routes::Routes;
use crate::layer::settle::Settles;
use crate::layer::tier::{Tier, Tiers};
use crate::policy::{OnStoreError, Policy};
use crate::quota::Quota;
use crate::strategy::Strategy;
use crate::telemetry::{DecisionReason, LimitWatch};

impl Building<'_> {
    /// Opens a limit for which [`Limit::is_cap`] is true.
    pub(in crate::layer) fn open_cap(&mut self, limit: Limit, name: &Arc<str>) -> Result<BuiltLimit, ConfigError> {
        self.take_name(name)?;
        // A cap and a limit with quotas may have one name in two layers, and their counts differ.
        let stored: Arc<str> = format!("{name}:in-flight").into();
        self.take_name(&stored)?;
        let key = key_source(limit.key, limit.lookup)?;
        let is_global = key.extractor.is_global() && key.lookup.is_none();
        let quota = Quota::new(limit.in_flight.most.unwrap_or(0), limit.in_flight.ttl.unwrap_or_default().get())?;
        let (store, ban) = self.store_and_ban(name, limit.store, limit.ban, &[quota])?;
        let mut policy =
            Policy::new(Arc::clone(name), [], Strategy::Absolute).with_on_store_error(self.on_store_error).in_flight();
        if self.old.is_some() {
            policy = policy.sharing_its_name();
        }
        let budget = store.open(&policy.with_quotas(&stored, &[quota]))?;
        if !budget.holds_permits() {
            let what = "has a cap, which its store does not support; use a store of a RateLimiter, such as rl.local(), or \
                        implement Budget::holds_permits";
            return Err(ConfigError::InFlightConflict { limit: name.to_string(), what });
        }
        let tier = Tier {
            budget,
            frames: None,
            rendered: self.responder.render_cap(policy.with_quotas(name, &[quota]))?,
            is_blocked: false,
        };
        Ok(BuiltLimit {
            key,
            quotas: QuotaSource::Table { base: Some(Arc::new(tier)), routes: Routes::default() },
            cost: CostSource(None),
            ban,
            top_keys: self.tracker(name, limit.top_keys)?,
            settles: Settles::default(),
            metering: None,
            watch: LimitWatch::new(name, DecisionReason::InFlight),
            is_cap: true,
            mode: limit.current_mode.unwrap_or_else(|| Arc::new(ModeCell::new(limit.mode))),
            tiers: Tiers::new(store, policy, Arc::clone(&self.responder), is_global, false),
            admits_on_error: self.on_store_error == OnStoreError::Allow,
        })
    }
}

impl Limit {
    /// Whether the limit caps the requests in flight.
    ///
    /// # Errors
    ///
    /// Returns an error if the limit has a cap and what only a limit with quotas can have.
    pub(in crate::layer) fn is_cap(&self, name: &str) -> Result<bool, ConfigError> {
        let conflict = |what: &'static str| Err(ConfigError::InFlightConflict { limit: name.to_owned(), what });
        let Some(most) = self.in_flight.most else {
            return match self.in_flight.ttl {
                Some(_) => conflict("has a permit_ttl and no cap; write .in_flight(4), or leave out the permit_ttl"),
                None => Ok(false),
            };
        };
        check(most)?;
        let chooses = self.choose.is_some() || self.quota_lookup.is_some();
        if !self.quotas.is_empty() || !self.routes.is_empty() || chooses {
            return conflict("has a cap and quotas; write a limit of its own for each");
        }
        if self.suppressed.is_some() {
            return conflict("has a cap, which cannot be suppressed; leave out .suppressed(..)");
        }
        if self.cost.is_some() || !self.costs.is_empty() {
            return conflict("has a cap, which counts each request once; leave out the cost");
        }
        if self.metering.is_some() {
            return conflict("has a cap and a meter; write a limit of its own for each");
        }
        if self.settles.is_some() {
            return conflict("has a cap, which counts a request until its end; leave out the settle function");
        }
        Ok(true)
    }
}
