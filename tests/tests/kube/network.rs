//! Addresses that move, names that are cached, an API server that is away.

use std::time::{Duration, Instant};

use registry_tests::wait::until;
use serde_json::json;

use crate::support::command::kubectl;
use crate::support::objects::{SETTLING, leader, member};
use crate::support::pods::{address, name, node};
use crate::support::stage::{Tier, on_test_cluster};

const MEMBERS: [&str; 3] = ["orders-0", "orders-1", "orders-2"];

/// The members of one cluster still dial the old address for a while: who answers there must not be believed.
#[tokio::test]
async fn the_address_of_a_dead_pod_given_to_another_cluster_harms_neither() {
    on_test_cluster("address", Tier::All, async |kube, faults| {
        faults.reuse_addresses().await;
        let before = kube.found("orders", 3).await;
        let workload = kube.start_workload("orders").await;
        let victim = MEMBERS.into_iter().find(|pod| *pod != leader(&before)).expect("a follower");
        let pod = kube.pod(victim).await;
        let (old, on) = (address(&pod).expect("one").to_owned(), node(&pod).expect("one").to_owned());
        // Nothing may start on any node but the pods of the other cluster, which bear it.
        faults.cordon(&["node-1", "node-2", "node-3"]).await;
        kube.delete_pod(victim).await;
        until("the pod to be gone", SETTLING, || async {
            // Its successor is there already, and finds no node.
            let pods = kube.pods("orders").await;
            let still = pods.iter().find(|pod| name(pod) == victim).and_then(node).map(str::to_owned);
            if still.is_none() { Ok(()) } else { Err(still) }
        })
        .await;
        faults.reuse_addresses().await;
        let begun = Instant::now();
        let spec = json!({"replicas": 3, "storage": {"size": "1Gi"}, "podTemplate": {
            "tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}],
        }});
        kube.apply("payments", &spec).await;
        kube.wait_until_settled("payments", 3, "another cluster on a used address", begun).await;
        let heirs = kube.pods("payments").await;
        let heir = heirs.iter().find(|pod| address(pod) == Some(&old));
        let heir = heir.unwrap_or_else(|| panic!("nobody on {on} has {old}"));
        println!("{old} was of {victim} and is of {:?}", heir.metadata.name);
        workload.wait_for_writes(100, Duration::from_secs(60)).await;

        kubectl(&["uncordon", "node-1", "node-2", "node-3"]).await;
        let after = kube.wait_until_settled("orders", 3, "its old owner, at rest again", begun).await;
        assert_eq!(member(&after, victim)["raftID"], member(&before, victim)["raftID"]);
        let other = kube.status("payments").await.expect("it is there");
        assert_ne!(other["clusterID"], after["clusterID"]);
        workload.finish_unharmed().await;
    })
    .await;
}

#[tokio::test]
async fn pods_that_move_are_found_though_dns_caches() {
    on_test_cluster("dns", Tier::All, async |kube, faults| {
        faults.cache_dns(30).await;
        kube.found("orders", 3).await;
        let workload = kube.start_workload("orders").await;
        for pod in MEMBERS {
            let begun = Instant::now();
            let old = kube.pod(pod).await.metadata.uid;
            kube.delete_pod(pod).await;
            until("its successor", SETTLING, || async {
                let found = kube.pods("orders").await;
                let new = found
                    .iter()
                    .any(|one| one.metadata.name.as_deref() == Some(pod) && one.metadata.uid != old);
                if new { Ok(()) } else { Err("not yet") }
            })
            .await;
            kube.wait_until_settled("orders", 3, &format!("{pod} deleted while DNS caches 30 s"), begun)
                .await;
        }
        workload.finish_unharmed().await;
    })
    .await;
}

/// Nodes need neither the API server nor the operator to go on, to elect, or to come back.
#[tokio::test]
async fn a_minute_without_the_api_server_is_not_noticed() {
    on_test_cluster("api-server", Tier::All, async |kube, faults| {
        let before = kube.found("orders", 3).await;
        let workload = kube.start_workload("orders").await;
        let leader_pod = kube.pod(leader(&before)).await;
        faults.freeze("kube-apiserver").await;
        let frozen = Instant::now();
        faults.kill_process(&leader_pod);
        workload.wait_for_writes(200, Duration::from_secs(60)).await;
        // The fault itself lasts a minute.
        tokio::time::sleep(Duration::from_secs(60).saturating_sub(frozen.elapsed())).await;
        let begun = Instant::now();
        faults.thaw("kube-apiserver").await;
        kube.wait_until_settled("orders", 3, "API server back until all is at rest", begun).await;
        until("the kubelet to tell of the restart", SETTLING, || async {
            let lives = kube.lives("orders").await;
            let restarts: i32 = lives.iter().map(|(_, _, restarts)| restarts).sum();
            assert!(restarts <= 1, "only the process that was killed started anew: {lives:?}");
            if restarts == 1 { Ok(()) } else { Err(lives) }
        })
        .await;
        workload.finish_unharmed().await;
    })
    .await;
}
