//! One key in this process, decided by both strategies with the same load.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tower_weir::store::{BudgetRequest, BudgetResponse};
use tower_weir::{ConfigError, Decision, ManualClock, RateLimiter};

use crate::history::{Series, Stopwatch};
use crate::limit::{KEY, Limit};
use crate::load::Arrivals;
use crate::settings::Settings;
use crate::track::Track;

/// The time between two steps of the generator, which sends all requests that are due.
const STEP: Duration = Duration::from_millis(2);

/// The counts of both strategies. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Local(Arc<Mutex<Tracks>>);

#[derive(Debug)]
pub(crate) struct Tracks {
    /// The settings that the limits have.
    pub(crate) settings: Settings,
    pub(crate) absolute: Track,
    pub(crate) suppressed: Track,
    /// The largest suppression factor of each slice.
    pub(crate) factor: Series,
    /// The limit of each slice, because it can change.
    pub(crate) limit: Series,
    pub(crate) hard_cap: Series,
}

impl Local {
    /// Starts a thread that sends requests and decides on them.
    pub(crate) fn start(watch: Stopwatch, changes: watch::Receiver<Settings>) -> Result<Self, ConfigError> {
        let generator = Generator::new(watch, changes)?;
        let settings = generator.settings.clone();
        let window_ms = settings.window_ms();
        let local = Self(Arc::new(Mutex::new(Tracks {
            settings,
            absolute: Track::new(window_ms),
            suppressed: Track::new(window_ms),
            factor: Series::new(),
            limit: Series::new(),
            hard_cap: Series::new(),
        })));
        thread::spawn({
            let local = local.clone();
            move || generator.run(&local)
        });
        Ok(local)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Tracks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Generator {
    watch: Stopwatch,
    changes: watch::Receiver<Settings>,
    settings: Settings,
    /// The generator sets this clock before each decision, so that it knows the time of the decision exactly.
    clock: ManualClock,
    absolute: Limit,
    suppressed: Limit,
}

impl Generator {
    fn new(watch: Stopwatch, mut changes: watch::Receiver<Settings>) -> Result<Self, ConfigError> {
        let clock = ManualClock::new();
        let limiter = RateLimiter::builder().clock(clock.clone()).build()?;
        let settings = changes.borrow_and_update().clone();
        // Names of their own, because limits with one name share their history.
        let absolute = Limit::open(limiter.local().clone(), "absolute", false, &settings)?;
        let suppressed = Limit::open(limiter.local().clone(), "suppressed", true, &settings)?;
        Ok(Self { watch, changes, settings, clock, absolute, suppressed })
    }

    /// Runs until the program ends.
    fn run(mut self, local: &Local) {
        let mut arrivals = Arrivals::new(self.watch.elapsed());
        while self.changes.has_changed().is_ok() {
            thread::sleep(STEP);
            let mut tracks = local.lock();
            self.follow_settings(&mut tracks);
            for _ in 0..arrivals.due(&self.settings, self.watch.elapsed()) {
                self.request(&mut tracks);
            }
            let now_ms = self.watch.ms();
            tracks.absolute.look(now_ms);
            tracks.suppressed.look(now_ms);
            tracks.limit.raise(now_ms, self.settings.limit as f64);
            tracks.hard_cap.raise(now_ms, self.settings.hard_cap() as f64);
        }
    }

    fn follow_settings(&mut self, tracks: &mut Tracks) {
        if !self.changes.has_changed().unwrap_or(false) {
            return;
        }
        let settings = self.changes.borrow_and_update().clone();
        if settings.has_other_limit(&self.settings) {
            let applied = self.absolute.apply(&settings).and_then(|()| self.suppressed.apply(&settings));
            if let Err(error) = applied {
                eprintln!("the limits keep their old settings: {error}");
                return;
            }
            tracks.absolute.meter.set_window(settings.window_ms());
            tracks.suppressed.meter.set_window(settings.window_ms());
            tracks.settings = settings.clone();
        }
        self.settings = settings;
    }

    fn request(&self, tracks: &mut Tracks) {
        let now_ms = self.watch.ms();
        self.clock.set_ms(now_ms);
        if let Some(decision) = decide(&self.absolute) {
            tracks.absolute.count(decision.is_allowed(), now_ms, now_ms);
        }
        if let Some(decision) = decide(&self.suppressed) {
            tracks.suppressed.count(decision.is_allowed(), now_ms, now_ms);
            tracks.factor.raise(now_ms, decision.suppression_factor());
        }
    }
}

/// The decision on one request, which a store in this process makes at once.
fn decide(limit: &Limit) -> Option<Decision> {
    match limit.budget().decide(BudgetRequest::new(KEY, 1)) {
        BudgetResponse::Ready(Ok(decision)) => Some(decision),
        _ => None,
    }
}
