//! What the API server told.

use std::time::Duration;

use super::{Answer, Role};

/// An object by its name: there or not, and whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence<T> {
    /// No object of that name.
    Absent,
    /// It has our owner reference (this cluster's UID, as controller).
    Ours(T),
    /// Somebody else's: it is never touched. With who owns it, or "nobody", for people.
    Foreign(String),
    /// Ours, with a deletionTimestamp: it is waited for, because what is applied to it now is lost.
    Deleting,
}

/// The StatefulSet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSeen {
    /// UID: precondition of its deletion.
    pub uid: String,
    /// `spec.replicas`.
    pub replicas: u32,
    /// `status.updateRevision`, if `status.observedGeneration` is the generation; else `None`. Revisions of
    /// pods compare to it. `currentRevision` never moves with OnDelete and is not looked at.
    pub update_revision: Option<String>,
    /// Annotation `registry.dev/spec-hash` of its pod template.
    pub spec_hash: Option<String>,
    /// Annotation `kubectl.kubernetes.io/restartedAt` of its pod template.
    pub restarted_at: Option<String>,
    /// Size in the claim template, in bytes.
    pub volume_bytes: u64,
    /// The same as it is written there.
    pub volume_size: String,
}

/// A pod of the set.
#[derive(Debug, Clone, PartialEq)]
pub struct PodSeen {
    /// Name.
    pub name: String,
    /// Number at the end of the name.
    pub ordinal: u32,
    /// UID: precondition of its deletion.
    pub uid: String,
    /// It has a deletionTimestamp.
    pub deleting: bool,
    /// `status.phase`.
    pub phase: PodPhase,
    /// Condition Ready is true.
    pub ready: bool,
    /// For how long it has been; zero if it is not.
    pub ready_for: Duration,
    /// Node that it runs on, if it is scheduled.
    pub host: Option<String>,
    /// How that node is.
    pub host_health: HostHealth,
    /// Label `registry.dev/role`.
    pub role: Option<Role>,
    /// Label `controller-revision-hash`.
    pub revision: Option<String>,
    /// Annotation `registry.dev/spec-hash`.
    pub spec_hash: Option<String>,
    /// Annotation `kubectl.kubernetes.io/restartedAt`.
    pub restarted_at: Option<String>,
    /// Why the container waits, if it does.
    pub waiting: Option<Waiting>,
    /// Why it cannot be scheduled (condition PodScheduled), if so.
    pub unschedulable: Option<String>,
    /// Restarts of the container.
    pub restarts: u32,
    /// Time since it was created.
    pub age: Duration,
    /// Reason of its condition DisruptionTarget, if that is true.
    pub disruption: Option<String>,
    /// What the node in it told when asked for its status.
    pub answer: Answer,
}

/// How far a pod has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodPhase {
    /// Not all containers have been started.
    Pending,
    /// Started.
    Running,
    /// Ended well, or badly: the set makes it anew.
    Ended,
    /// The kubelet is silent.
    Unknown,
}

/// A Kubernetes node, as far as the operator may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostHealth {
    /// The pod has none yet.
    None,
    /// Its condition Ready is true.
    Ready,
    /// Its condition Ready is not true.
    Unreachable,
    /// There is no such node any more.
    Gone,
    /// The operator may not read nodes.
    NotKnown,
}

/// Why a container waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Such as `ImagePullBackOff`, `ErrImagePull`, `CrashLoopBackOff`, `CreateContainerConfigError`.
    pub reason: String,
    /// For people; may hold changing numbers, so it must not reach a condition as it is.
    pub message: String,
}

/// A claim of the set's template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimSeen {
    /// Name: `data-NAME-ORDINAL`.
    pub name: String,
    /// Number at the end of the name.
    pub ordinal: u32,
    /// UID: precondition of its deletion.
    pub uid: String,
    /// It has a deletionTimestamp: it goes when its pod has gone.
    pub deleting: bool,
    /// What became of the volume.
    pub volume: Volume,
    /// Size asked for, in bytes.
    pub asked_bytes: u64,
    /// Size that it has, in bytes; 0 = not bound yet.
    pub actual_bytes: u64,
    /// Whether its class allows expansion; `None` = not known (no class, or the operator may not read it).
    pub can_grow: Option<bool>,
    /// Why the last expansion failed, for people (conditions of the claim, events).
    pub resize_trouble: Option<String>,
}

/// What became of the volume of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volume {
    /// None is bound yet.
    Unbound,
    /// It is there, as far as Kubernetes knows.
    Bound,
    /// The claim's phase is Lost, or its PersistentVolume is gone.
    Lost,
    /// The PersistentVolume can only be used on nodes that are gone (node affinity names no node that exists).
    HostGone,
}

/// Disruption budgets over the pods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BudgetSeen {
    /// True if the budget NAME is ours.
    pub is_ours: bool,
    /// True if it is ours and being deleted.
    pub deleting: bool,
    /// True if an object of that name is there and not ours.
    pub is_foreign: bool,
    /// `spec.minAvailable`, if ours and a number.
    pub min_available: Option<u32>,
    /// Annotation `registry.dev/learners`: UIDs of the pods that were labelled as learners when the budget
    /// was last written, comma separated and sorted. The disruption controller does not notice a pod that is
    /// relabelled out of the selector until the budget is written.
    pub learners: Option<String>,
    /// Names of other budgets that select pods of this cluster: with two, evictions fail.
    pub others: Vec<String>,
}

/// One of the objects that are applied as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectSeen {
    /// Kind and name, for people: `Service a-peers`.
    pub label: String,
    /// There or not. True = it is as it shall be; false = applying it would change it. For the StatefulSet
    /// without regard to replicas, restartedAt and the claim template, which have steps of their own.
    pub presence: Presence<bool>,
}
