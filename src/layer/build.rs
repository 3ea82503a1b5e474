//! Builds a layer: checks its configuration, opens its stores, and renders its constant responses.

use std::collections::HashSet;
use std::sync::Arc;

use http::StatusCode;

use super::ban::BuiltBan;
use super::builder::RateLimitLayerBuilder;
use super::built_limit::{BuiltLimit, CostSource, KeySource, QuotaSource};
use super::current::Current;
use super::into_store::IntoStore as _;
use super::limit::{Cost, Limit};
use super::meter::Metering;
use super::mode::ModeCell;
use super::rate_limit_layer::RateLimitLayer;
use super::routes::Routes;
use super::rules::Rules;
use super::settle::Settles;
use super::state::{LayerState, Plain, Stores, Successor};
use super::tier::{Tier, Tiers};
use crate::error::ConfigError;
use crate::key::{ClientIp, Global, KeyExtractor, Lookup};
use crate::limiter::{RateLimiter, RateLimiterOptions};
use crate::policy::{OnStoreError, Policy};
use crate::quota::{Ban, HardLimitFactor, Quota, Quotas, RateGroupSizeMs, WindowSizeSeconds};
use crate::response::Responder;
use crate::store::{MAX_LIMITS, Store};
use crate::strategy::Strategy;
use crate::telemetry::{DecisionReason, DropCounter, LimitWatch};

impl RateLimitLayerBuilder {
    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] that states what to write instead.
    pub fn build(self) -> Result<RateLimitLayer, ConfigError> {
        Ok(RateLimitLayer { current: Current::new(self.build_state(None)?) })
    }

    /// Builds the state of a layer, or the one that replaces `old`, whose stores it uses again.
    pub(super) fn build_state(self, old: Option<&LayerState>) -> Result<LayerState, ConfigError> {
        let source = Box::new(self.clone());
        let this = self.merged();
        if let Some(error) = &this.exemptions.invalid {
            return Err(error.clone());
        }
        let place = |limit: &Limit| std::iter::repeat_n(limit.place, 1 + usize::from(limit.ban.is_some()));
        if let Some(place) = this.limits.iter().flat_map(place).nth(MAX_LIMITS) {
            return Err(place.wrap(ConfigError::TooManyLimits { most: MAX_LIMITS }));
        }
        let rejected = status(this.rejected)?.unwrap_or(StatusCode::TOO_MANY_REQUESTS);
        let denied = status(this.denials.status)?.unwrap_or(StatusCode::FORBIDDEN);
        let denied = (!this.denials.is_empty()).then_some(denied);
        let mut building = Building {
            responder: Arc::new(Responder::new(this.answers, rejected, status(this.shed)?, denied)),
            store: this.store.or_else(|| old.and_then(|old| old.stores.given.clone())),
            own_stores: old.map_or_else(Vec::new, |old| old.stores.own.to_vec()),
            old,
            cost: cost_source(this.cost, &this.costs)?,
            settles: this.settles,
            on_store_error: this.on_store_error,
            names: HashSet::new(),
        };
        let limits: Box<[BuiltLimit]> =
            this.limits.into_iter().map(|limit| building.limit(limit)).collect::<Result<_, _>>()?;
        let room = this.waiting.room(old.and_then(|old| old.room.as_ref()))?;
        if let (Some(cap), false) = (limits.iter().find(|limit| limit.is_cap), this.waiting.max_wait.is_zero()) {
            let limit = cap.tiers.policy().name().to_owned();
            let what = "has a cap, for which no request can wait; write .wait_at_most(..) on a layer of its own";
            return Err(ConfigError::InFlightConflict { limit, what });
        }
        let plain = match &*limits {
            // A handle needs the parts of the decision, and so do a request that waits and a function that sees them.
            _ if this.handle_in_request || room.is_some() || this.on_decision.is_some() => None,
            [limit] => limit.plain().map(|tier| Plain {
                key: Arc::clone(&limit.key.extractor),
                tier: Arc::clone(tier),
                cost: limit.cost.0.clone(),
                mode: Arc::clone(&limit.mode),
                watch: limit.watch.clone(),
            }),
            _ => None,
        };
        let new_discards = || (!building.own_stores.is_empty()).then(|| Arc::new(DropCounter));
        Ok(LayerState {
            plain,
            room,
            rules: Rules::new(this.exemptions.build()?, this.denials.build()?),
            decision_in_request: this.decision_in_request,
            handle_in_request: this.handle_in_request,
            may_block: limits.iter().any(BuiltLimit::may_block),
            has_bans: limits.iter().any(|limit| limit.ban.is_some()),
            settles: limits.iter().any(BuiltLimit::follows_response),
            has_caps: limits.iter().any(|limit| limit.is_cap),
            tracks_keys: limits.iter().any(|limit| limit.top_keys.is_some()),
            watch: LimitWatch::of_rules(),
            on_decision: this.on_decision,
            drain: this.drain,
            on_missing_key: this.on_missing_key,
            stores: Stores {
                _discards: old.and_then(|old| old.stores._discards.clone()).or_else(new_discards),
                given: building.store,
                own: building.own_stores.into(),
            },
            responder: building.responder,
            limits,
            successor: Successor::default(),
            source,
        })
    }
}

/// The store of a limit, and its ban.
type StoreAndBan = (Arc<dyn Store>, Option<Arc<BuiltBan>>);

/// What the limits of a layer share while it is built.
pub(super) struct Building<'a> {
    pub(super) old: Option<&'a LayerState>,
    pub(super) responder: Arc<Responder>,
    pub(super) store: Option<Arc<dyn Store>>,
    /// The local stores of this layer, by the length of their buckets in milliseconds.
    own_stores: Vec<(u64, Arc<dyn Store>)>,
    cost: Option<Arc<Cost>>,
    settles: Settles,
    pub(super) on_store_error: OnStoreError,
    names: HashSet<Arc<str>>,
}

impl Building<'_> {
    /// Opens a limit. An error has the field if the limit comes from a configuration.
    fn limit(&mut self, limit: Limit) -> Result<BuiltLimit, ConfigError> {
        let place = limit.place;
        self.open(limit).map_err(|error| place.wrap(error))
    }

    fn open(&mut self, limit: Limit) -> Result<BuiltLimit, ConfigError> {
        let place = limit.place;
        let name: Arc<str> = limit.given_name().into();
        if limit.check(&name)? {
            return self.open_cap(limit, &name);
        }
        self.take_name(&name)?;
        let key = key_source(limit.key, limit.lookup)?;
        let (strategy, refusal) = match limit.suppressed {
            None => (Strategy::Absolute, DecisionReason::OverLimit),
            Some(factor) => (Strategy::Suppressed(HardLimitFactor::try_from(factor)?), DecisionReason::Shed),
        };
        let is_global = key.extractor.is_global() && key.lookup.is_none();
        let mut routes = Routes::default();
        for (route, quotas) in limit.routes {
            routes.insert(&route, quotas).map_err(|error| place.wrap_route(&route, error))?;
        }
        let all: Vec<Quota> = limit.quotas.iter().chain(routes.values().flat_map(Quotas::as_slice)).copied().collect();
        let (store, ban) = self.store_and_ban(&name, limit.store, limit.ban, &all)?;
        let at_limit = limit.at_limit.unwrap_or_default();
        let metering = limit.metering.map(|units| Arc::new(Metering { units, at_limit }));
        let settles = if metering.is_some() { Settles::default() } else { limit.settles.or(&self.settles) };
        let mut policy = Policy::new(Arc::clone(&name), [], strategy).with_on_store_error(self.on_store_error);
        if settles.is_some() || metering.is_some() {
            policy = policy.settled();
        }
        // An update opens a limit while its predecessor is still in use.
        if limit.choose.is_some() || limit.quota_lookup.is_some() || self.old.is_some() {
            policy = policy.sharing_its_name();
        }
        let tiers = Tiers::new(store, policy, Arc::clone(&self.responder), is_global, metering.is_some());
        let quotas = match (limit.choose, limit.quota_lookup) {
            (Some(choose), _) => QuotaSource::Function(choose),
            (None, Some(lookup)) => QuotaSource::Lookup(lookup),
            (None, None) => QuotaSource::Table {
                base: match limit.quotas.is_empty() {
                    true => None,
                    false => Some(Arc::new(tiers.open(&name, &limit.quotas.into())?)),
                },
                routes: routes.try_map(|route, quotas| match quotas.is_unlimited() {
                    true => Ok(None),
                    false => {
                        let opened = tiers.open(&format!("{name}:{route}"), &quotas);
                        opened.map(|tier| Some(Arc::new(tier))).map_err(|error| place.wrap_route(route, error))
                    }
                })?,
            },
        };
        Ok(BuiltLimit {
            key,
            quotas,
            cost: CostSource(cost_source(limit.cost.or_else(|| self.cost.clone()), &limit.costs)?),
            ban,
            top_keys: self.tracker(&name, limit.top_keys)?,
            settles,
            metering,
            is_cap: false,
            mode: limit.current_mode.unwrap_or_else(|| Arc::new(ModeCell::new(limit.mode))),
            tiers,
            admits_on_error: self.on_store_error == OnStoreError::Allow,
            watch: LimitWatch::new(&name, refusal),
        })
    }

    /// The store of a limit, and its ban. The store of an old limit with this name has its histories.
    pub(super) fn store_and_ban(
        &mut self,
        name: &str,
        given: Option<Arc<dyn Store>>,
        ban: Option<Ban>,
        quotas: &[Quota],
    ) -> Result<StoreAndBan, ConfigError> {
        let old = self.old.and_then(|old| old.limit(name));
        let given = given.or_else(|| self.store.clone());
        let ban = match ban {
            Some(ban) => {
                let old = || old.and_then(|old| old.ban.as_ref()).map(|ban| Arc::clone(&ban.store));
                Some(Arc::new(self.ban(name, ban, given.clone().or_else(old))?))
            }
            None => None,
        };
        let store = match given.or_else(|| old.map(|old| Arc::clone(old.tiers.store()))) {
            Some(store) => store,
            None => self.own_store(quotas)?,
        };
        Ok((store, ban))
    }

    pub(super) fn take_name(&mut self, name: &Arc<str>) -> Result<(), ConfigError> {
        match self.names.insert(Arc::clone(name)) {
            true => Ok(()),
            false => Err(ConfigError::DuplicateLimitName(name.to_string())),
        }
    }

    pub(super) fn ban(
        &mut self,
        limit: &str,
        ban: Ban,
        store: Option<Arc<dyn Store>>,
    ) -> Result<BuiltBan, ConfigError> {
        let (strikes, refusing) = (ban.strikes()?, ban.refusing()?);
        let store = match store {
            Some(store) => store,
            None => self.own_store(&strikes.into_iter().chain([refusing]).collect::<Vec<_>>())?,
        };
        let mut policy = |suffix: &str, quota: Quota| {
            let name: Arc<str> = format!("{limit}:{suffix}").into();
            self.take_name(&name)?;
            let policy = Policy::new(name, [quota], Strategy::Absolute).with_on_store_error(self.on_store_error);
            Ok::<_, ConfigError>(if self.old.is_some() { policy.sharing_its_name() } else { policy })
        };
        let strikes = strikes.map(|quota| store.open(&policy("strikes", quota)?)).transpose()?;
        let banned = policy("ban", refusing)?;
        let budget = store.open(&banned)?;
        let tier = Tier { budget, frames: None, rendered: self.responder.render_ban(banned)?, is_blocked: false };
        Ok(BuiltBan { tier, strikes, lasting: refusing.window(), store })
    }

    /// A local store with buckets that suit the quotas: 10 ms, finer for short windows, and larger for very long ones.
    pub(super) fn own_store(&mut self, quotas: &[Quota]) -> Result<Arc<dyn Store>, ConfigError> {
        let windows = || quotas.iter().map(Quota::window_ms);
        let (shortest, longest) = (windows().min().unwrap_or(1_000), windows().max().unwrap_or(1_000));
        let bucket_ms = (shortest / 100).clamp(1, 10).max((longest >> 23) + 1);
        if bucket_ms > shortest {
            return Err(ConfigError::WindowsTooFarApart { shortest_ms: shortest, longest_ms: longest });
        }
        if let Some((_, store)) = self.own_stores.iter().find(|(ms, _)| *ms == bucket_ms) {
            return Ok(Arc::clone(store));
        }
        let options = RateLimiterOptions {
            window_size_seconds: WindowSizeSeconds::try_from(longest.div_ceil(1_000))?,
            rate_group_size_ms: RateGroupSizeMs::try_from(bucket_ms)?,
            ..Default::default()
        };
        let limiter = RateLimiter::new(options)?;
        limiter.run_cleanup_loop();
        let store = limiter.local().into_store();
        self.own_stores.push((bucket_ms, Arc::clone(&store)));
        Ok(store)
    }
}

impl Limit {
    /// Whether no setter was called.
    pub(super) fn is_untouched(&self) -> bool {
        let has_key = self.key.is_some() || self.lookup.is_some();
        let is_plain = self.name.is_none() && self.suppressed.is_none() && self.in_flight.is_untouched();
        let is_plain = is_plain && self.top_keys.is_none();
        !self.has_table() && !has_key && is_plain && self.error.is_none()
    }

    /// Whether it has quotas that do not depend on a function.
    fn has_table(&self) -> bool {
        !self.quotas.is_empty() || !self.routes.is_empty()
    }

    /// Checks the limit; returns whether it caps the requests in flight.
    fn check(&self, name: &str) -> Result<bool, ConfigError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        if self.at_limit.is_some() && self.metering.is_none() {
            return Err(ConfigError::AtLimitWithoutMeter(name.to_owned()));
        }
        if self.metering.is_some() && (self.settles.is_some() || self.suppressed.is_some()) {
            return Err(ConfigError::MeterConflict(name.to_owned()));
        }
        if self.is_cap(name)? {
            return Ok(true);
        }
        match [self.has_table(), self.choose.is_some(), self.quota_lookup.is_some()]
            .into_iter()
            .filter(|has| *has)
            .count()
        {
            0 => Err(ConfigError::NoQuota),
            1 => Ok(false),
            _ => Err(ConfigError::QuotasConflict(name.to_owned())),
        }
    }
}

pub(super) fn key_source(key: Option<Arc<dyn KeyExtractor>>, lookup: Option<Lookup>) -> Result<KeySource, ConfigError> {
    let source = match (key, lookup) {
        (None, None) => KeySource { extractor: Arc::new(ClientIp::peer()), lookup: None },
        (None, Some(lookup)) => KeySource { extractor: Arc::new(Global), lookup: Some(lookup) },
        (Some(extractor), lookup) => KeySource { extractor, lookup: lookup.map(Lookup::joined) },
    };
    source.extractor.check()?;
    Ok(source)
}

/// The costs of the listed routes, and `cost` for other requests.
fn cost_source(cost: Option<Arc<Cost>>, costs: &[(String, u64)]) -> Result<Option<Arc<Cost>>, ConfigError> {
    if costs.is_empty() {
        return Ok(cost);
    }
    let mut routes = Routes::default();
    for (route, units) in costs {
        routes.insert(route, *units)?;
    }
    Ok(Some(Arc::new(move |request| match (routes.get(request), &cost) {
        (Some(units), _) => *units,
        (None, Some(cost)) => cost(request),
        (None, None) => 1,
    })))
}

fn status(given: Option<u16>) -> Result<Option<StatusCode>, ConfigError> {
    let Some(given) = given else { return Ok(None) };
    let status = StatusCode::from_u16(given).map_err(|_| ConfigError::InvalidStatus(given))?;
    let is_refusal = status.is_client_error() || status.is_server_error();
    if is_refusal { Ok(Some(status)) } else { Err(ConfigError::InvalidStatus(given)) }
}
