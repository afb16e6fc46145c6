//! The handle through which the node agrees with the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use registry_state::{Applied, Command};
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::{InitializeError, ProposeError, ReadIndexError, StartError, TransferError};
use super::options::RaftOptions;
use super::published::{Elapsed, Observer, Published};
use super::status::{Leadership, LogPosition, Member, RaftStatus};
use crate::peers::Peers;

/// A command that was applied.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What it did.
    pub applied: Arc<Applied>,
    /// Index of its entry.
    pub log_index: u64,
}

/// Proof that a majority followed this node at some moment after the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadIndex {
    /// Whoever has applied this entry has seen every write answered before the call. The node that
    /// made this has published it.
    pub position: LogPosition,
    /// The reign that was confirmed.
    pub leadership: Leadership,
    /// Revision of the leader's state, which includes `position`.
    pub revision: u64,
}

/// What Raft needs of the node around it.
pub struct Surroundings {
    /// Channels to the other members.
    pub peers: Peers,
    /// Told of everything applied, in this order.
    pub observers: Vec<Arc<dyn Observer>>,
    /// Counts syncs and elections.
    pub metrics: crate::metrics::Metrics,
    /// Draws the uuid of a new log.
    pub random: Arc<dyn crate::environment::Random>,
    /// Where the log is.
    pub disk: LogDisk,
}

/// Where the log is, and who writes it.
pub enum LogDisk {
    /// Files in the data folder, written by a thread of their own.
    Files,
}

/// Raft, built but not running: storage is recovered, nothing is sent or answered yet.
#[derive(Debug)]
pub struct Built {
    consensus: Consensus,
}

/// Recovers log, snapshot and state of a node (P/W, N1). Observers are told of what is applied again.
///
/// # Errors
/// See [`StartError`]; each names the file and says what to do.
pub async fn build(_options: RaftOptions, _around: Surroundings) -> Result<Built, StartError> {
    todo!()
}

impl Built {
    /// The handle; proposals wait until [`run`](Self::run).
    pub fn consensus(&self) -> &Consensus {
        &self.consensus
    }

    /// Starts Raft. Call it when the peer listener is bound. A node that has a vote or a log waits one
    /// `election_timeout_max` first: the lease that it granted before a restart is not stored.
    pub async fn run(self) -> Consensus {
        todo!()
    }
}

/// Agreement with the other nodes. A clone shares it.
#[derive(Debug, Clone)]
pub struct Consensus {}

impl Consensus {
    /// Proposes a command and waits until it is applied here.
    ///
    /// Waits for a leader up to min(deadline, 2 × `election_timeout_max`) if none is known (P/R5).
    ///
    /// # Errors
    /// `NotLeader`, `NoQuorum` and `Overloaded` mean that it is not applied and never will be; all
    /// others mean that it may be (P/R4).
    pub async fn propose(&self, _command: &Command, _deadline: Instant) -> Result<Outcome, ProposeError> {
        todo!()
    }

    /// Proposes a command only while `leadership` holds.
    ///
    /// # Errors
    /// As [`propose`](Self::propose), without waiting for a leader.
    pub async fn propose_as(
        &self,
        _leadership: Leadership,
        _command: &Command,
        _deadline: Instant,
    ) -> Result<Outcome, ProposeError> {
        todo!()
    }

    /// The reign of this node, while it believes to lead.
    pub fn leadership(&self) -> Option<Leadership> {
        todo!()
    }

    /// Confirms by a quorum round begun after this call that this node leads, and waits until the
    /// index is published here. Every call is a round of its own, joined with others by Raft.
    ///
    /// # Errors
    /// `NotLeader` at once; `NoQuorum` by the deadline.
    pub async fn read_index(&self, _deadline: Instant) -> Result<ReadIndex, ReadIndexError> {
        todo!()
    }

    /// Raft as it looks now.
    pub fn status(&self) -> RaftStatus {
        todo!()
    }

    /// Raft as it changes. Never hold the borrow across an await.
    pub fn watch_status(&self) -> watch::Receiver<RaftStatus> {
        todo!()
    }

    /// The newest state.
    pub fn published(&self) -> Arc<Published> {
        todo!()
    }

    /// The published state once it includes this entry.
    ///
    /// # Errors
    /// [`Elapsed`] at the deadline.
    pub async fn wait_applied(&self, _index: u64, _deadline: Instant) -> Result<Arc<Published>, Elapsed> {
        todo!()
    }

    /// The published state once it has this revision.
    ///
    /// # Errors
    /// [`Elapsed`] at the deadline.
    pub async fn wait_revision(&self, _revision: u64, _deadline: Instant) -> Result<Arc<Published>, Elapsed> {
        todo!()
    }

    /// Waits, at most two longest election timeouts, until a leader is known (P/R5). Returns at once
    /// with `None` if none has been known for longer than that already.
    pub async fn known_leader(&self, _deadline: Instant) -> Option<u64> {
        todo!()
    }

    /// Hands leadership to `target`, or to the best caught-up voter not in `exclude`, and waits until it leads.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub async fn transfer_leadership(
        &self,
        _target: Option<u64>,
        _exclude: &BTreeSet<u64>,
        _deadline: Instant,
    ) -> Result<Leadership, TransferError> {
        todo!()
    }

    /// Founds the cluster with all its voters (P/N3).
    ///
    /// # Errors
    /// See [`InitializeError`].
    pub async fn initialize(&self, _voters: BTreeMap<u64, Member>) -> Result<(), InitializeError> {
        todo!()
    }

    /// True once the node has a vote, a log entry or a snapshot.
    pub fn is_initialized(&self) -> bool {
        todo!()
    }

    /// Writes a snapshot now and purges the log that it covers.
    pub async fn trigger_snapshot(&self) {
        todo!()
    }

    /// `election_timeout_max`, the lease of a leader.
    pub fn lease(&self) -> Duration {
        todo!()
    }

    /// Ends Raft on this node. Pending calls fail.
    pub async fn shutdown(&self) {
        todo!()
    }
}
