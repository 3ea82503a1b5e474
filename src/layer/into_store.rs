use std::sync::Arc;

use crate::store::Store;
#[cfg(feature = "_redis")]
use crate::store::hybrid::HybridStore;
use crate::store::local::LocalStore;
#[cfg(feature = "_redis")]
use crate::store::redis::RedisStore;

/// A limiter for a layer: a [`Store`], a shared one, or a handle to one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a store for a rate limit",
    label = "not a store",
    note = "pass a handle of a `RateLimiter`, such as `limiter.local()`, or implement `Store` for a type of your own"
)]
pub trait IntoStore {
    /// Converts into a shared store.
    fn into_store(self) -> Arc<dyn Store>;
}

impl<S: Store> IntoStore for S {
    fn into_store(self) -> Arc<dyn Store> {
        Arc::new(self)
    }
}

impl IntoStore for Arc<dyn Store> {
    fn into_store(self) -> Arc<dyn Store> {
        self
    }
}

impl<S: Store> IntoStore for Arc<S> {
    fn into_store(self) -> Arc<dyn Store> {
        self
    }
}

impl IntoStore for &LocalStore {
    fn into_store(self) -> Arc<dyn Store> {
        Arc::new(self.clone())
    }
}

#[cfg(feature = "_redis")]
impl IntoStore for &RedisStore {
    fn into_store(self) -> Arc<dyn Store> {
        Arc::new(self.clone())
    }
}

#[cfg(feature = "_redis")]
impl IntoStore for &HybridStore {
    fn into_store(self) -> Arc<dyn Store> {
        Arc::new(self.clone())
    }
}
