#![cfg_attr(docsrs, feature(doc_cfg))]
//! Exact rate limiting for Tower, axum and tonic.
//!
//! [`RateLimitLayer`] wraps an axum `Router`, a tonic `Server` or any `Service<http::Request<_>>`. [`RateLimiter`] is
//! the engine, and also works alone. The [`guide`] explains both in nineteen short pages.
//!
//! ```
//! # #[cfg(feature = "axum")] {
//! use axum::{Router, routing::get};
//! use tower_weir::RateLimitLayer;
//!
//! let app: Router = Router::new()
//!     .route("/", get(|| async { "hello" }))
//!     .layer(RateLimitLayer::per_minute(60)); // 60 requests in any minute for each client, in this process
//! # }
//! ```
//!
//! Serve it with `into_make_service_with_connect_info::<SocketAddr>()`, so that the layer knows the client's address.
//!
//! # Why
//!
//! * **Exact.** It uses a true sliding window. No window of the stated length admits more than the limit, with any
//!   number of threads.
//! * **Truthful.** `Retry-After` is exact: after that wait, the same request is admitted if no other request arrived.
//! * **Cheap refusals.** A rejected request is charged nothing and leaves nothing behind.
//! * **Bounded memory.** A flood of new clients does not exhaust memory, and gives no client a fresh budget.
//! * **One process or many.** With Redis, all instances share one limit, and an outage of Redis does not stop your
//!   service.
//!
//! # Where to look
//!
//! | topic | guide | API |
//! |---|---|---|
//! | quotas, windows, strategies | [concepts](guide::concepts) | [`Quota`], [`RateLimit`], [`Decision`] |
//! | who is limited | [keys](guide::keys) | [`KeyExtractor`], [`Extension`](key::Extension), [`Header`](key::Header), [`Global`] |
//! | several limits, tiers, routes, costs, bans, modes | [limits](guide::limits) | [`Limit`], [`Quotas`], [`RateLimitHandle`](layer::RateLimitHandle) |
//! | a policy as a file and as a table | [limits](guide::limits#a-policy-as-a-file-and-as-a-table) | [`RateLimitConfig`] |
//! | waiting instead of refusing, outgoing requests | [waiting](guide::waiting) | [`RateLimitLayer::outgoing`] |
//! | clients behind a proxy | [client addresses](guide::client_ip) | [`ClientIp`] |
//! | requests without a limit | [keys](guide::keys#requests-without-a-limit) | [`RateLimitLayerBuilder::exempt`] |
//! | denied requests | [keys](guide::keys#denied-requests) | [`RateLimitLayerBuilder::deny_networks`] |
//! | what a refused client sees | [responses](guide::responses) | [`RefusalBody`](response::RefusalBody), [`RateLimitHeaders`](response::RateLimitHeaders) |
//! | refused uploads | [uploads](guide::uploads) | [`RateLimitLayerBuilder::drain_bytes`] |
//! | the place of the limit among other layers | [the order of layers](guide::layer_order) | [`RateLimitLayer`] |
//! | which store | [choosing a store](guide::choosing_a_store) | [`RateLimiter`], [`Store`](store::Store) |
//! | one limit for all instances | [Redis](guide::redis), [hybrid](guide::hybrid) | `RedisOptions` |
//! | what happens while Redis is unavailable | [outages](guide::redis#when-redis-is-unavailable) | [`OnStoreError`] |
//! | servers, permissions, memory | [operating Redis](guide::redis_operations) | `RedisOptions` |
//! | metrics, spans, events, dashboards | [observability](guide::observability) | [`DecisionEvent`](telemetry::DecisionEvent) |
//! | who is limited, a router for operators | [operators](guide::admin) | `admin::router`, [`TopKeys`] |
//! | log codes | [diagnostics](guide::diagnostics) | [`Notice`](telemetry::Notice) |
//! | tests without sleeping | [testing](guide::testing) | [`ManualClock`] |
//! | what is not promised, and memory | [limits and memory](guide::limits_and_memory) | [`Clock`](time::Clock) |
//! | limits without HTTP | [the engine alone](guide::engine) | [`RateLimiter`], [`RateLimitDecision`] |
//! | other limiters | [migrating](guide::migrating) | |
//!
//! # Features
//!
//! All features are additive. `middleware` and `axum` are on by default.
//!
//! | feature | adds |
//! |---|---|
//! | `middleware` | the layer, keys and responses |
//! | `axum` | the peer address from axum's `ConnectInfo`, and the key `Route` |
//! | `admin` | a router for operators: the busiest keys, usage, reset and block |
//! | `tonic` | the peer address from tonic's `TcpConnectInfo` |
//! | `tracing` | logs through `tracing` instead of standard error, decisions on spans, and events about refusals |
//! | `serde` | `Serialize` and `Deserialize` for a layer's configuration, quotas and the other values |
//! | `redis-tokio` | the Redis and the hybrid store, on tokio |
//! | `redis-smol` | the same on smol, or on any other runtime; with both features, a tokio runtime is used if one runs |
//! | `redis-cluster` | `RedisOptions::cluster`; needs one of the two features above, as the next two do |
//! | `redis-sentinel` | `RedisOptions::sentinel` |
//! | `redis-rustls` | TLS to Redis with `rediss://` URLs |
//! | `metrics` | metrics of decisions, keys and Redis, through the `metrics` facade |

// Vocabulary: values.
mod correction;
mod decision;
mod error;
mod policy;
mod quota;
mod strategy;
pub mod telemetry;
pub mod time;
// Pure protocol: time and chance are arguments.
mod engine;
mod geometry;
#[cfg(feature = "_redis")]
mod lease;
#[cfg(feature = "_redis")]
mod script;
// Keyed storage.
mod keyspace;
// I/O.
#[cfg(feature = "_redis")]
mod nonce;
#[cfg(feature = "_redis")]
mod redis;
#[cfg(feature = "_redis")]
mod runtime;
// Stores and their builder.
pub mod limiter;
pub mod store;
// The middleware.
#[cfg(feature = "middleware")]
pub mod key;
#[cfg(feature = "middleware")]
pub mod layer;
#[cfg(feature = "middleware")]
pub mod response;
// The router for operators.
#[cfg(feature = "admin")]
pub mod admin;
// Only rustdoc and doctests need the pages.
#[cfg(any(doc, doctest))]
pub mod guide;

pub use self::correction::{HistoryPreservation, RateLimitComparator};
pub use self::decision::{Decision, RateLimitDecision};
pub use self::error::{ConfigError, StoreError, StoreErrorKind};
#[cfg(feature = "middleware")]
pub use self::key::{ClientIp, Global, KeyExtractor};
#[cfg(feature = "middleware")]
pub use self::layer::{Limit, RateLimitConfig, RateLimitLayer, RateLimitLayerBuilder};
pub use self::limiter::{RateLimiter, RateLimiterBuilder, RateLimiterOptions};
pub use self::policy::OnStoreError;
#[cfg(feature = "middleware")]
pub use self::quota::{Ban, PermitTtl, TopKeys};
pub use self::quota::{
    HardLimitFactor, Quota, Quotas, RateGroupSizeMs, RateLimit, SyncIntervalMs, Tolerance, WindowSizeSeconds,
};
#[cfg(feature = "_redis")]
pub use self::redis::RedisOptions;
pub use self::time::ManualClock;

/// The programs of the README compile and run.
#[cfg(all(doctest, feature = "axum", feature = "redis-tokio", feature = "tonic"))]
#[doc = include_str!("../README.md")]
struct Readme;
