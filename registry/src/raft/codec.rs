//! Entries, votes and memberships as bytes.
//!
//! Log, snapshots and wire share the messages of `registry.internal.v1`, whose field numbers never
//! change. What is stored begins with a format number; a higher one than ours is refused (P/O3).

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes};
use openraft::EntryPayload;
use openraft::vote::RaftLeaderId as _;
use prost::Message;
use registry_proto::internal as pb;

use super::status::{Leadership, LogPosition, Member, Membership, Vote};
use super::types::{CommandBytes, Entry, LogId, RaftLeaderId, RaftMembership, RaftVote, StoredMembership};

/// Format of stored entries and votes.
pub(crate) const FORMAT: u8 = 1;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    /// Written by a newer program.
    #[error("{what} has format {found}, this program reads up to {FORMAT}: start a newer program")]
    Newer { what: &'static str, found: u8 },
    /// Not what this program writes.
    #[error("{what} is malformed: {reason}")]
    Malformed { what: &'static str, reason: String },
}

impl CodecError {
    fn missing(what: &'static str, field: &str) -> Self {
        Self::Malformed { what, reason: format!("{field} is missing") }
    }
}

impl From<CodecError> for std::io::Error {
    fn from(error: CodecError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

impl From<CodecError> for tonic::Status {
    fn from(error: CodecError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

fn stored(message: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + message.encoded_len());
    bytes.put_u8(FORMAT);
    message.encode_raw(&mut bytes);
    bytes
}

fn unstore<M: Message + Default>(what: &'static str, bytes: Bytes) -> Result<M, CodecError> {
    match bytes.first() {
        Some(&FORMAT) => M::decode(bytes.slice(1..))
            .map_err(|error| CodecError::Malformed { what, reason: error.to_string() }),
        Some(&found) => Err(CodecError::Newer { what, found }),
        None => Err(CodecError::missing(what, "everything")),
    }
}

/// An entry as it is stored.
pub(crate) fn entry_to_bytes(entry: &Entry) -> Vec<u8> {
    stored(&entry_to_proto(entry))
}

/// A stored entry. Its command shares the bytes given.
pub(crate) fn entry_from_bytes(bytes: Bytes) -> Result<Entry, CodecError> {
    entry_from_proto(unstore("log entry", bytes)?)
}

/// A vote as it is stored.
pub(crate) fn vote_to_bytes(vote: &RaftVote) -> Vec<u8> {
    stored(&vote_to_proto(vote))
}

/// A stored vote.
pub(crate) fn vote_from_bytes(bytes: Bytes) -> Result<RaftVote, CodecError> {
    vote_from_proto(Some(unstore("vote", bytes)?))
}

/// A log id as it is stored.
pub(crate) fn log_id_to_bytes(id: &LogId) -> Vec<u8> {
    stored(&log_id_to_proto(id))
}

/// A stored log id.
pub(crate) fn log_id_from_bytes(bytes: Bytes) -> Result<LogId, CodecError> {
    Ok(log_id_from_proto(unstore("log id", bytes)?))
}

pub(crate) fn log_id_to_proto(id: &LogId) -> pb::LogId {
    pb::LogId { term: id.leader_id.term, raft_id: id.leader_id.node_id, index: id.index }
}

pub(crate) fn log_id_from_proto(id: pb::LogId) -> LogId {
    LogId::new(RaftLeaderId::new(id.term, id.raft_id), id.index)
}

pub(crate) fn vote_to_proto(vote: &RaftVote) -> pb::Vote {
    pb::Vote { term: vote.leader_id.term, raft_id: vote.leader_id.node_id, committed: vote.committed }
}

pub(crate) fn vote_from_proto(vote: Option<pb::Vote>) -> Result<RaftVote, CodecError> {
    let vote = vote.ok_or_else(|| CodecError::missing("message", "vote"))?;
    Ok(RaftVote { leader_id: RaftLeaderId::new(vote.term, vote.raft_id), committed: vote.committed })
}

pub(crate) fn entry_to_proto(entry: &Entry) -> pb::LogEntry {
    let payload = match &entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(command) => Some(pb::log_entry::Payload::Command(command.0.clone())),
        EntryPayload::Membership(membership) => {
            Some(pb::log_entry::Payload::Membership(membership_to_proto(membership)))
        }
    };
    pb::LogEntry { log_id: Some(log_id_to_proto(&entry.log_id)), payload }
}

pub(crate) fn entry_from_proto(entry: pb::LogEntry) -> Result<Entry, CodecError> {
    let log_id = entry.log_id.ok_or_else(|| CodecError::missing("log entry", "log_id"))?;
    let payload = match entry.payload {
        None => EntryPayload::Blank,
        Some(pb::log_entry::Payload::Command(command)) => EntryPayload::Normal(CommandBytes(command)),
        Some(pb::log_entry::Payload::Membership(membership)) => {
            EntryPayload::Membership(membership_from_proto(membership)?)
        }
    };
    Ok(Entry { log_id: log_id_from_proto(log_id), payload })
}

pub(crate) fn membership_to_proto(membership: &RaftMembership) -> pb::Membership {
    let configs = membership.get_joint_config().iter();
    let members = membership.nodes().map(|(id, member)| pb::NodeIdentity {
        cluster_id: String::new(),
        raft_id: *id,
        disk_id: member.disk_id.clone(),
        node_id: member.name.clone(),
        peer_endpoint: member.peer_endpoint.clone(),
        client_endpoint: member.client_endpoint.clone(),
    });
    pb::Membership {
        configs: configs.map(|set| pb::VoterSet { raft_ids: set.iter().copied().collect() }).collect(),
        members: members.collect(),
    }
}

pub(crate) fn membership_from_proto(membership: pb::Membership) -> Result<RaftMembership, CodecError> {
    let malformed = |reason: String| CodecError::Malformed { what: "membership", reason };
    let configs: Vec<BTreeSet<u64>> =
        membership.configs.into_iter().map(|set| set.raft_ids.into_iter().collect()).collect();
    let mut members = BTreeMap::new();
    for identity in membership.members {
        let member = Member {
            name: identity.node_id,
            peer_endpoint: identity.peer_endpoint,
            client_endpoint: identity.client_endpoint,
            disk_id: identity.disk_id,
        };
        if members.insert(identity.raft_id, member).is_some() {
            return Err(malformed(format!("member {} is listed twice", identity.raft_id)));
        }
    }
    if configs.is_empty() && members.is_empty() {
        return Ok(RaftMembership::default());
    }
    RaftMembership::new(configs, members).map_err(|error| malformed(error.to_string()))
}

pub(crate) fn position_from_raft(id: &LogId) -> LogPosition {
    LogPosition { leadership: leadership_from_raft(&id.leader_id), index: id.index }
}

pub(crate) fn position_to_raft(position: LogPosition) -> LogId {
    LogId::new(leadership_to_raft(position.leadership), position.index)
}

pub(crate) fn leadership_from_raft(id: &RaftLeaderId) -> Leadership {
    Leadership { term: id.term, node: id.node_id }
}

pub(crate) fn leadership_to_raft(leadership: Leadership) -> RaftLeaderId {
    RaftLeaderId::new(leadership.term, leadership.node)
}

pub(crate) fn vote_from_raft(vote: &RaftVote) -> Vote {
    Vote { leadership: leadership_from_raft(&vote.leader_id), committed: vote.committed }
}

pub(crate) fn membership_from_raft(stored: &StoredMembership, committed: bool) -> Membership {
    Membership {
        position: stored.log_id().as_ref().map(position_from_raft),
        committed,
        configs: stored.membership().get_joint_config().clone(),
        members: stored.nodes().map(|(id, member)| (*id, member.clone())).collect(),
    }
}

#[cfg(test)]
mod tests;
