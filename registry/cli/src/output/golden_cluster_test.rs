//! The status of clusters, compared with files in `tests/golden` as in `golden_test`.

use registry_proto::v1;

use super::golden_test::{check_all, counts, header, millis, seconds};
use super::view::Members;

fn member(number: u64) -> v1::Member {
    v1::Member {
        node_id: format!("registry-node-{number}"),
        raft_id: number,
        client_endpoint: format!("127.0.0.1:{}", 8079 + number),
        peer_endpoint: format!("127.0.0.1:{}", 9079 + number),
        role: v1::NodeRole::Follower.into(),
        kind: v1::MemberKind::Voter.into(),
        health: v1::MemberHealth::Healthy.into(),
        lag_entries: Some(0),
        last_contact: millis(35),
        applied_index: Some(108),
        version: "0.1.0".into(),
        ..Default::default()
    }
}

pub(super) fn status() -> v1::ClusterStatusResponse {
    let leader = v1::Member { role: v1::NodeRole::Leader.into(), last_contact: seconds(0), ..member(1) };
    let dead = v1::Member {
        role: v1::NodeRole::Unspecified.into(),
        health: v1::MemberHealth::Dead.into(),
        lag_entries: None,
        last_contact: seconds(400),
        applied_index: None,
        version: String::new(),
        detail: "not heard for 6 min; start it, or replace it".into(),
        ..member(3)
    };
    v1::ClusterStatusResponse {
        header: Some(header()),
        source: v1::StatusSource::Leader.into(),
        cluster_id: "6ba7b810-9dad-11d1-80b4-00c04fd430c8".into(),
        leader_id: "registry-node-1".into(),
        term: 3,
        members: vec![leader, member(2), dead],
        quorum: Some(v1::QuorumStatus { available: true, voters: 3, needed: 2, reachable: 2 }),
        revision: 42,
        epoch: 12_345_678_901_234_567_890,
        service_count: 2,
        instances: Some(counts()),
        lease_count: 3,
        watch_count: 1,
        voter_sets: vec![v1::VoterSet { raft_ids: vec![1, 2, 3] }],
    }
}

#[test]
fn the_status_looks_as_agreed() {
    check_all("status", &status());
}

#[test]
fn the_status_of_a_cluster_that_changes_looks_as_agreed() {
    let joining = v1::Member {
        role: v1::NodeRole::Learner.into(),
        kind: v1::MemberKind::Joining.into(),
        health: v1::MemberHealth::Lagging.into(),
        lag_entries: None,
        detail: "it is being admitted".into(),
        ..member(5)
    };
    let learner = v1::Member {
        role: v1::NodeRole::Learner.into(),
        kind: v1::MemberKind::Learner.into(),
        health: v1::MemberHealth::Lagging.into(),
        lag_entries: Some(20_000),
        snapshot_percent: Some(40),
        detail: "it receives a snapshot: 40 % are there".into(),
        ..member(4)
    };
    let wrong = v1::Member {
        state_differs: true,
        stopping: true,
        detail: "its state differs from the leader's after the same log: report this, and replace its disk"
            .into(),
        ..member(2)
    };
    let lost = v1::Member {
        health: v1::MemberHealth::Quarantined.into(),
        role: v1::NodeRole::Unspecified.into(),
        detail: "the log is gone".into(),
        ..member(3)
    };
    let leader = v1::Member { role: v1::NodeRole::Leader.into(), last_contact: seconds(0), ..member(1) };
    let set = |raft_ids: &[u64]| v1::VoterSet { raft_ids: raft_ids.to_vec() };
    let changing = v1::ClusterStatusResponse {
        members: vec![leader, wrong, lost, learner, joining],
        voter_sets: vec![set(&[1, 2, 3]), set(&[1, 2, 4])],
        ..status()
    };
    check_all("status-changing", &changing);
}

#[test]
fn the_status_of_a_cut_off_node_looks_as_agreed() {
    let unknown = v1::Member {
        role: v1::NodeRole::Unspecified.into(),
        health: v1::MemberHealth::Unreachable.into(),
        lag_entries: None,
        last_contact: None,
        applied_index: None,
        ..member(2)
    };
    let alone = v1::ClusterStatusResponse {
        source: v1::StatusSource::Node.into(),
        leader_id: String::new(),
        members: vec![unknown, v1::Member { last_contact: seconds(0), ..member(3) }],
        quorum: Some(v1::QuorumStatus { available: false, voters: 3, needed: 2, reachable: 1 }),
        ..status()
    };
    check_all("status-cut-off", &alone);
    check_all("members-cut-off", &Members(alone));
}

#[test]
fn the_status_before_founding_looks_as_agreed() {
    let unfounded = v1::ClusterStatusResponse {
        header: Some(v1::ResponseHeader { node_id: "registry-node-1".into(), ..Default::default() }),
        source: v1::StatusSource::Node.into(),
        members: vec![v1::Member { node_id: "registry-node-1".into(), ..Default::default() }],
        ..Default::default()
    };
    check_all("status-unfounded", &unfounded);
}

#[test]
fn members_look_as_agreed() {
    check_all("members", &Members(status()));
}
