//! Labels of roles and the disruption budget over the voters.
//!
//! The template labels every pod a voter, so a pod is protected from its first second and while the operator
//! is away. Learners are relabelled; the budget's controller does not notice, until the budget is written.
//! At every point the budget allows one eviction at most, and none if a voter is down: `minAvailable` is raised
//! by the number of pods that carry the label and do not vote, or not yet.

use std::collections::BTreeSet;

use crate::crd::status::Progressing;
use crate::observed::{PodSeen, Role};

use super::Step;
use super::flow::{Doing, Flow};
use super::members::promotion;
use super::view::{Settled, majority, told};

/// Voters that evictions must leave over; `None` = no budget, because a single voter could never be moved.
pub(super) fn min_available(voters: usize) -> Option<usize> {
    (voters > 1).then(|| majority(voters).max(voters - 1))
}

/// Keeps labels and budget in step with the votes. Protection comes before a vote and goes after it.
pub(super) fn protect(settled: Settled<'_>) -> Flow {
    let seen = settled.view.seen;
    let promoted: BTreeSet<u64> =
        promotion(settled).map(|next| next.raft_ids.into_iter().collect()).unwrap_or_default();
    let voters_then = settled.voters.len().max(promotion(settled).map_or(0, |next| next.voters));
    let mut pods: Vec<&PodSeen> = seen.pods.iter().filter(|pod| !pod.deleting).collect();
    pods.sort_by_key(|pod| pod.ordinal);
    let wanted = |pod: &PodSeen| role(settled, pod, &promoted);
    let relabel = |pod: &PodSeen, role: Role| {
        let step = Step::RelabelPod { name: pod.name.clone(), uid: pod.uid.clone(), role };
        Flow::step(step, reason(settled), Some(&pod.name))
    };
    let demoted =
        pods.iter().find(|pod| wanted(pod) == Some(Role::Learner) && pod.role != Some(Role::Learner));
    if let Some(pod) = demoted {
        return relabel(pod, Role::Learner);
    }
    // Each that carries the label and does not vote yet could be counted in the place of a voter that is down.
    let is_counted = |pod: &&&PodSeen| wanted(pod).or(pod.role) == Some(Role::Voter);
    let idle = pods.iter().filter(is_counted).filter(|pod| !votes(settled, pod)).count();
    let is_learner = |pod: &&PodSeen| wanted(pod).or(pod.role) == Some(Role::Learner);
    let mut learners: Vec<&str> =
        pods.iter().copied().filter(is_learner).map(|pod| pod.uid.as_str()).collect();
    learners.sort_unstable();
    let keeps_voters = min_available(settled.voters.len()).unwrap_or(0) + idle;
    let min = (voters_then > 1).then_some(keeps_voters);
    let counted = budget(settled, learners.join(","), min);
    if counted != Flow::Nothing {
        return counted;
    }
    let protected = pods.iter().find(|pod| wanted(pod) == Some(Role::Voter) && pod.role != Some(Role::Voter));
    protected.map_or(Flow::Nothing, |pod| relabel(pod, Role::Voter))
}

fn budget(settled: Settled<'_>, learners: String, min: Option<usize>) -> Flow {
    let seen = settled.view.seen;
    let has = &seen.budget;
    if has.deleting {
        return Flow::Hold(Doing::new(reason(settled), "the disruption budget is being deleted"));
    }
    if has.is_foreign {
        // Shown as a condition; the budget that is there may even be a good one.
        return Flow::Nothing;
    }
    let Some(min) = min.filter(|_| seen.spec.wants_budget) else {
        return if has.is_ours {
            Flow::step(Step::DeleteBudget, reason(settled), None)
        } else {
            Flow::Nothing
        };
    };
    let min_available = u32::try_from(min).unwrap_or(u32::MAX);
    let is_right = has.is_ours
        && has.min_available == Some(min_available)
        && has.learners.as_deref().unwrap_or_default() == learners;
    if is_right {
        return Flow::Nothing;
    }
    Flow::step(Step::WriteBudget { min_available, learners }, reason(settled), None)
}

/// The role that a pod's label shall have; `None` = whichever it has.
fn role(settled: Settled<'_>, pod: &PodSeen, promoted: &BTreeSet<u64>) -> Option<Role> {
    let votes = votes(settled, pod);
    let Some(node) = told(pod) else {
        // Nobody can tell who it is now. A pod without the label could always be evicted.
        return (votes && pod.role.is_none()).then_some(Role::Voter);
    };
    Some(if votes || promoted.contains(&node.raft_id) { Role::Voter } else { Role::Learner })
}

/// Whether the node in this pod votes now.
fn votes(settled: Settled<'_>, pod: &PodSeen) -> bool {
    let votes = settled.votes_of(pod);
    match told(pod) {
        Some(node) => votes.contains(&node.raft_id) && !settled.has_lost_disk(node.raft_id),
        None => !votes.is_empty(),
    }
}

/// Relabelling is a part of what moves the votes.
fn reason(settled: Settled<'_>) -> Progressing {
    let wanted = settled.view.seen.spec.replicas as usize;
    match settled.voters.len().cmp(&wanted) {
        std::cmp::Ordering::Less => Progressing::ScalingUp,
        std::cmp::Ordering::Greater => Progressing::ScalingDown,
        std::cmp::Ordering::Equal => Progressing::ApplyingObjects,
    }
}
