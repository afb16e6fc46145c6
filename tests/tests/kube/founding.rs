//! One object gives a registry that serves, however it is applied.

use std::time::{Duration, Instant};

use registry_tests::timing::assert_within;

use crate::support::command::{helm, kubectl, succeed};
use crate::support::objects::SETTLING;
use crate::support::stage::{Tier, Turn, on_kubernetes};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/samples/minimal.yaml");
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/registry-cluster");

#[tokio::test]
async fn the_sample_is_available_within_a_minute_and_serves() {
    on_kubernetes("sample", Tier::Quick, Turn::Shared, async |kube| {
        let here = ["--namespace", &kube.namespace];
        let sample = std::fs::read_to_string(SAMPLE).expect("the sample is there");
        let sample = sample.replace("namespace: default", &format!("namespace: {}", kube.namespace));
        let begun = Instant::now();
        succeed("kubectl", &[&["apply", "-f", "-"], &here[..]].concat(), &sample).await;
        let available = ["wait", "--for=condition=Available", "rcl/registry", "--timeout=300s"];
        kubectl(&[&available[..], &here].concat()).await;
        println!("TIME kubectl apply of a sample until Available: {:.1} s", begun.elapsed().as_secs_f64());
        assert_within("three nodes, Available", begun.elapsed(), Duration::from_secs(60));
        kube.wait_until_settled("registry", 3, "the same until all is at rest", begun).await;
        let workload = kube.start_workload("registry").await;
        workload.wait_for_writes(100, Duration::from_secs(60)).await;
        workload.finish_unharmed().await;
    })
    .await;
}

#[tokio::test]
async fn a_release_of_three_nodes_is_available_within_a_minute() {
    on_kubernetes("release", Tier::All, Turn::Shared, async |kube| {
        let here = ["--namespace", &kube.namespace];
        let begun = Instant::now();
        helm(&[&["install", "orders", CHART], &here[..]].concat()).await;
        let took = kube.wait_for_condition("orders", "Available", "True", SETTLING).await;
        assert_within("three nodes by helm, Available", took, Duration::from_secs(60));
        kube.wait_until_settled("orders", 3, "helm install of a cluster until all is at rest", begun).await;
    })
    .await;
}
