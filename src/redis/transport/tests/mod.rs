//! The transport against real servers: killed, hung, demoted, and protected by a password.

#[cfg(all(feature = "redis-cluster", feature = "redis-tokio"))]
mod cluster;
mod failures;
#[cfg(feature = "redis-tokio")]
mod faults;
#[cfg(feature = "redis-tokio")]
mod runtimes;
#[cfg(feature = "redis-sentinel")]
mod sentinel;
#[cfg_attr(not(feature = "redis-tokio"), expect(dead_code, reason = "most faults are tried on tokio alone"))]
#[cfg(feature = "redis-smol")]
mod smol;

use ::redis::{Cmd, Value};

use super::{Failure, Transport};

fn cmd(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    command.arg(words);
    command
}

async fn ask(link: &Transport, words: &[&str]) -> Result<Value, Failure> {
    link.send(&cmd(words)).await
}

async fn int(link: &Transport, words: &[&str]) -> i64 {
    match ask(link, words).await {
        Ok(Value::Int(number)) => number,
        other => panic!("{words:?}: {other:?}"),
    }
}
