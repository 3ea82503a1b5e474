//! Notices about mistakes that only traffic shows: the program logs each mistake once, and logs nothing without one.
//!
//! A process logs a notice once, so each case runs in a process of its own. The test starts this program again, with the
//! case in an environment variable, and compares the codes in the output.
#![cfg(feature = "middleware")]
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::env;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_weir::key::{Cookie, Extension, Header, MissingKey, RequestView};
use tower_weir::telemetry::Notice;
use tower_weir::{ClientIp, Global, Limit, ManualClock, Quota, RateLimitLayer, RateLimitLayerBuilder, RateLimiter};

/// The case to run.
const CASE: &str = "TOWER_WEIR_CASE";
/// The code of a notice to silence in it.
const SILENCED: &str = "TOWER_WEIR_SILENCED";
/// A text in every request. No log line contains it.
const SECRET: &str = "hunter2";

fn builder() -> RateLimitLayerBuilder {
    RateLimitLayer::builder().quota("1000000/min".parse().unwrap())
}

fn limiter() -> RateLimiter {
    RateLimiter::builder().clock(ManualClock::new()).build().unwrap()
}

fn request(peer: &str, headers: &[(&str, &str)]) -> Request<()> {
    let peer: IpAddr = peer.parse().unwrap();
    let request = Request::get("/").extension(SocketAddr::new(peer, 4_000)).header("authorization", SECRET);
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
}

/// Sends requests through a layer, whatever the answers.
fn send(builder: RateLimitLayerBuilder, requests: impl IntoIterator<Item = Request<()>>) {
    let hello = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
    let service = builder.build().unwrap().layer(hello);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for request in requests {
        runtime.block_on(service.clone().oneshot(request)).unwrap();
    }
}

/// A limit that refuses every request.
fn refusing() -> RateLimitLayerBuilder {
    RateLimitLayer::builder().quota(Quota::reject_all()).key(Global)
}

const XFF: &str = "x-forwarded-for";

fn clients(n: u32) -> impl Iterator<Item = String> + Clone {
    (0..n).map(|n| IpAddr::from((0xcb00_7100 + n).to_be_bytes()).to_string())
}

fn from_a_proxy(key: ClientIp, headers: &[(&str, &str)]) {
    send(builder().key(key), (0..2_000).map(|_| request("10.0.0.7", headers)));
}

fn behind() -> ClientIp {
    ClientIp::behind(["10.0.0.0/8"]).unwrap()
}

fn by_header(key: Header, clients: u32) {
    let value = |n: u32| format!("{SECRET}-{}", n % clients);
    send(builder().key(key), (0..10_000).map(|n| request("192.0.2.1", &[("x-client", &value(n))])));
}

/// Builds limits that share a limiter and holds on to them.
fn open(limits: &[(Option<&'static str>, &str)]) {
    let rl = limiter();
    let layer = |(name, quota): &(Option<&'static str>, &str)| {
        let builder = RateLimitLayer::builder().quota(quota.parse().unwrap()).limiter(rl.local());
        name.iter().fold(builder, |builder, name| builder.name(*name)).build().unwrap()
    };
    drop(limits.iter().map(layer).collect::<Vec<_>>());
}

type Case = (&'static str, fn());

/// What is wrong, each with the notice that tells it.
const WRONG: &[(Notice, Case)] = &[
    (
        Notice::KeysFull,
        ("more clients than keys", || {
            let rl = RateLimiter::builder().clock(ManualClock::new()).max_keys(3).build().unwrap();
            send(builder().limiter(rl.local()), clients(9).map(|client: String| request(&client, &[])));
        }),
    ),
    (Notice::MissingPeerAddress, ("no peer", || send(builder(), (0..9).map(|_| Request::new(()))))),
    (Notice::UnusableProxyHeader, ("no address", || from_a_proxy(behind(), &[(XFF, "unknown")]))),
    (Notice::UnusableProxyHeader, ("another header", || from_a_proxy(behind(), &[("forwarded", "for=203.0.113.9")]))),
    (Notice::UnusableProxyHeader, ("a proxy's socket", || from_a_proxy(behind(), &[(XFF, "203.0.113.9, unix:")]))),
    (Notice::SharedPrivatePeer, ("a proxy that forgets the header", || from_a_proxy(behind(), &[]))),
    (
        Notice::KeyFunctionFindsNone,
        ("a function outside the authentication", || {
            let user = |req: &tower_weir::key::RequestView<'_>| req.extensions().get::<u64>().copied();
            send(builder().key_fn(user), (0..100).map(|_| request("192.0.2.1", &[])));
        }),
    ),
    (
        Notice::MissingKey,
        ("no extension", || {
            send(builder().key(Extension::<u64>::new()), (0..9).map(|_| request("192.0.2.1", &[])));
        }),
    ),
    (
        Notice::MissingKey,
        ("failing lookup", || {
            let down = |_: &tower_weir::key::RequestView<'_>| async {
                Err::<u64, _>(MissingKey::server_fault("the accounts are down"))
            };
            send(builder().key_lookup(down), (0..9).map(|_| request("192.0.2.1", &[])));
        }),
    ),
    (Notice::UntrustedForwardingHeader, ("list", || from_a_proxy(ClientIp::peer(), &[(XFF, "203.0.113.9")]))),
    (Notice::UntrustedForwardingHeader, ("standard", || from_a_proxy(ClientIp::hops(0), &[("forwarded", "for=x")]))),
    (
        Notice::UntrustedForwardingHeader,
        ("cdn", || {
            let clients = clients(5).cycle().take(2_000);
            send(builder(), clients.map(|client: String| request(&client, &[(XFF, "203.0.113.9")])));
        }),
    ),
    (
        Notice::UntrustedForwardingHeader,
        ("joined key", || {
            send(builder().key((Global, ClientIp::peer())), [request("127.0.0.1", &[(XFF, "203.0.113.9")])]);
        }),
    ),
    (
        Notice::UntrustedForwardingHeader,
        ("exempt proxy", || {
            let builder = builder().exempt_networks(ClientIp::peer(), ["10.0.0.0/8"]);
            send(builder, [request("10.0.0.7", &[(XFF, "203.0.113.9")])]);
        }),
    ),
    (
        Notice::UntrustedForwardingHeader,
        ("deny list by the proxy's address", || {
            let builder = builder().key(Global).deny_networks(ClientIp::peer(), ["192.0.2.0/24"]);
            send(builder, [request("10.0.0.7", &[(XFF, "203.0.113.9")])]);
        }),
    ),
    (Notice::SharedPrivatePeer, ("private peer", || from_a_proxy(ClientIp::peer(), &[]))),
    (Notice::HeaderValuePerRequest, ("new values", || by_header(Header::new("x-client"), 10_000))),
    (Notice::SharedLimitName, ("unnamed", || open(&[(None, "10/s"), (None, "10/s"), (None, "10/s")]))),
    (Notice::SharedLimitName, ("other quotas", || open(&[(Some("api"), "10/s"), (Some("api"), "20/s")]))),
    (
        Notice::SharedLimitName,
        ("other strategies", || {
            let rl = limiter();
            let layer = || builder().name("api").limiter(rl.local());
            drop([layer().build().unwrap(), layer().suppressed(1.5).build().unwrap()]);
        }),
    ),
    (
        Notice::UnsupportedQuotas,
        ("a window shorter than a bucket", || {
            let limit = Limit::per(Global).quota_fn(|_| Quota::new(9, Duration::from_millis(1)).unwrap());
            send(RateLimitLayer::builder().limit(limit), (0..9).map(|_| request("192.0.2.1", &[])));
        }),
    ),
    (
        Notice::QuotaLookupFailed,
        ("a source of quotas that is down", || {
            let limit = Limit::per(Global).quota_lookup(|_| async { Err::<Quota, _>(SECRET) });
            send(RateLimitLayer::builder().limit(limit), (0..9).map(|_| request("192.0.2.1", &[])));
        }),
    ),
    (
        Notice::LayerPerRequest,
        ("in the handler", || {
            for _ in 0..10_001 {
                drop(RateLimitLayer::per_minute(60));
            }
        }),
    ),
    (Notice::CoarseBuckets, ("coarse quota", || open(&[(Some("fast"), "10/50ms")]))),
    (
        Notice::CoarseBuckets,
        ("coarse rate", || {
            drop(
                RateLimiter::builder()
                    .window_size_seconds(1.try_into().unwrap())
                    .rate_group_size_ms(200.try_into().unwrap())
                    .build()
                    .unwrap(),
            );
        }),
    ),
    (
        Notice::UnreadBody,
        ("an upload of a body that the layer cannot read", || {
            let upload = |_| request("192.0.2.1", &[("content-length", "8000000")]);
            send(refusing(), (0..9).map(upload));
        }),
    ),
    (
        Notice::UnreadBody,
        ("a chunked upload of such a body", || {
            send(refusing(), (0..9).map(|_| request("192.0.2.1", &[("transfer-encoding", "chunked")])));
        }),
    ),
];

/// What is right, though it looks a little like the wrong.
const RIGHT: &[Case] = &[
    ("trusted proxy", || {
        from_a_proxy(behind(), &[(XFF, "203.0.113.9")]);
        from_a_proxy(ClientIp::hops(1), &[(XFF, "203.0.113.9")]);
    }),
    ("health checks", || {
        let headers = |n: usize| if n.is_multiple_of(2) { &[] } else { &[(XFF, "203.0.113.9")][..] };
        send(builder().key(behind()), (0..2_000).map(|n| request("10.0.0.7", headers(n))));
        send(builder().key(behind()), (0..900).map(|_| request("10.0.0.7", &[])));
    }),
    ("exempt health checks", || {
        let builder = builder().exempt_networks(ClientIp::peer(), ["10.0.0.0/8"]);
        send(builder, (0..2_000).map(|_| request("10.0.0.7", &[])));
    }),
    ("quotas that change", || {
        let layer = builder().build().unwrap();
        layer.control().update(builder().quotas(["7/s"])).unwrap();
        let choose = |req: &RequestView<'_>| Quota::per_second(req.headers().len() as u64 + 1).unwrap();
        let limit = Limit::per(Global).quota_fn(choose);
        let headers = |n: usize| &[(XFF, "203.0.113.9"), ("x-client", "a")][..n % 3];
        send(RateLimitLayer::builder().limit(limit), (0..9).map(|n| request("192.0.2.1", headers(n))));
    }),
    ("a metered limit", || {
        let (metered, cap) = (Limit::per(Global).quota("9/s").meter_bytes(), Limit::per(Global).in_flight(4));
        send(RateLimitLayer::builder().limit(metered).limit(cap.name("cap")), []);
    }),
    ("a function that finds some", || {
        let user = |req: &tower_weir::key::RequestView<'_>| req.headers().get("x-user").cloned();
        let headers = |n: usize| if n == 99 { &[("x-user", "7")][..] } else { &[] };
        send(builder().key_fn(user), (0..500).map(|n| request("192.0.2.1", headers(n))));
    }),
    ("direct clients", || send(builder(), clients(2_000).map(|client| request(&client, &[])))),
    ("a busy client", || send(builder(), (0..2_000).map(|_| request("203.0.113.9", &[])))),
    ("some invent a header", || {
        let headers = |n: usize| if n.is_multiple_of(4) { &[(XFF, "6.6.6.6")][..] } else { &[] };
        send(builder(), clients(2_000).enumerate().map(|(n, client)| request(&client, headers(n))));
    }),
    ("a network of clients", || {
        let peer = |n: u32| format!("10.0.0.{}", n % 3);
        send(builder(), (0..2_000).map(|n| request(&peer(n), &[])));
    }),
    ("a few from a private peer", || send(builder(), (0..900).map(|_| request("127.0.0.1", &[])))),
    ("another key than the peer", || {
        send(builder().key(Global), (0..2_000).map(|_| request("10.0.0.7", &[(XFF, "x")])));
    }),
    ("values that repeat", || by_header(Header::new("x-client"), 3_000)),
    ("values that are hashed", || by_header(Header::new("x-client").hashed(), 10_000)),
    ("a client's missing key", || send(builder().key(Cookie::new("session")), [request("192.0.2.1", &[])])),
    ("one budget behind two layers", || open(&[(Some("api"), "10/s"), (Some("api"), "10/s")])),
    ("names of their own", || open(&[(None, "10/s"), (Some("api"), "20/s"), (Some("login"), "5/s")])),
    ("rebuilt with other quotas", || {
        let rl = limiter();
        for quota in ["10/s", "20/s", "20/s"] {
            drop(RateLimitLayer::builder().quota(quota.parse::<Quota>().unwrap()).limiter(rl.local()).build().unwrap());
        }
    }),
    ("as many clients as keys", || {
        let rl = RateLimiter::builder().clock(ManualClock::new()).max_keys(9).build().unwrap();
        send(builder().limiter(rl.local()), clients(9).chain(clients(9)).map(|client: String| request(&client, &[])));
    }),
    ("buckets of a tenth", || {
        let buckets = |ms: u64| RateLimiter::builder().rate_group_size_ms(ms.try_into().unwrap());
        let rl = buckets(100).window_size_seconds(1.try_into().unwrap()).build().unwrap();
        drop(RateLimitLayer::builder().quota("10/s".parse().unwrap()).limiter(rl.local()).build().unwrap());
    }),
    ("refusals without a body", || {
        send(refusing(), (0..9).map(|_| request("192.0.2.1", &[])));
        send(refusing(), (0..9).map(|_| request("192.0.2.1", &[("content-length", "0")])));
    }),
    ("stores of their own", || drop([RateLimitLayer::per_minute(60), RateLimitLayer::per_second(1)])),
    ("a suite of tests", || (0..9_999).for_each(|_| drop(RateLimitLayer::per_minute(60)))),
    ("clones of a layer", || {
        let layer = RateLimitLayer::per_minute(60);
        (0..20_000).for_each(|_| drop(layer.clone().layer(())));
    }),
];

/// Not a test of its own: the process in which a case runs.
#[test]
fn case() {
    let Ok(name) = env::var(CASE) else { return };
    log::listen();
    let wrong = WRONG.iter().map(|(_, case)| case);
    let (_, run) = wrong.chain(RIGHT).find(|(it, _)| *it == name).unwrap();
    let silenced = env::var(SILENCED).unwrap_or_default();
    WRONG.iter().filter(|(notice, _)| silenced == notice.code()).for_each(|(notice, _)| notice.silence());
    run();
}

/// The lines that a case writes to the log.
fn told(case: &str, silenced: Option<Notice>) -> Vec<String> {
    let mut process = Command::new(env::current_exe().unwrap());
    process.args(["notices::case", "--exact", "--nocapture"]).env(CASE, case);
    process.envs(silenced.map(|notice| (SILENCED, notice.code())));
    let output = process.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{case}: {text}");
    text.lines().filter(|line| line.contains("tower-weir")).map(str::to_owned).collect()
}

#[test]
fn what_is_wrong_is_told_once_with_the_fix_and_without_keys() {
    for (notice, (case, _)) in WRONG {
        let [line] = &told(case, None)[..] else { panic!("{case}: {:?}", told(case, None)) };
        assert!(line.contains(&format!("[{}]", notice.code())), "{case}: {line}");
        assert!(line.contains(&notice.to_string()), "{case}: {line}");
        assert!(line.contains(&format!("`Notice::{notice:?}.silence()`")), "{case}: {line}");
        for hidden in [SECRET, "10.0.0.7", "203.0.113", "127.0.0.1", "192.0.2.1"] {
            assert!(!line.contains(hidden), "{case} shows {hidden}: {line}");
        }
        let errors =
            [Notice::MissingPeerAddress, Notice::UnusableProxyHeader, Notice::MissingKey, Notice::QuotaLookupFailed];
        let is_error = errors.contains(notice);
        assert_eq!((line.contains(" error "), line.contains(" warning ")), (is_error, !is_error), "{line}");
    }
}

/// The operator reads which entry it was, and what cures it.
#[test]
fn a_unix_socket_in_the_list_is_named() {
    let lines = told("a proxy's socket", None);
    assert!(lines[0].contains("`unix:`") && lines[0].contains("`set_real_ip_from unix:`"), "{lines:?}");
    let lines = told("no address", None);
    assert!(!lines[0].contains("`unix:`"), "{lines:?}");
}

/// `into_make_service_with_connect_info::<SocketAddr>` does not compile for a Unix listener.
#[test]
fn the_notice_about_peers_names_unix_sockets() {
    let lines = told("no peer", None);
    assert!(lines[0].contains("`ClientIp::behind([\"unix:\"])`") && lines[0].contains("`Global`"), "{lines:?}");
}

#[test]
fn what_is_silenced_by_name_is_not_told() {
    for (n, (notice, (case, _))) in WRONG.iter().enumerate() {
        assert_eq!(told(case, Some(*notice)), [""; 0], "{case}");
        let (other, _) = WRONG.iter().cycle().skip(n).find(|(other, _)| other != notice).unwrap();
        assert_eq!(told(case, Some(*other)).len(), 1, "{case}: silence about {other:?} is about nothing else");
    }
}

#[test]
fn what_is_right_is_not_told() {
    for (case, _) in RIGHT {
        assert_eq!(told(case, None), [""; 0], "{case}");
    }
}

#[test]
fn every_notice_has_a_case_and_a_code_of_its_own() {
    let mut codes: Vec<_> = WRONG.iter().map(|(notice, _)| notice.code()).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), 14, "{codes:?}");
}

/// What goes to `tracing` is written to standard error, in the form in which it goes there without.
#[cfg(feature = "tracing")]
mod log {
    use std::fmt;

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    pub(super) fn listen() {
        tracing::subscriber::set_global_default(Stderr).unwrap();
    }

    struct Stderr;

    impl Subscriber for Stderr {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "tower_weir"
        }

        fn event(&self, event: &Event<'_>) {
            let level = if *event.metadata().level() == Level::ERROR { "error" } else { "warning" };
            let mut text = Text::default();
            event.record(&mut text);
            eprintln!("tower-weir: {level} [{}]: {}", text.code, text.message);
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[derive(Default)]
    struct Text {
        code: String,
        message: String,
    }

    impl Visit for Text {
        fn record_str(&mut self, field: &Field, value: &str) {
            assert_eq!(field.name(), "code");
            value.clone_into(&mut self.code);
        }

        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            assert_eq!(field.name(), "message");
            self.message = format!("{value:?}");
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod log {
    pub(super) fn listen() {}
}
