//! Sends one command, and reconnects.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::{Cmd, RedisError, Value};

use super::backend::{DynConnection, ServerAddress};
use super::connector::SingleServer;
use super::external::ExternalConnection;
use super::failure::Failure;
use super::failure_kind::FailureKind;
use super::guarded_connection::GuardedConnection;
use super::single_flight::SingleFlight;
use super::{cause, diagnosis, url};
use crate::error::ConfigError;
use crate::runtime;

/// The transport to one server or cluster. Clones share it.
#[derive(Clone)]
pub(crate) struct Transport {
    way: Arc<Backend>,
}

enum Backend {
    /// Our own connection to one server, which each connect looks up again.
    Own(SingleFlight<MultiplexedConnection>),
    /// A backend that boxes its calls in any case.
    Boxed(Box<dyn DynConnection>),
}

impl Transport {
    /// Creates a transport to the server at `url`. It connects at the first use, so start-up works during an outage.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] if the URL is not a valid Redis URL. The error never shows the URL, which may contain a
    /// password.
    pub(crate) fn to_url(url: &str) -> Result<Self, ConfigError> {
        Ok(Self::own(SingleFlight::new(SingleServer::new(url::parse(url)?))))
    }

    /// Creates a transport over a connection that the user made: a connection manager, multiplexed, cluster, or other.
    ///
    /// That connection controls retries, reconnects and timeouts.
    pub(crate) fn over<C>(connection: C) -> Self
    where
        C: ConnectionLike + Clone + Send + Sync + 'static,
    {
        // The name is a guess. The type cannot be named here if only the user's crate enables the cluster client. A
        // wrong guess of "cluster" costs batching; a wrong guess of "no cluster" causes CROSSSLOT: see `over_cluster`.
        let is_cluster = std::any::type_name::<C>().contains("ClusterConnection");
        Self::boxed(ExternalConnection::new(connection, is_cluster))
    }

    /// Creates a transport over a cluster connection whose type name does not show it; see [`over`](Self::over).
    pub(crate) fn over_cluster<C>(connection: C) -> Self
    where
        C: ConnectionLike + Clone + Send + Sync + 'static,
    {
        Self::boxed(ExternalConnection::new(connection, true))
    }

    pub(super) fn own(connection: SingleFlight<MultiplexedConnection>) -> Self {
        Self { way: Arc::new(Backend::Own(connection)) }
    }

    pub(super) fn boxed(carrier: impl DynConnection + 'static) -> Self {
        Self { way: Arc::new(Backend::Boxed(Box::new(carrier))) }
    }

    /// Sends one command and waits for its value. An error reply of Redis is a [`Failure`] too.
    ///
    /// # Cancellation
    ///
    /// The future may be dropped at any time. A command that the connection already has may still run.
    pub(crate) async fn send(&self, command: &Cmd) -> Result<Value, Failure> {
        match &*self.way {
            Backend::Own(connection) => {
                // What is rare is in a box: each call in flight takes the space of this future.
                let live = match connection.live() {
                    Some(live) => live,
                    None => Box::pin(connection.get()).await?,
                };
                match send_over(&live, command).await {
                    Ok(result) => result,
                    Err(Unsent) => Box::pin(send_again(connection, command)).await,
                }
            }
            Backend::Boxed(carrier) => carrier.send(command).await,
        }
    }

    /// Searches for the cause of a failure that does not show it. Returns the failure itself if the search finds none.
    pub(crate) async fn diagnose(&self, failure: Failure) -> Failure {
        if failure.message() == cause::UNKNOWN_COMMAND_MESSAGE {
            let mut role = Cmd::new();
            role.arg("ROLE");
            let is_sentinel = match runtime::timeout(diagnosis::ANSWER_WITHIN, self.send(&role)) {
                Ok(role) => is_sentinel(role.await),
                Err(_) => false,
            };
            let message = if is_sentinel { cause::SENTINEL_URL_MESSAGE } else { cause::FOREIGN_COMMAND_MESSAGE };
            return failure.renamed(FailureKind::Refused, message);
        }
        let target = match &*self.way {
            Backend::Own(connection) => connection.target(),
            Backend::Boxed(carrier) => carrier.target(),
        };
        match target {
            Some(address) => diagnosis::diagnose(address).await.unwrap_or(failure),
            None => failure,
        }
    }

    /// Makes the next use open a new connection, as is needed after several timeouts in a row.
    ///
    /// Commands in flight keep the old connection until they finish. A connection that the user made stays.
    pub(crate) fn reset(&self) {
        match &*self.way {
            Backend::Own(connection) => connection.reset(),
            Backend::Boxed(carrier) => carrier.reset(),
        }
    }

    /// Whether keys of different slots must not share a command.
    pub(crate) fn is_cluster(&self) -> bool {
        match &*self.way {
            Backend::Own(_) => false,
            Backend::Boxed(carrier) => carrier.is_cluster(),
        }
    }

    /// The servers that hold keys.
    pub(super) async fn places(&self) -> Result<Vec<ServerAddress>, Failure> {
        match &*self.way {
            Backend::Own(_) => Ok(vec![None]),
            Backend::Boxed(carrier) => carrier.places().await,
        }
    }

    pub(super) async fn send_at(&self, place: &ServerAddress, command: &Cmd) -> Result<Value, Failure> {
        match &*self.way {
            Backend::Own(_) => self.send(command).await,
            Backend::Boxed(carrier) => carrier.send_at(place, command).await,
        }
    }
}

/// The connection had ended before it took the command.
struct Unsent;

/// Sends over the next connection, after one that had ended.
async fn send_again(connection: &SingleFlight<MultiplexedConnection>, command: &Cmd) -> Result<Value, Failure> {
    let live = connection.get().await?;
    send_over(&live, command).await.unwrap_or_else(|Unsent| Err(Failure::lost()))
}

/// Sends over our own connection, and marks it as closed if the failure shows that.
async fn send_over(
    live: &GuardedConnection<MultiplexedConnection>,
    command: &Cmd,
) -> Result<Result<Value, Failure>, Unsent> {
    // Timers that are set outside a runtime panic.
    if let Err(no_runtime) = runtime::check() {
        return Ok(Err(no_runtime.into()));
    }
    // A runtime that was busy or suspended may not have polled a socket that was closed in the meantime.
    if live.use_after_idling() {
        runtime::give_way().await;
    }
    let mut connection = live.connection();
    let mut trip = pin!(connection.send_packed_command(command));
    let result = match poll_fn(|cx| Poll::Ready(trip.as_mut().poll(cx))).await {
        // The task of the connection had ended without taking the command, so the command was not sent.
        Poll::Ready(Err(error)) if is_closed(&error) => {
            live.mark_gone();
            return Err(Unsent);
        }
        Poll::Ready(result) => result,
        Poll::Pending => trip.await,
    };
    let result = Failure::check(result);
    if result.as_ref().is_err_and(Failure::calls_for_reconnect) {
        live.mark_gone();
        if result.as_ref().is_err_and(|failure| failure.kind() == FailureKind::ConnectionLost)
            && live.lost_its_runtime()
        {
            return Ok(Err(Failure::orphaned()));
        }
    }
    Ok(result)
}

/// Whether the client reports that a connection has ended.
pub(super) fn is_closed(error: &RedisError) -> bool {
    cause::io_error(error).is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn is_sentinel(role: Result<Result<Value, Failure>, runtime::Elapsed>) -> bool {
    match role {
        Ok(Ok(Value::Array(role))) => matches!(role.first(), Some(Value::BulkString(name)) if name == b"sentinel"),
        _ => false,
    }
}

impl fmt::Debug for Transport {
    /// Omits addresses and passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("is_cluster", &self.is_cluster()).finish_non_exhaustive()
    }
}
