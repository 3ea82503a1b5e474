//! The middleware: [`RateLimitLayer`] and its service.
//!
//! The layer reads a request's key, and the key's budget decides. The layer then forwards the request or responds
//! itself. A refusal is a response and never an error. Errors of the inner service stay unchanged.
//!
//! The layer's state is behind one [`Arc`](std::sync::Arc). Its clones and its services share their budgets. axum
//! calls `layer` once for each route, and all routes count together.
//!
//! The page `guide::layer_order` lists the layers that belong outside the limit, and those that belong inside.

mod background;
mod ban;
mod body;
mod body_error;
mod build;
mod builder;
mod builder_config;
mod builder_deny;
mod builder_exempt;
mod builder_in_flight;
mod builder_meter;
mod builder_response;
mod builder_settle;
mod builder_telemetry;
mod builder_top_keys;
mod builder_waiting;
mod built_limit;
mod client_networks;
mod config;
mod constructors;
mod control;
mod current;
mod deny;
#[cfg(feature = "admin")]
mod describe;
mod drain;
mod exempt;
mod future;
mod handle;
mod in_flight;
mod into_store;
mod limit;
mod meter;
mod mode;
mod observe;
mod on_missing_key;
mod outcome;
mod print;
mod quota_lookup;
mod rate_limit_layer;
mod routes;
mod rules;
mod service;
mod settle;
mod several;
mod state;
mod steps;
mod tier;
mod top_keys;
mod unsettled;
mod waiting;

pub use self::body::RateLimitBody;
pub use self::body_error::RateLimitBodyError;
pub use self::builder::RateLimitLayerBuilder;
pub use self::config::{DenyConfig, ExemptConfig, LimitConfig, RateLimitConfig};
pub use self::control::{Control, KeyControl, LimitControl};
#[cfg(feature = "admin")]
pub(crate) use self::describe::LimitDescription;
pub use self::future::ResponseFuture;
pub use self::handle::{LimitStatus, RateLimitHandle};
pub use self::in_flight::Permits;
pub use self::into_store::IntoStore;
pub use self::limit::Limit;
pub use self::meter::{AtLimit, MeterUnit};
pub use self::mode::LimitMode;
pub use self::on_missing_key::OnMissingKey;
pub use self::rate_limit_layer::RateLimitLayer;
pub use self::service::RateLimitService;
pub use self::settle::{BodyEnd, Charge, ResponseView};
pub use self::top_keys::{Estimate, KeyId, TopKey, TopKeysReport};
