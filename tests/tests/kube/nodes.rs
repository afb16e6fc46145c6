//! Machines that are drained, die, or lose the control plane.

use std::time::{Duration, Instant};

use registry_tests::wait::{until, until_true};
use serde_json::Value;

use crate::support::command::kubectl;
use crate::support::faults::Faults;
use crate::support::objects::{SETTLING, leader, member};
use crate::support::pods::{address, is_ready, node, uid};
use crate::support::stage::{Kube, Tier, on_test_cluster};

/// The node of a pod, and its number.
async fn node_of(kube: &Kube, pod: &str) -> (String, usize) {
    let name = node(&kube.pod(pod).await).expect("it runs somewhere").to_owned();
    let number = name.strip_prefix("node-").and_then(|number| number.parse().ok()).expect("node-N");
    (name, number)
}

/// A node that does not have this one's pods, for the program of the user.
fn another(node: &str) -> &'static str {
    if node == "node-1" { "node-2" } else { "node-1" }
}

/// Two nodes drained at the same time: the budget lets one member go after the other.
#[tokio::test]
async fn drained_nodes_give_up_one_member_after_the_other() {
    on_test_cluster("drain", Tier::All, async |kube, faults| {
        let before = kube.found("orders", 3).await;
        let (first, _) = node_of(kube, leader(&before)).await;
        let follower = ["orders-0", "orders-1", "orders-2"].into_iter().find(|pod| *pod != leader(&before));
        let (second, _) = node_of(kube, follower.expect("a follower")).await;
        let workload = kube.start_workload("orders").await;
        let begun = Instant::now();
        let words = ["--ignore-daemonsets", "--pod-selector=registry.dev/cluster=orders", "--timeout=240s"];
        faults.cordon(&[&first, &second]).await;
        let drain = async |node: &str| kubectl(&[&["drain", node], &words[..]].concat()).await;
        tokio::join!(drain(&first), drain(&second));
        println!("TIME two nodes drained at once: {:.1} s", begun.elapsed().as_secs_f64());
        kubectl(&["uncordon", &first, &second]).await;
        kube.wait_until_settled("orders", 3, "two nodes drained until all is at rest", begun).await;
        workload.finish_unharmed().await;
    })
    .await;
}

/// Kills the node of the leader, and waits until the cluster says so while writes go on.
async fn kill_node_of_leader(
    kube: &Kube,
    faults: &Faults,
) -> (String, usize, crate::support::workload::Workload) {
    let before = kube.found("orders", 3).await;
    let victim = leader(&before).to_owned();
    let (node, number) = node_of(kube, &victim).await;
    let workload = kube.start_workload_on("orders", another(&node)).await;
    let old = kube.pod(&victim).await;
    let begun = Instant::now();
    faults.kill_node(number).await;
    workload.wait_for_writes(100, Duration::from_secs(60)).await;
    println!("TIME node of the leader dead until 100 more writes: {:.1} s", begun.elapsed().as_secs_f64());
    kube.wait_for_reason("orders", "Degraded", "NodeUnreachable", SETTLING).await;
    println!("TIME node dead until Degraded says so: {:.1} s", begun.elapsed().as_secs_f64());
    let status = kube.status("orders").await.expect("it is there");
    assert_eq!(status["quorum"]["voters"], 3, "the member keeps its place: {status}");
    assert_eq!(uid(&kube.pod(&victim).await), uid(&old), "its pod is not deleted by force");
    (victim, number, workload)
}

#[tokio::test]
async fn a_member_returns_with_its_node_under_another_address() {
    on_test_cluster("node-returns", Tier::All, async |kube, faults| {
        let (victim, number, workload) = kill_node_of_leader(kube, faults).await;
        let old = address(&kube.pod(&victim).await).map(str::to_owned);
        let begun = Instant::now();
        faults.start_node(number).await;
        let after = kube.wait_until_settled("orders", 3, "node started until all is at rest", begun).await;
        assert!(member(&after, &victim)["raftID"].as_i64() <= Some(3), "on its old disk: {after}");
        let new = address(&kube.pod(&victim).await).map(str::to_owned);
        println!("address: {old:?}, then {new:?}");
        workload.finish_unharmed().await;
    })
    .await;
}

#[tokio::test]
async fn a_member_returns_elsewhere_when_its_node_is_out_of_service() {
    on_test_cluster("out-of-service", Tier::All, async |kube, faults| {
        let (victim, number, workload) = kill_node_of_leader(kube, faults).await;
        let (dead, _) = node_of(kube, &victim).await;
        let begun = Instant::now();
        faults.out_of_service(&dead).await;
        kube.wait_until_settled("orders", 3, "node out of service until all is at rest", begun).await;
        assert_ne!(node_of(kube, &victim).await.0, dead, "it runs elsewhere");
        workload.finish_unharmed().await;
        faults.start_node(number).await;
        until_true("the node to be ready", SETTLING, || async { node_is_ready(&dead).await == "True" }).await;
    })
    .await;
}

async fn node_is_ready(node: &str) -> String {
    kubectl(&["get", "node", node, "-o", r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#]).await
}

/// The node is lost to Kubernetes alone: its pods run on, and two processes on one disk must never be.
#[tokio::test]
async fn a_member_whose_kubelet_is_frozen_is_left_alone() {
    on_test_cluster("kubelet", Tier::All, async |kube, faults| {
        let before = kube.found("orders", 3).await;
        let (node, number) = node_of(kube, leader(&before)).await;
        let workload = kube.start_workload_on("orders", another(&node)).await;
        let lives = kube.lives("orders").await;
        let begun = Instant::now();
        faults.freeze(&format!("kubelet-{number}")).await;
        until("the node to be lost", SETTLING, || async {
            let ready = node_is_ready(&node).await;
            if ready == "Unknown" { Ok(()) } else { Err(ready) }
        })
        .await;
        let status = until("the status to say so", SETTLING, || async {
            let status: Value = kube.status("orders").await.expect("it is there");
            let degraded = crate::support::objects::condition(&status, "Degraded");
            if degraded["status"] == "True" { Ok(degraded) } else { Err(status) }
        })
        .await;
        println!("{}: {}", status["reason"], status["message"]);
        workload.wait_for_writes(100, Duration::from_secs(60)).await;
        let pods = kube.pods("orders").await;
        assert!(pods.iter().filter(|pod| is_ready(pod)).count() >= 2, "the others are ready");
        faults.thaw(&format!("kubelet-{number}")).await;
        kube.wait_until_settled("orders", 3, "kubelet frozen and thawed until all is at rest", begun).await;
        assert_eq!(kube.lives("orders").await, lives, "no node was touched");
        workload.finish_unharmed().await;
    })
    .await;
}
