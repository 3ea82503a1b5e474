//! Random configurations, and random texts.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Method, Request};
use proptest::prelude::*;
use tower::ServiceExt;
use tower_weir::key::Networks;
use tower_weir::layer::{AtLimit, LimitConfig, LimitMode, MeterUnit, OnMissingKey};
use tower_weir::{
    Ban, ClientIp, ConfigError, HardLimitFactor, Limit, ManualClock, OnStoreError, Quota, Quotas, RateLimitConfig,
    RateLimitLayer, RateLimitLayerBuilder, RateLimiter, TopKeys,
};

use super::app;
use crate::support::http::within;

fn names() -> impl Strategy<Value = String> {
    "[a-z]{1,9}|[ -~]{0,12}|limit|cost|ban|settle|meter|at-limit|top-keys|exempt|#|\\(code\\)|a  b|\"quoted\\\\\""
}

fn keys() -> impl Strategy<Value = String> {
    let networks = "(10\\.0\\.0\\.0/8|192\\.0\\.2\\.[0-9]|fd00::/8|unix:)";
    let options = "( header (x-real-ip|forwarded))?( v4-prefix (0|24|31))?( v6-prefix (0|56|128))?";
    let one = format!(
        "client-ip|client-ip v6-prefix 48|client-ip behind {networks}( {networks})?{options}|client-ip hops [1-9]\
         {options}|(hashed )?header (x-tenant|x-api-key)|(hashed )?cookie [A-Za-z]{{1,9}}|global|method|route|\
         grpc-method|grpc-service"
    );
    let one = proptest::string::string_regex(&one).unwrap();
    prop::collection::vec(one, 1..4).prop_map(|parts| parts.join(" + "))
}

fn quota() -> impl Strategy<Value = Quota> {
    (1..9_u64, prop_oneof![Just(1_000_u64), Just(60_000), Just(1_500), Just(3_600_000)])
        .prop_map(|(count, ms)| Quota::new(count, Duration::from_millis(ms)).unwrap())
}

fn quotas() -> impl Strategy<Value = Quotas> {
    prop_oneof![
        6 => prop::collection::vec(quota(), 1..3).prop_map(Quotas::from),
        1 => Just(Quotas::UNLIMITED),
        1 => Just(Quotas::BLOCKED),
    ]
}

/// Routes that differ, so that none is listed twice.
fn by_route<V: std::fmt::Debug>(value: impl Strategy<Value = V>) -> impl Strategy<Value = Vec<(String, V)>> {
    const ROUTES: [&str; 8] =
        ["/a", "POST /a", "PUT  /a", "/users/{id}", "/pkg.Echo/*", "GET /files/{*path}", "/\"quoted\"", "  /b\\"];
    let some = prop::sample::subsequence(ROUTES.to_vec(), 0..=4).prop_shuffle();
    (some, prop::collection::vec(value, 4))
        .prop_map(|(routes, values)| routes.into_iter().map(String::from).zip(values).collect())
}

fn mode() -> impl Strategy<Value = LimitMode> {
    prop_oneof![
        4 => Just(LimitMode::Enforce),
        1 => Just(LimitMode::Shadow),
        1 => Just(LimitMode::Off),
        2 => (1..10_000_u32).prop_map(|part| LimitMode::EnforceFor(f64::from(part) / 100.0)),
    ]
}

fn limit() -> impl Strategy<Value = LimitConfig> {
    let factor = prop::option::weighted(
        0.1,
        (10..90_u8).prop_map(|tenths| HardLimitFactor::try_from(f64::from(tenths) / 10.0).unwrap()),
    );
    let ban =
        prop_oneof![3 => Just(None), 1 => Just(Some(Ban::manual())), 2 => (1..4_u64).prop_map(|n| Some(Ban::after(n)))];
    let at_limit = prop_oneof![
        Just(AtLimit::EndStream),
        Just(AtLimit::Slow),
        any::<u64>().prop_map(|at_most| AtLimit::Finish { at_most }),
        "[ -~]{0,9}|data: a  b\n\n|\"|#".prop_map(AtLimit::end_with),
    ];
    let meter = prop::option::weighted(0.2, prop::option::of(at_limit));
    let cap = prop::option::weighted(0.2, 1..4_u64);
    let top_keys = prop_oneof![
        4 => Just(None),
        1 => (1..=1_000_usize).prop_map(|size| Some(TopKeys::ids(size))),
        1 => (1..=1_000_usize, 1..=86_400_u64)
            .prop_map(|(size, seconds)| Some(TopKeys::names(size).every(Duration::from_secs(seconds)))),
    ];
    let more = (factor, ban, mode(), meter, cap, top_keys);
    (names(), keys(), quotas(), by_route(quotas()), by_route(0..4_u64), more).prop_map(
        |(name, key, quotas, routes, costs, (suppressed, ban, mode, meter, cap, top_keys))| {
            if let Some(cap) = cap {
                let mut limit = LimitConfig::default();
                (limit.name, limit.per, limit.in_flight) = (name, key.parse().unwrap(), Some(cap));
                (limit.ban, limit.mode, limit.top_keys) = (ban, mode, top_keys);
                return limit;
            }
            let mut limit = LimitConfig::default();
            limit.quotas = if routes.is_empty() && quotas.is_unlimited() { Quotas::BLOCKED } else { quotas };
            (limit.name, limit.per, limit.routes, limit.costs) = (name, key.parse().unwrap(), routes, costs);
            (limit.suppressed, limit.ban, limit.mode, limit.top_keys) = (suppressed, ban, mode, top_keys);
            if let (Some(at_limit), None) = (meter, suppressed) {
                (limit.meter, limit.at_limit) = (Some(MeterUnit::Bytes), at_limit);
            }
            limit
        },
    )
}

fn lists() -> impl Strategy<Value = Vec<(ClientIp, Networks)>> {
    let ips = ["client-ip", "client-ip hops 1", "client-ip behind 10.0.0.0/8 header x-real-ip"];
    let network = "192\\.0\\.2\\.[1-9][0-9]?|10\\.[0-9]\\.0\\.0/16|2001:db8:[1-9]::/48|203\\.0\\.113\\.0/24";
    (prop::sample::subsequence(ips.to_vec(), 0..=3), prop::collection::vec(prop::collection::vec(network, 1..4), 3))
        .prop_map(|(ips, lists)| {
            let list = |(ip, list): (&str, Vec<String>)| (ip.parse().unwrap(), Networks::new(list).unwrap());
            ips.into_iter().zip(lists).map(list).collect()
        })
}

prop_compose! {
    fn config()(
        limits in prop::collection::vec(limit(), 1..4),
        costs in by_route(0..4_u64),
        exempt in lists(),
        deny in lists(),
        paths in prop::collection::vec("/[a-z]{0,5}|/a\"\\\\|/\u{a0}b|/c\td", 0..3),
        flags in any::<[bool; 4]>(),
        methods in prop::option::of(prop::sample::subsequence(vec![Method::GET, Method::POST, Method::PUT], 1..3)),
        on_missing_key in prop::option::of(prop_oneof![Just(OnMissingKey::Reject), Just(OnMissingKey::Shared)]),
        on_store_error in prop::option::of(prop_oneof![Just(OnStoreError::LocalShare), Just(OnStoreError::Allow)]),
    ) -> RateLimitConfig {
        let mut config = RateLimitConfig::default();
        for (at, mut limit) in limits.into_iter().enumerate() {
            limit.name.extend(config.limits.iter().any(|other| other.name == limit.name).then(|| at.to_string()));
            config.limits.push(limit);
        }
        (config.costs, config.exempt.networks, config.deny.networks) = (costs, exempt, deny);
        (config.exempt.paths, config.methods) = (paths, methods);
        (config.on_missing_key, config.on_store_error) = (on_missing_key, on_store_error);
        let [health, reflection, preflight, enabled] = flags;
        (config.exempt.grpc_health, config.exempt.grpc_reflection) = (health, reflection);
        (config.exempt.preflight, config.enabled) = (preflight, enabled);
        config
    }
}

/// The same configuration in the order of a TOML table.
fn sorted(mut config: RateLimitConfig) -> RateLimitConfig {
    config.costs.sort();
    for limit in &mut config.limits {
        limit.costs.sort();
        limit.routes.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
    for lists in [&mut config.exempt.networks, &mut config.deny.networks] {
        lists.sort_by_key(|(ip, _)| ip.to_string());
    }
    config
}

/// The same as a configuration, with the setters of the builder.
fn in_code(config: &RateLimitConfig) -> RateLimitLayerBuilder {
    let mut builder = RateLimitLayer::builder()
        .enabled(config.enabled)
        .on_missing_key(config.on_missing_key.unwrap_or_default())
        .on_store_error(config.on_store_error.unwrap_or_default())
        .costs(config.costs.clone())
        .exempt_paths(&config.exempt.paths)
        .exempt_preflight(config.exempt.preflight);
    for limit in &config.limits {
        let mut code = Limit::per(limit.per.clone()).name(&*limit.name).mode(limit.mode);
        code = limit.quotas.as_slice().iter().fold(code, |code, quota| code.quota(*quota));
        code = code.routes(limit.routes.clone()).costs(limit.costs.clone());
        code = limit.ban.map_or(code.clone(), |ban| code.ban(ban));
        code = limit.top_keys.map_or(code.clone(), |keys| code.top_keys(keys));
        code = limit.in_flight.map_or(code.clone(), |most| code.in_flight(most));
        code = limit.meter.map_or(code.clone(), |_| code.meter_bytes());
        code = limit.at_limit.clone().map_or(code.clone(), |at_limit| code.at_limit(at_limit));
        builder = builder.limit(limit.suppressed.map_or(code.clone(), |factor| code.suppressed(factor.get())));
    }
    if let Some(methods) = &config.methods {
        builder = builder.methods(methods.clone());
    }
    if config.exempt.grpc_health {
        builder = builder.exempt_grpc_health();
    }
    if config.exempt.grpc_reflection {
        builder = builder.exempt_grpc_reflection();
    }
    for (ip, networks) in &config.exempt.networks {
        builder = builder.exempt_networks(ip.clone(), networks);
    }
    for (ip, networks) in &config.deny.networks {
        builder = builder.deny_networks(ip.clone(), networks);
    }
    builder
}

/// A layer on a clock that only the test moves.
fn layer(builder: RateLimitLayerBuilder, clock: &ManualClock) -> RateLimitLayer {
    builder.limiter(RateLimiter::builder().clock(clock.clone()).build().unwrap().local()).build().unwrap()
}

/// A request: its method, its path, and a number of which its client, tenant and cookies are made.
type Call = (&'static str, &'static str, u8);

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let paths = ["/", "/a", "/b", "/users/1", "/users/2", "/pkg.Echo/Slow", "/grpc.health.v1.Health/Check"];
    let call =
        (prop::sample::select(vec!["GET", "POST", "PUT", "OPTIONS"]), prop::sample::select(paths.to_vec()), 0..4_u8);
    prop::collection::vec(call, 1..40)
}

/// The status, the wait and the limits that a response shows.
async fn seen(app: &Router, (method, path, who): Call) -> (u16, Option<String>, String) {
    let client: IpAddr = [[192, 0, 2, 7], [203, 0, 113, 9], [10, 1, 0, 0], [198, 51, 100, 1]][usize::from(who)].into();
    let request = Request::builder().method(method).uri(path).extension(SocketAddr::from((client, 4000)));
    let request = request
        .header("x-forwarded-for", format!("203.0.113.{who}"))
        .header("x-real-ip", format!("198.51.100.{who}"))
        .header("x-tenant", if who == 0 { "acme" } else { "other" })
        .header("cookie", format!("a={who}; session={who}"));
    let response = within(app.clone().oneshot(request.body(Body::empty()).unwrap())).await.unwrap();
    let header = |name| response.headers().get(name).map(|it| it.to_str().unwrap().to_owned());
    (response.status().as_u16(), header("retry-after"), format!("{:?}", response.headers()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_configuration_is_read_back_from_each_of_its_forms(config in config()) {
        let table = config.to_string();
        prop_assert_eq!(&table.parse::<RateLimitConfig>().unwrap(), &config, "{}", table);
        let json = serde_json::to_string(&config).unwrap();
        prop_assert_eq!(&serde_json::from_str::<RateLimitConfig>(&json).unwrap(), &config, "{}", json);
        let toml = toml::to_string(&config).unwrap();
        prop_assert_eq!(toml::from_str::<RateLimitConfig>(&toml).unwrap(), sorted(config), "{}", toml);
    }

    #[test]
    fn a_layer_from_the_table_of_another_one_prints_the_same_and_decides_alike(config in config(), calls in calls()) {
        let clock = ManualClock::new();
        let first = layer(in_code(&config), &clock);
        let table = first.to_string();
        let second = layer(RateLimitLayer::builder().config(table.parse().unwrap()), &clock);
        prop_assert_eq!(&second.to_string(), &table);
        prop_assert_eq!(&layer(RateLimitLayer::builder().config(config), &clock).to_string(), &table);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let apps = [app(&first), app(&second)];
        for call in calls {
            let [a, b] = [&apps[0], &apps[1]].map(|app| runtime.block_on(seen(app, call)));
            if table.contains("suppressed") {
                continue; // It decides by chance.
            }
            prop_assert_eq!(a, b, "{:?}\n{}", call, table);
        }
    }

    #[test]
    fn no_text_panics(
        config in config(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), "(  |\"|\\\\|\n|\t|cost|\\(code\\)|#|\\PC)?"), 0..9),
        other in "(( {0,3}|\t|limit|client-ip|10/s|absolute|enforce|exempt|deny|cost|/a|\"|\\\\u\\{|\n|\\PC){0,3}){0,9}",
    ) {
        let mut text = config.to_string();
        for (at, edit) in edits {
            let mut at = at.index(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            text.replace_range(at..at + text[at..].chars().next().map_or(0, char::len_utf8), &edit);
        }
        for text in [text, other] {
            match text.parse::<RateLimitConfig>() {
                Ok(config) => prop_assert_eq!(config.to_string().parse(), Ok(config)),
                Err(ConfigError::InvalidLine { line, .. }) => prop_assert!((1..=text.lines().count()).contains(&line)),
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
    }
}
