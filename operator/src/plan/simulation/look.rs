//! What the operator sees of the world.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use registry_proto::internal::ClusterSettings;

use crate::observed::{
    Answer, BudgetSeen, ClaimSeen, HostHealth, LeaderReport, LogId, MemberSeen, MembershipSeen, NodeReport,
    NodeState, ObjectSeen, Observed, PodPhase, PodSeen, Presence, SetSeen, SettingsSeen, Volume, Waiting,
    Wish,
};

use super::{DiskState, Image, Pod, Raft, SETTLE, World};

impl World {
    /// Everything that the operator can find out.
    pub(in crate::plan) fn look(&self) -> Observed {
        let seconds = i64::try_from(1_000_000 + self.now).unwrap();
        Observed {
            now: Timestamp::from_second(seconds).unwrap(),
            spec: self.wish(),
            set: self.set.as_ref().map_or(Presence::Absent, |set| {
                Presence::Ours(SetSeen {
                    uid: set.uid.clone(),
                    replicas: set.replicas,
                    update_revision: Some(format!("{:?}{:?}", set.image, set.restarted_at)),
                    spec_hash: Some(format!("{:?}", set.image)),
                    restarted_at: set.restarted_at.clone(),
                    volume_bytes: set.volume,
                    volume_size: set.volume.to_string(),
                })
            }),
            pods: self.pods.iter().map(|(ordinal, pod)| self.pod_seen(*ordinal, pod)).collect(),
            claims: self.claims_seen(),
            budget: self.budget.as_ref().map_or_else(BudgetSeen::default, |budget| BudgetSeen {
                is_ours: true,
                min_available: Some(budget.min),
                learners: Some(budget.learners.clone()),
                ..BudgetSeen::default()
            }),
            objects: vec![ObjectSeen {
                label: "ConfigMap a-config".into(),
                presence: match &self.applied {
                    None => Presence::Absent,
                    Some(applied) => Presence::Ours(*applied == self.rendered()),
                },
            }],
            failed_creates: Vec::new(),
            before: self.before.clone(),
            new_cluster_id: format!("cluster-{}", self.now),
        }
    }

    /// What the objects are rendered from.
    pub(in crate::plan) fn rendered(&self) -> (u32, String) {
        (self.wanted.replicas, format!("{:?}", self.wanted.image))
    }

    fn wish(&self) -> Wish {
        Wish {
            generation: 1,
            name: "a".into(),
            invalid: None,
            deleting: false,
            paused: self.wanted.paused,
            replicas: self.wanted.replicas,
            volume_bytes: self.wanted.volume,
            volume_size: self.wanted.volume.to_string(),
            deletes_claims: self.wanted.deletes_claims,
            wants_budget: true,
            settle: Duration::from_secs(SETTLE),
            progress_deadline: Duration::from_secs(600),
            election_timeout: Duration::from_millis(300),
            newer_default_image: false,
        }
    }

    fn pod_seen(&self, ordinal: u32, pod: &Pod) -> PodSeen {
        let runs = self.runs(ordinal);
        let has_volume = self.claims.get(&ordinal).is_some_and(|claim| !claim.lost);
        let is_mute = matches!(pod.image, Image::Mute(_)) && has_volume;
        let is_dead = self.dead_hosts.contains(&ordinal);
        let is_pending =
            !has_volume || matches!(pod.image, Image::Absent(_)) || (!runs && !is_mute && !is_dead);
        let waiting = (has_volume && matches!(pod.image, Image::Absent(_)))
            .then(|| Waiting { reason: "ImagePullBackOff".into(), message: String::new() });
        PodSeen {
            name: format!("a-{ordinal}"),
            ordinal,
            uid: pod.uid.clone(),
            deleting: pod.deleted.is_some(),
            phase: if is_pending && pod.deleted.is_none() { PodPhase::Pending } else { PodPhase::Running },
            ready: self.is_ready(pod) && !is_dead,
            ready_for: Duration::from_secs(pod.ready.map_or(0, |at| self.now - at)),
            host: has_volume.then(|| format!("h{ordinal}")),
            host_health: if is_dead { HostHealth::Unreachable } else { HostHealth::Ready },
            role: Some(pod.role),
            revision: Some(format!("{:?}{:?}", pod.image, pod.restarted_at)),
            spec_hash: Some(format!("{:?}", pod.image)),
            restarted_at: pod.restarted_at.clone(),
            waiting,
            unschedulable: (!has_volume).then(|| "volume node affinity".into()),
            restarts: 0,
            age: Duration::from_secs(self.now - pod.created),
            disruption: None,
            answer: if runs { self.answer(ordinal) } else { Answer::Silent("refused".into()) },
        }
    }

    fn answer(&self, ordinal: u32) -> Answer {
        let Some(disk) = self.disk(ordinal) else { return Answer::Silent("no disk".into()) };
        let is_removed = self.raft.as_ref().is_some_and(|raft| raft.removed.contains(&disk.raft_id));
        let is_voter = self.raft.as_ref().is_some_and(|raft| raft.voters.contains(&disk.raft_id));
        let state = match disk.state {
            DiskState::Pristine => NodeState::Pristine,
            DiskState::Prepared => NodeState::Prepared,
            DiskState::Lost => NodeState::DiskLost,
            DiskState::Member if is_removed => NodeState::Removed,
            DiskState::Member if is_voter => NodeState::Voter,
            DiskState::Member => NodeState::Learner,
        };
        let leads = |raft: &&Raft| raft.leader.is_some() && raft.leader == Some(disk.raft_id);
        let members = self.raft.iter().flat_map(|raft| raft.members.values());
        Answer::Told(Box::new(NodeReport {
            state,
            cluster_id: disk.cluster_id.clone(),
            raft_id: disk.raft_id,
            disk_id: disk.id.clone(),
            ready: self.pods[&ordinal].ready.is_some(),
            not_ready_because: String::new(),
            version: "0.1.0".into(),
            term: self.raft.as_ref().map_or(0, |raft| raft.term),
            leader_raft_id: self.raft.as_ref().and_then(|raft| raft.leader).unwrap_or(0),
            leader_contact: self.raft.as_ref().and_then(|raft| raft.leader).map(|_| Duration::ZERO),
            known_members: match disk.state {
                DiskState::Member => members.map(|member| member.name.clone()).collect(),
                _ => Vec::new(),
            },
            disk_full: false,
            leading: self.raft.as_ref().filter(leads).map(|raft| self.leader_report(raft)),
        }))
    }

    fn leader_report(&self, raft: &Raft) -> LeaderReport {
        let settings = |voters_target| ClusterSettings {
            version: 1,
            membership_owner: 2,
            voters_target,
            ..ClusterSettings::default()
        };
        LeaderReport {
            quorum_age: Some(Duration::from_millis(20)),
            membership: MembershipSeen {
                log_id: LogId { term: raft.term, raft_id: 1, index: raft.index },
                committed: true,
                configs: vec![raft.voters.clone()],
            },
            members: raft.members.keys().map(|id| (*id, self.member_seen(raft, *id))).collect(),
            settings: Some(SettingsSeen {
                now: settings(raft.settings_target),
                wanted: settings(self.wanted.replicas),
            }),
            busy_with: String::new(),
            trouble: String::new(),
        }
    }

    fn member_seen(&self, raft: &Raft, id: u64) -> MemberSeen {
        let member = &raft.members[&id];
        let home = self.home(id);
        let caught_up = home.and_then(|ordinal| self.pods[&ordinal].caught_up);
        let is_voter = raft.voters.contains(&id);
        MemberSeen {
            name: member.name.clone(),
            disk_id: member.disk.clone(),
            place: if is_voter { crate::observed::Place::Voter } else { member.place },
            state: home.map(|_| if is_voter { NodeState::Voter } else { NodeState::Learner }),
            dead: false,
            stopping: false,
            last_answer: home.map(|_| Duration::ZERO),
            lag_entries: home.map(|_| 0),
            caught_up_for: caught_up.map(|at| Duration::from_secs(self.now - at)),
            version: "0.1.0".into(),
        }
    }

    fn claims_seen(&self) -> Vec<ClaimSeen> {
        let claims: &BTreeMap<u32, _> = &self.claims;
        let seen = claims.iter().map(|(ordinal, claim)| ClaimSeen {
            name: format!("data-a-{ordinal}"),
            ordinal: *ordinal,
            uid: claim.uid.clone(),
            deleting: claim.deleting,
            volume: if claim.lost { Volume::Lost } else { Volume::Bound },
            asked_bytes: claim.asked,
            actual_bytes: claim.actual,
            can_grow: Some(self.can_grow),
            resize_trouble: None,
        });
        seen.collect()
    }
}
