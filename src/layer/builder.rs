use std::fmt;
use std::sync::Arc;

use http::StatusCode;

use super::drain::DrainOptions;
use super::exempt::Exemptions;
use super::into_store::IntoStore;
use super::on_missing_key::OnMissingKey;
use super::rate_limit_layer::RateLimitLayer;
use super::state::LayerState;
use crate::error::ConfigError;
use crate::key::{ClientIp, FromFn, Global, IntoKey, Key, KeyExtractor, Lookup, MissingKey, RequestView};
use crate::limiter::{RateLimiter, RateLimiterOptions};
use crate::policy::{OnStoreError, Policy};
use crate::quota::{HardLimitFactor, Quota, RateGroupSizeMs, WindowSizeSeconds};
use crate::response::{self, Responder};
use crate::store::Store;
use crate::strategy::Strategy;
use crate::telemetry::DropCounter;

/// Builds a [`RateLimitLayer`].
///
/// # Examples
///
/// ```
/// use tower_weir::{ClientIp, RateLimitLayer};
///
/// let layer = RateLimitLayer::builder()
///     .quota("100/s".parse()?)
///     .quota("5000/h".parse()?) // all or nothing
///     .key(ClientIp::peer())
///     .build()?;
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone)]
#[must_use = "nothing is limited until `build`"]
pub struct RateLimitLayerBuilder {
    name: Arc<str>,
    quotas: Vec<Quota>,
    /// The first invalid quota, which `build` reports.
    invalid_quota: Option<ConfigError>,
    key: Option<Arc<dyn KeyExtractor>>,
    lookup: Option<Lookup>,
    /// The given factor, which `build` checks.
    suppressed: Option<f64>,
    store: Option<Arc<dyn Store>>,
    pub(super) rejected: Option<u16>,
    pub(super) shed: Option<u16>,
    pub(super) answers: response::Options,
    pub(super) exemptions: Exemptions,
    decision_in_request: bool,
    pub(super) drain: DrainOptions,
    on_missing_key: OnMissingKey,
    on_store_error: OnStoreError,
}

impl RateLimitLayer {
    /// Creates a layer that admits `n` requests in any second from each peer address. With 0 it refuses everything.
    #[must_use]
    pub fn per_second(n: u64) -> Self {
        Self::simple(Quota::clamped(n, 1_000))
    }

    /// Creates a layer that admits `n` requests in any minute from each peer address. With 0 it refuses everything.
    #[must_use]
    pub fn per_minute(n: u64) -> Self {
        Self::simple(Quota::clamped(n, 60_000))
    }

    /// Creates a layer that admits `n` requests in any hour from each peer address. With 0 it refuses everything.
    #[must_use]
    pub fn per_hour(n: u64) -> Self {
        Self::simple(Quota::clamped(n, 3_600_000))
    }

    /// Creates a layer that admits `n` requests in any 24 hours from each peer address. With 0 it refuses everything.
    #[must_use]
    pub fn per_day(n: u64) -> Self {
        Self::simple(Quota::clamped(n, 86_400_000))
    }

    /// Creates a layer that limits nothing, for an optional limit.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::RateLimitLayer;
    ///
    /// let limit: Option<RateLimitLayer> = None; // from the configuration
    /// let layer = limit.unwrap_or_else(RateLimitLayer::disabled);
    /// ```
    #[must_use]
    #[allow(clippy::expect_used)]
    pub fn disabled() -> Self {
        let builder = Self::builder().quota(Quota::reject_all()).enabled(false);
        builder.build().expect("one quota is always possible")
    }

    /// Creates a builder.
    pub fn builder() -> RateLimitLayerBuilder {
        RateLimitLayerBuilder::new()
    }

    #[allow(clippy::expect_used)]
    fn simple(quota: Quota) -> Self {
        Self::builder().quota(quota).build().expect("one quota of at most a day is always possible")
    }
}

impl RateLimitLayerBuilder {
    pub(super) fn new() -> Self {
        Self {
            name: Policy::UNNAMED.into(),
            quotas: Vec::new(),
            invalid_quota: None,
            key: None,
            lookup: None,
            suppressed: None,
            store: None,
            rejected: None,
            shed: None,
            answers: response::Options::default(),
            exemptions: Exemptions::default(),
            decision_in_request: false,
            drain: DrainOptions::default(),
            on_missing_key: OnMissingKey::default(),
            on_store_error: OnStoreError::default(),
        }
    }

    /// Adds a quota. A request is admitted only if all quotas have room, and is then charged to all of them.
    pub fn quota(mut self, quota: Quota) -> Self {
        self.quotas.push(quota);
        self
    }

    /// Adds quotas, as texts or as [`Quota`]s. If a text is invalid, [`build`](Self::build) returns an error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_weir::RateLimitLayer;
    /// let layer = RateLimitLayer::builder().quotas(["10/s", "5000/h"]).build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn quotas<Q>(mut self, quotas: Q) -> Self
    where
        Q: IntoIterator<Item: TryInto<Quota, Error: Into<ConfigError>>>,
    {
        for quota in quotas {
            match quota.try_into() {
                Ok(quota) => self.quotas.push(quota),
                Err(error) => self.invalid_quota = self.invalid_quota.or_else(|| Some(error.into())),
            }
        }
        self
    }

    /// Sets the limit's name; the default is `"default"`. It must be printable ASCII, because headers contain it.
    ///
    /// Limits with the same store and the same name share their budgets, key by key.
    ///
    /// If a layer replaces another one and has other quotas, it keeps the history. If both exist for a moment, the log
    /// has a line `limit-opened-twice`, which you can ignore or [`silence`](crate::telemetry::Notice::silence).
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the key of a request; the default is [`ClientIp::peer`].
    ///
    /// A tuple joins several keys. Each combination of their values has its own budget.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_weir::{ClientIp, RateLimitLayer};
    /// # use tower_weir::key::{Header, HttpMethod};
    /// let layer = RateLimitLayer::builder()
    ///     .quota("10/s".parse()?)
    ///     .key((HttpMethod, ClientIp::peer(), Header::new("x-api-key").hashed()))
    ///     .build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn key(mut self, key: impl KeyExtractor) -> Self {
        self.key = Some(Arc::new(key));
        self
    }

    /// Sets a function that returns the key, as `Option<K>` or `Result<K, MissingKey>`.
    ///
    /// `None` means that the client is at fault, and the response is 400. If the service should have provided the key,
    /// return [`MissingKey::server_fault`]. The response is then 500, and the log contains the cause. The log also
    /// reports a function that finds no key for the first 100 requests.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_weir::RateLimitLayer;
    /// # use tower_weir::key::MissingKey;
    /// # #[derive(Clone)]
    /// # struct User { id: u64 }
    /// // A layer outside this one must insert the user into the request's extensions.
    /// let layer = RateLimitLayer::builder()
    ///     .quota("10/s".parse()?)
    ///     .key_fn(|req| {
    ///         let user = req.extensions().get::<User>();
    ///         user.map(|user| user.id).ok_or(MissingKey::server_fault("no user in the extensions"))
    ///     })
    ///     .build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn key_fn<F, K>(self, key: F) -> Self
    where
        F: Fn(&RequestView<'_>) -> K + Send + Sync + 'static,
        K: IntoKey + 'static,
    {
        self.key(FromFn::new(key))
    }

    /// Sets an async function that looks up the key, such as the account of an API key.
    ///
    /// You can combine it with [`key`](Self::key) or [`key_fn`](Self::key_fn). That key is then read first, and the
    /// two are joined. A request without the first key is not looked up. Without `key` or `key_fn`, the result of the
    /// lookup is the whole key.
    ///
    /// The function sees the request and returns a future that owns its data. If the lookup fails,
    /// [`on_missing_key`](Self::on_missing_key) determines what happens. Return [`MissingKey::client_fault`] for an
    /// unknown key, and [`MissingKey::server_fault`] if the lookup itself failed.
    ///
    /// The function runs for every request, even from clients over their limit, and has no timeout. Add a cache and a
    /// deadline. Put a limit by address outside this one, to limit clients that guess keys.
    ///
    /// # Cancellation
    ///
    /// If the response's future is dropped, the lookup is dropped too, and nothing is charged.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use std::sync::Arc;
    /// use tower_weir::RateLimitLayer;
    /// use tower_weir::key::MissingKey;
    ///
    /// struct Accounts(HashMap<String, u64>);
    ///
    /// impl Accounts {
    ///     /// Searches a database.
    ///     async fn owner(&self, api_key: &str) -> Result<Option<u64>, std::io::Error> {
    ///         Ok(self.0.get(api_key).copied())
    ///     }
    /// }
    ///
    /// let accounts = Arc::new(Accounts(HashMap::from([("secret".to_owned(), 7)])));
    /// let layer = RateLimitLayer::builder()
    ///     .quota("100/min".parse()?)
    ///     .key_lookup(move |req| {
    ///         let accounts = Arc::clone(&accounts);
    ///         let api_key = req.headers().get("x-api-key").and_then(|value| value.to_str().ok()).map(str::to_owned);
    ///         async move {
    ///             let api_key = api_key.ok_or(MissingKey::client_fault("no API key"))?;
    ///             let owner = accounts.owner(&api_key).await;
    ///             let owner = owner.map_err(|_| MissingKey::server_fault("the accounts cannot be reached"))?;
    ///             owner.ok_or(MissingKey::client_fault("unknown API key"))
    ///         }
    ///     })
    ///     .build()?;
    /// # use tower::{Layer, ServiceExt};
    /// # let hello = tower::service_fn(async |_| Ok::<_, std::convert::Infallible>(http::Response::new(())));
    /// # let status = |api_key: &str| {
    /// #     let request = http::Request::builder().header("x-api-key", api_key).body(()).unwrap();
    /// #     let response = layer.layer(hello.clone()).oneshot(request);
    /// #     tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(response).unwrap().status()
    /// # };
    /// # assert_eq!((status("secret").as_u16(), status("guessed").as_u16()), (200, 400));
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn key_lookup<F, Fut, K>(mut self, lookup: F) -> Self
    where
        F: Fn(&RequestView<'_>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<K, MissingKey>> + Send + 'static,
        K: Key + 'static,
    {
        self.lookup = Some(Lookup::new(lookup));
        self
    }

    /// Uses the suppressed strategy: it thins an overload smoothly instead of cutting it off.
    ///
    /// It never admits more than the limit times `hard_limit_factor`, which is at least 1.0.
    pub fn suppressed(mut self, hard_limit_factor: f64) -> Self {
        self.suppressed = Some(hard_limit_factor);
        self
    }

    /// Sets the store of the budgets: a handle such as `rl.local()`, or a [`Store`] of your own.
    ///
    /// The default is a local store for this layer alone.
    pub fn limiter(mut self, store: impl IntoStore) -> Self {
        self.store = Some(store.into_store());
        self
    }

    /// Sets the behavior for a request without a key; the default is [`OnMissingKey::Reject`].
    pub fn on_missing_key(mut self, policy: OnMissingKey) -> Self {
        self.on_missing_key = policy;
        self
    }

    /// Sets the behavior if the store fails; the default is [`OnStoreError::LocalShare`].
    pub fn on_store_error(mut self, policy: OnStoreError) -> Self {
        self.on_store_error = policy;
        self
    }

    /// Sets whether the layer adds the [`Decision`](crate::Decision) to the request's extensions.
    ///
    /// The default is no, because it costs an allocation.
    ///
    /// Handlers can then read the remaining quota. An exempt request has no decision. With stacked layers, the inner
    /// one replaces the decision of the outer one.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_weir::{Decision, RateLimitLayer};
    /// let layer = RateLimitLayer::builder().quota("100/min".parse()?).decision_in_request(true).build()?;
    ///
    /// fn remaining<B>(request: &http::Request<B>) -> Option<u64> {
    ///     request.extensions().get::<Decision>().map(Decision::remaining)
    /// }
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn decision_in_request(mut self, insert: bool) -> Self {
        self.decision_in_request = insert;
        self
    }

    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] that states what to write instead.
    pub fn build(self) -> Result<RateLimitLayer, ConfigError> {
        if let Some(error) = self.invalid_quota {
            return Err(error);
        }
        if self.quotas.is_empty() {
            return Err(ConfigError::NoQuota);
        }
        let (key, lookup): (Arc<dyn KeyExtractor>, _) = match (self.key, self.lookup) {
            (None, None) => (Arc::new(ClientIp::peer()), None),
            (None, Some(lookup)) => (Arc::new(Global), Some(lookup)),
            (Some(key), lookup) => (key, lookup.map(Lookup::joined)),
        };
        key.check()?;
        let strategy = match self.suppressed {
            None => Strategy::Absolute,
            Some(factor) => Strategy::Suppressed(HardLimitFactor::try_from(factor)?),
        };
        // A key that is looked up identifies a client.
        let shed_default = match key.is_global() && lookup.is_none() {
            true => StatusCode::SERVICE_UNAVAILABLE,
            false => StatusCode::TOO_MANY_REQUESTS,
        };
        let (store, discards) = match self.store {
            Some(store) => (store, None),
            None => (own_store(&self.quotas)?, Some(DropCounter)),
        };
        let policy = Policy::new(self.name, self.quotas, strategy).with_on_store_error(self.on_store_error);
        let (rejected, shed) =
            (status(self.rejected, StatusCode::TOO_MANY_REQUESTS)?, status(self.shed, shed_default)?);
        Ok(RateLimitLayer {
            state: Arc::new(LayerState {
                budget: store.open(&policy)?,
                key,
                lookup,
                responder: Responder::new(self.answers, policy, rejected, shed)?,
                exempt: self.exemptions.build()?,
                decision_in_request: self.decision_in_request,
                drain: self.drain,
                _discards: discards,
                on_missing_key: self.on_missing_key,
                on_store_error: self.on_store_error,
            }),
        })
    }
}

/// A local store with buckets that suit the quotas: 10 ms, finer for short windows, and larger for very long ones.
fn own_store(quotas: &[Quota]) -> Result<Arc<dyn Store>, ConfigError> {
    let windows = || quotas.iter().map(Quota::window_ms);
    let (shortest, longest) = (windows().min().unwrap_or(1_000), windows().max().unwrap_or(1_000));
    let bucket_ms = (shortest / 100).clamp(1, 10).max((longest >> 23) + 1);
    if bucket_ms > shortest {
        return Err(ConfigError::WindowsTooFarApart { shortest_ms: shortest, longest_ms: longest });
    }
    let options = RateLimiterOptions {
        window_size_seconds: WindowSizeSeconds::try_from(longest.div_ceil(1_000))?,
        rate_group_size_ms: RateGroupSizeMs::try_from(bucket_ms)?,
        ..Default::default()
    };
    let limiter = RateLimiter::new(options)?;
    limiter.run_cleanup_loop();
    Ok(limiter.local().into_store())
}

fn status(given: Option<u16>, default: StatusCode) -> Result<StatusCode, ConfigError> {
    let Some(given) = given else { return Ok(default) };
    let status = StatusCode::from_u16(given).map_err(|_| ConfigError::InvalidStatus(given))?;
    let is_refusal = status.is_client_error() || status.is_server_error();
    if is_refusal { Ok(status) } else { Err(ConfigError::InvalidStatus(given)) }
}

impl fmt::Debug for RateLimitLayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayerBuilder")
            .field("name", &self.name)
            .field("quotas", &self.quotas)
            .finish_non_exhaustive()
    }
}
