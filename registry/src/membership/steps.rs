//! How each step is done. Each ends in something durable from which the next follows.

use std::collections::BTreeSet;
use std::sync::Arc;

use registry_state::{Member, Operation, RemoveMembers};
use tokio::time::Instant;

use super::plan::{Step, Why};
use super::{CHANGE_WAIT, Membership, locked, unknown_member};
use crate::error::peer::PeerError;
use crate::raft::{Leadership, Member as RaftMember, Membership as RaftMembership};

impl Membership {
    /// Takes a step; the caller has the turn.
    pub(super) async fn carry_out(&self, leadership: Leadership, step: &Step) -> Result<(), PeerError> {
        match step {
            Step::Flatten => {
                let done = self.shared.consensus.flatten(Instant::now() + CHANGE_WAIT).await;
                done.map(drop).map_err(|error| self.change_error(error))
            }
            Step::HandOver => {
                let deadline = Instant::now() + CHANGE_WAIT;
                self.hand_over(None, &BTreeSet::new(), deadline).await.map(drop)
            }
            Step::TakeUp { raft_id } => {
                let taken = self.take_up(*raft_id).await;
                if taken.is_err() {
                    locked(&self.shared.observations).rest(*raft_id);
                }
                taken.map(drop)
            }
            Step::Bury { raft_ids, why } => {
                if *why == Why::Superseded {
                    self.set_back(raft_ids);
                }
                self.bury(leadership, raft_ids).await
            }
            Step::Drop { raft_ids } => self.drop_learners(raft_ids).await,
            Step::Vote { voters, leaving, .. } => self.vote(leadership, voters, leaving).await.map(drop),
        }
    }

    /// Gives a node its identity, then makes it a learner (P/N4, R2 and R3). The caller has the turn.
    pub(super) async fn take_up(&self, raft_id: u64) -> Result<Arc<RaftMembership>, PeerError> {
        let published = self.shared.consensus.published();
        let member = published.state.member(raft_id).ok_or_else(|| unknown_member(raft_id))?;
        self.shared.introducer.adopt(member).await?;
        self.shared.crash.pass("node-adopted");
        let deadline = Instant::now() + CHANGE_WAIT;
        let added = self.shared.consensus.add_learner(raft_id, raft_member(member), None, deadline).await;
        let added = added.map_err(|error| self.change_error(error))?;
        self.shared.crash.pass("learner-added");
        Ok(added)
    }

    /// Changes the voters, then buries those that leave. The caller has the turn.
    pub(super) async fn vote(
        &self,
        leadership: Leadership,
        voters: &BTreeSet<u64>,
        leaving: &BTreeSet<u64>,
    ) -> Result<Arc<RaftMembership>, PeerError> {
        self.set_back(leaving);
        let seen = self.raft_membership().position;
        let deadline = Instant::now() + CHANGE_WAIT;
        let changed = self.shared.consensus.change_voters(voters.clone(), seen, deadline).await;
        let membership = changed.map_err(|error| self.change_error(error))?;
        self.shared.crash.pass("voters-changed");
        if !leaving.is_empty() {
            self.bury(leadership, leaving).await?;
        }
        Ok(membership)
    }

    /// Buries ids that do not vote (R5): final, once applied.
    pub(super) async fn bury(
        &self,
        leadership: Leadership,
        raft_ids: &BTreeSet<u64>,
    ) -> Result<(), PeerError> {
        let owner = self.shared.consensus.published().state.settings().membership_owner;
        let command = RemoveMembers { raft_ids: raft_ids.iter().copied().collect(), owner };
        self.write(leadership, Operation::RemoveMembers(command)).await?;
        self.shared.crash.pass("member-buried");
        Ok(())
    }

    /// Takes buried ids out of Raft. The caller has the turn.
    pub(super) async fn drop_learners(&self, raft_ids: &BTreeSet<u64>) -> Result<(), PeerError> {
        let deadline = Instant::now() + CHANGE_WAIT;
        let dropped = self.shared.consensus.remove_learners(raft_ids, None, deadline).await;
        dropped.map(drop).map_err(|error| self.change_error(error))
    }

    fn set_back(&self, raft_ids: &BTreeSet<u64>) {
        let published = self.shared.consensus.published();
        let mut observations = locked(&self.shared.observations);
        for member in raft_ids.iter().filter_map(|id| published.state.member(*id)) {
            observations.set_back(&member.node_id);
        }
    }
}

fn raft_member(member: &Member) -> RaftMember {
    RaftMember {
        name: member.node_id.to_string(),
        peer_endpoint: member.peer_endpoint.to_string(),
        client_endpoint: member.client_endpoint.to_string(),
        disk_id: member.disk_id.to_string(),
    }
}
