//! What all contestants have to do: tasks that ask again as soon as they have an answer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::figures::grouped;
use crate::histogram::Histogram;
use crate::report::Failure;

/// Something that decides on keys, which it knows by their numbers.
pub trait Contestant: Send + Sync + 'static {
    fn admits(&self, key: usize) -> impl Future<Output = bool> + Send;
}

/// Who asks for what.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub tasks: usize,
    pub keys: usize,
    pub is_admitted: bool,
    /// Whether each answer's time is taken.
    pub is_timed: bool,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_admitted { "admit" } else { "reject" };
        let keys = if self.keys == 1 { "one hot key".into() } else { format!("{} keys", grouped(self.keys as u64)) };
        let tasks = if self.tasks == 1 { "1 task".into() } else { format!("{} tasks", self.tasks) };
        write!(f, "{verdict}, {keys}, {tasks}")
    }
}

/// What a lap brought.
#[derive(Clone, Debug, Default)]
pub struct Lap {
    pub decisions: u64,
    pub admitted: u64,
    pub elapsed: Duration,
    pub latencies: Histogram,
}

type Running<T> = Pin<Box<dyn Future<Output = Result<T, Failure>>>>;

/// A contestant by its name.
pub struct Entrant {
    pub name: &'static str,
    /// Whether it limits anything, so that its answers are to be checked.
    pub limits: bool,
    lap: Box<dyn Fn(Load, Duration) -> Running<Lap>>,
    once: Box<dyn Fn(usize) -> Running<u64>>,
}

impl Entrant {
    pub fn new(name: &'static str, limits: bool, contestant: impl Contestant) -> Self {
        let contestant = Arc::new(contestant);
        let again = Arc::clone(&contestant);
        Self {
            name,
            limits,
            lap: Box::new(move |load, time| Box::pin(lap(Arc::clone(&contestant), load, time))),
            once: Box::new(move |keys| Box::pin(once(Arc::clone(&again), keys))),
        }
    }

    pub async fn lap(&self, load: Load, time: Duration) -> Result<Lap, Failure> {
        let lap = (self.lap)(load, time).await?;
        let expected = if load.is_admitted { lap.decisions } else { 0 };
        if self.limits && lap.admitted != expected {
            return Err(format!("{}: {load}: {} of {} admitted", self.name, lap.admitted, lap.decisions).into());
        }
        Ok(lap)
    }

    /// Asks once for every key; returns how many were admitted.
    pub async fn once(&self, keys: usize) -> Result<u64, Failure> {
        (self.once)(keys).await
    }
}

async fn lap<C: Contestant>(contestant: Arc<C>, load: Load, time: Duration) -> Result<Lap, Failure> {
    let (start, end) = (Instant::now(), Instant::now() + time);
    let tasks = (0..load.tasks).map(|_| tokio::spawn(ask_until(Arc::clone(&contestant), load, end)));
    let mut lap = Lap::default();
    for task in tasks.collect::<Vec<_>>() {
        let part = task.await?;
        lap.decisions += part.decisions;
        lap.admitted += part.admitted;
        lap.latencies.add(&part.latencies);
    }
    Ok(Lap { elapsed: start.elapsed(), ..lap })
}

async fn ask_until<C: Contestant>(contestant: Arc<C>, load: Load, end: Instant) -> Lap {
    let mut lap = Lap::default();
    let mut asked = Instant::now();
    while asked < end {
        lap.admitted += u64::from(contestant.admits(fastrand::usize(..load.keys)).await);
        lap.decisions += 1;
        if load.is_timed {
            let answered = Instant::now();
            lap.latencies.note(answered - asked);
            asked = answered;
        }
        // What is answered without I/O would keep the other tasks of its thread from their turn.
        if lap.decisions % 128 == 0 {
            tokio::task::yield_now().await;
            asked = Instant::now();
        }
    }
    lap
}

async fn once<C: Contestant>(contestant: Arc<C>, keys: usize) -> Result<u64, Failure> {
    const STRIPES: usize = 64;
    let stripe = |first| {
        let contestant = Arc::clone(&contestant);
        tokio::spawn(async move {
            let mut admitted = 0;
            for key in (first..keys).step_by(STRIPES) {
                admitted += u64::from(contestant.admits(key).await);
            }
            admitted
        })
    };
    let mut admitted = 0;
    for stripe in (0..STRIPES).map(stripe).collect::<Vec<_>>() {
        admitted += stripe.await?;
    }
    Ok(admitted)
}
