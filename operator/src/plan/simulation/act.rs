//! What a step does to the world, and what it leaves if the operator ends in the middle of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::observed::Place;
use crate::plan::{SetShape, Step};

use super::raft::MemberOf;
use super::{Budget, Disk, DiskState, Raft, Restart, Set, World};

impl World {
    /// Takes the step; `is_cut` = the operator, or the leader that it asked, ended in the middle.
    pub(in crate::plan) fn act(&mut self, step: &Step, is_cut: bool) {
        match step {
            Step::ApplyObjects { set } => {
                self.apply_set(set);
                if !is_cut {
                    self.applied = Some(self.rendered());
                }
            }
            Step::Scale { set } => self.apply_set(set),
            Step::RecreateSet { uid, set } => {
                assert_eq!(self.set.as_ref().map(|set| &set.uid), Some(uid));
                self.set = None;
                if !is_cut {
                    self.apply_set(set);
                }
            }
            Step::RecordBootstrap { cluster_id, .. } => self.before.cluster_id = Some(cluster_id.clone()),
            Step::Initialize { cluster_id, pods } if !is_cut => self.initialize(cluster_id, pods),
            Step::Initialize { cluster_id, .. } => {
                // Places were offered to some.
                for disk in self.disks.iter_mut().take(2) {
                    disk.state = DiskState::Prepared;
                    disk.cluster_id = cluster_id.clone();
                }
            }
            Step::Admit { pod, expected, .. } => self.admit(pod, expected.index, is_cut),
            Step::Promote { raft_ids, replaced, expected, .. } => {
                assert_eq!(self.index(), expected.index);
                let to: BTreeSet<u64> =
                    self.voters().iter().copied().chain(raft_ids.iter().copied()).collect();
                self.revote(to.into_iter().filter(|id| !replaced.contains(id)).collect());
                self.retire(replaced, is_cut);
            }
            Step::Remove { raft_ids, expected, .. } => {
                assert_eq!(self.index(), expected.index);
                let to = self.voters().iter().copied().filter(|id| !raft_ids.contains(id)).collect();
                self.revote(to);
                self.retire(raft_ids, is_cut);
            }
            Step::Transfer { to, .. } => {
                let raft = self.raft.as_mut().unwrap();
                raft.leader = Some(*to);
                self.handed_over = self.now;
                raft.term += 1;
                for pod in self.pods.values_mut() {
                    pod.caught_up = Some(self.now);
                }
            }
            Step::UpdateSettings { settings, .. } => {
                self.raft.as_mut().unwrap().settings_target = settings.voters_target;
            }
            Step::RelabelPod { uid, role, .. } => {
                let pod = self.pods.values_mut().find(|pod| pod.uid == *uid);
                pod.unwrap().role = *role;
                self.count_budget(false);
            }
            Step::WriteBudget { min_available, learners } => {
                let (min, learners) = (*min_available, learners.clone());
                self.budget = Some(Budget { min, learners, counted: BTreeSet::new() });
                self.count_budget(true);
            }
            Step::DeleteBudget => self.budget = None,
            Step::DeletePod { uid, .. } => self.delete_pod(uid),
            Step::DeleteClaim { uid, .. } => {
                self.claims.values_mut().find(|claim| claim.uid == *uid).unwrap().deleting = true;
            }
            Step::GrowClaim { uid, size, .. } => {
                let claim = self.claims.values_mut().find(|claim| claim.uid == *uid);
                claim.unwrap().asked = size.parse().unwrap();
            }
        }
    }

    fn voters(&self) -> &BTreeSet<u64> {
        &self.raft.as_ref().unwrap().voters
    }

    fn index(&self) -> u64 {
        self.raft.as_ref().unwrap().index
    }

    fn apply_set(&mut self, shape: &SetShape) {
        let uid = self.set.as_ref().map(|set| set.uid.clone());
        let uid = uid.unwrap_or_else(|| self.uid());
        let restarted_at = self.set.as_ref().and_then(|set| set.restarted_at.clone());
        let volume = shape.volume_size.parse().unwrap();
        if let Some(set) = &self.set {
            assert_eq!(set.volume, volume, "the claim template of a set cannot be changed");
        }
        self.set = Some(Set {
            uid,
            replicas: shape.replicas,
            image: self.wanted.image,
            restarted_at: shape.restarted_at.clone().or(restarted_at),
            volume,
        });
    }

    fn delete_pod(&mut self, uid: &str) {
        let (ordinal, _) = self.pods.iter().find(|(_, pod)| pod.uid == uid).unwrap();
        let ordinal = *ordinal;
        let voter = self.running_voters().into_iter().find(|id| self.home(*id) == Some(ordinal));
        if let Some(voter) = voter {
            let leads = self.raft.as_ref().unwrap().leader == Some(voter);
            self.restarted.push(Restart { pod: format!("a-{ordinal}"), led: leads, at: self.now });
        }
        self.pods.get_mut(&ordinal).unwrap().deleted = Some(self.now);
        self.raft_tick();
    }

    fn initialize(&mut self, cluster_id: &str, pods: &[String]) {
        let mut offered = self.disks.iter().filter(|disk| disk.state == DiskState::Prepared);
        assert!(offered.all(|disk| disk.cluster_id == cluster_id), "places in two clusters");
        if self.raft.is_some() {
            return;
        }
        let mut members = BTreeMap::new();
        for (id, name) in (1..).zip(pods) {
            let ordinal: u32 = name.strip_prefix("a-").unwrap().parse().unwrap();
            let claim = &self.claims[&ordinal];
            let disk = &mut self.disks[claim.disk];
            *disk = Disk {
                state: DiskState::Member,
                raft_id: id,
                cluster_id: cluster_id.to_owned(),
                ..disk.clone()
            };
            members.insert(id, MemberOf { name: name.clone(), disk: disk.id.clone(), place: Place::Voter });
        }
        self.raft = Some(Raft {
            cluster_id: cluster_id.to_owned(),
            term: 0,
            leader: None,
            index: 1,
            voters: members.keys().copied().collect(),
            next_id: members.len() as u64 + 1,
            members,
            removed: BTreeSet::new(),
            settings_target: 0,
        });
    }

    fn admit(&mut self, name: &str, index: u64, is_cut: bool) {
        assert_eq!(self.index(), index);
        let ordinal: u32 = name.strip_prefix("a-").unwrap().parse().unwrap();
        assert!(self.runs(ordinal), "a node that is admitted must answer");
        let claim = self.claims[&ordinal].disk;
        let raft = self.raft.as_mut().unwrap();
        if raft.members.values().any(|member| member.disk == self.disks[claim].id)
            && self.disks[claim].state != DiskState::Lost
        {
            return;
        }
        if self.disks[claim].state != DiskState::Pristine {
            let is_free = self.disks[claim].state == DiskState::Lost
                || raft.removed.contains(&self.disks[claim].raft_id);
            assert!(is_free, "a disk that is a member's is not given another place");
            self.disks[claim] = Disk::new(format!("{}+", self.disks[claim].id));
        }
        let id = raft.next_id;
        raft.next_id += 1;
        let disk = self.disks[claim].id.clone();
        raft.members.insert(id, MemberOf { name: name.to_owned(), disk, place: Place::Admitted });
        if !is_cut {
            self.take_up(id);
        }
    }

    fn revote(&mut self, to: BTreeSet<u64>) {
        let raft = self.raft.as_mut().unwrap();
        assert!(matches!(to.len(), 1 | 3 | 5 | 7), "{to:?} would vote");
        assert!(
            raft.leader.is_some_and(|leader| to.contains(&leader)),
            "a leader that leaves hands over first"
        );
        for id in raft.voters.iter().chain(&to) {
            if let Some(member) = raft.members.get_mut(id) {
                member.place = if to.contains(id) { Place::Voter } else { Place::Learner };
            }
        }
        raft.voters = to;
        raft.index += 1;
    }

    fn retire(&mut self, ids: &[u64], is_cut: bool) {
        let raft = self.raft.as_mut().unwrap();
        for id in ids {
            if is_cut {
                // The votes are taken, the ids not buried yet.
                continue;
            }
            if let Some(member) = raft.members.get_mut(id) {
                member.place = Place::Leaving;
                raft.removed.insert(*id);
            }
        }
        raft.index += 1;
    }
}
