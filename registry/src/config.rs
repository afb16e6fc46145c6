//! Configuration of a node: a file, then the environment, then flags; checked as a whole.
//!
//! The file is JSON or YAML. Every setting with its default, bounds and meaning stands in one table
//! (`config/keys.rs`), from which unknown keys, the closed list of environment variables and the output of
//! `registry config print-default` follow. All errors are reported at once (P/S1, P/S2, P/S4).

mod keys;
mod layers;
mod nodes;
mod print;
mod validate;
mod values;

#[cfg(test)]
mod config_test;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use registry_state::ClusterSettings;

pub use layers::{Sources, is_own_variable};
pub use nodes::{Node, endpoint, nodes_digest};
pub use print::print_default;
pub(crate) use validate::is_loopback;
pub use validate::{check_all, load};

/// A configuration in which every value is within its bounds and every relation holds.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidConfig {
    /// The node that this process is.
    pub node: Node,
    /// All nodes of the file, sorted by `node_id`. After founding they are only seeds (P/N3). The node itself
    /// may be missing: see [`founds`](Self::founds).
    pub nodes: Vec<Node>,
    /// BLAKE3 of the canonical list of nodes; equal at all founding members.
    pub nodes_digest: [u8; 32],
    /// Host that the listeners bind: a name or an address without port.
    pub listen: String,
    /// Port of `/livez`, `/readyz` and `/metrics`.
    pub http_port: u16,
    /// Folder of this node's data.
    pub data_dir: PathBuf,
    /// File with the token that AdminService asks for; without it only loopback is answered (P/S3).
    pub admin_token_file: Option<PathBuf>,
    /// Peer endpoints of a running cluster. A node that has some never founds a cluster: it asks for a place.
    pub join: Vec<String>,
    /// Timings of Raft and how much log is kept.
    pub raft: RaftConfig,
    /// The write-ahead log.
    pub log: LogConfig,
    /// When snapshots are taken.
    pub snapshot: SnapshotConfig,
    /// Bounds of watches at this node.
    pub watch: WatchConfig,
    /// Times of an orderly stop.
    pub shutdown: ShutdownConfig,
    /// What the cluster is founded with; read at founding only, replicated from then on (P/S1).
    pub cluster_settings: ClusterSettings,
}

/// Timings of Raft. Should be equal at all nodes; a difference is reported, not refused (P/N2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaftConfig {
    /// How often a leader reports to its followers.
    pub heartbeat_interval: Duration,
    /// Shortest silence of the leader after which a follower asks for votes.
    pub election_timeout_min: Duration,
    /// Longest such silence; also the lease that a follower grants to its leader.
    pub election_timeout_max: Duration,
    /// Log entries kept behind a snapshot so that a follower catches up without one.
    pub max_in_snapshot_log_to_keep: u64,
}

/// Bounds of the write-ahead log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// Size of one segment file.
    pub segment_bytes: u64,
    /// Least space kept allocated for the time when the disk is full.
    pub reserve_bytes: u64,
    /// Payload of recent entries kept in memory.
    pub cache_bytes: u64,
}

/// When a snapshot is taken: after so many bytes (or its own size, if larger), or after so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotConfig {
    /// Payload logged since the last snapshot.
    pub min_bytes: u64,
    /// Age of the last snapshot, if anything was logged since.
    pub max_age: Duration,
}

/// Bounds of watches at one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchConfig {
    /// Open watches.
    pub max_watches: u64,
    /// Events queued for all watches together.
    pub max_queue_bytes: u64,
}

/// Times of an orderly stop (P/N9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShutdownConfig {
    /// How long the node stays ready after SIGTERM, for connections that are still being routed to it.
    pub linger: Duration,
    /// Longest wait for calls under way.
    pub drain: Duration,
}

impl ValidConfig {
    /// Whether the node takes part in a founding. One that was told to join, or that the list does not name,
    /// never does: it waits for a place in a cluster that exists.
    pub fn founds(&self) -> bool {
        self.join.is_empty() && self.nodes.iter().any(|node| node.node_id == self.node.node_id)
    }

    /// Where the listener for clients binds.
    pub fn client_bind(&self) -> String {
        endpoint(&self.listen, self.node.client_port)
    }

    /// Where the listener for nodes and administration binds.
    pub fn peer_bind(&self) -> String {
        endpoint(&self.listen, self.node.raft_port)
    }

    /// Where the HTTP listener binds.
    pub fn http_bind(&self) -> String {
        endpoint(&self.listen, self.http_port)
    }
}

/// Everything that is wrong with a configuration, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}
