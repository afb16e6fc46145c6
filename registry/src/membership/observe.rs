//! What the leader has seen of the members over time, and the view that the plan is made from.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use registry_proto::internal::NodeState;
use registry_state::{MembershipOwner, State};
use tokio::time::Instant;

use super::plan::{MemberView, View};
use crate::member_health::MemberReport;
use crate::raft::{Leadership, RaftStatus};

/// Entries that a member may be behind and still count as caught up.
pub(super) const CAUGHT_UP_ENTRIES: u64 = 1_000;
/// Pause after a member could not be taken up.
const REST: Duration = Duration::from_secs(2);

/// Times that no state and no log knows. They belong to one reign: a new leader counts anew, which only
/// makes it slower.
#[derive(Debug, Default)]
pub(super) struct Observations {
    leadership: Option<Leadership>,
    /// Members that are not in Raft, and since when they have been seen so.
    waiting: BTreeMap<u64, Instant>,
    /// Members that keep up, and since when.
    caught_up: BTreeMap<u64, Instant>,
    /// Members that could not be taken up, and until when they rest.
    resting: BTreeMap<u64, Instant>,
    /// How often a member of a name was given up.
    setbacks: BTreeMap<String, u32>,
}

/// What the leader sees at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight<'a> {
    /// Raft.
    pub status: &'a RaftStatus,
    /// What is applied.
    pub state: &'a State,
    /// What the probes found.
    pub reports: &'a BTreeMap<u64, MemberReport>,
    /// The lease of a leader.
    pub lease: Duration,
    /// The moment.
    pub now: Instant,
}

impl Sight<'_> {
    /// Whether a member answers at the moment: its heartbeats, and its probes if there were any.
    fn hears(&self, raft_id: u64) -> bool {
        let follower = self.status.followers.get(&raft_id).and_then(|follower| follower.last_contact);
        let by_raft = follower.is_some_and(|at| self.now.saturating_duration_since(at) <= 2 * self.lease);
        let is_well = |report: &MemberReport| {
            report.failures_in_row == 0
                && report.quarantine().is_none()
                && report.answer.as_ref().is_some_and(|answer| !answer.stopping)
        };
        by_raft && self.reports.get(&raft_id).is_none_or(is_well)
    }

    fn keeps_up(&self, raft_id: u64) -> bool {
        self.hears(raft_id) && self.status.lag(raft_id).is_some_and(|lag| lag <= CAUGHT_UP_ENTRIES)
    }
}

impl Observations {
    /// Looks at the cluster. Everything seen in another reign is forgotten.
    pub(super) fn look(&mut self, leadership: Leadership, sight: Sight<'_>) -> View {
        if self.leadership != Some(leadership) {
            *self = Self { leadership: Some(leadership), ..Self::default() };
        }
        let in_raft = &sight.status.membership.members;
        let admitted: BTreeSet<u64> = sight.state.members().map(|member| member.raft_id).collect();
        let all: BTreeSet<u64> = admitted.iter().chain(in_raft.keys()).copied().collect();
        self.forget_but(&all);
        for id in &all {
            if in_raft.contains_key(id) {
                self.waiting.remove(id);
            } else {
                self.waiting.entry(*id).or_insert(sight.now);
            }
            if *id == sight.status.raft_id || sight.keeps_up(*id) {
                self.caught_up.entry(*id).or_insert(sight.now);
            } else {
                self.caught_up.remove(id);
            }
        }
        let settings = sight.state.settings();
        View {
            own: sight.status.raft_id,
            is_autopilot: settings.owner() == MembershipOwner::Autopilot,
            voters_target: settings.voters_target as usize,
            promote_after: Duration::from_millis(settings.promote_after_ms),
            admission_timeout: Duration::from_millis(settings.admission_timeout_ms),
            configs: sight.status.membership.configs.clone(),
            is_committed: sight.status.membership.committed,
            members: all.into_iter().map(|id| (id, self.member(id, sight, &admitted))).collect(),
        }
    }

    fn member(&self, id: u64, sight: Sight<'_>, admitted: &BTreeSet<u64>) -> MemberView {
        let report = sight.reports.get(&id);
        let since = |at: Option<&Instant>| at.map(|at| sight.now.saturating_duration_since(*at));
        let in_raft = sight.status.membership.members.get(&id);
        let name = match (sight.state.member(id), in_raft) {
            (Some(member), _) => member.node_id.to_string(),
            (None, Some(member)) => member.name.clone(),
            (None, None) => String::new(),
        };
        let occupant = report.and_then(|report| report.occupant.as_ref());
        MemberView {
            is_admitted: admitted.contains(&id),
            is_in_raft: in_raft.is_some(),
            is_heard: id == sight.status.raft_id || sight.hears(id),
            is_dead: report.is_some_and(|report| report.is_dead),
            has_lost_disk: occupant.is_some_and(|occupant| {
                occupant.raft_id == id && matches!(occupant.state, NodeState::DiskLost | NodeState::Removed)
            }),
            silent_for: since(report.and_then(|report| report.failing_since.as_ref())).unwrap_or_default(),
            caught_up_for: since(self.caught_up.get(&id)),
            waiting_for: since(self.waiting.get(&id)).unwrap_or_default(),
            is_resting: self.resting.get(&id).is_some_and(|until| *until > sight.now),
            setbacks: self.setbacks.get(&name).copied().unwrap_or(0),
            name,
        }
    }

    /// For how long a member has been caught up, as this leader has seen it.
    pub(super) fn caught_up_for(&self, raft_id: u64) -> Option<Duration> {
        self.caught_up.get(&raft_id).map(Instant::elapsed)
    }

    /// Taking a member up failed.
    pub(super) fn rest(&mut self, raft_id: u64) {
        self.resting.insert(raft_id, Instant::now() + REST);
    }

    /// A member of this name was given up: the next must prove itself for longer, or a node that comes and
    /// goes would be admitted again and again.
    pub(super) fn set_back(&mut self, name: &str) {
        let count = self.setbacks.entry(name.to_owned()).or_default();
        *count = count.saturating_add(1);
        // More names than a cluster has members over its years.
        while self.setbacks.len() > 1_024 {
            self.setbacks.pop_first();
        }
    }

    fn forget_but(&mut self, members: &BTreeSet<u64>) {
        for times in [&mut self.waiting, &mut self.caught_up, &mut self.resting] {
            times.retain(|id, _| members.contains(id));
        }
    }
}
