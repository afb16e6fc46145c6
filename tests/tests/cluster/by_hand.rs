//! Members that somebody else decides about, an operator or a person: a node that lost its place waits until
//! it is admitted, and nothing by hand may cost the majority (P/N4, N5, N7).

use registry_proto::internal::{
    AdmitMemberRequest, LogId, MemberPlace, MembershipOwner, NodeState, PromoteMemberRequest,
    RemoveMemberRequest, TransferLeadershipRequest,
};
use registry_tests::admin::{id_of, name_of};
use registry_tests::api::reason;
use registry_tests::cluster::{Cluster, Options};
use registry_tests::node::CRASH_POINT;
use registry_tests::wait;
use serde_json::json;
use tonic::Status;

const ID: &str = "3b1f0e4e-54a5-4d46-8a0c-6d8a6ad0c003";

/// What a node says that waits for a person or an operator.
const FOR_SOMEBODY: &str = "whose members somebody else decides about";

/// A cluster of three whose members this owner decides about.
async fn start(owner: &str) -> Cluster {
    let settings = json!({ "membership_owner": owner, "promote_after": "200ms", "dead_member_after": "1s" });
    let file = json!({
        "log": { "segment_bytes": 4 << 20 },
        "raft": { "heartbeat_interval": 100, "election_timeout_min": 500, "election_timeout_max": 1000 },
    });
    let mut cluster = Cluster::prepare(Options { settings, file, ..Options::waiting() }).await;
    cluster.start_all();
    if owner == "operator" {
        cluster.nodes[0].waits_for("waiting for the operator").await;
        let founded = cluster.admin(0).initialize(cluster.word(ID), wait::PATIENCE).await;
        assert_eq!(founded.expect("the cluster is founded").cluster_id, ID);
    }
    cluster.ready().await;
    cluster
}

async fn ids(cluster: &Cluster) -> Vec<u64> {
    cluster.members().await.iter().map(id_of).collect()
}

/// The newest id of a node, and what it is under it.
async fn place_of(cluster: &Cluster, index: usize) -> (u64, MemberPlace) {
    let name = &cluster.nodes[index].name;
    let members = cluster.members().await;
    let own = members.iter().filter(|member| name_of(member) == name);
    own.map(|member| (id_of(member), member.place())).max_by_key(|(id, _)| *id).expect("it is a member")
}

/// The disk id of a node, and how it stands, as it says itself.
async fn standing(cluster: &Cluster, index: usize) -> (String, NodeState) {
    let answers = || async { cluster.admin(index).status().await };
    let status = wait::until("a node to answer", wait::PATIENCE, answers).await;
    (status.identity.as_ref().unwrap().disk_id.clone(), status.state())
}

async fn membership_seen(cluster: &Cluster) -> LogId {
    let status = cluster.at_leader("a leader", |admin| async move { admin.status().await }).await;
    status.unwrap().membership.unwrap().log_id.unwrap()
}

async fn remove(cluster: &Cluster, raft_ids: &[u64]) -> Result<(), Status> {
    let request = RemoveMemberRequest { raft_ids: raft_ids.to_vec(), ..Default::default() };
    let removed = cluster.at_leader("a leader that removes", |admin| {
        let request = request.clone();
        async move { admin.remove(request).await }
    });
    removed.await.map(drop)
}

/// Admission with the membership that the caller has seen, on behalf of an owner.
async fn admit_as(
    cluster: &Cluster,
    index: usize,
    seen: LogId,
    owner: MembershipOwner,
) -> Result<u64, String> {
    let request = AdmitMemberRequest {
        expected_membership: Some(seen),
        owner: owner.into(),
        ..cluster.admission(index)
    };
    let admitted = cluster.at_leader("a leader that admits", |admin| {
        let request = request.clone();
        async move { admin.admit(request).await }
    });
    admitted.await.map(|answer| answer.identity.unwrap().raft_id).map_err(|status| reason(&status))
}

/// Waits for somebody, then is admitted: a new id, a new disk id, and the old data beside it.
async fn is_taken_back(cluster: &Cluster, index: usize, old: u64, state: NodeState, kept: &str) -> u64 {
    let node = &cluster.nodes[index];
    node.waits_for(FOR_SOMEBODY).await;
    let (disk_id, standing_now) = standing(cluster, index).await;
    assert_eq!(standing_now, state);
    let leader = cluster.leader().await;
    let [own, known] = [index, leader].map(|index| cluster.api(index));
    let known = known.status(true).await.unwrap().cluster_id;
    assert_eq!(own.status(true).await.unwrap().cluster_id, known, "it knows of which cluster it was");
    let before = ids(cluster).await;
    let admitted = cluster.admit(index).await.identity.unwrap();
    assert!(
        before.iter().all(|id| admitted.raft_id > *id) && admitted.raft_id > old,
        "ids are never used again"
    );
    assert_ne!(admitted.disk_id, disk_id, "its old disk must not be believed again");
    assert_eq!(cluster.admit(index).await.identity.unwrap(), admitted, "once more changes nothing");
    node.ready().await;
    assert_eq!(place_of(cluster, index).await, (admitted.raft_id, MemberPlace::Learner));
    assert_eq!(standing(cluster, index).await, (admitted.disk_id, NodeState::Learner));
    let kept = node.data.join(kept);
    assert!(kept.exists(), "{} is kept", kept.display());
    admitted.raft_id
}

async fn nodes_that_lost_their_place_are_taken_back(owner: &str) {
    let (by, other) = match owner {
        "operator" => (MembershipOwner::Operator, MembershipOwner::Manual),
        _ => (MembershipOwner::Manual, MembershipOwner::Operator),
    };
    let mut cluster = start(owner).await;
    let lost = cluster.followers().await[0];
    let (old, _) = place_of(&cluster, lost).await;
    cluster.nodes[lost].kill();
    std::fs::remove_dir_all(cluster.nodes[lost].data.join("log")).unwrap();
    cluster.start_node(lost);
    cluster.nodes[lost].waits_for(FOR_SOMEBODY).await;
    // Only on behalf of the owner, and only by who has seen the membership as it is.
    let seen = membership_seen(&cluster).await;
    assert_eq!(admit_as(&cluster, lost, seen, other).await.unwrap_err(), "MEMBERSHIP_OWNED");
    let stale = LogId { index: seen.index + 1, ..seen };
    assert_eq!(admit_as(&cluster, lost, stale, by).await.unwrap_err(), "MEMBERSHIP_CHANGED");
    assert_eq!(standing(&cluster, lost).await.1, NodeState::DiskLost, "a refused call takes nothing away");

    let kept = format!("lost-{old}/identity.json");
    let new = is_taken_back(&cluster, lost, old, NodeState::DiskLost, &kept).await;
    assert_eq!(admit_as(&cluster, lost, seen, by).await.unwrap_err(), "MEMBERSHIP_CHANGED", "a learner came");
    cluster.promote(&[new], &[old]).await;
    cluster.voters_are(&["registry-node-1", "registry-node-2", "registry-node-3"]).await;

    // A learner that is removed while it runs, waits for somebody too, and after a restart all the same.
    let joiner = cluster.add_joiner();
    cluster.start_node(joiner);
    cluster.nodes[joiner].waits_for(FOR_SOMEBODY).await;
    let old = cluster.admit(joiner).await.identity.unwrap().raft_id;
    cluster.nodes[joiner].ready().await;
    remove(&cluster, &[old]).await.unwrap();
    cluster.nodes[joiner].waits_for("was removed from the cluster").await;
    cluster.nodes[joiner].kill();
    cluster.start_node(joiner);
    let kept = format!("removed-{old}/identity.json");
    is_taken_back(&cluster, joiner, old, NodeState::Removed, &kept).await;

    // One that is removed while it is down.
    let (old, _) = place_of(&cluster, joiner).await;
    cluster.nodes[joiner].kill();
    remove(&cluster, &[old]).await.unwrap();
    cluster.start_node(joiner);
    cluster.nodes[joiner].waits_for("was removed from the cluster").await;
    let kept = format!("removed-{old}/identity.json");
    is_taken_back(&cluster, joiner, old, NodeState::Removed, &kept).await;
    cluster.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_lost_their_place_are_taken_back_when_the_operator_admits_them() {
    nodes_that_lost_their_place_are_taken_back("operator").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_lost_their_place_are_taken_back_when_a_person_admits_them() {
    nodes_that_lost_their_place_are_taken_back("manual").await;
}

/// The first of the list would found a cluster, if it did not know better.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_with_a_place_just_given_takes_that_place_when_it_is_back() {
    let mut cluster = start("manual").await;
    cluster.nodes[0].kill();
    std::fs::remove_dir_all(&cluster.nodes[0].data).unwrap();
    cluster.nodes[0].set_env(CRASH_POINT, "adopt-stored");
    cluster.start_node(0);
    cluster.nodes[0].waits_for(FOR_SOMEBODY).await;
    // Where an admission ends half done, the leader goes on with it by itself.
    let admitted = cluster.at_leader("a leader that admits", |admin| {
        let request = cluster.admission(0);
        async move { admin.admit(request).await }
    });
    admitted.await.expect_err("the node dies");
    cluster.nodes[0].dies_at("adopt-stored").await;
    cluster.start_node(0);
    cluster.nodes[0].ready().await;
    assert_eq!(place_of(&cluster, 0).await, (4, MemberPlace::Learner), "one admission, one id");
    assert!(!cluster.nodes[0].data.join("lost-4").exists(), "it had lost nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_are_not_changed_by_hand_while_that_would_cost_the_majority() {
    let mut cluster = start("manual").await;
    let joiner = cluster.add_joiner();
    cluster.start_node(joiner);
    cluster.nodes[joiner].waits_for(FOR_SOMEBODY).await;
    let learner = cluster.admit(joiner).await.identity.unwrap().raft_id;
    cluster.nodes[joiner].ready().await;
    let leader = cluster.leader().await;
    let others: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    let (alive, _) = place_of(&cluster, others[0]).await;
    let (down, _) = place_of(&cluster, others[1]).await;

    // One voter and the learner die: with the learner in place of the other voter, two of three were dead.
    cluster.nodes[others[1]].kill();
    cluster.nodes[joiner].kill();
    let seen = membership_seen(&cluster).await;
    let promote = |raft_ids: &[u64], replaced: &[u64]| PromoteMemberRequest {
        raft_ids: raft_ids.to_vec(),
        replaced_raft_ids: replaced.to_vec(),
        ..Default::default()
    };
    refused(&cluster, promote(&[learner], &[alive]), "WOULD_LOSE_QUORUM").await;
    assert_eq!(membership_seen(&cluster).await, seen, "nothing was begun");
    // Who never was a member cannot be meant, and a name is not enough to found an even number.
    refused(&cluster, promote(&[99], &[alive]), "MEMBER_UNKNOWN").await;
    refused(&cluster, promote(&[learner], &[]), "INVALID_FIELD").await;

    // With the learner alive the dead one can go.
    cluster.start_node(joiner);
    cluster.promote(&[learner], &[down]).await;
    let name = |index: usize| cluster.nodes[index].name.as_str();
    cluster.voters_are(&[name(leader), name(others[0]), name(joiner)]).await;
}

async fn refused(cluster: &Cluster, request: PromoteMemberRequest, why: &str) {
    wait::until(&format!("a promotion to be refused with {why}"), wait::PATIENCE, || async {
        let promoted = cluster.at_leader("a leader that promotes", |admin| {
            let request = request.clone();
            async move { admin.promote(request).await }
        });
        match promoted.await {
            // This leader has not heard of the others yet.
            Err(status) if reason(&status) == why => Ok(()),
            Err(status) => Err(status),
            Ok(answer) => panic!("{answer:?} instead of {why}"),
        }
    })
    .await;
}

/// Of all that name the same membership one wins.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_changes_that_have_seen_the_same_members_one_is_made() {
    let mut cluster = start("manual").await;
    let joiners = [cluster.add_joiner(), cluster.add_joiner()];
    for index in joiners {
        cluster.start_node(index);
        cluster.nodes[index].waits_for(FOR_SOMEBODY).await;
    }
    let seen = membership_seen(&cluster).await;
    let by = MembershipOwner::Manual;
    let first = admit_as(&cluster, joiners[0], seen, by).await.unwrap();
    cluster.nodes[joiners[0]].ready().await;
    assert_eq!(admit_as(&cluster, joiners[1], seen, by).await.unwrap_err(), "MEMBERSHIP_CHANGED");
    let admin = cluster.admin(cluster.leader().await);
    let expected_membership = Some(seen);
    let promote = PromoteMemberRequest { raft_ids: vec![first], expected_membership, ..Default::default() };
    let transfer = TransferLeadershipRequest { expected_membership, ..Default::default() };
    let late = [admin.promote(promote).await.map(drop), admin.transfer_as(transfer).await.map(drop)];
    for status in late {
        assert_eq!(reason(&status.unwrap_err()), "MEMBERSHIP_CHANGED");
    }

    let seen = membership_seen(&cluster).await;
    let request = |raft_id: u64| RemoveMemberRequest {
        raft_ids: vec![raft_id],
        expected_membership: Some(seen),
        ..Default::default()
    };
    let admit = AdmitMemberRequest { expected_membership: Some(seen), ..cluster.admission(joiners[1]) };
    let (removed, admitted) = tokio::join!(admin.remove(request(first)), admin.admit(admit));
    let removed = removed.map(drop).map_err(|status| reason(&status));
    let admitted = admitted.map(drop).map_err(|status| reason(&status));
    let lost = || Err("MEMBERSHIP_CHANGED".to_owned());
    assert!(
        (removed == Ok(()) && admitted == lost()) || (removed == lost() && admitted == Ok(())),
        "{removed:?} {admitted:?}"
    );
}
