//! Real servers for the tests: Redis and Valkey in several versions, alone, replicated, as a cluster and under
//! sentinels, and a proxy that makes the network between misbehave.
//!
//! `tests/run.sh` finds or installs the binaries and lays them out as `target/redis-servers/NAME/redis-server`;
//! `WEIR_REDIS_SERVERS` names another folder. Everything listens on loopback only, keeps its files in a folder of
//! its own under the system's temporary one, and is gone when its value is dropped or the test process ends,
//! however it ends. Unix only.
//!
//! A test takes one flavor or all that this machine has:
//!
//! ```ignore
//! use crate::support::servers::{Flavor, Server};
//!
//! for flavor in Flavor::available() {
//!     let server = Server::start(flavor);
//!     assert_eq!(server.cli(&["SET", "key", "value"]), "OK");
//! }
//! ```
#![allow(dead_code, unused_imports, reason = "every test file includes the whole and uses a part")]
#![allow(clippy::unwrap_used)]

mod cluster;
mod flavor;
mod port;
mod process;
mod proxy;
mod resp;
mod sentinel;
mod server;

use std::time::{Duration, Instant};

pub(crate) use self::cluster::{Cluster, Migration};
pub(crate) use self::flavor::Flavor;
pub(crate) use self::port::free as free_port;
pub(crate) use self::process::{Folder, Process};
pub(crate) use self::proxy::SlowProxy;
pub(crate) use self::resp::{Connection, Reply};
pub(crate) use self::sentinel::Sentinel;
pub(crate) use self::server::Server;

/// How long anything in here may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until the answer is yes.
///
/// # Panics
///
/// When it has not come after 60 s; the message names what was waited for.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
