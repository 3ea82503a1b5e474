//! The counts of a pair of instances: of each one alone, and of both together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tower_weir::{Decision, OnStoreError, StoreError};

use crate::settings::Settings;
use crate::track::Track;

/// Both instances have reconnected, or have new settings, after this time and a window.
const SETTLED_MS: u64 = 1_000;

/// Two instances with one limit. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) name: &'static str,
    state: Arc<Mutex<PairState>>,
}

#[derive(Debug)]
pub(crate) struct PairState {
    pub(crate) together: Track,
    pub(crate) alone: [Instance; 2],
    /// The settings that an instance applied last.
    settings: Settings,
    /// When the settings changed, until all windows are those of the new settings.
    changed_ms: Option<u64>,
    /// The last event of an outage, and when it was, until no window holds units of the outage.
    outage: Option<(u64, Disturbance)>,
}

/// Why a window may hold more units than the limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Disturbance {
    /// The instances do not change their settings at the same moment.
    Change,
    /// An instance decided without Redis.
    Outage,
    /// Redis decides again. It does not know all units, and may have forgotten what it counted.
    Return,
}

#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) track: Track,
    pub(crate) decided_by: DecidedBy,
    /// Whether requests do not wait for Redis, because the circuit breaker is open.
    pub(crate) is_breaker_open: bool,
}

/// The party that decided on the last request of an instance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum DecidedBy {
    /// Redis, or units that Redis leased to the instance.
    Redis,
    /// The instance's share of the limit.
    Share,
    /// Nothing: the request was refused or admitted by the policy for outages.
    Policy,
}

impl Pair {
    pub(crate) fn new(name: &'static str, settings: &Settings) -> Self {
        let window_ms = settings.window_ms();
        let instance =
            || Instance { track: Track::new(window_ms), decided_by: DecidedBy::Redis, is_breaker_open: false };
        let together = Track::new(window_ms);
        let alone = [instance(), instance()];
        let state = PairState { together, alone, settings: settings.clone(), changed_ms: None, outage: None };
        Self { name, state: Arc::new(Mutex::new(state)) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, PairState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PairState {
    /// Why the usual bound does not hold now, if it does not.
    pub(crate) fn disturbance(&self) -> Option<Disturbance> {
        self.changed_ms.map(|_| Disturbance::Change).or(self.outage.map(|(_, why)| why))
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Notes that an instance has new settings.
    pub(crate) fn apply(&mut self, settings: &Settings, now_ms: u64) {
        if settings.window_s != self.settings.window_s {
            self.together.meter.set_window(settings.window_ms());
            self.alone.iter_mut().for_each(|instance| instance.track.meter.set_window(settings.window_ms()));
        }
        self.restart();
        self.settings = settings.clone();
        self.changed_ms = Some(now_ms);
    }

    /// Counts a request of an instance.
    pub(crate) fn count(&mut self, index: usize, request: &Request, on_outage: OnStoreError) {
        let (is_admitted, decided_by) = match &request.result {
            Ok(decision) if decision.is_local_share() => (decision.is_allowed(), DecidedBy::Share),
            Ok(decision) => (decision.is_allowed(), DecidedBy::Redis),
            // A layer does the same.
            Err(_) => (on_outage == OnStoreError::Allow, DecidedBy::Policy),
        };
        let instance = &mut self.alone[index];
        if decided_by != DecidedBy::Redis {
            self.outage = Some((request.decided_ms, Disturbance::Outage));
        } else if instance.decided_by != DecidedBy::Redis {
            self.outage = Some((request.decided_ms, Disturbance::Return));
        }
        if decided_by != instance.decided_by {
            // From now on, the most units of the instance are those of what decides now.
            instance.track.meter.restart();
            instance.decided_by = decided_by;
        }
        instance.is_breaker_open = decided_by != DecidedBy::Redis && !request.has_waited;
        instance.track.count(is_admitted, request.sent_ms, request.decided_ms);
        self.together.count(is_admitted, request.sent_ms, request.decided_ms);
    }

    /// Keeps the figures up to date while no requests arrive.
    pub(crate) fn look(&mut self, now_ms: u64) {
        self.together.look(now_ms);
        self.alone.iter_mut().for_each(|instance| instance.track.look(now_ms));
        let settles = self.settings.window_ms() + SETTLED_MS;
        let is_over = |at_ms: u64| now_ms > at_ms + settles;
        let is_changed = self.changed_ms.take_if(|at_ms| is_over(*at_ms)).is_some();
        let has_returned = self.outage.take_if(|(at_ms, _)| is_over(*at_ms)).is_some();
        if is_changed || has_returned {
            self.restart();
        }
    }

    /// Forgets the most units in any window.
    fn restart(&mut self) {
        self.together.meter.restart();
        self.alone.iter_mut().for_each(|instance| instance.track.meter.restart());
    }
}

/// A request that was decided.
pub(crate) struct Request {
    pub(crate) result: Result<Decision, StoreError>,
    /// Whether it waited for Redis.
    pub(crate) has_waited: bool,
    pub(crate) sent_ms: u64,
    pub(crate) decided_ms: u64,
}
