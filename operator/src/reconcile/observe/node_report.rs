//! What a node told, from the words of the wire into those of the plan. Pure.

use std::time::Duration;

use registry_proto::internal as api;

use crate::observed::{
    LeaderReport, LogId, MemberSeen, MembershipSeen, NodeReport, NodeState, Place, SettingsSeen,
};

/// The report of a node; `settings` only if it leads and they could be read.
pub(super) fn of(status: &api::StatusResponse, settings: Option<SettingsSeen>) -> NodeReport {
    let identity = status.identity.clone().unwrap_or_default();
    let raft = status.raft.unwrap_or_default();
    NodeReport {
        state: state(status.state()),
        cluster_id: identity.cluster_id,
        raft_id: identity.raft_id,
        disk_id: identity.disk_id,
        ready: status.ready,
        not_ready_because: status.not_ready_because.clone(),
        version: status.compatibility.as_ref().map(|it| it.version.clone()).unwrap_or_default(),
        term: raft.vote.map(|vote| vote.term).unwrap_or_default(),
        leader_raft_id: raft.leader_raft_id,
        leader_contact: duration(raft.quorum_age.as_ref().or(raft.leader_contact.as_ref())),
        known_members: status
            .membership
            .iter()
            .flat_map(|view| view.membership.iter().flat_map(|membership| &membership.members))
            .map(|member| member.node_id.clone())
            .collect(),
        disk_full: status.storage.as_ref().is_some_and(|storage| storage.full),
        leading: leads(status).then(|| leader_report(status, settings)),
    }
}

/// Whether the node takes itself for the leader: only then it tells of the others.
pub(super) fn leads(status: &api::StatusResponse) -> bool {
    let own = status.identity.as_ref().map(|identity| identity.raft_id).unwrap_or_default();
    let leader = status.raft.as_ref().map(|raft| raft.leader_raft_id).unwrap_or_default();
    own != 0 && own == leader && !status.members.is_empty()
}

fn leader_report(status: &api::StatusResponse, settings: Option<SettingsSeen>) -> LeaderReport {
    LeaderReport {
        quorum_age: status.raft.as_ref().and_then(|raft| duration(raft.quorum_age.as_ref())),
        membership: status.membership.as_ref().map(membership).unwrap_or_default(),
        members: status
            .members
            .iter()
            .filter_map(|seen| Some((seen.identity.as_ref()?.raft_id, member(seen)?)))
            .collect(),
        settings,
        busy_with: status.membership_step.clone(),
        trouble: status.membership_trouble.clone(),
    }
}

fn membership(view: &api::MembershipView) -> MembershipSeen {
    let configs = view.membership.as_ref().map(|membership| membership.configs.as_slice());
    MembershipSeen {
        log_id: view.log_id.as_ref().map(log_id).unwrap_or_default(),
        committed: view.committed,
        configs: configs
            .unwrap_or_default()
            .iter()
            .map(|set| set.raft_ids.iter().copied().collect())
            .collect(),
    }
}

fn log_id(id: &api::LogId) -> LogId {
    LogId { term: id.term, raft_id: id.raft_id, index: id.index }
}

/// `None` for a place that this operator does not know: its member counts for nothing then.
fn member(seen: &api::MemberStatus) -> Option<MemberSeen> {
    let identity = seen.identity.clone()?;
    Some(MemberSeen {
        name: identity.node_id,
        disk_id: identity.disk_id,
        place: match seen.place() {
            api::MemberPlace::Admitted => Place::Admitted,
            api::MemberPlace::Learner => Place::Learner,
            api::MemberPlace::Voter => Place::Voter,
            api::MemberPlace::Leaving => Place::Leaving,
            api::MemberPlace::Unspecified => return None,
        },
        state: (seen.state != 0).then(|| state(seen.state())),
        dead: seen.dead,
        stopping: seen.stopping,
        last_answer: duration(seen.last_answer.as_ref()),
        lag_entries: seen.lag_entries,
        caught_up_for: duration(seen.caught_up_for.as_ref()),
        version: seen.version.clone(),
    })
}

fn state(state: api::NodeState) -> NodeState {
    match state {
        api::NodeState::Unspecified => NodeState::NotKnown,
        api::NodeState::Pristine => NodeState::Pristine,
        api::NodeState::Prepared => NodeState::Prepared,
        api::NodeState::Adopted => NodeState::Adopted,
        api::NodeState::Learner => NodeState::Learner,
        api::NodeState::Voter => NodeState::Voter,
        api::NodeState::Removed => NodeState::Removed,
        api::NodeState::DiskLost => NodeState::DiskLost,
        api::NodeState::Quarantined => NodeState::Quarantined,
    }
}

/// A negative one counts as zero: the node measured it, and clocks of one machine do not go back.
fn duration(wire: Option<&prost_types::Duration>) -> Option<Duration> {
    wire.map(|wire| Duration::try_from(*wire).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn identity(name: &str, raft_id: u64) -> Option<api::NodeIdentity> {
        Some(api::NodeIdentity { node_id: name.to_owned(), raft_id, ..Default::default() })
    }

    fn member(name: &str, raft_id: u64) -> api::MemberStatus {
        api::MemberStatus {
            identity: identity(name, raft_id),
            place: api::MemberPlace::Voter as i32,
            state: api::NodeState::Voter as i32,
            last_answer: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
            ..Default::default()
        }
    }

    fn status(leader: u64) -> api::StatusResponse {
        api::StatusResponse {
            identity: identity("demo-0", 1),
            state: api::NodeState::Voter as i32,
            raft: Some(api::RaftStatus { leader_raft_id: leader, ..Default::default() }),
            membership: Some(api::MembershipView {
                log_id: Some(api::LogId { term: 2, raft_id: 1, index: 9 }),
                committed: true,
                membership: Some(api::Membership {
                    configs: vec![api::VoterSet { raft_ids: vec![1, 2] }],
                    ..Default::default()
                }),
            }),
            members: vec![member("demo-0", 1), member("demo-1", 2)],
            ..Default::default()
        }
    }

    #[test]
    fn only_who_leads_tells_of_the_others() {
        assert!(of(&status(2), None).leading.is_none());
        assert!(of(&status(0), None).leading.is_none());
        let report = of(&status(1), None).leading.unwrap();
        assert_eq!(report.membership.log_id, LogId { term: 2, raft_id: 1, index: 9 });
        assert_eq!(report.membership.configs, [BTreeSet::from([1, 2])]);
        assert_eq!(report.members[&2].name, "demo-1");
        assert_eq!(report.members[&2].last_answer, Some(Duration::from_millis(1500)));
        assert_eq!(report.members[&2].caught_up_for, None);
    }

    #[test]
    fn a_place_or_state_of_a_newer_node_is_not_guessed() {
        let mut status = status(1);
        status.members[1].place = 99;
        status.state = 99;
        let report = of(&status, None);
        assert_eq!(report.state, NodeState::NotKnown);
        assert_eq!(report.leading.unwrap().members.len(), 1);
    }

    #[test]
    fn a_member_that_has_not_answered_yet_has_no_state() {
        let mut status = status(1);
        status.members[1].state = 0;
        assert_eq!(of(&status, None).leading.unwrap().members[&2].state, None);
    }
}
