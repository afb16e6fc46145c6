use std::collections::BTreeSet;
use std::time::Duration;

use registry::raft::{InitializeError, ProposeError, ReadIndexError};
use tokio::time::Instant;

use crate::cluster::{Cluster, PATIENCE, instances, propose, register, wait_for};

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_leader_takes_every_node_applies_and_observes() {
    let cluster = Cluster::start(|_| {}).await;
    let leader = cluster.leader().await;
    let consensus = &cluster.nodes[&leader].consensus;
    for n in 0..20 {
        let outcome = propose(consensus, &register(n, 10)).await;
        assert!(consensus.published().applied_index() >= outcome.log_index, "published before the reply");
        let told = cluster.nodes[&leader].told.revisions.lock().unwrap();
        assert!(told.contains(&outcome.applied.revision), "observed before the reply");
    }
    cluster.settle().await;
    cluster.assert_equal_states();
    for node in cluster.nodes.values() {
        assert_eq!(instances(&node.consensus), 20);
        let revisions = node.told.revisions.lock().unwrap();
        assert!(revisions.is_sorted_by(|a, b| a < b), "each revision once, in order");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_says_who_leads_and_takes_nothing() {
    let cluster = Cluster::start(|_| {}).await;
    let leader = cluster.leader().await;
    let follower = cluster.nodes.values().find(|node| node.id != leader).unwrap();
    let refused = follower.consensus.propose(&register(1, 1), soon()).await.unwrap_err();
    assert_eq!(refused, ProposeError::NotLeader { leader: Some(leader) });
    let refused = follower.consensus.read_index(soon()).await.unwrap_err();
    assert_eq!(refused, ReadIndexError::NotLeader { leader: Some(leader) });
    assert_eq!(instances(&cluster.nodes[&leader].consensus), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_index_covers_what_was_answered_before() {
    let cluster = Cluster::start(|_| {}).await;
    let leader = cluster.leader().await;
    let consensus = &cluster.nodes[&leader].consensus;
    let outcome = propose(consensus, &register(1, 1)).await;
    let read = consensus.read_index(soon()).await.unwrap();
    assert!(read.position.index >= outcome.log_index);
    assert_eq!(Some(read.leadership), consensus.leadership());
    assert!(read.revision >= outcome.applied.revision);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_takes_over_and_the_old_one_comes_back_with_its_disk() {
    let mut cluster = Cluster::start(|_| {}).await;
    let first = cluster.leader().await;
    propose(&cluster.nodes[&first].consensus, &register(1, 1)).await;
    cluster.stop_node(first).await;

    let second = cluster.leader().await;
    assert_ne!(first, second);
    propose(&cluster.nodes[&second].consensus, &register(2, 1)).await;

    cluster.start_node(first).await;
    cluster.settle().await;
    cluster.assert_equal_states();
    assert_eq!(instances(&cluster.nodes[&first].consensus), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_come_back_with_everything_that_was_answered() {
    let mut cluster = Cluster::start(|_| {}).await;
    let leader = cluster.leader().await;
    for n in 0..50 {
        propose(&cluster.nodes[&leader].consensus, &register(n, 100)).await;
    }
    for id in 1..=3 {
        cluster.stop_node(id).await;
    }
    for id in 1..=3 {
        cluster.start_node(id).await;
    }
    cluster.settle().await;
    let leader = cluster.leader().await;
    cluster.nodes[&leader].consensus.read_index(soon()).await.unwrap();
    assert_eq!(instances(&cluster.nodes[&leader].consensus), 50);
    cluster.assert_equal_states();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_and_writes_follow_it() {
    let cluster = Cluster::start(|_| {}).await;
    cluster.settle().await;
    let leader = cluster.leader().await;
    let consensus = &cluster.nodes[&leader].consensus;
    let before = consensus.leadership().unwrap();
    // Contacts are known after the first heartbeats.
    wait_for("contact with the others", || {
        consensus.status().followers.values().all(|follower| follower.last_contact.is_some()).then_some(())
    })
    .await;
    let exclude: BTreeSet<u64> = cluster.nodes.keys().copied().filter(|id| *id != leader).take(1).collect();
    let after = consensus.transfer_leadership(None, &exclude, soon()).await.unwrap();
    assert!(after > before && after.node != leader && !exclude.contains(&after.node));
    let stale = consensus.propose_as(before, &register(1, 1), soon()).await.unwrap_err();
    assert!(matches!(stale, ProposeError::NotLeader { .. }), "{stale:?}");
    propose(&cluster.nodes[&after.node].consensus, &register(2, 1)).await;
    cluster.settle().await;
    assert_eq!(instances(consensus), 1);
}

/// Raft tells all voters of a transfer; the one that is named campaigns, no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_that_is_handed_over_takes_one_election() {
    let cluster = Cluster::start(|_| {}).await;
    cluster.leader().await;
    for _ in 0..10 {
        let leader = cluster.leader().await;
        let consensus = &cluster.nodes[&leader].consensus;
        wait_for("contact with the others", || {
            let followers = consensus.status().followers;
            followers.values().all(|follower| follower.last_contact.is_some()).then_some(())
        })
        .await;
        let before = consensus.status().leadership().expect("it leads");
        // The smaller of the two: of candidates of one term the greater wins.
        let target = (1..=3).find(|id| *id != leader).expect("three nodes");
        let deadline = Instant::now() + Duration::from_secs(5);
        let after = consensus.transfer_leadership(Some(target), &BTreeSet::new(), deadline).await.unwrap();
        assert_eq!((after.node, after.term), (target, before.term + 1));
        // Its first entry is committed by a majority, whom nobody else has asked for a vote since.
        propose(&cluster.nodes[&target].consensus, &register(1, 1)).await;
        cluster.settle().await;
        for node in cluster.nodes.values() {
            assert_eq!(node.consensus.status().vote.leadership, after);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lonely_leader_says_no_quorum() {
    let mut cluster = Cluster::start(|_| {}).await;
    let leader = cluster.leader().await;
    for id in (1..=3).filter(|id| *id != leader) {
        cluster.stop_node(id).await;
    }
    let consensus = &cluster.nodes[&leader].consensus;
    // The first may have been taken before the silence was noticed; nobody knows what becomes of it.
    let soon = || Instant::now() + Duration::from_secs(2);
    wait_for_no_quorum(consensus).await;
    assert_eq!(consensus.read_index(soon()).await.unwrap_err(), ReadIndexError::NoQuorum);
}

async fn wait_for_no_quorum(consensus: &registry::raft::Consensus) {
    let end = Instant::now() + PATIENCE;
    loop {
        let deadline = Instant::now() + Duration::from_secs(1);
        match consensus.propose(&register(1, 1), deadline).await {
            Err(ProposeError::NoQuorum) => return,
            other => assert!(Instant::now() < end, "{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_founded_once() {
    let cluster = Cluster::start(|_| {}).await;
    cluster.settle().await;
    let members = cluster.nodes[&1].consensus.status().membership.members.clone();
    for node in cluster.nodes.values() {
        assert!(node.consensus.is_initialized());
        let again = node.consensus.initialize(members.clone()).await.unwrap_err();
        assert_eq!(again, InitializeError::NotEmpty);
    }
}
