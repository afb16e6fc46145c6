//! The operator under test: its deployment, its processes, its log.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use registry_tests::wait::until;

use super::command::kubectl;
use super::stage::Kube;

/// Where the operator is, and the name of its release and of its deployment.
pub const SYSTEM: &str = "registry-system";
/// The release of its chart.
pub const RELEASE: &str = "registry-operator";

/// A place that outlives the container but not the pod, for the marker of a crash point.
const MARKER: &str = r#"{"spec":{"template":{"spec":{
    "volumes":[{"name":"marker","emptyDir":{}}],
    "containers":[{"name":"operator","volumeMounts":[{"name":"marker","mountPath":"/marker"}]}]}}}}"#;

impl Kube {
    /// The pods of the operator.
    pub async fn operator_pods(&self) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), SYSTEM);
        let of_operator = ListParams::default().labels("app.kubernetes.io/name=registry-operator");
        pods.list(&of_operator).await.expect("a list of pods").items
    }

    /// Deletes its pod; another one takes over.
    pub async fn delete_operator_pod(&self) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), SYSTEM);
        for pod in self.operator_pods().await {
            // It may be on its way out already.
            let _ =
                pods.delete(pod.metadata.name.as_deref().unwrap_or_default(), &DeleteParams::default()).await;
        }
    }

    /// How often its containers died.
    pub async fn operator_restarts(&self) -> i32 {
        let pods = self.operator_pods().await;
        let containers = pods.iter().filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref());
        containers.flatten().map(|container| container.restart_count).sum()
    }

    /// From now on an operator that dies once, as by `kill -9`, right after this step.
    pub async fn operator_dies_after(&self, step: &str) {
        deployment(&["patch", &format!("deployment/{RELEASE}"), "--patch", MARKER]).await;
        let at = format!("REGISTRY_OPERATOR_CRASH_AT={step}");
        // The marker's name makes a pod of its own for each step.
        let marker = format!("REGISTRY_OPERATOR_CRASH_MARKER=/marker/{step}");
        deployment(&["set", "env", &format!("deployment/{RELEASE}"), &at, &marker]).await;
        self.operator_is_one().await;
    }

    /// An operator that lives, as it was installed.
    pub async fn operator_lives(&self) {
        let at = "REGISTRY_OPERATOR_CRASH_AT-";
        let marker = "REGISTRY_OPERATOR_CRASH_MARKER-";
        deployment(&["set", "env", &format!("deployment/{RELEASE}"), at, marker]).await;
        self.operator_is_one().await;
    }

    async fn operator_is_one(&self) {
        deployment(&["rollout", "status", &format!("deployment/{RELEASE}"), "--timeout=180s"]).await;
        until("one operator", Duration::from_secs(60), || async {
            let pods = self.operator_pods().await;
            if pods.len() == 1 { Ok(()) } else { Err(pods.len()) }
        })
        .await;
    }
}

async fn deployment(words: &[&str]) {
    kubectl(&[words, &["--namespace", SYSTEM]].concat()).await;
}
