//! What a command says about the cluster: its founding, members and settings.

use prost::Message;

use crate::ids::{Epoch, RaftId};
use crate::settings::{ClusterSettings, MembershipOwner};

/// Founds the cluster (P/N3). Repeated with the same cluster id it changes nothing.
#[derive(Clone, PartialEq, Message)]
pub struct InitCluster {
    /// UUID of the cluster.
    #[prost(string, tag = "1")]
    pub cluster_id: String,
    /// Random name of the history, not 0.
    #[prost(fixed64, tag = "2")]
    pub epoch: Epoch,
    /// The settings; unset = the defaults.
    #[prost(message, optional, tag = "3")]
    pub settings: Option<ClusterSettings>,
    /// The founding members.
    #[prost(message, repeated, tag = "4")]
    pub members: Vec<MemberSpec>,
    /// First id for a later member; above those of `members`.
    #[prost(uint64, tag = "5")]
    pub next_raft_id: RaftId,
}

/// A member as a command names it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MemberSpec {
    /// Its id; 0 in AddMember, which gives it one.
    #[prost(uint64, tag = "1")]
    pub raft_id: RaftId,
    /// Configured name.
    #[prost(string, tag = "2")]
    pub node_id: String,
    /// Id of its data folder.
    #[prost(string, tag = "3")]
    pub disk_id: String,
    /// HOST:PORT for nodes.
    #[prost(string, tag = "4")]
    pub peer_endpoint: String,
    /// HOST:PORT for clients.
    #[prost(string, tag = "5")]
    pub client_endpoint: String,
}

/// Gives a disk its Raft id (P/N4, R1). A disk that has one keeps it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AddMember {
    /// Who; `raft_id` is 0.
    #[prost(message, optional, tag = "1")]
    pub member: Option<MemberSpec>,
    /// On whose behalf (P/N7).
    #[prost(enumeration = "MembershipOwner", tag = "2")]
    pub owner: i32,
}

/// Removes members for good (P/N4, R5).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RemoveMembers {
    /// Their ids.
    #[prost(uint64, repeated, tag = "1")]
    pub raft_ids: Vec<RaftId>,
    /// On whose behalf (P/N7).
    #[prost(enumeration = "MembershipOwner", tag = "2")]
    pub owner: i32,
}

/// Changes the settings (P/S1).
#[derive(Clone, PartialEq, Message)]
pub struct UpdateSettings {
    /// Version that the caller has seen.
    #[prost(uint64, tag = "1")]
    pub expected_version: u64,
    /// All settings, as they shall be.
    #[prost(message, optional, tag = "2")]
    pub settings: Option<ClusterSettings>,
}
