//! The backends that carry commands to Redis.

use std::future::{Future, ready};
use std::pin::Pin;

use ::redis::{Cmd, ConnectionAddr, Value};

use super::failure::Failure;

pub(super) type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// A server that holds keys, as host and port; `None` if the backend has one path only.
pub(super) type ServerAddress = Option<(String, u16)>;

/// A backend that carries commands to Redis, at the cost of one box per call.
pub(super) trait DynConnection: Send + Sync {
    fn send<'a>(&'a self, command: &'a Cmd) -> Boxed<'a, Value>;

    /// The servers that hold keys.
    fn places(&self) -> Boxed<'_, Vec<ServerAddress>> {
        Box::pin(ready(Ok(vec![None])))
    }

    /// Sends a command to one of the [`places`](Self::places).
    fn send_at<'a>(&'a self, _place: &'a ServerAddress, command: &'a Cmd) -> Boxed<'a, Value> {
        self.send(command)
    }

    fn reset(&self);

    /// An address that the backend connects to, if it has one.
    fn target(&self) -> Option<ConnectionAddr> {
        None
    }

    fn is_cluster(&self) -> bool;
}
