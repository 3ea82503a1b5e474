//! Clients that read streams, and note when each event arrived.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::fleet::{ACTUAL, ESTIMATE, Fleet, read_event};
use crate::support::ledger::{Admission, now};

/// The units that a stream reserves.
const ESTIMATES: std::ops::RangeInclusive<u64> = 10..=30;

/// How a stream can end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    Complete,
    /// By an error of its body.
    Cut,
    /// By this client.
    HungUp,
    Refused,
    /// Without a response.
    Failed,
}

/// What all readers have seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) events: Mutex<Vec<Admission>>,
    pub(crate) units: AtomicU64,
    ends: [AtomicU64; 5],
    is_over: AtomicBool,
}

impl Seen {
    pub(crate) fn count(&self, end: End) -> u64 {
        self.ends[end as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn units(&self) -> u64 {
        self.units.load(Ordering::Relaxed)
    }

    /// Ends the streams.
    pub(crate) fn stop(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Notes the events of some data, of which the last may be incomplete.
    fn note(&self, text: &mut Vec<u8>) {
        let arrived = now();
        while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = text.drain(..end + 2).collect();
            let (produced, units) = read_event(&event).expect("an event");
            self.units.fetch_add(units, Ordering::Relaxed);
            self.events.lock().unwrap().push(Admission { sent: produced, received: arrived, cost: units });
        }
    }
}

pub(crate) type HttpClient = Client<HttpConnector, Empty<Bytes>>;

/// Clients of HTTP/1.1, which has a connection for each stream, and of HTTP/2, which has one for each process.
#[derive(Clone)]
pub(crate) struct Readers([HttpClient; 2]);

impl Readers {
    pub(crate) fn new() -> Self {
        Self([false, true].map(|is_http2| Client::builder(TokioExecutor::new()).http2_only(is_http2).build_http()))
    }

    /// Reads one stream after the other. If it is refused, or its server is gone, it tries again after about this pause.
    pub(crate) async fn keep_streaming(self, number: usize, pause: Duration, fleet: &Fleet, seen: &Seen) {
        let mut random = fastrand::Rng::new();
        while !seen.is_over() {
            // Streams of both protocols go to all processes.
            let (client, address) = (&self.0[number / 4 % 2], fleet.address(number));
            let end = read(client, address, &mut random, seen).await;
            seen.ends[end as usize].fetch_add(1, Ordering::Relaxed);
            if matches!(end, End::Refused | End::Failed) {
                tokio::time::sleep(pause.mul_f64(0.5 + random.f64())).await;
            }
        }
    }
}

/// Reads a stream, of which the real units are 0.1 to 10 times the estimate. One of five is left half read.
async fn read(client: &HttpClient, address: SocketAddr, random: &mut fastrand::Rng, seen: &Seen) -> End {
    let estimate = random.u64(ESTIMATES);
    let actual = (estimate as f64 * 10_f64.powf(random.f64() * 2.0 - 1.0)).round() as u64;
    let mut left = if random.u32(0..5) == 0 { random.u64(0..actual) } else { u64::MAX };
    let request = Request::get(format!("http://{address}/")).header(ESTIMATE, estimate).header(ACTUAL, actual);
    let Ok(response) = client.request(request.body(Empty::new()).unwrap()).await else { return End::Failed };
    match response.status() {
        StatusCode::OK => {}
        StatusCode::TOO_MANY_REQUESTS => return End::Refused,
        _ => return End::Failed,
    }
    let mut body: Incoming = response.into_body();
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return End::Cut };
        text.extend_from_slice(frame.data_ref().expect("a body without trailers"));
        seen.note(&mut text);
        left = left.saturating_sub(1);
        if left == 0 || seen.is_over() {
            return End::HungUp;
        }
    }
    End::Complete
}
