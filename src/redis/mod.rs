//! The Redis client that the remote stores share.
//!
//! A decision is one step of a script on one key, by the server's clock. Batches let many callers share a round trip. A
//! deadline and a circuit breaker keep requests from waiting for a dead Redis. A heartbeat counts the instances that
//! share a limit.

mod batch;
mod breaker;
mod client;
mod debts;
mod health;
mod heartbeat;
mod key_name;
mod on_drop;
mod options;
mod returning;
mod transport;

#[cfg(test)]
#[path = "../../tests/support/servers/mod.rs"]
pub(crate) mod servers;

pub(crate) use self::batch::{JointKey, KeyReply, KeyRequest, Payload};
pub(crate) use self::client::Client;
pub(crate) use self::key_name::Keyspace;
pub(crate) use self::on_drop::OnDrop;
pub use self::options::RedisOptions;
pub(crate) use self::returning::{Return, Returning};
pub(crate) use self::transport::Failure;
