//! The custom resource `RegistryCluster`, and the names by which its objects are known.

#![allow(unreachable_pub, reason = "the derive KubeSchema writes such a copy of each type")]

mod check;
pub mod cluster;
pub mod conditions;
pub mod pod;
pub mod reason;
pub mod settings;
pub mod status;
pub mod values;

#[cfg(test)]
mod rules_test;
#[cfg(test)]
mod schema_test;

pub use cluster::{RegistryCluster, RegistryClusterSpec, Retention, RetentionPolicy, Storage, Strictness};
pub use status::RegistryClusterStatus;

/// Field manager of all objects of a cluster, except what follows.
pub const MANAGER: &str = "registry-operator";
/// Field manager of the status.
pub const STATUS_MANAGER: &str = "registry-operator-status";
/// Field manager of the label [`ROLE_LABEL`] of running pods.
pub const ROLE_MANAGER: &str = "registry-operator-role";

/// Label of all objects: the cluster that they belong to.
pub const CLUSTER_LABEL: &str = "registry.dev/cluster";
/// Label of pods: [`VOTER`] in the template, [`LEARNER`] set by the operator on pods without a vote.
pub const ROLE_LABEL: &str = "registry.dev/role";
/// Value of [`ROLE_LABEL`]: counted by the disruption budget.
pub const VOTER: &str = "voter";
/// Value of [`ROLE_LABEL`]: may always be evicted.
pub const LEARNER: &str = "learner";

/// Annotation of the pod template and so of pods: a hash of what the spec asks for that needs a restart. A pod
/// with another one is rolled.
pub const SPEC_HASH: &str = "registry.dev/spec-hash";
/// Annotation of the pod template that `kubectl rollout restart` sets. A pod with another one is rolled.
pub const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// Annotation of the set: the operator's default image when the set was made, kept so that a newer operator
/// does not roll the pods.
pub const DEFAULT_IMAGE: &str = "registry.dev/default-image";
/// Annotation of the disruption budget: UIDs of the pods that were labelled as learners when it was last
/// written. Its controller does not notice that a pod leaves the selector until the budget is written.
pub const LEARNERS: &str = "registry.dev/learners";
