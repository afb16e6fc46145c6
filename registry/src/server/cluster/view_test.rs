use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;
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
            (*id, Follower { matched: position(*matched), last_contact: now.checked_sub(*ago) })
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
    Seen { raft, state: &State::default(), lease: LEASE, now, quarantine: None }.status()
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
    use v1::MemberHealth::{Dead, Healthy, Lagging, Unreachable};
    let now = now();
    let of = |followers: &[(u64, Duration, u64)]| health(&status(&leader(now, followers), now));
    let soon = Duration::from_millis(20);
    assert_eq!(of(&[(2, soon, 20_000), (3, soon, 15_000)]), [Healthy, Healthy, Healthy]);
    assert_eq!(of(&[(2, soon, 20_000), (3, soon, 9_999)]), [Healthy, Healthy, Lagging]);
    assert_eq!(of(&[(2, soon, 20_000), (3, LEASE * 2, 20_000)]), [Healthy, Healthy, Unreachable]);
    assert_eq!(of(&[(2, soon, 20_000), (3, Duration::from_secs(61), 0)]), [Healthy, Healthy, Dead]);
    assert_eq!(of(&[(2, soon, 20_000)]), [Healthy, Healthy, Unreachable], "never heard");
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
