use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;
use crate::member_health::MemberAnswer;
use crate::raft::{Follower, Leadership, LogPosition, Member, Membership, Vote};

const LEASE: Duration = Duration::from_millis(300);

fn position(index: u64) -> Option<LogPosition> {
    Some(LogPosition { leadership: Leadership { term: 3, node: 1 }, index })
}

/// Node 1 leads in term 3; 2 and 3 follow, heard so long ago and matched so far.
fn leader(now: Instant, followers: &[(u64, Duration, u64)]) -> RaftStatus {
    let member = |id: u64| (id, Member { name: format!("node-{id}"), ..Member::default() });
    let membership = Membership {
        configs: vec![BTreeSet::from([1, 2, 3])],
        members: [1, 2, 3].into_iter().map(member).collect(),
        ..Membership::default()
    };
    let followers: BTreeMap<u64, Follower> = followers
        .iter()
        .map(|(id, ago, matched)| {
            (
                *id,
                Follower {
                    matched: position(*matched),
                    last_contact: now.checked_sub(*ago),
                    ..Follower::default()
                },
            )
        })
        .collect();
    RaftStatus {
        raft_id: 1,
        role: Role::Leader,
        term: 3,
        vote: Vote { leadership: Leadership { term: 3, node: 1 }, committed: true },
        leader: Some(1),
        leader_contact: None,
        membership: Arc::new(membership),
        last_log_index: Some(20_000),
        committed: position(20_000),
        applied: position(20_000),
        snapshot: None,
        purged: None,
        last_quorum_acked: Some(now),
        followers: Arc::new(followers),
        failed: None,
    }
}

fn status(raft: &RaftStatus, now: Instant) -> v1::ClusterStatusResponse {
    seen(raft, now, &BTreeMap::new())
}

fn seen(raft: &RaftStatus, now: Instant, reports: &BTreeMap<u64, MemberReport>) -> v1::ClusterStatusResponse {
    let state = State::default();
    let differing = BTreeSet::from([3]);
    Seen { raft, state: &state, lease: LEASE, now, quarantine: None, reports, differing: &differing }.status()
}

fn health(status: &v1::ClusterStatusResponse) -> Vec<v1::MemberHealth> {
    status.members.iter().map(v1::Member::health).collect()
}

/// A moment long after the clock began, so that earlier ones can be named.
fn now() -> Instant {
    Instant::now() + Duration::from_secs(1_000)
}

#[test]
fn a_leader_tells_how_every_member_is() {
    use v1::MemberHealth::{Healthy, Lagging, Unreachable};
    let now = now();
    let of = |followers: &[(u64, Duration, u64)]| health(&status(&leader(now, followers), now));
    let soon = Duration::from_millis(20);
    assert_eq!(of(&[(2, soon, 20_000), (3, soon, 15_000)]), [Healthy, Healthy, Healthy]);
    assert_eq!(of(&[(2, soon, 20_000), (3, soon, 9_999)]), [Healthy, Healthy, Lagging]);
    assert_eq!(of(&[(2, soon, 20_000), (3, LEASE * 2, 20_000)]), [Healthy, Healthy, Unreachable]);
    assert_eq!(of(&[(2, soon, 20_000)]), [Healthy, Healthy, Unreachable], "never heard");
}

#[test]
fn what_the_probes_found_is_told() {
    let now = now();
    let soon = Duration::from_millis(20);
    let answer =
        MemberAnswer { version: "9.9.9".into(), applied_index: 19_999, stopping: true, ..Default::default() };
    let answers = MemberReport { answer: Some(answer.clone()), last_answer: Some(now), ..Default::default() };
    let dead =
        MemberReport { answer: Some(answer), is_dead: true, failures_in_row: 31, ..Default::default() };
    let raft = leader(now, &[(2, soon, 20_000), (3, Duration::from_secs(70), 0)]);
    let seen = seen(&raft, now, &BTreeMap::from([(2, answers), (3, dead)]));
    use v1::MemberHealth::{Dead, Healthy};
    assert_eq!(health(&seen), [Healthy, Healthy, Dead]);
    assert_eq!(seen.members[1].version, "9.9.9");
    assert_eq!((seen.members[1].applied_index, seen.members[2].applied_index), (Some(19_999), None));
    assert!(seen.members[1].stopping && !seen.members[1].state_differs && seen.members[2].state_differs);
    assert_eq!(seen.quorum.unwrap().reachable, 2, "the dead one is not heard");
}

#[test]
fn a_joint_configuration_is_visible_as_two_sets_of_voters() {
    let now = now();
    let mut raft = leader(now, &[]);
    let mut membership = (*raft.membership).clone();
    membership.configs.push(BTreeSet::from([1, 2, 4]));
    raft.membership = Arc::new(membership);
    let sets: Vec<_> = status(&raft, now).voter_sets.into_iter().map(|set| set.raft_ids).collect();
    assert_eq!(sets, [vec![1, 2, 3], vec![1, 2, 4]]);
}

#[test]
fn a_member_of_the_state_alone_is_joining() {
    use registry_state::{AddMember, Command, InitCluster, MemberSpec, MembershipOwner, Operation};
    let now = now();
    let raft = leader(now, &[]);
    let mut state = State::default();
    let spec = |id: u64| MemberSpec {
        raft_id: id,
        node_id: format!("node-{id}"),
        disk_id: format!("disk-{id}"),
        peer_endpoint: format!("h:{id}"),
        client_endpoint: format!("h:{}", id + 10),
    };
    let init = InitCluster {
        cluster_id: "7f2c2f9e-8a4e-4c55-9e5c-0f5a0a7f0001".into(),
        epoch: 1,
        settings: None,
        members: vec![spec(1), spec(2), spec(3)],
        next_raft_id: 4,
    };
    let add = AddMember {
        member: Some(MemberSpec { raft_id: 0, ..spec(4) }),
        owner: MembershipOwner::Autopilot as i32,
    };
    for operation in [Operation::InitCluster(init), Operation::AddMember(add)] {
        state.apply(&Command { proposed_at_unix_ms: 0, request: None, operation });
    }
    let (reports, differing) = (BTreeMap::new(), BTreeSet::new());
    let seen = Seen {
        raft: &raft,
        state: &state,
        lease: LEASE,
        now,
        quarantine: None,
        reports: &reports,
        differing: &differing,
    };
    let kinds: Vec<_> = seen.status().members.iter().map(v1::Member::kind).collect();
    use v1::MemberKind::{Joining, Voter};
    assert_eq!(kinds, [Voter, Voter, Voter, Joining]);
}

#[test]
fn the_quorum_counts_who_is_heard() {
    let now = now();
    let soon = Duration::from_millis(20);
    let seen = status(&leader(now, &[(2, soon, 20_000), (3, LEASE * 2, 0)]), now);
    let quorum = seen.quorum.unwrap();
    assert_eq!((quorum.available, quorum.voters, quorum.needed, quorum.reachable), (true, 3, 2, 2));
    assert_eq!(seen.source(), v1::StatusSource::Leader);
    assert_eq!(seen.leader_id, "node-1");
}

#[test]
fn a_leader_without_quorum_speaks_for_itself_only() {
    let now = now();
    let mut raft = leader(now, &[(2, LEASE * 4, 0), (3, LEASE * 4, 0)]);
    raft.last_quorum_acked = now.checked_sub(LEASE * 4);
    let seen = status(&raft, now);
    assert_eq!(seen.source(), v1::StatusSource::Node);
    let quorum = seen.quorum.unwrap();
    assert_eq!((quorum.available, quorum.reachable), (false, 1));
}

#[test]
fn a_follower_knows_itself_and_its_leader() {
    use v1::MemberHealth::{Healthy, Unknown};
    let now = now();
    let mut raft = leader(now, &[]);
    raft.raft_id = 2;
    raft.role = Role::Follower;
    let seen = status(&raft, now);
    assert_eq!(seen.source(), v1::StatusSource::Node);
    assert_eq!(health(&seen), [Unknown, Healthy, Unknown]);
    let roles: Vec<_> = seen.members.iter().map(v1::Member::role).collect();
    assert_eq!(roles, [v1::NodeRole::Leader, v1::NodeRole::Follower, v1::NodeRole::Follower]);
    assert_eq!(seen.members[1].applied_index, Some(20_000));
    assert_eq!(seen.members[0].applied_index, None);
    assert!(seen.quorum.unwrap().available);
}

#[test]
fn a_candidate_knows_no_quorum() {
    let now = now();
    let mut raft = leader(now, &[]);
    raft.raft_id = 2;
    raft.role = Role::Candidate;
    raft.leader = None;
    let seen = status(&raft, now);
    assert!(!seen.quorum.unwrap().available);
    assert_eq!(seen.leader_id, "");
}

#[test]
fn a_reason_is_cut_at_256_bytes() {
    let long = "ä".repeat(300);
    assert_eq!(shortened(&long).len(), 256);
    assert_eq!(shortened("short"), "short");
}
