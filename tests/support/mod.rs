//! What the test binaries share: servers, probes and judges.
#![allow(dead_code, reason = "each binary uses a part")]
#![allow(clippy::unwrap_used)]

#[cfg(feature = "middleware")]
pub(crate) mod http;
#[cfg(target_os = "linux")]
pub(crate) mod ledger;
pub(crate) mod oracle;
#[cfg(feature = "middleware")]
pub(crate) mod probe;
pub(crate) mod scheduler_stalls;
#[cfg(unix)]
pub(crate) mod servers;
