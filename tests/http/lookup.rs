//! Keys that are looked up: what becomes of the request meanwhile, and where the lookup fails.
#![cfg(feature = "middleware")]
#![allow(clippy::unwrap_used)]

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use http::Request;
use tokio::sync::oneshot;
use tower::{Layer, Service, ServiceBuilder};
use tower_weir::key::{Header, MissingKey};
use tower_weir::layer::OnMissingKey;
use tower_weir::{Global, ManualClock, RateLimitLayer, RateLimitLayerBuilder, RateLimiter};

use crate::support::http::{retry_after, within};
use crate::support::probe::{Boom, Deferred, Probe, Reply};

fn builder(quota: &str) -> RateLimitLayerBuilder {
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    RateLimitLayer::builder().quota(quota.parse().unwrap()).limiter(rl.local())
}

fn request(headers: &[(&'static str, &'static str)]) -> Request<()> {
    let with =
        |builder: http::request::Builder, (name, value): &(&'static str, &'static str)| builder.header(*name, *value);
    headers.iter().fold(Request::get("/"), with).body(()).unwrap()
}

/// The status of the answer, and whether its `Retry-After` is as it must be.
async fn status(
    service: &mut (impl Service<Request<()>, Response = http::Response<impl Sized>, Error = Boom> + Send),
    request: Request<()>,
) -> u16 {
    within(poll_fn(|cx| service.poll_ready(cx))).await.unwrap();
    let response = within(service.call(request)).await.unwrap();
    assert_eq!(retry_after(&response).is_some(), response.status() == 429);
    response.status().as_u16()
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Accounts behind something slow: every lookup gives way once.
#[derive(Clone, Debug, Default)]
struct Accounts {
    asked: Arc<AtomicUsize>,
}

impl Accounts {
    fn of(&self, api_key: Option<String>) -> impl Future<Output = Result<u64, MissingKey>> + Send + use<> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        async move {
            tokio::task::yield_now().await;
            match api_key.as_deref() {
                Some("laptop" | "phone") => Ok(1),
                Some("other") => Ok(2),
                Some("down") => Err(MissingKey::server_fault("the accounts cannot be reached")),
                _ => Err(MissingKey::client_fault("the API key is nobody's")),
            }
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A layer's builder that looks accounts up, and the accounts.
fn by_account(builder: RateLimitLayerBuilder) -> (RateLimitLayerBuilder, Accounts) {
    let accounts = Accounts::default();
    let theirs = accounts.clone();
    let lookup = move |req: &tower_weir::key::RequestView<'_>| {
        theirs.of(req.headers().get("x-api-key").map(|value| value.to_str().unwrap().to_owned()))
    };
    (builder.key_lookup(lookup), accounts)
}

fn api_key(value: &'static str) -> Request<()> {
    request(&[("x-api-key", value)])
}

#[tokio::test]
async fn what_is_looked_up_is_the_key() {
    let (builder, accounts) = by_account(builder("2/min"));
    let (probe, log) = Probe::new(Reply::Hello);
    let mut service = builder.build().unwrap().layer(probe);
    for (key, want) in [("laptop", 200), ("phone", 200), ("laptop", 429), ("phone", 429), ("other", 200)] {
        assert_eq!(status(&mut service, api_key(key)).await, want, "{key}");
    }
    assert_eq!((log.calls(), accounts.asked()), (3, 5), "no peer address was needed");
}

#[tokio::test]
async fn a_lookup_that_fails_is_a_missing_key() {
    for (policy, client, server) in [
        (OnMissingKey::Reject, [400, 400, 400], [500, 500, 500]),
        (OnMissingKey::Allow, [200, 200, 200], [200, 200, 200]),
        // Whoever's fault it is, they all share one budget, and it is nobody else's.
        (OnMissingKey::Shared, [200, 200, 429], [429, 429, 429]),
    ] {
        let mut service =
            by_account(builder("2/min").on_missing_key(policy)).0.build().unwrap().layer(Probe::new(Reply::Hello).0);
        for (key, wants) in [("guessed", client), ("down", server)] {
            for want in wants {
                assert_eq!(status(&mut service, api_key(key)).await, want, "{policy:?} {key}");
            }
        }
        assert_eq!(status(&mut service, api_key("laptop")).await, 200, "{policy:?}");
    }
}

#[tokio::test]
async fn it_follows_the_key_that_stands_in_the_request_and_is_joined_to_it() {
    let (builder, accounts) = by_account(builder("1/min").key(Header::new("x-region")));
    let mut service = builder.build().unwrap().layer(Probe::new(Reply::Hello).0);
    let from = |region, key| request(&[("x-region", region), ("x-api-key", key)]);
    for (region, key, want) in
        [("eu", "laptop", 200), ("eu", "phone", 429), ("us", "phone", 200), ("us", "laptop", 429), ("eu", "other", 200)]
    {
        assert_eq!(status(&mut service, from(region, key)).await, want, "{region} {key}");
    }
    assert_eq!(accounts.asked(), 5);
    assert_eq!(status(&mut service, api_key("laptop")).await, 400);
    assert_eq!(accounts.asked(), 5, "without the first part there is nothing to look up");
}

/// In whatever order the two are set, and even where the first part tells no clients apart.
#[tokio::test]
async fn who_is_looked_up_is_a_client() {
    let before = by_account(builder("1/min").key(Global).suppressed(1.0)).0;
    let after = by_account(builder("1/min").suppressed(1.0)).0.key(Global);
    for builder in [before, after] {
        let mut service = builder.build().unwrap().layer(Probe::new(Reply::Hello).0);
        for (key, want) in [("laptop", 200), ("phone", 429), ("other", 200)] {
            assert_eq!(status(&mut service, api_key(key)).await, want, "one client's overload is not the service's");
        }
    }
}

/// Lookups that end when the test says so.
#[derive(Clone, Default)]
struct Slow(Arc<Mutex<Vec<Finder>>>);

/// Ends one lookup.
type Finder = oneshot::Sender<Result<u64, MissingKey>>;

impl Slow {
    fn join(&self, builder: RateLimitLayerBuilder) -> RateLimitLayer {
        let this = self.clone();
        let lookup = move |_: &tower_weir::key::RequestView<'_>| {
            let (sender, receiver) = oneshot::channel();
            this.0.lock().unwrap().push(sender);
            async move { receiver.await.unwrap() }
        };
        builder.key_lookup(lookup).build().unwrap()
    }

    fn next(&self) -> Finder {
        self.0.lock().unwrap().remove(0)
    }
}

#[tokio::test]
async fn the_service_that_was_ready_is_the_one_that_is_called_after_a_lookup() {
    let (probe, log) = Probe::new(Reply::Hello);
    let (slow, store) = (Slow::default(), Deferred::default());
    let mut service =
        slow.join(RateLimitLayer::builder().quota("9/min".parse().unwrap()).limiter(store.clone())).layer(probe);
    for (is_found, is_admitted, want) in [(true, true, 200), (true, false, 429), (false, true, 400), (true, true, 200)]
    {
        within(poll_fn(|cx| service.poll_ready(cx))).await.unwrap();
        let calls = log.calls();
        // On a task of its own, so that a lookup or a store which wakes nobody is seen.
        let future = tokio::spawn(service.call(request(&[])));
        tokio::task::yield_now().await;
        assert!(store.0.lock().unwrap().is_empty(), "the store is asked when the key is known");
        let missing = MissingKey::client_fault("nobody's");
        slow.next().send(if is_found { Ok(7) } else { Err(missing) }).unwrap();
        tokio::task::yield_now().await;
        assert_eq!(log.calls(), calls, "called before the decision");
        if is_found {
            store.settle(is_admitted);
        }
        assert_eq!(within(future).await.unwrap().unwrap().status(), want);
    }
    let readied = log.readied.lock().unwrap().clone();
    assert_eq!(log.called(), [readied[0], readied[3]], "neither a refused request nor one without a key is passed on");
}

#[tokio::test]
async fn a_lookup_that_is_dropped_leaves_nothing_behind() {
    let (probe, log) = Probe::new(Reply::Hello);
    let slow = Slow::default();
    let layer = slow.join(builder("1/min"));
    let mut service = ServiceBuilder::new().layer(layer).concurrency_limit(1).service(probe);
    let mut other = service.clone();
    let (token, mut given_up) = (Arc::new(()), request(&[]));
    given_up.extensions_mut().insert(Arc::clone(&token));

    within(poll_fn(|cx| service.poll_ready(cx))).await.unwrap();
    let mut future = Box::pin(service.call(given_up));
    assert!(poll_once(future.as_mut()).is_pending());
    assert!(poll_once(pin!(poll_fn(|cx| other.poll_ready(cx)))).is_pending(), "the only place is taken");
    drop(future);
    assert_eq!((Arc::strong_count(&token), log.calls()), (1, 0), "the request was not dropped");
    assert!(slow.next().is_closed(), "the lookup was not dropped");

    within(poll_fn(|cx| other.poll_ready(cx))).await.expect("the place is free again");
    let future = other.call(request(&[]));
    slow.next().send(Ok(7)).unwrap();
    assert_eq!(within(future).await.unwrap().status(), 200, "nothing was charged");
    drop((service, other));
    assert_eq!(Arc::strong_count(&log), 1, "an instance of the inner service was not dropped");
}
