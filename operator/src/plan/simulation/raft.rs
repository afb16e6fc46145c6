//! What the registry does by itself: elections, catching up, and the leader's own housekeeping.

use std::collections::{BTreeMap, BTreeSet};

use crate::observed::Place;

use super::World;

/// Seconds until a member that runs has caught up.
const CATCH_UP: u64 = 1;

#[derive(Debug, Clone, PartialEq)]
pub(in crate::plan) struct Disk {
    pub(in crate::plan) id: String,
    pub(in crate::plan) state: DiskState,
    pub(in crate::plan) raft_id: u64,
    pub(in crate::plan) cluster_id: String,
    /// The volume was deleted.
    pub(in crate::plan) is_gone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::plan) enum DiskState {
    Pristine,
    /// A place was offered.
    Prepared,
    Member,
    /// Identity without a log.
    Lost,
}

impl Disk {
    pub(in crate::plan) fn new(id: String) -> Self {
        Self { id, state: DiskState::Pristine, raft_id: 0, cluster_id: String::new(), is_gone: false }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(in crate::plan) struct Raft {
    pub(in crate::plan) cluster_id: String,
    pub(in crate::plan) term: u64,
    pub(in crate::plan) leader: Option<u64>,
    /// Entry of the membership.
    pub(in crate::plan) index: u64,
    pub(in crate::plan) voters: BTreeSet<u64>,
    pub(in crate::plan) members: BTreeMap<u64, MemberOf>,
    pub(in crate::plan) removed: BTreeSet<u64>,
    pub(in crate::plan) next_id: u64,
    pub(in crate::plan) settings_target: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub(in crate::plan) struct MemberOf {
    pub(in crate::plan) name: String,
    pub(in crate::plan) disk: String,
    pub(in crate::plan) place: Place,
}

impl World {
    /// Ordinal of the pod in which a member runs now with its disk.
    pub(in crate::plan) fn home(&self, raft_id: u64) -> Option<u32> {
        let raft = self.raft.as_ref()?;
        let member = raft.members.get(&raft_id)?;
        let ordinal: u32 = member.name.strip_prefix("a-")?.parse().ok()?;
        let disk = self.disk(ordinal)?;
        let is_it = disk.id == member.disk && disk.raft_id == raft_id && disk.state == DiskState::Member;
        (is_it && self.runs(ordinal)).then_some(ordinal)
    }

    /// Voters whose process runs with its disk.
    pub(in crate::plan) fn running_voters(&self) -> BTreeSet<u64> {
        let voters = self.raft.iter().flat_map(|raft| raft.voters.iter().copied());
        voters.filter(|id| self.home(*id).is_some()).collect()
    }

    /// Voters that run and are caught up.
    pub(in crate::plan) fn live_voters(&self) -> BTreeSet<u64> {
        let is_caught_up =
            |id: &u64| self.home(*id).is_some_and(|ordinal| self.pods[&ordinal].caught_up.is_some());
        self.running_voters().into_iter().filter(is_caught_up).collect()
    }

    /// Elections, catching up, and what the leader does under every owner.
    pub(in crate::plan) fn raft_tick(&mut self) {
        let running = self.running_voters();
        let live = self.live_voters();
        let Some(raft) = &mut self.raft else { return };
        let majority = raft.voters.len() / 2 + 1;
        let keeps = raft.leader.is_some_and(|leader| running.contains(&leader)) && running.len() >= majority;
        if !keeps {
            raft.leader = None;
            if running.len() >= majority {
                // The committed entries are on a majority: one that was caught up wins.
                raft.leader = live.iter().chain(&running).copied().next();
                raft.term += 1;
                for pod in self.pods.values_mut() {
                    pod.caught_up = None;
                }
            }
        }
        self.tidy_members();
        self.catch_up();
    }

    /// The leader takes up those that have an id, and drops those that are leaving.
    fn tidy_members(&mut self) {
        let Some(raft) = self.raft.as_mut().filter(|raft| raft.leader.is_some()) else { return };
        let leaving: Vec<u64> =
            raft.members.iter().filter(|(_, it)| it.place == Place::Leaving).map(|(id, _)| *id).collect();
        for id in leaving {
            raft.members.remove(&id);
            raft.removed.insert(id);
            raft.index += 1;
        }
        let admitted: Vec<u64> =
            raft.members.iter().filter(|(_, it)| it.place == Place::Admitted).map(|(id, _)| *id).collect();
        for id in admitted {
            self.take_up(id);
        }
    }

    /// Gives a disk its identity and makes it a learner.
    pub(in crate::plan) fn take_up(&mut self, id: u64) {
        let Some(raft) = &mut self.raft else { return };
        let cluster_id = raft.cluster_id.clone();
        let Some(member) = raft.members.get_mut(&id) else { return };
        let Some(disk) = self.disks.iter_mut().find(|disk| disk.id == member.disk && !disk.is_gone) else {
            return;
        };
        *disk = Disk { state: DiskState::Member, raft_id: id, cluster_id, ..disk.clone() };
        member.place = Place::Learner;
        raft.index += 1;
    }

    fn catch_up(&mut self) {
        let Some(raft) = self.raft.clone() else { return };
        let homes: BTreeSet<u32> = raft.members.keys().filter_map(|id| self.home(*id)).collect();
        let now = self.now;
        for (ordinal, pod) in &mut self.pods {
            let may = raft.leader.is_some() && homes.contains(ordinal) && now >= pod.created + CATCH_UP;
            pod.caught_up = if may { pod.caught_up.or(Some(now)) } else { None };
        }
    }
}
