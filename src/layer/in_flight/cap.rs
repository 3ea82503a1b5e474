//! The settings of a cap.

use std::fmt;

use crate::decision::Decision;
use crate::error::{ConfigError, StoreError, StoreErrorKind, shortened};
use crate::quota::{MAX_CAPACITY, PermitTtl, digits};

/// The cap of a limit, as it was set.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::layer) struct Cap {
    /// The most requests in flight; `None` for a limit with quotas.
    pub(in crate::layer) most: Option<u64>,
    pub(in crate::layer) ttl: Option<PermitTtl>,
}

/// The text after the number, in a table.
const IN_FLIGHT: &str = " in flight";

impl Cap {
    /// Reads the cell of a table: `4 in flight`. Returns `None` if it is another text.
    pub(in crate::layer) fn most_of(cell: &str) -> Option<Result<u64, ConfigError>> {
        let count = cell.strip_suffix(IN_FLIGHT)?.trim_end();
        let most = digits(count).ok_or_else(|| ConfigError::InvalidQuota(shortened(cell)));
        Some(most.and_then(check))
    }

    /// Whether no setter was called.
    pub(in crate::layer) fn is_untouched(&self) -> bool {
        self.most.is_none() && self.ttl.is_none()
    }
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{IN_FLIGHT}", self.most.unwrap_or(0))
    }
}

/// Checks the number of a cap.
pub(super) fn check(most: u64) -> Result<u64, ConfigError> {
    if (1..=MAX_CAPACITY).contains(&most) { Ok(most) } else { Err(ConfigError::InvalidInFlight(most)) }
}

/// The decision of a cap. When a permit returns is not known, so the decision has no waits.
pub(in crate::layer) fn outlasts(decision: Decision) -> Decision {
    let retry_after_ms = if decision.retry_after_ms == 0 { 0 } else { u64::MAX };
    Decision { retry_after_ms, reset_after_ms: 0, ..decision }
}

/// The error of a call that would charge or set permits that nothing returns.
pub(in crate::layer) fn charges_a_cap() -> StoreError {
    let text = "the limit caps requests in flight, and only requests hold permits; use reset, or a limit with quotas";
    StoreError::new(StoreErrorKind::NotConfigured, text)
}
