use std::fmt;
use std::sync::Arc;

use super::config::RateLimitConfig;
use super::deny::Denials;
use super::drain::DrainOptions;
use super::exempt::Exemptions;
use super::into_store::IntoStore;
use super::limit::{Cost, Limit};
use super::on_missing_key::OnMissingKey;
use super::settle::Settles;
use super::waiting::WaitConfig;
use crate::error::ConfigError;
use crate::key::{FromFn, IntoKey, Key, KeyExtractor, Lookup, MissingKey, RequestView};
use crate::policy::OnStoreError;
use crate::quota::{Quota, Quotas};
use crate::response;
use crate::store::Store;
use crate::telemetry::OnDecision;

/// Builds a [`RateLimitLayer`](crate::RateLimitLayer).
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
    /// The limit that the builder's own setters define.
    pub(super) short: Limit,
    pub(super) limits: Vec<Limit>,
    /// What `merged` adds to what the code sets.
    pub(super) config: Option<RateLimitConfig>,
    /// The cost of a request for the limits without a cost of their own.
    pub(super) cost: Option<Arc<Cost>>,
    pub(super) costs: Vec<(String, u64)>,
    /// For the limits without functions of their own.
    pub(super) settles: Settles,
    pub(super) store: Option<Arc<dyn Store>>,
    pub(super) rejected: Option<u16>,
    pub(super) shed: Option<u16>,
    pub(super) answers: response::Options,
    pub(super) exemptions: Exemptions,
    pub(super) denials: Denials,
    pub(super) decision_in_request: bool,
    pub(super) handle_in_request: bool,
    pub(super) drain: DrainOptions,
    pub(super) on_missing_key: OnMissingKey,
    pub(super) on_store_error: OnStoreError,
    pub(super) waiting: WaitConfig,
    pub(super) on_decision: Option<Arc<OnDecision>>,
}

impl RateLimitLayerBuilder {
    pub(super) fn new() -> Self {
        Self {
            short: Limit::without_key(),
            limits: Vec::new(),
            config: None,
            cost: None,
            costs: Vec::new(),
            settles: Settles::default(),
            store: None,
            rejected: None,
            shed: None,
            answers: response::Options::default(),
            exemptions: Exemptions::default(),
            denials: Denials::default(),
            decision_in_request: false,
            handle_in_request: false,
            drain: DrainOptions::default(),
            on_missing_key: OnMissingKey::default(),
            on_store_error: OnStoreError::default(),
            waiting: WaitConfig::default(),
            on_decision: None,
        }
    }

    /// Adds a quota. A request is admitted only if all quotas have room, and is then charged to all of them.
    pub fn quota(mut self, quota: Quota) -> Self {
        self.short = self.short.quota(quota);
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
            self.short = self.short.quota(quota);
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
        self.short.name = Some(name.into());
        self
    }

    /// Sets the key of a request; the default is [`ClientIp::peer`](crate::ClientIp::peer).
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
        self.short.key = Some(Arc::new(key));
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
        self.short.lookup = Some(Lookup::new(lookup));
        self
    }

    /// Uses the suppressed strategy: it thins an overload smoothly instead of cutting it off.
    ///
    /// It never admits more than the limit times `hard_limit_factor`, which is at least 1.0.
    pub fn suppressed(mut self, hard_limit_factor: f64) -> Self {
        self.short.suppressed = Some(hard_limit_factor);
        self
    }

    /// Sets other quotas for some routes; see [`Limit::routes`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_weir::RateLimitLayer;
    /// let layer = RateLimitLayer::builder()
    ///     .quota("60/min".parse()?)
    ///     .routes([("POST /login", "5/min"), ("/search", "20/s"), ("/export", "3/h")])
    ///     .build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn routes<R, Q>(mut self, routes: impl IntoIterator<Item = (R, Q)>) -> Self
    where
        R: Into<String>,
        Q: TryInto<Quotas, Error: Into<ConfigError>>,
    {
        self.short = self.short.routes(routes);
        self
    }

    /// Adds a limit. The layer decides on all of its limits together; see [`Limit`].
    ///
    /// The builder's own [`quota`](Self::quota), [`key`](Self::key), [`name`](Self::name) and
    /// [`suppressed`](Self::suppressed) define one limit more, if they are used.
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self
    }

    /// Sets the units that a request costs; the default is 1.
    ///
    /// A request that costs 0 is free. One that costs more than a limit admits in its window is refused without
    /// `Retry-After`, because no wait helps. A [`Limit`] may have a [cost](Limit::cost) of its own.
    ///
    /// For bytes, use [`RequestView::content_length`], with a cost for requests that declare none.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::Method;
    /// use tower_weir::RateLimitLayer;
    ///
    /// let layer = RateLimitLayer::builder()
    ///     .quota("100/min".parse()?)
    ///     .cost(|req| if req.method() == Method::POST { 5 } else { 1 })
    ///     .build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn cost(mut self, cost: impl Fn(&RequestView<'_>) -> u64 + Send + Sync + 'static) -> Self {
        self.cost = Some(Arc::new(cost));
        self
    }

    /// Sets the units that requests to some routes cost; see [`Limit::costs`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_weir::RateLimitLayer;
    /// let layer = RateLimitLayer::builder().quota("60/min".parse()?).costs([("/export", 10)]).build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn costs<R: Into<String>>(mut self, costs: impl IntoIterator<Item = (R, u64)>) -> Self {
        self.costs.extend(costs.into_iter().map(|(route, cost)| (route.into(), cost)));
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

    /// Sets whether the layer adds a [`RateLimitHandle`](super::RateLimitHandle) to the request's extensions.
    ///
    /// The default is no, because it costs some allocations. With the handle, a handler reads what is left of each
    /// limit, charges more units, refunds some, or resets the key. With stacked layers, the inner one replaces the handle
    /// of the outer one.
    pub fn handle(mut self, insert: bool) -> Self {
        self.handle_in_request = insert;
        self
    }
}

impl fmt::Debug for RateLimitLayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayerBuilder")
            .field("short", &self.short)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
