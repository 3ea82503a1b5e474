//! Processes that serve streams of events under one budget.

use std::convert::Infallible;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use axum::body::Body;
use axum::{Router, routing::get};
use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use serde_json::{Value, json};
use tower_weir::{Global, Limit, RateLimitLayer};

use crate::limiter;
use crate::support::ledger::now;
use crate::support::servers::wait_until;

/// Tells a process what to serve.
const ORDER: &str = "WEIR_TEST_ORDER";
/// The header of a request with the units that are reserved.
pub(crate) const ESTIMATE: &str = "x-estimate";
/// The header of a request with the units that are sent.
pub(crate) const ACTUAL: &str = "x-actual";
/// The most units of one event.
pub(crate) const MOST: u64 = 5;

/// What each process serves.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) url: String,
    pub(crate) processes: u64,
    pub(crate) quota: String,
    /// The pause between two events of a stream.
    pub(crate) pace: Duration,
}

/// Processes at work.
pub(crate) struct Fleet {
    order: Order,
    folder: PathBuf,
    members: Mutex<Vec<Child>>,
    addresses: Mutex<Vec<SocketAddr>>,
}

impl Fleet {
    pub(crate) fn start(order: Order) -> Self {
        let folder = std::env::temp_dir().join(format!("weir-fleet-{}-{}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir_all(&folder).unwrap();
        let mut spawned: Vec<_> = (0..order.processes).map(|_| spawn(&order, &folder)).collect();
        let addresses = Mutex::new(spawned.iter_mut().map(|(child, path)| address(child, path)).collect());
        let members = Mutex::new(spawned.into_iter().map(|(child, _)| child).collect());
        Self { order, folder, members, addresses }
    }

    /// The address of a process.
    pub(crate) fn address(&self, member: usize) -> SocketAddr {
        let addresses = self.addresses.lock().unwrap();
        addresses[member % addresses.len()]
    }

    /// Kills a process (SIGKILL), and starts another one in its place.
    pub(crate) fn replace(&self, member: usize) {
        let mut members = self.members.lock().unwrap();
        end(&mut members[member]);
        let (mut child, path) = spawn(&self.order, &self.folder);
        let address = address(&mut child, &path);
        members[member] = child;
        self.addresses.lock().unwrap()[member] = address;
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.members.lock().unwrap().iter_mut().for_each(end);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Starts a process, which writes its address to a file.
fn spawn(order: &Order, folder: &Path) -> (Child, PathBuf) {
    let path = folder.join(fastrand::u64(..).to_string());
    let order = json!({
        "url": order.url,
        "processes": order.processes,
        "quota": order.quota,
        "pace": u64::try_from(order.pace.as_micros()).unwrap(),
        "path": path,
    });
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--nocapture", "--exact", "fleet::worker"]).env(ORDER, order.to_string());
    (command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap(), path)
}

fn address(child: &mut Child, path: &Path) -> SocketAddr {
    wait_until("a process listens, or has failed", || path.exists() || child.try_wait().unwrap().is_some());
    std::fs::read_to_string(path).unwrap().parse().unwrap()
}

/// The instant at which an event was produced, and its units.
pub(crate) fn read_event(event: &[u8]) -> Option<(u64, u64)> {
    let (produced, units) = std::str::from_utf8(event).ok()?.trim_end().strip_prefix("data: ")?.split_once(' ')?;
    Some((produced.parse().ok()?, units.parse().ok()?))
}

fn number(headers: &HeaderMap, name: &str) -> u64 {
    headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(1)
}

/// Events of random units until the units of the request are sent.
fn events(actual: u64, pace: Duration) -> Body {
    Body::from_stream(stream::unfold(actual, move |left| async move {
        if left == 0 {
            return None;
        }
        if left < actual {
            tokio::time::sleep(pace).await;
        }
        let units = fastrand::u64(1..=MOST).min(left);
        Some((Ok::<_, Infallible>(Bytes::from(format!("data: {} {units}\n\n", now()))), left - units))
    }))
}

#[test]
#[ignore = "the other tests start it, in processes of its own"]
fn worker() {
    let order: Value = serde_json::from_str(&std::env::var(ORDER).expect("the other test's order")).unwrap();
    // The parent closes it, also if it is killed.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let limiter = limiter(order["url"].as_str().unwrap(), order["processes"].as_u64().unwrap());
        let limit = Limit::per(Global).quota(order["quota"].as_str().unwrap()).name("units");
        let limit = limit.cost(|request| number(request.headers(), ESTIMATE));
        let limit = limit.meter(|event| read_event(event).expect("an event").1);
        let layer = RateLimitLayer::builder().limit(limit).limiter(limiter.hybrid()).build().unwrap();
        let pace = Duration::from_micros(order["pace"].as_u64().unwrap());
        let serve = move |headers: HeaderMap| async move { events(number(&headers, ACTUAL), pace) };
        let app = Router::new().route("/", get(serve)).layer(layer);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let path = PathBuf::from(order["path"].as_str().unwrap());
        std::fs::write(path.with_extension("new"), listener.local_addr().unwrap().to_string()).unwrap();
        std::fs::rename(path.with_extension("new"), path).unwrap();
        axum::serve(listener, app).await.unwrap();
    });
}
