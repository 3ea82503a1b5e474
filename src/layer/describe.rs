//! What the limits and the keys of a layer are, for operators.

use super::built_limit::BuiltLimit;
use super::control::{Control, KeyControl, LimitControl};
use super::limit::Limit;
use super::mode::LimitMode;
use super::print::{quotas_text, strategy_text};
use crate::key::KeyName;
use crate::quota::{Ban, TopKeys};

/// The settings of one limit, with the texts of the layer's table.
pub(crate) struct LimitDescription {
    pub(crate) name: String,
    pub(crate) mode: LimitMode,
    pub(crate) key: String,
    pub(crate) quotas: String,
    pub(crate) routes: Vec<(String, String)>,
    pub(crate) strategy: String,
    /// The cap on requests in flight.
    pub(crate) in_flight: Option<u64>,
    pub(crate) ban: Option<Ban>,
    pub(crate) top_keys: Option<TopKeys>,
}

impl Control {
    /// The settings of all limits, in the order of the layer.
    pub(crate) fn describe(&self) -> Vec<LimitDescription> {
        let state = self.current.get();
        let builder = state.source.as_ref().clone().merged();
        let describe = |(limit, built): (&Limit, &BuiltLimit)| LimitDescription {
            name: limit.given_name().to_owned(),
            mode: built.mode.get(),
            key: built.key.text(),
            quotas: quotas_text(limit),
            routes: limit.routes.iter().map(|(route, quotas)| (route.clone(), quotas.to_string())).collect(),
            strategy: strategy_text(limit),
            in_flight: limit.in_flight.most,
            ban: limit.ban,
            top_keys: limit.top_keys,
        };
        builder.limits.iter().zip(&state.limits).map(describe).collect()
    }
}

impl LimitControl {
    /// Whether the limit has a ban.
    pub(crate) fn has_ban(&self) -> bool {
        self.visit(|limit| limit.ban.is_some()).unwrap_or(false)
    }

    /// The text of the key.
    pub(crate) fn key_text(&self) -> String {
        self.visit(|limit| limit.key.text()).unwrap_or_default()
    }
}

impl KeyControl {
    /// The key itself.
    pub(crate) fn name(&self) -> KeyName {
        KeyName::new(&self.key)
    }
}
