//! Changes by hand: promote, remove, transfer (AdminService).

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use registry_proto::internal::PeerErrorReason as R;
use registry_state::{ClusterSettings, MembershipOwner, Operation, Reply, State, UpdateSettings};
use tokio::time::Instant;

use super::observe::CAUGHT_UP_ENTRIES;
use super::{Membership, Reign, list, plan, target, unknown, unknown_member};
use crate::error::peer::PeerError;
use crate::raft::{Leadership, LogPosition, Membership as RaftMembership, TransferError};

/// Tries to change a setting that others change too.
const SETTING_TRIES: usize = 5;

/// What a change by hand came to.
#[derive(Debug, Clone)]
pub struct Changed {
    /// False if it had been made before.
    pub is_new: bool,
    /// The membership afterwards.
    pub membership: Arc<RaftMembership>,
    /// Voters that the cluster works towards now.
    pub voters_target: u32,
}

/// Who shall vote, and how the caller sees the cluster.
#[derive(Debug, Clone, Default)]
pub struct Promotion {
    /// Learners that get a vote.
    pub raft_ids: BTreeSet<u64>,
    /// Voters that lose vote and place in the same change.
    pub replaced: BTreeSet<u64>,
    /// Entries that each learner may be behind; `None` = 1,000.
    pub max_lag_entries: Option<u64>,
    /// The membership that the caller has seen.
    pub expected: Option<LogPosition>,
    /// On whose behalf; `None` = whoever the settings name.
    pub owner: Option<MembershipOwner>,
}

/// Who shall lead, and how the caller sees the cluster.
#[derive(Debug, Clone, Copy)]
pub struct TransferWish {
    /// The voter; `None` = the one whose log is furthest.
    pub target: Option<u64>,
    /// The membership that the caller has seen.
    pub expected: Option<LogPosition>,
    /// When to give up.
    pub deadline: Instant,
}

impl Membership {
    /// Gives votes, and takes those of `replaced` with their places, in one joint change.
    ///
    /// # Errors
    /// See `AdminService.PromoteMember`.
    pub async fn promote(&self, promotion: Promotion, deadline: Instant) -> Result<Changed, PeerError> {
        let Promotion { raft_ids, replaced, max_lag_entries, expected, owner } = promotion;
        let _turn = self.turn(deadline).await?;
        let reign = self.reign(deadline).await?;
        self.check(&reign, expected, owner)?;
        let voters = self.raft_membership().voters();
        for id in raft_ids.difference(&voters) {
            self.check_caught_up(&reign, *id, max_lag_entries.unwrap_or(CAUGHT_UP_ENTRIES))?;
        }
        let leaving = self.present(&reign, &replaced)?;
        self.step_aside(&reign, &leaving, deadline).await?;
        let to: BTreeSet<u64> = voters.difference(&leaving).chain(&raft_ids).copied().collect();
        let is_new = self.revote(&reign, &to).await? || !leaving.is_empty();
        self.retire(&reign, &leaving).await?;
        let voters_target = self.aim(reign.leadership, |_, known| target::raised(known, to.len())).await?;
        Ok(Changed { is_new, membership: self.raft_membership(), voters_target })
    }

    /// Refuses a learner that is too far behind: a voter that lags is a weight, not a help (pitfall 30).
    fn check_caught_up(&self, reign: &Reign, raft_id: u64, max_lag: u64) -> Result<(), PeerError> {
        let status = self.shared.consensus.status();
        let is_admitted = reign.published.state.member(raft_id).is_some();
        let member = status.membership.members.get(&raft_id).filter(|_| is_admitted);
        let member = member.ok_or_else(|| unknown_member(raft_id))?;
        match status.lag(raft_id) {
            Some(lag) if lag <= max_lag => Ok(()),
            Some(lag) => {
                let reason = format!("{} is {lag} entries behind; wait and try again", member.name);
                let error = PeerError::new(R::NotCaughtUp, reason).with("node_id", &member.name);
                Err(error.with("lag_entries", lag))
            }
            None => {
                let reason = format!("{} has not answered this leader yet; wait and try again", member.name);
                Err(PeerError::new(R::NotCaughtUp, reason).with("node_id", &member.name))
            }
        }
    }

    /// Removes members for good: their votes, their ids, their places in Raft.
    ///
    /// # Errors
    /// See `AdminService.RemoveMember`.
    pub async fn remove(
        &self,
        raft_ids: &BTreeSet<u64>,
        expected: Option<LogPosition>,
        owner: Option<MembershipOwner>,
        deadline: Instant,
    ) -> Result<Changed, PeerError> {
        let _turn = self.turn(deadline).await?;
        let reign = self.reign(deadline).await?;
        let leaving = self.present(&reign, raft_ids)?;
        if !leaving.is_empty() {
            self.check(&reign, expected, owner)?;
            self.step_aside(&reign, &leaving, deadline).await?;
        }
        let to: BTreeSet<u64> = self.raft_membership().voters().difference(&leaving).copied().collect();
        let is_new = self.revote(&reign, &to).await? || !leaving.is_empty();
        // Before the ids are buried: a removed node comes back as a learner, and must find no room for a vote.
        let stay =
            |state: &State| state.members().filter(|member| !leaving.contains(&member.raft_id)).count();
        let voters_target =
            self.aim(reign.leadership, |state, known| target::lowered(known, stay(state))).await?;
        self.retire(&reign, &leaving).await?;
        Ok(Changed { is_new, membership: self.raft_membership(), voters_target })
    }

    /// Hands leadership over and waits until the other leads.
    ///
    /// # Errors
    /// See `AdminService.TransferLeadership`.
    pub async fn transfer(&self, wish: TransferWish) -> Result<Leadership, PeerError> {
        let _turn = self.turn(wish.deadline).await?;
        let reign = self.reign(wish.deadline).await?;
        self.check(&reign, wish.expected, None)?;
        let status = self.shared.consensus.status();
        if let Some(target) = wish.target {
            if target == status.raft_id {
                return Ok(reign.leadership);
            }
            if !status.membership.voters().contains(&target) {
                return Err(unknown_member(target));
            }
            let lag = status.lag(target);
            if lag.is_none_or(|lag| lag > CAUGHT_UP_ENTRIES) {
                let reason = format!("member {target} is too far behind to lead; wait and try again");
                return Err(PeerError::new(R::NotCaughtUp, reason).with("lag_entries", lag.unwrap_or(0)));
            }
        }
        let leads = self.hand_over(wish.target, &BTreeSet::new(), wish.deadline).await?;
        let members = &self.raft_membership().members;
        let name = |id: u64| members.get(&id).map_or("a member that is gone", |member| member.name.as_str());
        as_wished(wish.target, leads, name)
    }

    /// Lets another voter lead: `target`, or the best that is not excluded.
    pub(super) async fn hand_over(
        &self,
        target: Option<u64>,
        exclude: &BTreeSet<u64>,
        deadline: Instant,
    ) -> Result<Leadership, PeerError> {
        let moved = self.shared.consensus.transfer_leadership(target, exclude, deadline).await;
        moved.map_err(|error| match error {
            TransferError::NotLeader { .. } => self.not_leader(),
            TransferError::Stopped => super::stopped(),
            TransferError::NoCandidate | TransferError::TimedOut { .. } => {
                PeerError::new(R::TransferFailed, format!("{error}; this node goes on leading"))
            }
        })
    }

    /// A leader that shall go hands over first and names its successor: that one is to be asked (pitfall 31).
    async fn step_aside(
        &self,
        reign: &Reign,
        leaving: &BTreeSet<u64>,
        deadline: Instant,
    ) -> Result<(), PeerError> {
        if !leaving.contains(&reign.leadership.node) {
            return Ok(());
        }
        let successor = self.hand_over(None, leaving, deadline).await?;
        tracing::info!(successor = successor.node, "leadership is handed over: this node is to be removed");
        let members = &self.raft_membership().members;
        let endpoint = members.get(&successor.node).map(|member| member.peer_endpoint.as_str());
        Err(PeerError::not_leader(endpoint.map(|endpoint| (successor.node, endpoint))))
    }

    /// Those of the ids that are members still. One that never was any is an error.
    fn present(&self, reign: &Reign, raft_ids: &BTreeSet<u64>) -> Result<BTreeSet<u64>, PeerError> {
        let state = &reign.published.state;
        let membership = self.raft_membership();
        let mut present = BTreeSet::new();
        for id in raft_ids {
            if state.member(*id).is_some() || membership.members.contains_key(id) {
                present.insert(*id);
            } else if *id == 0 || !state.is_removed(*id) {
                return Err(unknown_member(*id));
            }
        }
        Ok(present)
    }

    /// Makes `to` the voters. False if they were.
    async fn revote(&self, reign: &Reign, to: &BTreeSet<u64>) -> Result<bool, PeerError> {
        let view = self.look(reign.leadership);
        if view.configs.len() == 1 && view.voters() == *to {
            return Ok(false);
        }
        if !target::is_valid(to.len()) {
            let reason = format!(
                "afterwards {} would vote ({}); it must be 1, 3, 5 or 7: name another member too",
                to.len(),
                list(to)
            );
            return Err(PeerError::new(R::InvalidField, reason));
        }
        if !view.may_become(to) || !self.majority_answers(reign, to).await {
            let reason = format!(
                "no majority answers before, during or after the change to {}; start those members first",
                list(to)
            );
            return Err(PeerError::new(R::WouldLoseQuorum, reason));
        }
        self.vote(reign.leadership, to, &BTreeSet::new()).await?;
        tracing::info!(voters = list(to), "the voters were changed by hand");
        Ok(true)
    }

    /// Asks the voters to be, now: what is known of them may be two leases old, and a change that meets no
    /// majority on its way stands until the dead return. The present voters have just confirmed the reign.
    async fn majority_answers(&self, reign: &Reign, to: &BTreeSet<u64>) -> bool {
        let own = self.shared.consensus.status().raft_id;
        let asked = to.iter().map(|raft_id| async move {
            match reign.published.state.member(*raft_id) {
                _ if *raft_id == own => true,
                Some(member) => self.shared.introducer.is_alive(member).await,
                None => false,
            }
        });
        let alive = join_all(asked).await.into_iter().filter(|is_alive| *is_alive).count();
        alive >= plan::quorum(to.len())
    }

    /// Buries members without a vote and takes them out of Raft.
    async fn retire(&self, reign: &Reign, leaving: &BTreeSet<u64>) -> Result<(), PeerError> {
        if leaving.is_empty() {
            return Ok(());
        }
        self.bury(reign.leadership, leaving).await?;
        self.drop_learners(leaving).await?;
        tracing::info!(removed = list(leaving), "members were removed by hand");
        Ok(())
    }

    /// Sets the number of voters to work towards; not under the operator, whose own business it is (P/N7).
    pub(super) async fn aim(
        &self,
        leadership: Leadership,
        target: impl Fn(&State, u32) -> u32,
    ) -> Result<u32, PeerError> {
        let mut last = None;
        for _ in 0..SETTING_TRIES {
            let published = self.shared.consensus.published();
            let settings = published.state.settings();
            let wanted = target(&published.state, settings.voters_target);
            if wanted == settings.voters_target || settings.owner() == MembershipOwner::Operator {
                return Ok(settings.voters_target);
            }
            let changed = ClusterSettings { voters_target: wanted, ..(**settings).clone() };
            match self.set_settings(leadership, settings.version, changed).await {
                Ok(_) => return Ok(wanted),
                Err(error) if error.reason() == R::SettingsChanged => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(unknown))
    }

    async fn set_settings(
        &self,
        leadership: Leadership,
        expected_version: u64,
        settings: ClusterSettings,
    ) -> Result<u64, PeerError> {
        let command = UpdateSettings { expected_version, settings: Some(settings) };
        match self.write(leadership, Operation::UpdateSettings(command)).await? {
            Reply::SettingsUpdated { version } => Ok(version),
            _ => Err(unknown()),
        }
    }

    /// Replaces the settings if they have this version still; the settings as they are afterwards.
    ///
    /// # Errors
    /// See `AdminService.UpdateSettings`.
    pub async fn update_settings(
        &self,
        expected_version: u64,
        settings: ClusterSettings,
        deadline: Instant,
    ) -> Result<ClusterSettings, PeerError> {
        let reign = self.reign(deadline).await?;
        let version = self.set_settings(reign.leadership, expected_version, settings.clone()).await?;
        tracing::info!(version, "the settings of the cluster were changed");
        Ok(ClusterSettings { version, ..settings })
    }
}

/// Whoever was asked for leads, or somebody else who won the election in between.
fn as_wished<'a>(
    target: Option<u64>,
    leads: Leadership,
    name: impl Fn(u64) -> &'a str,
) -> Result<Leadership, PeerError> {
    match target {
        Some(target) if target != leads.node => {
            let reason = format!(
                "{} (id {}) leads now, not {} (id {target}): ask it to hand over",
                name(leads.node),
                leads.node,
                name(target)
            );
            Err(PeerError::new(R::TransferFailed, reason).with("leader_raft_id", leads.node))
        }
        _ => Ok(leads),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_that_ends_with_another_leader_has_failed_and_says_who_leads() {
        let leads = Leadership { term: 7, node: 3 };
        let name = |id: u64| if id == 3 { "n3" } else { "n2" };
        assert_eq!(as_wished(None, leads, name), Ok(leads));
        assert_eq!(as_wished(Some(3), leads, name), Ok(leads));
        let error = as_wished(Some(2), leads, name).unwrap_err();
        assert_eq!(error.reason(), R::TransferFailed);
        assert!(error.to_string().starts_with("n3 (id 3) leads now, not n2 (id 2)"), "{error}");
    }
}
