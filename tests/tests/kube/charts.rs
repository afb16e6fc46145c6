//! The charts on a real Kubernetes: installed, tested, taken over, removed.

use std::time::Duration;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::ListParams;
use registry_tests::wait::until_true;
use serde_json::json;

use crate::support::command::{helm, kubectl, run, succeed};
use crate::support::operator::{RELEASE, SYSTEM};
use crate::support::stage::{Tier, Turn, on_kubernetes};

const CLUSTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/registry-cluster");
const OPERATOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/registry-operator");
const INSTALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/install.yaml");

#[tokio::test]
async fn a_release_of_a_cluster_is_a_registry_and_leaves_its_disks() {
    on_kubernetes("chart", Tier::Quick, Turn::Shared, async |kube| {
        let here = ["--namespace", &kube.namespace];
        let image = ["--set", "test.image=registry.dev/registry:test"];
        let release = |verb, more: &[&'static str]| {
            [&[verb, "orders", CLUSTER], &here[..], &image, more]
                .concat()
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let words = release("install", &["--set", "replicas=1"]);
        helm(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let available = ["wait", "--for=condition=Available", "rcl/orders", "--timeout=120s"];
        kubectl(&[&available[..], &here].concat()).await;
        helm(&[&["test", "orders"], &here[..]].concat()).await;

        let refused = release("upgrade", &["--set", "replicas=2"]);
        let refused = run("helm", &refused.iter().map(String::as_str).collect::<Vec<_>>(), "").await;
        assert!(!refused.ok && refused.stderr.contains("/replicas"), "{}", refused.stderr);

        helm(&[&["uninstall", "orders"], &here[..]].concat()).await;
        until_true("the pods to be gone", Duration::from_secs(90), || async {
            kube.pods("orders").await.is_empty()
        })
        .await;
        let claims = kube.api::<PersistentVolumeClaim>().list(&ListParams::default()).await.expect("a list");
        assert_eq!(claims.items.len(), 1, "the disk is retained");
    })
    .await;
}

/// Uninstalled, installed by kubectl, and taken over by helm: no node notices.
#[tokio::test]
async fn an_operator_that_goes_and_comes_back_touches_no_node() {
    on_kubernetes("operator-release", Tier::All, Turn::Alone, async |kube| {
        kube.apply("orders", &json!({ "replicas": 1 })).await;
        kube.wait_for_condition("orders", "Available", "True", Duration::from_secs(120)).await;
        let before = kube.lives("orders").await;

        helm(&["uninstall", RELEASE, "--namespace", SYSTEM, "--wait"]).await;
        assert_eq!(kube.lives("orders").await, before, "without an operator");
        kubectl(&["get", "registryclusters", "orders", "--namespace", &kube.namespace]).await;

        let install = std::fs::read_to_string(INSTALL).expect("the manifest is there");
        let install = install.replace("registry.dev/registry:0.1.0", "registry.dev/registry:test");
        succeed("kubectl", &["apply", "-f", "-"], &install).await;
        let rollout = ["rollout", "status", "deployment/registry-operator", "--timeout=120s"];
        kubectl(&[&rollout[..], &["--namespace", SYSTEM]].concat()).await;
        assert_eq!(kube.lives("orders").await, before, "with an operator by kubectl");

        let words = ["upgrade", "--install", RELEASE, OPERATOR, "--namespace", SYSTEM, "--wait"];
        let test = ["--set", "image.tag=test"];
        let refused = run("helm", &[&words[..], &test].concat(), "").await;
        assert!(refused.stderr.contains("cannot be imported"), "{}", refused.stderr);
        helm(&[&words[..], &test, &["--take-ownership"]].concat()).await;
        helm(&["test", RELEASE, "--namespace", SYSTEM]).await;
        assert_eq!(kube.lives("orders").await, before, "with an operator by helm");
    })
    .await;
}
