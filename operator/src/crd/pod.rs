//! What pods carry beside what the operator gives them: limited on purpose, so that nothing of ours can be
//! overridden and the schema stays small.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// When kubelet asks the image registry.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum ImagePullPolicy {
    /// If the host has no such image.
    #[default]
    IfNotPresent,
    /// At each start.
    Always,
    /// The host must have it.
    Never,
}

impl ImagePullPolicy {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IfNotPresent => "IfNotPresent",
            Self::Always => "Always",
            Self::Never => "Never",
        }
    }
}

/// A Secret of the namespace.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct SecretName {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A number or text such as `1`, `500m` or `512Mi`. Both, because people write `cpu: 1`; and not k8s-openapi's
/// type, which cannot read the number that the API server stored.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(untagged)]
pub enum Amount {
    /// Whole cores or bytes.
    Number(i64),
    /// With a unit.
    Text(String),
}

impl JsonSchema for Amount {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{ "type": "integer" }, { "type": "string" }],
            "maxLength": 32,
            "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$",
        })
    }
}

impl Amount {
    /// As Kubernetes writes it.
    pub fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

/// Amounts of resources.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Amounts {
    /// Cores, such as 1 or 500m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Amount>,
    /// Bytes, such as 512Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Amount>,
    /// Bytes of logs on the host, such as 1Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<Amount>,
}

/// CPU and memory of each node.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.requests) || !has(self.limits) || !has(self.requests.cpu) || !has(self.limits.cpu) || quantity(string(self.requests.cpu)).compareTo(quantity(string(self.limits.cpu))) <= 0").message("resources.requests.cpu must not be more than resources.limits.cpu"),
    validation = Rule::new("!has(self.requests) || !has(self.limits) || !has(self.requests.memory) || !has(self.limits.memory) || quantity(string(self.requests.memory)).compareTo(quantity(string(self.limits.memory))) <= 0").message("resources.requests.memory must not be more than resources.limits.memory")
)]
pub struct Resources {
    /// What the scheduler sets aside. Unset: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Amounts>,
    /// What a node may use at most. Unset: as much as there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Amounts>,
}

/// A variable with a literal value: references to other objects would be a way to read them.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct EnvironmentVariable {
    /// Name.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Value (default empty).
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// What else a pod carries.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels added to every pod (default none). Those of registry.dev/, app.kubernetes.io/ and
    /// statefulset.kubernetes.io/ belong to others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels_schema")]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('registry.dev/') && !k.startsWith('app.kubernetes.io/') && !k.startsWith('statefulset.kubernetes.io/') && k != 'controller-revision-hash')").message("podTemplate.labels: those of registry.dev/, app.kubernetes.io/ and statefulset.kubernetes.io/ belong to the operator and to Kubernetes"))]
    pub labels: BTreeMap<String, String>,
    /// Annotations added to every pod (default none). Those of registry.dev/ and kubectl.kubernetes.io/ belong
    /// to others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "annotations_schema")]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('registry.dev/') && !k.startsWith('kubectl.kubernetes.io/'))").message("podTemplate.annotations: those of registry.dev/ and kubectl.kubernetes.io/ belong to the operator and to kubectl"))]
    pub annotations: BTreeMap<String, String>,
    /// Labels of the hosts that pods may run on (default none: any host).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels_schema")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of hosts that the pods bear (default none).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Priority class of the pods (default: that of the Kubernetes cluster).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Environment variables of the container, with literal values (default none). Of REGISTRY_ only those of
    /// logging (REGISTRY_LOG) and of watches (REGISTRY_WATCH__).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new("self.all(v, !v.name.startsWith('REGISTRY_') || v.name.startsWith('REGISTRY_LOG') || v.name.startsWith('REGISTRY_WATCH__'))").message("podTemplate.env: variables of REGISTRY_ would override what the operator configures; only REGISTRY_LOG and REGISTRY_WATCH__ may be given")
    )]
    pub env: Vec<EnvironmentVariable>,
}

/// Labels: bounded values that Kubernetes takes.
pub(super) fn labels_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {
            "type": "string",
            "maxLength": 63,
            "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
        },
    })
}

fn annotations_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": { "type": "string", "maxLength": 4096 },
    })
}
