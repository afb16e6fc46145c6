//! What the operator can do: each step ends in one durable change, after which it looks again.

use std::fmt;

use registry_proto::internal::ClusterSettings;

use crate::observed::{LogId, Role};

/// How the StatefulSet is written; everything else about it follows from the spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetShape {
    /// `spec.replicas`.
    pub replicas: u32,
    /// Size in the claim template. That of the set that exists, because it cannot be changed there.
    pub volume_size: String,
    /// Annotation `kubectl.kubernetes.io/restartedAt` to carry over to a set that is made anew, written once
    /// by a field manager of its own. `None` = leave it as it is.
    pub restarted_at: Option<String>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Apply all objects but the budget (server-side apply with force). Idempotent, so all together are one.
    ApplyObjects {
        /// The set among them.
        set: SetShape,
    },
    /// Write id and founding members of the cluster to status, before anything is founded under it.
    RecordBootstrap {
        /// UUID.
        cluster_id: String,
        /// Names of all voters, in the order of their ordinals.
        pods: Vec<String>,
    },
    /// Found the cluster with all these pods as voters. Asked of the pod of ordinal 0.
    Initialize {
        /// UUID, as recorded.
        cluster_id: String,
        /// Names of all voters, in the order of their ordinals.
        pods: Vec<String>,
    },
    /// Give the node in a pod an id and make it a learner.
    Admit {
        /// Pod of the leader, which is asked.
        leader: String,
        /// The pod to admit.
        pod: String,
        /// The membership that was seen.
        expected: LogId,
    },
    /// Make learners voters, and take votes and places of those that they replace, in one change.
    Promote {
        /// Pod of the leader, which is asked.
        leader: String,
        /// Raft ids that get a vote.
        raft_ids: Vec<u64>,
        /// Raft ids that lose vote and place.
        replaced: Vec<u64>,
        /// The membership that was seen.
        expected: LogId,
    },
    /// Remove members for good, in one change.
    Remove {
        /// Pod of the leader, which is asked.
        leader: String,
        /// Their Raft ids.
        raft_ids: Vec<u64>,
        /// The membership that was seen.
        expected: LogId,
    },
    /// Let another voter lead.
    Transfer {
        /// Pod of the leader, which is asked.
        leader: String,
        /// Raft id of the voter that shall lead.
        to: u64,
        /// The membership that was seen.
        expected: LogId,
    },
    /// Replace the replicated settings.
    UpdateSettings {
        /// Pod of the leader, which is asked.
        leader: String,
        /// The version that was seen.
        expected_version: u64,
        /// All of them.
        settings: Box<ClusterSettings>,
    },
    /// Set the label `registry.dev/role` of a pod (field manager `registry-operator-role`).
    RelabelPod {
        /// Its name.
        name: String,
        /// Its UID: another pod of that name is left alone.
        uid: String,
        /// The value.
        role: Role,
    },
    /// Write the disruption budget, which also makes its controller count anew.
    WriteBudget {
        /// `spec.minAvailable`; the selector is the voters of this cluster.
        min_available: u32,
        /// Annotation `registry.dev/learners`.
        learners: String,
    },
    /// Delete our disruption budget.
    DeleteBudget,
    /// Delete a pod with its UID as precondition, never by force.
    DeletePod {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// Delete a claim with its UID as precondition.
    DeleteClaim {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// Ask for a larger volume.
    GrowClaim {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
        /// The size.
        size: String,
    },
    /// Delete the set with its UID as precondition and leave its pods (orphan). The next look finds none
    /// and applies it anew; the act may do so at once.
    RecreateSet {
        /// Its UID.
        uid: String,
        /// How it is made anew.
        set: SetShape,
    },
    /// Change the number of pods.
    Scale {
        /// The set with the new number.
        set: SetShape,
    },
}

impl Step {
    /// A stable word for metrics, logs, events and crash points.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ApplyObjects { .. } => "apply-objects",
            Self::RecordBootstrap { .. } => "record-bootstrap",
            Self::Initialize { .. } => "initialize",
            Self::Admit { .. } => "admit",
            Self::Promote { .. } => "promote",
            Self::Remove { .. } => "remove",
            Self::Transfer { .. } => "transfer",
            Self::UpdateSettings { .. } => "update-settings",
            Self::RelabelPod { .. } => "relabel-pod",
            Self::WriteBudget { .. } => "write-budget",
            Self::DeleteBudget => "delete-budget",
            Self::DeletePod { .. } => "delete-pod",
            Self::DeleteClaim { .. } => "delete-claim",
            Self::GrowClaim { .. } => "grow-claim",
            Self::RecreateSet { .. } => "recreate-set",
            Self::Scale { .. } => "scale",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApplyObjects { set } => write!(f, "apply all objects, with {} pods", set.replicas),
            Self::RecordBootstrap { cluster_id, .. } => write!(f, "record the cluster id {cluster_id}"),
            Self::Initialize { cluster_id, pods } => {
                write!(f, "found cluster {cluster_id} with {}", pods.join(", "))
            }
            Self::Admit { pod, .. } => write!(f, "admit {pod} as a learner"),
            Self::Promote { raft_ids, replaced, .. } if replaced.is_empty() => {
                write!(f, "let members {raft_ids:?} vote")
            }
            Self::Promote { raft_ids, replaced, .. } => {
                write!(f, "let members {raft_ids:?} vote in the place of {replaced:?}")
            }
            Self::Remove { raft_ids, .. } => write!(f, "remove members {raft_ids:?} for good"),
            Self::Transfer { to, .. } => write!(f, "let member {to} lead"),
            Self::UpdateSettings { .. } => write!(f, "update the settings of the cluster"),
            Self::RelabelPod { name, role, .. } => write!(f, "label pod {name} as {}", role.as_str()),
            Self::WriteBudget { min_available, .. } => {
                write!(f, "write the disruption budget with minAvailable {min_available}")
            }
            Self::DeleteBudget => write!(f, "delete the disruption budget"),
            Self::DeletePod { name, .. } => write!(f, "delete pod {name}"),
            Self::DeleteClaim { name, .. } => write!(f, "delete claim {name}"),
            Self::GrowClaim { name, size, .. } => write!(f, "grow claim {name} to {size}"),
            Self::RecreateSet { .. } => write!(f, "make the StatefulSet anew under its pods"),
            Self::Scale { set } => write!(f, "scale to {} pods", set.replicas),
        }
    }
}
