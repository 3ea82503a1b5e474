//! Memory, each case in a process of its own: this program again, with a flag and the name of the case.

use std::any::Any;
use std::net::IpAddr;
use std::process::{Command, ExitCode};
use std::time::Duration;
use std::{env, fs, thread};

use tower_weir::{ManualClock, RateLimit, RateLimiter};
use tower_weir::store::{BudgetRequest, Policy, Store, Strategy};
use trypema::RateLimiterBuilder as _;
use trypema::local::LocalRateLimiterProvider;

use crate::alloc;
use crate::contestants::{AsKey, Engine, Governor, Limit, Trypema, WeirIp, WeirText};

pub const CHILD_FLAG: &str = "--measure-memory";
const KEYS: u32 = 1_000_000;

/// Fills a limiter; returns it, so that it stays alive, and the live bytes that this took.
type Fill = fn() -> Filled;
type Filled = (Box<dyn Any>, isize);

/// Cases that are shown together.
pub struct Group {
    pub title: &'static str,
    goal: &'static str,
    unit: &'static str,
    /// How many units a case makes.
    count: u32,
    cases: &'static [Case],
}

struct Case {
    name: &'static str,
    /// Nothing where the contestant cannot do this.
    fill: Option<Fill>,
}

pub const GROUPS: &[Group] = &[
    Group {
        title: "memory, 1M keys with one request each",
        goal: "<= 100 B; suppressed or several limits <= 200 B",
        unit: "B/key",
        count: KEYS,
        cases: &[
            Case { name: "governor, address", fill: Some(keys::<Governor<IpAddr>>) },
            Case { name: "governor, text", fill: Some(keys::<Governor<String>>) },
            Case { name: "trypema, text", fill: Some(keys::<Trypema<false>>) },
            Case { name: "trypema, text, suppressed", fill: Some(keys::<Trypema<true>>) },
            Case { name: "trypema, text, shedding", fill: Some(shedding_keys::<Trypema<true>>) },
            Case { name: "tower-weir, address", fill: Some(keys::<WeirIp>) },
            Case { name: "tower-weir, text", fill: Some(keys::<WeirText<false>>) },
            Case { name: "tower-weir, text, suppressed", fill: Some(keys::<WeirText<true>>) },
            Case { name: "tower-weir, text, shedding", fill: Some(shedding_keys::<WeirText<true>>) },
            Case { name: "tower-weir, text, two quotas", fill: Some(keys_under_two_quotas) },
        ],
    },
    Group {
        title: "memory, one key with many live buckets",
        goal: "<= 8500 B, bounded",
        unit: "B",
        count: 1,
        cases: &[
            Case { name: "governor", fill: None },
            Case { name: "trypema, 1000 buckets", fill: Some(trypema_buckets) },
            Case { name: "tower-weir, 1000 buckets", fill: Some(|| weir_buckets(1_000)) },
            Case { name: "tower-weir, 6000 buckets", fill: Some(|| weir_buckets(6_000)) },
        ],
    },
];

impl Group {
    /// Measures each case in a child process and prints the table.
    pub fn run(&self) {
        println!("\n{}   goal: {}", self.title, self.goal);
        println!("  {:<32}{:>14}{:>14}", "", format!("live {}", self.unit), format!("RSS {}", self.unit));
        for case in self.cases {
            let name = case.name;
            let measured = case.fill.map(|_| measure(&format!("{}/{name}", self.title)));
            match measured {
                None => println!("  {name:<32}{:>14}{:>14}", "-", "-"),
                Some(Err(message)) => println!("  {name:<32}  failed: {message}"),
                Some(Ok((live, resident))) => {
                    let count = f64::from(self.count);
                    // A page is too coarse a measure of one key.
                    let resident = if self.count == 1 { "-".into() } else { format!("{:.1}", resident / count) };
                    println!("  {name:<32}{:>14.1}{resident:>14}", live / count);
                }
            }
        }
    }
}

/// Asks a child process for the live bytes and the growth of the resident set.
fn measure(case: &str) -> Result<(f64, f64), String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program).args([CHILD_FLAG, case]).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut figures = text.split_whitespace().map_while(|figure| figure.parse().ok());
    match (figures.next(), figures.next()) {
        (Some(live), Some(resident)) => Ok((live, resident)),
        _ => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// What the child process does.
pub fn child(wanted: &str) -> ExitCode {
    let cases = GROUPS.iter().flat_map(|group| group.cases.iter().map(move |case| (group.title, case)));
    let mut cases = cases.filter(|(title, case)| format!("{title}/{}", case.name) == wanted);
    let Some(fill) = cases.next().and_then(|(_, case)| case.fill) else {
        eprintln!("there is no case {wanted:?}");
        return ExitCode::FAILURE;
    };
    let before = resident_bytes();
    let (kept, live) = fill();
    println!("{live} {}", resident_bytes() - before);
    drop(kept);
    ExitCode::SUCCESS
}

/// The resident set by Linux's /proc; 0 where there is none.
fn resident_bytes() -> i64 {
    const PAGE: i64 = 4_096;
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<i64>().ok());
    pages.unwrap_or(0) * PAGE
}

/// Fills a limiter and counts all of it.
fn filled<T: Any>(fill: impl FnOnce() -> T) -> Filled {
    let (limiter, _, live) = alloc::count(fill);
    (Box::new(limiter), live)
}

fn keys<E: Engine<Key: AsKey>>() -> Filled {
    filled(|| {
        let engine = E::new(Limit::wide(60));
        (0..KEYS).for_each(|number| assert!(engine.admits(&E::Key::numbered(number))));
        engine
    })
}

/// Four requests for each key where one is the limit and two the hard cap.
fn shedding_keys<E: Engine<Key: AsKey>>() -> Filled {
    filled(|| {
        let engine = E::new(Limit::SINGLE);
        for key in (0..KEYS).map(E::Key::numbered) {
            let admitted = (0..4).filter(|_| engine.admits(&key)).count();
            assert!((1..4).contains(&admitted));
        }
        engine
    })
}

/// A limit of two quotas, as a layer opens it.
fn keys_under_two_quotas() -> Filled {
    filled(|| {
        let quotas = ["1000000000/s", "10000000000/min"].map(|quota| quota.parse().expect("a valid quota"));
        let limiter = RateLimiter::builder().build().expect("consistent options");
        let policy = Policy::new("two", quotas, Strategy::Absolute);
        let budget = limiter.local().open(&policy).expect("a valid policy");
        for number in 0..KEYS {
            budget.decide(BudgetRequest::new(String::numbered(number).as_bytes(), 1));
        }
        assert_eq!(limiter.local().keys(), KEYS as usize);
        (limiter, budget)
    })
}

/// Counts what a key grows by after its first bucket, which leaves out the limiter itself.
fn grown<T: Any>(limiter: T, buckets: u64, next_bucket: impl Fn(&T)) -> Filled {
    next_bucket(&limiter);
    let ((), _, live) = alloc::count(|| (1..buckets).for_each(|_| next_bucket(&limiter)));
    (Box::new(limiter), live)
}

/// Buckets of 10 ms in a window of a minute, by a clock that is moved by hand.
fn weir_buckets(buckets: u64) -> Filled {
    let clock = ManualClock::new();
    let limiter = RateLimiter::builder().clock(clock.clone()).build().expect("consistent options");
    let rate = RateLimit::try_from(1e9).expect("a valid rate");
    grown(limiter, buckets, move |limiter| {
        assert!(limiter.local().absolute().inc("key", &rate, 1).is_allowed());
        clock.advance(Duration::from_millis(10));
    })
}

/// Buckets of 1 ms in a window of a minute, since this clock cannot be moved: it must be waited for.
fn trypema_buckets() -> Filled {
    let bucket = trypema::BucketSize::milliseconds_or_panic(1);
    let provider = LocalRateLimiterProvider::builder().bucket_size(bucket).build().expect("consistent options");
    let rate = trypema::RateLimit::max();
    grown(provider, 1_000, move |provider| {
        provider.absolute().inc("key", &rate, 1);
        thread::sleep(Duration::from_millis(3));
    })
}
