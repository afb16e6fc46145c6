//! Status: what a node knows of itself, and as leader of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use registry_proto::internal as pb;
use tokio::time::Instant;
use tonic::Status;

use super::{AdminService, convert};
use crate::member_health::MemberReport;
use crate::membership::Membership;
use crate::raft::{Consensus, Published, RaftStatus};

impl AdminService {
    /// What this node knows, without asking anybody.
    pub(super) async fn tell(&self, state_hash: bool) -> Result<pb::StatusResponse, Status> {
        let probe = self.parts.identity.probe().await?;
        let readiness = self.parts.standing.readiness();
        let own = pb::StatusResponse {
            state: probe.state,
            identity: probe.identity,
            compatibility: Some(self.parts.compatibility.clone()),
            ready: readiness.is_ok(),
            not_ready_because: readiness.err().unwrap_or_default(),
            uptime: convert::duration(self.parts.begun.elapsed()),
            ..pb::StatusResponse::default()
        };
        let Some(membership) = self.parts.membership.get() else { return Ok(own) };
        let consensus = membership.consensus();
        let (raft, published) = (consensus.status(), consensus.published());
        let settings = published.state.settings();
        let status = pb::StatusResponse {
            raft: Some(raft_status(consensus, &raft)),
            membership: Some(convert::membership(&raft.membership)),
            storage: Some(storage(consensus)),
            revision: published.state.revision(),
            epoch: published.state.epoch(),
            state_hash: if state_hash {
                published.state.state_hash().to_be_bytes().to_vec().into()
            } else {
                bytes::Bytes::new()
            },
            membership_owner: settings.membership_owner,
            voters_target: settings.voters_target,
            ..own
        };
        if raft.leadership().is_none() {
            return Ok(status);
        }
        let seen = Seen { membership, raft: &raft, published: &published, own: status.identity.as_ref() };
        let progress = membership.progress();
        Ok(pb::StatusResponse {
            replication: seen.replication(),
            members: seen.members(),
            membership_step: progress.step,
            membership_trouble: progress.trouble,
            ..status
        })
    }
}

fn raft_status(consensus: &Consensus, raft: &RaftStatus) -> pb::RaftStatus {
    let age = |at: Option<Instant>| at.and_then(|at| convert::duration(at.elapsed()));
    pb::RaftStatus {
        vote: Some(pb::Vote {
            term: raft.vote.leadership.term,
            raft_id: raft.vote.leadership.node,
            committed: raft.vote.committed,
        }),
        leader_raft_id: raft.leader.unwrap_or(0),
        last_log_id: consensus.last_log_position().map(convert::log_id),
        committed: raft.committed.map(convert::log_id),
        applied: raft.applied.map(convert::log_id),
        snapshot: raft.snapshot.map(convert::log_id),
        purged: raft.purged.map(convert::log_id),
        quorum_age: age(raft.last_quorum_acked),
        leader_contact: age(raft.leader_contact),
    }
}

fn storage(consensus: &Consensus) -> pb::StorageStatus {
    let storage = consensus.storage();
    pb::StorageStatus {
        full: storage.headroom.full,
        log_bytes: storage.segment_bytes,
        snapshot_bytes: consensus.snapshot_bytes(),
        free_bytes: consensus.free_bytes().unwrap_or(0),
    }
}

/// The cluster as its leader sees it.
struct Seen<'a> {
    membership: &'a Membership,
    raft: &'a RaftStatus,
    published: &'a Published,
    own: Option<&'a pb::NodeIdentity>,
}

impl Seen<'_> {
    fn replication(&self) -> Vec<pb::ReplicationStatus> {
        let others = self.raft.membership.members.keys().filter(|id| **id != self.raft.raft_id);
        let followed = others.map(|id| {
            let follower = self.raft.followers.get(id).copied().unwrap_or_default();
            // Entries that it needs are gone from the log: it gets a snapshot.
            let needs = follower.matched.map_or(0, |position| position.index + 1);
            let purged = self.raft.purged.map_or(0, |position| position.index + 1);
            pb::ReplicationStatus {
                raft_id: *id,
                matched: follower.matched.map(convert::log_id),
                lag_entries: self.raft.lag(*id).unwrap_or_else(|| self.raft.last_log_index.unwrap_or(0)),
                last_contact: follower.last_contact.and_then(|at| convert::duration(at.elapsed())),
                installing_snapshot: needs < purged,
            }
        });
        followed.collect()
    }

    fn members(&self) -> Vec<pb::MemberStatus> {
        let reports = self.membership.health().reports();
        let dead = self.membership.health().dead();
        let admitted = self.published.state.members().map(|member| member.raft_id);
        let ids: BTreeSet<u64> = admitted.chain(self.raft.membership.members.keys().copied()).collect();
        ids.into_iter().map(|id| self.member(id, &reports, dead.contains(&id))).collect()
    }

    fn member(&self, id: u64, reports: &BTreeMap<u64, MemberReport>, dead: bool) -> pb::MemberStatus {
        let report = reports.get(&id).cloned().unwrap_or_default();
        let since = |at: Option<Instant>| at.and_then(|at| convert::duration(at.elapsed()));
        let is_own = id == self.raft.raft_id;
        let answer = report.answer.clone().unwrap_or_default();
        let occupant = report.occupant.clone();
        let state = match &occupant {
            // What is left of it speaks for it: DISK_LOST, REMOVED.
            Some(occupant) if occupant.raft_id == id => occupant.state,
            _ if is_own => pb::NodeState::Voter,
            _ => answer.state,
        };
        pb::MemberStatus {
            identity: Some(self.identity(id)),
            place: self.place(id).into(),
            state: state.into(),
            dead,
            stopping: answer.stopping,
            last_answer: if is_own { convert::duration(Duration::ZERO) } else { since(report.last_answer) },
            failures_in_row: report.failures_in_row,
            failing_for: since(report.failing_since),
            quarantine: report.quarantine().unwrap_or_default().to_owned(),
            version: if is_own { env!("CARGO_PKG_VERSION").to_owned() } else { answer.version },
            applied_index: if is_own { self.published.applied_index() } else { answer.applied_index },
            lag_entries: self.raft.lag(id),
            caught_up_for: self.membership.caught_up_for(id).and_then(convert::duration),
            reported_disk_id: occupant
                .filter(|occupant| occupant.disk_id != self.identity(id).disk_id)
                .map(|occupant| occupant.disk_id)
                .unwrap_or_default(),
            disk_full: self.membership.consensus().has_full_disk(id),
        }
    }

    fn identity(&self, id: u64) -> pb::NodeIdentity {
        let cluster_id = self.own.map_or("", |own| &own.cluster_id);
        if let Some(member) = self.published.state.member(id) {
            return convert::identity(member, cluster_id);
        }
        let member = self.raft.membership.members.get(&id).cloned().unwrap_or_default();
        pb::NodeIdentity {
            cluster_id: cluster_id.to_owned(),
            raft_id: id,
            disk_id: member.disk_id,
            node_id: member.name,
            peer_endpoint: member.peer_endpoint,
            client_endpoint: member.client_endpoint,
        }
    }

    fn place(&self, id: u64) -> pb::MemberPlace {
        let is_admitted = self.published.state.member(id).is_some();
        let is_in_raft = self.raft.membership.members.contains_key(&id);
        if self.raft.membership.voters().contains(&id) {
            pb::MemberPlace::Voter
        } else if is_admitted && is_in_raft {
            pb::MemberPlace::Learner
        } else if is_admitted {
            pb::MemberPlace::Admitted
        } else {
            pb::MemberPlace::Leaving
        }
    }
}
