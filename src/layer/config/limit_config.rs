use crate::key::ParsedKey;
use crate::layer::meter::{AtLimit, MeterUnit};
use crate::layer::mode::LimitMode;
use crate::policy::Policy;
use crate::quota::{Ban, HardLimitFactor, PermitTtl, Quotas, TopKeys};

/// One limit of a [`RateLimitConfig`](super::RateLimitConfig).
///
/// The fields are those of a [`Limit`](crate::Limit), as far as they are data.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct LimitConfig {
    /// The name; the default is `default`. See [`Limit::name`](crate::Limit::name).
    #[cfg_attr(feature = "serde", serde(deserialize_with = "super::forms::name"))]
    pub name: String,
    /// The key, such as `client-ip behind 10.0.0.0/8`; the default is `client-ip`. See [`ParsedKey`].
    pub per: ParsedKey,
    /// The quotas, such as `100/s`; the default is `unlimited`, which limits only the listed routes.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Quotas::is_unlimited"))]
    pub quotas: Quotas,
    /// Other quotas for some routes. See [`Limit::routes`](crate::Limit::routes).
    #[cfg_attr(feature = "serde", serde(with = "super::forms::routes", skip_serializing_if = "Vec::is_empty"))]
    pub routes: Vec<(String, Quotas)>,
    /// The units that requests to some routes cost. See [`Limit::costs`](crate::Limit::costs).
    #[cfg_attr(feature = "serde", serde(with = "super::forms::routes", skip_serializing_if = "Vec::is_empty"))]
    pub costs: Vec<(String, u64)>,
    /// The hard limit factor of the suppressed strategy; the default is the absolute strategy.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub suppressed: Option<HardLimitFactor>,
    /// The cap on the requests in flight, such as 4; the default is none. See [`Limit::in_flight`](crate::Limit::in_flight).
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub in_flight: Option<u64>,
    /// For how long Redis counts the requests of an instance that ended without notice, such as `30s`. See
    /// [`Limit::permit_ttl`](crate::Limit::permit_ttl).
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub permit_ttl: Option<PermitTtl>,
    /// The ban, such as `20 in 1h for 1d`; the default is none. See [`Limit::ban`](crate::Limit::ban).
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub ban: Option<Ban>,
    /// The unit of a meter that charges responses while they are sent: `bytes`. The default is no meter. See
    /// [`Limit::meter_bytes`](crate::Limit::meter_bytes).
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub meter: Option<MeterUnit>,
    /// What happens to a metered response at the limit: `end-stream` (the default), `slow`, `finish within 500`, or
    /// `end with` and the data. See [`AtLimit`].
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub at_limit: Option<AtLimit>,
    /// The busiest keys to track, such as `100 ids` or `100 names every 5min`; the default is none. See
    /// [`Limit::top_keys`](crate::Limit::top_keys).
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub top_keys: Option<TopKeys>,
    /// The mode: `enforce` (the default), `shadow`, `enforce for 5%` or `off`.
    pub mode: LimitMode,
}

impl Default for LimitConfig {
    fn default() -> Self {
        Self {
            name: Policy::UNNAMED.to_owned(),
            per: ParsedKey::default(),
            quotas: Quotas::UNLIMITED,
            routes: Vec::new(),
            costs: Vec::new(),
            suppressed: None,
            in_flight: None,
            permit_ttl: None,
            ban: None,
            meter: None,
            at_limit: None,
            top_keys: None,
            mode: LimitMode::default(),
        }
    }
}
