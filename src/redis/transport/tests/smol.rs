use std::time::Duration;

use super::{ask, int};
use crate::redis::servers::{Flavor, Server};
use crate::redis::transport::{FailureKind, Transport};
use crate::runtime;

#[test]
fn the_transport_works_the_same_on_smol() {
    smol::block_on(async {
        let server = Server::start(Flavor::Debian);
        let link = Transport::to_url(&server.url()).unwrap();
        assert_eq!(int(&link, &["INCR", "a"]).await, 1);

        server.pause();
        let late = runtime::timeout(Duration::from_millis(20), ask(&link, &["PING"])).unwrap().await;
        assert!(late.is_err());
        link.reset();
        server.resume();
        // The attempt may have taken too long on a busy machine.
        while ask(&link, &["PING"]).await.is_err() {}
        assert_eq!(int(&link, &["INCR", "a"]).await, 2);

        server.kill();
        // The client detects the end of the connection before it sends the command, or during it.
        let failure = ask(&link, &["PING"]).await.unwrap_err();
        assert!(matches!(failure.kind(), FailureKind::Unreachable | FailureKind::ConnectionLost), "{failure:?}");
        let failure = ask(&link, &["PING"]).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Unreachable);
        server.restart();
        assert_eq!(int(&link, &["INCR", "a"]).await, 1);
        assert_eq!(link.delete_matching("*").await.unwrap(), 1);
    });
}

#[cfg(feature = "redis-tokio")]
#[test]
fn a_transport_serves_both_runtimes_in_turn() {
    let server = Server::start(Flavor::Debian);
    let link = Transport::to_url(&server.url()).unwrap();
    for round in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        assert_eq!(runtime.block_on(int(&link, &["INCR", "a"])), 2 * round + 1);
        drop(runtime);
        assert_eq!(smol::block_on(int(&link, &["INCR", "a"])), 2 * round + 2);
        link.reset();
    }
}
