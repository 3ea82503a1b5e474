//! Layers that are built and dropped all the time.

use std::sync::atomic::{AtomicU32, Ordering};

use super::notice::Notice;
use super::notify::notify;

/// More than any suite of tests builds in one process; a service that builds one for each request soon comes to it.
const MANY: u32 = 10_000;

static DISCARDED: AtomicU32 = AtomicU32::new(0);

/// Lives as long as a layer that has a store of its own.
///
/// Counted when dropped and not when built: a program may well have a layer for each of its many tenants.
#[derive(Debug)]
pub(crate) struct DropCounter;

impl Drop for DropCounter {
    fn drop(&mut self) {
        if DISCARDED.fetch_add(1, Ordering::Relaxed) == MANY - 1 {
            notify(Notice::LayerPerRequest, None);
        }
    }
}
