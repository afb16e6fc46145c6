//! Turns the metrics of openraft into [`RaftStatus`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;
use openraft::{RaftMetrics, ServerState};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::codec;
use super::consensus::RaftHandle;
use super::contact::Contact;
use super::network::phase::Quorum;
use super::network::transfers::Transfers;
use super::status::{Failure, Follower, Leadership, Membership, RaftStatus, Role};
use super::types::{StoredMembership, TypeConfig as C};
use crate::metrics::Metrics;
use crate::peers::Peers;

/// Maps one reading of the metrics.
pub(crate) struct Mapper {
    pub(crate) raft: RaftHandle,
    pub(crate) contact: Contact,
    pub(crate) failure: Arc<OnceLock<Failure>>,
    /// Told when a quorum last followed this node.
    pub(crate) quorum: Quorum,
    /// The snapshots that it sends.
    pub(crate) transfers: Transfers,
    /// After such a silence a follower knows no leader any more (P/R5).
    pub(crate) silence: Duration,
    /// The membership mapped last: it changes rarely, and the status is asked for often.
    pub(crate) membership: Mutex<Option<MappedMembership>>,
}

/// A membership of Raft, whether it is committed, and what it was mapped to.
type MappedMembership = (Arc<StoredMembership>, bool, Arc<Membership>);

impl Mapper {
    pub(crate) fn status(&self) -> RaftStatus {
        // Cloned at once: a borrow of the metrics that is kept can stop Raft.
        let metrics = self.raft.metrics().borrow_watched().clone();
        self.map(&metrics)
    }

    /// The reign of this node, while it believes to lead.
    pub(crate) fn leadership(&self) -> Option<Leadership> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leads = metrics.state == ServerState::Leader && metrics.running_state.is_ok();
        (leads && metrics.vote.is_committed()).then(|| codec::leadership_from_raft(&metrics.vote.leader_id))
    }

    fn membership(&self, metrics: &RaftMetrics<C>) -> Arc<Membership> {
        let stored = &metrics.membership_config;
        let committed = stored.log_id() == metrics.committed_membership_config.log_id();
        let mut last = self.membership.lock().unwrap_or_else(PoisonError::into_inner);
        match last.as_ref() {
            Some((known, same, mapped)) if Arc::ptr_eq(known, stored) && *same == committed => mapped.clone(),
            _ => {
                let mapped = Arc::new(codec::membership_from_raft(stored, committed));
                *last = Some((stored.clone(), committed, mapped.clone()));
                mapped
            }
        }
    }

    fn map(&self, metrics: &RaftMetrics<C>) -> RaftStatus {
        let failed = self.failed(&metrics.running_state);
        let vote = codec::vote_from_raft(&metrics.vote);
        let position = |id: &Option<_>| id.as_ref().map(codec::position_from_raft);
        RaftStatus {
            raft_id: metrics.id,
            role: if failed.is_some() { Role::Stopped } else { role(metrics.state) },
            term: metrics.current_term,
            vote,
            leader: metrics.current_leader.filter(|leader| {
                let heard = || self.contact.last_heard(vote.leadership);
                *leader == metrics.id || heard().is_some_and(|at| at.elapsed() < self.silence)
            }),
            leader_contact: self.contact.last_heard(vote.leadership),
            membership: self.membership(metrics),
            last_log_index: metrics.last_log_index,
            committed: position(&metrics.local_committed),
            applied: position(&metrics.last_applied),
            snapshot: position(&metrics.snapshot),
            purged: position(&metrics.purged),
            last_quorum_acked: metrics.last_quorum_acked.as_ref().map(|at| at.0),
            followers: Arc::new(followers(metrics, &self.transfers)),
            failed,
        }
    }

    fn failed(&self, running: &Result<(), Fatal<C>>) -> Option<Failure> {
        let fatal = running.as_ref().err()?;
        if let Some(known) = self.failure.get() {
            return Some(known.clone());
        }
        Some(match fatal {
            Fatal::Stopped => Failure::Stopped,
            Fatal::StorageError(error) => Failure::Storage(error.to_string()),
            Fatal::Panicked => Failure::Panicked("see the panic message above".to_owned()),
        })
    }
}

fn role(state: ServerState) -> Role {
    match state {
        ServerState::Learner => Role::Learner,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Leader => Role::Leader,
        ServerState::Shutdown => Role::Stopped,
    }
}

fn followers(metrics: &RaftMetrics<C>, transfers: &Transfers) -> BTreeMap<u64, Follower> {
    let mut followers: BTreeMap<u64, Follower> = BTreeMap::new();
    for (id, matched) in metrics.replication.iter().flatten() {
        followers.entry(*id).or_default().matched = matched.as_ref().map(codec::position_from_raft);
    }
    for (id, acked) in metrics.heartbeat.iter().flatten() {
        followers.entry(*id).or_default().last_contact = acked.as_ref().map(|at| at.0);
    }
    for (id, follower) in &mut followers {
        follower.snapshot_percent = transfers.percent(*id);
    }
    followers
}

/// Follows the metrics until Raft ends: keeps the status and the addresses of the peers up to date.
pub(crate) async fn follow(
    mapper: Arc<Mapper>,
    status: watch::Sender<RaftStatus>,
    peers: Peers,
    metrics: Metrics,
) {
    let mut changes = mapper.raft.metrics();
    // A restarted follower must know where its leader is before it ever calls anybody itself.
    take_over_endpoints(&peers, &status.borrow());
    loop {
        let next = mapper.status();
        let previous = status.borrow().clone();
        if next.membership != previous.membership {
            take_over_endpoints(&peers, &next);
        }
        note(&metrics, &previous, &next);
        mapper.quorum.note(&next, Instant::now());
        if let (Some(leadership), Some(at)) = (next.leadership(), next.last_quorum_acked) {
            mapper.contact.led(leadership, at);
        }
        let ended = next.failed.is_some();
        status.send_if_modified(|current| {
            let changed = *current != next;
            *current = next;
            changed
        });
        if ended {
            return;
        }
        // The silence of a leader is no change of the metrics: look again now and then.
        if let Ok(Err(_)) = timeout(mapper.silence / 4, changes.changed()).await {
            let reason = Failure::Panicked("Raft ended without a word".to_owned());
            status.send_modify(|current| {
                current.role = Role::Stopped;
                current.failed.get_or_insert(reason);
            });
            return;
        }
    }
}

fn take_over_endpoints(peers: &Peers, status: &RaftStatus) {
    let members = &status.membership.members;
    if members.is_empty() {
        return;
    }
    for (id, member) in members {
        peers.set_endpoint(*id, &member.peer_endpoint);
    }
    peers.retain(|id| members.contains_key(&id));
}

fn note(metrics: &Metrics, previous: &RaftStatus, next: &RaftStatus) {
    if next.role == Role::Candidate && (previous.role != Role::Candidate || previous.term != next.term) {
        metrics.election();
    }
    if previous.leader.is_some() && next.leader.is_none() {
        metrics.heartbeat_timeout();
    }
    if previous.vote != next.vote && next.vote.committed {
        let leadership = next.vote.leadership;
        tracing::info!(leader = leadership.node, term = leadership.term, "a leader was elected");
    }
}
