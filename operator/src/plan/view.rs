//! What follows from what was seen, before anything is decided: who leads, who votes, who is well.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::observed::{
    Answer, LeaderReport, MemberSeen, MembershipSeen, NodeReport, NodeState, Observed, Place, PodPhase,
    PodSeen,
};

/// Shortest time after which the word of a leader that hears no majority counts for nothing.
const FRESH: Duration = Duration::from_secs(2);

/// Age of a reign up to which its leader may not have heard of everybody.
const YOUNG: Duration = Duration::from_secs(5);

/// One look at a cluster with what follows from it.
#[derive(Debug)]
pub(super) struct View<'a> {
    /// What was seen.
    pub(super) seen: &'a Observed,
    /// The leader, if one is heard that hears a majority.
    pub(super) leader: Option<Leader<'a>>,
    /// Whose disks the pods have.
    pub(super) identity: Identity,
}

/// The leader and what it says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leader<'a> {
    /// Its pod.
    pub(super) pod: &'a PodSeen,
    /// Its report about itself.
    pub(super) node: &'a NodeReport,
    /// Its report about all.
    pub(super) report: &'a LeaderReport,
}

/// Whether the cluster exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Identity {
    /// No disk has ever been a member's. With the id that was offered or recorded, if one was.
    Unfounded(Option<String>),
    /// It exists. With its id, if anybody knows it.
    Founded(Option<String>),
    /// Disks of several clusters, and nothing that tells which is ours.
    Unclear(Vec<String>),
}

/// More than half of so many voters.
pub(super) fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// What a cluster may have: an even number of voters tolerates no more failures than one fewer.
pub(super) fn is_valid_count(voters: usize) -> bool {
    matches!(voters, 1 | 3 | 5 | 7)
}

/// What the node in a pod told, if it did.
pub(super) fn told(pod: &PodSeen) -> Option<&NodeReport> {
    match &pod.answer {
        Answer::Told(report) => Some(report),
        Answer::Silent(_) => None,
    }
}

/// Whether a disk in this state is or was a member's.
fn is_joined(state: NodeState) -> bool {
    use NodeState::{DiskLost, Learner, NotKnown, Quarantined, Removed, Voter};
    matches!(state, Learner | Voter | Removed | DiskLost | Quarantined | NotKnown)
}

impl<'a> View<'a> {
    /// Looks at what was seen.
    pub(super) fn new(seen: &'a Observed) -> Self {
        let leader = find_leader(seen);
        let identity = identity(seen, leader);
        Self { seen, leader, identity }
    }

    /// Whether disks of members exist, or existed.
    pub(super) fn is_founded(&self) -> bool {
        matches!(self.identity, Identity::Founded(_))
    }

    /// The id of the cluster, if anybody knows it.
    pub(super) fn cluster_id(&self) -> Option<&str> {
        match &self.identity {
            Identity::Founded(id) | Identity::Unfounded(id) => id.as_deref(),
            Identity::Unclear(_) => None,
        }
    }

    /// Whether the disk in this pod belongs to another cluster.
    pub(super) fn is_foreign(&self, pod: &PodSeen) -> bool {
        let Some(node) = told(pod) else { return false };
        let ours = self.cluster_id();
        node.state != NodeState::Pristine
            && !node.cluster_id.is_empty()
            && ours.is_some_and(|ours| ours != node.cluster_id)
    }

    /// The leader and its membership, if that is settled: one set of voters, committed, with the leader in it.
    pub(super) fn settled(&self) -> Option<Settled<'_>> {
        let leader = self.leader?;
        let MembershipSeen { committed, configs, .. } = &leader.report.membership;
        match configs.as_slice() {
            [voters] if *committed && voters.contains(&leader.node.raft_id) => {
                Some(Settled { view: self, leader, voters })
            }
            _ => None,
        }
    }

    /// The pods that the set shall have by its own number, that are missing or not all there.
    pub(super) fn is_outdated(&self, pod: &PodSeen) -> bool {
        let Some(set) = self.seen.own_set() else { return false };
        // A template without these words was written by somebody else: nobody has asked for a roll.
        let differs = |wanted: &Option<String>, has: &Option<String>| wanted.is_some() && wanted != has;
        differs(&set.spec_hash, &pod.spec_hash) || differs(&set.restarted_at, &pod.restarted_at)
    }
}

/// Whether nothing can be running in a pod that does not answer: its deletion takes nothing away.
pub(super) fn is_plainly_down(pod: &PodSeen) -> bool {
    let has_ended = matches!(pod.phase, PodPhase::Pending | PodPhase::Ended) || pod.waiting.is_some();
    !pod.ready && told(pod).is_none() && has_ended
}

/// A cluster whose membership is at rest, as its leader sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settled<'a> {
    /// The whole look.
    pub(super) view: &'a View<'a>,
    /// The leader.
    pub(super) leader: Leader<'a>,
    /// All voters.
    pub(super) voters: &'a BTreeSet<u64>,
}

impl<'a> Settled<'a> {
    /// A member by its id.
    pub(super) fn member(&self, raft_id: u64) -> Option<&'a MemberSeen> {
        self.leader.report.members.get(&raft_id)
    }

    /// All members that have not left.
    pub(super) fn members(&self) -> impl Iterator<Item = (u64, &'a MemberSeen)> + use<'a> {
        let all = self.leader.report.members.iter();
        all.filter(|(_, member)| member.place != Place::Leaving).map(|(id, member)| (*id, member))
    }

    /// Ordinal of a member; `None` if its name is not one of this cluster's pods.
    pub(super) fn ordinal(&self, raft_id: u64) -> Option<u32> {
        self.view.seen.ordinal_of(&self.member(raft_id)?.name)
    }

    /// The pod that has a member's name.
    pub(super) fn pod(&self, raft_id: u64) -> Option<&'a PodSeen> {
        self.view.seen.pod(self.ordinal(raft_id)?)
    }

    /// The node that answers under a member's name, if it is that member with its disk.
    fn node(&self, raft_id: u64) -> Option<&'a NodeReport> {
        let member = self.member(raft_id)?;
        told(self.pod(raft_id)?).filter(|node| node.raft_id == raft_id && node.disk_id == member.disk_id)
    }

    /// Whether the disk of a member is gone for good: another disk answers under its name, or it says so.
    pub(super) fn has_lost_disk(&self, raft_id: u64) -> bool {
        let (Some(member), Some(pod)) = (self.member(raft_id), self.pod(raft_id)) else { return false };
        let Some(node) = told(pod) else { return false };
        if node.disk_id.is_empty() || member.disk_id.is_empty() {
            return false;
        }
        node.disk_id != member.disk_id || node.state == NodeState::DiskLost
    }

    /// Whether a member takes part in decisions right now: the leader hears it and it is caught up, its pod
    /// is there to stay, and it answers the operator with its own id and disk.
    pub(super) fn is_live(&self, raft_id: u64) -> bool {
        let Some(member) = self.member(raft_id) else { return false };
        let is_well = !member.dead
            && !member.stopping
            && member.caught_up_for.is_some()
            && !matches!(
                member.state,
                Some(NodeState::DiskLost | NodeState::Removed | NodeState::Quarantined)
            );
        let has_pod = self.pod(raft_id).is_some_and(|pod| !pod.deleting && pod.name == member.name);
        let answers = self.node(raft_id).is_some_and(|node| {
            !matches!(node.state, NodeState::DiskLost | NodeState::Removed | NodeState::Quarantined)
        });
        is_well && has_pod && answers
    }

    /// Whether a member has been live and ready without a break for this long.
    pub(super) fn is_live_for(&self, raft_id: u64, time: Duration) -> bool {
        let caught_up_for = self.member(raft_id).and_then(|member| member.caught_up_for);
        let pod = self.pod(raft_id);
        self.is_live(raft_id)
            && caught_up_for.is_some_and(|for_| for_ >= time)
            && pod.is_some_and(|pod| pod.ready && pod.ready_for >= time)
    }

    /// Whether a member seems well to people: also while a new leader has not looked at it for long enough to
    /// know. Nothing is decided by this.
    pub(super) fn seems_well(&self, raft_id: u64) -> bool {
        let reign = self.member(self.leader.node.raft_id).and_then(|own| own.caught_up_for);
        let is_new = reign.is_none_or(|reign| reign < YOUNG);
        let is_dead = self.member(raft_id).is_none_or(|member| member.dead || member.stopping);
        let has_pod = self.pod(raft_id).is_some_and(|pod| !pod.deleting);
        self.is_live(raft_id) || (is_new && !is_dead && has_pod && self.node(raft_id).is_some())
    }

    /// Live ones of these.
    pub(super) fn live(&self, ids: &BTreeSet<u64>) -> usize {
        ids.iter().filter(|id| self.is_live(**id)).count()
    }

    /// The gate before everything that stops a member: a majority of the voters is live without those.
    pub(super) fn holds_without(&self, without: &BTreeSet<u64>) -> bool {
        let others: BTreeSet<u64> = self.voters.difference(without).copied().collect();
        self.live(&others) >= majority(self.voters.len())
    }

    /// Whether a majority of the voters is live, before and after a change of the voters to `to`.
    pub(super) fn may_become(&self, to: &BTreeSet<u64>) -> bool {
        let keeps = |voters: &BTreeSet<u64>| self.live(voters) >= majority(voters.len());
        is_valid_count(to.len()) && keeps(self.voters) && keeps(to)
    }

    /// Voters whose name this pod has: one, but for a moment in which somebody else changes members.
    pub(super) fn votes_of(&self, pod: &PodSeen) -> BTreeSet<u64> {
        let is_named = |id: &u64| self.member(*id).is_some_and(|member| member.name == pod.name);
        self.voters.iter().copied().filter(is_named).collect()
    }

    /// The member that answers in this pod with its own disk, with or without a vote.
    pub(super) fn member_in(&self, pod: &PodSeen) -> Option<(u64, &'a MemberSeen)> {
        let node = told(pod)?;
        self.members().find(|(_, member)| member.name == pod.name && member.disk_id == node.disk_id)
    }
}

/// The leader that counts: of the newest term, heard by a majority a moment ago.
fn find_leader(seen: &Observed) -> Option<Leader<'_>> {
    let fresh = FRESH.max(2 * seen.spec.election_timeout);
    let leaders = seen.pods.iter().filter(|pod| !pod.deleting).filter_map(|pod| {
        let node = told(pod).filter(|node| !matches!(node.state, NodeState::Quarantined))?;
        let report = node.leading.as_ref()?;
        // A single voter needs to hear nobody.
        let is_alone = matches!(report.membership.configs.as_slice(), [voters] if voters.len() == 1);
        let is_fresh = is_alone || report.quorum_age.is_some_and(|age| age <= fresh);
        let is_ours = seen.before.cluster_id.as_ref().is_none_or(|ours| *ours == node.cluster_id);
        (is_fresh && is_ours).then_some(Leader { pod, node, report })
    });
    leaders.max_by_key(|leader| leader.node.term)
}

fn identity(seen: &Observed, leader: Option<Leader<'_>>) -> Identity {
    let recorded = seen.before.cluster_id.clone();
    if let Some(leader) = leader {
        return Identity::Founded(Some(leader.node.cluster_id.clone()));
    }
    let nodes = || seen.pods.iter().filter_map(told);
    let ids = |joined: bool| -> BTreeSet<&str> {
        let disks = nodes().filter(|node| node.state != NodeState::Pristine);
        let of_kind = disks.filter(|node| is_joined(node.state) == joined);
        of_kind.map(|node| node.cluster_id.as_str()).filter(|id| !id.is_empty()).collect()
    };
    let unclear = |ids: BTreeSet<&str>| Identity::Unclear(ids.into_iter().map(str::to_owned).collect());
    let one = |ids: &BTreeSet<&str>| ids.first().map(|id| (*id).to_owned());
    if nodes().any(|node| is_joined(node.state)) || seen.before.bootstrapped {
        let known = ids(true);
        return match recorded {
            Some(recorded) => Identity::Founded(Some(recorded)),
            None if known.len() > 1 => unclear(known),
            None => Identity::Founded(one(&known)),
        };
    }
    let offered = ids(false);
    match recorded {
        Some(recorded) => Identity::Unfounded(Some(recorded)),
        None if offered.len() > 1 => unclear(offered),
        None => Identity::Unfounded(one(&offered)),
    }
}
