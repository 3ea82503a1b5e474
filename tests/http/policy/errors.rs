//! An error has the line of the table or of the file, or the field.

use std::time::Duration;

use tower_weir::key::Networks;
use tower_weir::layer::{AtLimit, LimitMode};
use tower_weir::{Ban, ConfigError, Global, Limit, Quota, Quotas, RateLimitConfig, RateLimitLayer, TopKeys};

use super::{POLICY, TOML, policy};

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn an_error_of_a_table_has_the_line_and_what_to_write() {
    for (old, new, want) in [
        ("3/min, 1000/h", "3/min, often", "line 2: \" often\" is not a quota; write"),
        ("client-ip behind 10.0.0.0/8  3", "client-ip behind 10.0.0.1/8  3", "line 2: \"10.0.0.1/8\" has bits set"),
        ("POST /login", "post /login", "line 4: \"post /login\" matches no request, or is listed twice; write"),
        ("POST /login", "/export    ", "line 4: \"/export\" matches no request, or is listed twice"),
        ("unlimited", "          ", "line 3: \"/export\" is not a row; write"),
        ("/search                      2", "/search                    two", "line 5: \"cost         /search"),
        ("suppressed 1.2", "suppressed 0.9", "line 6: a hard limit factor of 0.9 is not possible; write"),
        (
            "suppressed 1.2",
            "supressed 1.20",
            "line 6: \"supressed 1.20\" is unknown; write one of absolute, suppressed",
        ),
        ("enforce for 5%", "enforced", "line 6: \"enforced\" is unknown; write one of enforce, shadow"),
        (
            "header x-tenant + method",
            "header x-tenant + verb  ",
            "line 6: \"header x-tenant + verb\" is not a key; write",
        ),
        ("\"new  one\"", "\"new  one ", "line 7: \"\\\"new  one"),
        ("path                         /health", "path                         /h*", "line 9: \"/h*\" never matches"),
        ("2001:db8::/32", "::/0", "line 11: the exempt networks contain all of \"::/0\"; write"),
        ("grpc-health", "health", "line 12: \"exempt          health\" is not a row; write"),
        ("198.51.100.7", "nowhere", "line 13: \"nowhere\" is not a network; write"),
        ("GET POST", "get", "line 14: \"get\" is unknown; write one of GET, POST"),
        ("methods         GET POST", "methods", "line 14: no method to limit; write"),
        ("/reports/{id}                5", "/reports/{id}               -5", "line 15: \"cost            /reports"),
        ("shared", "share", "line 16: \"share\" is unknown; write one of reject, shared, allow"),
        ("on-store-error  reject", "on-store-error  admit", "line 17: \"admit\" is unknown; write one of local-share"),
        ("on-store-error  reject", "enabled  maybe", "line 17: \"maybe\" is unknown; write one of yes, no"),
        ("on-store-error  reject", "on-failure  reject", "line 17: \"on-failure  reject\" is not a row; write"),
    ] {
        let text = POLICY.replacen(old, new, 1);
        assert_ne!(text, POLICY, "{old}");
        let error = text.parse::<RateLimitConfig>().unwrap_err();
        assert!(error.to_string().starts_with(want), "{error}\n{want}");
    }
    for (rows, want) in [
        ("  top-keys  many", "line 8: \"many\" is not a number of keys to track; write"),
        ("  top-keys  9 ids\n  top-keys  9 ids", "line 9: \"top-keys  9 ids\" is not a row"),
    ] {
        let error =
            POLICY.replacen("shadow\n", &format!("shadow\n{rows}\n"), 1).parse::<RateLimitConfig>().unwrap_err();
        assert!(error.to_string().starts_with(want), "{error}");
    }
    let error = "  /a  1/s".parse::<RateLimitConfig>().unwrap_err();
    assert!(error.to_string().starts_with("line 1: \"/a  1/s\" is not a row"), "{error}");
}

/// The value checks itself while the file is read, so that the loader knows the place.
#[test]
fn an_error_of_a_file_has_the_line_and_what_to_write() {
    for (old, new, want) in [
        ("\"3/min\", \"1000/h\"", "\"3/min\", \"often\"", "\"often\" is not a quota; write"),
        ("[\"3/min\", \"1000/h\"]", "[]", "no quota; write"),
        ("\"3/min\", \"1000/h\"", "3", "expected a text"),
        ("name = \"client\"", "name = \"ké\"", "cannot be sent in a header; write"),
        ("per = \"client-ip behind 10.0.0.0/8\"", "per = \"ip\"", "\"ip\" is not a key; write one of client-ip"),
        ("POST /login", "post /login", "\"post /login\" matches no request"),
        ("POST /login", " /export", "\"/export\" matches no request, or is listed twice"),
        ("\"/search\" = 2", "\"/search\" = -2", "expected u64"),
        ("suppressed = 1.2", "suppressed = 0.5", "a hard limit factor of 0.5 is not possible; write"),
        ("enforce for 5%", "enforce for 500%", "500 is not a percentage of the keys; write"),
        ("quotas = \"5/s\"", "quota = \"5/s\"", "unknown field `quota`, expected"),
        ("paths = [\"/health\"]", "paths = [\"/health\", \"*\"]", "\"*\" never matches"),
        ("\"2001:db8::/32\"", "\"::/0\"", "contain all of \"::/0\"; write"),
        ("client-ip = [\"198.51.100.7\"]", "client-ip = []", "no network; write"),
        ("client-ip = [\"198.51.100.7\"]", "client-ip = [\"198.51.100\"]", "\"198.51.100\" is not a network"),
        ("deny.networks = { client-ip", "deny.networks = { peer", "\"peer\" is not a key; write one of client-ip"),
        ("\"GET\", \"POST\"", "\"get\"", "\"get\" is unknown; write one of GET"),
        ("\"shared\"", "\"share\"", "\"share\" is unknown; write one of reject, shared, allow"),
        ("on_store_error = \"reject\"", "on_store_error = \"admit\"", "\"admit\" is unknown"),
    ] {
        let text = TOML.replacen(old, new, 1);
        assert_ne!(text, TOML, "{old}");
        let error = toml::from_str::<RateLimitConfig>(&text).unwrap_err();
        let changed = text.lines().zip(TOML.lines()).position(|(new, old)| new != old).unwrap();
        assert!(error.message().contains(want), "{error}");
        let line = text[..error.span().unwrap().start].matches('\n').count();
        assert_eq!(line, changed, "{error}");
    }
    // Each element of a list has a place of its own.
    for (list, want) in [
        ("quotas = [\n \"3/min\",\n \"often\",\n]", "often"),
        ("exempt.paths = [\n \"/\",\n \"x\",\n]", "x"),
        ("exempt.networks = { client-ip = [\n \"192.0.2.7\",\n \"7\",\n] }", "7"),
        ("methods = [\n \"GET\",\n \"get\",\n]", "get"),
    ] {
        let text = if list.starts_with('q') { format!("limits = [{{ {list} }}]") } else { list.to_owned() };
        let error = toml::from_str::<RateLimitConfig>(&text).unwrap_err();
        assert_eq!(&text[error.span().unwrap()], format!("{want:?}"), "{error}");
    }
    let json = "{\n \"limits\": [\n  {\"quotas\": \"3/min\"},\n  {\"name\": \"b\", \"quotas\": \"often\"}\n ]\n}";
    let error = serde_json::from_str::<RateLimitConfig>(json).unwrap_err();
    assert_eq!(error.line(), 4);
    assert!(error.to_string().starts_with("\"often\" is not a quota; write"), "{error}");
}

/// What only `build` can find.
#[test]
fn an_error_of_build_has_the_field() {
    type Change = fn(&mut RateLimitConfig);
    let changes: [(Change, &str); 13] = [
        (|it| it.limits[1].name = "client".into(), "limits[1].name: two limits have the name \"client\""),
        (|it| it.limits[2].name = "ké".into(), "limits[2].name: limit name \"ké\" cannot be sent"),
        (|it| it.limits[0].name = "x".repeat(9_000), "limits[0].name: the headers of a refusal would take"),
        (|it| it.limits[1].quotas = Quotas::UNLIMITED, "limits[1].quotas: no quota; write"),
        (|it| it.limits[1].mode = LimitMode::EnforceFor(101.0), "limits[1].mode: 101 is not a percentage"),
        (
            |it| it.limits[1].top_keys = Some(TopKeys::names(0)),
            "limits[1].top_keys: \"0 names\" is not a number of keys to track; write",
        ),
        (|it| it.limits[0].routes[0].0 = "login".into(), "limits[0].routes[\"login\"]: \"login\" matches no request"),
        (|it| it.limits[0].costs[0].0 = "search".into(), "limits[0].costs: \"search\" matches no request"),
        (|it| it.costs[0].0 = "reports".into(), "costs[\"reports\"]: \"reports\" matches no request"),
        (|it| it.exempt.paths.push("health".into()), "exempt.paths[1]: \"health\" never matches"),
        (|it| it.methods = Some(Vec::new()), "methods: no method to limit"),
        (|it| it.limits = (0..9).map(|_| it.limits[0].clone()).collect(), "limits[8]: more than 8 limits"),
        (
            |it| it.exempt.networks[0].1 = Networks::new(["0.0.0.0/0"]).unwrap(),
            "exempt.networks[\"client-ip behind 10.0.0.0/8\"]: the exempt networks contain all of",
        ),
    ];
    for (change, want) in changes {
        let mut config = policy();
        change(&mut config);
        let error = RateLimitLayer::from_config(config).unwrap_err();
        assert!(matches!(error, ConfigError::InvalidField { .. }), "{error}");
        assert!(error.to_string().starts_with(want), "{error}\n{want}");
    }
    // Windows that the store cannot hold, of a limit and of a route.
    let windows = |count| (1..=count).map(|s| Quota::new(1, Duration::from_secs(s)).unwrap()).collect::<Vec<_>>();
    let mut config = policy();
    config.limits[1].quotas = windows(9).into();
    let error = RateLimitLayer::from_config(config.clone()).unwrap_err();
    assert!(error.to_string().starts_with("limits[1].quotas: more than 8 quotas for one name"), "{error}");
    config.limits[1].quotas = windows(1).into();
    config.limits[0].routes[1].1 = windows(9).into();
    let error = RateLimitLayer::from_config(config).unwrap_err();
    assert!(error.to_string().starts_with("limits[0].routes[\"POST /login\"]: more than 8 quotas"), "{error}");
    let far = "a  global  1/ms, 1/9999999d  absolute  enforce".parse().unwrap();
    let error = RateLimitLayer::from_config(far).unwrap_err();
    assert!(error.to_string().starts_with("limits[0].quotas: windows of 1 ms and"), "{error}");
    // A limit of the code has no field.
    let code = RateLimitLayer::builder().limit(Limit::per(Global).name("client")).config(policy());
    assert_eq!(code.build().unwrap_err(), ConfigError::NoQuota);
}

#[test]
fn a_ban_has_a_line_and_a_field() {
    let text = "client  client-ip  10/s  absolute  enforce\n  ban  20 in 1h for 1d\n  /a  1/s\n";
    let config: RateLimitConfig = text.parse().unwrap();
    assert_eq!(config.limits[0].ban, Some(Ban::after(20).within(HOUR).lasting(24 * HOUR)));
    let layer = RateLimitLayer::from_config(config.clone()).unwrap();
    assert_eq!(layer.to_string().parse::<RateLimitConfig>().unwrap().limits, config.limits);
    for (new, want) in
        [("often", "line 2: \"often\" is not a ban; write"), ("1 in 1h for 1d\n  ban  manual for 1h", "line 3: ")]
    {
        let error = text.replace("20 in 1h for 1d", new).parse::<RateLimitConfig>().unwrap_err();
        assert!(error.to_string().starts_with(want), "{error}");
    }
    let file = "[[limits]]\nquotas = \"1/s\"\nban = \"often\"";
    let error = toml::from_str::<RateLimitConfig>(file).unwrap_err().to_string();
    assert!(error.contains("line 3") && error.contains("is not a ban"), "{error}");
    let mut invalid = config;
    invalid.limits[0].ban = Some(Ban::after(0));
    let error = RateLimitLayer::from_config(invalid).unwrap_err();
    assert!(error.to_string().starts_with("limits[0].ban: \"0 in 10min for 10min\" is not a ban"), "{error}");
}

#[test]
fn a_meter_has_a_line_and_a_field() {
    let text = "client  client-ip  10/s  absolute  enforce\n  meter  bytes\n  at-limit  finish within 5\n";
    let config: RateLimitConfig = text.parse().unwrap();
    assert_eq!(config.limits[0].at_limit, Some(AtLimit::Finish { at_most: 5 }));
    let layer = RateLimitLayer::from_config(config.clone()).unwrap();
    assert_eq!(layer.to_string().parse::<RateLimitConfig>().unwrap().limits, config.limits);
    for (old, new, want) in [
        ("bytes", "tokens", "line 2: "),
        ("bytes", "(code)", "line 2: \"(code)\" is code"),
        ("bytes", "bytes\n  meter  bytes", "line 3: "),
        ("finish within 5", "finish within many", "line 3: "),
        ("finish within 5", "slow\n  at-limit  slow", "line 4: "),
    ] {
        let error = text.replace(old, new).parse::<RateLimitConfig>().unwrap_err().to_string();
        assert!(error.starts_with(want), "{error}");
    }
    let file = "[[limits]]\nquotas = \"1/s\"\nmeter = \"bytes\"\nat_limit = \"fast\"";
    let error = toml::from_str::<RateLimitConfig>(file).unwrap_err().to_string();
    assert!(error.contains("line 4"), "{error}");
    let mut alone = config;
    alone.limits[0].meter = None;
    let error = RateLimitLayer::from_config(alone).unwrap_err().to_string();
    assert!(error.starts_with("limits[0].at_limit: the limit \"client\" has .at_limit(..) and no meter"), "{error}");
}
