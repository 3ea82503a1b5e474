//! A limit whose quota and strategy follow the settings.

use std::sync::Arc;
use std::time::Duration;

use tower_weir::store::{Budget, Policy, Store, Strategy};
use tower_weir::{ConfigError, HardLimitFactor, Quota};

use crate::settings::{MAX_WINDOW_S, Settings};

/// The key of all requests: the page shows one client.
pub(crate) const KEY: &[u8] = b"visitor";

#[derive(Debug)]
pub(crate) struct Limit {
    store: Box<dyn Store>,
    name: &'static str,
    is_suppressed: bool,
    /// Keeps the history for the longest window, in case that the visitor chooses it next.
    _reach: Arc<dyn Budget>,
    budget: Arc<dyn Budget>,
}

impl Limit {
    pub(crate) fn open(
        store: impl Store,
        name: &'static str,
        is_suppressed: bool,
        settings: &Settings,
    ) -> Result<Self, ConfigError> {
        let store: Box<dyn Store> = Box::new(store);
        let longest = Quota::new(1, Duration::from_secs(MAX_WINDOW_S))?;
        let reach = store.open(&Policy::new(name, [longest], Strategy::Absolute))?;
        let budget = store.open(&policy(name, is_suppressed, settings)?)?;
        Ok(Self { store, name, is_suppressed, _reach: reach, budget })
    }

    /// Applies new settings. A limit with the same name has the same history, so nothing is reset.
    pub(crate) fn apply(&mut self, settings: &Settings) -> Result<(), ConfigError> {
        self.budget = self.store.open(&policy(self.name, self.is_suppressed, settings)?)?;
        Ok(())
    }

    pub(crate) fn budget(&self) -> &Arc<dyn Budget> {
        &self.budget
    }
}

fn policy(name: &'static str, is_suppressed: bool, settings: &Settings) -> Result<Policy, ConfigError> {
    let quota = Quota::new(settings.limit, Duration::from_secs(settings.window_s))?;
    let strategy = match is_suppressed {
        true => Strategy::Suppressed(HardLimitFactor::try_from(settings.factor)?),
        false => Strategy::Absolute,
    };
    Ok(Policy::new(name, [quota], strategy).with_on_store_error(settings.on_outage))
}
