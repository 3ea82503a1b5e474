//! The shared state of one layer's services.

use std::fmt;
use std::sync::Arc;

use super::built_limit::BuiltLimit;
use super::drain::DrainOptions;
use super::exempt::Exempt;
use super::mode::ModeCell;
use super::on_missing_key::OnMissingKey;
use super::tier::Tier;
use crate::key::KeyExtractor;
use crate::response::{Rendered, Responder};
use crate::telemetry::DropCounter;

pub(super) struct LayerState {
    /// At least one.
    pub(super) limits: Box<[BuiltLimit]>,
    /// The only limit, if it asks nothing of a request but its key.
    pub(super) plain: Option<Plain>,
    pub(super) responder: Arc<Responder>,
    pub(super) drain: DrainOptions,
    pub(super) on_missing_key: OnMissingKey,
    pub(super) exempt: Exempt,
    pub(super) decision_in_request: bool,
    pub(super) handle_in_request: bool,
    /// Set if a store belongs only to this layer.
    pub(super) _discards: Option<DropCounter>,
}

/// The parts of a plain limit that each request needs.
pub(super) struct Plain {
    pub(super) key: Arc<dyn KeyExtractor>,
    pub(super) tier: Arc<Tier>,
    pub(super) mode: Arc<ModeCell>,
}

impl LayerState {
    /// The constant parts of the responses of a plain limit.
    #[inline]
    pub(super) fn plain_rendered(&self) -> Option<&Rendered> {
        self.plain.as_ref().map(|plain| &plain.tier.rendered)
    }
}

impl fmt::Debug for LayerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerState").field("limits", &self.limits).finish_non_exhaustive()
    }
}
