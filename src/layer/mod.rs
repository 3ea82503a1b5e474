//! The middleware: [`RateLimitLayer`] and the service it makes.
//!
//! A request gives a key, the key's budget decides, and the request is passed on or answered. A refusal is a
//! response and never an error; errors of the inner service pass through untouched.
//!
//! The layer holds all state behind one [`Arc`](std::sync::Arc): its clones, and the services it makes,
//! share their budgets. axum calls `layer` once for each route, and all of them count together.
//!
//! The page `guide::layer_order` says which layers belong outside the limit, and which inside.

mod body;
mod builder;
mod builder_exempt;
mod builder_response;
mod drain;
mod exempt;
mod future;

mod into_store;
mod on_missing_key;
mod rate_limit_layer;
mod service;
mod state;

pub use self::body::RateLimitBody;
pub use self::builder::RateLimitLayerBuilder;
pub use self::future::ResponseFuture;
pub use self::into_store::IntoStore;
pub use self::on_missing_key::OnMissingKey;
pub use self::rate_limit_layer::RateLimitLayer;
pub use self::service::RateLimitService;
