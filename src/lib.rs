#![cfg_attr(docsrs, feature(doc_cfg))]
//! Exact rate limiting for Tower, axum and tonic.

mod decision;
mod engine;
mod error;
mod limiter;
mod local;
mod quota;
mod store;
mod time;

pub use self::decision::{Decision, RateLimitDecision, Verdict};
pub use self::error::{ConfigError, StoreError, StoreErrorKind};
pub use self::limiter::{
    HistoryPreservation, RateLimitComparator, RateLimiter, RateLimiterBuilder, RateLimiterOptions, SetOutcome,
};
pub use self::local::{Absolute, Local, LocalLimits, Suppressed};
pub use self::quota::{HardLimitFactor, Quota, RateGroupSizeMs, RateLimit, WindowSizeSeconds};
pub use self::store::{Answer, Ask, Budget, Policy, Store, Strategy};
pub use self::time::{Clock, ManualClock, PreciseClock};

#[cfg(feature = "middleware")]
mod key;
#[cfg(feature = "middleware")]
pub mod layer;
#[cfg(feature = "middleware")]
mod response;
#[cfg(feature = "middleware")]
mod telemetry;

#[cfg(feature = "middleware")]
pub use self::key::{ClientIp, Global, Header, Key, KeyExtractor, KeyWriter, MissingKey, RequestView};
#[cfg(feature = "middleware")]
pub use self::layer::{IntoStore, OnMissingKey, OnStoreError, RateLimitLayer, RateLimitLayerBuilder};
