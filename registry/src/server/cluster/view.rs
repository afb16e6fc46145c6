//! A view of the cluster, made from what one node knows.

mod health;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use registry_proto::v1;
use registry_state::State;
use tokio::time::Instant;

use self::health::Evidence;
use crate::config::Node;
use crate::member_health::MemberReport;
use crate::raft::{RaftStatus, Role};
use crate::server::{convert, header};

#[cfg(test)]
#[path = "view_test.rs"]
mod tests;

/// What one node sees.
pub(super) struct Seen<'a> {
    pub(super) raft: &'a RaftStatus,
    pub(super) state: &'a State,
    /// `election_timeout_max`.
    pub(super) lease: Duration,
    pub(super) now: Instant,
    /// Why this node is out of Raft, if it is.
    pub(super) quarantine: Option<&'a str>,
    /// On the leader: what its probes found.
    pub(super) reports: &'a BTreeMap<u64, MemberReport>,
    /// On the leader: members whose state is not what it should be.
    pub(super) differing: &'a BTreeSet<u64>,
}

/// A member before anything is known about how it is.
struct Listed {
    raft_id: u64,
    node_id: String,
    client_endpoint: String,
    peer_endpoint: String,
}

impl Seen<'_> {
    /// The status without header and watches.
    pub(super) fn status(&self) -> v1::ClusterStatusResponse {
        let mut members: Vec<_> = self.listed().into_iter().map(|member| self.member(member)).collect();
        members.sort_by(|one, other| (&one.node_id, one.raft_id).cmp(&(&other.node_id, other.raft_id)));
        let quorum = self.quorum(&members);
        let leads = self.leads() && quorum.available;
        let source = if leads { v1::StatusSource::Leader } else { v1::StatusSource::Node };
        let leader = self.raft.leader.and_then(|id| members.iter().find(|member| member.raft_id == id));
        v1::ClusterStatusResponse {
            header: None,
            source: source as i32,
            cluster_id: self.state.cluster_id().unwrap_or_default().to_owned(),
            leader_id: leader.map(|leader| leader.node_id.clone()).unwrap_or_default(),
            term: self.raft.term,
            quorum: Some(quorum),
            revision: self.state.revision(),
            epoch: self.state.epoch(),
            service_count: count(self.state.service_count()),
            instances: Some(convert::counts(self.state.counts())),
            lease_count: count(self.state.lease_count()),
            watch_count: 0,
            members,
            voter_sets: self.raft.membership.configs.iter().map(voter_set).collect(),
        }
    }

    /// The members of the state and of Raft: while one comes or goes, it is in one of them only.
    fn listed(&self) -> Vec<Listed> {
        let in_raft = self.raft.membership.members.iter().map(|(raft_id, member)| Listed {
            raft_id: *raft_id,
            node_id: member.name.clone(),
            client_endpoint: member.client_endpoint.clone(),
            peer_endpoint: member.peer_endpoint.clone(),
        });
        let in_state = self.state.members().map(|member| Listed {
            raft_id: member.raft_id,
            node_id: member.node_id.to_string(),
            client_endpoint: member.client_endpoint.to_string(),
            peer_endpoint: member.peer_endpoint.to_string(),
        });
        let by_id: BTreeMap<u64, Listed> =
            in_raft.chain(in_state).map(|member| (member.raft_id, member)).collect();
        by_id.into_values().collect()
    }

    fn member(&self, listed: Listed) -> v1::Member {
        let id = listed.raft_id;
        let kind = self.kind(id);
        let is_self = id == self.raft.raft_id;
        let report = self.reports.get(&id);
        let silent = if is_self { Some(Duration::ZERO) } else { self.heard(id) };
        let follower = self.raft.followers.get(&id).filter(|_| self.leads());
        let evidence = Evidence {
            in_raft: kind != v1::MemberKind::Joining,
            silent,
            lag: if self.leads() { self.raft.lag(id) } else { None },
            snapshot_percent: follower.and_then(|follower| follower.snapshot_percent),
            report,
            differs: self.differing.contains(&id),
        };
        let (health, detail) = self.health(is_self, evidence);
        let answer = report.and_then(|report| report.answer.as_ref());
        let applied = match answer.filter(|_| report.is_some_and(|report| report.failures_in_row == 0)) {
            _ if is_self => Some(self.raft.applied.map_or(0, |applied| applied.index)),
            answer => answer.map(|answer| answer.applied_index),
        };
        let version =
            if is_self { Some(env!("CARGO_PKG_VERSION")) } else { answer.map(|answer| &*answer.version) };
        let probed = report.and_then(|report| report.last_answer);
        let probed = probed.map(|at| self.now.saturating_duration_since(at));
        v1::Member {
            raft_id: id,
            node_id: listed.node_id,
            client_endpoint: listed.client_endpoint,
            peer_endpoint: listed.peer_endpoint,
            role: self.role(id, is_self, kind) as i32,
            kind: kind as i32,
            health: health as i32,
            lag_entries: evidence.lag,
            last_contact: silent.into_iter().chain(probed).min().map(convert::duration),
            applied_index: applied,
            version: version.unwrap_or_default().to_owned(),
            detail: shortened(&detail),
            stopping: answer.is_some_and(|answer| answer.stopping),
            state_differs: evidence.differs,
            snapshot_percent: evidence.snapshot_percent.map(u32::from),
        }
    }

    fn leads(&self) -> bool {
        self.raft.leadership().is_some()
    }

    /// Time since Raft last heard of another member.
    fn heard(&self, id: u64) -> Option<Duration> {
        let follower = self.raft.followers.get(&id).filter(|_| self.leads());
        let contact = match follower {
            Some(follower) => follower.last_contact,
            None if self.raft.leader == Some(id) => self.raft.leader_contact,
            None => None,
        };
        contact.map(|at| self.now.saturating_duration_since(at))
    }

    fn kind(&self, id: u64) -> v1::MemberKind {
        if self.raft.membership.voters().contains(&id) {
            v1::MemberKind::Voter
        } else if self.raft.membership.members.contains_key(&id) {
            v1::MemberKind::Learner
        } else {
            v1::MemberKind::Joining
        }
    }

    fn role(&self, id: u64, is_self: bool, kind: v1::MemberKind) -> v1::NodeRole {
        if is_self {
            header::role(self.raft.role)
        } else if self.raft.leader == Some(id) {
            v1::NodeRole::Leader
        } else if kind == v1::MemberKind::Voter {
            v1::NodeRole::Follower
        } else {
            v1::NodeRole::Learner
        }
    }

    fn health(&self, is_self: bool, evidence: Evidence<'_>) -> (v1::MemberHealth, String) {
        match self.quarantine {
            Some(reason) if is_self => (v1::MemberHealth::Quarantined, reason.to_owned()),
            _ if is_self => (v1::MemberHealth::Healthy, String::new()),
            _ if !self.leads() => (v1::MemberHealth::Unknown, String::new()),
            _ => evidence.judge(self.lease, self.now),
        }
    }

    fn quorum(&self, members: &[v1::Member]) -> v1::QuorumStatus {
        let voters = self.raft.membership.voters();
        let needed = self.raft.membership.configs.iter().map(|set| set.len() / 2 + 1).max().unwrap_or(0);
        let leads = self.leads();
        let heard = |member: &&v1::Member| {
            let health = v1::MemberHealth::try_from(member.health);
            let is_leader = self.raft.leader == Some(member.raft_id);
            voters.contains(&member.raft_id)
                && (matches!(health, Ok(v1::MemberHealth::Healthy | v1::MemberHealth::Lagging))
                    || (!leads && is_leader))
        };
        let reachable = members.iter().filter(heard).count();
        let acked = self.raft.last_quorum_acked;
        let recent = acked.is_some_and(|at| self.now.saturating_duration_since(at) <= self.lease);
        let alone = voters.len() == 1;
        let available = match self.raft.role {
            Role::Leader => leads && (recent || alone),
            Role::Follower | Role::Learner => self.raft.leader.is_some(),
            Role::Candidate | Role::Stopped => false,
        };
        v1::QuorumStatus {
            available,
            voters: count(voters.len()),
            needed: count(needed),
            reachable: count(reachable),
        }
    }
}

/// The cluster as configured: all that a node knows before Raft runs.
pub(super) fn before_raft(
    own: &Node,
    nodes: &[Node],
    quarantine: Option<&str>,
    waits_for: &str,
) -> v1::ClusterStatusResponse {
    let mut members: Vec<_> = nodes
        .iter()
        .map(|node| {
            let is_self = node.node_id == own.node_id;
            let (health, detail) = match quarantine {
                Some(reason) if is_self => (v1::MemberHealth::Quarantined, shortened(reason)),
                None if is_self => (v1::MemberHealth::Unknown, shortened(waits_for)),
                _ => (v1::MemberHealth::Unknown, String::new()),
            };
            v1::Member {
                node_id: node.node_id.clone(),
                client_endpoint: node.client_endpoint(),
                peer_endpoint: node.peer_endpoint(),
                health: health as i32,
                last_contact: is_self.then(|| convert::duration(Duration::ZERO)),
                version: if is_self { env!("CARGO_PKG_VERSION").to_owned() } else { String::new() },
                detail,
                ..Default::default()
            }
        })
        .collect();
    members.sort_by(|one, other| one.node_id.cmp(&other.node_id));
    v1::ClusterStatusResponse {
        source: v1::StatusSource::Node as i32,
        members,
        quorum: Some(v1::QuorumStatus::default()),
        instances: Some(v1::InstanceCounts::default()),
        ..Default::default()
    }
}

fn voter_set(set: &BTreeSet<u64>) -> v1::VoterSet {
    v1::VoterSet { raft_ids: set.iter().copied().collect() }
}

/// At most 256 bytes of a text.
fn shortened(text: &str) -> String {
    text.chars()
        .scan(0, |bytes, char| {
            *bytes += char.len_utf8();
            (*bytes <= 256).then_some(char)
        })
        .collect()
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
