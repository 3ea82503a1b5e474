//! One limit of a layer that is in use: from a request to what its budget is asked.

use std::fmt;
use std::sync::Arc;

use super::limit::{ChooseQuotas, Cost};
use super::mode::ModeCell;
use super::routes::Routes;
use super::tier::{Tier, Tiers};
use crate::key::{KeyExtractor, KeyWriter, Lookup, MissingKey, PendingKey, RequestView};

/// See the module documentation.
pub(super) struct BuiltLimit {
    pub(super) key: KeySource,
    pub(super) quotas: QuotaSource,
    pub(super) cost: CostSource,
    pub(super) mode: Arc<ModeCell>,
    pub(super) tiers: Tiers,
    pub(super) admits_on_error: bool,
}

/// Where the key of a request comes from.
pub(super) struct KeySource {
    pub(super) extractor: Arc<dyn KeyExtractor>,
    pub(super) lookup: Option<Lookup>,
}

/// Where the quotas of a request come from.
pub(super) enum QuotaSource {
    Table {
        /// The quotas of requests whose route is not listed; `None` if these are not limited.
        base: Option<Arc<Tier>>,
        /// A route with `None` is not limited.
        routes: Routes<Option<Arc<Tier>>>,
    },
    Function(Arc<ChooseQuotas>),
}

/// Computes the cost of a request; 1 without a function.
pub(super) struct CostSource(pub(super) Option<Arc<Cost>>);

/// A tier of a limit.
#[derive(Clone, Debug)]
pub(super) enum TierRef {
    /// That of the limit's own quotas.
    Base,
    Other(Arc<Tier>),
}

/// How far a limit is with a request.
pub(super) enum Stage {
    /// Its key is being looked up.
    Key(PendingKey),
    Ready(Asked),
    /// The limit does not apply.
    Skipped,
    /// The request has no key.
    NoKey(MissingKey),
    /// The store does not support the request's quotas.
    Unsupported,
}

/// What the budget of a limit is asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) key: KeyWriter,
    pub(super) tier: TierRef,
    pub(super) cost: u64,
    pub(super) is_enforced: bool,
}

impl BuiltLimit {
    /// Reads the key, and the quotas if they need no lookup.
    pub(super) fn begin(&self, request: &RequestView<'_>) -> Stage {
        if self.mode.is_off() {
            return Stage::Skipped;
        }
        let mut key = KeyWriter::new();
        match (self.key.extractor.key(request, &mut key), &self.key.lookup) {
            (Err(missing), _) => Stage::NoKey(missing),
            (Ok(()), None) => self.with_key(request, key),
            (Ok(()), Some(lookup)) => Stage::Key(lookup.begin(request, key)),
        }
    }

    /// Chooses the quotas for a key.
    pub(super) fn with_key(&self, request: &RequestView<'_>, key: KeyWriter) -> Stage {
        let tier = match &self.quotas {
            QuotaSource::Table { base, routes } => match routes.get(request) {
                Some(Some(tier)) => TierRef::Other(Arc::clone(tier)),
                None if base.is_some() => TierRef::Base,
                None | Some(None) => return Stage::Skipped,
            },
            QuotaSource::Function(choose) => match choose(request) {
                Ok(quotas) if quotas.is_unlimited() => return Stage::Skipped,
                Ok(quotas) => match self.tiers.get(&quotas) {
                    Ok(tier) => TierRef::Other(tier),
                    Err(_) => return Stage::Unsupported,
                },
                Err(missing) => return Stage::NoKey(missing),
            },
        };
        let cost = self.cost.0.as_ref().map_or(1, |cost| cost(request));
        let is_enforced = self.mode.enforces(self.tiers.policy().name(), key.as_bytes());
        Stage::Ready(Asked { key, tier, cost, is_enforced })
    }

    /// The tier of the limit's own quotas.
    #[inline]
    pub(super) fn base(&self) -> Option<&Arc<Tier>> {
        match &self.quotas {
            QuotaSource::Table { base, .. } => base.as_ref(),
            QuotaSource::Function(_) => None,
        }
    }

    /// Every tier with histories of its own.
    pub(super) fn all_tiers(&self) -> Vec<Arc<Tier>> {
        match &self.quotas {
            QuotaSource::Table { base, routes } => base.iter().chain(routes.values().flatten()).cloned().collect(),
            // They share their histories.
            QuotaSource::Function(_) => self.tiers.any().into_iter().collect(),
        }
    }

    /// The tier of a reference.
    pub(super) fn tier<'a>(&'a self, tier: &'a TierRef) -> Option<&'a Tier> {
        match tier {
            TierRef::Base => self.base().map(|tier| &**tier),
            TierRef::Other(tier) => Some(tier),
        }
    }

    /// The tier of every request, if the limit asks nothing of a request but its key.
    pub(super) fn plain(&self) -> Option<&Arc<Tier>> {
        let has_routes = matches!(&self.quotas, QuotaSource::Table { routes, .. } if !routes.is_empty());
        let asks_more = has_routes || self.cost.0.is_some() || self.key.lookup.is_some();
        if asks_more { None } else { self.base() }
    }
}

impl fmt::Debug for BuiltLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = self.base().map_or(self.tiers.policy(), |tier| tier.rendered.policy());
        f.debug_struct("BuiltLimit").field("policy", policy).field("mode", &self.mode.get()).finish_non_exhaustive()
    }
}
