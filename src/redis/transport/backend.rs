//! What carries commands to Redis.

use std::future::{Future, ready};
use std::pin::Pin;

use ::redis::{Cmd, ConnectionAddr, Value};

use super::failure::Failure;

pub(super) type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// One of the servers that hold keys: host and port, or none where there is one way only.
pub(super) type ServerAddress = Option<(String, u16)>;

/// What carries commands to Redis at the price of a box.
pub(super) trait DynConnection: Send + Sync {
    fn send<'a>(&'a self, command: &'a Cmd) -> Boxed<'a, Value>;

    /// The servers that hold keys.
    fn places(&self) -> Boxed<'_, Vec<ServerAddress>> {
        Box::pin(ready(Ok(vec![None])))
    }

    /// Sends to one of the [`places`](Self::places).
    fn send_at<'a>(&'a self, _place: &'a ServerAddress, command: &'a Cmd) -> Boxed<'a, Value> {
        self.send(command)
    }

    fn reset(&self);

    /// An address that it connects to, as far as there is one.
    fn target(&self) -> Option<ConnectionAddr> {
        None
    }

    fn is_cluster(&self) -> bool;
}
