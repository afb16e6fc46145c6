//! Pods that are made anew one by one, the leader last.

use std::collections::BTreeMap;
use std::time::Instant;

use registry_tests::wait::until_true;
use serde_json::{Value, json};

use crate::support::command::kubectl;
use crate::support::objects::{SETTLING, condition, leader};
use crate::support::pods::{name, uid};
use crate::support::stage::{Kube, Tier, Turn, on_kubernetes};

/// Waits until each pod of a cluster has a successor; gives their names in that order.
async fn watch_roll(kube: &Kube, cluster: &str, before: &[(String, String, i32)]) -> Vec<String> {
    let mut open: BTreeMap<String, String> =
        before.iter().map(|(name, uid, _)| (name.clone(), uid.clone())).collect();
    let mut order = Vec::new();
    let begun = Instant::now();
    while !open.is_empty() {
        assert!(begun.elapsed() < SETTLING, "still to be rolled: {open:?}; {:?}", kube.status(cluster).await);
        for pod in kube.pods(cluster).await {
            if open.get(name(&pod)).is_some_and(|old| old != uid(&pod)) {
                open.remove(name(&pod));
                order.push(name(&pod).to_owned());
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    order
}

async fn roll(kube: &Kube, cluster: &str, what: &str, before: &Value, begin: impl AsyncFnOnce()) {
    let lives = kube.lives(cluster).await;
    let begun = Instant::now();
    begin().await;
    let order = watch_roll(kube, cluster, &lives).await;
    println!("{what}: {order:?}, led by {} before", leader(before));
    assert_eq!(order.last().map(String::as_str), Some(leader(before)), "the leader is last");
    kube.wait_until_settled(cluster, lives.len(), what, begun).await;
}

#[tokio::test]
async fn another_image_rolls_one_pod_after_the_other_under_load() {
    on_kubernetes("image", Tier::Quick, Turn::Shared, async |kube| {
        let before = kube.found("orders", 3).await;
        let workload = kube.start_workload("orders").await;
        roll(kube, "orders", "roll of three", &before, async || {
            kube.patch("orders", &json!({"spec": {"image": "registry.dev/registry:test2"}})).await;
        })
        .await;
        for pod in kube.pods("orders").await {
            let image = pod.spec.as_ref().and_then(|spec| spec.containers[0].image.as_deref());
            assert_eq!(image, Some("registry.dev/registry:test2"), "{}", name(&pod));
        }
        workload.finish_unharmed().await;
    })
    .await;
}

/// Also after the set was made anew for larger disks: its pods and their restart annotation must go on.
#[tokio::test]
async fn rollout_restart_is_a_safe_roll_also_after_disks_have_grown() {
    on_kubernetes("restart", Tier::All, Turn::Shared, async |kube| {
        let mut before = kube.found("orders", 3).await;
        let workload = kube.start_workload("orders").await;
        let restart = ["rollout", "restart", "statefulset/orders", "--namespace", &kube.namespace];
        roll(kube, "orders", "rollout restart of three", &before, async || {
            kubectl(&restart).await;
        })
        .await;

        let (lives, begun) = (kube.lives("orders").await, Instant::now());
        kube.patch("orders", &json!({"spec": {"storage": {"size": "2Gi"}}})).await;
        before = kube.wait_until_settled("orders", 3, "growth of three disks", begun).await;
        assert_eq!(kube.lives("orders").await, lives, "disks grow under running nodes");
        let template = ["get", "statefulset/orders", "--namespace", &kube.namespace, "-o"];
        let size = "jsonpath={.spec.volumeClaimTemplates[0].spec.resources.requests.storage}";
        assert_eq!(kubectl(&[&template[..], &[size]].concat()).await, "2Gi");

        roll(kube, "orders", "rollout restart after disks have grown", &before, async || {
            kubectl(&restart).await;
        })
        .await;
        workload.finish_unharmed().await;
    })
    .await;
}

/// An image that cannot be had, one that exits at once, one that never gets ready: one pod is lost to each, the
/// other two go on, and the next spec mends it.
#[tokio::test]
async fn a_bad_image_stops_at_one_pod_and_the_next_spec_mends_it() {
    on_kubernetes("bad-image", Tier::All, Turn::Shared, async |kube| {
        let first = kube.found("orders", 3).await;
        let leads = leader(&first).to_owned();
        let workload = kube.start_workload("orders").await;
        for (tag, reasons) in [
            ("absent", ["ImagePull", "ImagePull"]),
            ("exits", ["CrashLoop", "CrashLoop"]),
            ("never-ready", ["DeadlineExceeded", "RollingUpdate"]),
        ] {
            let image = format!("registry.dev/registry:{tag}");
            let lives = kube.lives("orders").await;
            kube.patch(
                "orders",
                &json!({"spec": {"image": image, "update": {"progressDeadlineSeconds": 60}}}),
            )
            .await;
            until_true(&format!("{tag} to be told"), SETTLING, || async {
                let status = kube.status("orders").await.expect("it is there");
                let reason = condition(&status, "Progressing")["reason"].clone();
                let touched =
                    lives.iter().zip(kube.lives("orders").await).filter(|(old, new)| old.1 != new.1);
                touched.count() == 1 && reasons.iter().any(|one| reason == *one)
            })
            .await;
            let status = kube.status("orders").await.expect("it is there");
            println!("{tag}: {}", condition(&status, "Progressing")["message"]);
            assert_eq!(condition(&status, "Available")["status"], "True", "{status}");
            assert_eq!(leader(&status), leads, "the leader is not touched");
            let begun = Instant::now();
            kube.patch("orders", &json!({"spec": {"image": "registry.dev/registry:test"}})).await;
            kube.wait_until_settled("orders", 3, &format!("mended after {tag}"), begun).await;
            let touched =
                lives.iter().zip(kube.lives("orders").await).filter(|(old, new)| old.1 != new.1).count();
            assert_eq!(touched, 1, "only the pod with the bad image was made anew");
        }
        workload.finish_unharmed().await;
    })
    .await;
}
