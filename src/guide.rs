//! The guide: pages on concepts, keys, stores, operation and testing.
//!
//! | to learn | read |
//! |---|---|
//! | how quotas, windows and decisions work | [`concepts`] |
//! | which store to use | [`choosing_a_store`] |
//! | who is limited, and which requests are exempt or denied | [`keys`] |
//! | several limits, tiers, quotas by route, costs, modes, and a policy as a file | [`limits`] |
//! | how workers, clients and requests wait instead of being refused | [`waiting`] |
//! | how to find the client behind a proxy | [`client_ip`] |
//! | what a refused client sees, over HTTP and gRPC | [`responses`] |
//! | why a refused upload needs care | [`uploads`] |
//! | which layers belong outside the limit, and which inside | [`layer_order`] |
//! | how to share a limit through Redis, and what happens during an outage | [`redis`] |
//! | how to operate Redis for limits | [`redis_operations`] |
//! | how the hybrid store works, and how exact it is | [`hybrid`] |
//! | metrics, dashboards, alerts, spans and events | [`observability`] |
//! | who is limited, and how operators reset and block clients | [`admin`] |
//! | what each log code means | [`diagnostics`] |
//! | how to test limits without sleeping, and on an access log | [`testing`] |
//! | holds, ranges, clocks and memory | [`limits_and_memory`] |
//! | how to use the engine without HTTP | [`engine`] |
//! | how to migrate from other limiters | [`migrating`] |
//!
//! The module contains no code. The pages are the files of `docs/`, and their programs are compiled and run as tests.

/// The targets of links between pages.
///
/// The files define the same labels for readers of the repository. The first definition of a label wins.
macro_rules! links {
    () => {
        "[keys]: crate::guide::keys
[denied-requests]: crate::guide::keys#denied-requests
[client-ip]: crate::guide::client_ip
[uploads]: crate::guide::uploads
[layer-order]: crate::guide::layer_order
[limits]: crate::guide::limits
[limit-control]: crate::layer::LimitControl
[responses]: crate::guide::responses
[redis]: crate::guide::redis
[outages]: crate::guide::redis#when-redis-is-unavailable
[outage-bounds]: crate::guide::redis#bounds-around-an-outage
[redis-operations]: crate::guide::redis_operations
[hybrid]: crate::guide::hybrid
[hybrid-bound]: crate::guide::hybrid#the-bound
[mixing]: crate::guide::hybrid#mixing-redis-and-hybrid-instances
[diagnostics]: crate::guide::diagnostics
[observability]: crate::guide::observability
[conventions]: https://docs.rs/crate/tower-weir/latest/source/docs/telemetry-conventions.md
[grafana]: https://docs.rs/crate/tower-weir/latest/source/docs/grafana/
[waiting]: crate::guide::waiting
[limits-and-memory]: crate::guide::limits_and_memory
[example-client-side]: https://docs.rs/crate/tower-weir/latest/source/examples/client_side.rs
[example-grpc-methods]: https://docs.rs/crate/tower-weir/latest/source/examples/grpc_methods.rs
[example-llm-gateway]: https://docs.rs/crate/tower-weir/latest/source/examples/llm_gateway.rs
[example-observability]: https://docs.rs/crate/tower-weir/latest/source/examples/observability.rs
[admin]: crate::guide::admin
[example-operations]: https://docs.rs/crate/tower-weir/latest/source/examples/operations.rs
[example-login]: https://docs.rs/crate/tower-weir/latest/source/examples/login.rs
[example-upload-quota]: https://docs.rs/crate/tower-weir/latest/source/examples/upload_quota.rs
[rate-limit-config]: crate::RateLimitConfig
[parsed-key]: crate::key::ParsedKey
[reservations]: crate::guide::engine#reserve-units-before-their-cost-is-known
[example-playground]: https://docs.rs/crate/tower-weir/latest/source/examples/playground/main.rs
[example-policy-file]: https://docs.rs/crate/tower-weir/latest/source/examples/policy_file.rs
[example-shadow-rollout]: https://docs.rs/crate/tower-weir/latest/source/examples/shadow_rollout.rs
[example-tiers]: https://docs.rs/crate/tower-weir/latest/source/examples/tiers.rs
[example-weir-replay]: https://docs.rs/crate/tower-weir/latest/source/examples/weir-replay/main.rs

"
    };
}

/// Defines a page: its name, its file, the features that its programs need, the items of the API that it describes, and
/// its plots.
///
/// Documentation always contains the text. A test run contains it only with those features. Documentation has no files
/// beside its pages, so the file of a plot defines its label with the whole image as the target.
macro_rules! page {
    ($name:ident, $file:literal, [$($feature:literal),*], [$($item:literal),*] $(, plots: [$($plot:literal),*])?) => {
        #[doc = links!()]
        $($(#[doc = include_str!(concat!("../docs/plots/", $plot, ".uri"))])*)?
        #[cfg_attr(any(not(doctest), all($(feature = $feature),*)), doc = include_str!($file))]
        #[doc = "\n\n## In the API\n\n"]
        #[doc = concat!($("* [`", $item, "`](crate::", $item, ")\n"),*)]
        pub mod $name {}
    };
}

page!(
    concepts,
    "../docs/concepts.md",
    ["middleware"],
    [
        "Quota",
        "RateLimit",
        "RateLimitDecision",
        "Decision",
        "RateLimitLayerBuilder::quotas",
        "RateLimitLayerBuilder::suppressed",
        "RateLimitLayerBuilder::name"
    ],
    plots: ["positions", "overload"]
);
page!(
    choosing_a_store,
    "../docs/choosing-a-store.md",
    [],
    [
        "RateLimitLayerBuilder::limiter",
        "RateLimiter::local",
        "RateLimiter::redis",
        "RateLimiter::hybrid",
        "store::Store",
        "store::Budget"
    ]
);
page!(
    keys,
    "../docs/keys.md",
    ["axum"],
    [
        "KeyExtractor",
        "key::Key",
        "key::Extension",
        "key::Header",
        "key::Cookie",
        "key::Route",
        "key::GrpcService",
        "key::GrpcMethod",
        "key::HttpMethod",
        "Global",
        "RateLimitLayerBuilder::key_fn",
        "RateLimitLayerBuilder::key_lookup",
        "key::ParsedKey",
        "key::MissingKey",
        "layer::OnMissingKey",
        "key::Networks",
        "RateLimitLayerBuilder::exempt",
        "RateLimitLayerBuilder::exempt_networks",
        "RateLimitLayerBuilder::deny",
        "RateLimitLayerBuilder::deny_networks"
    ]
);
page!(
    limits,
    "../docs/limits.md",
    ["axum", "serde", "tonic"],
    [
        "Limit",
        "Quotas",
        "RateLimitLayerBuilder::limit",
        "RateLimitLayerBuilder::routes",
        "RateLimitLayerBuilder::cost",
        "RateLimitLayerBuilder::handle",
        "RateLimitLayer::control",
        "layer::LimitMode",
        "layer::Control::update",
        "RateLimitConfig",
        "RateLimitLayer::from_config",
        "RateLimitLayerBuilder::config",
        "layer::Control::reload",
        "layer::RateLimitHandle",
        "store::decide_together"
    ]
);
page!(
    waiting,
    "../docs/waiting.md",
    ["middleware"],
    [
        "store::LocalLimits::until_allowed",
        "RateLimiterBuilder::max_waiting",
        "RateLimitLayer::outgoing",
        "RateLimitLayerBuilder::wait_at_most",
        "RateLimitLayerBuilder::heed_retry_after",
        "key::TargetHost"
    ]
);
page!(
    client_ip,
    "../docs/client-ip.md",
    ["middleware"],
    ["ClientIp", "ClientIp::behind", "ClientIp::hops", "ClientIp::header", "ClientIp::forwarded"]
);
page!(
    responses,
    "../docs/responses.md",
    ["middleware"],
    [
        "response::RefusalBody",
        "response::RefusalContext",
        "response::RateLimitHeaders",
        "response::Protocol",
        "response::EXPOSED_HEADERS",
        "RateLimitLayerBuilder::on_refusal",
        "RateLimitLayerBuilder::headers"
    ]
);
page!(
    uploads,
    "../docs/uploads.md",
    ["middleware"],
    ["RateLimitLayerBuilder::drain_bytes", "RateLimitLayerBuilder::drain_timeout", "RateLimitLayerBuilder::drain_body"]
);
page!(
    layer_order,
    "../docs/layer-order.md",
    ["axum"],
    [
        "RateLimitLayer",
        "RateLimitLayer::disabled",
        "RateLimitLayerBuilder::enabled",
        "RateLimitLayerBuilder::exempt_preflight"
    ]
);
page!(
    redis,
    "../docs/redis.md",
    ["middleware", "_redis"],
    ["RedisOptions", "OnStoreError", "RateLimiterBuilder::redis_url", "store::RedisLimits"],
    plots: ["outage"]
);
page!(redis_operations, "../docs/redis-operations.md", [], ["RedisOptions", "RateLimiterBuilder::redis_connection"]);
page!(
    hybrid,
    "../docs/hybrid.md",
    ["middleware", "_redis"],
    ["RateLimiter::hybrid", "store::HybridLimits", "store::HybridStore::shutdown", "SyncIntervalMs", "Tolerance"]
);
page!(
    observability,
    "../docs/observability.md",
    ["axum", "tracing"],
    [
        "telemetry::DecisionEvent",
        "telemetry::DecisionOutcome",
        "telemetry::DecisionReason",
        "telemetry::Notice",
        "RateLimitLayerBuilder::on_decision"
    ]
);
page!(
    admin,
    "../docs/admin.md",
    ["admin"],
    [
        "admin::router",
        "TopKeys",
        "Limit::top_keys",
        "layer::LimitControl::top_keys",
        "layer::TopKeysReport",
        "key::KeyName"
    ]
);
page!(diagnostics, "../docs/diagnostics.md", [], ["telemetry::Notice", "telemetry::Notice::silence"]);
page!(testing, "../docs/testing.md", ["axum"], ["ManualClock", "RateLimiterBuilder::clock"]);
page!(
    limits_and_memory,
    "../docs/limits-and-memory.md",
    [],
    ["RateLimiterBuilder::max_keys", "RateLimiterBuilder::rate_group_size_ms", "time::Clock", "time::PreciseClock"]
);
page!(
    engine,
    "../docs/engine.md",
    [],
    ["RateLimiter", "store::LocalLimits", "RateLimitComparator", "HistoryPreservation"]
);
page!(migrating, "../docs/migrating.md", [], ["RateLimitLayerBuilder", "RateLimiterBuilder"]);
