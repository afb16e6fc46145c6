//! Founding on the word of the operator: once, with the nodes listed, and on empty disks only (P/N3).

use std::time::Duration;

use registry_proto::internal::{InitializeResponse, MembershipOwner};
use registry_tests::api::{reason, registration};
use registry_tests::cluster::{Cluster, Options};
use registry_tests::node::CRASH_POINT;
use registry_tests::wait;
use serde_json::json;
use tonic::Status;
use tonic_types::StatusExt;

const ID: &str = "3b1f0e4e-54a5-4d46-8a0c-6d8a6ad0c001";
const OTHER: &str = "3b1f0e4e-54a5-4d46-8a0c-6d8a6ad0c002";

/// What the founder waits for before it is told.
const FOR_THE_WORD: &str = "waiting for the operator to found the cluster";

fn options() -> Options {
    Options { settings: json!({ "membership_owner": "operator" }), ..Options::waiting() }
}

/// The word, given to the founder.
async fn found(cluster: &Cluster, cluster_id: &str) -> Result<InitializeResponse, Status> {
    cluster.admin(0).initialize(cluster.word(cluster_id), wait::PATIENCE).await
}

/// Refused because there is a cluster already, or the beginning of one.
async fn refused(cluster: &Cluster, cluster_id: &str, known: &str) -> Status {
    let status = found(cluster, cluster_id).await.unwrap_err();
    assert_eq!(reason(&status), "ALREADY_INITIALIZED", "{status:?}");
    assert_eq!(status.get_details_error_info().unwrap().metadata["cluster_id"], known);
    status
}

fn voters(answer: &InitializeResponse) -> Vec<u64> {
    let membership = answer.membership.as_ref().and_then(|view| view.membership.as_ref()).unwrap();
    assert_eq!(membership.configs.len(), 1, "{answer:?}");
    membership.configs[0].raft_ids.clone()
}

async fn is_empty(cluster: &Cluster, index: usize) -> bool {
    cluster.admin(index).status().await.unwrap().identity.unwrap().cluster_id.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_word_of_the_operator_founds_one_cluster_however_often_it_is_given() {
    let mut cluster = Cluster::prepare(options()).await;
    cluster.start_node(0);
    cluster.start_node(1);
    cluster.nodes[0].waits_for("waiting for registry-node-3").await;
    // What cannot be a word changes nothing.
    let word = cluster.word(ID);
    let limit = Duration::from_secs(1);
    let elsewhere = cluster.admin(1).initialize(word.clone(), limit).await.unwrap_err();
    assert_eq!(reason(&elsewhere), "TARGET_MISMATCH", "{elsewhere:?}");
    let mut short = word.clone();
    short.members.pop();
    let short = cluster.admin(0).initialize(short, limit).await.unwrap_err();
    assert_eq!(reason(&short), "CONFIG_MISMATCH", "{short:?}");
    let no_uuid = cluster.admin(0).initialize(cluster.word("mine"), limit).await.unwrap_err();
    assert_eq!(reason(&no_uuid), "INVALID_FIELD", "{no_uuid:?}");

    cluster.start_node(2);
    cluster.nodes[0].waits_for(FOR_THE_WORD).await;
    for index in 1..3 {
        cluster.nodes[index].waits_for("waiting for registry-node-1 to found the cluster").await;
        assert!(is_empty(&cluster, index).await, "nobody was given a place before the word");
    }
    let (one, other) = tokio::join!(found(&cluster, ID), found(&cluster, ID));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!([one.cluster_id.as_str(), other.cluster_id.as_str()], [ID, ID]);
    cluster.ready().await;

    let again = found(&cluster, ID).await.unwrap();
    assert_eq!((again.cluster_id.as_str(), again.already, voters(&again)), (ID, true, vec![1, 2, 3]));
    assert!(found(&cluster, "").await.unwrap().already, "whichever cluster it is");
    refused(&cluster, OTHER, ID).await;
    let settings = cluster.admin(1).settings().await.unwrap();
    assert_eq!(settings.membership_owner(), MembershipOwner::Operator);

    cluster.api(0).register(registration("orders", "127.0.0.1", 1)).await.unwrap();
    cluster.kill_all();
    cluster.start_all();
    cluster.ready().await;
    let again = found(&cluster, ID).await.unwrap();
    assert_eq!((again.already, voters(&again)), (true, vec![1, 2, 3]));
    refused(&cluster, OTHER, ID).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founder_that_dies_on_the_way_founds_the_same_cluster_when_it_is_told_again() {
    let mut cluster = Cluster::prepare(options()).await;
    for place in ["places-offered", "founder-prepared", "initialized"] {
        cluster.nodes[0].set_env(CRASH_POINT, place);
        cluster.start_all();
        cluster.nodes[0].waits_for(FOR_THE_WORD).await;
        found(&cluster, ID).await.expect_err("the founder dies");
        cluster.nodes[0].dies_at(place).await;
        cluster.start_node(0);
        wait::until_true("the founder to answer", wait::PATIENCE, || async {
            cluster.admin(0).status().await.is_ok()
        })
        .await;
        // From the moment at which the founder has stored the place, there is no way back.
        if place != "places-offered" {
            refused(&cluster, OTHER, ID).await;
        }
        let founded = found(&cluster, ID).await.unwrap();
        assert_eq!((founded.cluster_id.as_str(), voters(&founded)), (ID, vec![1, 2, 3]), "{place}");
        cluster.ready().await;
        for index in 0..3 {
            assert_eq!(cluster.api(index).status(true).await.unwrap().cluster_id, ID, "{place}");
        }
        cluster.kill_all();
        cluster.nodes.iter().for_each(|node| std::fs::remove_dir_all(&node.data).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cluster_is_founded_beside_one_that_has_a_disk_left() {
    let mut cluster = Cluster::prepare(options()).await;
    cluster.start_all();
    cluster.nodes[0].waits_for(FOR_THE_WORD).await;
    found(&cluster, ID).await.unwrap();
    cluster.ready().await;
    cluster.kill_all();
    for emptied in [0, 2] {
        std::fs::remove_dir_all(&cluster.nodes[emptied].data).unwrap();
    }

    // The node with the disk is away: nothing is known, so nothing is founded.
    cluster.start_node(0);
    cluster.start_node(2);
    cluster.nodes[0].waits_for("waiting for registry-node-2").await;
    let missing = cluster.admin(0).initialize(cluster.word(OTHER), Duration::from_secs(2)).await.unwrap_err();
    assert_eq!(reason(&missing), "PEER_UNREACHABLE", "{missing:?}");
    assert!(missing.message().contains("waiting for registry-node-2"), "{missing:?}");
    cluster.start_node(1);
    wait::until("the word to be refused", wait::PATIENCE, || async {
        match cluster.admin(0).initialize(cluster.word(OTHER), Duration::from_secs(2)).await {
            Err(status) if reason(&status) == "ALREADY_INITIALIZED" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let status = refused(&cluster, OTHER, ID).await;
    assert_eq!(status.get_details_error_info().unwrap().metadata["node_id"], "registry-node-2");
    for emptied in [0, 2] {
        assert!(is_empty(&cluster, emptied).await, "a cluster was founded beside the one that is left");
    }

    // Somebody decides that the old cluster is given up. The word was taken back: it must be given again.
    cluster.nodes[1].kill();
    std::fs::remove_dir_all(&cluster.nodes[1].data).unwrap();
    cluster.start_node(1);
    cluster.nodes[0].waits_for(FOR_THE_WORD).await;
    assert_eq!(found(&cluster, OTHER).await.unwrap().cluster_id, OTHER);
    cluster.ready().await;
}
