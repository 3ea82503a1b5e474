//! A connection that the user made.

use ::redis::aio::ConnectionLike;
use ::redis::{Cmd, Value};

use super::backend::{Boxed, DynConnection};
use super::failure::Failure;
use crate::runtime;

/// See [`Transport::over`](super::Transport::over).
pub(super) struct ExternalConnection<C> {
    connection: C,
    is_cluster: bool,
}

impl<C> ExternalConnection<C> {
    pub(super) fn new(connection: C, is_cluster: bool) -> Self {
        Self { connection, is_cluster }
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> DynConnection for ExternalConnection<C> {
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
