//! A cluster of masters, with or without replicas.

use std::ops::Range;

use super::resp::Reply;
use super::{Flavor, Server, wait_until};

const SLOTS: u16 = 16_384;

/// Servers that form a cluster. The masters come first and own equal parts of the slots in order; the replicas
/// follow in the order of their masters.
#[derive(Debug)]
pub(crate) struct Cluster {
    nodes: Vec<Server>,
    masters: usize,
}

impl Cluster {
    /// Starts masters without replicas and waits until all of them call the cluster well.
    ///
    /// Nodes are taken for dead after 2 s (`cluster-node-timeout`). While one is, and has no replica, the others
    /// answer `CLUSTERDOWN` to everything; `--cluster-require-full-coverage no` changes that.
    pub(crate) fn start(flavor: Flavor, masters: usize) -> Self {
        Self::start_with(flavor, masters, 0, &[])
    }

    /// Starts masters with so many replicas each and further arguments, which win over the harness's.
    pub(crate) fn start_with(flavor: Flavor, masters: usize, replicas: usize, arguments: &[&str]) -> Self {
        let lines = |_| {
            vec![
                "cluster-enabled yes".to_owned(),
                "cluster-node-timeout 2000".to_owned(),
                // A replica stands for election however long it has not heard of its master.
                "cluster-replica-validity-factor 0".to_owned(),
            ]
        };
        let count = masters * (1 + replicas);
        let nodes = (0..count).map(|_| Server::try_ports(flavor, arguments, lines)).collect();
        let cluster = Self { nodes, masters };
        for (i, node) in cluster.nodes.iter().enumerate() {
            // Epochs of their own from the start, or the nodes would have to settle that first.
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(i + 1).to_string()]);
            if i < masters {
                // ADDSLOTSRANGE is from 7.0.
                let slots: Vec<String> = cluster.share(i).map(|slot| slot.to_string()).collect();
                let command: Vec<&str> =
                    ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
                node.cli(&command);
            }
            cluster.nodes[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string()]);
        }
        wait_until("every node knows every other", || cluster.info_is("cluster_known_nodes", &count.to_string()));
        for (i, replica) in cluster.nodes.iter().enumerate().skip(masters) {
            let master = cluster.id(i % masters);
            wait_until("the node becomes a replica", || replica.try_cli(&["CLUSTER", "REPLICATE", &master]).is_ok());
        }
        cluster.wait_ok();
        cluster
    }

    /// All nodes, masters first, dead ones too.
    pub(crate) fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// The addresses of all nodes.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Server::url).collect()
    }

    /// Ends a node (SIGKILL).
    pub(crate) fn kill(&self, node: usize) {
        self.nodes[node].kill();
    }

    /// Starts a node anew and waits until all call the cluster well, which takes a master 2 to 5 s: it holds
    /// back that long after a start.
    pub(crate) fn restart(&self, node: usize) {
        self.nodes[node].restart();
        self.wait_ok();
    }

    /// Waits until every living node calls the cluster well and knows an owner for every slot, and every living
    /// replica is connected to its master.
    pub(crate) fn wait_ok(&self) {
        wait_until("the cluster is well", || {
            let all_linked = self
                .living()
                .all(|node| node.info("replication").get("master_link_status").is_none_or(|status| status == "up"));
            all_linked && self.info_is("cluster_state", "ok") && self.info_is("cluster_slots_ok", &SLOTS.to_string())
        });
    }

    /// The slot of a key.
    pub(crate) fn slot_of(&self, key: &str) -> u16 {
        let node = self.living().next().expect("a node is alive");
        node.cli(&["CLUSTER", "KEYSLOT", key]).parse().unwrap()
    }

    /// The node that owns a slot, as the living nodes see it; none if they disagree.
    pub(crate) fn owner(&self, slot: u16) -> Option<usize> {
        let mut views = self.living().map(|node| owner_port(node, slot));
        let first = views.next()?;
        let port = views.all(|view| view == first).then_some(first)??;
        self.nodes.iter().position(|node| node.port() == port)
    }

    /// Moves a slot with its keys to another master, and waits until every living node knows.
    pub(crate) fn migrate_slot(&self, slot: u16, to: usize) {
        let migration = self.begin_migration(slot, to);
        migration.move_keys();
        migration.finish();
    }

    /// Opens a slot's migration and leaves it open: the old owner answers `ASK` for keys that it does not have.
    pub(crate) fn begin_migration(&self, slot: u16, to: usize) -> Migration<'_> {
        let from = self.owner(slot).expect("the slot has an owner");
        assert_ne!(from, to, "the slot is there already");
        let name = slot.to_string();
        self.nodes[to].cli(&["CLUSTER", "SETSLOT", &name, "IMPORTING", &self.id(from)]);
        self.nodes[from].cli(&["CLUSTER", "SETSLOT", &name, "MIGRATING", &self.id(to)]);
        Migration { cluster: self, slot, from, to }
    }

    /// The slots that a master is given at the start.
    fn share(&self, master: usize) -> Range<u16> {
        let bound = |i| u16::try_from(usize::from(SLOTS) * i / self.masters).unwrap();
        bound(master)..bound(master + 1)
    }

    fn id(&self, node: usize) -> String {
        self.nodes[node].cli(&["CLUSTER", "MYID"])
    }

    fn living(&self) -> impl Iterator<Item = &Server> {
        self.nodes.iter().filter(|node| node.is_running())
    }

    fn info_is(&self, name: &str, value: &str) -> bool {
        let line = format!("{name}:{value}");
        self.living().all(|node| node.cli(&["CLUSTER", "INFO"]).lines().any(|found| found == line))
    }
}

/// A slot's migration that is under way.
#[derive(Debug)]
pub(crate) struct Migration<'a> {
    cluster: &'a Cluster,
    slot: u16,
    from: usize,
    to: usize,
}

impl Migration<'_> {
    /// Moves all keys that are there now. The slot's owner stays.
    pub(crate) fn move_keys(&self) {
        let (from, to) = (&self.cluster.nodes[self.from], &self.cluster.nodes[self.to]);
        let (slot, port) = (self.slot.to_string(), to.port().to_string());
        loop {
            let Ok(Reply::Array(keys)) = from.call(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]) else {
                panic!("the keys of slot {slot} cannot be listed");
            };
            if keys.is_empty() {
                return;
            }
            let mut command: Vec<Vec<u8>> =
                ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"].map(Into::into).into();
            command.extend(keys.into_iter().map(|key| match key {
                Reply::Text(bytes) => bytes,
                other => panic!("a key is not text: {other:?}"),
            }));
            // A key that expired between the two is no failure: NOKEY is not an error reply.
            let reply = from.call(&command).unwrap();
            assert!(!matches!(reply, Reply::Error(_)), "MIGRATE: {reply}");
        }
    }

    /// Makes the target the owner, and waits until every living node knows.
    pub(crate) fn finish(self) {
        let cluster = self.cluster;
        let (slot, id) = (self.slot.to_string(), cluster.id(self.to));
        // The target first: if it is the last to know, clients are sent to and fro between the two.
        for node in [self.to, self.from] {
            cluster.nodes[node].cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]);
        }
        wait_until("every node knows the slot's new owner", || cluster.owner(self.slot) == Some(self.to));
    }
}

/// The port of a slot's owner in the words of one node.
fn owner_port(node: &Server, slot: u16) -> Option<u16> {
    let Ok(Reply::Array(ranges)) = node.call(&["CLUSTER", "SLOTS"]) else { return None };
    ranges.iter().find_map(|range| {
        let Reply::Array(range) = range else { return None };
        let [Reply::Integer(first), Reply::Integer(last), Reply::Array(master), ..] = range.as_slice() else {
            return None;
        };
        let Some(Reply::Integer(port)) = master.get(1) else { return None };
        (*first..=*last).contains(&i64::from(slot)).then(|| u16::try_from(*port).ok())?
    })
}
