//! The scenarios of the engines: one hot key, and many.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use crate::contestants::{AsKey, Engine, Governor, Limit, Nothing, Trypema, WeirIp, WeirText};
use crate::figures::ratio;
use crate::race::{Lap, Race, Scenario, Standing};
use crate::report::{Table, version};

const ADMITS: Answers = Answers::Admit;
const REJECTS: Answers = Answers::Reject;

pub const SCENARIOS: &[Scenario] = &[
    (HOT_ADMIT, |race| hot(race, 1, ADMITS)),
    (HOT_ADMIT_TWO, |race| hot(race, 2, ADMITS)),
    (HOT_REJECT, |race| hot(race, 1, REJECTS)),
    ("reject, one hot key, 2 threads", |race| hot(race, 2, REJECTS)),
    ("suppressed, one hot key, below the limit", |race| hot_suppressed(race, Limit::wide(60), ADMITS)),
    ("suppressed, one hot key, over the limit", |race| hot_suppressed(race, Limit::CROWDED, Answers::Any)),
    (MANY_ADMIT, many_admitted),
    (MANY_REJECT, many_rejected),
];

pub const HOT_ADMIT: &str = "admit, one hot key, 1 thread";
pub const HOT_ADMIT_TWO: &str = "admit, one hot key, 2 threads";
pub const HOT_REJECT: &str = "reject, one hot key, 1 thread";
pub const MANY_ADMIT: &str = "admit, 100 000 keys";
pub const MANY_REJECT: &str = "reject, 100 000 keys";

const LOOP: &str = "loop alone";

/// A row for each scenario and kind of key, in nanoseconds.
pub fn table(standings: &[Standing]) -> Table {
    let [governor, trypema] = ["governor", "trypema"].map(version);
    let heads = ["ns per call", "tower-weir", &governor, &trypema, LOOP, "x governor", "x trypema"];
    let mut table = Table::new(heads);
    for standing in standings {
        for variant in standing.variants() {
            let own = standing.get("tower-weir", variant);
            let cell = |library| standing.get(library, variant).map_or("-".into(), |entrant| entrant.cell());
            let compared = |library| match (own, standing.get(library, variant)) {
                (Some(own), Some(other)) => ratio(&own.rounds, &other.rounds),
                _ => "-".into(),
            };
            let [weir, governor, trypema, alone] = ["tower-weir", "governor", "trypema", LOOP].map(cell);
            let [to_governor, to_trypema] = ["governor", "trypema"].map(compared);
            let title = format!("{}, {variant}", standing.title);
            table.row([title, weir, governor, trypema, alone, to_governor, to_trypema]);
        }
    }
    table
}

/// Which answers are right.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answers {
    Admit,
    Reject,
    Any,
}

impl Answers {
    fn check(self, calls: u64, admitted: u64) {
        match self {
            Self::Admit => assert_eq!(admitted, calls, "a call was rejected; the scenario measures nothing"),
            Self::Reject => assert_eq!(admitted, 0, "a call was admitted; the scenario measures nothing"),
            Self::Any => {}
        }
    }
}

fn hot(race: Race, threads: u32, answers: Answers) -> Race {
    let limit = if answers == ADMITS { Limit::wide(60) } else { Limit::TIGHT };
    race.calls(if threads == 1 { 2_000_000 } else { 1_000_000 })
        .counted(("governor", "address"), one_key::<Governor<IpAddr>>(limit, threads, answers))
        .counted(("governor", "text"), one_key::<Governor<String>>(limit, threads, answers))
        .counted(("trypema", "text"), one_key::<Trypema<false>>(limit, threads, answers))
        .counted(("tower-weir", "address"), one_key::<WeirIp>(limit, threads, answers))
        .counted(("tower-weir", "text"), one_key::<WeirText<false>>(limit, threads, answers))
        .counted((LOOP, "text"), one_key::<Nothing>(limit, threads, Answers::Any))
}

fn hot_suppressed(race: Race, limit: Limit, answers: Answers) -> Race {
    race.calls(2_000_000)
        .counted(("trypema", "text"), one_key::<Trypema<true>>(limit, 1, answers))
        .counted(("tower-weir", "text"), one_key::<WeirText<true>>(limit, 1, answers))
}

/// Calls on one key; and the allocations of a call.
fn one_key<E: Engine<Key: AsKey>>(limit: Limit, threads: u32, answers: Answers) -> (Lap, f64) {
    const COUNTED: u64 = 10_000;
    let (engine, key) = (E::new(limit), E::Key::numbered(42));
    if answers == REJECTS {
        engine.exhaust(&key);
    }
    let call = move |_| engine.admits(black_box(&key));
    time(COUNTED, &call, answers);
    let (_, allocations, _) = crate::alloc::count(|| time(COUNTED, &call, answers));
    let lap = Box::new(move |calls| match threads {
        1 => time(calls, &call, answers),
        _ => contend(threads, calls, &call, answers),
    });
    (lap, allocations as f64 / COUNTED as f64)
}

#[inline]
fn time(calls: u64, call: &impl Fn(usize) -> bool, answers: Answers) -> Duration {
    let begin = Instant::now();
    let admitted = (0..calls).map(|at| u64::from(call(at as usize))).sum();
    let elapsed = begin.elapsed();
    answers.check(calls, admitted);
    elapsed
}

/// The mean over the threads of what each of them took for its calls.
fn contend(threads: u32, calls: u64, call: &(impl Fn(usize) -> bool + Sync), answers: Answers) -> Duration {
    let start = Barrier::new(threads as usize);
    let one = || {
        start.wait();
        time(calls, call, answers)
    };
    let sum: Duration = thread::scope(|scope| {
        let running = (0..threads).map(|_| scope.spawn(one)).collect::<Vec<_>>();
        running.into_iter().map(|thread| thread.join().expect("a call panicked")).sum()
    });
    sum / threads
}

/// Keys of both types, and the order in which every contestant asks for them.
struct Workload {
    addresses: Arc<[IpAddr]>,
    texts: Arc<[String]>,
    order: Arc<[u32]>,
}

impl Workload {
    fn uniform() -> Self {
        const KEYS: u32 = 100_000;
        let mut rng = fastrand::Rng::with_seed(42);
        Self {
            addresses: (0..KEYS).map(IpAddr::numbered).collect(),
            texts: (0..KEYS).map(String::numbered).collect(),
            order: (0..1 << 20).map(|_| rng.u32(0..KEYS)).collect(),
        }
    }

    fn address<E: Engine<Key = IpAddr>>(&self, limit: Limit, answers: Answers) -> Lap {
        many_keys::<E>(&self.addresses, &self.order, limit, answers)
    }

    fn text<E: Engine<Key = String>>(&self, limit: Limit, answers: Answers) -> Lap {
        many_keys::<E>(&self.texts, &self.order, limit, answers)
    }

    /// Adds what the loop over the keys costs without an engine.
    fn alone(&self, race: Race) -> Race {
        let address = walk(&self.addresses, &self.order, AsKey::touch, Answers::Any);
        let text = walk(&self.texts, &self.order, AsKey::touch, Answers::Any);
        race.contestant((LOOP, "address"), address).contestant((LOOP, "text"), text)
    }
}

/// Calls on many keys, all of which are known before, and exhausted where the answer is to be a rejection.
fn many_keys<E: Engine>(keys: &Arc<[E::Key]>, order: &Arc<[u32]>, limit: Limit, answers: Answers) -> Lap {
    let engine = E::new(limit);
    for key in keys.iter() {
        match answers {
            REJECTS => engine.exhaust(key),
            _ => assert!(engine.admits(key)),
        }
    }
    walk(keys, order, move |key| engine.admits(key), answers)
}

fn walk<K: Sync + 'static>(
    keys: &Arc<[K]>,
    order: &Arc<[u32]>,
    call: impl Fn(&K) -> bool + 'static,
    answers: Answers,
) -> Lap {
    let (keys, order) = (Arc::clone(keys), Arc::clone(order));
    let at = move |turn: usize| call(&keys[order[turn % order.len()] as usize]);
    Box::new(move |calls| time(calls, &at, answers))
}

fn many_admitted(race: Race) -> Race {
    let keys = Workload::uniform();
    let (second, minute) = (Limit::wide(1), Limit::wide(60));
    keys.alone(race)
        .calls(500_000)
        .contestant(("governor", "address"), keys.address::<Governor<IpAddr>>(second, ADMITS))
        .contestant(("governor", "text"), keys.text::<Governor<String>>(second, ADMITS))
        .contestant(("trypema", "text"), keys.text::<Trypema<false>>(second, ADMITS))
        .contestant(("trypema", "text, 60 s"), keys.text::<Trypema<false>>(minute, ADMITS))
        .contestant(("tower-weir", "address"), keys.address::<WeirIp>(second, ADMITS))
        .contestant(("tower-weir", "text"), keys.text::<WeirText<false>>(second, ADMITS))
        .contestant(("tower-weir", "text, 60 s"), keys.text::<WeirText<false>>(minute, ADMITS))
}

fn many_rejected(race: Race) -> Race {
    let keys = Workload::uniform();
    keys.alone(race)
        .calls(500_000)
        .contestant(("governor", "address"), keys.address::<Governor<IpAddr>>(Limit::TIGHT, REJECTS))
        .contestant(("governor", "text"), keys.text::<Governor<String>>(Limit::TIGHT, REJECTS))
        .contestant(("trypema", "text"), keys.text::<Trypema<false>>(Limit::TIGHT, REJECTS))
        .contestant(("tower-weir", "address"), keys.address::<WeirIp>(Limit::TIGHT, REJECTS))
        .contestant(("tower-weir", "text"), keys.text::<WeirText<false>>(Limit::TIGHT, REJECTS))
}
