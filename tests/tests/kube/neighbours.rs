//! What must not be touched: other clusters, paused clusters, pods that another operator would make otherwise.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use registry_tests::wait::{until, until_true};
use serde_json::{Value, json};

use crate::support::command::kubectl;
use crate::support::objects::{SETTLING, condition};
use crate::support::stage::{Kube, Tier, Turn, on_kubernetes};

/// The rules of one field of the CRD, of which it has one.
const RULES: &str =
    "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/replicas/x-kubernetes-validations";

async fn change_rules(kube: &Kube, operation: Value) {
    let crds: Api<CustomResourceDefinition> = Api::all(kube.client.clone());
    let patch = Patch::<()>::Json(serde_json::from_value(json!([operation])).expect("a patch"));
    let crd = "registryclusters.registry.dev";
    crds.patch(crd, &PatchParams::default(), &patch).await.expect("the CRD has the path");
}

async fn delete(kube: &Kube, cluster: &str) {
    let begun = Instant::now();
    let words = ["delete", "rcl", cluster, "--wait", "--timeout=120s", "--namespace", &kube.namespace];
    kubectl(&words).await;
    until_true("its pods to be gone", SETTLING, || async { kube.pods(cluster).await.is_empty() }).await;
    println!("TIME deletion of {cluster}: {:.1} s", begun.elapsed().as_secs_f64());
}

async fn claims(kube: &Kube) -> usize {
    kube.api::<PersistentVolumeClaim>().list(&ListParams::default()).await.expect("a list").items.len()
}

#[tokio::test]
async fn two_clusters_in_a_namespace_know_nothing_of_each_other() {
    on_kubernetes("two", Tier::All, Turn::Shared, async |kube| {
        let begun = Instant::now();
        let spec = json!({"replicas": 3, "storage": {"size": "1Gi"}});
        kube.apply("orders", &spec).await;
        let gone = json!({"replicas": 3, "storage": {"size": "1Gi", "retention": {"whenDeleted": "Delete"}}});
        kube.apply("orders-2", &gone).await;
        let one = kube.wait_until_settled("orders", 3, "the first of two clusters", begun).await;
        let two = kube.wait_until_settled("orders-2", 3, "the second of two clusters", begun).await;
        assert_ne!(one["clusterID"], two["clusterID"]);
        let workload = kube.start_workload("orders").await;
        let lives = kube.lives("orders").await;
        delete(kube, "orders-2").await;
        until_true("only the disks of the first to be left", SETTLING, || async { claims(kube).await == 3 })
            .await;
        assert_eq!(kube.lives("orders").await, lives, "the other was not touched");
        workload.finish_unharmed().await;
    })
    .await;
}

/// Whatever state it is in, and with its disks retained.
#[tokio::test]
async fn deletion_never_hangs() {
    on_kubernetes("deletion", Tier::All, Turn::Alone, async |kube| {
        let spec = json!({"image": "registry.dev/registry:absent", "storage": {"size": "1Gi"}});
        kube.apply("never", &spec).await;
        kube.wait_for_reason("never", "Progressing", "ImagePull", SETTLING).await;
        delete(kube, "never").await;
        kube.found("orders", 1).await;
        let operator = ["scale", "deployment/registry-operator", "--namespace", "registry-system"];
        kubectl(&[&operator[..], &["--replicas=0"]].concat()).await;
        until_true("no operator", SETTLING, || async { kube.operator_pods().await.is_empty() }).await;
        delete(kube, "orders").await;
        kubectl(&[&operator[..], &["--replicas=1"]].concat()).await;
        assert_eq!(claims(kube).await, 4, "all disks are retained");
    })
    .await;
}

#[tokio::test]
async fn a_paused_cluster_is_left_alone() {
    on_kubernetes("paused", Tier::All, Turn::Shared, async |kube| {
        kube.found("orders", 3).await;
        let lives = kube.lives("orders").await;
        kube.patch("orders", &json!({"spec": {"paused": true}})).await;
        kube.wait_for_condition("orders", "Paused", "True", SETTLING).await;
        let set = kube.api::<StatefulSet>().get("orders").await.expect("it is there").metadata.generation;
        let change = json!({"spec": {"replicas": 5, "image": "registry.dev/registry:test2"}});
        kube.patch("orders", &change).await;
        // Seen, and nothing done about it: the condition speaks of the new generation.
        kube.wait_for_condition("orders", "Paused", "True", SETTLING).await;
        kube.wait_for_condition("orders", "Progressing", "False", SETTLING).await;
        assert_eq!(kube.lives("orders").await, lives, "no node was touched");
        let now = kube.api::<StatefulSet>().get("orders").await.expect("it is there").metadata.generation;
        assert_eq!(now, set, "nor the set");
        let begun = Instant::now();
        kube.patch("orders", &json!({"spec": {"paused": false}})).await;
        kube.wait_until_settled("orders", 5, "resumed, with another image and size", begun).await;
    })
    .await;
}

/// As a newer operator does: the pods go on as they are until somebody wants a restart.
#[tokio::test]
async fn another_rendering_of_the_pods_restarts_none() {
    on_kubernetes("rendering", Tier::All, Turn::Shared, async |kube| {
        kube.found("orders", 3).await;
        let lives = kube.lives("orders").await;
        let other = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "orders"},
            "spec": {"template": {"metadata": {"annotations": {"example.com/rendered-by": "another version"}}}}});
        let as_other = PatchParams::apply("another-version").force();
        kube.api::<StatefulSet>().patch("orders", &as_other, &Patch::Apply(other)).await.expect("it is there");
        kube.wait_for_reason("orders", "UpgradePending", "TemplateChanged", SETTLING).await;
        assert_eq!(kube.lives("orders").await, lives, "no node was touched");
        let begun = Instant::now();
        kubectl(&["rollout", "restart", "statefulset/orders", "--namespace", &kube.namespace]).await;
        until("all pods to be new", SETTLING, || async {
            let now = kube.lives("orders").await;
            let new = lives.iter().zip(&now).filter(|(old, new)| old.1 != new.1).count();
            if new == 3 { Ok(()) } else { Err(new) }
        })
        .await;
        kube.wait_until_settled("orders", 3, "restart that was wanted", begun).await;
        kube.wait_for_reason("orders", "UpgradePending", "UpToDate", SETTLING).await;
    })
    .await;
}

/// A rule that the object breaks must not stop the operator from telling its state, and from mending it.
#[tokio::test]
async fn a_newer_rule_that_a_living_object_breaks_does_it_no_harm() {
    on_kubernetes("newer-rule", Tier::All, Turn::Alone, async |kube| {
        kube.found("orders", 1).await;
        change_rules(
            kube,
            json!({"op": "add", "path": format!("{RULES}/-"),
            "value": {"rule": "self >= 3", "message": "three at least"}}),
        )
        .await;
        until_true("the rule to hold", Duration::from_secs(60), || async {
            let new = kube.try_apply("refused", &json!({"replicas": 1})).await;
            if new.is_ok() {
                let _ = kube.clusters().delete("refused", &DeleteParams::default()).await;
            }
            new.is_err()
        })
        .await;
        let (begun, old) = (Instant::now(), kube.lives("orders").await);
        kube.delete_pod("orders-0").await;
        kube.wait_for_condition("orders", "Available", "False", SETTLING).await;
        kube.wait_until_settled("orders", 1, "pod deleted under a broken rule", begun).await;
        assert_ne!(kube.lives("orders").await, old, "the pod was made anew");
        let begun = Instant::now();
        kube.patch("orders", &json!({"spec": {"replicas": 3}})).await;
        kube.wait_until_settled("orders", 3, "as the rule wants it", begun).await;
        change_rules(kube, json!({"op": "remove", "path": format!("{RULES}/1")})).await;
    })
    .await;
}

#[tokio::test]
async fn a_class_that_cannot_grow_is_a_condition_and_no_loop() {
    on_kubernetes("class", Tier::All, Turn::Shared, async |kube| {
        let begun = Instant::now();
        let spec =
            |size: &str| json!({"replicas": 3, "storage": {"size": size, "storageClassName": "local"}});
        kube.apply("orders", &spec("1Gi")).await;
        kube.wait_until_settled("orders", 3, "founding on local disks", begun).await;
        let lives = kube.lives("orders").await;
        kube.apply("orders", &spec("2Gi")).await;
        kube.wait_for_reason("orders", "Degraded", "StorageClassCannotGrow", SETTLING).await;
        assert_eq!(kube.lives("orders").await, lives, "no node was touched");
        let status = kube.status("orders").await.expect("it is there");
        assert_eq!(condition(&status, "Available")["status"], "True", "{status}");
    })
    .await;
}
