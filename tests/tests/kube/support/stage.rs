//! Where a test plays: a namespace of its own, taken down after success and kept after a failure, for the dump.

use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::{Duration, Instant};

use futures::FutureExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use registry_tests::wait::until_true;
use serde_json::json;

use super::faults::Faults;

/// When a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// At each change, with everything else.
    Quick,
    /// Only with `tests/kube/run --all`.
    All,
}

/// What may run beside a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Other tests that keep to their namespace, too.
    Shared,
    /// Nothing: it breaks nodes, the control plane or the operator.
    Alone,
}

/// A namespace and the ways to act in it.
pub struct Kube {
    /// As administrator.
    pub client: Client,
    /// The test's own, with Pod Security `restricted` enforced.
    pub namespace: String,
    /// Faults of the test cluster; none in a cluster of other making. Undone after the test.
    pub faults: Option<Faults>,
}

/// Plays a test, or says loudly that it is skipped. `name` makes the name of the namespace.
pub async fn on_kubernetes(name: &str, tier: Tier, turn: Turn, body: impl AsyncFnOnce(&Kube)) {
    match std::env::var("REGISTRY_KUBE_TESTS").as_deref() {
        Ok("all") => {}
        Ok("quick") if tier == Tier::Quick => {}
        Ok("quick") => return skip(name, "it runs only with tests/kube/run --all"),
        _ => return skip(name, "REGISTRY_KUBE_TESTS is not set, tests/kube/run does it"),
    }
    let _turn = wait_for_turn(turn);
    let begun = Instant::now();
    let client = Client::try_default().await.expect("KUBECONFIG names a cluster");
    let faults = (turn == Turn::Alone).then(Faults::of_environment).flatten();
    let kube = Kube { namespace: make_namespace(&client, name).await, client, faults };
    let outcome = AssertUnwindSafe(body(&kube)).catch_unwind().await;
    if let Some(faults) = &kube.faults {
        faults.undo().await;
    }
    match outcome {
        Ok(()) => {
            println!("{name}: {:.1} s", begun.elapsed().as_secs_f64());
            delete_namespace(&kube).await;
        }
        Err(panic) => {
            println!("{name}: failed; namespace {} is kept", kube.namespace);
            resume_unwind(panic);
        }
    }
}

/// As [`on_kubernetes`] alone, for a test that needs the faults of the test cluster.
pub async fn on_test_cluster(name: &str, tier: Tier, body: impl AsyncFnOnce(&Kube, &Faults)) {
    if std::env::var("REGISTRY_KUBE_TESTS").is_ok() && Faults::of_environment().is_none() {
        return skip(name, "it needs the faults of a test cluster, not a cluster of other making");
    }
    on_kubernetes(name, tier, Turn::Alone, async |kube| {
        body(kube, kube.faults.as_ref().expect("looked at above")).await;
    })
    .await;
}

/// Past the capture of output, so that a green run without Kubernetes does not look like more than it is.
fn skip(name: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED Kubernetes test {name}: {why}");
}

/// Held until dropped. A lock of a file works between threads and between processes.
fn wait_for_turn(turn: Turn) -> File {
    let file =
        File::create(std::env::temp_dir().join("registry-kube-tests.lock")).expect("a file for the lock");
    match turn {
        Turn::Shared => file.lock_shared().expect("a shared lock"),
        Turn::Alone => file.lock().expect("the lock"),
    }
    file
}

async fn make_namespace(client: &Client, name: &str) -> String {
    let name = format!("test-{name}-{:04x}", rand::random::<u16>());
    let namespace = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }))
    .expect("a namespace");
    let all: Api<Namespace> = Api::all(client.clone());
    all.create(&PostParams::default(), &namespace).await.expect("a new namespace");
    name
}

/// Waits until it is gone: its pods would take the time of the next test, and no finalizer may hang.
async fn delete_namespace(kube: &Kube) {
    let all: Api<Namespace> = Api::all(kube.client.clone());
    all.delete(&kube.namespace, &DeleteParams::default()).await.expect("the namespace is there");
    until_true("the namespace to be gone", Duration::from_secs(120), || async {
        matches!(all.get_opt(&kube.namespace).await, Ok(None))
    })
    .await;
}
