//! Memory, each case in a process of its own.

use std::any::Any;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use tower_weir::store::{BudgetRequest, Policy, Store, Strategy};
use tower_weir::{ManualClock, RateLimit, RateLimiter};
use trypema::RateLimiterBuilder as _;
use trypema::local::LocalRateLimiterProvider;

use crate::alloc;
use crate::child::{self, Case};
use crate::contestants::{AsKey, Engine, Governor, Limit, Trypema, WeirIp, WeirText};
use crate::figures::grouped;
use crate::plot::{Bar, Bars, color};
use crate::report::{Failure, Table};

const KEYS: u32 = 1_000_000;

/// A million keys: the case, the contestant, and its type of key or strategy.
const KEYED: &[(Case, &str, &str)] = &[
    (("memory/weir-address", || keys::<WeirIp>()), "tower-weir", "address"),
    (("memory/weir-text", || keys::<WeirText<false>>()), "tower-weir", "text"),
    (("memory/weir-suppressed", || keys::<WeirText<true>>()), "tower-weir", "text, suppressed"),
    (("memory/weir-shedding", || shedding_keys::<WeirText<true>>()), "tower-weir", "text, shedding"),
    (("memory/weir-two-quotas", keys_under_two_quotas), "tower-weir", "text, two quotas"),
    (("memory/governor-address", || keys::<Governor<IpAddr>>()), "governor", "address"),
    (("memory/governor-text", || keys::<Governor<String>>()), "governor", "text"),
    (("memory/trypema-text", || keys::<Trypema<false>>()), "trypema", "text"),
    (("memory/trypema-suppressed", || keys::<Trypema<true>>()), "trypema", "text, suppressed"),
    (("memory/trypema-shedding", || shedding_keys::<Trypema<true>>()), "trypema", "text, shedding"),
];

/// One key with a long history.
const BUCKETS: &[(Case, &str, &str)] = &[
    (("memory/weir-1000-buckets", || weir_buckets(1_000)), "tower-weir", "1 000 buckets"),
    (("memory/weir-6000-buckets", || weir_buckets(6_000)), "tower-weir", "6 000 buckets"),
    (("memory/trypema-1000-buckets", trypema_buckets), "trypema", "1 000 buckets"),
];

pub fn cases() -> impl Iterator<Item = &'static Case> {
    KEYED.iter().chain(BUCKETS).map(|(case, ..)| case)
}

/// What a key weighs: the contestant, what it is used with, live bytes, and the growth of the resident set in bytes.
pub struct Weight {
    pub library: &'static str,
    pub variant: &'static str,
    pub live: f64,
    resident: f64,
}

/// The weights of a million keys; and of one key with a long history, whose resident set is too coarse a measure.
pub struct Weights {
    pub keyed: Vec<Weight>,
    buckets: Vec<Weight>,
}

impl Weights {
    pub fn measure() -> Result<Self, Failure> {
        let of = |cases: &[(Case, &'static str, &'static str)], count: f64| {
            let measured = cases.iter().map(|&((case, _), library, variant)| {
                let [live, resident] = child::measure(case)?[..] else { return Err("two figures expected".into()) };
                Ok(Weight { library, variant, live: live / count, resident: resident / count })
            });
            measured.collect::<Result<Vec<_>, Failure>>()
        };
        Ok(Self { keyed: of(KEYED, f64::from(KEYS))?, buckets: of(BUCKETS, 1.0)? })
    }

    pub fn text(&self) -> String {
        let mut keyed = Table::new(["bytes per key, one million keys with one request each", "live", "resident"]);
        for Weight { library, variant, live, resident } in &self.keyed {
            keyed.row([format!("{library}, {variant}"), format!("{live:.0}"), format!("{resident:.0}")]);
        }
        let mut buckets = Table::new(["bytes of one key with a long history", "live"]);
        for Weight { library, variant, live, .. } in &self.buckets {
            buckets.row([format!("{library}, {variant}"), grouped(*live as u64)]);
        }
        format!("{keyed}\n{buckets}")
    }

    pub fn plot(&self) -> String {
        let series: Vec<_> = ["tower-weir", "governor", "trypema"].map(|library| (library, color(library))).into();
        let groups = ["address", "text", "text, suppressed", "text, shedding", "text, two quotas"].map(|variant| {
            let bar = |&(library, _): &(&str, &str)| {
                let found = self.keyed.iter().find(|weight| (weight.library, weight.variant) == (library, variant));
                found.map(|weight| Bar { value: weight.live, spread: None })
            };
            (vec![variant.to_owned()], series.iter().map(bar).collect())
        });
        let title = "Memory of one key, with one million keys";
        let description = "Bars of the live bytes of a key, by its type and its strategy, for each limiter.";
        Bars { title, description, axis: "live bytes per key", series, groups: groups.into() }.draw(760.0, 340.0)
    }
}

/// Fills a limiter; returns the live bytes that this took, and the growth of the resident set.
fn filled<T: Any>(fill: impl FnOnce() -> T) -> Vec<f64> {
    let before = child::resident_bytes();
    let (limiter, _, live) = alloc::count(fill);
    let figures = vec![live as f64, child::resident_bytes() - before];
    drop(limiter);
    figures
}

fn keys<E: Engine<Key: AsKey>>() -> Vec<f64> {
    filled(|| {
        let engine = E::new(Limit::wide(60));
        (0..KEYS).for_each(|number| assert!(engine.admits(&E::Key::numbered(number))));
        engine
    })
}

/// Four requests for each key where one is the limit and two the hard cap.
fn shedding_keys<E: Engine<Key: AsKey>>() -> Vec<f64> {
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
fn keys_under_two_quotas() -> Vec<f64> {
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
fn grown<T: Any>(limiter: T, buckets: u64, next_bucket: impl Fn(&T)) -> Vec<f64> {
    next_bucket(&limiter);
    let ((), _, live) = alloc::count(|| (1..buckets).for_each(|_| next_bucket(&limiter)));
    vec![live as f64, 0.0]
}

/// Buckets of 10 ms in a window of a minute, by a clock that is moved by hand.
fn weir_buckets(buckets: u64) -> Vec<f64> {
    let clock = ManualClock::new();
    let limiter = RateLimiter::builder().clock(clock.clone()).build().expect("consistent options");
    let rate = RateLimit::try_from(1e9).expect("a valid rate");
    grown(limiter, buckets, move |limiter| {
        assert!(limiter.local().absolute().inc("key", &rate, 1).is_allowed());
        clock.advance(Duration::from_millis(10));
    })
}

/// Buckets of 1 ms in a window of a minute. This clock cannot be moved, so each bucket takes its time.
fn trypema_buckets() -> Vec<f64> {
    let bucket = trypema::BucketSize::milliseconds_or_panic(1);
    let window = trypema::WindowSize::seconds_or_panic(60);
    let builder = LocalRateLimiterProvider::builder().bucket_size(bucket).window_size(window);
    let rate = trypema::RateLimit::max();
    grown(builder.build().expect("consistent options"), 1_000, move |provider| {
        provider.absolute().inc("key", &rate, 1);
        thread::sleep(Duration::from_millis(3));
    })
}
