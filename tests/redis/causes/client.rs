//! The process that asks Redis, and what it logs.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tower_weir::telemetry::Notice;
use tower_weir::{OnStoreError, RateLimit, RateLimiter, RedisOptions};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// How to link: `url`, `cluster` or `sentinel`, then the URLs, with the master behind those of sentinels.
const LINK: &str = "TOWER_WEIR_LINK";
/// After how many lines to end, and which notice to silence.
const LINES: &str = "TOWER_WEIR_LINES";
pub(crate) const SILENT: &str = "TOWER_WEIR_SILENT";
/// For how many seconds to ask.
pub(crate) const PATIENCE: &str = "TOWER_WEIR_PATIENCE";
/// In every password, and never in what is logged.
pub(crate) const SECRET: &str = "hunter2";

/// A link, and what its process has in the environment.
pub(crate) struct Client(Command);

pub(crate) fn url(url: &str) -> Client {
    link(&["url", url])
}

pub(crate) fn link(words: &[&str]) -> Client {
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["causes::client::process", "--exact", "--nocapture"]).env(LINK, words.join(" "));
    Client(process)
}

impl Client {
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    /// Asks until there is a line, and expects one that holds all these words.
    pub(crate) fn logs(self, words: &[&str]) {
        let lines = self.lines(1);
        let [line] = &lines[..] else { panic!("{words:?}: not one line: {lines:?}") };
        for word in words {
            assert!(line.contains(word), "{word:?} is not in: {line}");
        }
        for hidden in [SECRET, "127.0.0.1", "localhost", "weir:1:", "://127", "/tmp"] {
            assert!(!line.contains(hidden), "shows {hidden}: {line}");
        }
    }

    /// Asks until there are so many lines, or none has come for long.
    pub(crate) fn lines(self, count: usize) -> Vec<String> {
        self.lines_and(count, || {})
    }

    /// The same, and does something as soon as the first line is there.
    pub(crate) fn lines_and(mut self, count: usize, after_first: impl FnOnce()) -> Vec<String> {
        let command = self.0.env(LINES, count.to_string()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (mut text, mut logged, mut after_first) = (String::new(), Vec::new(), Some(after_first));
        for line in BufReader::new(process.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some((_, words)) = line.split_once("logged ") {
                logged.push(words.to_owned());
                after_first.take().into_iter().for_each(|then| then());
            }
            text += &(line + "\n");
        }
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
        logged
    }
}

/// Not a test of its own: the process that asks.
#[test]
fn process() {
    let Ok(link) = std::env::var(LINK) else { return };
    tracing::subscriber::set_global_default(Printer).unwrap();
    let words: Vec<&str> = link.split(' ').collect();
    let options = match words[0] {
        "url" => RedisOptions::url(words[1]),
        "cluster" => RedisOptions::cluster(words[1..].iter().copied()),
        _ => RedisOptions::sentinel(words[1..words.len() - 1].iter().copied(), words[words.len() - 1]),
    };
    let options = options.on_store_error(OnStoreError::Reject).instances(1);
    let limiter = RateLimiter::builder().redis(options).build().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let rate = RateLimit::try_from(1000.0).unwrap();
    let lines: usize = std::env::var(LINES).unwrap().parse().unwrap();
    let patience = match std::env::var(SILENT) {
        Ok(code) => {
            assert_eq!(code, Notice::RedisLost.code());
            Notice::RedisLost.silence();
            Duration::from_secs(2)
        }
        Err(_) => Duration::from_secs(std::env::var(PATIENCE).map_or(20, |seconds| seconds.parse().unwrap())),
    };
    let began = Instant::now();
    runtime.block_on(async {
        while began.elapsed() < patience {
            let failed = limiter.redis().absolute().inc("key", &rate, 1).await.is_err();
            tokio::time::sleep(Duration::from_millis(if failed { 5 } else { 50 })).await;
            if LOGGED.load(Ordering::Relaxed) >= lines {
                // For a second one, which must not come.
                tokio::time::sleep(Duration::from_millis(300)).await;
                return;
            }
        }
    });
}

static LOGGED: AtomicUsize = AtomicUsize::new(0);

struct Printer;

impl Subscriber for Printer {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "tower_weir"
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{} ", event.metadata().level()));
        event.record(&mut line);
        // One write, on a line of its own: the test harness writes too.
        println!("\nlogged {}", line.0);
        LOGGED.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push_str(&format!("{}={value} ", field.name()));
    }

    fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!("{value:?} "));
    }
}
