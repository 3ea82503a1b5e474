use http::Method;

use super::limit_config::LimitConfig;
use super::place::field;
use crate::error::ConfigError;
use crate::key::{ClientIp, Networks};
use crate::layer::exempt;
use crate::layer::on_missing_key::OnMissingKey;
use crate::layer::routes::Routes;
use crate::policy::OnStoreError;

/// The limits and lists of a layer as data, for a file and for a review.
///
/// A layer is built with [`RateLimitLayer::from_config`](crate::RateLimitLayer::from_config), or, if a part of it is
/// code, with [`RateLimitLayerBuilder::config`](crate::RateLimitLayerBuilder::config).
/// [`Control::reload`](crate::layer::Control::reload) replaces the configuration while the layer serves requests.
///
/// # Files
///
/// With the feature `serde`, it is read by any loader, such as `toml` or `serde_json`. Each value checks itself while
/// it is read, so the loader's error has the line or the path of the value.
///
/// # Text
///
/// It prints as a table, as a layer does, and the table parses back:
///
/// - The first line has the names of the columns: limit, per, quotas, strategy and mode.
/// - A line for each limit follows. Two or more blanks, or a tab, are between cells.
/// - Indented lines below a limit have a route and its quotas, or `cost`, a route and the units of a request, or `ban`
///   and the ban. A limit that caps requests in flight has `4 in flight` as its quotas, and may have a line with
///   `permit-ttl` and a time. A limit that meters responses has a line with `meter`, and may have one with `at-limit`. A line
///   with `top-keys` has the number of keys to track.
/// - Other lines begin with `exempt`, `deny`, `methods`, `cost`, `enabled`, `on-missing-key` or `on-store-error`.
/// - A cell that contains two blanks, or that could be read as another one, has double quotes around it.
/// - Lines that begin with `#` are comments.
///
/// # Examples
///
/// ```
/// use tower_weir::{RateLimitConfig, RateLimitLayer};
///
/// let policy = "
/// limit    per              quotas         strategy        mode
/// client   client-ip        10/s, 1000/h   absolute        enforce
///   POST /login             5/min
///   ban                     20 in 1h for 1d
/// tenant   header x-tenant  500/s          suppressed 1.2  shadow
///
/// exempt   path             /health
/// ";
/// let config: RateLimitConfig = policy.parse()?;
/// assert_eq!(config.limits[0].routes[0].0, "POST /login");
/// let layer = RateLimitLayer::from_config(config)?;
/// # assert!(layer.to_string().contains("tenant         header x-tenant  500/s            suppressed 1.2  shadow"), "{layer}");
///
/// let error = policy.replace("5/min", "often").parse::<RateLimitConfig>().unwrap_err();
/// assert!(error.to_string().starts_with("line 4: \"often\" is not a quota"));
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct RateLimitConfig {
    /// Whether the layer limits requests; the default is yes. See
    /// [`enabled`](crate::RateLimitLayerBuilder::enabled).
    pub enabled: bool,
    /// The only methods that are limited; the default is all. See
    /// [`methods`](crate::RateLimitLayerBuilder::methods).
    #[cfg_attr(feature = "serde", serde(with = "super::forms::methods", skip_serializing_if = "Option::is_none"))]
    pub methods: Option<Vec<Method>>,
    /// What happens to a request without a key: `reject`, `shared` or `allow`. The default is what the builder has.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub on_missing_key: Option<OnMissingKey>,
    /// What happens if the store fails: `local-share`, `reject` or `allow`. The default is what the builder has.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub on_store_error: Option<OnStoreError>,
    /// The units that requests to some routes cost, for the limits that list other costs or none. See
    /// [`costs`](crate::RateLimitLayerBuilder::costs).
    #[cfg_attr(feature = "serde", serde(with = "super::forms::routes", skip_serializing_if = "Vec::is_empty"))]
    pub costs: Vec<(String, u64)>,
    /// The requests that are not limited.
    pub exempt: ExemptConfig,
    /// The requests that are refused without a decision.
    pub deny: DenyConfig,
    /// The limits.
    pub limits: Vec<LimitConfig>,
}

/// The requests that a layer with this [`RateLimitConfig`] does not limit.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct ExemptConfig {
    /// Requests to these paths. See [`exempt_paths`](crate::RateLimitLayerBuilder::exempt_paths).
    #[cfg_attr(feature = "serde", serde(deserialize_with = "super::forms::paths"))]
    pub paths: Vec<String>,
    /// The clients of these networks, with what reads a client's address. See
    /// [`exempt_networks`](crate::RateLimitLayerBuilder::exempt_networks).
    ///
    /// In a file, it is a table such as `{ client-ip = ["10.0.0.0/8"] }`.
    #[cfg_attr(feature = "serde", serde(with = "super::forms::exempt_networks"))]
    pub networks: Vec<(ClientIp, Networks)>,
    /// gRPC health checks.
    pub grpc_health: bool,
    /// gRPC server reflection.
    pub grpc_reflection: bool,
    /// CORS preflights. See [`exempt_preflight`](crate::RateLimitLayerBuilder::exempt_preflight).
    pub preflight: bool,
}

/// The requests that a layer with this [`RateLimitConfig`] refuses without a decision.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct DenyConfig {
    /// The clients of these networks, with what reads a client's address. See
    /// [`deny_networks`](crate::RateLimitLayerBuilder::deny_networks).
    #[cfg_attr(feature = "serde", serde(with = "super::forms::networks"))]
    pub networks: Vec<(ClientIp, Networks)>,
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            methods: None,
            on_missing_key: None,
            on_store_error: None,
            costs: Vec::new(),
            exempt: ExemptConfig::default(),
            deny: DenyConfig::default(),
            limits: Vec::new(),
        }
    }
}

impl RateLimitConfig {
    /// The first mistake outside the limits. A file that was read has none, but the fields can be set in the code.
    pub(crate) fn mistake(&self) -> Option<ConfigError> {
        let mut routes = Routes::default();
        let cost = |(route, units): &(String, u64)| {
            routes.insert(route, *units).err().map(|error| field(format!("costs[{route:?}]"), error))
        };
        let path = |(at, path): (usize, &String)| {
            exempt::check_path(path).err().map(|error| field(format!("exempt.paths[{at}]"), error))
        };
        let networks = |(ip, networks): &(ClientIp, Networks)| {
            let at = || format!("exempt.networks[{:?}]", ip.to_string());
            exempt::check_networks(networks).err().map(|error| field(at(), error))
        };
        let no_method = self.methods.as_ref().filter(|methods| methods.is_empty());
        self.costs
            .iter()
            .find_map(cost)
            .or_else(|| self.exempt.paths.iter().enumerate().find_map(path))
            .or_else(|| self.exempt.networks.iter().find_map(networks))
            .or_else(|| no_method.map(|_| field("methods".into(), ConfigError::NoMethod)))
    }
}
