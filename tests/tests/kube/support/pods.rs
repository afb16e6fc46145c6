//! The pods of a RegistryCluster and what they say.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use kube::api::{DeleteParams, ListParams, LogParams};
use registry_tests::wait::until;

use super::command::{Output, run};
use super::stage::Kube;

impl Kube {
    /// A typed interface to a kind of object of the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The data pods of a cluster, by name.
    pub async fn pods(&self, cluster: &str) -> Vec<Pod> {
        let of_cluster = ListParams::default().labels(&format!("registry.dev/cluster={cluster}"));
        let mut pods = self.api::<Pod>().list(&of_cluster).await.expect("a list of pods").items;
        pods.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
        pods
    }

    /// Waits until exactly so many data pods are there and all of them are ready.
    pub async fn wait_for_ready(&self, cluster: &str, count: usize, limit: Duration) -> Vec<Pod> {
        until(&format!("{count} ready pods of {cluster}"), limit, || async {
            let pods = self.pods(cluster).await;
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            if ready == count && pods.len() == count { Ok(pods) } else { Err((ready, pods.len())) }
        })
        .await
    }

    /// One pod.
    pub async fn pod(&self, name: &str) -> Pod {
        self.api::<Pod>().get(name).await.unwrap_or_else(|error| panic!("pod {name}: {error}"))
    }

    /// UID and restarts of each data pod: equal as long as no node was touched.
    pub async fn lives(&self, cluster: &str) -> Vec<(String, String, i32)> {
        let restarts = |pod: &Pod| {
            let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
            containers.into_iter().flatten().map(|container| container.restart_count).sum()
        };
        let pods = self.pods(cluster).await;
        pods.iter().map(|pod| (name(pod).to_owned(), uid(pod).to_owned(), restarts(pod))).collect()
    }

    /// Deletes a pod as a user does, with its grace period.
    pub async fn delete_pod(&self, name: &str) {
        self.api::<Pod>().delete(name, &DeleteParams::default()).await.expect("the pod is there");
    }

    /// A command in the container `registry` of a pod.
    pub async fn exec(&self, pod: &str, command: &[&str]) -> Output {
        let mut args = vec!["exec", "--namespace", &self.namespace, pod, "--container", "registry", "--"];
        args.extend(command);
        run("kubectl", &args, "").await
    }

    /// What the container `registry` of a pod has logged.
    pub async fn logs(&self, pod: &str) -> String {
        let container = LogParams { container: Some("registry".to_owned()), ..LogParams::default() };
        self.api::<Pod>().logs(pod, &container).await.expect("the pod has a log")
    }

    /// The address of a service, which this process can dial: it runs in the cluster's network.
    pub async fn service_address(&self, service: &str) -> String {
        let service = self.api::<Service>().get(service).await.expect("the service is there");
        service.spec.and_then(|spec| spec.cluster_ip).expect("it has an address")
    }
}

/// Whether the kubelet and the readiness probe say that it is ready, and it is not on its way out.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// The pod's name.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().expect("every pod has a name")
}

/// Its present address.
pub fn address(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.pod_ip.as_deref()
}

/// The node that it runs on.
pub fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// What tells a pod from its successor of the same name.
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().expect("every pod has a UID")
}
