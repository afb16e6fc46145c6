use std::sync::atomic::Ordering;

use registry::raft::RaftOptions;

use crate::cluster::{Cluster, instances, propose, register, wait_for};

fn small(options: &mut RaftOptions) {
    options.segment_bytes = 64 << 10;
    options.log_cache_bytes = 16 << 10;
    options.snapshot_min_bytes = 20 << 10;
    options.keep_log_entries = 5;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_behind_the_log_is_fed_a_snapshot() {
    let mut cluster = Cluster::start(small).await;
    let leader = cluster.leader().await;
    let absent = (1..=3).find(|id| *id != leader).unwrap();
    cluster.stop_node(absent).await;
    let leader = cluster.leader().await;
    let consensus = cluster.nodes[&leader].consensus.clone();
    for n in 0..100 {
        propose(&consensus, &register(n, 1000)).await;
    }
    wait_for("a purged log", || consensus.status().purged.filter(|purged| purged.index > 50)).await;
    propose(&consensus, &register(100, 1000)).await;

    cluster.start_node(absent).await;
    cluster.settle().await;
    let node = &cluster.nodes[&absent];
    assert!(node.told.resets.load(Ordering::Relaxed) > 0);
    assert!(node.told.revisions.lock().unwrap().len() < 50, "it came by snapshot, not entry by entry");
    assert_eq!(instances(&node.consensus), 101);
    cluster.assert_equal_states();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_restarts_from_snapshot_and_log() {
    let mut cluster = Cluster::start(small).await;
    let leader = cluster.leader().await;
    let consensus = cluster.nodes[&leader].consensus.clone();
    for n in 0..60 {
        propose(&consensus, &register(n, 1000)).await;
    }
    wait_for("a purged log", || consensus.status().purged).await;
    propose(&consensus, &register(60, 1000)).await;
    cluster.settle().await;
    for id in 1..=3 {
        cluster.stop_node(id).await;
    }
    for id in 1..=3 {
        cluster.start_node(id).await;
        assert!(instances(&cluster.nodes[&id].consensus) > 20, "the snapshot is there at once");
    }
    cluster.settle().await;
    let leader = cluster.leader().await;
    let later = tokio::time::Instant::now() + crate::cluster::PATIENCE;
    cluster.nodes[&leader].consensus.read_index(later).await.unwrap();
    assert_eq!(instances(&cluster.nodes[&leader].consensus), 61);
    cluster.assert_equal_states();
}
