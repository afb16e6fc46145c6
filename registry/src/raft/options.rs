//! What Raft is told at start.

use std::path::PathBuf;
use std::time::Duration;

/// Who this node is in Raft. Durable before Raft is built (P/N1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftIdentity {
    /// UUID of the cluster.
    pub cluster_id: String,
    /// Own Raft id, never 0.
    pub raft_id: u64,
    /// UUID of the data folder.
    pub disk_id: String,
}

/// The three durations of the configuration, equal on all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// Time between two heartbeats of a leader.
    pub heartbeat_interval: Duration,
    /// Shortest time without a leader before an election.
    pub election_timeout_min: Duration,
    /// Longest; also the lease during which a follower refuses other candidates.
    pub election_timeout_max: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(50),
            election_timeout_min: Duration::from_millis(150),
            election_timeout_max: Duration::from_millis(300),
        }
    }
}

/// Settings of one node (P/S2).
#[derive(Debug, Clone)]
pub struct RaftOptions {
    /// The data folder; log and snapshots get folders of their own in it.
    pub directory: PathBuf,
    /// Who this node is.
    pub identity: RaftIdentity,
    /// Timings.
    pub timings: Timings,
    /// True if `joined` is durable: then an empty log means that the disk was lost (P/N1).
    pub joined: bool,
    /// Size of a segment of the log, in bytes.
    pub segment_bytes: u64,
    /// Least space kept allocated for the time when the disk is full (P/W5), in bytes.
    pub reserve_bytes: u64,
    /// Payload of recent entries kept in memory, in bytes.
    pub log_cache_bytes: u64,
    /// A snapshot is made when the log since the last has this many bytes, or as many as that snapshot.
    pub snapshot_min_bytes: u64,
    /// A snapshot is made after this time if anything was applied since the last.
    pub snapshot_max_age: Duration,
    /// Entries kept although a snapshot covers them, so that a follower can catch up from the log.
    pub keep_log_entries: u64,
}

impl RaftOptions {
    /// The defaults of P/S2.
    pub fn new(directory: PathBuf, identity: RaftIdentity) -> Self {
        Self {
            directory,
            identity,
            timings: Timings::default(),
            joined: false,
            segment_bytes: 64 << 20,
            reserve_bytes: 64 << 20,
            log_cache_bytes: 64 << 20,
            snapshot_min_bytes: 64 << 20,
            snapshot_max_age: Duration::from_secs(3600),
            keep_log_entries: 200_000,
        }
    }
}
