//! What heads every answer and hints in every error: who answered, from which state, who leads.

use std::sync::Arc;

use registry_proto::v1;
use tonic::Status;

use super::convert;
use super::keep_alive::Heads;
use crate::error::{Error, LeaderHint};
use crate::raft::{Consensus, Published, RaftStatus, Role};
use crate::read_index::{Age, ReadIndexer};
use crate::request::read::View;
use crate::watch::Source;

/// Makes headers. A clone makes the same.
#[derive(Debug, Clone)]
pub struct Head {
    node_id: String,
    consensus: Consensus,
    rounds: ReadIndexer,
}

impl Head {
    /// Headers of the node with this name.
    pub fn new(node_id: String, consensus: Consensus, rounds: ReadIndexer) -> Self {
        Self { node_id, consensus, rounds }
    }

    /// The header of an answer made from `view`.
    pub fn of(&self, view: &View) -> v1::ResponseHeader {
        header(&self.node_id, &self.consensus.status(), &view.published, view.staleness)
    }

    /// The header of an answer that shows this revision; 0 = that of the published state. Not for answers
    /// that may miss acknowledged writes.
    pub fn at(&self, revision: u64) -> v1::ResponseHeader {
        let mut header = header(&self.node_id, &self.consensus.status(), &self.consensus.published(), None);
        if revision != 0 {
            header.revision = revision;
        }
        header
    }

    /// The header of a message of a watch: always with the age of the data.
    pub fn watching(&self, revision: u64) -> v1::ResponseHeader {
        // The age before the state, so that it is never too low for it.
        let age = self.rounds.age();
        let published = self.consensus.published();
        let header = header(&self.node_id, &self.consensus.status(), &published, Some(age));
        v1::ResponseHeader { revision, ..header }
    }

    /// The status that tells a client of an error.
    pub fn status(&self, error: Error) -> Status {
        error.into_status(&hint(&self.consensus.status(), &self.consensus.published()))
    }
}

impl Heads for Head {
    fn header(&self, revision: u64) -> v1::ResponseHeader {
        self.at(revision)
    }

    fn status(&self, error: Error) -> Status {
        Self::status(self, error)
    }
}

impl Source for Head {
    fn published(&self) -> Arc<Published> {
        self.consensus.published()
    }

    fn header(&self, revision: u64) -> v1::ResponseHeader {
        self.watching(revision)
    }

    fn status(&self, error: Error) -> Status {
        Self::status(self, error)
    }
}

/// The header of an answer from this state.
pub fn header(
    node_id: &str,
    raft: &RaftStatus,
    published: &Published,
    staleness: Option<Age>,
) -> v1::ResponseHeader {
    let state = &published.state;
    v1::ResponseHeader {
        revision: state.revision(),
        term: raft.term,
        epoch: state.epoch(),
        role: role(raft.role) as i32,
        node_id: node_id.to_owned(),
        leader_endpoint: hint(raft, published).endpoint,
        cluster_id: state.cluster_id().unwrap_or_default().to_owned(),
        staleness: staleness.map(|age| convert::duration(age.bound)),
        forwarded: false,
        replayed: false,
        staleness_unknown: staleness.is_some_and(|age| age.unknown),
    }
}

/// What this node knows about the leader.
pub fn hint(raft: &RaftStatus, published: &Published) -> LeaderHint {
    let member = raft.leader.and_then(|leader| {
        let in_state = published.state.member(leader);
        in_state.map(|member| (member.node_id.to_string(), member.client_endpoint.to_string())).or_else(
            || {
                let member = raft.membership.members.get(&leader)?;
                Some((member.name.clone(), member.client_endpoint.clone()))
            },
        )
    });
    let (node_id, endpoint) = member.unwrap_or_default();
    LeaderHint { node_id, endpoint, term: raft.term, revision: published.state.revision() }
}

/// A role as it is sent.
pub fn role(role: Role) -> v1::NodeRole {
    match role {
        Role::Leader => v1::NodeRole::Leader,
        Role::Follower => v1::NodeRole::Follower,
        Role::Candidate => v1::NodeRole::Candidate,
        Role::Learner => v1::NodeRole::Learner,
        Role::Stopped => v1::NodeRole::Unspecified,
    }
}
