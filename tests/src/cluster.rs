//! A cluster of real processes.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use registry_proto::v1;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::Api;
use crate::binaries::binaries;
use crate::node::Node;
use crate::partition::Partition;
use crate::turn::{Share, Turn};
use crate::wait;

/// How a cluster is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of nodes.
    pub nodes: usize,
    /// Whether the nodes talk through a [`Partition`].
    pub partition: bool,
    /// `cluster_settings` of the file.
    pub settings: Value,
    /// Further keys of the file, such as `log` or `snapshot`.
    pub file: Value,
    /// How much of the machine the cluster takes.
    pub share: Share,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 3,
            partition: false,
            settings: json!({}),
            // Segments that are written in a moment, so that starting a cluster is quick.
            file: json!({ "log": { "segment_bytes": 4 << 20 } }),
            share: Share::Half,
        }
    }
}

/// Three nodes, or as many as asked for, and their folder. Ends them when dropped.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes by index; node 0 is `registry-node-1`.
    pub nodes: Vec<Node>,
    /// The network between them, if it can be cut.
    pub partition: Option<Partition>,
    /// The folder with everything.
    pub folder: TempDir,
    /// The configuration file.
    pub config: PathBuf,
    _turn: Turn,
}

impl Options {
    /// Three nodes for a test that waits more than it works.
    pub fn waiting() -> Self {
        Self { share: Share::Quarter, ..Self::default() }
    }
}

impl Cluster {
    /// Writes the configuration and starts nothing.
    pub async fn prepare(options: Options) -> Self {
        // First, since it may take minutes: the programs, then the turn of this cluster.
        tokio::task::spawn_blocking(binaries).await.expect("the programs build");
        let turn = Turn::take(options.share).await;
        let folder = tempfile::Builder::new().prefix("registry-test-").tempdir().expect("a folder");
        let (real, advertised) = addresses();
        let host = if options.partition { advertised } else { real };
        let config = folder.path().join("cluster.json");
        let nodes: Vec<Node> =
            (0..options.nodes).map(|index| Node::new(folder.path(), &config, index, real)).collect();
        write_config(&config, &nodes, host, &options);
        let partition = if options.partition {
            let ports: Vec<(usize, u16)> = nodes
                .iter()
                .enumerate()
                .flat_map(|(index, node)| [(index, node.client_port), (index, node.peer_port)])
                .collect();
            Some(Partition::start(advertised, real, &ports, nodes.len()).await)
        } else {
            None
        };
        let mut cluster = Self { nodes, partition, folder, config, _turn: turn };
        for node in &mut cluster.nodes {
            node.set_env("REGISTRY_LISTEN", real.to_string());
        }
        cluster
    }

    /// Starts all nodes and waits until they are ready.
    pub async fn start(options: Options) -> Self {
        let mut cluster = Self::prepare(options).await;
        cluster.start_all();
        cluster.ready().await;
        cluster
    }

    /// One more node, not started, with a configuration that lists it alone and asks the others for a place
    /// (`join`). Its index.
    pub fn add_joiner(&mut self) -> usize {
        assert!(self.partition.is_none(), "the network of a partition has its ports from the start");
        let index = self.nodes.len();
        let listen = self.nodes[0].listen;
        let seeds: Vec<String> =
            self.nodes.iter().map(|node| format!("{}:{}", node.listen, node.peer_port)).collect();
        let config = self.folder.path().join(format!("joiner-{index}.json"));
        let mut node = Node::new(self.folder.path(), &config, index, listen);
        let options = Options { file: json!({ "log": { "segment_bytes": 4 << 20 } }), ..Options::default() };
        write_config(&config, std::slice::from_ref(&node), listen, &options);
        node.set_env("REGISTRY_LISTEN", listen.to_string());
        node.set_env("REGISTRY_HTTP_PORT", node.http_port.to_string());
        node.set_env("REGISTRY_JOIN", seeds.join(","));
        self.nodes.push(node);
        index
    }

    /// Starts every node that does not run.
    pub fn start_all(&mut self) {
        for index in 0..self.nodes.len() {
            if !self.nodes[index].is_started() {
                self.start_node(index);
            }
        }
    }

    /// Starts one node.
    pub fn start_node(&mut self, index: usize) {
        self.nodes[index].start();
        if let Some(partition) = &self.partition {
            partition.set_pid(index, Some(self.nodes[index].pid()));
        }
    }

    /// Waits until every node that runs is ready.
    pub async fn ready(&self) {
        for node in self.nodes.iter().filter(|node| node.is_started()) {
            node.ready().await;
        }
    }

    /// `HOST:PORT` of all client ports.
    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(Node::endpoint).collect()
    }

    /// Bare calls to a node.
    pub fn api(&self, index: usize) -> Api {
        self.nodes[index].api()
    }

    /// The index of the leader in whom a majority of the running nodes believes.
    pub async fn leader(&self) -> usize {
        wait::until("a leader", wait::PATIENCE, || self.find_leader()).await
    }

    async fn find_leader(&self) -> Result<usize, String> {
        for node in self.nodes.iter().filter(|node| node.is_started()) {
            let Ok(status) = node.api().status(true).await else { continue };
            let leads = status.header.as_ref().is_some_and(|header| header.role() == v1::NodeRole::Leader);
            if leads && status.quorum.as_ref().is_some_and(|quorum| quorum.available) {
                return self.index_of(&status.leader_id).ok_or("an unknown leader".into());
            }
        }
        Err("no node says that it leads with a quorum".into())
    }

    /// The largest lateness of a lease tick that any node has measured lately.
    pub async fn lateness(&self) -> Duration {
        let mut latest = 0.0_f64;
        for node in self.nodes.iter().filter(|node| node.is_started()) {
            latest = latest.max(node.metric("registry_lease_tick_lateness_max_seconds").await.unwrap_or(0.0));
        }
        Duration::from_secs_f64(latest)
    }

    /// The index of a node by its name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }

    /// The indexes of the nodes that do not lead.
    pub async fn followers(&self) -> Vec<usize> {
        let leader = self.leader().await;
        (0..self.nodes.len()).filter(|index| *index != leader).collect()
    }

    /// Waits until the node has applied what the leader has applied now.
    pub async fn caught_up(&self, index: usize) {
        let leader = self.leader().await;
        let goal = self.api(leader).status(true).await.expect("the leader answers").revision;
        wait::until(&format!("node {index} to reach revision {goal}"), wait::PATIENCE, || async {
            let revision = self.api(index).status(true).await.map_err(|status| status.to_string())?.revision;
            if revision >= goal { Ok(()) } else { Err(format!("it is at {revision}")) }
        })
        .await;
    }

    /// Stops all processes from running on, as a suspended machine does.
    pub fn freeze(&self) {
        self.signal_all(Signal::STOP);
    }

    /// Ends [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.signal_all(Signal::CONT);
    }

    /// Sends a signal to every node that runs.
    pub fn signal_all(&self, signal: Signal) {
        for node in self.nodes.iter().filter(|node| node.is_started()) {
            node.signal(signal);
        }
    }

    /// Kills all nodes with -9.
    pub fn kill_all(&mut self) {
        for node in &mut self.nodes {
            node.kill();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                let text = node.log_text();
                let lines: Vec<&str> = text.lines().collect();
                println!("--- last lines of {} ---", node.log.display());
                println!("{}", lines[lines.len().saturating_sub(40)..].join("\n"));
            }
        }
    }
}

fn write_config(path: &Path, nodes: &[Node], host: Ipv4Addr, options: &Options) {
    let members: Vec<Value> = nodes
        .iter()
        .map(|node| {
            json!({ "node_id": node.name, "host": host.to_string(),
                    "client_port": node.client_port, "raft_port": node.peer_port })
        })
        .collect();
    let mut file = json!({
        "cluster": { "nodes": members },
        "raft": { "election_timeout_min": 150, "election_timeout_max": 300, "heartbeat_interval": 50 },
    });
    if options.settings.as_object().is_some_and(|settings| !settings.is_empty()) {
        file["cluster_settings"] = options.settings.clone();
    }
    for (key, value) in options.file.as_object().expect("a table") {
        file[key] = value.clone();
    }
    std::fs::write(path, serde_json::to_vec_pretty(&file).expect("plain values"))
        .expect("the folder is ours");
}

/// Two addresses that no other cluster of this machine uses now: 127.x.y.1 and 127.x.y.2, where x and y
/// come from the process id and a counter.
fn addresses() -> (Ipv4Addr, Ipv4Addr) {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let number =
        std::process::id().wrapping_mul(31).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed).into());
    let [_, _, x, y] = number.to_be_bytes();
    let x = x % 240 + 10;
    (Ipv4Addr::new(127, x, y, 1), Ipv4Addr::new(127, x, y, 2))
}

/// The longest time in which a node without load applies a change.
pub const SOON: Duration = Duration::from_secs(10);
