//! One node's socket; the parent module explains why the client does not use the socket directly.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::cluster_async::Connect;
use ::redis::{
    AsyncConnectionConfig, Cmd, IntoConnectionInfo, Pipeline, RedisError, RedisFuture, RetryMethod, Value,
    make_extension_error,
};

use crate::redis::transport::failure_kind::{LATE, LOST};
use crate::redis::transport::guarded_connection::{ClosedFlag, GuardedConnection, ping_until_gone};
use crate::redis::transport::link::is_closed;

/// A socket that reports its end in two steps, if a command may have run.
///
/// 1. Each command in flight gets an error that the client passes on and does not retry.
/// 2. The next command, which is not sent, gets an error that lets the client reconnect and retry.
#[derive(Clone)]
pub(super) struct Node {
    live: Arc<GuardedConnection<MultiplexedConnection>>,
}

impl Node {
    fn begin(&self) -> Result<MultiplexedConnection, RedisError> {
        if self.live.is_gone() {
            Err(io::Error::from(io::ErrorKind::NotConnected).into())
        } else {
            Ok(self.live.connection())
        }
    }

    fn settle<T>(&self, result: Result<T, RedisError>) -> Result<T, RedisError> {
        let error = match result {
            Err(error) if !matches!(error.retry_method(), RetryMethod::NoRetry) => error,
            known => return known,
        };
        if error.is_unrecoverable_error() {
            self.live.mark_gone();
        }
        let code = if error.is_timeout() { LATE } else { LOST };
        Err(make_extension_error(code.to_owned(), None))
    }
}

impl ConnectionLike for Node {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let mut connection = self.begin()?;
            let mut trip = pin!(connection.send_packed_command(command));
            let result = match poll_fn(|cx| Poll::Ready(trip.as_mut().poll(cx))).await {
                // No task took the command, so the client may connect and retry it at once.
                Poll::Ready(Err(error)) if is_closed(&error) => {
                    self.live.mark_gone();
                    return Err(io::Error::from(io::ErrorKind::NotConnected).into());
                }
                Poll::Ready(result) => result,
                Poll::Pending => trip.await,
            };
            self.settle(result)
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let result = self.begin()?.send_packed_commands(pipeline, offset, count).await;
            self.settle(result)
        })
    }

    fn get_db(&self) -> i64 {
        self.live.connection().get_db()
    }
}

impl Connect for Node {
    fn connect_with_config<'a, T>(info: T, config: AsyncConnectionConfig) -> RedisFuture<'a, Self>
    where
        T: IntoConnectionInfo + Send + 'a,
    {
        Box::pin(async move {
            let config = config.set_pipeline_buffer_size(256);
            let connection = MultiplexedConnection::connect_with_config(info, config).await?;
            let live =
                GuardedConnection::guarded(connection.clone(), ClosedFlag::default(), ping_until_gone(connection))
                    .map_err(io::Error::other)?;
            Ok(Self { live })
        })
    }
}
