//! What Kubernetes does by itself: the StatefulSet controller, kubelets, claims, the budget's controller.

use std::collections::BTreeSet;

use crate::observed::Role;

use super::{Disk, DiskState, Image, World};

/// Seconds from the creation of a pod until its container runs.
const START: u64 = 2;

#[derive(Debug, Clone, PartialEq)]
pub(in crate::plan) struct Set {
    pub(in crate::plan) uid: String,
    pub(in crate::plan) replicas: u32,
    pub(in crate::plan) image: Image,
    pub(in crate::plan) restarted_at: Option<String>,
    pub(in crate::plan) volume: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(in crate::plan) struct Pod {
    pub(in crate::plan) uid: String,
    pub(in crate::plan) image: Image,
    pub(in crate::plan) restarted_at: Option<String>,
    pub(in crate::plan) role: Role,
    pub(in crate::plan) created: u64,
    /// When its deletion was asked for.
    pub(in crate::plan) deleted: Option<u64>,
    /// Since when its member has been caught up.
    pub(in crate::plan) caught_up: Option<u64>,
    /// Since when it has been ready.
    pub(in crate::plan) ready: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(in crate::plan) struct Claim {
    pub(in crate::plan) uid: String,
    /// Index of its disk.
    pub(in crate::plan) disk: usize,
    pub(in crate::plan) deleting: bool,
    pub(in crate::plan) asked: u64,
    pub(in crate::plan) actual: u64,
    /// The volume is gone.
    pub(in crate::plan) lost: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(in crate::plan) struct Budget {
    pub(in crate::plan) min: u32,
    pub(in crate::plan) learners: String,
    /// Pods that its controller believes to be in the selector: those relabelled out stay until it looks.
    pub(in crate::plan) counted: BTreeSet<String>,
}

impl World {
    /// A second passes.
    pub(in crate::plan) fn tick(&mut self) {
        self.now += 1;
        self.end_pods();
        self.collect_claims();
        self.make_pods();
        self.raft_tick();
        self.probe();
        self.count_budget(false);
    }

    fn end_pods(&mut self) {
        let dead = self.dead_hosts.clone();
        // A dead node ends nothing.
        let has_ended = |ordinal: &u32, pod: &Pod, now: u64| {
            pod.deleted.is_some_and(|at| now > at) && !dead.contains(ordinal)
        };
        let now = self.now;
        self.pods.retain(|ordinal, pod| !has_ended(ordinal, pod, now));
        let Some(set) = &self.set else { return };
        let replicas = set.replicas;
        for (ordinal, pod) in &mut self.pods {
            if *ordinal >= replicas && pod.deleted.is_none() {
                pod.deleted = Some(now);
            }
        }
    }

    fn collect_claims(&mut self) {
        let pods: BTreeSet<u32> = self.pods.keys().copied().collect();
        let gone = |ordinal: &u32, claim: &Claim| claim.deleting && !pods.contains(ordinal);
        for (ordinal, claim) in &self.claims {
            if gone(ordinal, claim) {
                self.disks[claim.disk].is_gone = true;
            }
        }
        self.claims.retain(|ordinal, claim| !gone(ordinal, claim));
        for claim in self.claims.values_mut() {
            claim.actual = claim.actual.max(claim.asked);
        }
    }

    fn make_pods(&mut self) {
        let Some(set) = self.set.clone() else { return };
        for ordinal in 0..set.replicas {
            if self.pods.contains_key(&ordinal) || self.claims.get(&ordinal).is_some_and(|it| it.deleting) {
                continue;
            }
            if !self.claims.contains_key(&ordinal) {
                let uid = self.uid();
                self.disks.push(Disk::new(format!("d{}", self.disks.len())));
                let disk = self.disks.len() - 1;
                let claim =
                    Claim { uid, disk, deleting: false, asked: set.volume, actual: set.volume, lost: false };
                self.claims.insert(ordinal, claim);
            }
            let pod = Pod {
                uid: self.uid(),
                image: set.image,
                restarted_at: set.restarted_at.clone(),
                role: Role::Voter,
                created: self.now,
                deleted: None,
                caught_up: None,
                ready: None,
            };
            self.pods.insert(ordinal, pod);
        }
    }

    /// Whether a process runs in the pod, with a disk.
    pub(in crate::plan) fn runs(&self, ordinal: u32) -> bool {
        let Some(pod) = self.pods.get(&ordinal) else { return false };
        let has_disk = self.claims.get(&ordinal).is_some_and(|claim| !claim.lost);
        matches!(pod.image, Image::Good(_))
            && pod.deleted.is_none()
            && !self.dead_hosts.contains(&ordinal)
            && has_disk
            && self.now >= pod.created + START
    }

    /// The disk of an ordinal.
    pub(in crate::plan) fn disk(&self, ordinal: u32) -> Option<&Disk> {
        self.claims.get(&ordinal).map(|claim| &self.disks[claim.disk])
    }

    fn probe(&mut self) {
        let ordinals: Vec<u32> = self.pods.keys().copied().collect();
        for ordinal in ordinals {
            let is_ready = self.runs(ordinal)
                && self.disk(ordinal).is_some_and(|disk| disk.state == DiskState::Member)
                && self.pods[&ordinal].caught_up.is_some();
            let now = self.now;
            if let Some(pod) = self.pods.get_mut(&ordinal) {
                // Readiness is not lost with the leader (P/N11).
                pod.ready = match (is_ready, pod.ready) {
                    (true, None) => Some(now),
                    (false, Some(at)) if self.raft.as_ref().is_some_and(|raft| raft.leader.is_none()) => {
                        Some(at)
                    }
                    (true, Some(at)) => Some(at),
                    (false, _) => None,
                };
            }
        }
    }

    /// Whether a pod is ready.
    pub(in crate::plan) fn is_ready(&self, pod: &Pod) -> bool {
        pod.ready.is_some() && pod.deleted.is_none()
    }

    /// What the budget's controller sees. It notices pods that come into the selector, not those that leave it.
    pub(in crate::plan) fn count_budget(&mut self, was_written: bool) {
        let voters = self.pods.values().filter(|pod| pod.role == Role::Voter);
        let labelled: BTreeSet<String> = voters.map(|pod| pod.uid.clone()).collect();
        let alive: BTreeSet<String> = self.pods.values().map(|pod| pod.uid.clone()).collect();
        if let Some(budget) = &mut self.budget {
            if was_written {
                budget.counted.clear();
            }
            budget.counted.extend(labelled);
            budget.counted.retain(|uid| alive.contains(uid));
        }
    }
}
