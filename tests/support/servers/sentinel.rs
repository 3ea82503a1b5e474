//! A master, a replica and the sentinels that watch them.

use super::{Flavor, Server, wait_until};

/// A master and its replica under one or several sentinels, which fail over when the master is silent for a
/// second. The whole of a failover takes 2 to 5 s with one sentinel.
#[derive(Debug)]
pub(crate) struct Sentinel {
    sentinels: Vec<Server>,
    servers: [Server; 2],
}

impl Sentinel {
    /// The name under which sentinels know the master.
    pub(crate) const MASTER: &str = "weir";

    /// Starts a master, a replica and so many sentinels, and waits until the sentinels know all of them.
    pub(crate) fn start(flavor: Flavor, sentinels: usize) -> Self {
        let servers = [Server::start(flavor), Server::start(flavor)];
        // Before the sentinels: they ask a master for its replicas at once, and then only every 10 s.
        servers[1].replica_of(&servers[0]);
        let (name, port, quorum) = (Self::MASTER, servers[0].port(), sentinels / 2 + 1);
        let lines = |_| {
            vec![
                format!("sentinel monitor {name} 127.0.0.1 {port} {quorum}"),
                format!("sentinel down-after-milliseconds {name} 1000"),
                format!("sentinel failover-timeout {name} 4000"),
            ]
        };
        let start = |_| Server::try_ports(flavor, &["--sentinel"], lines);
        let watch = Self { sentinels: (0..sentinels).map(start).collect(), servers };
        wait_until("the sentinels know the replica and each other", || {
            watch.sentinels.iter().all(|sentinel| {
                let text = sentinel.cli(&["INFO", "sentinel"]);
                text.contains("status=ok") && text.contains(&format!("slaves=1,sentinels={sentinels}"))
            })
        });
        watch
    }

    /// The master and the replica of the start, in this order whatever happens to them.
    pub(crate) fn servers(&self) -> &[Server; 2] {
        &self.servers
    }

    /// The sentinels themselves.
    pub(crate) fn sentinels(&self) -> &[Server] {
        &self.sentinels
    }

    /// The addresses of the sentinels.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(Server::url).collect()
    }

    /// The server that all sentinels call the master; none while they disagree.
    pub(crate) fn master(&self) -> Option<&Server> {
        let ask = |sentinel: &Server| sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::MASTER]);
        let said: Vec<String> = self.sentinels.iter().map(ask).collect();
        let is_named =
            |server: &&Server| said.iter().all(|address| *address == format!("127.0.0.1\n{}", server.port()));
        self.servers.iter().find(is_named)
    }

    /// Waits until the sentinels have made the other server the master.
    pub(crate) fn wait_failover(&self) -> &Server {
        let replica = &self.servers[1];
        wait_until("the sentinels promote the replica", || {
            self.master().is_some_and(|master| master.port() == replica.port())
                && replica.info("replication").get("role").is_some_and(|role| role == "master")
        });
        replica
    }
}
