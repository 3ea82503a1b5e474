//! Deletes all keys that match a pattern.

use std::future::Future;
use std::time::Duration;

use ::redis::{Cmd, Value, from_redis_value};

use super::backend::ServerAddress;
use super::failure::Failure;
use super::failure_kind::FailureKind;
use super::link::Transport;
use crate::runtime;

/// The approximate number of keys that one `SCAN` visits; more would delay the server's other clients.
const STEP: u32 = 512;
/// The time limit of one step.
const STEP_WITHIN: Duration = Duration::from_secs(10);

impl Transport {
    /// Deletes the keys that match a glob pattern, on every master; returns their number.
    ///
    /// The deletion is not atomic: keys that are written meanwhile may remain. On an `ExternalConnection` it uses one
    /// server, to which the connection sends a `SCAN`. On a cluster this does not cover all keys.
    pub(crate) async fn delete_matching(&self, pattern: &str) -> Result<u64, Failure> {
        let mut deleted = 0u64;
        for place in &self.places().await? {
            deleted = deleted.saturating_add(scan_delete(self, place, pattern).await?);
        }
        Ok(deleted)
    }
}

/// Scans all keys of one server and unlinks the matching ones; returns their number.
async fn scan_delete(link: &Transport, place: &ServerAddress, pattern: &str) -> Result<u64, Failure> {
    let (mut cursor, mut deleted) = (0u64, 0u64);
    loop {
        let (next, keys) = read(in_time(link.send_at(place, &scan(cursor, pattern))).await?)?;
        if !keys.is_empty() {
            deleted = deleted.saturating_add(unlink(link, &keys).await?);
        }
        if next == 0 {
            return Ok(deleted);
        }
        cursor = next;
    }
}

async fn in_time(step: impl Future<Output = Result<Value, Failure>>) -> Result<Value, Failure> {
    runtime::timeout(STEP_WITHIN, step)?.await.unwrap_or_else(|_| Err(Failure::timeout()))
}

fn scan(cursor: u64, pattern: &str) -> Cmd {
    let mut command = ::redis::cmd("SCAN");
    command.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(STEP);
    command
}

fn read(page: Value) -> Result<(u64, Vec<Vec<u8>>), Failure> {
    from_redis_value(page).map_err(|_| Failure::protocol("the reply to SCAN is not a cursor and a list of keys"))
}

/// The cluster client splits the command by slots and adds up the replies. A cluster behind one address gets one
/// command per key.
async fn unlink(link: &Transport, keys: &[Vec<u8>]) -> Result<u64, Failure> {
    match unlink_at_once(link, keys).await {
        Err(failure) if failure.kind() == FailureKind::CrossSlot => {
            let mut deleted = 0u64;
            for key in keys {
                deleted = deleted.saturating_add(unlink_at_once(link, std::slice::from_ref(key)).await?);
            }
            Ok(deleted)
        }
        result => result,
    }
}

async fn unlink_at_once(link: &Transport, keys: &[Vec<u8>]) -> Result<u64, Failure> {
    let mut command = ::redis::cmd("UNLINK");
    command.arg(keys);
    let deleted = in_time(link.send(&command)).await?;
    from_redis_value(deleted).map_err(|_| Failure::protocol("the reply to UNLINK is not a number"))
}
