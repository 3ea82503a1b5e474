#![cfg_attr(docsrs, feature(doc_cfg))]
//! Exact rate limiting for Tower, axum and tonic.
//!
//! A weir lets a river through up to its height and spills the rest. [`RateLimitLayer`] wraps an axum
//! `Router`, a tonic `Server` or any `Service<http::Request<_>>`; [`RateLimiter`] is the engine under it and
//! works alone.
//!
//! ```
//! # #[cfg(feature = "axum")] {
//! use axum::{Router, routing::get};
//! use tower_weir::RateLimitLayer;
//!
//! let app: Router = Router::new()
//!     .route("/", get(|| async { "hello" }))
//!     .layer(RateLimitLayer::per_minute(60)); // by peer address, in this process
//! # }
//! ```
//!
//! * **It never admits too much.** In every window of the configured length at most the configured number of
//!   units is admitted, under any number of threads. What is held is held for the window and at most one
//!   bucket and the clock's lag more.
//! * **A refusal tells the truth.** `Retry-After` is the time after which the same request is admitted if
//!   nothing else came.
//! * **A refusal is free.** It changes nothing, and no memory is kept for it.
//! * **Memory is bounded**, and a flood of keys gains no fresh budget.
//! * **One process or many.** With a Redis feature the same limit holds for all instances together; a request
//!   never waits for Redis longer than a deadline.
//!
//! # Where to look
//!
//! | for | see |
//! |---|---|
//! | the middleware | [`RateLimitLayer`], [`layer`] |
//! | whom to limit | [`ClientIp`], [`Extension`], [`Header`], [`Cookie`], [`Global`], and [`KeyExtractor`] for your own |
//! | what is asked for | `Route`, [`GrpcService`], [`GrpcMethod`], [`HttpMethod`]; tuples join keys |
//! | how much | [`Quota`] for layers, [`RateLimit`] for engine calls |
//! | the engine alone | [`RateLimiter`], with `default-features = false` |
//! | what was decided | [`Decision`], [`RateLimitDecision`] |
//! | what clients are told | [`RateLimitHeaders`], [`RefusalBody`], [`RefusalContext`], [`Protocol`] |
//! | one limit for all instances | `RateLimiter::redis`, `RateLimiter::hybrid`, `RedisOptions` |
//! | what happens while Redis is gone | [`OnStoreError`] |
//! | a store of your own | [`Store`], [`Budget`] |
//! | what the log tells, and how to silence it | [`Notice`] |
//! | time in tests | [`ManualClock`] |
//!
//! # Features
//!
//! All are additive. `middleware` and `axum` are on by default.
//!
//! | feature | gives |
//! |---|---|
//! | `middleware` | the layer, keys and answers |
//! | `axum` | the peer address from axum's `ConnectInfo`, and the key `Route` |
//! | `tonic` | the peer address from tonic's `TcpConnectInfo` |
//! | `tracing` | notices through `tracing` instead of standard error |
//! | `serde` | `Serialize` and `Deserialize` for the configuration values |
//! | `redis-tokio` | the Redis and the hybrid store, on tokio |
//! | `redis-smol` | the same on smol, or on any other runtime; with both features, tokio where it runs |
//! | `redis-cluster` | `RedisOptions::cluster`; needs one of the two above, as the next two do |
//! | `redis-sentinel` | `RedisOptions::sentinel` |
//! | `redis-rustls` | `rediss://`: TLS to Redis |
//! | `metrics` | counts and gauges of the Redis store, through the `metrics` facade |

// Vocabulary: values.
mod correction;
mod decision;
mod error;
mod policy;
mod quota;
mod strategy;
mod telemetry;
mod time;
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
// Stores, and what builds them.
mod limiter;
mod store;
// The middleware.
#[cfg(feature = "middleware")]
mod key;
#[cfg(feature = "middleware")]
pub mod layer;
#[cfg(feature = "middleware")]
mod response;

pub use self::correction::{HistoryPreservation, RateLimitComparator, SetOutcome};
pub use self::decision::{Decision, RateLimitDecision, SuppressionSnapshot, Verdict};
pub use self::error::{ConfigError, StoreError, StoreErrorKind};
pub use self::limiter::{RateLimiter, RateLimiterBuilder, RateLimiterOptions};
pub use self::policy::{OnStoreError, Policy};
pub use self::quota::{
    HardLimitFactor, Quota, RateGroupSizeMs, RateLimit, SyncIntervalMs, Tolerance, WindowSizeSeconds,
};
#[cfg(feature = "_redis")]
pub use self::redis::RedisOptions;
#[cfg(feature = "_redis")]
pub use self::store::hybrid::{Hybrid, HybridLimits, Usage};
pub use self::store::local::{Local, LocalLimits};
#[cfg(feature = "_redis")]
pub use self::store::redis::{Redis, RedisLimits};
pub use self::store::{Answer, Ask, Budget, Store};
pub use self::strategy::{Absolute, Strategy, Suppressed};
pub use self::telemetry::Notice;
pub use self::time::{Clock, ManualClock, PreciseClock};

#[cfg(feature = "axum")]
pub use self::key::Route;
#[cfg(feature = "middleware")]
pub use self::key::{
    ClientIp, Cookie, Extension, Global, GrpcMethod, GrpcService, Header, HttpMethod, IntoKey, Key, KeyExtractor,
    KeyWriter, MissingKey, RequestView,
};
#[cfg(feature = "middleware")]
pub use self::layer::{IntoStore, OnMissingKey, RateLimitLayer, RateLimitLayerBuilder};
#[cfg(feature = "middleware")]
pub use self::response::{
    EXPOSED_HEADERS, Protocol, RateLimitHeaders, RefusalBody, RefusalContext, RefusalReason, ResetFormat,
};

/// The README's programs compile and run.
#[cfg(all(doctest, feature = "axum", feature = "redis-tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;
