//! A cluster, through the redis crate's cluster client, adapted to send at most once.
//!
//! The client follows redirects, maintains the slot map and the connections to the nodes, and retries failures. It also
//! retries after an I/O error, when the command may have run. The number of retries is the same for all causes; with
//! zero, a moving slot would fail every call. So the retries stay, and [`Node`] wraps each socket. If a command may
//! have run, [`Node`] returns an error that the client does not retry. It reports the socket's end with the *next*
//! command, which it refuses before sending. Therefore, a command that the client retries has not run.

mod node;

use std::future::pending;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::ConnectionLike;
use ::redis::cluster::{ClusterClient, ClusterClientBuilder};
use ::redis::cluster_async::ClusterConnection;
use ::redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo, SingleNodeRoutingInfo};
use ::redis::{Cmd, ConnectionAddr, ErrorKind, RedisResult, Value};

use self::node::Node;
use super::backend::ServerAddress;
use super::backend::{Boxed, DynConnection};
use super::cause::MOVING_MESSAGE;
use super::connector::Connector;
use super::failure::Failure;
use super::failure_kind::FailureKind;
use super::guarded_connection::{ClosedFlag, GuardedConnection};
use super::link::{Transport, is_closed};
use super::single_flight::SingleFlight;
use super::{tls, url};
use crate::error::ConfigError;
use crate::runtime;

/// One retry covers a redirect, one a second redirect while the map is stale, and one a connect to a new node.
const RETRIES: u32 = 3;
/// The client serves no call while it connects to all nodes at once, so one dead node must not block it for long.
const CONNECT_WITHIN: Duration = Duration::from_millis(500);
/// The time limit for a node that hangs while the client reads the slot map.
const RESPONSE_WITHIN: Duration = Duration::from_secs(2);
/// The time limit for the first nodes, the map, and all nodes together.
const DIAL_WITHIN: Duration = Duration::from_secs(3);

impl Transport {
    /// Creates a transport to a cluster, given the URLs of some nodes.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] if a URL is not a valid Redis URL, if there is none, or if they differ in more than host and
    /// port.
    pub(crate) fn to_cluster<'a>(urls: impl IntoIterator<Item = &'a str>) -> Result<Self, ConfigError> {
        let nodes = urls.into_iter().map(url::parse).collect::<Result<Vec<_>, _>>()?;
        let first = nodes.first().ok_or(ConfigError::NoRedisUrl)?.addr().clone();
        if nodes.iter().any(|node| matches!(node.addr(), ConnectionAddr::Unix(_))) {
            return Err(ConfigError::InvalidRedisUrl("is a path, but the nodes of a cluster need host and port"));
        }
        let client = ClusterClientBuilder::new(nodes)
            .tcp_settings(url::tcp_settings())
            .connection_timeout(CONNECT_WITHIN)
            .response_timeout(RESPONSE_WITHIN)
            .retries(RETRIES)
            // All retries fit in a deadline, so a final failure arrives as such, and not as a timeout.
            .min_retry_wait(2)
            .max_retry_wait(8)
            // Otherwise the client would dial a permanently removed node forever.
            .max_connection_attempts(NonZeroUsize::MIN.saturating_add(9))
            .build()
            .map_err(|_| ConfigError::RedisUrlsDiffer)?;
        Ok(Self::boxed(Cluster { nodes: SingleFlight::new(Seeds { client, first }) }))
    }
}

struct Seeds {
    client: ClusterClient,
    first: ConnectionAddr,
}

impl Connector<ClusterConnection<Node>> for Seeds {
    fn dial(&self) -> Boxed<'_, Arc<GuardedConnection<ClusterConnection<Node>>>> {
        Box::pin(async {
            tls::prepare();
            let connection = self.client.get_async_generic_connection::<Node>().await;
            Ok(GuardedConnection::guarded(connection.map_err(Failure::of_connect)?, ClosedFlag::default(), pending())?)
        })
    }

    fn within(&self) -> Duration {
        DIAL_WITHIN
    }

    fn target(&self) -> Option<ConnectionAddr> {
        Some(self.first.clone())
    }

    /// One node may hang while the others serve.
    fn overlaps(&self) -> bool {
        true
    }
}

struct Cluster {
    nodes: SingleFlight<ClusterConnection<Node>>,
}

impl Cluster {
    async fn connection(&self) -> Result<ClusterConnection<Node>, Failure> {
        let live = self.nodes.get().await?;
        // Timers that are set outside a runtime panic.
        runtime::check()?;
        Ok(live.connection())
    }

    async fn route(&self, command: Cmd, routing: RoutingInfo) -> Result<Value, Failure> {
        let mut connection = self.connection().await?;
        self.check(connection.route_command(command, routing).await)
    }

    fn check(&self, result: RedisResult<Value>) -> Result<Value, Failure> {
        let error = match result {
            Err(error) if error.kind() == ErrorKind::Io && !error.is_timeout() => error,
            known => {
                // The client follows redirects, so the advice to use a cluster client is wrong here.
                return Failure::check(known).map_err(|failure| match failure.kind() {
                    FailureKind::Moved => failure.renamed(FailureKind::Moved, MOVING_MESSAGE),
                    _ => failure,
                });
            }
        };
        // The errors of sockets pass through `Node`. Other errors concern connecting, before a command was sent. The
        // exception is the error that the client returns if its task ended during the command.
        if is_closed(&error) {
            self.nodes.reset();
            return Err(Failure::of_command(error));
        }
        Err(Failure::of_connect(error))
    }
}

impl DynConnection for Cluster {
    fn send<'a>(&'a self, command: &'a Cmd) -> Boxed<'a, Value> {
        Box::pin(async move {
            let mut connection = self.connection().await?;
            self.check(connection.req_packed_command(command).await)
        })
    }

    fn places(&self) -> Boxed<'_, Vec<ServerAddress>> {
        Box::pin(async move {
            // For a command to all masters, the client returns replies by the addresses that it uses.
            let masters = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
            match self.route(::redis::cmd("PING"), masters).await? {
                Value::Map(answers) => answers.iter().map(|(address, _)| read_address(address).map(Some)).collect(),
                _ => Err(Failure::protocol("the reply of the cluster is not one reply per master")),
            }
        })
    }

    fn send_at<'a>(&'a self, place: &'a ServerAddress, command: &'a Cmd) -> Boxed<'a, Value> {
        let Some((host, port)) = place.clone() else { return self.send(command) };
        let node = RoutingInfo::SingleNode(SingleNodeRoutingInfo::ByAddress { host, port });
        Box::pin(self.route(command.clone(), node))
    }

    fn reset(&self) {
        self.nodes.reset();
    }

    fn target(&self) -> Option<ConnectionAddr> {
        self.nodes.target()
    }

    fn is_cluster(&self) -> bool {
        true
    }
}

/// Reads `host:port` as the client writes it; an IPv6 host has no brackets.
fn read_address(address: &Value) -> Result<(String, u16), Failure> {
    let text = match address {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    };
    text.and_then(|text| text.rsplit_once(':'))
        .and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)))
        .ok_or_else(|| Failure::protocol("the cluster client returned a node without host and port"))
}

#[cfg(test)]
mod tests {
    use std::io;

    use ::redis::RedisError;

    use super::*;

    #[test]
    fn the_kind_of_an_io_error_is_found() {
        let error = RedisError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(is_closed(&error));
        let error = RedisError::from(io::Error::new(io::ErrorKind::BrokenPipe, "told"));
        assert!(is_closed(&error));
        assert!(!is_closed(&RedisError::from((ErrorKind::Io, "untold"))));
    }

    #[test]
    fn the_urls_of_a_cluster_must_agree() {
        let link = Transport::to_cluster(["redis://a", "redis://b:7001"]).unwrap();
        assert!(link.is_cluster());
        assert_eq!(Transport::to_cluster([]).unwrap_err(), ConfigError::NoRedisUrl);
        assert_eq!(Transport::to_cluster(["redis://:a@a", "redis://:b@a"]).unwrap_err(), ConfigError::RedisUrlsDiffer);
        assert!(matches!(Transport::to_cluster(["unix:///tmp/x"]), Err(ConfigError::InvalidRedisUrl(_))));
    }
}
