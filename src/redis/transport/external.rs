//! A connection that was made elsewhere.

use ::redis::aio::ConnectionLike;
use ::redis::{Cmd, Value};

use super::backend::{Boxed, Carrier};
use super::failure::Failure;
use crate::runtime;

/// See [`Link::over`](super::Link::over).
pub(super) struct Over<C> {
    connection: C,
    is_cluster: bool,
}

impl<C> Over<C> {
    pub(super) fn new(connection: C, is_cluster: bool) -> Self {
        Self { connection, is_cluster }
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Carrier for Over<C> {
    fn send<'a>(&'a self, command: &'a Cmd) -> Boxed<'a, Value> {
        let mut connection = self.connection.clone();
        Box::pin(async move {
            // The client's timers panic outside a runtime.
            runtime::check()?;
            Failure::check(connection.req_packed_command(command).await)
        })
    }

    fn reset(&self) {}

    fn is_cluster(&self) -> bool {
        self.is_cluster
    }
}
