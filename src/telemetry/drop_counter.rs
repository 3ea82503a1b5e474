//! Detects layers that are built and dropped repeatedly.

use std::sync::atomic::{AtomicU32, Ordering};

use super::notice::Notice;
use super::notify::notify;

/// More layers than a test suite builds in one process. A service that builds one for each request soon reaches it.
const MANY: u32 = 10_000;

static DISCARDED: AtomicU32 = AtomicU32::new(0);

/// Lives as long as a layer with its own store.
///
/// It counts drops and not builds, because a program may have one layer for each of many tenants.
#[derive(Debug)]
pub(crate) struct DropCounter;

impl Drop for DropCounter {
    fn drop(&mut self) {
        if DISCARDED.fetch_add(1, Ordering::Relaxed) == MANY - 1 {
            notify(Notice::LayerPerRequest, None);
        }
    }
}
