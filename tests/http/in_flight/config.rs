//! Mistakes in the code and in policies as data.

use std::time::Duration;

use tower_weir::key::Header;
use tower_weir::store::BudgetResponse;
use tower_weir::{ConfigError, Decision, Global, Limit, PermitTtl, RateLimitConfig, RateLimitLayer};

use crate::support::probe::Always;

fn error(limit: Limit) -> ConfigError {
    RateLimitLayer::builder().limit(limit).build().unwrap_err()
}

#[test]
fn a_mistake_has_an_error_that_says_what_to_write() {
    let cap = || Limit::per(Global).in_flight(4);
    for (limit, want) in [
        (Limit::per(Global).in_flight(0), "a cap of 0 requests in flight is not possible; write 1 to 549755813888"),
        (Limit::per(Global).in_flight(1 << 40), "a cap of 1099511627776 requests in flight is not possible"),
        (cap().quota("1/s"), "the limit \"default\" has a cap and quotas; write a limit of its own for each"),
        (cap().routes([("/a", "1/s")]), "the limit \"default\" has a cap and quotas"),
        (cap().quota_fn(|_| tower_weir::Quotas::BLOCKED), "the limit \"default\" has a cap and quotas"),
        (
            cap().suppressed(1.2),
            "the limit \"default\" has a cap, which cannot be suppressed; leave out .suppressed(..)",
        ),
        (cap().cost(|_| 2), "the limit \"default\" has a cap, which counts each request once; leave out the cost"),
        (cap().costs([("/a", 2)]), "the limit \"default\" has a cap, which counts each request once"),
        (cap().settle(|_, _| {}), "the limit \"default\" has a cap, which counts a request until its end"),
        (cap().settle_at_end(|_, _| {}), "the limit \"default\" has a cap, which counts a request until its end"),
        (
            Limit::per(Global).quota("1/s").permit_ttl(Duration::from_secs(9)),
            "the limit \"default\" has a permit_ttl and no cap; write .in_flight(4)",
        ),
        (cap().permit_ttl(Duration::from_millis(999)), "999ms is not a time to live of a permit; write 1 second"),
        (cap().permit_ttl(Duration::from_secs(86_401)), "86401s is not a time to live of a permit"),
    ] {
        let error = error(limit).to_string();
        assert!(error.starts_with(want), "{error}\n{want}");
    }
    let waits = RateLimitLayer::builder().limit(cap()).wait_at_most(Duration::from_secs(1)).build().unwrap_err();
    assert!(waits.to_string().contains("write .wait_at_most(..) on a layer of its own"), "{waits}");
    let always = Always(|| BudgetResponse::Ready(Ok(Decision::allowed(1, 1))));
    let error = error(cap().limiter(always)).to_string();
    assert!(error.contains("has a cap, which its store does not support; use"), "{error}");
    // Pauses are not waits, and the functions of the layer are for its other limits.
    let rest = RateLimitLayer::builder().limit(cap()).heed_retry_after().cost(|_| 7).settle(|_, _| {});
    assert!(rest.limit(Limit::per(Global).quota("9/s").name("rate")).build().is_ok());
    let both = RateLimitLayer::builder().in_flight(4).limit(Limit::per(Global).in_flight(9).name("all")).build();
    assert_eq!(both.unwrap().control().limits().count(), 2, "the short form is a limit of its own");
}

#[test]
fn a_cap_is_printed_and_read_back() {
    let layer = RateLimitLayer::builder()
        .limit(Limit::per(Header::new("x-tenant")).in_flight(4).name("tenant").ban("20 in 1h for 1d"))
        .limit(Limit::per(Global).in_flight(90).permit_ttl(Duration::from_secs(30)).name("all").shadow())
        .build()
        .unwrap();
    let table = layer.to_string();
    assert!(table.contains("tenant        header x-tenant  4 in flight      absolute  enforce"), "{table}");
    assert!(table.contains("  permit-ttl                   30s"), "{table}");
    let config: RateLimitConfig = table.parse().unwrap();
    assert_eq!((config.limits[0].in_flight, config.limits[0].permit_ttl), (Some(4), None));
    assert_eq!(config.limits[1].in_flight, Some(90));
    assert_eq!(config.limits[1].permit_ttl, Some(PermitTtl::try_from(Duration::from_secs(30)).unwrap()));
    assert_eq!(config.to_string().parse::<RateLimitConfig>().unwrap(), config);
    assert!(RateLimitLayer::from_config(config).unwrap().to_string().starts_with(table.split("\n\n").next().unwrap()));
    for (line, want) in [
        ("a  global  0 in flight  absolute  enforce", "line 1: a cap of 0 requests in flight"),
        ("a  global  x in flight  absolute  enforce", "line 1: \"x in flight\" is not a quota"),
        ("a  global  +4 in flight  absolute  enforce", "line 1: \"+4 in flight\" is not a quota"),
        ("a  global  1/s, 4 in flight  absolute  enforce", "line 1: \"1/s, 4 in flight\" is not a quota"),
        ("a  global  4 in flight  absolute  enforce\n  permit-ttl  1ms", "line 2: 1ms is not a time to live"),
    ] {
        let error = line.parse::<RateLimitConfig>().unwrap_err().to_string();
        assert!(error.starts_with(want), "{error}");
    }
    let conflict = "a  global  4 in flight  suppressed 1.5  enforce".parse().unwrap();
    let error = RateLimitLayer::from_config(conflict).unwrap_err().to_string();
    assert!(error.starts_with("limits[0].in_flight: the limit \"a\" has a cap"), "{error}");
}

#[cfg(feature = "serde")]
#[test]
fn a_cap_is_read_from_a_file() {
    let text = "[[limits]]\nname = \"streams\"\nper = \"header x-tenant\"\nin_flight = 4\npermit_ttl = \"30s\"\n";
    let config: RateLimitConfig = toml::from_str(text).unwrap();
    let table = config.to_string();
    assert!(table.contains("4 in flight") && table.contains("permit-ttl"), "{table}");
    assert_eq!(table.parse::<RateLimitConfig>().unwrap(), config);
    assert_eq!(toml::from_str::<RateLimitConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
    RateLimitLayer::from_config(config).unwrap();
    let wrong = toml::from_str::<RateLimitConfig>(&text.replace("30s", "30ms")).unwrap_err().to_string();
    assert!(wrong.contains("30ms is not a time to live of a permit; write"), "{wrong}");
    let zero = toml::from_str(&text.replace("= 4", "= 0")).unwrap();
    let error = RateLimitLayer::from_config(zero).unwrap_err().to_string();
    assert!(error.starts_with("limits[0].in_flight: a cap of 0"), "{error}");
}
