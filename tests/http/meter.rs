//! Responses that are metered: no frame is sent before its units are charged, and what is not used returns.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::stream;
use http::{Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper_util::rt::TokioExecutor;
use tower::{Layer, ServiceExt, service_fn};
use tower_weir::key::Header;
use tower_weir::layer::{AtLimit, KeyControl, RateLimitBody, RateLimitBodyError};
use tower_weir::{ConfigError, Global, Limit, ManualClock, RateLimitLayer, RateLimiter};

use crate::support::http::within;

const CAPACITY: u64 = 100;
const WINDOW_MS: u64 = 1_000;

type Frames = StreamBody<Pin<Box<dyn futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + Sync>>>;
type Metered = RateLimitBody<Frames>;

/// A limit of 100 units a second. Each byte of a frame is a number of units.
fn limit() -> Limit {
    let units = |data: &Bytes| data.iter().map(|byte| u64::from(*byte)).sum();
    Limit::per(Global).quota("100/s").name("units").meter(units)
}

fn layer(limit: Limit) -> (RateLimitLayer, ManualClock) {
    let clock = ManualClock::new();
    let rl = RateLimiter::builder().clock(clock.clone()).build().unwrap();
    (RateLimitLayer::builder().limit(limit).limiter(rl.local()).build().unwrap(), clock)
}

fn key(layer: &RateLimitLayer) -> KeyControl {
    layer.control().limit("units").unwrap().global()
}

fn used(layer: &RateLimitLayer) -> u64 {
    key(layer).usage().now_or_never().unwrap().unwrap().map_or(0, |usage| usage.used())
}

fn body(frames: Vec<Vec<u8>>) -> Frames {
    let frames = frames.into_iter().map(|data| Ok(Frame::data(Bytes::from(data))));
    StreamBody::new(Box::pin(stream::iter(frames)))
}

/// The response to a request for frames.
fn serve(layer: &RateLimitLayer, response: Response<Frames>) -> Response<Metered> {
    let response = Arc::new(Mutex::new(Some(response)));
    let service = layer.layer(service_fn(move |_: Request<()>| {
        let response = response.lock().unwrap().take().unwrap();
        async move { Ok::<_, Infallible>(response) }
    }));
    let response = Box::pin(service.oneshot(Request::new(()))).now_or_never();
    response.unwrap().unwrap()
}

fn get(layer: &RateLimitLayer, frames: &[&[u8]]) -> Response<Metered> {
    serve(layer, Response::new(body(frames.iter().map(|frame| frame.to_vec()).collect())))
}

/// The next frame; `None` if it must wait. A body that wakes its reader at once is polled again.
fn poll<B: Body<Data = Bytes> + Unpin>(body: &mut B) -> Option<Option<Result<Frame<Bytes>, B::Error>>> {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    loop {
        match Pin::new(&mut *body).poll_frame(&mut Context::from_waker(&waker)) {
            Poll::Ready(frame) => return Some(frame),
            Poll::Pending if woken.0.swap(false, Ordering::Relaxed) => {}
            Poll::Pending => return None,
        }
    }
}

/// Whether a reader was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The next frame's data.
fn data(body: &mut Metered) -> Bytes {
    poll(body).unwrap().unwrap().unwrap().into_data().unwrap()
}

/// A response, and what it has used.
struct Stream {
    body: Metered,
    estimate: u64,
    sent: u64,
}

/// Random streams that end early or late, or are dropped half read. The judge sees only the frames that were sent.
#[test]
fn no_window_exceeds_the_limit_and_only_sent_units_stay_charged() {
    let (mut complete, mut dropped, mut ended, mut refused, mut in_all) = (0, 0, 0, 0, 0);
    for case in 0..80 {
        let mut random = fastrand::Rng::with_seed(case);
        let estimate = random.u64(1..25);
        let (layer, clock) = layer(limit().cost(move |_| estimate));
        let (mut now, mut sent, mut open): (u64, Vec<(u64, u64)>, Vec<Stream>) = Default::default();
        for _ in 0..300 {
            let step = 10 * random.u64(0..8) * random.u64(0..2);
            now += step;
            clock.advance(Duration::from_millis(step));
            let live: u64 = sent.iter().filter(|(at, _)| now <= at + WINDOW_MS).map(|(_, units)| units).sum();
            let held: u64 = open.iter().map(|stream| stream.estimate.saturating_sub(stream.sent)).sum();
            let used = used(&layer);
            // A reservation that no frame has used for a window counts no longer.
            assert!((live..=live + held).contains(&used), "case {case} at {now}: {used}, {live} and {held}");
            if random.u32(0..3) == 0 {
                let frames = (0..random.usize(0..8)).map(|_| vec![random.u8(0..12)]).collect();
                let response = serve(&layer, Response::new(body(frames)));
                match response.status() {
                    StatusCode::OK => open.push(Stream { body: response.into_body(), estimate, sent: 0 }),
                    _ => {
                        assert!(used + estimate > CAPACITY, "what fits is admitted");
                        refused += 1;
                    }
                }
            } else if !open.is_empty() {
                let at = random.usize(0..open.len());
                if random.u32(0..6) == 0 {
                    drop(open.swap_remove(at));
                    dropped += 1;
                    continue;
                }
                let stream = &mut open[at];
                match poll(&mut stream.body).unwrap() {
                    Some(Ok(frame)) => {
                        let units = frame.data_ref().unwrap().iter().map(|byte| u64::from(*byte)).sum();
                        stream.sent += units;
                        in_all += units;
                        sent.push((now, units));
                    }
                    Some(Err(RateLimitBodyError::LimitExceeded)) => {
                        assert!(used + 12 > CAPACITY, "a frame that fits is sent: {used}");
                        drop(open.swap_remove(at));
                        ended += 1;
                    }
                    Some(Err(_)) => unreachable!(),
                    None => {
                        drop(open.swap_remove(at));
                        complete += 1;
                    }
                }
            }
        }
        for (start, _) in &sent {
            let within = sent.iter().filter(|(at, _)| (*start..start + WINDOW_MS).contains(at));
            assert!(within.map(|(_, units)| units).sum::<u64>() <= CAPACITY, "case {case}");
        }
        drop(open);
        let live: u64 = sent.iter().filter(|(at, _)| now <= at + WINDOW_MS).map(|(_, units)| units).sum();
        assert_eq!(used(&layer), live, "only what was sent stays charged");
    }
    println!("{complete} complete, {dropped} dropped, {ended} ended by the limit, {refused} refused; {in_all} units");
    assert!(complete > 500 && dropped > 300 && ended > 100 && refused > 300);
}

#[test]
fn a_frame_that_does_not_fit_ends_the_stream_with_an_error() {
    let (layer, _) = layer(limit().cost(|_| 30));
    let response = get(&layer, &[&[60], &[30], &[20], &[1]]);
    let mut body = response.into_body();
    assert_eq!((data(&mut body)[0], data(&mut body)[0]), (60, 30));
    assert!(!body.is_end_stream());
    assert!(matches!(poll(&mut body), Some(Some(Err(RateLimitBodyError::LimitExceeded)))));
    assert!(body.is_end_stream() && poll(&mut body).unwrap().is_none());
    assert_eq!(used(&layer), 90, "the frame that was not sent is not charged");
    let error: Box<dyn std::error::Error + Send + Sync> = RateLimitBodyError::<Infallible>::LimitExceeded.into();
    assert!(error.to_string().contains("rate limit"));
}

/// A server drops what it has not written when a body fails.
#[tokio::test]
async fn a_client_receives_the_part_that_was_charged_before_the_end() {
    let bytes = Limit::per(Global).quota("60000/h").name("units").meter_bytes();
    let (layer, _) = layer(bytes);
    let app = axum::Router::new().fallback(|| async { "x".repeat(100_000) }).layer(layer.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    for version in [http::Version::HTTP_11, http::Version::HTTP_2] {
        let mut client = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
        let client = client.http2_only(version == http::Version::HTTP_2).build_http::<Full<Bytes>>();
        let response = within(client.get(url.parse().unwrap())).await.unwrap();
        assert_eq!((response.version(), response.status()), (version, StatusCode::OK));
        let (mut body, mut received) = (response.into_body(), 0);
        let end = loop {
            match within(body.frame()).await {
                Some(Ok(frame)) => received += frame.data_ref().map_or(0, Bytes::len),
                end => break end,
            }
        };
        assert!(matches!(end, Some(Err(_))), "the response does not look complete");
        assert_eq!((received, used(&layer)), (60_000, 60_000), "{version:?}");
        key(&layer).reset().await.unwrap();
    }
}

#[test]
fn a_grpc_stream_ends_with_a_status_in_its_trailers() {
    let (layer, _) = layer(limit().at_limit(AtLimit::end_with("unused")));
    let response = Response::builder().header(header::CONTENT_TYPE, "application/grpc+proto");
    let mut body = serve(&layer, response.body(body(vec![vec![99], vec![2]])).unwrap()).into_body();
    assert_eq!(data(&mut body)[0], 99);
    let trailers = poll(&mut body).unwrap().unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "8");
    assert!(body.is_end_stream() && poll(&mut body).unwrap().is_none());
}

#[test]
fn a_stream_can_end_with_an_event_of_the_service() {
    let event = "event: limit\n\n";
    let (layer, _) = layer(limit().at_limit(AtLimit::end_with(event)));
    let mut body = get(&layer, &[&[99], &[2]]).into_body();
    assert_eq!(data(&mut body)[0], 99);
    assert_eq!(data(&mut body), event);
    assert!(body.is_end_stream() && poll(&mut body).unwrap().is_none());
    // A shorter body than its Content-Length must not look complete.
    key(&layer).reset().now_or_never().unwrap().unwrap();
    let response = Response::builder().header(header::CONTENT_LENGTH, 2);
    let mut body = serve(&layer, response.body(self::body(vec![vec![99], vec![2]])).unwrap()).into_body();
    assert_eq!(data(&mut body)[0], 99);
    assert!(matches!(poll(&mut body), Some(Some(Err(RateLimitBodyError::LimitExceeded)))));
}

#[tokio::test]
async fn a_slow_stream_waits_until_each_frame_fits() {
    let (layer, clock) = layer(limit().at_limit(AtLimit::Slow));
    let mut body = get(&layer, &[&[100], &[100], &[101]]).into_body();
    assert_eq!(data(&mut body)[0], 100);
    let mut second = pin!(async { body.frame().await.unwrap().unwrap().into_data().unwrap() });
    for _ in 0..100 {
        assert!(poll_fn(|cx| Poll::Ready(second.as_mut().poll(cx).is_pending())).await);
        clock.advance(Duration::from_millis(10));
    }
    clock.advance(Duration::from_millis(20));
    assert_eq!(second.await[0], 100);
    assert_eq!(used(&layer), 100);
    assert!(matches!(poll(&mut body), Some(Some(Err(RateLimitBodyError::LimitExceeded)))), "it can never fit");
}

#[test]
fn a_response_may_finish_within_a_bound_and_its_units_are_charged() {
    let (layer, _) = layer(limit().at_limit(AtLimit::Finish { at_most: 50 }));
    let mut body = get(&layer, &[&[90], &[30], &[20], &[1]]).into_body();
    assert_eq!((data(&mut body)[0], data(&mut body)[0], data(&mut body)[0]), (90, 30, 20));
    assert_eq!(used(&layer), 140);
    assert!(matches!(poll(&mut body), Some(Some(Err(RateLimitBodyError::LimitExceeded)))));
    assert_eq!(get(&layer, &[&[1]]).status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(used(&layer), 140);
}

#[test]
fn of_a_frame_of_bytes_the_part_that_fits_is_sent() {
    let limit = Limit::per(Global).quota("100/s").name("units").meter_bytes();
    let (layer, clock) = layer(limit.at_limit(AtLimit::Slow));
    let mut body = get(&layer, &[&[7; 250]]).into_body();
    let mut sent = Vec::new();
    for window in 1..=3 {
        let mut in_window = 0;
        while let Some(Some(frame)) = poll(&mut body) {
            let frame = frame.unwrap().into_data().unwrap();
            in_window += frame.len();
            sent.extend_from_slice(&frame);
        }
        assert_eq!(in_window, [100, 100, 50][window - 1], "window {window}");
        clock.advance(Duration::from_millis(WINDOW_MS + 10));
    }
    assert_eq!(sent, [7; 250]);
}

/// The reservation and the limit pay for one frame together.
#[test]
fn a_frame_of_bytes_is_split_only_if_it_does_not_fit() {
    for (cost, lens) in [(1, vec![40, 40, 20]), (30, vec![40, 40, 20]), (90, vec![40, 40, 20])] {
        let limit = Limit::per(Global).quota("1000/s").name("units").cost(move |_| cost).meter_bytes();
        let (layer, _) = layer(limit);
        let mut body = get(&layer, &[&[7; 40], &[7; 40], &[7; 20]]).into_body();
        assert_eq!(lens.iter().map(|_| data(&mut body).len()).collect::<Vec<_>>(), lens, "{cost} reserved");
        drop(body);
        assert_eq!(used(&layer), 100);
    }
}

/// Drops the body after the n-th frame, for every n, before and after the cost of the request is spent.
#[test]
fn a_body_that_is_dropped_keeps_what_was_sent() {
    for cost in [1, 5, 40] {
        for frames in 0..=6 {
            let (layer, _) = layer(limit().cost(move |_| cost));
            let mut body = get(&layer, &[&[3][..]; 6]).into_body();
            for _ in 0..frames {
                assert_eq!(data(&mut body)[0], 3);
            }
            assert_eq!(used(&layer), (3 * frames).max(cost));
            drop(body);
            assert_eq!(used(&layer), 3 * frames, "{frames} frames, of a cost of {cost}");
        }
    }
}

#[test]
fn the_rest_returns_when_the_last_frame_was_read() {
    let (layer, _) = layer(limit().cost(|_| 40));
    let mut body = get(&layer, &[&[3], &[4]]).into_body();
    assert_eq!((data(&mut body)[0], data(&mut body)[0]), (3, 4));
    assert!(poll(&mut body).unwrap().is_none());
    assert_eq!(used(&layer), 7, "the body still exists");
}

#[test]
fn an_error_page_returns_the_cost_of_the_request() {
    let (layer, _) = layer(limit().cost(|_| 40));
    let response = Response::builder().status(StatusCode::BAD_GATEWAY).body(body(vec![])).unwrap();
    assert!(poll(&mut serve(&layer, response).into_body()).unwrap().is_none());
    assert_eq!(used(&layer), 0);
}

#[test]
fn a_limit_in_shadow_ends_no_stream() {
    let (layer, _) = layer(limit().shadow());
    let mut body = get(&layer, &[&[90], &[90], &[5]]).into_body();
    assert_eq!((data(&mut body)[0], data(&mut body)[0], data(&mut body)[0]), (90, 90, 5));
    assert!(poll(&mut body).unwrap().is_none());
    assert_eq!(used(&layer), 95);
}

#[test]
fn two_limits_meter_one_response() {
    let bytes = Limit::per(Header::new("host")).quota("5/s").name("bytes").meter_bytes();
    let rl = RateLimiter::builder().clock(ManualClock::new()).build().unwrap();
    let layer = RateLimitLayer::builder().limit(limit()).limit(bytes).limiter(rl.local()).build().unwrap();
    let service = layer
        .layer(service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(body(vec![vec![9, 9]; 4]))) }));
    let request = Request::builder().header("host", "a").body(()).unwrap();
    let mut body = service.oneshot(request).now_or_never().unwrap().unwrap().into_body();
    assert_eq!((data(&mut body).len(), data(&mut body).len()), (2, 2));
    assert!(matches!(poll(&mut body), Some(Some(Err(RateLimitBodyError::LimitExceeded)))));
}

#[test]
fn the_size_of_a_metered_body_is_not_promised() {
    let (layer, _) = layer(limit());
    let service = layer.layer(service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(&[1, 2, 3]))))
    }));
    let body = service.oneshot(Request::new(())).now_or_never().unwrap().unwrap().into_body();
    assert_eq!((body.size_hint().exact(), body.size_hint().upper()), (None, Some(3)));
}

#[test]
fn mistakes_are_found_by_build() {
    let build = |limit: Limit| RateLimitLayer::builder().limit(limit).build().map(drop);
    assert!(matches!(build(limit().suppressed(1.5)), Err(ConfigError::MeterConflict(_))));
    assert!(matches!(build(limit().settle(|_, _| ())), Err(ConfigError::MeterConflict(_))));
    let unmetered = Limit::per(Global).quota("1/s").at_limit(AtLimit::Slow);
    assert!(matches!(build(unmetered), Err(ConfigError::AtLimitWithoutMeter(_))));
}
