//! An operator that dies between any two steps leaves a cluster that the next one brings to its end.

use std::time::{Duration, Instant};

use registry_tests::wait::until_true;
use serde_json::json;

use crate::support::objects::{SETTLING, leader};
use crate::support::stage::{Kube, Tier, Turn, on_kubernetes};

/// Lets the operator die after each of these steps, in a flow of its own each, under load.
async fn with_crashes(kube: &Kube, steps: &[&str], flow: impl AsyncFn(&Kube, &str)) {
    for step in steps {
        kube.operator_dies_after(step).await;
        // A flow may do without a step: leadership need not be moved if an election has done it.
        for _ in 0..3 {
            flow(kube, step).await;
            if kube.operator_restarts().await > 0 {
                break;
            }
        }
        assert!(kube.operator_restarts().await > 0, "the operator has never come to {step}");
    }
    kube.operator_lives().await;
}

#[tokio::test]
async fn an_operator_that_dies_while_it_founds_founds_one_cluster() {
    let steps = [
        "create-token",
        "apply-services",
        "apply-objects",
        "record-bootstrap",
        "status",
        "initialize",
        "write-budget",
    ];
    on_kubernetes("crash-found", Tier::All, Turn::Alone, async |kube| {
        with_crashes(kube, &steps, async |kube, step| {
            let name = format!("after-{step}");
            kube.found(&name, 3).await;
            kube.clusters().delete(&name, &Default::default()).await.expect("it is there");
            until_true("its pods to be gone", SETTLING, || async { kube.pods(&name).await.is_empty() }).await;
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn an_operator_that_dies_while_it_scales_reaches_the_number() {
    on_kubernetes("crash-scale", Tier::All, Turn::Alone, async |kube| {
        kube.found("orders", 3).await;
        let workload = kube.start_workload("orders").await;
        with_crashes(
            kube,
            &["scale", "admit", "promote", "relabel-pod", "write-budget", "remove"],
            async |kube, step| {
                for members in [5, 3] {
                    let begun = Instant::now();
                    kube.patch("orders", &json!({"spec": {"replicas": members}})).await;
                    let what = format!("scale to {members}, operator killed after {step}");
                    kube.wait_until_settled("orders", members, &what, begun).await;
                }
            },
        )
        .await;
        workload.finish_unharmed().await;
    })
    .await;
}

#[tokio::test]
async fn an_operator_that_dies_in_a_roll_or_a_repair_finishes_it() {
    on_kubernetes("crash-roll", Tier::All, Turn::Alone, async |kube| {
        kube.found("orders", 3).await;
        kube.patch("orders", &json!({"spec": {"update": {"settleSeconds": 1}}})).await;
        let workload = kube.start_workload("orders").await;
        with_crashes(kube, &["apply-objects", "delete-pod", "transfer"], async |kube, step| {
            let status = kube.status("orders").await.expect("it is there");
            let image = status["image"].as_str().expect("an image");
            let other = if image.ends_with("test2") { "test" } else { "test2" };
            let begun = Instant::now();
            kube.patch("orders", &json!({"spec": {"image": format!("registry.dev/registry:{other}")}})).await;
            let what = format!("roll of three, operator killed after {step}");
            kube.wait_until_settled("orders", 3, &what, begun).await;
        })
        .await;
        with_crashes(kube, &["admit", "promote"], async |kube, step| {
            let status = kube.status("orders").await.expect("it is there");
            let pod = ["orders-0", "orders-1", "orders-2"].into_iter().find(|pod| *pod != leader(&status));
            let begun = Instant::now();
            kube.lose_disk("orders", pod.expect("a follower"), &status).await;
            let what = format!("repair, operator killed after {step}");
            kube.wait_until_settled("orders", 3, &what, begun).await;
        })
        .await;
        workload.finish_unharmed().await;
    })
    .await;
}

/// As a node drain or an upgrade of the operator does it, again and again.
#[tokio::test]
async fn an_operator_that_is_deleted_again_and_again_scales_all_the_same() {
    on_kubernetes("operator-deleted", Tier::All, Turn::Alone, async |kube| {
        kube.found("orders", 3).await;
        let workload = kube.start_workload("orders").await;
        let begun = Instant::now();
        kube.patch("orders", &json!({"spec": {"replicas": 5}})).await;
        let settled = kube.wait_until_settled("orders", 5, "scale 3 to 5, operator deleted each 5 s", begun);
        let deletions = async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(5)).await;
                kube.delete_operator_pod().await;
            }
        };
        tokio::join!(settled, deletions);
        workload.finish_unharmed().await;
    })
    .await;
}
