//! The definition of one limit: a name, quotas, a strategy, and the behavior if the store fails.

use std::sync::Arc;

use crate::quota::Quota;
use crate::strategy::Strategy;

/// The behavior for a request that the store cannot decide, because Redis is down, slow, or refuses to serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnStoreError {
    /// This instance decides alone, with its share of the limit. The share is the limit divided by the number of
    /// instances, and at least 1 if the limit is not 0. This instance's recent admissions count against it.
    ///
    /// While Redis is down, all instances together admit at most the sum of their shares per window. In the window in
    /// which the outage starts, add what the other instances had admitted. In the one in which it ends, add what Redis
    /// admits before it knows the charges of the shares.
    ///
    /// A store of your own that has no share refuses, as with [`Reject`](Self::Reject).
    #[default]
    LocalShare,
    /// The request is refused. A layer responds with 503.
    Reject,
    /// The request is admitted without a limit.
    Allow,
}

/// Gives an enumeration a text form with one word for each value.
macro_rules! words {
    ($type:ident: $($word:literal => $value:ident),+) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$value => $word),+ })
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::error::ConfigError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$value),)+
                    _ => Err($crate::error::ConfigError::UnknownWord {
                        text: $crate::error::shortened(text),
                        known: &[$($word),+],
                    }),
                }
            }
        }

        #[cfg(feature = "serde")]
        $crate::quota::serde_text!($type);
    };
}
#[cfg(feature = "middleware")]
pub(crate) use words;

words!(OnStoreError: "local-share" => LocalShare, "reject" => Reject, "allow" => Allow);

/// The definition of a limit for a store: a name, one or more quotas, and a strategy.
///
/// A name and a key identify a history. If two policies use the same store and the same name, they share their
/// budgets. The quotas of both then apply to the same history.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    name: Arc<str>,
    quotas: Arc<[Quota]>,
    strategy: Strategy,
    on_store_error: OnStoreError,
    /// Whether policies with other quotas share the name on purpose.
    shares_name: bool,
    /// Whether the response settles the charges.
    is_settled: bool,
    /// Whether a unit is a permit: it counts until it is refunded, and not for a window.
    is_in_flight: bool,
}

impl Policy {
    /// The default name of a limit.
    pub(crate) const UNNAMED: &str = "default";

    /// Creates a policy. A request is admitted only if all quotas have room.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, quotas: impl Into<Arc<[Quota]>>, strategy: Strategy) -> Self {
        let on_store_error = OnStoreError::default();
        Self {
            name: name.into(),
            quotas: quotas.into(),
            strategy,
            on_store_error,
            shares_name: false,
            is_settled: false,
            is_in_flight: false,
        }
    }

    /// Sets the behavior if the store cannot decide; the default is [`OnStoreError::LocalShare`].
    #[must_use]
    pub fn with_on_store_error(mut self, on_store_error: OnStoreError) -> Self {
        self.on_store_error = on_store_error;
        self
    }

    /// Sets that policies with other quotas have the same name on purpose: the quotas depend on the request, or change.
    #[cfg(feature = "middleware")]
    pub(crate) fn sharing_its_name(mut self) -> Self {
        self.shares_name = true;
        self
    }

    /// Sets that the response settles the charges. The store must then be able to refund a charge for as long as it
    /// counts.
    #[cfg(any(feature = "middleware", feature = "_redis"))]
    pub(crate) fn settled(mut self) -> Self {
        self.is_settled = true;
        self
    }

    /// The same policy for charges that are final.
    #[cfg(feature = "middleware")]
    pub(crate) fn unsettled(mut self) -> Self {
        self.is_settled = false;
        self
    }

    /// Whether the response settles the charges.
    #[cfg(feature = "_redis")]
    pub(crate) fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Sets that each unit is a permit, which counts until it is refunded. If the process that holds it may end without a
    /// refund, a permit counts for the window of the quota after the process last renewed it.
    #[cfg(feature = "middleware")]
    pub(crate) fn in_flight(mut self) -> Self {
        self.is_in_flight = true;
        self
    }

    /// Whether the limit caps requests in flight. Each unit is then a permit, which counts until it is refunded. If the
    /// store cannot know that the process that holds a permit has ended, the permit counts for the window of the quota
    /// after its last sign of life.
    #[must_use]
    pub fn is_in_flight(&self) -> bool {
        self.is_in_flight
    }

    /// The same policy with another name and other quotas.
    #[cfg(feature = "middleware")]
    pub(crate) fn with_quotas(&self, name: &str, quotas: &[Quota]) -> Self {
        Self { name: name.into(), quotas: quotas.into(), ..self.clone() }
    }

    /// Whether policies with other quotas have the same name on purpose.
    pub(crate) fn shares_name(&self) -> bool {
        self.shares_name
    }

    /// The behavior if the store cannot decide.
    #[must_use]
    pub fn on_store_error(&self) -> OnStoreError {
        self.on_store_error
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The quotas.
    #[must_use]
    pub fn quotas(&self) -> &[Quota] {
        &self.quotas
    }

    /// The strategy.
    #[must_use]
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }
}
