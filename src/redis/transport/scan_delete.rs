//! Deleting all keys of a pattern.

use ::redis::{Cmd, Value, from_redis_value};

use super::backend::ServerAddress;
use super::failure::Failure;
use super::failure_kind::FailureKind;
use super::link::Transport;

/// The keys that one `SCAN` looks at, about; more would hold up the server's other clients.
const STEP: u32 = 512;

impl Transport {
    /// Deletes the keys that match a glob pattern, on every master; says how many.
    ///
    /// Not atomic: keys that are written meanwhile may stay. ExternalConnection a connection that was made elsewhere it goes
    /// through one server, the one that the connection sends a `SCAN` to; on a cluster that is not all.
    pub(crate) async fn delete_matching(&self, pattern: &str) -> Result<u64, Failure> {
        let mut deleted = 0u64;
        for place in &self.places().await? {
            deleted = deleted.saturating_add(scan_delete(self, place, pattern).await?);
        }
        Ok(deleted)
    }
}

/// Goes through all the keys of one server and unlinks what matches; returns how many keys that were.
async fn scan_delete(link: &Transport, place: &ServerAddress, pattern: &str) -> Result<u64, Failure> {
    let (mut cursor, mut deleted) = (0u64, 0u64);
    loop {
        let (next, keys) = read(link.send_at(place, &scan(cursor, pattern)).await?)?;
        if !keys.is_empty() {
            deleted = deleted.saturating_add(unlink(link, &keys).await?);
        }
        if next == 0 {
            return Ok(deleted);
        }
        cursor = next;
    }
}

fn scan(cursor: u64, pattern: &str) -> Cmd {
    let mut command = ::redis::cmd("SCAN");
    command.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(STEP);
    command
}

fn read(page: Value) -> Result<(u64, Vec<Vec<u8>>), Failure> {
    from_redis_value(page).map_err(|_| Failure::protocol("Redis answered SCAN with no cursor and keys"))
}

/// The cluster client splits the command by slots and adds up the answers; a cluster behind one address gets its
/// keys one by one.
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
    let deleted = link.send(&command).await?;
    from_redis_value(deleted).map_err(|_| Failure::protocol("Redis answered UNLINK with no number"))
}
