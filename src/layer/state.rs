//! The shared state of one layer's services.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::builder::RateLimitLayerBuilder;
use super::built_limit::BuiltLimit;
use super::drain::DrainOptions;
use super::limit::Cost;
use super::mode::ModeCell;
use super::on_missing_key::OnMissingKey;
use super::rules::Rules;
use super::tier::Tier;
use crate::key::KeyExtractor;
use crate::response::{Rendered, Responder};
use crate::store::{Store, WaitingRoom};
use crate::telemetry::{DropCounter, LimitWatch, OnDecision};

pub(super) struct LayerState {
    /// At least one.
    pub(super) limits: Box<[BuiltLimit]>,
    /// The only limit, if it asks nothing of a request but its key and its cost.
    pub(super) plain: Option<Plain>,
    pub(super) responder: Arc<Responder>,
    pub(super) drain: DrainOptions,
    pub(super) on_missing_key: OnMissingKey,
    pub(super) rules: Rules,
    /// The room of requests that wait instead of being refused.
    pub(super) room: Option<Arc<WaitingRoom>>,
    pub(super) decision_in_request: bool,
    pub(super) handle_in_request: bool,
    /// Whether a limit may have a quota of 0.
    pub(super) may_block: bool,
    /// Whether a limit has a ban.
    pub(super) has_bans: bool,
    /// Whether a limit settles or meters its charges by the response.
    pub(super) settles: bool,
    /// Whether a limit caps the requests in flight.
    pub(super) has_caps: bool,
    /// Whether a limit tracks its busiest keys.
    pub(super) tracks_keys: bool,
    /// Reports the requests that no limit decides.
    pub(super) watch: LimitWatch,
    pub(super) on_decision: Option<Arc<OnDecision>>,
    pub(super) stores: Stores,
    pub(super) successor: Successor,
    /// The builder that the state was built from, for a new configuration and for the table.
    pub(super) source: Box<RateLimitLayerBuilder>,
}

/// The stores of a layer, which its successor uses again.
pub(super) struct Stores {
    /// The store that was given for all limits.
    pub(super) given: Option<Arc<dyn Store>>,
    /// The local stores of this layer, by the length of their buckets in milliseconds.
    pub(super) own: Box<[(u64, Arc<dyn Store>)]>,
    /// Set if a store belongs only to this layer.
    pub(super) _discards: Option<Arc<DropCounter>>,
}

/// The parts of a plain limit that each request needs.
pub(super) struct Plain {
    pub(super) key: Arc<dyn KeyExtractor>,
    pub(super) tier: Arc<Tier>,
    pub(super) cost: Option<Arc<Cost>>,
    pub(super) mode: Arc<ModeCell>,
    pub(super) watch: LimitWatch,
}

/// The state that replaced another one.
#[derive(Default)]
pub(super) struct Successor {
    is_set: AtomicBool,
    next: RwLock<Option<Arc<LayerState>>>,
}

impl Successor {
    pub(super) fn set(&self, state: Arc<LayerState>) {
        *self.next.write().unwrap_or_else(PoisonError::into_inner) = Some(state);
        self.is_set.store(true, Ordering::Release);
    }

    /// Whether the state was replaced. A request that comes at the same time may not see it.
    #[inline]
    pub(super) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Relaxed)
    }

    fn get(&self) -> Option<Arc<LayerState>> {
        self.next.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The newest state. It is remembered as the successor, so that the states between are not kept.
    #[cold]
    pub(super) fn newest(&self) -> Option<Arc<LayerState>> {
        let mut newest = self.get()?;
        let mut has_moved = false;
        while let Some(next) = newest.successor.get() {
            (newest, has_moved) = (next, true);
        }
        if has_moved {
            self.set(Arc::clone(&newest));
        }
        Some(newest)
    }
}

impl LayerState {
    /// The limit with this name.
    pub(super) fn limit(&self, name: &str) -> Option<&BuiltLimit> {
        self.limits.iter().find(|limit| limit.tiers.policy().name() == name)
    }

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
