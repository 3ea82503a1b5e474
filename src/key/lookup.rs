//! The part of a key that is not in the request and must be looked up.

use std::pin::Pin;
use std::sync::Arc;

use crate::key::missing_key::MissingKey;
use crate::key::request_view::RequestView;
use crate::key::writer::Key;
use crate::key::writer::KeyWriter;

/// A key whose lookup is running.
pub(crate) type PendingKey = Pin<Box<dyn Future<Output = Result<KeyWriter, MissingKey>> + Send>>;

type Find = dyn Fn(&RequestView<'_>, KeyWriter, bool) -> PendingKey + Send + Sync;

/// An async function that finds a key. [`key_lookup`](crate::RateLimitLayerBuilder::key_lookup) creates it.
#[derive(Clone)]
pub(crate) struct Lookup {
    find: Arc<Find>,
    is_joined: bool,
}

impl Lookup {
    /// The result of `find` is the whole key.
    pub(crate) fn new<F, Fut, K>(find: F) -> Self
    where
        F: Fn(&RequestView<'_>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<K, MissingKey>> + Send + 'static,
        K: Key,
    {
        let find = move |req: &RequestView<'_>, mut out: KeyWriter, is_joined: bool| -> PendingKey {
            let found = find(req);
            Box::pin(async move {
                let found = found.await?;
                // The bytes are those of a tuple of the two values.
                if is_joined {
                    out.end();
                }
                out.write(&found);
                if is_joined {
                    out.end();
                }
                Ok(out)
            })
        };
        Self { find: Arc::new(find), is_joined: false }
    }

    /// The result of `find` is joined to a key from the request.
    pub(crate) fn joined(mut self) -> Self {
        self.is_joined = true;
        self
    }

    pub(crate) fn is_joined(&self) -> bool {
        self.is_joined
    }

    /// Starts the lookup of the part that follows `key`.
    pub(crate) fn begin(&self, req: &RequestView<'_>, key: KeyWriter) -> PendingKey {
        (self.find)(req, key, self.is_joined)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::key::HttpMethod;
    use crate::key::extractor::KeyExtractor;
    use crate::key::global::Global;
    use crate::key::tests::{bytes, request, written};

    fn found(lookup: &Lookup, before: &impl KeyExtractor) -> Result<Vec<u8>, MissingKey> {
        let (request, mut key) = (request("/"), KeyWriter::new());
        let view = RequestView::new(&request);
        before.key(&view, &mut key).unwrap();
        match pin!(lookup.begin(&view, key)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(key) => key.map(|key| key.as_bytes().to_vec()),
            Poll::Pending => panic!("the future is not ready"),
        }
    }

    fn account() -> Lookup {
        Lookup::new(|_| async { Ok("acme") })
    }

    #[test]
    fn the_result_is_the_key() {
        assert_eq!(found(&account(), &Global), Ok(written("acme")));
    }

    /// A budget does not depend on whether a part is read or looked up.
    #[test]
    fn a_joined_result_equals_a_tuple_key() {
        struct Account;
        impl KeyExtractor for Account {
            fn key(&self, _: &RequestView<'_>, out: &mut KeyWriter) -> Result<(), MissingKey> {
                out.write("acme");
                Ok(())
            }
        }
        let joined = account().joined();
        assert_eq!(found(&joined, &HttpMethod), Ok(bytes(&(HttpMethod, Account), &request("/"))));
        assert_ne!(found(&joined, &HttpMethod), found(&account(), &HttpMethod));
    }

    #[test]
    fn a_failure_is_returned() {
        let failed = MissingKey::server_fault("the accounts cannot be reached");
        assert_eq!(found(&Lookup::new(move |_| async move { Err::<u64, _>(failed) }), &Global), Err(failed));
    }
}
