//! Everything that was seen in one reconcile, as plain data: what [`plan`](crate::plan) decides from.
//!
//! Nothing here is remembered by the operator: a reconcile that begins with empty hands, after a crash or
//! in another process, sees the same. The one exception is [`Before`], what the last status said; it tells
//! times and the cluster id chosen at founding, never who is a member.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

mod kubernetes;
mod members;

pub use kubernetes::{
    BudgetSeen, ClaimSeen, HostHealth, ObjectSeen, PodPhase, PodSeen, Presence, SetSeen, Volume, Waiting,
};
pub use members::{
    Answer, LeaderReport, LogId, MemberSeen, MembershipSeen, NodeReport, NodeState, Place, SettingsSeen,
};

/// Role of a member, also the value of the label `registry.dev/role` on its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It votes: the disruption budget counts its pod.
    Voter,
    /// It does not: its pod may always be evicted.
    Learner,
}

impl Role {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Voter => "voter",
            Self::Learner => "learner",
        }
    }
}

/// One cluster as it was seen in one reconcile.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The moment.
    pub now: Timestamp,
    /// What the user wants.
    pub spec: Wish,
    /// The StatefulSet.
    pub set: Presence<SetSeen>,
    /// Pods that belong to it, or did before it was created anew. In any order.
    pub pods: Vec<PodSeen>,
    /// Claims of its template, also of ordinals without a pod.
    pub claims: Vec<ClaimSeen>,
    /// Disruption budgets over the pods.
    pub budget: BudgetSeen,
    /// All other objects that the cluster has: services, config map, token, account, network policy; and
    /// the StatefulSet. Not the budget.
    pub objects: Vec<ObjectSeen>,
    /// Why Kubernetes could not create a pod or claim of the set lately (events FailedCreate), newest
    /// first, with the object's name. Empty once all pods exist.
    pub failed_creates: Vec<String>,
    /// What the last status said.
    pub before: Before,
    /// A UUID drawn for this reconcile, to be the cluster's id if it is founded now.
    pub new_cluster_id: String,
}

/// The spec, checked, with defaults filled in.
#[derive(Debug, Clone)]
pub struct Wish {
    /// `metadata.generation` of the spec.
    pub generation: i64,
    /// Name of the cluster: pods are called `NAME-ORDINAL`.
    pub name: String,
    /// Why the spec is not valid, for people. CEL refuses such specs, but an older object may break a newer
    /// rule. Nothing is changed then.
    pub invalid: Option<String>,
    /// The object is being deleted: nothing is begun any more.
    pub deleting: bool,
    /// Nothing is changed while true.
    pub paused: bool,
    /// Voters: 1, 3, 5 or 7.
    pub replicas: u32,
    /// Size of each volume in bytes.
    pub volume_bytes: u64,
    /// The same as the user wrote it.
    pub volume_size: String,
    /// Whether claims of pods that are scaled away are deleted.
    pub deletes_claims: bool,
    /// Whether a disruption budget is wanted.
    pub wants_budget: bool,
    /// Time that members must be caught up and ready without a break before the next pod is deleted.
    pub settle: Duration,
    /// Time after which a step that makes no progress is reported (`update.progressDeadlineSeconds`).
    pub progress_deadline: Duration,
    /// `raft.electionTimeoutMax`: how fresh the leader's quorum must be follows from it.
    pub election_timeout: Duration,
    /// True if `image` is unset and this operator has another default than the recorded image.
    pub newer_default_image: bool,
}

/// What the last status said: a memory for people and for times. The plan must be right without it, except
/// that a founding under way goes on with the id that was recorded.
#[derive(Debug, Clone, Default)]
pub struct Before {
    /// `status.clusterID`.
    pub cluster_id: Option<String>,
    /// `status.bootstrapped`.
    pub bootstrapped: bool,
    /// Truth of condition Available; `None` = there was none.
    pub available: Option<bool>,
    /// Reason of each condition, by its type: a change of one is an event.
    pub reasons: BTreeMap<String, String>,
    /// `status.operation`.
    pub operation: Option<OperationBefore>,
}

/// The operation that the last status told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationBefore {
    /// A reason of condition Progressing.
    pub kind: String,
    /// Pod that it is about.
    pub target: Option<String>,
    /// The step.
    pub step: String,
    /// Since when it is this step.
    pub started_at: Timestamp,
}

impl Observed {
    /// Pods that exist, in the order of their ordinals.
    pub fn pods_in_order(&self) -> Vec<&PodSeen> {
        let mut pods: Vec<&PodSeen> = self.pods.iter().collect();
        pods.sort_by_key(|pod| pod.ordinal);
        pods
    }

    /// The pod of this ordinal.
    pub fn pod(&self, ordinal: u32) -> Option<&PodSeen> {
        self.pods.iter().find(|pod| pod.ordinal == ordinal)
    }

    /// The claim of this ordinal.
    pub fn claim(&self, ordinal: u32) -> Option<&ClaimSeen> {
        self.claims.iter().find(|claim| claim.ordinal == ordinal)
    }

    /// Name of the pod, and so of the member, of this ordinal.
    pub fn pod_name(&self, ordinal: u32) -> String {
        format!("{}-{ordinal}", self.spec.name)
    }

    /// Ordinal of a pod or member of this cluster, as a number: `a-10` comes after `a-9`.
    pub fn ordinal_of(&self, pod_name: &str) -> Option<u32> {
        let digits = pod_name.strip_prefix(&self.spec.name)?.strip_prefix('-')?;
        let ordinal: u32 = digits.parse().ok()?;
        (self.pod_name(ordinal) == pod_name).then_some(ordinal)
    }

    /// The set, if it is ours, there to stay or not.
    pub fn own_set(&self) -> Option<&SetSeen> {
        match &self.set {
            Presence::Ours(set) => Some(set),
            _ => None,
        }
    }
}

/// Time since `then`; zero if the clock went back.
pub fn since(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}
