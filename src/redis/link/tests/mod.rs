//! The link against real servers: killed, hung, demoted, guarded by a password.

#[cfg(all(feature = "redis-cluster", feature = "redis-tokio"))]
mod cluster;
mod failures;
#[cfg(feature = "redis-tokio")]
mod faults;
#[cfg(feature = "redis-tokio")]
mod runtimes;
#[cfg(feature = "redis-sentinel")]
mod sentinel;
mod server;
#[cfg(feature = "redis-smol")]
mod smol;

use std::time::Duration;

use ::redis::{Cmd, Value};

use super::{Failure, Link};
use crate::redis::runtime;

fn cmd(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    command.arg(words);
    command
}

async fn ask(link: &Link, words: &[&str]) -> Result<Value, Failure> {
    link.send(&cmd(words)).await
}

async fn int(link: &Link, words: &[&str]) -> i64 {
    match ask(link, words).await {
        Ok(Value::Int(number)) => number,
        other => panic!("{words:?}: {other:?}"),
    }
}

/// Asks until it works; a reconnect or a failover takes a moment.
async fn ask_until(link: &Link, words: &[&str], is_wanted: impl Fn(&Result<Value, Failure>) -> bool) {
    let mut last = None;
    for _ in 0..500 {
        let answer = match runtime::timeout(Duration::from_millis(500), ask(link, words)).unwrap().await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::timeout()),
        };
        if is_wanted(&answer) {
            return;
        }
        last = Some(answer);
        runtime::sleep(Duration::from_millis(20)).unwrap().await;
    }
    panic!("{words:?}: {last:?}");
}
