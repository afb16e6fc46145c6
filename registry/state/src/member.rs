//! Members of the cluster: who has which Raft id (P/N2). Who votes is Raft's own business.

use smol_str::SmolStr;

use crate::command::MemberSpec;
use crate::ids::RaftId;

/// A member: it holds its id until it is removed, which is for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub raft_id: RaftId,
    /// Configured name. Two members can have one name while one replaces the other (P/N4).
    pub node_id: SmolStr,
    /// Id of its data folder. No two members have one.
    pub disk_id: SmolStr,
    /// HOST:PORT for nodes.
    pub peer_endpoint: SmolStr,
    /// HOST:PORT for clients.
    pub client_endpoint: SmolStr,
}

/// A member that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The id that it had.
    pub raft_id: RaftId,
    /// Its disk, which is not admitted again under any id.
    pub disk_id: SmolStr,
}

impl Member {
    pub(crate) fn new(raft_id: RaftId, spec: &MemberSpec) -> Self {
        Self {
            raft_id,
            node_id: SmolStr::new(&spec.node_id),
            disk_id: SmolStr::new(&spec.disk_id),
            peer_endpoint: SmolStr::new(&spec.peer_endpoint),
            client_endpoint: SmolStr::new(&spec.client_endpoint),
        }
    }
}
