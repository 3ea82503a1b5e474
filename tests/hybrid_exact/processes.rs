//! Processes with a limiter each, and the requests that they send at a pace of their own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tower_weir::{OnStoreError, RateLimit, RateLimiter, RedisOptions, SyncIntervalMs, Tolerance};

use crate::record::{Outcome, Record, Records};
use crate::support::ledger::now;
use crate::support::scheduler_stalls;
use crate::support::servers::wait_until;

/// What a process is told.
const ORDER: &str = "WEIR_TEST_ORDER";
/// How many tasks flood, each as fast as it can.
const FLOODING: usize = 16;
/// In a flood only one refusal of so many is written down.
const OF_REFUSALS: u64 = 64;
pub(crate) const BUCKET: Duration = Duration::from_millis(10);
pub(crate) const KEY: &str = "shared";

/// How the processes of a crew are set up, and what they do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) url: String,
    /// Units in a second.
    pub(crate) limit: u64,
    pub(crate) window_seconds: u64,
    pub(crate) interval_ms: u64,
    pub(crate) tolerance: f64,
    pub(crate) deadline: Duration,
    /// A limiter of its own for each policy.
    pub(crate) policies: Vec<OnStoreError>,
    pub(crate) pace: Pace,
    /// Requests in a second of each process, for each policy.
    pub(crate) offered: Vec<f64>,
    pub(crate) duration: Duration,
    /// Whether a process may be killed: nothing is kept back from its file then.
    pub(crate) is_mortal: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pace {
    /// At random, however long others take.
    Poisson,
    /// As fast as it goes.
    Flood,
}

/// Processes at work.
pub(crate) struct Crew {
    workers: Vec<Option<(Child, PathBuf)>>,
    dead: Vec<PathBuf>,
    folder: PathBuf,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Plan {
    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs(self.window_seconds)
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.limit * self.window_seconds
    }

    /// The time in which a full window leaves, by buckets.
    pub(crate) fn period(&self) -> Duration {
        self.window() + BUCKET
    }

    /// Starts the processes; they begin together a while later.
    pub(crate) fn start(&self) -> Crew {
        let folder = std::env::temp_dir().join(format!("weir-crew-{}-{}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir_all(&folder).unwrap();
        let start = now() + 400_000_000 + 30_000_000 * self.offered.len() as u64;
        let order = |(worker, offered): (usize, &f64)| {
            let path = folder.join(worker.to_string());
            let policies: Vec<String> = self.policies.iter().map(|policy| format!("{policy:?}")).collect();
            let order = json!({
                "url": self.url,
                "limit": self.limit,
                "window": self.window_seconds,
                "interval": self.interval_ms,
                "tolerance": self.tolerance,
                "deadline": u64::try_from(self.deadline.as_millis()).unwrap(),
                "policies": policies,
                "instances": self.offered.len(),
                "floods": self.pace == Pace::Flood,
                "offered": offered,
                "start": start,
                "duration": u64::try_from(self.duration.as_nanos()).unwrap(),
                "path": path,
                "mortal": self.is_mortal,
            });
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--ignored", "--exact", "processes::worker"]).env(ORDER, order.to_string());
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            Some((child, path))
        };
        let workers = self.offered.iter().enumerate().map(order).collect();
        let end = start + u64::try_from(self.duration.as_nanos()).unwrap();
        Crew { workers, dead: Vec::new(), folder, start, end }
    }
}

impl Crew {
    /// Waits until so long after the start.
    pub(crate) fn wait(&self, after: Duration) {
        let until = self.start + u64::try_from(after.as_nanos()).unwrap();
        std::thread::sleep(Duration::from_nanos(until.saturating_sub(now())));
    }

    /// Ends a process at once (SIGKILL).
    pub(crate) fn kill(&mut self, worker: usize) {
        let (mut child, path) = self.workers[worker].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.dead.push(path);
    }

    /// Waits for their ends; the records of each process, those that were killed last.
    pub(crate) fn finish(mut self) -> Vec<Vec<Record>> {
        let mut all = Vec::new();
        for (child, path) in self.workers.drain(..).flatten() {
            let output = child.wait_with_output().unwrap();
            let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
            assert!(output.status.success() && out.contains("1 passed"), "a worker failed:\n{out}\n{err}");
            all.push(Records::read(&path));
        }
        all.extend(self.dead.iter().map(|path| Records::read(path)));
        all
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for (mut child, _) in self.workers.drain(..).flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// One limiter of a process and its requests.
struct Flow {
    limiter: RateLimiter,
    rate: RateLimit,
    number: u8,
    records: Arc<Records>,
    under_way: AtomicUsize,
}

impl Flow {
    async fn request(&self) -> Record {
        let sent = now();
        let result = self.limiter.hybrid().absolute().decide(KEY, &self.rate, 1).await;
        Record { flow: self.number, outcome: Outcome::of(&result), sent, received: now() }
    }

    /// Sends requests at random instants, each in a task of its own, and waits for all answers.
    async fn pace(self: Arc<Self>, per_second: f64, start: u64, end: u64) {
        let mut random = fastrand::Rng::new();
        let mut gap = || (-(1.0 - random.f64()).ln() * 1e9 / per_second) as u64;
        let mut next = start + gap();
        while next < end {
            tokio::time::sleep(Duration::from_nanos(next.saturating_sub(now()))).await;
            while next < end && next <= now() {
                next += gap();
                self.under_way.fetch_add(1, Ordering::Relaxed);
                let flow = Arc::clone(&self);
                tokio::spawn(async move {
                    let record = flow.request().await;
                    flow.records.add(record);
                    flow.under_way.fetch_sub(1, Ordering::Relaxed);
                });
            }
        }
        let flow = &self;
        tokio::task::block_in_place(|| {
            wait_until("every request is answered", || flow.under_way.load(Ordering::Relaxed) == 0);
        });
    }

    /// Sends one request after the other.
    async fn flood(self: Arc<Self>, start: u64, end: u64) {
        tokio::time::sleep(Duration::from_nanos(start.saturating_sub(now()))).await;
        for turn in 0_u64.. {
            let record = self.request().await;
            if record.outcome.is_admitted() || turn.is_multiple_of(OF_REFUSALS) {
                self.records.add(record);
            }
            if record.received >= end {
                return;
            }
            if turn.is_multiple_of(8) {
                tokio::task::yield_now().await;
            }
        }
    }
}

fn policy(name: &str) -> OnStoreError {
    let all = [OnStoreError::LocalShare, OnStoreError::Reject, OnStoreError::Allow];
    all.into_iter().find(|policy| format!("{policy:?}") == name).unwrap()
}

fn limiter(order: &Value, policy: OnStoreError) -> RateLimiter {
    let number = |name: &str| order[name].as_u64().unwrap();
    let redis = RedisOptions::url(order["url"].as_str().unwrap())
        .prefix(format!("{policy:?}"))
        .deadline(Duration::from_millis(number("deadline")))
        .on_store_error(policy)
        .instances(number("instances"));
    RateLimiter::builder()
        .redis(redis)
        .window_size_seconds(number("window").try_into().unwrap())
        .sync_interval_ms(SyncIntervalMs::try_from(number("interval")).unwrap())
        .tolerance(Tolerance::try_from(order["tolerance"].as_f64().unwrap()).unwrap())
        .build()
        .unwrap()
}

#[test]
#[ignore = "the other tests start it, in processes of its own"]
fn worker() {
    let order: Value = serde_json::from_str(&std::env::var(ORDER).expect("the other test's order")).unwrap();
    let number = |name: &str| order[name].as_u64().unwrap();
    let (start, end) = (number("start"), number("start") + number("duration"));
    let offered = order["offered"].as_f64().unwrap();
    let floods = order["floods"].as_bool().unwrap();
    let records = Records::create(order["path"].as_str().unwrap(), order["mortal"].as_bool().unwrap());
    let records = Arc::new(records);
    scheduler_stalls::watch();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for (name, flow_number) in order["policies"].as_array().unwrap().iter().zip(0..) {
            let flow = Arc::new(Flow {
                limiter: limiter(&order, policy(name.as_str().unwrap())),
                rate: RateLimit::try_from(number("limit") as f64).unwrap(),
                number: flow_number,
                records: Arc::clone(&records),
                under_way: AtomicUsize::new(0),
            });
            match floods {
                true => tasks.extend((0..FLOODING).map(|_| tokio::spawn(Arc::clone(&flow).flood(start, end)))),
                false => tasks.push(tokio::spawn(flow.pace(offered, start, end))),
            }
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
    records.finish();
    let all = Records::read(order["path"].as_str().unwrap().as_ref());
    let slowest = all.iter().map(Record::latency).max().unwrap_or_default();
    // A flood keeps its own tasks waiting. On a busy machine one stall follows the other.
    assert!(floods || slowest < 4 * scheduler_stalls::latest(), "{slowest:?} of {:?}", scheduler_stalls::latest());
}
