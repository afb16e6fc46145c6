//! The conditions that follow from what was seen and decided.

use std::time::Duration;

use crate::crd::status::{
    Available, Because, Conditions, Degraded, Paused, Progressing, Reason, Truth, UpgradePending,
};
use crate::observed::{Answer, HostHealth, NodeReport, NodeState, OperationBefore, PodSeen, since};

use super::Decision;
use super::objects::is_stuck;
use super::report::{is_live, voters};
use super::view::{View, majority, told};

/// Time without a leader after which it is no election any more: several rounds of the slowest timings that
/// anybody uses on a good network.
const ELECTION: Duration = Duration::from_secs(5);

/// Age up to which a pod may be on its way without being in trouble.
const STARTING: Duration = Duration::from_secs(60);

/// All of them.
pub(super) fn conditions(
    view: &View<'_>,
    decision: &Decision,
    operation: Option<&OperationBefore>,
) -> Conditions {
    let paused = if view.seen.spec.paused {
        Because::new(Paused::PausedBySpec, "spec.paused is true: the operator changes nothing")
    } else {
        Because::new(Paused::Active, "the operator looks after the cluster")
    };
    Conditions {
        available: available(view),
        progressing: progressing(view, decision, operation),
        degraded: degraded(view),
        upgrade_pending: upgrade_pending(view),
        paused,
    }
}

fn available(view: &View<'_>) -> Because<Available> {
    let seen = view.seen;
    if let Some(leader) = view.leader {
        let voters = voters(leader);
        let live = voters.iter().filter(|id| is_live(view, leader, **id)).count();
        return if live == voters.len() || live > majority(voters.len()) {
            Because::new(Available::QuorumHealthy, "a leader hears a majority of the voters")
        } else {
            let message = "a leader hears a majority; one more failure of a voter would stop writes";
            Because::new(Available::QuorumAtRisk, message)
        };
    }
    if !view.is_founded() {
        return Because::new(Available::NotBootstrapped, "the cluster has not been founded yet");
    }
    if seen.before.available == Some(true) && seen.pods.iter().filter_map(told).any(is_electing) {
        return Because::new(Available::QuorumAtRisk, "a leader is being elected");
    }
    let answers = seen.pods.iter().any(|pod| told(pod).is_some());
    if answers || seen.pods.iter().all(|pod| !pod.ready) {
        let message = "no leader hears a majority of the voters: no writes, stale reads only";
        return Because::new(Available::QuorumLost, message);
    }
    Because::new(Available::Unreachable, "no member answers the operator, though pods run")
}

fn progressing(
    view: &View<'_>,
    decision: &Decision,
    operation: Option<&OperationBefore>,
) -> Because<Progressing> {
    let Some(doing) = &decision.doing else {
        return Because::new(Progressing::Idle, "everything is as the spec says");
    };
    if doing.reason.truth() != Truth::True || doing.reason == Progressing::Deleting {
        return Because::new(doing.reason, &doing.message);
    }
    if decision.step.is_none()
        && let Some(obstacle) = obstacle(view)
    {
        return obstacle;
    }
    let seen = view.seen;
    match operation {
        Some(operation) if since(seen.now, operation.started_at) >= seen.spec.progress_deadline => {
            let message = format!("no progress for update.progressDeadlineSeconds: {}", doing.message);
            Because::new(Progressing::DeadlineExceeded, message)
        }
        _ => Because::new(doing.reason, &doing.message),
    }
}

/// What Kubernetes says why a pod does not come.
fn obstacle(view: &View<'_>) -> Option<Because<Progressing>> {
    let pods = view.seen.pods_in_order();
    let waits = |words: &[&str]| {
        let has = |pod: &&&PodSeen| {
            pod.waiting.as_ref().is_some_and(|waiting| words.contains(&waiting.reason.as_str()))
        };
        pods.iter().find(has).map(|pod| pod.name.clone())
    };
    if let Some(name) = waits(&["ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull"])
    {
        let message =
            format!("the image of pod {name} cannot be pulled: correct spec.image, or make it available");
        return Some(Because::new(Progressing::ImagePull, message));
    }
    if let Some(name) = waits(&[
        "CrashLoopBackOff",
        "RunContainerError",
        "CreateContainerError",
        "CreateContainerConfigError",
    ]) {
        let message = format!("the container of pod {name} exits again and again: see its log");
        return Some(Because::new(Progressing::CrashLoop, message));
    }
    // A claim that is on its way out is a part of a repair.
    let refusals = &view.seen.failed_creates;
    if let Some(refusal) = refusals.iter().find(|text| !text.contains("is being deleted")) {
        return Some(Because::new(Progressing::FailedCreate, format!("Kubernetes refuses a pod: {refusal}")));
    }
    let homeless = pods.iter().find(|pod| pod.unschedulable.is_some() && pod.age >= STARTING / 6)?;
    let message = format!(
        "pod {} cannot be scheduled: {}",
        homeless.name,
        homeless.unschedulable.as_deref().unwrap_or_default()
    );
    Some(Because::new(Progressing::Unschedulable, message))
}

fn degraded(view: &View<'_>) -> Because<Degraded> {
    let mut troubles = Vec::new();
    for pod in view.seen.pods_in_order() {
        troubles.extend(pod_trouble(view, pod));
    }
    troubles.extend(object_troubles(view));
    // The worst first: reasons are in this order.
    troubles.sort_by_key(|(reason, _)| *reason);
    match troubles.first() {
        Some((worst, _)) => {
            let all: Vec<&str> = troubles.iter().map(|(_, message)| message.as_str()).collect();
            Because::new(*worst, all.join("; "))
        }
        None if view.is_founded()
            && view.leader.is_none()
            && view.seen.pods.iter().all(|pod| told(pod).is_none())
            && view.seen.pods.iter().any(|pod| pod.ready) =>
        {
            Because::new(Degraded::Unreachable, "no member answers the operator")
        }
        None => Because::new(Degraded::AsExpected, "nothing is wrong"),
    }
}

/// What is wrong with one pod and the member in it; the worst only.
fn pod_trouble(view: &View<'_>, pod: &PodSeen) -> Option<(Degraded, String)> {
    let name = &pod.name;
    if view.is_foreign(pod) {
        return Some((
            Degraded::ForeignDisk,
            format!("the disk in {name} belongs to another registry cluster"),
        ));
    }
    if matches!(pod.host_health, HostHealth::Unreachable | HostHealth::Gone) {
        let host = pod.host.as_deref().unwrap_or_default();
        let message = format!("{name} is on node {host}, which does not answer; it is not removed for that");
        return Some((Degraded::NodeUnreachable, message));
    }
    let settled = view.settled();
    let votes = settled.map(|settled| settled.votes_of(pod)).unwrap_or_default();
    let has_lost_disk = settled.is_some_and(|settled| votes.iter().any(|id| settled.has_lost_disk(*id)));
    match &pod.answer {
        Answer::Told(node) if node.state == NodeState::Quarantined => {
            Some((Degraded::MemberQuarantined, format!("{name} refuses to run: see its log")))
        }
        Answer::Told(node) if has_lost_disk || node.state == NodeState::DiskLost => {
            Some((Degraded::DiskLost, format!("{name} has lost its disk")))
        }
        Answer::Told(node) if node.disk_full => {
            Some((Degraded::DiskFull, format!("the volume of {name} is full")))
        }
        Answer::Told(node) if node.state == NodeState::Pristine && is_leaderless(view) => {
            Some((Degraded::DiskLost, format!("the disk of {name} is empty, though the cluster was founded")))
        }
        // Our own restarts and fresh pods are no trouble.
        _ if pod.deleting || pod.age < STARTING || !view.is_founded() => None,
        Answer::Silent(_) => Some((Degraded::MemberDown, format!("{name} does not answer"))),
        Answer::Told(_) if settled.is_some_and(|settled| votes.iter().any(|id| !settled.seems_well(*id))) => {
            Some((Degraded::MemberNotReady, format!("{name} is not heard by the leader, or far behind")))
        }
        Answer::Told(node) if is_leaderless(view) && !is_electing(node) => {
            Some((Degraded::MemberNotReady, format!("{name} hears no leader")))
        }
        Answer::Told(node) if !votes.is_empty() && !node.ready => {
            Some((Degraded::MemberNotReady, format!("{name} is not ready")))
        }
        Answer::Told(_) => None,
    }
}

/// Whether the cluster was founded, and nobody leads it.
fn is_leaderless(view: &View<'_>) -> bool {
    view.is_founded() && view.leader.is_none()
}

/// Whether a node has heard a leader so lately that another may be on its way.
fn is_electing(node: &NodeReport) -> bool {
    node.leader_contact.is_some_and(|age| age < ELECTION)
}

fn object_troubles(view: &View<'_>) -> Vec<(Degraded, String)> {
    use crate::observed::Presence::Foreign;
    let seen = view.seen;
    let mut troubles = Vec::new();
    if !seen.budget.others.is_empty() {
        let others = seen.budget.others.join(", ");
        let message = format!("disruption budget {others} selects the same pods: evictions fail, delete it");
        troubles.push((Degraded::ForeignDisruptionBudget, message));
    }
    let foreign = seen.objects.iter().filter(|object| matches!(object.presence, Foreign(_)));
    let mut foreign: Vec<&str> = foreign.map(|object| object.label.as_str()).collect();
    if seen.budget.is_foreign {
        foreign.push("the disruption budget");
    }
    if matches!(seen.set, Foreign(_)) {
        foreign.push("the StatefulSet");
    }
    if !foreign.is_empty() {
        let message = format!("{} of the needed name belongs to somebody else", foreign.join(", "));
        troubles.push((Degraded::NameConflict, message));
    }
    let is_used = |ordinal: u32| seen.pod(ordinal).is_some_and(|pod| !pod.deleting);
    for claim in seen.claims.iter().filter(|claim| claim.deleting && is_used(claim.ordinal)) {
        let message = format!("claim {} is being deleted: its data goes with the next restart", claim.name);
        troubles.push((Degraded::DiskLost, message));
    }
    let small = seen.claims.iter().filter(|claim| {
        claim.asked_bytes < seen.spec.volume_bytes
            && claim.ordinal < seen.spec.replicas
            && !claim.deleting
            && is_stuck(claim)
    });
    let mut small: Vec<&str> = small.map(|claim| claim.name.as_str()).collect();
    small.sort_unstable();
    if !small.is_empty() {
        let message = format!("the storage class or a quota does not let {} grow", small.join(", "));
        troubles.push((Degraded::StorageClassCannotGrow, message));
    }
    troubles
}

fn upgrade_pending(view: &View<'_>) -> Because<UpgradePending> {
    let seen = view.seen;
    if seen.spec.newer_default_image {
        let message = "the operator has a newer default image: set spec.image to take it";
        return Because::new(UpgradePending::ImageChanged, message);
    }
    let update = seen.own_set().and_then(|set| set.update_revision.as_ref());
    let differs = |pod: &PodSeen| {
        update.is_some()
            && pod.revision.is_some()
            && pod.revision.as_ref() != update
            && !view.is_outdated(pod)
    };
    if seen.pods.iter().any(differs) {
        let message = "this operator renders pods differently; they are not restarted for that alone";
        return Because::new(UpgradePending::TemplateChanged, message);
    }
    Because::new(UpgradePending::UpToDate, "all pods are as this operator makes them")
}
