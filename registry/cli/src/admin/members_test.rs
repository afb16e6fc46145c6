use registry_proto::internal::{NodeIdentity, RaftStatus, ReplicationStatus};

use super::*;

fn member(raft_id: u64, node_id: &str, place: MemberPlace) -> MemberStatus {
    MemberStatus {
        identity: Some(NodeIdentity { raft_id, node_id: node_id.into(), ..Default::default() }),
        place: place.into(),
        state: NodeState::Voter.into(),
        ..Default::default()
    }
}

fn caught_up(raft_id: u64, node_id: &str) -> MemberStatus {
    MemberStatus {
        caught_up_for: Some(prost_types::Duration::default()),
        ..member(raft_id, node_id, MemberPlace::Learner)
    }
}

fn status(members: Vec<MemberStatus>, voters_target: u32) -> api::StatusResponse {
    api::StatusResponse {
        raft: Some(RaftStatus { leader_raft_id: 1, ..Default::default() }),
        members,
        membership_owner: MembershipOwner::Autopilot.into(),
        voters_target,
        ..Default::default()
    }
}

fn three_voters() -> Vec<MemberStatus> {
    ["a", "b", "c"].iter().zip(1..).map(|(name, id)| member(id, name, MemberPlace::Voter)).collect()
}

fn words(given: &[&str]) -> Vec<String> {
    given.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn members_are_found_by_name_and_by_id_and_all_problems_are_told() {
    let mut members = three_voters();
    members.push(member(9, "2", MemberPlace::Learner));
    assert_eq!(resolve(&members, &words(&["c", "1", "a"])).unwrap(), [3, 1], "named twice, found once");
    assert_eq!(resolve(&members, &words(&["2"])).unwrap(), [9], "a name wins over an id");
    members.push(member(7, "b", MemberPlace::Learner));
    let problems = resolve(&members, &words(&["b", "x", "8", "c"])).unwrap_err();
    assert_eq!(
        problems,
        ["b is the name of the ids 2 and 7: give the id", "x is no member", "8 is no member"]
    );
}

#[test]
fn who_is_to_confirm_a_removal_knows_what_it_does() {
    let mut five = three_voters();
    five.push(MemberStatus { dead: true, ..member(4, "d", MemberPlace::Voter) });
    five.push(member(5, "e", MemberPlace::Voter));
    let text = removal(&status(five, 5), &[1, 4]).join("\n");
    assert!(
        text.contains("a (id 1) is removed for good: voter, alive, leads now and hands over first"),
        "{text}"
    );
    assert!(text.contains("d (id 4) is removed for good: voter, dead"), "{text}");
    assert!(text.contains("5 voters become 3: 2 voters must be alive"), "{text}");
    assert!(text.contains("end it first"), "{text}");
}

#[test]
fn a_node_that_is_added_is_followed_through_all_phases() {
    let mut members = three_voters();
    assert_eq!(Phase::of(&status(members.clone(), 5), 4), Phase::Gone);
    members.push(member(4, "d", MemberPlace::Admitted));
    members.push(caught_up(5, "e"));
    assert_eq!(Phase::of(&status(members.clone(), 5), 4), Phase::Admitted);
    members[3] = MemberStatus { lag_entries: Some(12), ..member(4, "d", MemberPlace::Learner) };
    let mut seen = status(members.clone(), 5);
    assert_eq!(Phase::of(&seen, 4).words(), "is a learner, 12 entries behind");
    seen.replication =
        vec![ReplicationStatus { raft_id: 4, installing_snapshot: true, ..Default::default() }];
    assert_eq!(Phase::of(&seen, 4).words(), "is a learner and receives a snapshot");
    let words = Phase::Snapshot { percent: Some(40) }.words();
    assert_eq!(words, "is a learner and receives a snapshot: 40 % are there");
    members[3] = caught_up(4, "d");
    let phase = Phase::of(&status(members.clone(), 5), 4);
    assert!(phase == Phase::CaughtUp && !phase.is_final(), "{phase:?}");
    members[3] = member(4, "d", MemberPlace::Voter);
    let phase = Phase::of(&status(members, 5), 4);
    assert!(phase == Phase::Voter && phase.is_final(), "{phase:?}");
}

#[test]
fn a_learner_that_will_get_no_vote_by_itself_is_not_waited_for() {
    let mut members = three_voters();
    members.push(caught_up(4, "d"));
    let why = |seen: &api::StatusResponse| match Phase::of(seen, 4) {
        Phase::Waits(why) => why,
        other => panic!("{other:?}"),
    };
    assert!(why(&status(members.clone(), 5)).contains("one more node"), "a fifth is missing");
    assert!(why(&status(members.clone(), 3)).contains("stands by"));
    let manual = api::StatusResponse {
        membership_owner: MembershipOwner::Manual.into(),
        ..status(members.clone(), 5)
    };
    assert!(why(&manual).contains("member promote"));
    members[3] = caught_up(4, "b");
    assert_eq!(Phase::of(&status(members, 3), 4), Phase::CaughtUp, "it replaces the old b");
}
