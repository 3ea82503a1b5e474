//! How to make a connection.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ProtocolVersion, PushInfo, PushKind};

use super::backend::Boxed;
use super::failure::Failure;
use super::guarded_connection::{ClosedFlag, GuardedConnection, ping_until_gone};
use super::tls;

/// Makes connections.
pub(super) trait Connector<C>: Send + Sync + 'static {
    fn dial(&self) -> Boxed<'_, Arc<GuardedConnection<C>>>;

    /// The time limit of an attempt, including name resolution, connect, TLS and login.
    fn within(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// The address of the connection, if there is one.
    fn target(&self) -> Option<ConnectionAddr> {
        None
    }

    /// Whether an abandoned connection serves until the next one is ready.
    fn overlaps(&self) -> bool {
        false
    }
}

/// One server at a fixed address; each connect resolves its name.
pub(super) struct SingleServer {
    info: ConnectionInfo,
}

impl SingleServer {
    pub(super) fn new(info: ConnectionInfo) -> Self {
        Self { info }
    }
}

impl Connector<MultiplexedConnection> for SingleServer {
    fn dial(&self) -> Boxed<'_, Arc<GuardedConnection<MultiplexedConnection>>> {
        Box::pin(async {
            let gone = ClosedFlag::default();
            let connection = connect(self.info.clone(), &gone).await?;
            Ok(GuardedConnection::guarded(connection.clone(), gone, ping_until_gone(connection))?)
        })
    }

    fn target(&self) -> Option<ConnectionAddr> {
        Some(self.info.addr().clone())
    }
}

/// Connects to one server; see [`config`] for `gone`.
pub(super) async fn connect(info: ConnectionInfo, gone: &ClosedFlag) -> Result<MultiplexedConnection, Failure> {
    tls::prepare();
    let config = config(info.redis_settings().protocol(), gone);
    let client = Client::open(info).map_err(Failure::of_connect)?;
    client.get_multiplexed_async_connection_with_config(&config).await.map_err(Failure::of_connect)
}

/// The settings of one socket. The client marks `gone` as soon as the socket is closed, if the protocol reports it.
fn config(protocol: ProtocolVersion, gone: &ClosedFlag) -> AsyncConnectionConfig {
    let config = AsyncConnectionConfig::new()
        // The caller limits the time of all steps together.
        .set_response_timeout(None)
        .set_connection_timeout(None)
        .set_pipeline_buffer_size(256);
    if protocol != ProtocolVersion::RESP3 {
        return config;
    }
    let gone = gone.clone();
    config.set_push_sender(move |push: PushInfo| {
        if push.kind == PushKind::Disconnection {
            gone.mark();
        }
        Ok::<_, ::redis::aio::SendError>(())
    })
}
