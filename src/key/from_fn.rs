//! A key from a closure.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::key::extractor::KeyExtractor;
use crate::key::missing_key::MissingKey;
use crate::key::request_view::RequestView;
use crate::key::writer::Key;
use crate::key::writer::KeyWriter;
use crate::telemetry::{Notice, notify};

/// The number of requests without a key, counted from the first, after which the log reports the function.
const SAMPLE: u32 = 100;
/// The function has found a key, or the log has reported it.
const OVER: u32 = u32::MAX;

/// The return types of a function for [`key_fn`](crate::RateLimitLayerBuilder::key_fn): `Option<K>` or `Result<K,
/// MissingKey>`.
///
/// `None` means that the client is at fault. Return [`MissingKey::server_fault`] if the service should have provided
/// the key.
#[diagnostic::on_unimplemented(
    message = "a key function cannot return `{Self}`",
    note = "return `Option<K>` or `Result<K, MissingKey>`, where `K` implements `Key`"
)]
pub trait IntoKey: sealed::IntoKey {}

impl<K: Key> IntoKey for Option<K> {}
impl<K: Key> IntoKey for Result<K, MissingKey> {}

mod sealed {
    use crate::key::missing_key::MissingKey;
    use crate::key::writer::Key;

    pub trait IntoKey {
        type Key: Key;

        fn into_key(self) -> Result<Self::Key, MissingKey>;
    }

    impl<K: Key> IntoKey for Option<K> {
        type Key = K;

        fn into_key(self) -> Result<K, MissingKey> {
            self.ok_or(MissingKey::client_fault("the key function found no key"))
        }
    }

    impl<K: Key> IntoKey for Result<K, MissingKey> {
        type Key = K;

        fn into_key(self) -> Self {
            self
        }
    }
}

/// A key from a closure. [`key_fn`](crate::RateLimitLayerBuilder::key_fn) creates it.
pub(crate) struct FromFn<F> {
    find: F,
    /// The number of requests without a key, counted from the first.
    missing: AtomicU32,
}

impl<F> FromFn<F> {
    pub(crate) const fn new(find: F) -> Self {
        Self { find, missing: AtomicU32::new(0) }
    }

    /// Counts a request. After a key was found or the log has a report, this is one load.
    #[inline]
    fn count(&self, is_found: bool) {
        if self.missing.load(Ordering::Relaxed) != OVER {
            self.judge(is_found);
        }
    }

    #[cold]
    fn judge(&self, is_found: bool) {
        if is_found {
            self.missing.store(OVER, Ordering::Relaxed);
            return;
        }
        let count = |missing: u32| match missing {
            OVER => None,
            missing if missing + 1 == SAMPLE => Some(OVER),
            missing => Some(missing + 1),
        };
        if self.missing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count) == Ok(SAMPLE - 1) {
            notify(Notice::KeyFunctionFindsNone, None);
        }
    }
}

impl<F, R> KeyExtractor for FromFn<F>
where
    F: Fn(&RequestView<'_>) -> R + Send + Sync + 'static,
    R: IntoKey,
{
    fn key(&self, req: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
        let key = sealed::IntoKey::into_key((self.find)(req));
        self.count(key.is_ok());
        out.write(&key?);
        Ok(())
    }
}
