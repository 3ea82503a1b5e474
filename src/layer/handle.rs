//! The limits of one request, for its handler.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::background::in_background;
use super::ban::{BuiltBan, no_ban};
use super::built_limit::TierRef;
use super::in_flight::cap::charges_a_cap;
use super::in_flight::permits::{Permits, WeakPermits};
use super::meter::MeteredLimit;
use super::settle::{Charge, Settles};
use super::state::LayerState;
use super::tier::Tier;
use crate::decision::Decision;
use crate::error::{StoreError, StoreErrorKind};
use crate::quota::Quota;
use crate::store::BudgetRequest;

/// The limits of one request, in the request's extensions; see
/// [`RateLimitLayerBuilder::handle`](crate::RateLimitLayerBuilder::handle).
///
/// It lists the limits that apply to the request, also those in shadow. An exempt request has none. Clones belong to the
/// same request.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::{Router, routing::get};
/// use tower_weir::RateLimitLayer;
/// use tower_weir::layer::RateLimitHandle;
///
/// async fn usage(limits: RateLimitHandle) -> String {
///     format!("{:?} requests left", limits.remaining("default"))
/// }
///
/// let layer = RateLimitLayer::builder().quota("100/min".parse()?).handle(true).build()?;
/// let app: Router = Router::new().route("/usage", get(usage)).layer(layer);
/// # }
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct RateLimitHandle {
    layer: Arc<LayerState>,
    limits: Arc<[Applied]>,
    permits: WeakPermits,
}

/// One limit of the request.
pub(super) struct Applied {
    pub(super) index: usize,
    pub(super) tier: TierRef,
    pub(super) key: Box<[u8]>,
    pub(super) is_enforced: bool,
    /// `None` if the store failed, and the request was admitted nevertheless.
    pub(super) decision: Option<Decision>,
    pub(super) charges: Mutex<Charges>,
}

/// The units of a request that are charged to one limit and not refunded.
pub(super) struct Charges {
    /// Of the layer's decision.
    first: u64,
    /// Of later decisions.
    later: Vec<(Decision, u64)>,
}

impl Charges {
    pub(super) fn new(first: u64) -> Mutex<Self> {
        Mutex::new(Self { first, later: Vec::new() })
    }

    fn units(&self) -> u64 {
        self.later.iter().map(|(_, units)| units).sum::<u64>() + self.first
    }
}

/// One limit of a request; see [`RateLimitHandle::limits`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LimitStatus<'a> {
    /// The name of the limit.
    pub name: &'a str,
    /// The decision on this request, with the limit, the units in use and the times. It is `None` if the store failed.
    pub decision: Option<&'a Decision>,
    /// Whether the limit refuses requests with this key.
    pub is_enforced: bool,
}

impl Applied {
    fn charges(&self) -> MutexGuard<'_, Charges> {
        self.charges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the charge of a later decision.
    fn record(&self, decision: &Decision, units: u64) {
        if decision.is_allowed() && units > 0 {
            self.charges().later.push((*decision, units));
        }
    }

    /// Refunds the newest of the charged units; returns their number.
    fn refund(&self, tier: &Tier, units: u64) -> u64 {
        let mut left = units;
        while left > 0 {
            let mut charges = self.charges();
            let (decision, units) = match (charges.later.pop(), &self.decision) {
                (Some((decision, charged)), _) => {
                    let taken = charged.min(left);
                    if charged > taken {
                        charges.later.push((decision, charged - taken));
                    }
                    (decision, taken)
                }
                (None, Some(decision)) if charges.first > 0 => {
                    let taken = charges.first.min(left);
                    charges.first -= taken;
                    (*decision, taken)
                }
                _ => break,
            };
            drop(charges);
            tier.budget.refund(&self.key, units, &decision);
            left -= units;
        }
        units - left
    }
}

impl RateLimitHandle {
    pub(super) fn new(
        layer: &Arc<LayerState>,
        limits: impl IntoIterator<Item = Applied>,
        permits: WeakPermits,
    ) -> Self {
        Self { layer: Arc::clone(layer), limits: limits.into_iter().collect(), permits }
    }

    /// The permits of this request, for limits that cap the [requests in flight](crate::Limit::in_flight).
    ///
    /// The request ends when its response has ended, and every clone of the permits is dropped. An upgraded connection
    /// outlives its response, so move the permits into the task that serves it. They are empty if no cap applies, or if
    /// the response has already ended.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// use axum::extract::Request;
    /// use axum::http::StatusCode;
    /// use tower_weir::layer::RateLimitHandle;
    ///
    /// /// Serves a protocol of its own on the connection.
    /// async fn upgrade(limits: RateLimitHandle, mut request: Request) -> StatusCode {
    ///     # struct Upgraded;
    ///     # async fn on_upgrade(request: &mut Request) -> Upgraded { Upgraded }
    ///     # async fn serve(connection: Upgraded) {}
    ///     let permits = limits.permits();
    ///     let _task = async move {
    ///         serve(on_upgrade(&mut request).await).await;
    ///         drop(permits);
    ///     };
    ///     # /*
    ///     tokio::spawn(_task);
    ///     # */
    ///     StatusCode::SWITCHING_PROTOCOLS
    /// }
    /// # }
    /// ```
    pub fn permits(&self) -> Permits {
        self.permits.upgrade()
    }

    /// The limits that apply to the request, in the order of the layer.
    pub fn limits(&self) -> impl Iterator<Item = LimitStatus<'_>> {
        self.limits.iter().map(|applied| LimitStatus {
            name: self.name(applied),
            decision: applied.decision.as_ref(),
            is_enforced: applied.is_enforced,
        })
    }

    /// The decision of the limit with this name.
    #[must_use]
    pub fn decision(&self, name: &str) -> Option<&Decision> {
        self.find(name)?.decision.as_ref()
    }

    /// The units that the limit with this name had left after this request.
    #[must_use]
    pub fn remaining(&self, name: &str) -> Option<u64> {
        self.decision(name).map(Decision::remaining)
    }

    /// Asks the limit with this name for more units of this request's key, and charges them if they fit.
    ///
    /// The decision is that of the limit, whatever its mode. The other limits of the layer are not asked.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] if the store cannot decide, and of the kind
    /// [`NotConfigured`](StoreErrorKind::NotConfigured) if no such limit applies to the request, or it caps the requests
    /// in flight.
    pub async fn charge(&self, name: &str, units: u64) -> Result<Decision, StoreError> {
        let (applied, tier) = self.tier(name)?;
        if self.layer.limits[applied.index].is_cap {
            return Err(charges_a_cap());
        }
        let decision = tier.budget.decide(BudgetRequest::new(&applied.key, units)).complete().await?;
        applied.record(&decision, units);
        Ok(decision)
    }

    /// Returns units of this request to the limit with this name, at most as many as were charged for it.
    ///
    /// It does not wait; a store in Redis gets the refund soon. On a hybrid store, units are refunded only while the
    /// instance holds the lease that was charged, which is at most two seconds. A limit that
    /// [settles](crate::Limit::settle) its charges has no leases. Returns the number of units.
    pub fn refund(&self, name: &str, units: u64) -> u64 {
        let Ok((applied, tier)) = self.tier(name) else { return 0 };
        applied.refund(tier, units)
    }

    /// Forgets the history of this request's key for the limit with this name, including this request. A ban of the key
    /// ends, and its refusals are forgotten.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] if the store cannot be reached, and of the kind
    /// [`NotConfigured`](StoreErrorKind::NotConfigured) if no such limit applies to the request.
    pub async fn reset(&self, name: &str) -> Result<(), StoreError> {
        let (applied, tier) = self.tier(name)?;
        *applied.charges() = Charges { first: 0, later: Vec::new() };
        tier.budget.set(&applied.key, 0, Duration::ZERO).await?;
        match self.ban(applied) {
            Ok(ban) => ban.unblock(&applied.key).await,
            Err(_) => Ok(()),
        }
    }

    /// Counts refusals against this request's key, as if the limit with this name had refused them. Returns the length
    /// of the ban if it begins.
    ///
    /// With it, a handler counts what only it can see, such as a wrong password.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] if the store cannot be reached, and of the kind
    /// [`NotConfigured`](StoreErrorKind::NotConfigured) if no such limit applies to the request, or the limit has no ban
    /// that counts refusals.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// use axum::http::StatusCode;
    /// use tower_weir::{ClientIp, Limit, RateLimitLayer, layer::RateLimitHandle};
    ///
    /// async fn login(limits: RateLimitHandle, password: String) -> StatusCode {
    ///     if password == "correct horse" {
    ///         return StatusCode::OK;
    ///     }
    ///     let _ = limits.penalise("login", 1).await;
    ///     StatusCode::UNAUTHORIZED
    /// }
    ///
    /// let limit = Limit::per(ClientIp::peer()).quota("10/min").name("login").ban("5 in 1h for 1d");
    /// let layer = RateLimitLayer::builder().limit(limit).handle(true).build()?;
    /// # }
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub async fn penalise(&self, name: &str, refusals: u64) -> Result<Option<Duration>, StoreError> {
        let (applied, _) = self.tier(name)?;
        let begun = self.ban(applied)?.penalise(&applied.key, refusals).await?;
        Ok(begun.and_then(|decision| decision.retry_after()))
    }

    /// Bans this request's key for a time, which is at most that of the [ban](crate::Limit::ban) of the limit with this
    /// name.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] if the store cannot be reached, and of the kind
    /// [`NotConfigured`](StoreErrorKind::NotConfigured) if no such limit applies to the request, or the limit has no
    /// ban, or a shorter one.
    pub async fn block(&self, name: &str, time: Duration) -> Result<(), StoreError> {
        let (applied, _) = self.tier(name)?;
        self.ban(applied)?.block(&applied.key, time).await
    }

    /// Settles the charge of each limit.
    pub(super) fn settle(&self, settle: impl Fn(&Settles, &mut Charge)) {
        for (at, applied) in self.limits.iter().enumerate() {
            let limit = &self.layer.limits[applied.index];
            let Some(tier) = limit.tier(&applied.tier).filter(|_| limit.settles.is_some()) else { continue };
            let charged = applied.charges().units();
            let mut charge = Charge::new(charged);
            settle(&limit.settles, &mut charge);
            applied.refund(tier, charged.saturating_sub(charge.units()));
            let more = charge.units().saturating_sub(charged);
            if more > 0 {
                let (limits, response) =
                    (Arc::clone(&self.limits), tier.budget.decide(BudgetRequest::new(&applied.key, more)));
                in_background(async move { drop(response.complete().await.map(|it| limits[at].record(&it, more))) });
            }
            if let (Some(ban), 1..) = (&limit.ban, charge.refusals()) {
                let (ban, limits, refusals) = (Arc::clone(ban), Arc::clone(&self.limits), charge.refusals());
                in_background(async move { drop(ban.penalise(&limits[at].key, refusals).await) });
            }
        }
    }

    /// Takes the charges of the limits that meter the response.
    pub(super) fn metered(&self) -> impl Iterator<Item = MeteredLimit> {
        self.limits.iter().filter_map(|applied| {
            let limit = &self.layer.limits[applied.index];
            let metering = limit.metering.as_ref()?;
            let tier = limit.tier(&applied.tier)?;
            let quotas = tier.rendered.policy().quotas();
            Some(MeteredLimit {
                metering: Arc::clone(metering),
                budget: Arc::clone(&tier.budget),
                frames: Arc::clone(tier.frames.as_ref()?),
                key: applied.key.clone(),
                is_enforced: applied.is_enforced,
                admits_on_error: limit.admits_on_error,
                watch: limit.watch.clone(),
                capacity: quotas.iter().map(Quota::count).min().unwrap_or(0),
                charge: applied.decision.map(|decision| (decision, std::mem::take(&mut applied.charges().first))),
            })
        })
    }

    /// The functions that settle the charges.
    pub(super) fn settles(&self) -> impl Iterator<Item = &Settles> {
        self.limits.iter().map(|applied| &self.layer.limits[applied.index].settles)
    }

    fn ban(&self, applied: &Applied) -> Result<&BuiltBan, StoreError> {
        self.layer.limits[applied.index].ban.as_deref().ok_or_else(no_ban)
    }

    fn name(&self, applied: &Applied) -> &str {
        self.layer.limits[applied.index].tiers.policy().name()
    }

    fn find(&self, name: &str) -> Option<&Applied> {
        self.limits.iter().find(|applied| self.name(applied) == name)
    }

    fn tier(&self, name: &str) -> Result<(&Applied, &Tier), StoreError> {
        let found =
            self.find(name).and_then(|applied| Some((applied, self.layer.limits[applied.index].tier(&applied.tier)?)));
        found.ok_or_else(|| {
            StoreError::new(StoreErrorKind::NotConfigured, "no limit with this name applies to the request")
        })
    }
}

impl fmt::Debug for RateLimitHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.limits()).finish()
    }
}

/// Extracts the handle. Without one, the response is 500, because the layer was built without
/// [`handle`](crate::RateLimitLayerBuilder::handle), or is not around the route.
#[cfg(feature = "axum")]
impl<S: Sync> axum::extract::FromRequestParts<S> for RateLimitHandle {
    type Rejection = (http::StatusCode, &'static str);

    async fn from_request_parts(parts: &mut http::request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        const MISSING: &str = "no rate limit handle: write .handle(true) on the layer, and put it around the route";
        parts.extensions.get().cloned().ok_or((http::StatusCode::INTERNAL_SERVER_ERROR, MISSING))
    }
}
