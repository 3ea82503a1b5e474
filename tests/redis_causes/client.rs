//! The process that asks Redis, and what it logs.

use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

use tower_weir::{OnStoreError, RateLimit, RateLimiter, RedisOptions};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// How to link: `url`, `cluster` or `sentinel`, then the URLs, with the master behind those of sentinels.
const LINK: &str = "TOWER_WEIR_LINK";
/// In every password, and never in what is logged.
pub(crate) const SECRET: &str = "hunter2";

/// A link, and what its process has in the environment.
pub(crate) struct Client(Command);

pub(crate) fn url(url: &str) -> Client {
    link(&["url", url])
}

pub(crate) fn link(words: &[&str]) -> Client {
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["client::process", "--exact", "--nocapture"]).env(LINK, words.join(" "));
    Client(process)
}

impl Client {
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    /// Asks until there is a line, and expects one that holds all these words.
    pub(crate) fn logs(mut self, words: &[&str]) {
        let output = self.0.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
        let lines: Vec<&str> =
            text.lines().filter_map(|line| line.split_once("logged ").map(|split| split.1)).collect();
        let [line] = lines[..] else { panic!("{words:?}: not one line: {text}") };
        for word in words {
            assert!(line.contains(word), "{word:?} is not in: {line}");
        }
        for hidden in [SECRET, "127.0.0.1", "localhost", "weir:1:", "://127", "/tmp"] {
            assert!(!line.contains(hidden), "shows {hidden}: {line}");
        }
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
    let began = Instant::now();
    runtime.block_on(async {
        while began.elapsed() < Duration::from_secs(20) {
            let failed = limiter.redis().absolute().inc("key", &rate, 1).await.is_err();
            tokio::time::sleep(Duration::from_millis(if failed { 5 } else { 50 })).await;
            if LOGGED.load(std::sync::atomic::Ordering::Relaxed) {
                // For a second one, which must not come.
                tokio::time::sleep(Duration::from_millis(300)).await;
                return;
            }
        }
    });
}

static LOGGED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

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
        LOGGED.store(true, std::sync::atomic::Ordering::Relaxed);
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
