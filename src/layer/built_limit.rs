//! One limit of a layer that is in use: from a request to what its budget is asked.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::ban::BuiltBan;
use super::limit::{ChooseQuotas, Cost};
use super::meter::Metering;
use super::mode::{LimitMode, ModeCell};
use super::quota_lookup::{Answer, Found, QuotaLookup, Waiter};
use super::routes::Routes;
use super::settle::Settles;
use super::tier::{Tier, Tiers};
use super::top_keys::Tracker;
use crate::key::{CODE, KeyExtractor, KeyWriter, Lookup, MissingKey, PendingKey, RequestView};
use crate::quota::Quotas;
use crate::telemetry::{self, LimitWatch, Notice};

/// See the module documentation.
pub(super) struct BuiltLimit {
    pub(super) key: KeySource,
    pub(super) quotas: QuotaSource,
    pub(super) cost: CostSource,
    pub(super) ban: Option<Arc<BuiltBan>>,
    pub(super) top_keys: Option<Arc<Tracker>>,
    pub(super) settles: Settles,
    pub(super) metering: Option<Arc<Metering>>,
    /// Whether it caps the requests in flight.
    pub(super) is_cap: bool,
    pub(super) mode: Arc<ModeCell>,
    pub(super) tiers: Tiers,
    pub(super) admits_on_error: bool,
    pub(super) watch: LimitWatch,
}

/// The source of a request's key.
pub(super) struct KeySource {
    pub(super) extractor: Arc<dyn KeyExtractor>,
    pub(super) lookup: Option<Lookup>,
}

/// The source of a request's quotas.
pub(super) enum QuotaSource {
    Table {
        /// The quotas of requests whose route is not listed; `None` if these are not limited.
        base: Option<Arc<Tier>>,
        /// A route with `None` is not limited.
        routes: Routes<Option<Arc<Tier>>>,
    },
    Function(Arc<ChooseQuotas>),
    Lookup(QuotaLookup),
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

/// What the budget of a limit is asked. It is filled in place, because it is large.
pub(super) struct Asked {
    /// The position of the limit in the layer.
    pub(super) index: usize,
    pub(super) key: KeyWriter,
    pub(super) tier: TierRef,
    pub(super) cost: u64,
    pub(super) is_enforced: bool,
    /// The lookup that is under way.
    pub(super) pending: Option<Pending>,
}

/// A lookup of the key or, after it, of the quotas.
pub(super) enum Pending {
    Key(PendingKey),
    Quotas(Waiter<Answer>),
}

/// How far a limit is with a request.
pub(super) enum Begun {
    Ready,
    /// The key or the quotas are being looked up.
    Pending,
    /// The limit does not apply.
    Skipped,
    /// The request has no key.
    NoKey(MissingKey),
    /// The quotas are not known, or the store does not support them.
    Unavailable,
}

impl Asked {
    pub(super) fn new(index: usize) -> Self {
        Self { index, key: KeyWriter::new(), tier: TierRef::Base, cost: 1, is_enforced: true, pending: None }
    }
}

impl KeySource {
    /// The text of the key. A lookup is joined to the extractor's key.
    pub(super) fn text(&self) -> String {
        match &self.lookup {
            None => self.extractor.text().into_owned(),
            Some(lookup) if lookup.is_joined() => format!("{} + {CODE}", self.extractor.text()),
            Some(_) => CODE.to_owned(),
        }
    }
}

impl BuiltLimit {
    /// Reads the key, and the quotas if the key needs no lookup.
    #[inline]
    pub(super) fn begin(&self, request: &RequestView<'_>, asked: &mut Asked) -> Begun {
        if self.mode.is_off() {
            return Begun::Skipped;
        }
        match (self.key.extractor.key(request, &mut asked.key), &self.key.lookup) {
            (Err(missing), _) => Begun::NoKey(missing),
            (Ok(()), None) => self.choose(request, asked),
            (Ok(()), Some(lookup)) => {
                asked.pending = Some(Pending::Key(lookup.begin(request, std::mem::take(&mut asked.key))));
                Begun::Pending
            }
        }
    }

    /// Chooses the quotas and the cost for a key.
    pub(super) fn choose(&self, request: &RequestView<'_>, asked: &mut Asked) -> Begun {
        match &self.quotas {
            QuotaSource::Table { base, routes } => match (!routes.is_empty()).then(|| routes.get(request)).flatten() {
                Some(Some(tier)) => asked.tier = TierRef::Other(Arc::clone(tier)),
                None if base.is_some() => {}
                None | Some(None) => return Begun::Skipped,
            },
            QuotaSource::Function(choose) => match choose(request) {
                Ok(quotas) => return self.with_quotas(request, asked, &quotas),
                Err(missing) => return Begun::NoKey(missing),
            },
            QuotaSource::Lookup(lookup) => match lookup.find(request, asked.key.as_bytes()) {
                Found::Ready(answer) => return self.with_answer(request, asked, &answer),
                Found::Pending(waiter) => {
                    asked.pending = Some(Pending::Quotas(waiter));
                    return Begun::Pending;
                }
            },
        }
        self.ready(request, asked)
    }

    fn with_answer(&self, request: &RequestView<'_>, asked: &mut Asked, answer: &Answer) -> Begun {
        match answer {
            Ok(quotas) => self.with_quotas(request, asked, quotas),
            Err(_) => Begun::Unavailable,
        }
    }

    fn with_quotas(&self, request: &RequestView<'_>, asked: &mut Asked, quotas: &Quotas) -> Begun {
        if quotas.is_unlimited() {
            return Begun::Skipped;
        }
        match self.tiers.get(quotas) {
            Ok(tier) => {
                asked.tier = TierRef::Other(tier);
                self.ready(request, asked)
            }
            Err(_) => {
                telemetry::notify(Notice::UnsupportedQuotas, None);
                Begun::Unavailable
            }
        }
    }

    /// Computes the cost, and whether the limit refuses requests with this key.
    #[inline]
    fn ready(&self, request: &RequestView<'_>, asked: &mut Asked) -> Begun {
        if let Some(cost) = &self.cost.0 {
            asked.cost = cost(request);
        }
        asked.is_enforced = self.mode.enforces(self.tiers.policy().name(), asked.key.as_bytes());
        Begun::Ready
    }

    /// Polls the lookups of the key and of the quotas.
    pub(super) fn poll(&self, request: &RequestView<'_>, asked: &mut Asked, cx: &mut Context<'_>) -> Poll<Begun> {
        loop {
            let begun = match &mut asked.pending {
                None => return Poll::Ready(Begun::Ready),
                Some(Pending::Key(key)) => {
                    let found = ready!(key.as_mut().poll(cx));
                    asked.pending = None;
                    match found {
                        Ok(key) => {
                            asked.key = key;
                            self.choose(request, asked)
                        }
                        Err(missing) => Begun::NoKey(missing),
                    }
                }
                Some(Pending::Quotas(quotas)) => {
                    let answer = ready!(Pin::new(quotas).poll(cx));
                    asked.pending = None;
                    self.with_answer(request, asked, &answer)
                }
            };
            if !matches!(begun, Begun::Pending) {
                return Poll::Ready(begun);
            }
        }
    }

    /// Sets the mode, and reports a change.
    pub(super) fn set_mode(&self, mode: LimitMode) {
        let before = self.mode.get();
        self.mode.set(mode);
        let after = self.mode.get();
        if after != before {
            self.watch.mode_changed(&after);
        }
    }

    /// The tier of the limit's own quotas.
    #[inline]
    pub(super) fn base(&self) -> Option<&Arc<Tier>> {
        match &self.quotas {
            QuotaSource::Table { base, .. } => base.as_ref(),
            QuotaSource::Function(_) | QuotaSource::Lookup(_) => None,
        }
    }

    /// Every tier with histories of its own.
    pub(super) fn all_tiers(&self) -> Vec<Arc<Tier>> {
        match &self.quotas {
            QuotaSource::Table { base, routes } => base.iter().chain(routes.values().flatten()).cloned().collect(),
            // They share their histories.
            QuotaSource::Function(_) | QuotaSource::Lookup(_) => self.tiers.any().into_iter().collect(),
        }
    }

    /// Whether a request may have a quota of 0.
    pub(super) fn may_block(&self) -> bool {
        match &self.quotas {
            QuotaSource::Table { .. } => self.all_tiers().iter().any(|tier| tier.is_blocked),
            QuotaSource::Function(_) | QuotaSource::Lookup(_) => true,
        }
    }

    /// The tier of a reference.
    pub(super) fn tier<'a>(&'a self, tier: &'a TierRef) -> Option<&'a Tier> {
        match tier {
            TierRef::Base => self.base().map(|tier| &**tier),
            TierRef::Other(tier) => Some(tier),
        }
    }

    /// Whether the response changes the charge of its request.
    pub(super) fn follows_response(&self) -> bool {
        self.settles.is_some() || self.metering.is_some()
    }

    /// The tier of every request, if the limit needs nothing of a request but its key and its cost, and tracks no keys.
    pub(super) fn plain(&self) -> Option<&Arc<Tier>> {
        let has_routes = matches!(&self.quotas, QuotaSource::Table { routes, .. } if !routes.is_empty());
        let asks_more = has_routes || self.key.lookup.is_some() || self.ban.is_some() || self.follows_response();
        if asks_more || self.is_cap || self.top_keys.is_some() { None } else { self.base() }
    }
}

impl fmt::Debug for BuiltLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = self.base().map_or(self.tiers.policy(), |tier| tier.rendered.policy());
        f.debug_struct("BuiltLimit").field("policy", policy).field("mode", &self.mode.get()).finish_non_exhaustive()
    }
}
