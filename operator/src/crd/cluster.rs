//! `RegistryCluster`: what a user asks for.
//!
//! All rules are CEL in the schema: no webhook that could be away. Descriptions name the default and the unit,
//! because `kubectl explain` shows neither. Tried on kube-apiserver 1.34.
//! `Rule` and `ListMerge` need no import where an attribute mentions them: the macros bring them along.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pod::{ImagePullPolicy, PodTemplate, Resources, SecretName, labels_schema};
use super::settings::{Raft, RegistrySettings};
use super::status::RegistryClusterStatus;
use super::values::Size;

/// A replicated registry: one to seven nodes that agree by Raft.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "registry.dev",
    version = "v1alpha1",
    kind = "RegistryCluster",
    plural = "registryclusters",
    singular = "registrycluster",
    shortname = "rcl",
    category = "registry",
    namespaced,
    status = "RegistryClusterStatus",
    derive = "PartialEq",
    doc = "A replicated service registry: one to seven nodes that agree by Raft.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.currentVersion"),
    printcolumn(
        name = "Available",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Available")].status"#
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Progressing")].reason"#
    ),
    printcolumn(
        name = "Degraded",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Degraded")].reason"#,
        priority = 1
    ),
    printcolumn(name = "Quorum", type_ = "string", json_path = ".status.quorum.summary", priority = 1),
    printcolumn(name = "Image", type_ = "string", json_path = ".status.image", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    selectable = ".spec.paused",
    // Derived names are NAME-peers-… and the pod's label `statefulset.kubernetes.io/pod-name`.
    validation = Rule::new("self.metadata.name.size() <= 40")
        .message("metadata.name may have at most 40 characters, because names of pods and services are derived from it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must start with a letter and hold only a-z, 0-9 and '-', because services are named after it"),
    validation = Rule::new(
        "self.spec.replicas == oldSelf.spec.replicas || (has(self.status) && has(self.status.bootstrapped) && self.status.bootstrapped)"
    )
    .message("replicas cannot change before the cluster has been founded; wait for condition Available, or delete and create it anew")
    .field_path(".spec.replicas")
)]
#[serde(rename_all = "camelCase")]
pub struct RegistryClusterSpec {
    /// Number of voting nodes: 1, 3, 5 or 7 (default 3). Leave it out of the manifest if you use `kubectl scale`.
    // Not an OpenAPI enum: its message would be `Unsupported value: 4` without the reason.
    #[serde(default = "replicas")]
    #[schemars(range(min = 1, max = 7))]
    #[x_kube(validation = Rule::new("self % 2 == 1").message("replicas must be 1, 3, 5 or 7: an even number of voters tolerates no more failures than one fewer"))]
    pub replicas: i32,

    /// Container image of the nodes (default: that of the operator when the cluster is created; a newer
    /// operator does not change it). A change restarts the nodes one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^\S+$"))]
    pub image: Option<String>,

    /// When hosts ask the image registry: IfNotPresent, Always or Never (default IfNotPresent).
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,

    /// Secrets with credentials for the image registry (default none).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<SecretName>,

    /// Disk of each node.
    #[serde(default)]
    pub storage: Storage,

    /// CPU and memory of each node (default: requests of 100m and 128Mi, no limits). A change restarts the nodes.
    #[serde(default)]
    pub resources: Resources,

    /// What else a pod of this cluster carries. A change restarts the nodes.
    #[serde(default)]
    pub pod_template: PodTemplate,

    /// Whether two nodes of this cluster may share a host: Preferred (spread where possible) or Required
    /// (a node waits for a host of its own). Default Preferred. A change restarts the nodes.
    #[serde(default)]
    pub anti_affinity: Strictness,

    /// Whether nodes are spread evenly over zones (label topology.kubernetes.io/zone): Preferred (where
    /// possible) or Required. Default Preferred. A change restarts the nodes.
    #[serde(default)]
    pub zone_spread: Strictness,

    /// Budget that keeps a quorum of voters when hosts are drained. A cluster of one node has none.
    #[serde(default)]
    pub pod_disruption_budget: PodDisruptionBudget,

    /// Timing of Raft. A change restarts the nodes.
    #[serde(default)]
    pub raft: Raft,

    /// Settings of the running cluster. A change needs no restart.
    #[serde(default)]
    pub registry: RegistrySettings,

    /// Who may reach the nodes, where the network of the Kubernetes cluster enforces policies.
    #[serde(default)]
    pub network_policy: NetworkPolicy,

    /// How changes that restart nodes are rolled out.
    #[serde(default)]
    pub update: Update,

    /// While true the operator changes nothing: no pod, no member, no object. The status is kept (default false).
    #[serde(default)]
    pub paused: bool,
}

fn replicas() -> i32 {
    3
}

impl Default for RegistryClusterSpec {
    fn default() -> Self {
        Self {
            replicas: replicas(),
            image: None,
            image_pull_policy: ImagePullPolicy::default(),
            image_pull_secrets: Vec::new(),
            storage: Storage::default(),
            resources: Resources::default(),
            pod_template: PodTemplate::default(),
            anti_affinity: Strictness::default(),
            zone_spread: Strictness::default(),
            pod_disruption_budget: PodDisruptionBudget::default(),
            raft: Raft::default(),
            registry: RegistrySettings::default(),
            network_policy: NetworkPolicy::default(),
            update: Update::default(),
            paused: false,
        }
    }
}

/// Disk of each node.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
// Two rules for an optional field that must not change: this one alone sees it come and go.
#[x_kube(validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName)").message("storage.storageClassName cannot be added or removed later: volumes do not move between classes"))]
pub struct Storage {
    /// Size of the volume, such as 10Gi (default 10Gi, at least 256Mi). It may grow if the storage class allows
    /// it, and never shrinks: removing the field means the default again.
    #[serde(default = "storage_size")]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity(oldSelf)) >= 0").message(kube::core::cel::Message::Expression("'storage.size may only grow: ' + self + ' is less than ' + oldSelf".into())))]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity('256Mi')) >= 0").message("storage.size must be at least 256Mi: the log is allocated in segments of 64Mi beside a reserve and snapshots"))]
    pub size: Size,
    /// Storage class (default: the default class of the Kubernetes cluster). Cannot be changed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("storage.storageClassName cannot be changed: volumes do not move between classes"))]
    pub storage_class_name: Option<String>,
    /// What happens to volumes that are no longer needed.
    #[serde(default)]
    pub retention: Retention,
}

fn storage_size() -> Size {
    Size::from_bytes(10 << 30)
}

impl Default for Storage {
    fn default() -> Self {
        Self { size: storage_size(), storage_class_name: None, retention: Retention::default() }
    }
}

/// Whether something is kept.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum RetentionPolicy {
    /// It stays.
    #[default]
    Retain,
    /// It is deleted.
    Delete,
}

impl RetentionPolicy {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retain => "Retain",
            Self::Delete => "Delete",
        }
    }
}

/// What happens to volumes that are no longer needed.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Volumes of a deleted cluster: Retain or Delete (default Retain). With Delete they also go with the
    /// StatefulSet if somebody deletes that.
    #[serde(default)]
    pub when_deleted: RetentionPolicy,
    /// Volumes of nodes removed by scaling down: Retain or Delete (default Retain). A retained one is emptied
    /// when a node of its name is added again, because its data has been left out of the cluster since.
    #[serde(default)]
    pub when_scaled: RetentionPolicy,
}

/// Whether a rule of placement may be broken.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum Strictness {
    /// If there is no other place.
    #[default]
    Preferred,
    /// Never: the pod waits.
    Required,
}

/// Budget for evictions.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct PodDisruptionBudget {
    /// Whether there is one (default true).
    #[serde(default = "yes")]
    pub enabled: bool,
}

impl Default for PodDisruptionBudget {
    fn default() -> Self {
        Self { enabled: yes() }
    }
}

/// Who may reach the nodes.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicy {
    /// Whether there is a policy (default true): the peer port for nodes of this cluster and the operator, the
    /// client port for clientNamespaces, health and metrics for all.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Labels of the namespaces whose pods may use the client port (default none: all namespaces).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels_schema")]
    pub client_namespaces: BTreeMap<String, String>,
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self { enabled: yes(), client_namespaces: BTreeMap::new() }
    }
}

/// How changes that restart nodes are rolled out.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    /// How long a restarted node must have been caught up without a break before the next one is restarted, in
    /// seconds (default 10).
    #[serde(default = "settle_seconds")]
    #[schemars(range(min = 0, max = 3600))]
    pub settle_seconds: i32,
    /// A step that takes longer is reported as DeadlineExceeded, in seconds (default 600). It is tried further.
    #[serde(default = "progress_deadline_seconds")]
    #[schemars(range(min = 30, max = 86_400))]
    pub progress_deadline_seconds: i32,
}

fn settle_seconds() -> i32 {
    10
}

fn progress_deadline_seconds() -> i32 {
    600
}

impl Default for Update {
    fn default() -> Self {
        Self { settle_seconds: settle_seconds(), progress_deadline_seconds: progress_deadline_seconds() }
    }
}

fn yes() -> bool {
    true
}
