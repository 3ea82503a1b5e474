use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::config::Place;
use super::in_flight::cap::Cap;
use super::into_store::IntoStore;
use super::meter::{AtLimit, Units};
use super::mode::{LimitMode, ModeCell};
use super::quota_lookup::QuotaLookup;
use super::settle::Settles;
use crate::error::ConfigError;
use crate::key::{FromFn, IntoKey, Key, KeyExtractor, Lookup, MissingKey, RequestView};
use crate::quota::{Ban, Quota, Quotas, TopKeys};
use crate::store::Store;

/// Chooses the quotas of a request.
pub(super) type ChooseQuotas = dyn Fn(&RequestView<'_>) -> Result<Quotas, MissingKey> + Send + Sync;
/// Computes the cost of a request.
pub(super) type Cost = dyn Fn(&RequestView<'_>) -> u64 + Send + Sync;

/// One limit of a layer: a key, its quotas, a strategy and a mode.
///
/// A layer with several limits decides on all of them together. A request is charged to all limits, or to none if one
/// refuses. `Retry-After` is then the longest of their waits.
///
/// # Examples
///
/// ```
/// use tower_weir::key::Header;
/// use tower_weir::{ClientIp, Global, Limit, RateLimitLayer};
///
/// let layer = RateLimitLayer::builder()
///     .limit(Limit::per(ClientIp::peer()).quota("10/s").quota("1000/h"))
///     .limit(Limit::per(Header::new("x-tenant")).quota("500/s").name("tenant"))
///     .limit(Limit::per(Global).quota("5000/s").suppressed(1.2).name("service"))
///     .build()?;
/// # Ok::<(), tower_weir::ConfigError>(())
/// ```
#[derive(Clone)]
#[must_use = "add it to a layer with `RateLimitLayerBuilder::limit`"]
pub struct Limit {
    pub(super) name: Option<Arc<str>>,
    /// `None` only in the short form of the layer's builder.
    pub(super) key: Option<Arc<dyn KeyExtractor>>,
    pub(super) lookup: Option<Lookup>,
    pub(super) quotas: Vec<Quota>,
    pub(super) routes: Vec<(String, Quotas)>,
    pub(super) choose: Option<Arc<ChooseQuotas>>,
    pub(super) quota_lookup: Option<QuotaLookup>,
    /// The given factor, which `build` checks.
    pub(super) suppressed: Option<f64>,
    pub(super) cost: Option<Arc<Cost>>,
    pub(super) costs: Vec<(String, u64)>,
    pub(super) settles: Settles,
    pub(super) metering: Option<Units>,
    pub(super) at_limit: Option<AtLimit>,
    pub(super) in_flight: Cap,
    pub(super) ban: Option<Ban>,
    pub(super) top_keys: Option<TopKeys>,
    pub(super) mode: LimitMode,
    /// The mode that a limit of an older state has, which a control may change at any time.
    pub(super) current_mode: Option<Arc<ModeCell>>,
    pub(super) store: Option<Arc<dyn Store>>,
    /// The first mistake, which `build` reports.
    pub(super) error: Option<ConfigError>,
    /// The place of the definition, for errors.
    pub(super) place: Place,
}

impl Limit {
    /// Creates a limit for each value of a key.
    pub fn per(key: impl KeyExtractor) -> Self {
        Self { key: Some(Arc::new(key)), ..Self::without_key() }
    }

    /// Creates a limit for each value that a function returns; see [`key_fn`](crate::RateLimitLayerBuilder::key_fn).
    pub fn per_fn<F, K>(key: F) -> Self
    where
        F: Fn(&RequestView<'_>) -> K + Send + Sync + 'static,
        K: IntoKey + 'static,
    {
        Self::per(FromFn::new(key))
    }

    pub(super) fn without_key() -> Self {
        Self {
            name: None,
            key: None,
            lookup: None,
            quotas: Vec::new(),
            routes: Vec::new(),
            choose: None,
            quota_lookup: None,
            suppressed: None,
            cost: None,
            costs: Vec::new(),
            settles: Settles::default(),
            metering: None,
            at_limit: None,
            in_flight: Cap::default(),
            ban: None,
            top_keys: None,
            mode: LimitMode::Enforce,
            current_mode: None,
            store: None,
            error: None,
            place: Place::Code,
        }
    }

    /// Sets the name; the default is `"default"`. Each limit of a layer has another name.
    ///
    /// It must be printable ASCII, because headers contain it. Limits with the same store and the same name share their
    /// budgets, key by key.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Adds a quota, as a text or as a [`Quota`]. If a text is invalid, the layer's `build` returns an error.
    ///
    /// A request is admitted only if all quotas have room, and is then charged to all of them.
    pub fn quota<Q>(mut self, quota: Q) -> Self
    where
        Q: TryInto<Quota, Error: Into<ConfigError>>,
    {
        match quota.try_into() {
            Ok(quota) => self.quotas.push(quota),
            Err(error) => self.fail(error),
        }
        self
    }

    /// Sets other quotas for some routes, each with a history of its own.
    ///
    /// A route is a template that axum matched, a path, or the methods of a gRPC service: `/users/{id}`, `/search` or
    /// `/helloworld.Greeter/*`. With an HTTP method before it, as in `POST /login`, it covers only that method; GET
    /// includes HEAD. The values are quotas, [`Quotas::UNLIMITED`] or [`Quotas::BLOCKED`].
    ///
    /// A request without a listed route has the quotas of [`quota`](Self::quota), and no limit if there are none. In
    /// responses, the limit of a route has its name and the route, such as `default:POST /login`.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::{ClientIp, Limit, RateLimitLayer};
    ///
    /// let routes = [("POST /login", "5/min"), ("/search", "20/s"), ("/export", "3/h")];
    /// let layer = RateLimitLayer::builder()
    ///     .limit(Limit::per(ClientIp::peer()).quota("60/min").routes(routes))
    ///     .build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn routes<R, Q>(mut self, routes: impl IntoIterator<Item = (R, Q)>) -> Self
    where
        R: Into<String>,
        Q: TryInto<Quotas, Error: Into<ConfigError>>,
    {
        for (route, quotas) in routes {
            match quotas.try_into() {
                Ok(quotas) => self.routes.push((route.into(), quotas)),
                Err(error) => self.fail(error),
            }
        }
        self
    }

    /// Sets a function that chooses the quotas of a request.
    ///
    /// Other quotas apply to the existing history of the key at once: a customer who changes the plan keeps the units
    /// in use. A limit can have quotas with up to eight different windows at a time.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::key::Header;
    /// use tower_weir::{Limit, Quotas, RateLimitLayer};
    ///
    /// let (free, pro) = (Quotas::try_from("60/min")?, Quotas::try_from("6000/min")?);
    /// let layer = RateLimitLayer::builder()
    ///     .limit(Limit::per(Header::new("x-api-key").hashed()).quota_fn(move |req| {
    ///         match req.headers().get("x-api-key").is_some_and(|key| key.as_bytes().starts_with(b"pro-")) {
    ///             true => pro.clone(),
    ///             false => free.clone(),
    ///         }
    ///     }))
    ///     .build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn quota_fn<F, Q>(mut self, choose: F) -> Self
    where
        F: Fn(&RequestView<'_>) -> Q + Send + Sync + 'static,
        Q: Into<Quotas>,
    {
        self.choose = Some(Arc::new(move |request| Ok(choose(request).into())));
        self
    }

    /// Sets a function that chooses the quotas by a value in the request's extensions, such as the user.
    ///
    /// If the value is missing, the request has no key.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::key::{Extension, Key, KeyWriter};
    /// use tower_weir::{Limit, Quotas, RateLimitLayer};
    ///
    /// /// Put into the request's extensions by the authentication.
    /// #[derive(Clone)]
    /// struct User {
    ///     id: u64,
    ///     quotas: Quotas,
    /// }
    ///
    /// impl Key for User {
    ///     fn write_to(&self, out: &mut KeyWriter) {
    ///         out.write(&self.id);
    ///     }
    /// }
    ///
    /// let layer = RateLimitLayer::builder()
    ///     .limit(Limit::per(Extension::<User>::new()).quota_for(|user: &User| user.quotas.clone()))
    ///     .build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn quota_for<T, Q>(mut self, choose: impl Fn(&T) -> Q + Send + Sync + 'static) -> Self
    where
        T: Send + Sync + 'static,
        Q: Into<Quotas>,
    {
        const MISSING: MissingKey = MissingKey::server_fault("the extension that selects the quotas is missing");
        self.choose = Some(Arc::new(move |request| {
            let value = request.extensions().get::<T>().ok_or(MISSING)?;
            Ok(choose(value).into())
        }));
        self
    }

    /// Sets an async function that looks up the quotas of a request's key, such as the plan of a customer.
    ///
    /// The function sees the request and returns a future that owns its data. Its result is kept for the key: 10 000 keys
    /// for a minute, unless [`cache`](Self::cache) sets other values. Concurrent requests with the same key share one
    /// lookup. If the lookup fails, the last good value is used, for as long as the source is down. A key without such a
    /// value follows [`on_store_error`](crate::RateLimitLayerBuilder::on_store_error), and is looked up again after a
    /// second. A lookup that takes longer than five seconds fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use tower_weir::key::Header;
    /// use tower_weir::{Limit, Quotas, RateLimitLayer};
    ///
    /// struct Plans(HashMap<String, Quotas>);
    ///
    /// impl Plans {
    ///     /// Searches a database.
    ///     async fn find(&self, api_key: &str) -> Result<Quotas, std::io::Error> {
    ///         Ok(self.0.get(api_key).cloned().unwrap_or(Quotas::BLOCKED))
    ///     }
    /// }
    ///
    /// let plans = Arc::new(Plans(HashMap::from([("secret".to_owned(), Quotas::try_from("100/min")?)])));
    /// let find = move |req: &tower_weir::key::RequestView<'_>| {
    ///     let plans = Arc::clone(&plans);
    ///     let api_key = req.headers().get("x-api-key").and_then(|value| value.to_str().ok()).map(str::to_owned);
    ///     async move { plans.find(&api_key.unwrap_or_default()).await }
    /// };
    /// let layer = RateLimitLayer::builder()
    ///     .limit(Limit::per(Header::new("x-api-key").hashed()).quota_lookup(find).cache(1_000, Duration::from_secs(30)))
    ///     .build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn quota_lookup<F, Fut, Q, E>(mut self, lookup: F) -> Self
    where
        F: Fn(&RequestView<'_>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Q, E>> + Send + 'static,
        Q: Into<Quotas>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.quota_lookup = Some(QuotaLookup::new(lookup));
        self
    }

    /// Sets how many keys the [`quota_lookup`](Self::quota_lookup) before it keeps, at least 1, and for how long.
    pub fn cache(mut self, most_keys: usize, ttl: Duration) -> Self {
        match self.quota_lookup.take() {
            Some(lookup) if most_keys > 0 => self.quota_lookup = Some(lookup.cached(most_keys, ttl)),
            _ => self.fail(ConfigError::InvalidQuotaCache),
        }
        self
    }

    /// Uses an async function that looks up the key; see [`key_lookup`](crate::RateLimitLayerBuilder::key_lookup).
    ///
    /// The result is joined to the key of [`per`](Self::per).
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
    ///
    /// The demand of the limit is what the other limits of the layer admit.
    pub fn suppressed(mut self, hard_limit_factor: f64) -> Self {
        self.suppressed = Some(hard_limit_factor);
        self
    }

    /// Sets the units that a request costs this limit; the default is the cost of the layer, which is 1.
    ///
    /// A request that costs 0 is free, and one that costs more than the limit is refused without `Retry-After`.
    pub fn cost(mut self, cost: impl Fn(&RequestView<'_>) -> u64 + Send + Sync + 'static) -> Self {
        self.cost = Some(Arc::new(cost));
        self
    }

    /// Sets the units that requests to some routes cost this limit. Other requests have the [`cost`](Self::cost).
    ///
    /// The routes are written as for [`routes`](Self::routes).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::{ClientIp, Limit, RateLimitLayer};
    ///
    /// let layer = RateLimitLayer::builder()
    ///     .limit(Limit::per(ClientIp::peer()).quota("100/min").costs([("/export", 10), ("POST /orders", 5)]))
    ///     .build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn costs<R: Into<String>>(mut self, costs: impl IntoIterator<Item = (R, u64)>) -> Self {
        self.costs.extend(costs.into_iter().map(|(route, cost)| (route.into(), cost)));
        self
    }

    /// Refuses a key for a time after many refusals by this limit, as fail2ban does. The ban is a [`Ban`] or its text.
    ///
    /// A banned key is refused on every route and at every cost, with the rest of the ban as `Retry-After`. These
    /// refusals do not count, and nothing is charged. After the ban, the refusals count from 0 again. A handler counts
    /// refusals of its own with [`penalise`](super::RateLimitHandle::penalise). To begin or end a ban at any time, use
    /// [`KeyControl`](super::KeyControl).
    ///
    /// A ban takes the place of one limit in the layer, and costs each request about as much. In responses, it has the
    /// limit's name with `:ban`. On a hybrid store, the other instances learn of a ban within a second.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_weir::{ClientIp, Limit, RateLimitLayer};
    ///
    /// let layer = RateLimitLayer::builder()
    ///     .limit(Limit::per(ClientIp::peer()).quota("100/min").ban("20 in 1h for 1d"))
    ///     .build()?;
    /// # Ok::<(), tower_weir::ConfigError>(())
    /// ```
    pub fn ban<B>(mut self, ban: B) -> Self
    where
        B: TryInto<Ban, Error: Into<ConfigError>>,
    {
        match ban.try_into() {
            Ok(ban) => self.ban = Some(ban),
            Err(error) => self.fail(error),
        }
        self
    }

    /// Sets the mode; the default is [`LimitMode::Enforce`].
    pub fn mode(mut self, mode: LimitMode) -> Self {
        match mode {
            LimitMode::EnforceFor(percent) if !mode.is_valid() => self.fail(ConfigError::InvalidPercentage(percent)),
            _ => self.mode = mode,
        }
        self
    }

    /// Lets the limit decide and count without refusing anything; see [`LimitMode::Shadow`].
    pub fn shadow(self) -> Self {
        self.mode(LimitMode::Shadow)
    }

    /// Enforces the limit for a part of the keys, from 0 to 100 percent; see [`LimitMode::EnforceFor`].
    pub fn enforced_for(self, percent: f64) -> Self {
        self.mode(LimitMode::EnforceFor(percent))
    }

    /// Sets the store of this limit; the default is that of the layer.
    pub fn limiter(mut self, store: impl IntoStore) -> Self {
        self.store = Some(store.into_store());
        self
    }

    /// Keeps the first mistake for the layer's `build`.
    pub(super) fn fail(&mut self, error: impl Into<ConfigError>) {
        self.error.get_or_insert_with(|| error.into());
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limit")
            .field("name", &self.name)
            .field("quotas", &self.quotas)
            .field("routes", &self.routes)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}
