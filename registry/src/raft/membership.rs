//! Changing who takes part in Raft: learners, voters, and nodes that leave.
//!
//! Every change is a compare-and-set against the entry of the membership that its caller has seen. Whoever
//! loses a vote stays as a learner until it is removed by a change of its own, so that a joint configuration
//! can be finished by any later leader without knowing why it was begun.

use std::collections::BTreeSet;
use std::sync::Arc;

use openraft::ChangeMembers;
use openraft::errors::{ChangeMembershipError, ClientWriteError, PreconditionFailed, RaftError};
use openraft::raft::Precondition;
use tokio::time::{Instant, timeout_at};

use super::codec;
use super::consensus::Consensus;
use super::error::ChangeError;
use super::status::{Leadership, LogPosition, Member, Membership};
use super::types::TypeConfig as C;

type Change = ChangeMembers<u64, Member>;

impl Consensus {
    /// Adds a member that receives the log and does not vote. Nothing happens if it is one, or votes.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn add_learner(
        &self,
        raft_id: u64,
        member: Member,
        expected: Option<LogPosition>,
        deadline: Instant,
    ) -> Result<Arc<Membership>, ChangeError> {
        let seen = self.membership_to_change(expected)?;
        match seen.1.members.get(&raft_id) {
            Some(known) if *known == member => return Ok(seen.1),
            // Another address under an id would split the cluster (pitfall 30).
            Some(known) => return Err(ChangeError::Refused(format!("member {raft_id} is {known}"))),
            None => {}
        }
        self.change(seen, Change::AddNodes([(raft_id, member)].into()), deadline).await
    }

    /// Makes exactly these members voters, by one joint configuration. Those that vote no more stay learners.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn change_voters(
        &self,
        voters: BTreeSet<u64>,
        expected: Option<LogPosition>,
        deadline: Instant,
    ) -> Result<Arc<Membership>, ChangeError> {
        let seen = self.membership_to_change(expected)?;
        if voters.is_empty() {
            return Err(ChangeError::Refused("a cluster needs a voter".to_owned()));
        }
        if let Some(unknown) = voters.iter().find(|id| !seen.1.members.contains_key(id)) {
            return Err(ChangeError::UnknownMember(*unknown));
        }
        if seen.1.configs.len() == 1 && seen.1.voters() == voters {
            return Ok(seen.1);
        }
        self.change(seen, Change::ReplaceAllVoters(voters), deadline).await
    }

    /// Takes members without a vote out of Raft. Ids that are not there are passed over.
    ///
    /// # Errors
    /// See [`ChangeError`]; refused if one of them votes.
    pub async fn remove_learners(
        &self,
        raft_ids: &BTreeSet<u64>,
        expected: Option<LogPosition>,
        deadline: Instant,
    ) -> Result<Arc<Membership>, ChangeError> {
        let seen = self.membership_to_change(expected)?;
        let voters = seen.1.voters();
        if let Some(voter) = raft_ids.iter().find(|id| voters.contains(id)) {
            return Err(ChangeError::Refused(format!("member {voter} votes")));
        }
        let present: BTreeSet<u64> =
            raft_ids.iter().copied().filter(|id| seen.1.members.contains_key(id)).collect();
        if present.is_empty() {
            return Ok(seen.1);
        }
        self.change(seen, Change::RemoveNodes(present), deadline).await
    }

    /// Leaves a joint configuration for its newer set, whoever began it.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn flatten(&self, deadline: Instant) -> Result<Arc<Membership>, ChangeError> {
        let seen = self.membership_to_change(None)?;
        if seen.1.configs.len() <= 1 {
            return Ok(seen.1);
        }
        // No voter more or less than in the newer set.
        self.change(seen, Change::AddVoterIds(BTreeSet::new()), deadline).await
    }

    /// The reign in which a change may be made, and the committed membership it starts from.
    fn membership_to_change(
        &self,
        expected: Option<LogPosition>,
    ) -> Result<(Leadership, Arc<Membership>), ChangeError> {
        let status = self.status();
        let Some(leadership) = status.leadership() else {
            return Err(ChangeError::NotLeader { leader: status.leader });
        };
        let membership = status.membership;
        if expected.is_some() && membership.position != expected {
            return Err(ChangeError::Changed { now: membership.position });
        }
        if !membership.committed {
            return Err(ChangeError::InProgress);
        }
        Ok((leadership, membership))
    }

    async fn change(
        &self,
        (leadership, from): (Leadership, Arc<Membership>),
        change: Change,
        deadline: Instant,
    ) -> Result<Arc<Membership>, ChangeError> {
        // Only a change of voters is two entries; after the first of them nothing is certain.
        let is_one_entry = matches!(change, Change::AddNodes(_) | Change::RemoveNodes(_));
        let position = from.position;
        let conditions = [
            Precondition::CommittedLeaderId { committed_leader_id: codec::leadership_to_raft(leadership) },
            Precondition::LastMembershipLogId {
                last_membership_log_id: position.map(codec::position_to_raft),
            },
        ];
        let changed = self.raft().change_membership_if(change, true, conditions);
        let log_id = match timeout_at(deadline, changed).await {
            Ok(Ok(response)) => codec::position_from_raft(&response.log_id),
            Ok(Err(error)) => return Err(self.change_error(error, position, is_one_entry)),
            Err(_) => return Err(ChangeError::OutcomeUnknown),
        };
        // The metrics follow a moment later; whoever changes next must start from what is there now.
        let mut status = self.watch_status();
        let shown = status.wait_for(|status| {
            status.failed.is_some()
                || status.membership.committed && status.membership.position >= Some(log_id)
        });
        match timeout_at(deadline, shown).await {
            Ok(Ok(status)) if status.failed.is_none() => Ok(status.membership.clone()),
            Ok(_) => Err(ChangeError::Stopped),
            Err(_) => Err(ChangeError::OutcomeUnknown),
        }
    }

    fn change_error(
        &self,
        error: RaftError<C, ClientWriteError<C>>,
        expected: Option<LogPosition>,
        is_one_entry: bool,
    ) -> ChangeError {
        let RaftError::APIError(error) = error else { return ChangeError::Stopped };
        match error {
            ClientWriteError::ForwardToLeader(forward) if is_one_entry => {
                ChangeError::NotLeader { leader: forward.leader_id }
            }
            ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_)) => {
                ChangeError::InProgress
            }
            ClientWriteError::ChangeMembershipError(ChangeMembershipError::LearnerNotFound(missing)) => {
                ChangeError::UnknownMember(missing.node_id)
            }
            ClientWriteError::ChangeMembershipError(error) => ChangeError::Refused(error.to_string()),
            ClientWriteError::PreconditionFailed(PreconditionFailed::LastMembershipLogIdMismatch {
                expected: compared,
                actual,
            }) if compared.as_ref().map(codec::position_from_raft) == expected => {
                ChangeError::Changed { now: actual.as_ref().map(codec::position_from_raft) }
            }
            ClientWriteError::PreconditionFailed(PreconditionFailed::CommittedLeaderIdMismatch {
                ..
            }) if is_one_entry => ChangeError::NotLeader { leader: self.status().leader },
            // Also what the second entry of a change met: the joint configuration may stand.
            _ => ChangeError::OutcomeUnknown,
        }
    }
}
