//! The `RegistryCluster` custom resource: shape, defaults and rules.
//!
//! Tried on kube-apiserver 1.34 with kube 5.0, k8s-openapi 0.29 (feature `schemars`), schemars 1.2.
//! `Rule` and `Message` need no import where `#[kube(..)]`/`#[x_kube(..)]` mention them: the macros bring them along.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

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
    cel,
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
        name = "Progressing",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Progressing")].reason"#,
        priority = 1
    ),
    printcolumn(name = "Quorum", type_ = "string", json_path = ".status.quorum.summary", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    selectable = ".spec.paused",
    // Derived names are NAME-peers-… and the pod's label `statefulset.kubernetes.io/pod-name`.
    validation = Rule::new("self.metadata.name.size() <= 40")
        .message("the name may have at most 40 characters, because names of pods and services are derived from it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name must start with a letter and hold only a-z, 0-9 and '-', because services are named after it"),
    validation = Rule::new(
        "self.spec.replicas == oldSelf.spec.replicas || (has(self.status) && has(self.status.bootstrapped) && self.status.bootstrapped)"
    )
    .message("replicas cannot change before the cluster has been bootstrapped; wait for condition Available, or delete and create it anew")
    .field_path(".spec.replicas")
)]
#[serde(rename_all = "camelCase")]
pub struct RegistryClusterSpec {
    /// Number of voting nodes: 1, 3, 5 or 7 (default 3). Leave it out of the manifest if you use `kubectl scale`.
    // Not an OpenAPI enum: its message would be `Unsupported value: 4` without the reason.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 7))]
    #[x_kube(validation = Rule::new("self % 2 == 1").message("replicas must be 1, 3, 5 or 7: an even number of voters tolerates no more failures than one fewer"))]
    pub replicas: i32,

    /// Container image of the node. Unset: the image that the operator was released with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,

    /// Disk of each node.
    #[serde(default)]
    pub storage: Storage,

    /// CPU and memory of each node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "resources_schema")]
    pub resources: Option<ResourceRequirements>,

    /// What else a pod of this cluster carries.
    #[serde(default)]
    pub pod_template: PodTemplate,

    /// Whether two nodes may share a host: Preferred (spread where possible) or Required.
    #[serde(default)]
    pub anti_affinity: AntiAffinity,

    /// Budget that keeps a quorum of voters during drains.
    #[serde(default)]
    pub pod_disruption_budget: Enabled,

    /// Timing of Raft. Same defaults as the static configuration.
    #[serde(default)]
    pub raft: Raft,

    /// Changes nothing while true: no pod, no member, no object; status is still refreshed.
    #[serde(default)]
    pub paused: bool,
}

fn default_replicas() -> i32 {
    3
}

/// A Kubernetes quantity such as `10Gi`; unlike k8s-openapi's it has a bound and a short description.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(transparent)]
pub struct StorageSize(pub String);

impl JsonSchema for StorageSize {
    fn schema_name() -> Cow<'static, str> {
        "StorageSize".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 20,
            "pattern": r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$",
        })
    }
}

/// Disk of each node.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName)").message("storageClassName cannot be added or removed later; volumes do not move between classes"))]
pub struct Storage {
    /// Size of the volume. May grow if the storage class allows it, never shrink.
    #[serde(default = "default_size")]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity(oldSelf)) >= 0").message(kube::core::cel::Message::Expression("'storage may only grow: ' + self + ' is less than ' + oldSelf".into())))]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity('256Mi')) >= 0").message("storage.size must be at least 256Mi, because the log is pre-allocated in segments of 64 MiB"))]
    pub size: StorageSize,
    /// Storage class. Unset: the default class of the Kubernetes cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("storageClassName is immutable; volumes do not move between classes"))]
    pub storage_class_name: Option<String>,
    /// What happens to the volumes of removed nodes and of a deleted cluster.
    #[serde(default)]
    pub retention: Retention,
}

fn default_size() -> StorageSize {
    StorageSize("10Gi".into())
}

impl Default for Storage {
    fn default() -> Self {
        Self { size: default_size(), storage_class_name: None, retention: Retention::default() }
    }
}

#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq)]
pub enum RetentionPolicy {
    #[default]
    Retain,
    Delete,
}

/// What happens to volumes.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// When the cluster object is deleted.
    #[serde(default)]
    pub when_deleted: RetentionPolicy,
    /// When a node is removed by scaling down.
    #[serde(default)]
    pub when_scaled: RetentionPolicy,
}

#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq)]
pub enum AntiAffinity {
    #[default]
    Preferred,
    Required,
}

#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Enabled {
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

impl Default for Enabled {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// What else a pod carries. Limited on purpose.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels added to every pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "string_map_schema")]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('registry.dev/') && !k.startsWith('app.kubernetes.io/'))").message("labels of registry.dev/ and app.kubernetes.io/ belong to the operator"))]
    pub labels: BTreeMap<String, String>,
    /// Annotations added to every pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "string_map_schema")]
    pub annotations: BTreeMap<String, String>,
    /// Nodes that the pods may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "string_map_schema")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods bear.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Priority class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub priority_class_name: Option<String>,
    /// More environment variables of the node's container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "env_schema")]
    pub env: Vec<EnvVar>,
}

fn string_map_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": { "type": "string", "maxLength": 1024 },
    })
}

/// Name and literal value only: references to other objects would be a way to read them.
fn env_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 64,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": { "type": "string", "minLength": 1, "maxLength": 128 },
                "value": { "type": "string", "maxLength": 4096 },
            },
        },
    })
}

/// Requests and limits without `claims`, and without the page-long description of `Quantity`.
fn resources_schema(_: &mut SchemaGenerator) -> Schema {
    let quantities = || {
        json_schema!({
            "type": "object",
            "maxProperties": 8,
            "additionalProperties": {
                "x-kubernetes-int-or-string": true,
                "anyOf": [{ "type": "integer" }, { "type": "string" }],
                "maxLength": 32,
            },
        })
    };
    json_schema!({
        "type": "object",
        "nullable": true,
        "properties": { "requests": quantities(), "limits": quantities() },
    })
}

/// Timing of Raft, in milliseconds.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.electionTimeoutMin > self.heartbeatInterval").message("raft.electionTimeoutMin must be greater than raft.heartbeatInterval").field_path(".electionTimeoutMin"),
    validation = Rule::new("self.electionTimeoutMax > self.electionTimeoutMin").message("raft.electionTimeoutMax must be greater than raft.electionTimeoutMin, or elections split").field_path(".electionTimeoutMax")
)]
pub struct Raft {
    /// Interval of the leader's heartbeats.
    #[serde(default = "heartbeat")]
    #[schemars(range(min = 10, max = 10000))]
    pub heartbeat_interval: i32,
    /// Shortest time without a heartbeat after which a node asks to be leader.
    #[serde(default = "election_min")]
    #[schemars(range(min = 20, max = 60000))]
    pub election_timeout_min: i32,
    /// Longest such time.
    #[serde(default = "election_max")]
    #[schemars(range(min = 20, max = 60000))]
    pub election_timeout_max: i32,
}

fn heartbeat() -> i32 {
    50
}
fn election_min() -> i32 {
    150
}
fn election_max() -> i32 {
    300
}

impl Default for Raft {
    fn default() -> Self {
        Self {
            heartbeat_interval: heartbeat(),
            election_timeout_min: election_min(),
            election_timeout_max: election_max(),
        }
    }
}

/// What the operator observed.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(oldSelf.clusterId) || (has(self.clusterId) && self.clusterId == oldSelf.clusterId)").message("clusterId is set once"))]
pub struct RegistryClusterStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Pods that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Members that are joined, caught up and serving.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Selector of the pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub selector: Option<String>,
    /// True once the cluster has formed; never false again.
    #[serde(default)]
    #[x_kube(validation = Rule::new("!oldSelf || self").message("a bootstrapped cluster stays bootstrapped"))]
    pub bootstrapped: bool,
    /// Identity of the cluster, written into every data directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub cluster_id: Option<String>,
    /// Pod that leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub leader: Option<String>,
    /// Raft term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<i64>,
    /// Voters and how many of them live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<Quorum>,
    /// Version that all members run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub current_version: Option<String>,
    /// One entry per member.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub members: Vec<Member>,
    /// Available, Progressing, Degraded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// `Condition` without the long descriptions; a list-map by type, so that managers can own single conditions.
fn conditions_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": { "type": "string", "maxLength": 316 },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                "reason": { "type": "string", "minLength": 1, "maxLength": 128 },
                "message": { "type": "string", "maxLength": 4096 },
                "lastTransitionTime": { "type": "string", "format": "date-time" },
                "observedGeneration": { "type": "integer", "format": "int64", "minimum": 0 },
            },
        },
    })
}

#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub struct Quorum {
    pub voters: i32,
    pub live: i32,
    pub needed: i32,
    /// Such as `3/3`, for the printer column.
    #[schemars(length(max = 16))]
    pub summary: String,
}

#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq)]
pub enum Role {
    Voter,
    Learner,
}

/// One member.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Pod.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Raft id; new for every new disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raft_id: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    #[serde(default)]
    pub leader: bool,
    #[serde(default)]
    pub healthy: bool,
    /// Log entries behind the leader, rounded so that it does not change at each look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
}
