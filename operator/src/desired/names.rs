//! Names, labels and owner of everything that belongs to a cluster.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::Resource as _;

use crate::crd::{CLUSTER_LABEL, MANAGER, RegistryCluster};

/// Name of the container of a node, and of its program.
pub const CONTAINER: &str = "registry";
/// Name of the volume and of the claim template of a node's disk.
pub const DATA: &str = "data";
/// Port for clients.
pub const CLIENT_PORT: i32 = 8080;
/// Port for the other nodes and for administration.
pub const PEER_PORT: i32 = 9080;
/// Port of `/livez`, `/readyz` and `/metrics`.
pub const HTTP_PORT: i32 = 9180;

/// The cluster object that owns the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Name of the cluster.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Identity of the object, so that a later one of the same name owns nothing of it.
    pub uid: String,
}

impl Owner {
    /// The owner that a cluster object is; `None` for one that is not from an API server.
    pub fn of(cluster: &RegistryCluster) -> Option<Self> {
        Some(Self {
            name: cluster.metadata.name.clone()?,
            namespace: cluster.metadata.namespace.clone()?,
            uid: cluster.metadata.uid.clone()?,
        })
    }

    /// Name of the headless service.
    pub fn peers(&self) -> String {
        format!("{}-peers", self.name)
    }

    /// Name of the config map.
    pub fn config(&self) -> String {
        format!("{}-config", self.name)
    }

    /// Name of the Secret with the token for administration.
    pub fn token(&self) -> String {
        format!("{}-admin", self.name)
    }

    /// Name of a pod, which is also the node's.
    pub fn pod(&self, ordinal: u32) -> String {
        format!("{}-{ordinal}", self.name)
    }

    /// Name of the claim of a pod's disk.
    pub fn claim(&self, ordinal: u32) -> String {
        format!("{DATA}-{}-{ordinal}", self.name)
    }

    /// Ordinal of a pod of this cluster; `None` for any other name.
    pub fn ordinal(&self, pod: &str) -> Option<u32> {
        let digits = pod.strip_prefix(&self.name)?.strip_prefix('-')?;
        let ordinal = digits.parse::<u32>().ok()?;
        // Not `01` and not `+1`.
        (self.pod(ordinal) == pod).then_some(ordinal)
    }

    /// DNS domain of the pods.
    pub fn domain(&self, cluster_domain: &str) -> String {
        format!("{}.{}.svc.{cluster_domain}", self.peers(), self.namespace)
    }

    /// DNS name of a pod, the same for its whole life.
    pub fn host(&self, ordinal: u32, cluster_domain: &str) -> String {
        format!("{}.{}", self.pod(ordinal), self.domain(cluster_domain))
    }

    /// Raft address of a pod.
    pub fn peer_endpoint(&self, ordinal: u32, cluster_domain: &str) -> String {
        format!("{}:{PEER_PORT}", self.host(ordinal, cluster_domain))
    }

    /// Labels that select the pods and never change.
    pub fn pod_labels(&self) -> BTreeMap<String, String> {
        [
            ("app.kubernetes.io/name", "registry"),
            ("app.kubernetes.io/instance", self.name.as_str()),
            (CLUSTER_LABEL, self.name.as_str()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    /// Labels of all objects.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.pod_labels();
        labels.insert("app.kubernetes.io/managed-by".into(), MANAGER.into());
        labels
    }

    /// Selects the pods.
    pub fn selector(&self) -> LabelSelector {
        LabelSelector { match_labels: Some(self.pod_labels()), ..LabelSelector::default() }
    }

    /// Selects the pods, as the scale subresource wants it.
    pub fn selector_text(&self) -> String {
        let pairs: Vec<_> =
            self.pod_labels().into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(",")
    }

    /// The reference by which Kubernetes deletes an object after its cluster.
    pub fn reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: RegistryCluster::api_version(&()).into_owned(),
            kind: RegistryCluster::kind(&()).into_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    /// Metadata of an object of this cluster.
    pub fn metadata(&self, name: impl Into<String>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.into()),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels()),
            owner_references: Some(vec![self.reference()]),
            ..ObjectMeta::default()
        }
    }

    /// Whether an object is this cluster's. One that is not is never touched.
    pub fn owns(&self, metadata: &ObjectMeta) -> bool {
        let references = metadata.owner_references.as_deref().unwrap_or_default();
        references.iter().any(|reference| reference.uid == self.uid && reference.controller == Some(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::testing::owner;

    #[test]
    fn ordinals_are_read_as_numbers_and_from_pods_of_this_cluster_only() {
        let owner = owner();
        assert_eq!(owner.ordinal("orders-10"), Some(10));
        for other in
            ["orders", "orders-", "orders-01", "orders-+1", "orders--1", "orders-1-0", "order-1", "xorders-1"]
        {
            assert_eq!(owner.ordinal(other), None, "{other}");
        }
    }

    #[test]
    fn an_object_of_an_earlier_cluster_of_the_same_name_is_not_ours() {
        let owner = owner();
        let mut metadata = owner.metadata("orders");
        assert!(owner.owns(&metadata));
        assert!(!Owner { uid: "other".into(), ..owner.clone() }.owns(&metadata));
        metadata.owner_references = None;
        assert!(!owner.owns(&metadata));
    }

    #[test]
    fn labels_and_names_fit_for_the_longest_name_of_a_cluster() {
        let owner = Owner { name: "a".repeat(40), ..owner() };
        let longest = owner.labels().into_values().chain([owner.peers(), owner.pod(999), owner.claim(999)]);
        // The revision label of a pod is its set's name, a dash and ten characters.
        for name in longest.chain([format!("{}-0123456789", owner.name)]) {
            assert!(name.len() <= 63, "{name}");
        }
    }
}
