//! The lines of one site's log, by their codes.

use std::sync::{Arc, Mutex};

/// What the threads of a site's runtime log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// How many lines of a code came; none is known without the feature `tracing`.
    pub(crate) fn count(&self, code: &str) -> Option<usize> {
        let count = || self.0.lock().unwrap().iter().filter(|line| *line == code).count();
        cfg!(feature = "tracing").then(count)
    }

    /// Whether each loss of Redis that was logged has its end.
    pub(crate) fn is_balanced(&self) -> bool {
        self.count("redis-lost") == self.count("redis-back")
    }

    /// Whether no outage was logged.
    pub(crate) fn is_empty(&self) -> bool {
        ["redis-lost", "redis-back"].iter().all(|code| self.count(code).unwrap_or(0) == 0)
    }

    /// Forgets what came until now.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// Listens to this thread for as long as it runs.
    #[cfg(not(feature = "tracing"))]
    pub(crate) fn listen(&self) {}
}

#[cfg(feature = "tracing")]
mod listening {
    use std::fmt;

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::Log;

    impl Log {
        /// Listens to this thread for as long as it runs.
        pub(crate) fn listen(&self) {
            std::mem::forget(tracing::subscriber::set_default(self.clone()));
        }
    }

    impl Subscriber for Log {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "tower_weir"
        }

        fn event(&self, event: &Event<'_>) {
            event.record(&mut Codes(self));
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    struct Codes<'a>(&'a Log);

    impl Visit for Codes<'_> {
        fn record_str(&mut self, field: &Field, value: &str) {
            if field.name() == "code" {
                self.0.0.lock().unwrap().push(value.to_owned());
            }
        }

        fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
    }
}
