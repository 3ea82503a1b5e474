//! Calls that wait, on every store: order, conservation under cancellation, and the number of calls of Redis.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use http::{Request, Response};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tower::{Layer, Service, service_fn};
use tower_weir::{
    OnStoreError, RateLimit, RateLimitDecision, RateLimitLayer, RateLimiter, RedisOptions, StoreErrorKind,
};

use super::stores::{Kind, PATIENCE, Rig};
use crate::support::ledger::{Admission, Ledger, now};
use crate::support::servers::{Flavor, Server, SlowProxy};

const WINDOW: Duration = Duration::from_secs(1);

/// A future that is dropped a while after its n-th poll, if it is not complete by then. In the meantime it is not polled.
pub(super) struct DropAfter<F> {
    inner: Option<Pin<Box<F>>>,
    polls: usize,
    /// When the last poll began.
    polled_at: Instant,
    linger: Duration,
    end: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> DropAfter<F> {
    pub(super) fn new(inner: F, polls: usize, linger: Duration) -> Self {
        Self { inner: Some(Box::pin(inner)), polls, polled_at: Instant::now(), linger, end: None }
    }
}

impl<F: Future> Future for DropAfter<F> {
    type Output = (Option<F::Output>, Instant);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls > 0 {
            self.polls -= 1;
            self.polled_at = Instant::now();
            let Some(inner) = &mut self.inner else { return Poll::Pending };
            if let Poll::Ready(output) = inner.as_mut().poll(cx) {
                return Poll::Ready((Some(output), self.polled_at));
            }
            if self.polls > 0 {
                return Poll::Pending;
            }
        }
        let linger = self.linger;
        if !linger.is_zero() && self.end.get_or_insert_with(|| Box::pin(sleep(linger))).as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.inner = None;
        Poll::Ready((None, self.polled_at))
    }
}

/// A future may be dropped at once, or after what it waits for has happened.
pub(super) const LINGERS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(30)];

/// Runs a check on all stores at once, because each takes real time.
pub(super) async fn on_all<'a, F: Future<Output = ()>>(rigs: &'a [Rig], check: impl Fn(&'a Rig) -> F) {
    // Each is polled only when it is woken, because some checks count polls.
    let checks: FuturesUnordered<_> = rigs.iter().map(check).collect();
    checks.collect::<()>().await;
}

/// Random costs, more than one window of them, and some calls that are dropped while they wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_calls_are_admitted_in_their_order_and_never_above_the_limit() {
    let rigs = Rig::all(1, 1.0);
    on_all(&rigs, |rig| async move {
        let (rate, ended, ledger) = (rig.rate(10), Mutex::new(Vec::new()), Mutex::new(Ledger::default()));
        let calls = (0..24_usize).map(|index| {
            let (rate, ended, ledger) = (&rate, &ended, &ledger);
            async move {
                let (sent, cost) = (now(), 1 + (index as u64 * 7) % 4);
                let call = rig.until_allowed(b"k", rate, cost, PATIENCE);
                let polls = if index % 5 == 4 { 1 + index % 3 } else { usize::MAX };
                if let (Some(decision), _) = DropAfter::new(call, polls, LINGERS[index % 2]).await {
                    assert!(decision.is_allowed(), "{}: {decision:?}", rig.name);
                    ended.lock().unwrap().push(index);
                    ledger.lock().unwrap().0.push(Admission { sent, received: now(), cost });
                }
            }
        });
        join_all(calls).await;
        let ended = ended.into_inner().unwrap();
        assert!(ended.len() >= 20 && ended.is_sorted(), "{}: {ended:?}", rig.name);
        assert!(ledger.into_inner().unwrap().most_within(WINDOW) <= 10, "{}", rig.name);
    })
    .await;
}

/// Nothing leaves the window, so a charge of a dropped call would show for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_dropped_after_any_poll_charges_nothing() {
    let rigs = Rig::all(60, 1.0);
    on_all(&rigs, |rig| async move {
        let (calls, rate) = (rig.calls(Kind::Absolute), rig.rate(10));
        for (linger, polls) in LINGERS.into_iter().flat_map(|linger| (1..10).map(move |polls| (linger, polls))) {
            let key = format!("{linger:?} {polls}").into_bytes();
            let call = rig.until_allowed(&key, &rate, 3, PATIENCE);
            let (outcome, _) = DropAfter::new(call, polls, linger).await;
            let charged = if outcome.is_some_and(|decision| decision.is_allowed()) { 3 } else { 0 };
            let began = Instant::now();
            // The settlement runs in the background. An early look may precede the charge, so it does not count.
            sleep(Duration::from_millis(50)).await;
            while calls.get(&key).await != charged {
                assert!(
                    began.elapsed() < PATIENCE,
                    "{}: dropped {linger:?} after {polls} polls, and charged",
                    rig.name
                );
                sleep(Duration::from_millis(10)).await;
            }
        }
    })
    .await;
}

/// The same for a call that has waited. A charge that stays would keep out the next call for one more window.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_dropped_after_any_poll_of_its_wait_delays_no_other() {
    let rigs = Rig::all(1, 1.0);
    let cases = rigs.iter().flat_map(|rig| LINGERS.map(|linger| drop_while_waiting(rig, linger)));
    let cases: FuturesUnordered<_> = cases.collect();
    cases.collect::<()>().await;
}

async fn drop_while_waiting(rig: &Rig, linger: Duration) {
    let (rate, began, mut polls) = (rig.rate(10), Instant::now(), 1);
    loop {
        assert!(began.elapsed() < 2 * PATIENCE, "{}: dropped after {polls} polls, and charged", rig.name);
        let (key, filled) = (format!("{linger:?} {:?}", began.elapsed()).into_bytes(), Instant::now());
        assert!(rig.until_allowed(&key, &rate, 10, PATIENCE).await.is_allowed());
        let dropped = DropAfter::new(rig.until_allowed(&key, &rate, 10, PATIENCE), polls, linger);
        let ((outcome, polled_at), next) = tokio::join!(dropped, rig.until_allowed(&key, &rate, 10, PATIENCE));
        let took = polled_at.elapsed();
        assert!(next.is_allowed(), "{}: {next:?}", rig.name);
        match outcome {
            Some(decision) => {
                assert!(decision.is_allowed(), "{}: {decision:?}", rig.name);
                return;
            }
            // A busy machine delays the next call too, which shows nothing. The number of polls is tried again.
            None if polled_at > filled + WINDOW && took >= WINDOW => {}
            None => polls += 1,
        }
    }
}

/// Requests of a layer: some of them are dropped while they wait or are decided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_requests_of_a_layer_are_charged_once_and_only_if_they_are_admitted() {
    let rigs = Rig::all(1, 1.0);
    on_all(&rigs, |rig| async move {
        let [store, _] = rig.stores();
        let limit = |quota: &str| {
            let builder = RateLimitLayer::outgoing(quota).name("waiting").on_store_error(OnStoreError::Reject);
            builder.limiter(Arc::clone(&store)).wait_at_most(PATIENCE).build().unwrap()
        };
        let hello = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
        let service = limit("10/s").layer(hello);
        let ledger = Mutex::new(Ledger::default());
        let calls = (0..30_usize).map(|index| {
            let (mut service, ledger) = (service.clone(), &ledger);
            async move {
                let sent = now();
                let polls = if index % 6 == 5 { 1 + index % 4 } else { usize::MAX };
                let call = DropAfter::new(service.call(Request::new(())), polls, LINGERS[index % 2]);
                if let (Some(response), _) = call.await {
                    assert_eq!(response.unwrap().status(), 200, "{}", rig.name);
                    ledger.lock().unwrap().0.push(Admission { sent, received: now(), cost: 1 });
                }
            }
        });
        join_all(calls).await;
        let mut ledger = ledger.into_inner().unwrap();
        assert!(ledger.units() >= 25 && ledger.most_within(WINDOW) <= 10, "{}: {ledger:?}", rig.name);
    })
    .await;
}

/// Script calls until now.
fn scripts(server: &Server) -> u64 {
    let stats = server.commandstats();
    ["eval", "evalsha"].iter().filter_map(|name| stats.get(*name)).sum()
}

fn limiter(url: String, policy: OnStoreError) -> RateLimiter {
    let options = RedisOptions::url(url)
        .deadline(Duration::from_millis(500))
        .on_store_error(policy)
        .deny_cache(false)
        .instances(1);
    RateLimiter::builder().window_size_seconds(1.try_into().unwrap()).redis(options).build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_first_of_the_waiting_calls_asks_redis() {
    const CALLS: u64 = 60;
    let server = Server::start(Flavor::Debian);
    let (rl, rate) = (limiter(server.url(), OnStoreError::Reject), RateLimit::try_from(20.0).unwrap());
    assert!(rl.redis().absolute().inc("k", &rate, 20).await.unwrap().is_allowed());
    server.reset_stats();
    let calls = (0..CALLS).map(|_| rl.redis().absolute().until_allowed("k", &rate, 1, PATIENCE));
    let admitted = join_all(calls).await.into_iter().filter(|outcome| outcome.as_ref().unwrap().is_allowed()).count();
    assert_eq!(admitted as u64, CALLS);
    // One admission each, and a refusal whenever the head finds no room; 60 units need three windows.
    let asked = scripts(&server);
    assert!((CALLS..2 * CALLS).contains(&asked), "{asked} calls of Redis");
}

/// The first call is in flight when the others join, so they learn of the wait from its answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_behind_the_first_end_when_it_learns_that_they_wait_too_long() {
    let server = Server::start(Flavor::Debian);
    let rl = limiter(server.url(), OnStoreError::Reject);
    let rate = RateLimit::try_from(5.0).unwrap();
    assert!(rl.redis().absolute().inc("k", &rate, 5).await.unwrap().is_allowed());
    server.reset_stats();
    let wait = |max_wait| {
        let rl = rl.clone();
        async move { rl.redis().absolute().until_allowed("k", &rate, 1, max_wait).await.unwrap() }
    };
    let first = wait(PATIENCE);
    let others = join_all((0..10).map(|_| wait(Duration::from_millis(400))));
    let (first, others) = tokio::join!(first, others);
    assert!(first.is_allowed());
    // On a busy machine, the first call may be refused so late that the others can wait for it.
    for refused in others.iter().filter(|decision| !decision.is_allowed()) {
        assert!(refused.retry_after().unwrap() > Duration::from_millis(300), "{refused:?}");
    }
    assert!(scripts(&server) <= 12, "calls that are refused while they wait do not ask");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_ends_the_wait_by_the_policy() {
    let server = Server::start(Flavor::Debian);
    let proxy = SlowProxy::in_front_of(&server);
    for (policy, is_error) in
        [(OnStoreError::Reject, true), (OnStoreError::Allow, false), (OnStoreError::LocalShare, false)]
    {
        let rl = limiter(proxy.url(), policy);
        let rate = RateLimit::try_from(5.0).unwrap();
        let key = format!("{policy:?}");
        let (redis, hybrid) = (rl.redis().absolute(), rl.hybrid().absolute());
        assert!(redis.inc(&key, &rate, 5).await.unwrap().is_allowed());
        assert!(hybrid.inc(format!("hybrid {key}"), &rate, 5).await.unwrap().is_allowed());
        proxy.black_hole();
        let waits = async {
            let key_of_hybrid = format!("hybrid {key}");
            tokio::join!(
                redis.until_allowed(&key, &rate, 5, PATIENCE),
                hybrid.until_allowed(&key_of_hybrid, &rate, 5, PATIENCE)
            )
        };
        let outcomes = timeout(PATIENCE, waits).await.expect("a failure of Redis ends the wait");
        for outcome in [outcomes.0, outcomes.1] {
            match is_error {
                true => assert_ne!(outcome.unwrap_err().kind(), StoreErrorKind::QueueFull),
                false => assert!(outcome.unwrap().is_allowed(), "{policy:?}"),
            }
        }
        proxy.heal();
    }
    let none = RateLimiter::default();
    let rate = RateLimit::try_from(5.0).unwrap();
    let outcome: Result<RateLimitDecision, _> = none.redis().absolute().until_allowed("k", &rate, 1, WINDOW).await;
    assert_eq!(outcome.unwrap_err().kind(), StoreErrorKind::NotConfigured);
}
