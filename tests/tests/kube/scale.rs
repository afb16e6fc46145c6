//! More nodes and fewer, by `kubectl scale`, under load.

use std::time::Instant;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::ListParams;
use serde_json::Value;

use crate::support::command::kubectl;
use crate::support::objects::member;
use crate::support::stage::{Kube, Tier, Turn, on_kubernetes};

async fn scale(kube: &Kube, from: usize, to: usize) -> Value {
    let begun = Instant::now();
    let replicas = format!("--replicas={to}");
    kubectl(&["scale", "rcl/orders", &replicas, "--namespace", &kube.namespace]).await;
    kube.wait_until_settled("orders", to, &format!("scale {from} to {to}"), begun).await
}

#[tokio::test]
async fn three_become_five_and_three_again_under_load() {
    on_kubernetes("scale", Tier::Quick, Turn::Shared, async |kube| {
        kube.found("orders", 3).await;
        let workload = kube.start_workload("orders").await;
        scale(kube, 3, 5).await;
        let after = scale(kube, 5, 3).await;
        for pod in ["orders-0", "orders-1", "orders-2"] {
            assert!(member(&after, pod)["raftID"].as_i64() <= Some(3), "{pod} was not touched: {after}");
        }
        let claims = kube.api::<PersistentVolumeClaim>().list(&ListParams::default()).await.expect("a list");
        assert_eq!(claims.items.len(), 5, "retained, as whenScaled says");
        workload.finish_unharmed().await;
    })
    .await;
}

/// The disks of the members that left are retained, and belong to ids that must never vote again.
#[tokio::test]
async fn one_becomes_three_five_three_and_five_again_with_old_disks() {
    on_kubernetes("scale-more", Tier::All, Turn::Shared, async |kube| {
        kube.found("orders", 1).await;
        let workload = kube.start_workload("orders").await;
        scale(kube, 1, 3).await;
        let five = scale(kube, 3, 5).await;
        scale(kube, 5, 3).await;
        let again = scale(kube, 3, 5).await;
        for pod in ["orders-3", "orders-4"] {
            let id = |status: &Value| member(status, pod)["raftID"].as_i64().expect("an id");
            assert!(id(&again) > id(&five), "{pod} came back under an id of its own: {again}");
        }
        workload.finish_unharmed().await;
    })
    .await;
}
