//! The newest state of a layer, which can be replaced while requests are decided.

use std::sync::{Arc, Mutex, PoisonError};

use super::state::LayerState;
use crate::error::ConfigError;

/// The newest state. A layer's clones and its controls share it.
pub(super) struct Current(Mutex<Arc<LayerState>>);

impl Current {
    pub(super) fn new(state: LayerState) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Arc::new(state))))
    }

    pub(super) fn get(&self) -> Arc<LayerState> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the state by one that `build` makes of it. Services of the old state continue with the new one.
    pub(super) fn update(
        &self,
        build: impl FnOnce(&LayerState) -> Result<LayerState, ConfigError>,
    ) -> Result<(), ConfigError> {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = Arc::new(build(&newest)?);
        let old = std::mem::replace(&mut *newest, Arc::clone(&next));
        old.successor.set(next);
        Ok(())
    }
}
