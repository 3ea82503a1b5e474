//! Bans: after many refusals a key is refused for a time, and programs begin and end bans.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use http::Request;
use proptest::prelude::*;
use tower::ServiceExt;
use tower_weir::layer::RateLimitHandle;
use tower_weir::response::{RateLimitHeaders, RefusalReason};
use tower_weir::{Ban, ConfigError, Global, Limit, RateLimitLayer, StoreErrorKind};

use crate::limits::{app, ask, builder, client};
use crate::support::http::{retry_after, within};

async fn outcome(app: &Router, who: &str) -> (u16, Option<u64>) {
    let response = ask(app, who).await;
    (response.status().as_u16(), retry_after(&response))
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_key_is_refused_for_the_time_after_so_many_refusals_and_then_starts_again() {
    let (builder, clock) = builder();
    let app = app(&builder.limit(client().quota("1/10s").ban("3 in 1min for 1h")).build().unwrap());
    for _ in 0..2 {
        assert_eq!(outcome(&app, "a").await, (200, None));
        for _ in 0..2 {
            assert_eq!(outcome(&app, "a").await, (429, Some(11)), "it is not banned yet");
        }
        assert_eq!(outcome(&app, "a").await, (429, Some(3_601)), "the third refusal begins the ban");
        assert_eq!(outcome(&app, "b").await.0, 200, "another key is not concerned");
        clock.advance(5 * SECOND);
        for _ in 0..9 {
            assert_eq!(outcome(&app, "a").await, (429, Some(3_596)), "refusals during a ban do not prolong it");
        }
        clock.advance(1_795 * SECOND);
        assert_eq!(outcome(&app, "a").await, (429, Some(1_801)), "the limit has room, and the ban stands");
        clock.advance(1_800 * SECOND);
        assert_eq!(outcome(&app, "a").await, (429, Some(1)));
        clock.advance(SECOND);
    }
    for _ in 0..30 {
        assert_eq!(outcome(&app, "a").await, (200, None), "who stays within the limit is never banned");
        clock.advance(11 * SECOND);
    }
}

/// The refusals are spread, so that never three of them are in the window.
#[tokio::test]
async fn refusals_outside_the_window_do_not_count() {
    let (builder, clock) = builder();
    let app = app(&builder.limit(client().quota("1/h").ban("3 in 1min for 1h")).build().unwrap());
    assert_eq!(outcome(&app, "a").await.0, 200);
    for _ in 0..100 {
        clock.advance(31 * SECOND);
        assert!(outcome(&app, "a").await.1 < Some(3_600));
    }
    assert_eq!(outcome(&app, "a").await, (429, Some(3_601)), "the third within a minute");
}

#[tokio::test]
async fn the_answer_to_a_banned_client_names_the_ban() {
    let (builder, _) = builder();
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&reasons);
    let layer = builder
        .limit(client().quota("1/h").ban("1 in 1min for 2h"))
        .headers(RateLimitHeaders::Draft8)
        .on_refusal(move |refusal| {
            seen.lock().unwrap().push((refusal.reason(), refusal.policy().name().to_owned()));
            refusal.response().clone()
        })
        .build()
        .unwrap();
    let app = app(&layer);
    let admitted = ask(&app, "a").await;
    assert_eq!(admitted.headers().get_all("ratelimit").iter().count(), 1, "an admission does not mention the ban");
    for _ in 0..2 {
        let refused = ask(&app, "a").await;
        let fields: Vec<_> = refused.headers().get_all("ratelimit").iter().map(|it| it.to_str().unwrap()).collect();
        assert_eq!(fields.first(), Some(&"\"client:ban\";r=0;t=7201"), "{fields:?}");
    }
    let banned = (RefusalReason::Banned, "client:ban".to_owned());
    assert_eq!(*reasons.lock().unwrap(), [banned.clone(), banned]);
}

/// The other limits are charged nothing for a banned client, and a limit that does not refuse counts nothing.
#[tokio::test]
async fn a_ban_is_that_of_the_limit_that_refused() {
    let (builder, clock) = builder();
    let layer = builder
        .limit(client().quota("2/min").ban("2 in 1min for 10min"))
        .limit(Limit::per(Global).quota("6/h").name("service").ban("1000 in 1h for 1h"))
        .build()
        .unwrap();
    let app = app(&layer);
    for _ in 0..20 {
        ask(&app, "greedy").await;
    }
    let control = layer.control();
    let used = control.limit("service").unwrap().global().usage().await.unwrap().unwrap().used();
    assert_eq!(used, 2, "a banned client takes no room from others");
    for who in ["a", "b"] {
        assert_eq!([outcome(&app, who).await.0, outcome(&app, who).await.0], [200; 2]);
    }
    // Only the service refuses now, so the client gets no strike.
    for _ in 0..10 {
        assert_eq!(outcome(&app, "c").await.0, 429);
    }
    assert_eq!(control.limit("client").unwrap().key("c").blocked_for().await.unwrap(), None);
    clock.advance(3_601 * SECOND);
    assert_eq!(outcome(&app, "c").await.0, 200);
}

/// A limit in shadow counts its refusals and begins bans, and refuses nothing.
#[tokio::test]
async fn a_ban_of_a_limit_in_shadow_refuses_nothing() {
    let (builder, _) = builder();
    let layer = builder.limit(client().quota("1/h").ban("3 in 1min for 2h").shadow()).build().unwrap();
    let (app, limit) = (app(&layer), layer.control().limit("client").unwrap());
    for _ in 0..9 {
        assert_eq!(outcome(&app, "a").await, (200, None));
    }
    assert!(limit.key("a").blocked_for().await.unwrap() > Some(7_000 * SECOND));
    limit.enforce();
    assert_eq!(outcome(&app, "a").await, (429, Some(7_201)));
}

#[tokio::test]
async fn a_program_begins_and_ends_bans() {
    let (builder, clock) = builder();
    let layer = builder.limit(client().quota("5/h").ban("3 in 1h for 1d")).build().unwrap();
    let (app, limit) = (app(&layer), layer.control().limit("client").unwrap());
    let (a, minute) = (limit.key("a"), 60 * SECOND);
    assert_eq!(a.blocked_for().await.unwrap(), None);
    a.block(minute).await.unwrap();
    assert_eq!(outcome(&app, "a").await, (429, Some(61)));
    assert_eq!(a.usage().await.unwrap().unwrap().used(), 0, "a ban is not usage");
    a.block(2 * minute).await.unwrap();
    assert_eq!(outcome(&app, "a").await, (429, Some(121)), "the newest ban counts");
    clock.advance(minute);
    assert_eq!(outcome(&app, "a").await, (429, Some(61)));
    clock.advance(minute);
    clock.advance(SECOND);
    assert_eq!(outcome(&app, "a").await.0, 200);
    for end in ["unblock", "reset", "zero"] {
        a.block(1_440 * minute).await.unwrap();
        assert_eq!(outcome(&app, "a").await, (429, Some(86_401)));
        match end {
            "unblock" => a.unblock().await.unwrap(),
            "reset" => a.reset().await.unwrap(),
            _ => a.block(Duration::ZERO).await.unwrap(),
        }
        assert_eq!(outcome(&app, "a").await.0, 200, "{end}");
    }
    let error = a.block(1_441 * minute).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NotConfigured);
    assert!(error.to_string().contains("86400s"), "{error}");
}

/// Two refusals before the end of a ban do not count after it.
#[tokio::test]
async fn the_end_of_a_ban_forgets_the_refusals() {
    let (builder, clock) = builder();
    let layer = builder.limit(client().quota("1/10s").ban("3 in 1h for 1d")).build().unwrap();
    let (app, a) = (app(&layer), layer.control().limit("client").unwrap().key("a"));
    let refuse_twice = async || {
        assert_eq!(outcome(&app, "a").await.0, 200);
        for _ in 0..2 {
            assert_eq!(outcome(&app, "a").await, (429, Some(11)));
        }
        clock.advance(11 * SECOND);
    };
    for _ in 0..3 {
        refuse_twice().await;
        a.unblock().await.unwrap();
    }
    refuse_twice().await;
    a.block(SECOND).await.unwrap();
    clock.advance(2 * SECOND);
    refuse_twice().await;
}

#[tokio::test]
async fn a_handler_counts_refusals_and_bans() {
    let (builder, clock) = builder();
    let login = async |limits: RateLimitHandle, request: Request<Body>| -> String {
        match request.uri().path() {
            "/wrong" => format!("{:?}", limits.penalise("client", 1).await.unwrap()),
            "/attack" => format!("{:?}", limits.penalise("client", 5).await.unwrap()),
            "/bot" => format!("{:?}", limits.block("client", 30 * SECOND).await.unwrap()),
            "/right" => format!("{:?}", limits.reset("client").await.unwrap()),
            _ => "none".to_owned(),
        }
    };
    let layer = builder.limit(client().quota("100/h").ban("3 in 1h for 1d")).handle(true).build().unwrap();
    let app = Router::new().fallback(any(login)).layer(layer);
    let get = async |path: &str| {
        let request = Request::get(path).header("x-client", "a").body(Body::empty()).unwrap();
        let response = within(app.clone().oneshot(request)).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 4_096).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    for _ in 0..4 {
        assert_eq!(get("/wrong").await, (200, "None".to_owned()));
        assert_eq!(get("/wrong").await, (200, "None".to_owned()));
        assert_eq!(get("/right").await, (200, "()".to_owned()), "a success clears");
    }
    for _ in 0..2 {
        get("/wrong").await;
    }
    assert_eq!(get("/wrong").await, (200, "Some(86400.01s)".to_owned()));
    assert_eq!(get("/").await.0, 429);
    clock.advance(86_401 * SECOND);
    assert_eq!(get("/attack").await, (200, "Some(86400.01s)".to_owned()), "more refusals than the ban needs");
    clock.advance(86_401 * SECOND);
    assert_eq!(get("/bot").await.0, 200);
    assert_eq!(get("/").await.0, 429);
    clock.advance(31 * SECOND);
    assert_eq!(get("/").await.0, 200);
}

#[tokio::test]
async fn calls_for_a_limit_without_a_ban_are_errors() {
    let (builder, _) = builder();
    let manual = Limit::per(Global).quota("9/h").name("manual").ban(Ban::manual());
    let layer = builder.limit(client().quota("5/h")).limit(manual).handle(true).build().unwrap();
    let key = layer.control().limit("client").unwrap().key("a");
    for error in [key.block(SECOND).await.unwrap_err(), key.unblock().await.unwrap_err()] {
        assert_eq!(error.kind(), StoreErrorKind::NotConfigured);
        assert!(error.to_string().contains("write .ban("), "{error}");
    }
    assert!(key.blocked_for().await.is_err());
    key.reset().await.unwrap();
    let handler = async |limits: RateLimitHandle| {
        let kinds = [limits.penalise("client", 1).await, limits.penalise("manual", 1).await];
        assert!(kinds.iter().all(|it| it.as_ref().is_err_and(|error| error.kind() == StoreErrorKind::NotConfigured)));
        assert!(limits.block("nothing", SECOND).await.is_err());
        limits.block("manual", SECOND).await.unwrap();
    };
    let app = Router::new().fallback(any(handler)).layer(layer);
    assert_eq!([outcome(&app, "a").await.0, outcome(&app, "a").await.0], [200, 429]);
}

#[test]
fn a_ban_that_cannot_be_is_an_error() {
    let with = |limit: Limit| builder().0.limit(limit).build().map(drop);
    let error = with(client().quota("1/s").ban("often")).unwrap_err();
    assert_eq!(error, ConfigError::InvalidBan("often".into()));
    assert!(matches!(with(client().quota("1/s").ban(Ban::after(0))), Err(ConfigError::InvalidBan(_))));
    assert!(matches!(
        with(client().quota("1/s").ban(Ban::manual().lasting(Duration::MAX))),
        Err(ConfigError::WindowTooLong { .. })
    ));
    let taken = builder().0.limit(client().quota("1/s").ban("1 in 1s for 1s"));
    let error = taken.limit(Limit::per(Global).quota("1/s").name("client:ban")).build().unwrap_err();
    assert_eq!(error, ConfigError::DuplicateLimitName("client:ban".into()));
    let many = (0..5).fold(builder().0, |builder, n| {
        builder.limit(Limit::per(Global).quota("1/s").name(format!("limit{n}")).ban("1 in 1s for 1s"))
    });
    assert_eq!(many.build().unwrap_err(), ConfigError::TooManyLimits { most: 8 });
    // The layer's own store has other buckets for a long ban.
    let layer = RateLimitLayer::builder().limit(client().quota("100/100ms").ban("20 in 1h for 30d"));
    assert!(layer.build().is_ok());
}

#[tokio::test]
async fn a_ban_survives_an_update() {
    let own = RateLimitLayer::builder().limit(client().quota("5/h").ban("3 in 1h for 1d")).build().unwrap();
    let (given, _) = builder();
    let given = given.limit(client().quota("5/h").ban("3 in 1h for 1d")).build().unwrap();
    for layer in [own, given] {
        let (app, control) = (app(&layer), layer.control());
        control.limit("client").unwrap().key("a").block(3_600 * SECOND).await.unwrap();
        control.update(RateLimitLayer::builder().limit(client().quota("9/min").ban("2 in 1h for 1d"))).unwrap();
        assert_eq!(outcome(&app, "a").await.0, 429);
        assert_eq!(outcome(&app, "b").await.0, 200);
    }
}

/// A limit with a ban as lists of ticks.
#[derive(Default)]
struct Naive {
    charges: Vec<u64>,
    strikes: Vec<u64>,
    ban: Option<u64>,
}

/// Units for (2/100ms), strikes (3 in 300ms) and bans (400ms), in ticks of 10 ms.
const SPANS: [u64; 3] = [10, 30, 40];

impl Naive {
    /// Whether a request is admitted, and its wait in ticks.
    fn ask(&mut self, now: u64) -> Result<(), u64> {
        let live = |list: &[u64], span: u64| list.iter().filter(|tick| now - **tick <= span).count();
        if let Some(ban) = self.ban.filter(|ban| now - ban <= SPANS[2]) {
            return Err(ban + SPANS[2] + 1 - now);
        }
        if live(&self.charges, SPANS[0]) < 2 {
            self.charges.push(now);
            return Ok(());
        }
        self.strikes.push(now);
        if live(&self.strikes, SPANS[1]) >= 3 {
            self.strikes.clear();
            self.ban = Some(now);
            return Err(SPANS[2] + 1);
        }
        Err(self.charges[self.charges.len() - 2] + SPANS[0] + 1 - now)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Verdicts and waits equal those of the lists, for two keys that are asked in turn.
    #[test]
    fn a_ban_equals_the_naive_lists(steps in prop::collection::vec((proptest::bool::ANY, 0_u64..12), 1..150)) {
        let (builder, clock) = builder();
        let waits = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&waits);
        let layer = builder.limit(client().quota("2/100ms").ban("3 in 300ms for 400ms")).on_refusal(move |refusal| {
            *seen.lock().unwrap() = refusal.decision().and_then(tower_weir::Decision::retry_after);
            refusal.response().clone()
        });
        let app = app(&layer.build().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (mut keys, mut now) = ([Naive::default(), Naive::default()], 0);
        for (second, pause) in steps {
            clock.advance(Duration::from_millis(10 * pause));
            now += pause;
            let want = keys[usize::from(second)].ask(now);
            let status = runtime.block_on(outcome(&app, if second { "b" } else { "a" })).0;
            prop_assert_eq!(status, if want.is_ok() { 200 } else { 429 });
            if let Err(ticks) = want {
                prop_assert_eq!(waits.lock().unwrap().take(), Some(Duration::from_millis(10 * ticks)));
            }
        }
    }
}
