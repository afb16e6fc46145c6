//! Restarts of pods, one at a time, each behind a gate of live Raft data.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::crd::status::Progressing;
use crate::observed::{HostHealth, NodeState, PodSeen};

use super::Step;
use super::flow::{Doing, Flow};
use super::members::hand_over;
use super::view::{Settled, View, is_plainly_down, told};

/// Age from which a pod that runs, but neither answers nor gets ready, counts as one that never will. A node
/// answers the operator long before it has read its log.
const NEVER_READY_AFTER: Duration = Duration::from_secs(60);

/// Replaces pods that are both broken and outdated, before everything that would wait for them: the newer
/// spec may be what mends them.
pub(super) fn mend(view: &View<'_>) -> Flow {
    for pod in view.seen.pods_in_order() {
        let may_help = !pod.deleting
            && !pod.ready
            && view.is_outdated(pod)
            && !matches!(pod.host_health, HostHealth::Unreachable | HostHealth::Gone);
        if may_help && may_go(view, pod) {
            let reason =
                if view.is_founded() { Progressing::RollingUpdate } else { Progressing::Bootstrapping };
            let leads =
                |settled: &Settled<'_>| settled.leader.pod.name == pod.name && settled.voters.len() > 1;
            return match view.settled().filter(leads) {
                Some(settled) => hand_over(settled, settled.voters, reason),
                None => delete(pod, reason),
            };
        }
    }
    Flow::Nothing
}

/// Whether a pod that is not ready may be deleted: nothing runs in it, or a majority is live without it.
fn may_go(view: &View<'_>, pod: &PodSeen) -> bool {
    if is_plainly_down(pod) {
        return true;
    }
    let is_stuck = told(pod).is_none() && pod.age >= NEVER_READY_AFTER;
    match view.settled() {
        Some(settled) => settled.holds_without(&settled.votes_of(pod)),
        // An election or a change of the membership: what runs may be needed.
        None if view.leader.is_some() => false,
        None if view.is_founded() => is_stuck,
        None => is_stuck || told(pod).is_some_and(|node| node.state == NodeState::Pristine),
    }
}

/// The next pod of a roll: learners, then followers, the leader last, after it has handed over.
pub(super) fn roll(settled: Settled<'_>) -> Flow {
    let view = settled.view;
    let seen = view.seen;
    let Some(set) = seen.own_set() else { return Flow::Nothing };
    let reason = Progressing::RollingUpdate;
    let mut pods = seen.pods_in_order();
    pods.retain(|pod| pod.ordinal < set.replicas);
    pods.reverse();
    if !pods.iter().any(|pod| !pod.deleting && view.is_outdated(pod)) {
        return Flow::Nothing;
    }
    if let Some(waits) = unsettled(settled, set.replicas) {
        return Flow::Pass(waits);
    }
    let leads = |pod: &PodSeen| pod.name == settled.leader.pod.name;
    let outdated = || pods.iter().copied().filter(|pod| view.is_outdated(pod));
    let learner = outdated().find(|pod| settled.votes_of(pod).is_empty());
    let follower = outdated().find(|pod| !leads(pod));
    if let Some(pod) = learner.or(follower) {
        return if settled.holds_without(&settled.votes_of(pod)) {
            delete(pod, reason)
        } else {
            let message = format!("{} is restarted once a majority of the others is well", pod.name);
            Flow::Pass(Doing::on(Progressing::Blocked, &pod.name, message))
        };
    }
    if settled.voters.len() == 1 {
        // The exception: nobody can take over, so a restart is an interruption.
        return delete(settled.leader.pod, reason);
    }
    hand_over(settled, settled.voters, reason)
}

/// What the next restart waits for: every pod is there, and every member has been well for the settle time.
fn unsettled(settled: Settled<'_>, replicas: u32) -> Option<Doing> {
    let view = settled.view;
    let seen = view.seen;
    let on = |name: &str, message: String| Some(Doing::on(Progressing::RollingUpdate, name, message));
    for ordinal in 0..replicas {
        let name = seen.pod_name(ordinal);
        match seen.pod(ordinal) {
            None => return on(&name, format!("waiting for pod {name}")),
            Some(pod) if pod.deleting => return on(&name, format!("waiting for pod {name} to end")),
            // One that finds no host tells nothing about what it would run.
            Some(pod) if pod.unschedulable.is_some() && settled.votes_of(pod).is_empty() => {}
            // A pod that was rolled to something that does not work: the next one would follow it.
            Some(pod) if told(pod).is_none() && !view.is_outdated(pod) => {
                return on(&name, format!("waiting for the node in {name} to answer"));
            }
            Some(_) => {}
        }
    }
    let is_weak = |id: &&u64| !settled.is_live_for(**id, seen.spec.settle);
    let weak: BTreeSet<u64> = settled.voters.iter().filter(is_weak).copied().collect();
    let name = settled.member(*weak.first()?).map_or("a member", |member| &member.name);
    on(name, format!("waiting for {name} to have been well for a while"))
}

fn delete(pod: &PodSeen, reason: Progressing) -> Flow {
    let step = Step::DeletePod { name: pod.name.clone(), uid: pod.uid.clone() };
    Flow::step(step, reason, Some(&pod.name))
}
