//! What can go wrong, told by what a caller may do about it.

use std::io;

use super::status::LogPosition;

/// Why a proposal did not succeed (P/R4).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Not applied: this node does not lead, or no longer. Another may.
    #[error("this node does not lead")]
    NotLeader {
        /// Raft id of the leader, if known.
        leader: Option<u64>,
    },
    /// Not applied: there is no leader, or this one cannot reach a majority.
    #[error("no majority of the voters can be reached")]
    NoQuorum,
    /// Not applied: too many proposals wait already (P/O1).
    #[error("too many proposals wait")]
    Overloaded,
    /// It may be applied, now or later, or not at all.
    #[error("the outcome is not known")]
    OutcomeUnknown,
    /// Raft has ended on this node. Nothing is known of the outcome.
    #[error("Raft has ended on this node")]
    Stopped,
}

/// Why there is no read index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadIndexError {
    /// This node does not lead.
    #[error("this node does not lead")]
    NotLeader {
        /// Raft id of the leader, if known.
        leader: Option<u64>,
    },
    /// No majority confirmed the leadership before the deadline.
    #[error("no majority of the voters confirmed the leadership in time")]
    NoQuorum,
    /// Raft has ended on this node.
    #[error("Raft has ended on this node")]
    Stopped,
}

/// Why leadership did not move.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// This node does not lead.
    #[error("this node does not lead")]
    NotLeader {
        /// Raft id of the leader, if known.
        leader: Option<u64>,
    },
    /// No other voter is allowed, reachable and caught up.
    #[error("no other voter is caught up")]
    NoCandidate,
    /// The chosen voter did not lead in time; this node may still lead.
    #[error("node {target} did not take over in time")]
    TimedOut {
        /// Raft id of the voter chosen.
        target: u64,
    },
    /// Raft has ended on this node.
    #[error("Raft has ended on this node")]
    Stopped,
}

/// Why the membership was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Not changed: this node does not lead, or no longer.
    #[error("this node does not lead")]
    NotLeader {
        /// Raft id of the leader, if known.
        leader: Option<u64>,
    },
    /// Not changed: the membership is not the one that the caller has seen.
    #[error("the membership is another one by now; read it again")]
    Changed {
        /// Where the present one stands in the log.
        now: Option<LogPosition>,
    },
    /// Not changed: another change is not committed yet. Try again.
    #[error("another change of the membership is under way; try again")]
    InProgress,
    /// Not changed: no such member takes part in Raft.
    #[error("member {0} does not take part in Raft")]
    UnknownMember(u64),
    /// Not changed: it would do harm.
    #[error("{0}")]
    Refused(String),
    /// It may be changed, now or later, by half (a joint configuration, which the leader ends), or not at all.
    #[error("the outcome is not known; read the membership")]
    OutcomeUnknown,
    /// Raft has ended on this node. Nothing is known of the outcome.
    #[error("Raft has ended on this node")]
    Stopped,
}

/// Why a cluster was not founded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InitializeError {
    /// There is a log or a vote already. After a crash while founding this is success.
    #[error("log or vote are not empty")]
    NotEmpty,
    /// The node itself is not among the voters, or there are none.
    #[error("bad founding members: {0}")]
    BadMembers(String),
    /// Raft has ended on this node.
    #[error("Raft has ended on this node")]
    Stopped,
}

/// Why Raft does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Log or snapshot cannot be trusted, or belong to another node: quarantine (P/N10).
    #[error("{0}")]
    Corrupt(String),
    /// The folder has no log although the node was a member: DISK_LOST (P/N1).
    #[error("{0}")]
    DiskLost(String),
    /// Written by a newer program: quarantine (P/O3).
    #[error("{0}")]
    Unsupported(String),
    /// The timings break a rule: exit 78.
    #[error("{0}")]
    Config(String),
    /// Reading or writing failed: exit 74.
    #[error("{path}: {source}")]
    Io {
        /// File or folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}
