use std::future::{pending, ready};
use std::time::Duration;

use futures_util::FutureExt;

use super::{Elapsed, check, sleep, spawn, timeout};

#[cfg(not(feature = "redis-smol"))]
#[test]
fn outside_a_runtime_everything_fails_and_nothing_panics() {
    use super::NoRuntime;

    assert_eq!(check(), Err(NoRuntime));
    assert_eq!(spawn(async {}), Err(NoRuntime));
    assert!(sleep(Duration::ZERO).is_err());
    assert!(timeout(Duration::ZERO, ready(())).is_err());
    assert!(NoRuntime.to_string().contains("redis-smol"));
}

#[cfg(feature = "redis-tokio")]
#[tokio::test(start_paused = true)]
async fn on_tokio() {
    let start = tokio::time::Instant::now();
    sleep(Duration::from_secs(3)).unwrap().await;
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    the_basics().await;
}

#[cfg(feature = "redis-smol")]
#[test]
fn on_smol_without_starting_it() {
    smol::block_on(the_basics());
}

async fn the_basics() {
    check().unwrap();
    let (told, heard) = tokio::sync::oneshot::channel();
    spawn(async move { told.send(7).unwrap() }).unwrap();
    assert_eq!(heard.await, Ok(7));
    sleep(Duration::from_millis(1)).unwrap().await;
    assert_eq!(timeout(Duration::from_millis(1), pending::<()>()).unwrap().await, Err(Elapsed));
    assert_eq!(timeout(Duration::ZERO, ready(7)).unwrap().now_or_never(), Some(Ok(7)));
}
