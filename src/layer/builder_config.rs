//! The builder's setter for a configuration, which adds to the other setters.

use std::sync::Arc;

use super::builder::RateLimitLayerBuilder;
use super::config::{LimitConfig, Place, RateLimitConfig};
use super::in_flight::cap::Cap;
use super::limit::Limit;
use super::meter::{MeterUnit, Units};
use super::state::LayerState;
use crate::policy::Policy;
use crate::quota::HardLimitFactor;

impl RateLimitLayerBuilder {
    /// Adds the limits and lists of a configuration to those of the other setters.
    ///
    /// A second call replaces the first one. If the configuration sets
    /// [`on_missing_key`](RateLimitConfig::on_missing_key) or [`on_store_error`](RateLimitConfig::on_store_error), these
    /// replace the settings of the code. [`enabled`](RateLimitConfig::enabled) can only turn the layer off.
    ///
    /// [`Control::reload`](super::Control::reload) replaces the configuration later.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::{Global, Limit, RateLimitConfig, RateLimitLayer};
    ///
    /// let config: RateLimitConfig = "client  client-ip  50/s  absolute  enforce".parse()?;
    /// let layer = RateLimitLayer::builder()
    ///     .limit(Limit::per(Global).quota("5000/s").name("service"))
    ///     .status(503)
    ///     .config(config)
    ///     .build()?;
    /// assert_eq!(layer.control().limits().count(), 2);
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn config(mut self, config: RateLimitConfig) -> Self {
        self.config = Some(config);
        self
    }

    /// The same layer without short forms: `limits` has all limits, and the configuration is part of the other fields.
    pub(super) fn merged(mut self) -> Self {
        let config = self.config.take();
        let from_config = config.as_ref().map_or(&[][..], |config| &config.limits);
        let has_limits = !self.limits.is_empty() || !from_config.is_empty();
        let mut short = std::mem::replace(&mut self.short, Limit::without_key());
        if !has_limits || !short.is_untouched() {
            if !has_limits && config.is_some() && short.is_untouched() {
                short.place = Place::Limits;
            }
            self.limits.insert(0, short);
        }
        self.limits.extend(from_config.iter().enumerate().map(|(index, limit)| limit.to_limit(index)));
        if let Some(config) = config {
            self.add_lists(config);
        }
        self
    }

    fn add_lists(&mut self, config: RateLimitConfig) {
        if let Some(mistake) = config.mistake() {
            self.exemptions.fail(mistake);
        }
        let RateLimitConfig { enabled, methods, on_missing_key, on_store_error, costs, exempt, deny, limits: _ } =
            config;
        self.on_missing_key = on_missing_key.unwrap_or(self.on_missing_key);
        self.on_store_error = on_store_error.unwrap_or(self.on_store_error);
        self.costs.extend(costs);
        if let Some(methods) = methods {
            self.exemptions.methods.get_or_insert_default().extend(methods);
        }
        let exemptions = &mut self.exemptions;
        exemptions.is_off |= !enabled;
        exemptions.preflight |= exempt.preflight;
        exemptions.grpc_health |= exempt.grpc_health;
        exemptions.grpc_reflection |= exempt.grpc_reflection;
        exemptions.paths.extend(exempt.paths);
        for (ip, networks) in exempt.networks {
            exemptions.add_networks(ip, Ok(networks));
        }
        for (ip, networks) in deny.networks {
            self.denials.add_networks(ip, Ok(networks));
        }
    }

    /// The builder of a layer with another configuration. The limits of the code keep the modes that they have, also if a
    /// control changes one of them at the same time.
    pub(super) fn reloaded(&self, old: &LayerState, config: RateLimitConfig) -> Self {
        let mut builder = self.clone().config(config);
        for limit in builder.limits.iter_mut().chain([&mut builder.short]) {
            let built = old.limit(limit.given_name());
            limit.current_mode = built.map(|built| Arc::clone(&built.mode));
        }
        builder
    }
}

impl LimitConfig {
    /// The limit with this position in the configuration.
    fn to_limit(&self, index: usize) -> Limit {
        let limit = Limit {
            name: Some(self.name.as_str().into()),
            key: Some(self.per.clone().into_extractor()),
            quotas: self.quotas.as_slice().to_vec(),
            routes: self.routes.clone(),
            suppressed: self.suppressed.map(HardLimitFactor::get),
            costs: self.costs.clone(),
            metering: self.meter.map(|MeterUnit::Bytes| Units::Bytes),
            at_limit: self.at_limit.clone(),
            in_flight: Cap { most: self.in_flight, ttl: self.permit_ttl },
            ban: self.ban,
            top_keys: self.top_keys,
            place: Place::Limit(index),
            ..Limit::without_key()
        };
        limit.mode(self.mode)
    }
}

impl Limit {
    /// The name, or the one that `build` gives to a limit without a name.
    pub(super) fn given_name(&self) -> &str {
        self.name.as_deref().unwrap_or(Policy::UNNAMED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::RateLimitLayer;

    /// A control may have found the old state before a reload, and set the mode after it.
    #[test]
    fn a_limit_of_the_code_shares_its_mode_with_its_successor() {
        let config = |quotas: &str| format!("client  global  {quotas}  absolute  shadow").parse().unwrap();
        let layer = RateLimitLayer::builder().quotas(["1/h"]).config(config("1/s")).build().unwrap();
        let old = layer.current.get();
        layer.control().reload(config("2/s")).unwrap();
        layer.control().reload(config("3/s")).unwrap();
        let new = layer.current.get();
        let is_shared = |at: usize| Arc::ptr_eq(&old.limits[at].mode, &new.limits[at].mode);
        assert_eq!([is_shared(0), is_shared(1)], [true, false]);
        old.limits[0].mode.set(crate::layer::LimitMode::Off);
        assert!(layer.to_string().contains("default  client-ip  1/h     absolute  off"), "{layer}");
    }
}
