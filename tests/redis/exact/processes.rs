//! Many processes, many tasks, one key.

use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tower_weir::{RateLimitDecision, RateLimiter};

use super::{builder, factor, rate, redis};
use crate::support::ledger::{Admission, Ledger, now};
use crate::support::servers::{Flavor, Server};

const PROCESSES: usize = 4;
const TASKS: usize = 64;
const WINDOW: Duration = Duration::from_secs(1);
const BUCKET: Duration = Duration::from_millis(10);
const LIMIT: u64 = 1_000;
const HARD: u64 = 1_500;
/// Names a worker's server, whether it keeps a deny cache, when it starts, for how long it works, and where its
/// ledger goes.
const ORDER: &str = "WEIR_TEST_WORKER";

/// In no window more than the limit, and of the suppressed strategy than the hard cap, nor much less than the limit.
///
/// All the while the server is made to forget the scripts.
#[test]
fn processes_together_admit_what_the_limit_says_on_every_server() {
    for flavor in Flavor::available() {
        let seconds = if flavor == Flavor::Debian { 10 } else { 4 };
        let server = Server::start(flavor);
        let (start, [mut absolute, mut suppressed, refused]) = flood(&server, Duration::from_secs(seconds));
        let (most, most_suppressed) = (absolute.most_within(WINDOW), suppressed.most_within(WINDOW));
        // When all has long settled. The best window, because a machine that is busy for a moment spoils others.
        let later = start + seconds * 1_000_000_000 / 2;
        let late = [&absolute, &suppressed].map(|ledger| ledger.since(later).most_within(WINDOW));
        let in_vain = absolute.refused_in_vain(&refused.0, LIMIT, WINDOW + BUCKET + Duration::from_millis(1));
        let stats = server.commandstats();
        println!(
            "{flavor}: {seconds} s of {PROCESSES} x {TASKS} tasks, {stats:?}\n  absolute: {} units, at most {most} in a \
             window, and {} later; {} refusals looked at\n  suppressed: {} units, at most {most_suppressed}, and {}",
            absolute.units(),
            late[0],
            refused.0.len(),
            suppressed.units(),
            late[1],
        );
        assert!(most <= LIMIT, "{most} of {LIMIT} units in one window");
        assert!(most_suppressed <= HARD, "{most_suppressed} of {HARD} units in one window");
        assert!(refused.0.len() > 100, "the limit was met");
        assert!(in_vain.is_empty(), "{} of {} refusals in vain: {:?}", in_vain.len(), refused.0.len(), in_vain[0]);
        assert!(late.iter().all(|&late| late >= LIMIT * 95 / 100), "at most {late:?} of {LIMIT} in a window, later");
        // The scripts were gone often enough, and each time somebody brought one along.
        assert!(stats["eval"] > 4, "{stats:?}");
    }
}

/// Lets workers loose on two keys. Returns when they started, and the ledgers of the absolute key, of the suppressed one,
/// and of some refusals of the absolute one.
fn flood(server: &Server, duration: Duration) -> (u64, [Ledger; 3]) {
    let folder = std::env::temp_dir().join(format!("weir-flood-{}-{}", std::process::id(), server.port()));
    std::fs::create_dir_all(&folder).unwrap();
    let start = late_in_a_bucket(now() + 500_000_000);
    let workers: Vec<_> = (0..PROCESSES)
        .map(|worker| {
            let ledger = folder.join(worker.to_string());
            // Half of them ask the server each time, and would find a unit that comes back too early.
            let cache = worker.is_multiple_of(2);
            let order = format!("{} {cache} {start} {} {}", server.url(), duration.as_nanos(), ledger.display());
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--ignored", "--exact", "exact::processes::worker"]).env(ORDER, order);
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            (child, ledger)
        })
        .collect();
    let end = start + u64::try_from(duration.as_nanos()).unwrap();
    while now() < end {
        std::thread::sleep(Duration::from_millis(300));
        server.cli(&["SCRIPT", "FLUSH"]);
    }
    let mut ledgers = [const { Ledger(Vec::new()) }; 3];
    for (child, path) in workers {
        let output = child.wait_with_output().unwrap();
        let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        assert!(output.status.success() && out.contains("1 passed"), "a worker failed:\n{out}\n{err}");
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
            let [which, sent, received, cost] = numbers[..] else { panic!("{line}") };
            ledgers[usize::try_from(which).unwrap()].0.push(Admission { sent, received, cost });
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
    (start, ledgers)
}

/// An instant soon after, near the end of a bucket of the server: what expires with its bucket and not after its
/// own window is then early by the most.
fn late_in_a_bucket(from: u64) -> u64 {
    let bucket = u64::try_from(BUCKET.as_nanos()).unwrap();
    let ahead =
        u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() % 1_000_000_000).unwrap();
    let into = (ahead + from - now()) % bucket;
    from + bucket - into + bucket * 6 / 10
}

#[test]
#[ignore = "the other test starts it, in processes of its own"]
fn worker() {
    let order = std::env::var(ORDER).expect("the other test's order");
    let parts: Vec<&str> = order.splitn(5, ' ').collect();
    let [url, cache, start, duration, path] = parts[..] else { panic!("{order}") };
    let start: u64 = start.parse().unwrap();
    let end = start + duration.parse::<u64>().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let lines = runtime.block_on(async {
        let options = redis(url).deny_cache(cache.parse().unwrap());
        let rl = builder(options, 1).hard_limit_factor(factor(1.5)).build().unwrap();
        let tasks: Vec<_> = (0..2 * TASKS).map(|task| tokio::spawn(hammer(rl.clone(), task, start, end))).collect();
        let mut lines = String::new();
        for task in tasks {
            lines += &task.await.unwrap();
        }
        lines
    });
    std::fs::write(path, lines).unwrap();
}

/// Asks until the end, half of the tasks each way; a line for each admission, and for one refusal in eight.
async fn hammer(rl: RateLimiter, task: usize, start: u64, end: u64) -> String {
    let (which, mut random) = (task % 2, fastrand::Rng::with_seed(task as u64));
    let rate = rate(LIMIT as f64);
    let mut lines = String::new();
    tokio::time::sleep(Duration::from_nanos(start.saturating_sub(now()))).await;
    while now() < end {
        let cost = random.u64(1..=3);
        let sent = now();
        let decision = match which {
            0 => rl.redis().absolute().inc("shared", &rate, cost).await.unwrap(),
            _ => rl.redis().suppressed().inc("thinned", &rate, cost).await.unwrap(),
        };
        let received = now();
        match decision {
            decision if decision.is_allowed() => lines += &format!("{which} {sent} {received} {cost}\n"),
            RateLimitDecision::Rejected { retry_after_ms, .. } => {
                assert!((1..=1_011).contains(&retry_after_ms));
                if random.u32(0..8) == 0 {
                    lines += &format!("2 {sent} {received} {cost}\n");
                }
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(random.u64(0..10))).await;
    }
    lines
}
