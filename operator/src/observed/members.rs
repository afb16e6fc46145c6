//! What the nodes told, each about itself and the leader about all (`AdminService.Status`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use registry_proto::internal::ClusterSettings;

/// What came of asking a node for its status.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Nothing, and why, for people. Not asked counts too: no address yet.
    Silent(String),
    /// Its report.
    Told(Box<NodeReport>),
}

/// A node about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeReport {
    /// How far it has come.
    pub state: NodeState,
    /// Cluster of its place, also of one that it lost; empty if it has, or knows of, none.
    pub cluster_id: String,
    /// Its id in Raft; 0 if pristine.
    pub raft_id: u64,
    /// Its disk.
    pub disk_id: String,
    /// True if it serves clients.
    pub ready: bool,
    /// Why not, for people.
    pub not_ready_because: String,
    /// Version of its program.
    pub version: String,
    /// Raft term that it has seen.
    pub term: u64,
    /// Id that it takes for the leader; 0 = none known.
    pub leader_raft_id: u64,
    /// Time since it last heard a leader, or a majority if it leads; `None` = never.
    pub leader_contact: Option<Duration>,
    /// Names of all members in the membership that it knows, with and without a vote. May be out of date.
    pub known_members: Vec<String>,
    /// Its volume refuses room to the log.
    pub disk_full: bool,
    /// What it knows as leader; `None` if it does not lead.
    pub leading: Option<LeaderReport>,
}

/// How far a node has come; see `NodeState` of the peer protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeState {
    /// A word that this operator does not know: leave it alone.
    NotKnown,
    /// No identity, no data.
    Pristine,
    /// A place was offered; the cluster is not founded yet.
    Prepared,
    /// It has a place, but is in no membership that it knows of.
    Adopted,
    /// Member without a vote.
    Learner,
    /// Member with a vote.
    Voter,
    /// It was removed, and waits to be admitted anew.
    Removed,
    /// Its identity says that it was a member, but its log is gone: it waits to be admitted anew.
    DiskLost,
    /// Alive but out of Raft until someone acts.
    Quarantined,
}

/// The cluster as its leader sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaderReport {
    /// Time since it last heard a majority; `None` = never.
    pub quorum_age: Option<Duration>,
    /// Who is a member.
    pub membership: MembershipSeen,
    /// All that have an id: members, and those on the way in or out. By Raft id.
    pub members: BTreeMap<u64, MemberSeen>,
    /// The replicated settings; `None` if they could not be read.
    pub settings: Option<SettingsSeen>,
    /// What it does about the membership now, for people; empty = nothing.
    pub busy_with: String,
    /// Its last step about the membership that failed, for people; empty = none.
    pub trouble: String,
}

/// A position in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LogId {
    /// Term of the leader that proposed the entry.
    pub term: u64,
    /// Raft id of that leader.
    pub raft_id: u64,
    /// Index of the entry.
    pub index: u64,
}

/// The membership and the entry that made it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MembershipSeen {
    /// The entry: what changes name as the membership that they expect.
    pub log_id: LogId,
    /// True if it is committed.
    pub committed: bool,
    /// Voters: one set, or two while the membership changes.
    pub configs: Vec<BTreeSet<u64>>,
}

/// A member as the leader knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSeen {
    /// Its configured name: that of its pod.
    pub name: String,
    /// The disk that its id was given for.
    pub disk_id: String,
    /// What it is in the membership.
    pub place: Place,
    /// How its node says that it is; `None` = it has not answered this leader yet.
    pub state: Option<NodeState>,
    /// It has been silent for `dead_member_after`.
    pub dead: bool,
    /// It said that it stops on purpose.
    pub stopping: bool,
    /// Time since its last answer; `None` = none in this reign.
    pub last_answer: Option<Duration>,
    /// Entries that its log is behind the leader's; `None` = not known.
    pub lag_entries: Option<u64>,
    /// For how long it has been heard and caught up without a break; `None` = it is not.
    pub caught_up_for: Option<Duration>,
    /// Version of its program; empty = not known.
    pub version: String,
}

/// What a member is in the membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// It has an id, and the leader is about to make it a learner.
    Admitted,
    /// It receives the log.
    Learner,
    /// It votes, in the old or the new set while the membership changes.
    Voter,
    /// It has left, and its id is about to be buried.
    Leaving,
}

/// The replicated settings as they are and as they shall be.
#[derive(Debug, Clone, PartialEq)]
pub struct SettingsSeen {
    /// As the leader answered.
    pub now: ClusterSettings,
    /// The same with what the spec says: owner of the membership, voters_target, `spec.registry`. Its
    /// version is not looked at.
    pub wanted: ClusterSettings,
}
