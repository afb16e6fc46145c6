//! What Raft looks like from outside, in plain types.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

/// One reign: the term and the node that leads in it.
///
/// Two nodes may both lead in one term, one after the other (F6), so a term alone names nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Leadership {
    /// Raft term.
    pub term: u64,
    /// Raft id of the leader.
    pub node: u64,
}

impl fmt::Display for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "term {} of node {}", self.term, self.node)
    }
}

/// Where an entry stands: who proposed it, and its index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    /// The reign in which the entry was proposed.
    pub leadership: Leadership,
    /// Its index; the first entry has 0.
    pub index: u64,
}

/// A vote as this node holds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vote {
    /// Whom it names.
    pub leadership: Leadership,
    /// True once a majority granted it.
    pub committed: bool,
}

/// What Raft knows of a member beside its id. Stored in memberships, in the log and in snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// Configured name, e.g. `registry-node-1`.
    pub name: String,
    /// HOST:PORT for nodes.
    pub peer_endpoint: String,
    /// HOST:PORT for clients.
    pub client_endpoint: String,
    /// UUID of the member's data folder.
    pub disk_id: String,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.peer_endpoint)
    }
}

/// Who takes part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    /// The entry that made it; `None` before the first.
    pub position: Option<LogPosition>,
    /// True if that entry is committed.
    pub committed: bool,
    /// One set of voters, or two while the membership changes.
    pub configs: Vec<BTreeSet<u64>>,
    /// All members by Raft id, learners too.
    pub members: BTreeMap<u64, Member>,
}

impl Membership {
    /// Raft ids of all that vote, in any of the sets.
    pub fn voters(&self) -> BTreeSet<u64> {
        self.configs.iter().flatten().copied().collect()
    }

    /// The Raft id and address of the member of this name.
    pub fn member_named(&self, name: &str) -> Option<(u64, &Member)> {
        self.members.iter().find(|(_, member)| member.name == name).map(|(id, member)| (*id, member))
    }
}

/// What a node does in Raft.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// Follows without a vote, or is in no membership.
    #[default]
    Learner,
    /// Follows with a vote.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads, as far as it knows.
    Leader,
    /// Raft has ended on this node.
    Stopped,
}

/// How a member follows the leader.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Follower {
    /// Last entry known to be durable there; `None` = unknown.
    pub matched: Option<LogPosition>,
    /// Send time of the last heartbeat that it answered.
    pub last_contact: Option<Instant>,
    /// How much of a snapshot it has stored, while one is on its way to it.
    pub snapshot_percent: Option<u8>,
}

/// Raft on this node at one moment. Cheap to clone.
///
/// Everything in it is a hint that may be outdated when it is read; what must be true is asked with
/// [`Consensus::read_index`](super::Consensus::read_index).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftStatus {
    /// Own Raft id.
    pub raft_id: u64,
    /// What the node does.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// Its vote.
    pub vote: Vote,
    /// Raft id of the leader that it follows, or its own. `None` also if that leader has been silent
    /// for more than two longest election timeouts.
    pub leader: Option<u64>,
    /// On a follower: when the leader of its vote was last heard.
    pub leader_contact: Option<Instant>,
    /// The newest membership it knows, committed or not.
    pub membership: Arc<Membership>,
    /// Index of the last entry of its log.
    pub last_log_index: Option<u64>,
    /// Last entry known to be committed.
    pub committed: Option<LogPosition>,
    /// Last entry applied.
    pub applied: Option<LogPosition>,
    /// Last entry in the newest snapshot.
    pub snapshot: Option<LogPosition>,
    /// Last entry removed from the log.
    pub purged: Option<LogPosition>,
    /// On the leader: send time of the newest request that a quorum has answered.
    pub last_quorum_acked: Option<Instant>,
    /// On the leader: how the members follow, by Raft id.
    pub followers: Arc<BTreeMap<u64, Follower>>,
    /// `None` while Raft works; why it ended otherwise. The process must end too (P/N10).
    pub failed: Option<Failure>,
}

impl RaftStatus {
    /// The reign of this node, while it believes to lead.
    pub fn leadership(&self) -> Option<Leadership> {
        (self.role == Role::Leader && self.vote.committed).then_some(self.vote.leadership)
    }

    /// Entries that `member` is behind the end of the leader's log; `None` if nothing is known.
    pub fn lag(&self, member: u64) -> Option<u64> {
        let last = self.last_log_index?;
        if member == self.raft_id {
            return Some(0);
        }
        Some(last.saturating_sub(self.followers.get(&member)?.matched?.index))
    }
}

/// Why Raft ended on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It was told to.
    Stopped,
    /// Log or snapshot could not be read or written: exit 74.
    Storage(String),
    /// An entry cannot be applied because this program does not know it: quarantine (P/N10, O3).
    Unsupported(String),
    /// A bug: exit 70.
    Panicked(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => write!(f, "Raft was stopped"),
            Self::Storage(reason) => write!(f, "log or snapshot failed: {reason}"),
            Self::Unsupported(reason) => write!(f, "the log needs a newer program: {reason}"),
            Self::Panicked(reason) => write!(f, "Raft ended by a bug: {reason}"),
        }
    }
}
