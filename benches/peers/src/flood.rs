//! A flood of new keys beside known ones, each contestant in a process of its own.
//!
//! One thread asks once for each of ten million keys, as fast as it can. Another one asks for known keys on a fixed
//! schedule: a thousand honest ones at 0.9 of their limit, and a hundred abusive ones at ten times theirs. Where an
//! engine leaves the cleanup to its user, a third thread calls it each second.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::child::{self, Case};
use crate::contestants::{AsKey, Engine, Governor, Limit, Nothing, Trypema, WeirText, renumber};
use crate::figures::{grouped, time};
use crate::histogram::Histogram;
use crate::race::Settings;
use crate::report::{Failure, Table, version};

const CASES: &[Case] = &[
    ("flood/tower-weir", flood::<WeirText<false>>),
    ("flood/governor", flood::<Governor<String>>),
    ("flood/trypema", flood::<Trypema<false>>),
    ("flood/no limiter", flood::<Nothing>),
];

pub fn cases() -> impl Iterator<Item = &'static Case> {
    CASES.iter()
}

const KEYS: u64 = 10_000_000;
const PER_SECOND: u32 = 10;
const WINDOW: Duration = Duration::from_secs(2);
const CAPACITY: u32 = 20;
const HONEST: u32 = 1_000;
const ABUSIVE: u32 = 100;
/// The numbers of known keys lie above those of all others.
const FIRST_KNOWN: u32 = 4_000_000_000;

/// Two tables: what was limited with which memory, and how long calls took.
pub fn measure() -> Result<String, Failure> {
    let heads = ["", "new keys", "of them admitted", "known keys: honest admitted", "most in 2 s (limit 20)"];
    let more = ["keys retained", "memory after 1/10", "after all", "at most"];
    let mut limits = Table::new(heads.into_iter().chain(more));
    let heads = ["call", "known p50", "p99", "p99.9", "longest", "new p50", "p99", "p99.9", "longest"];
    let mut times = Table::new(heads);
    for (case, _) in CASES {
        let library = case.trim_start_matches("flood/");
        let name = if ["governor", "trypema"].contains(&library) { version(library) } else { library.into() };
        let figures = child::measure(case)?;
        let [seconds, keys, admitted, asked, kept, most, retained, tenth, all, peak, latencies @ ..] = &figures[..]
        else {
            return Err(format!("{case}: figures are missing").into());
        };
        let megabytes = |bytes: &f64| format!("{:.0} MB", bytes / 1e6);
        limits.row([
            name.clone(),
            format!("{} in {seconds:.1} s", grouped(*keys as u64)),
            grouped(*admitted as u64),
            format!("{:.2} %", 100.0 * kept / asked),
            format!("{most}"),
            if retained.is_nan() { "unknown".into() } else { grouped(*retained as u64) },
            megabytes(tenth),
            megabytes(all),
            megabytes(peak),
        ]);
        times.row(std::iter::once(name).chain(latencies.iter().map(|&nanos| time(nanos))));
    }
    Ok(format!("{limits}\n{times}"))
}

/// What the child process measures.
fn flood<E: Engine<Key = String>>() -> Vec<f64> {
    let keys = Settings::from_env().expect("settings that the parent has read").scaled(KEYS);
    let mut known = Known::new();
    let (mut key, mut latencies) = (String::numbered(0), Histogram::default());
    let before = child::resident_bytes();
    let engine = E::new(Limit::flooded(PER_SECOND.into(), WINDOW.as_secs()));
    let is_over = AtomicBool::new(false);
    let (mut admitted, mut tenth) = (0_u64, 0.0);
    let elapsed = thread::scope(|scope| {
        scope.spawn(|| known.ask(&engine, &is_over));
        scope.spawn(|| clean_each_second(&engine, &is_over));
        // The known keys are known by then, and use what their limit allows.
        thread::sleep(WINDOW);
        let start = Instant::now();
        for number in 0..keys {
            renumber(&mut key, number as u32);
            let asked = Instant::now();
            admitted += u64::from(engine.admits(&key));
            latencies.note(asked.elapsed());
            if number == keys / 10 {
                tenth = child::resident_bytes() - before;
            }
        }
        is_over.store(true, Relaxed);
        start.elapsed()
    });
    let mut figures = vec![elapsed.as_secs_f64(), keys as f64, admitted as f64];
    figures.extend([known.honest_asked as f64, known.honest_admitted as f64, f64::from(known.most_of_one())]);
    figures.push(engine.keys().map_or(f64::NAN, |keys| keys as f64));
    figures.extend([tenth, child::resident_bytes() - before, child::peak_resident_bytes() - before]);
    for latencies in [&known.latencies, &latencies] {
        figures.extend([0.5, 0.99, 0.999].map(|part| latencies.quantile(part)));
        figures.push(latencies.longest());
    }
    figures
}

/// Calls an engine's cleanup each second until the flood is over.
pub fn clean_each_second(engine: &impl Engine, is_over: &AtomicBool) {
    let mut cleaned = Instant::now();
    while !is_over.load(Relaxed) {
        thread::sleep(Duration::from_millis(10));
        if cleaned.elapsed() >= Duration::from_secs(1) {
            engine.clean();
            cleaned = Instant::now();
        }
    }
}

/// An admission of an abusive key: its number, when it was asked for, and when that was answered.
type Admission = (u32, Duration, Duration);

/// The known keys, and the results of their requests.
struct Known {
    keys: Vec<String>,
    /// When to ask for which key, within each second.
    schedule: Vec<(Duration, u32)>,
    honest_asked: u64,
    honest_admitted: u64,
    abusive: Vec<Admission>,
    latencies: Histogram,
}

impl Known {
    fn new() -> Self {
        let mut schedule = Vec::new();
        for key in 0..HONEST + ABUSIVE {
            let per_second = if key < HONEST { PER_SECOND * 9 / 10 } else { PER_SECOND * 10 };
            let phase = f64::from(key) / f64::from(HONEST + ABUSIVE);
            let due = |turn| Duration::from_secs_f64((f64::from(turn) + phase) / f64::from(per_second));
            schedule.extend((0..per_second).map(|turn| (due(turn), key)));
        }
        schedule.sort_unstable();
        // Written once, so that the pages are in memory before it is measured.
        let mut abusive = vec![(1, Duration::MAX, Duration::MAX); 1 << 20];
        abusive.clear();
        Self {
            keys: (0..HONEST + ABUSIVE).map(|key| String::numbered(FIRST_KNOWN + key)).collect(),
            schedule,
            honest_asked: 0,
            honest_admitted: 0,
            abusive,
            latencies: Histogram::default(),
        }
    }

    /// Keeps to the schedule until the flood is over.
    fn ask(&mut self, engine: &impl Engine<Key = String>, is_over: &AtomicBool) {
        let start = Instant::now();
        for second in 0.. {
            for &(offset, key) in &self.schedule {
                let due = Duration::from_secs(second) + offset;
                while start.elapsed() < due {
                    if is_over.load(Relaxed) {
                        return;
                    }
                    thread::yield_now();
                }
                let asked = start.elapsed();
                let is_admitted = engine.admits(&self.keys[key as usize]);
                let answered = start.elapsed();
                self.latencies.note(answered - asked);
                if key < HONEST {
                    self.honest_asked += 1;
                    self.honest_admitted += u64::from(is_admitted);
                } else if is_admitted && self.abusive.len() < self.abusive.capacity() {
                    self.abusive.push((key, asked, answered));
                }
            }
        }
    }

    /// The most units that one abusive key certainly got within one window: asked for and answered in it.
    fn most_of_one(&mut self) -> u32 {
        self.abusive.sort_unstable();
        let within = |at: usize| {
            let (key, start, _) = self.abusive[at];
            let same =
                self.abusive[at..].iter().take_while(|&&(other, asked, _)| other == key && asked < start + WINDOW);
            same.filter(|(.., answered)| *answered < start + WINDOW).count() as u32
        };
        (0..self.abusive.len()).map(within).max().unwrap_or(0)
    }
}

const _: () = assert!(PER_SECOND as u64 * WINDOW.as_secs() == CAPACITY as u64);
