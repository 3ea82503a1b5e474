//! The engine alone, without a layer: one hot key, then many keys, in the local store.
//!
//! `cargo bench --bench engine -- 'hot key'` runs a part of it. With several threads a figure is the time of
//! one call as its caller sees it, so at perfect scaling it stays what one thread sees.

use std::cell::LazyCell;
use std::hint::black_box;
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};
use tower_weir::{HardLimitFactor, ManualClock, RateLimit, RateLimiter, RateLimiterBuilder, WindowSizeSeconds};

const KEY: &str = "user:00000000042";

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    hot_key(&mut criterion);
    uniform_keys(&mut criterion);
    skewed_keys(&mut criterion);
    criterion.final_summary();
}

fn limiter(window_seconds: u64) -> RateLimiterBuilder {
    RateLimiter::builder().window_size_seconds(WindowSizeSeconds::try_from(window_seconds).expect("a valid window"))
}

fn build(builder: RateLimiterBuilder) -> RateLimiter {
    builder.build().expect("consistent options")
}

fn rate(per_second: f64) -> RateLimit {
    RateLimit::try_from(per_second).expect("a valid rate")
}

/// Never reached by a benchmark.
fn wide() -> RateLimit {
    rate(1e9)
}

/// Times calls from several threads: the mean over the threads of what each took for `iterations` calls.
fn contend(threads: u32, iterations: u64, call: impl Fn() + Sync) -> Duration {
    let start = Barrier::new(threads as usize);
    let one = || {
        start.wait();
        let begin = Instant::now();
        (0..iterations).for_each(|_| call());
        begin.elapsed()
    };
    let sum: Duration = thread::scope(|scope| {
        let running = (0..threads).map(|_| scope.spawn(one)).collect::<Vec<_>>();
        running.into_iter().map(|thread| thread.join().expect("a call panicked")).sum()
    });
    sum / threads
}

fn hot_key(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hot key");

    let (roomy, any) = (build(limiter(60)), wide());
    each_thread_count(&mut group, "admit", || {
        assert!(roomy.local().absolute().inc(black_box(KEY), &any, 1).is_allowed());
    });
    each_thread_count(&mut group, "suppressed below the limit", || {
        assert!(roomy.local().suppressed().inc(black_box(KEY), &any, 1).is_allowed());
    });

    // Full for an hour.
    let (full, few) = (build(limiter(3_600)), rate(1.0));
    assert!(full.local().absolute().inc(KEY, &few, 3_600).is_allowed());
    each_thread_count(&mut group, "reject", || {
        assert!(!full.local().absolute().inc(black_box(KEY), &few, 1).is_allowed());
    });

    // A thousand buckets behind the key; the clock then stands still.
    let clock = ManualClock::new();
    let (full, few) = (build(limiter(60).clock(clock.clone())), rate(20.0));
    for _ in 0..1_200 {
        clock.advance(Duration::from_millis(10));
        assert!(full.local().absolute().inc(KEY, &few, 1).is_allowed());
    }
    each_thread_count(&mut group, "reject with a long history", || {
        assert!(!full.local().absolute().inc(black_box(KEY), &few, 1).is_allowed());
    });

    // Far more is asked than the limit has, so nearly all of it is shed.
    let hard = HardLimitFactor::try_from(1.5).expect("at least 1");
    let (crowded, some) = (build(limiter(1).hard_limit_factor(hard)), rate(1_000.0));
    each_thread_count(&mut group, "suppressed over the limit", || {
        black_box(crowded.local().suppressed().inc(black_box(KEY), &some, 1));
    });
    group.finish();
}

fn each_thread_count(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, call: impl Fn() + Sync) {
    for (threads, label) in [(1, "1 thread"), (2, "2 threads")] {
        group.bench_function(format!("{name}/{label}"), |bencher| {
            bencher.iter_custom(|iterations| contend(threads, iterations, &call));
        });
    }
}

fn uniform_keys(criterion: &mut Criterion) {
    const KEYS: u32 = 100_000;
    let workload = OnceLock::new();
    let workload = || workload.get_or_init(|| Workload::new(KEYS, |rng| rng.u32(0..KEYS)));

    let mut group = criterion.benchmark_group("100k keys");
    for (window_seconds, label) in [(60, "window 60 s"), (1, "window 1 s")] {
        many_keys(&mut group, label, build(limiter(window_seconds)), wide(), &workload, true);
    }
    many_keys(&mut group, "reject", build(limiter(3_600)), rate(0.001), &workload, false);
    group.finish();
}

fn skewed_keys(criterion: &mut Criterion) {
    const KEYS: u32 = 1_000_000;
    let workload = OnceLock::new();
    let workload = || workload.get_or_init(|| Workload::new(KEYS, zipf(KEYS)));

    let mut group = criterion.benchmark_group("1M keys, Zipf");
    many_keys(&mut group, "window 60 s", build(limiter(60)), wide(), &workload, true);
    group.finish();
}

/// Times calls on the keys of a workload, all of which are known by then, and full where `admits` is not set.
fn many_keys<'a>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    label: &str,
    limiter: RateLimiter,
    rate: RateLimit,
    workload: &impl Fn() -> &'a Workload,
    admits: bool,
) {
    let warm = LazyCell::new(move || {
        for key in &workload().keys {
            while limiter.local().absolute().inc(key, &rate, 1).is_allowed() && !admits {}
        }
        limiter
    });
    group.bench_function(label, |bencher| {
        let (limiter, workload) = (LazyCell::force(&warm), workload());
        let mut order = workload.order.iter().cycle();
        bencher.iter(|| {
            let key = order.next().map_or(KEY.as_bytes(), |&at| &workload.keys[at as usize]);
            assert_eq!(limiter.local().absolute().inc(key, &rate, 1).is_allowed(), admits);
        });
    });
}

/// Keys, and the order in which they are asked for; both exist before anything is timed.
struct Workload {
    keys: Vec<[u8; 16]>,
    order: Vec<u32>,
}

impl Workload {
    fn new(keys: u32, mut draw: impl FnMut(&mut fastrand::Rng) -> u32) -> Self {
        let mut rng = fastrand::Rng::with_seed(42);
        let key = |at: u32| format!("user:{at:011}").into_bytes().try_into().expect("16 bytes");
        Self { keys: (0..keys).map(key).collect(), order: (0..1 << 20).map(|_| draw(&mut rng)).collect() }
    }
}

/// Draws key `k`, counted from one, with a probability in proportion to 1/k.
fn zipf(keys: u32) -> impl FnMut(&mut fastrand::Rng) -> u32 {
    let mut sum = 0.0;
    let cumulative = (1..=keys).map(|k| {
        sum += 1.0 / f64::from(k);
        sum
    });
    let cumulative = cumulative.collect::<Vec<_>>();
    move |rng| {
        let at = rng.f64() * sum;
        u32::try_from(cumulative.partition_point(|&upto| upto < at)).map_or(0, |key| key.min(keys - 1))
    }
}
