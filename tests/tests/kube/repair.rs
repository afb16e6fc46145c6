//! Disks that are lost, objects that are deleted by mistake: all comes back, nothing acknowledged is gone.

use std::time::Instant;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::{DeleteParams, ListParams};
use registry_tests::wait::until;
use serde_json::json;

use crate::support::command::kubectl;
use crate::support::objects::{SETTLING, leader, member};
use crate::support::stage::{Tier, Turn, on_kubernetes};

#[tokio::test]
async fn a_lost_disk_of_a_middle_ordinal_is_repaired_in_place_under_a_new_id() {
    on_kubernetes("disk", Tier::Quick, Turn::Shared, async |kube| {
        let before = kube.found("orders", 3).await;
        let workload = kube.start_workload("orders").await;
        kube.lose_disk("orders", "orders-1", &before).await;
        workload.finish_unharmed().await;
    })
    .await;
}

#[tokio::test]
async fn the_disks_of_the_founder_and_of_the_leader_are_repaired_as_any_other() {
    on_kubernetes("disks", Tier::All, Turn::Shared, async |kube| {
        let mut status = kube.found("orders", 3).await;
        let workload = kube.start_workload("orders").await;
        status = kube.lose_disk("orders", "orders-0", &status).await;
        let leads = leader(&status).to_owned();
        status = kube.lose_disk("orders", &leads, &status).await;
        kube.lose_disk("orders", "orders-2", &status).await;
        workload.finish_unharmed().await;
    })
    .await;
}

/// Every address is new, and nobody is there to tell the others.
#[tokio::test]
async fn all_pods_deleted_at_once_come_back_by_themselves() {
    on_kubernetes("all-pods", Tier::All, Turn::Shared, async |kube| {
        let before = kube.found("orders", 3).await;
        let workload = kube.start_workload("orders").await;
        workload.wait_for_writes(100, SETTLING).await;
        let progress = workload.progress().await["acknowledged"].as_u64().expect("a number");
        let begun = Instant::now();
        let of_cluster = ListParams::default().labels("registry.dev/cluster=orders");
        kube.api::<k8s_openapi::api::core::v1::Pod>()
            .delete_collection(&DeleteParams::default(), &of_cluster)
            .await
            .expect("the pods are there");
        workload.wait_for_writes(100, SETTLING).await;
        let after =
            kube.wait_until_settled("orders", 3, "all pods deleted until all is at rest", begun).await;
        for pod in ["orders-0", "orders-1", "orders-2"] {
            assert_eq!(member(&before, pod)["raftID"], member(&after, pod)["raftID"], "{pod} kept its disk");
        }
        // Calls fail while nobody is there; what was acknowledged must not be lost, and no lease be taken away.
        let report = workload.finish().await;
        assert!(report["acknowledged"].as_u64() > Some(progress), "{report}");
        assert_eq!(report["lostWrites"], json!([]), "{report}");
        assert_eq!((&report["expiredLeases"], &report["reregistered"]), (&json!(0), &json!(0)), "{report}");
    })
    .await;
}

#[tokio::test]
async fn a_deleted_set_and_a_wiped_status_are_made_anew_without_touching_a_node() {
    on_kubernetes("set", Tier::All, Turn::Shared, async |kube| {
        let before = kube.found("orders", 3).await;
        let workload = kube.start_workload("orders").await;
        let here = ["--namespace", kube.namespace.as_str()];
        let lives = kube.lives("orders").await;

        let begun = Instant::now();
        let wipe = ["patch", "rcl", "orders", "--subresource=status", "--type=json"];
        let patch = ["--patch", r#"[{"op":"remove","path":"/status"}]"#];
        kubectl(&[&wipe[..], &patch, &here].concat()).await;
        let rebuilt = kube.wait_until_settled("orders", 3, "status wiped until it is rebuilt", begun).await;
        assert_eq!(rebuilt["clusterID"], before["clusterID"]);
        assert_eq!(kube.lives("orders").await, lives, "no node was touched");

        let begun = Instant::now();
        let orphan = ["delete", "statefulset", "orders", "--cascade=orphan"];
        kubectl(&[&orphan[..], &here].concat()).await;
        until("a new set", SETTLING, || async { kube.api::<StatefulSet>().get("orders").await }).await;
        kube.wait_until_settled("orders", 3, "set deleted, its pods kept", begun).await;
        assert_eq!(kube.lives("orders").await, lives, "no node was touched");
        workload.finish_unharmed().await;

        let begun = Instant::now();
        kubectl(&[&["delete", "statefulset", "orders"], &here[..]].concat()).await;
        let after = kube.wait_until_settled("orders", 3, "set deleted with its pods", begun).await;
        assert_eq!(after["clusterID"], before["clusterID"]);
    })
    .await;
}
