use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::ask;
use crate::redis::servers::{Flavor, Server};
use crate::redis::transport::Transport;

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// The connection's task dies silently with its runtime. Each test of an application's suite is such a runtime.
#[test]
fn a_transport_outlives_the_runtime_of_its_connection() {
    let server = Server::start(Flavor::Debian);
    let link = Transport::to_url(&server.url()).unwrap();
    for _ in 0..3 {
        let runtime = runtime();
        runtime.block_on(ask(&link, &["PING"])).unwrap();
        drop(runtime);
    }
}

#[test]
fn an_attempt_that_dies_with_its_runtime_is_made_again() {
    let server = Server::start(Flavor::Debian);
    let link = Transport::to_url(&server.url()).unwrap();
    server.pause();
    let first = runtime();
    first.block_on(async {
        assert!(tokio::time::timeout(Duration::from_millis(20), ask(&link, &["PING"])).await.is_err());
    });
    let second = runtime();
    let waiting = second.spawn({
        let link = link.clone();
        async move { ask(&link, &["PING"]).await }
    });
    std::thread::sleep(Duration::from_millis(50));
    drop(first);
    server.resume();
    second.block_on(waiting).unwrap().unwrap();
}

#[cfg(not(feature = "redis-smol"))]
#[test]
fn outside_a_runtime_a_call_fails_with_its_cause() {
    use futures_util::FutureExt;

    use crate::redis::transport::FailureKind;

    let server = Server::start(Flavor::Debian);
    let link = Transport::to_url(&server.url()).unwrap();
    let outside = || ask(&link, &["PING"]).now_or_never().expect("it does not wait").unwrap_err();
    assert_eq!(outside().kind(), FailureKind::NoRuntime);
    let runtime = runtime();
    runtime.block_on(ask(&link, &["PING"])).unwrap();
    assert!(outside().to_string().contains("redis-smol"), "the connection is up, but there is no timer");
}
