//! What to do next about one cluster: a pure function of what was seen.
//!
//! Nothing is remembered from plan to plan and none depends on the last one, so an operator that was killed
//! between any two steps goes on where it stopped. A plan names one step at most, and none that could cost
//! the cluster its quorum or its data.

use std::time::Duration;

use crate::crd::status::{Conditions, Member, Progressing, Quorum};
use crate::observed::{Observed, OperationBefore, since};

use flow::{Doing, Flow};
use view::{Settled, View};

mod budget;
mod conditions;
#[cfg(test)]
mod disturbed_test;
mod events;
mod flow;
mod founding;
#[cfg(test)]
mod manual_test;
mod members;
mod objects;
#[cfg(test)]
mod property_test;
mod report;
mod roll;
#[cfg(test)]
mod scenario_test;
#[cfg(test)]
mod simulation;
mod step;
mod view;

pub use step::{SetShape, Step};

/// Time to the next look after a step.
const AT_ONCE: Duration = Duration::from_millis(50);

/// Time after which the same step for the same pod counts as one that changes nothing.
const REPEATED: Duration = Duration::from_secs(2);

/// Time to the next look while something is under way: Raft tells Kubernetes nothing.
const SOON: Duration = Duration::from_secs(1);

/// The same when it has been under way for [`PATIENCE`]: nothing is about to happen.
const LATER: Duration = Duration::from_secs(5);

/// Time after which work without progress is looked at less often.
const PATIENCE: Duration = Duration::from_secs(120);

/// Time to the next look at a cluster that is as it shall be: so long may a member be down unseen.
const AT_REST: Duration = Duration::from_secs(15);

/// Time to the next look when only a person can help, which changes an object that is watched.
const STOPPED: Duration = Duration::from_secs(60);

/// What to do and what to say.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The one thing to do now; `None` = wait.
    pub step: Option<Step>,
    /// What to report.
    pub report: Report,
    /// What to tell people: the step that is about to be taken, and conditions that have another reason.
    pub events: Vec<Event>,
    /// When to look again, unless something changes before.
    pub requeue_after: Duration,
}

/// The status that follows from what was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// All conditions.
    pub conditions: Conditions,
    /// Pods that exist.
    pub replicas: u32,
    /// Voters that are caught up and serve clients.
    pub ready_replicas: u32,
    /// Whether the cluster has been founded, as far as anybody knows.
    pub bootstrapped: bool,
    /// Its id, recorded or told by the members.
    pub cluster_id: Option<String>,
    /// Pod that leads.
    pub leader: Option<String>,
    /// Its term.
    pub term: Option<u64>,
    /// Voters and how many live; `None` = nobody can tell.
    pub quorum: Option<Quorum>,
    /// Members and pods, in the order of their ordinals.
    pub members: Vec<Member>,
    /// Oldest version that members run.
    pub current_version: Option<String>,
    /// What is under way and since when.
    pub operation: Option<OperationBefore>,
}

/// Something that happened, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Warning, or Normal.
    pub is_warning: bool,
    /// A stable word.
    pub reason: &'static str,
    /// A sentence without changing numbers.
    pub note: String,
    /// Pod that it is about, if one.
    pub pod: Option<String>,
}

/// What was decided, before it is put into words.
#[derive(Debug, Clone, PartialEq)]
struct Decision {
    /// The step.
    step: Option<Step>,
    /// What it is a part of, or what is waited for; `None` = all is as it shall be.
    doing: Option<Doing>,
}

/// What to do next about the cluster that was seen.
pub fn plan(seen: &Observed) -> Plan {
    let view = View::new(seen);
    let decision = decide(&view);
    let report = report::report(&view, &decision);
    let requeue_after = requeue(seen, &decision, report.operation.as_ref());
    let events = events::events(&view, decision.step.as_ref(), &report.conditions);
    Plan { step: decision.step, report, events, requeue_after }
}

/// Parts of the plan that need no leader, in the order in which they are asked.
const WITHOUT_LEADER: [fn(&View<'_>) -> Flow; 6] =
    [objects::halt, objects::apply, objects::grow_volumes, roll::mend, founding::found, objects::keep_pods];

/// Parts that need a leader and a membership at rest. Repair comes before all that could make it harder, and
/// shrinking before growing; settings that are refused again and again hold up nothing.
const WITH_LEADER: [fn(Settled<'_>) -> Flow; 11] = [
    members::own,
    budget::protect,
    members::promote,
    members::repair,
    members::bury,
    members::shrink,
    members::grow,
    roll::roll,
    members::settings,
    objects::recreate_set,
    members::await_all,
];

/// Asks each part in turn; the first step is taken, and the first to wait is what is shown.
fn decide(view: &View<'_>) -> Decision {
    let mut waiting: Option<Doing> = None;
    let settled = view.settled();
    let without = WITHOUT_LEADER.iter().map(|part| part(view));
    let gap = std::iter::once_with(|| no_leader(view));
    let with = WITH_LEADER.iter().filter_map(|part| settled.map(part));
    for flow in without.chain(gap).chain(with) {
        match flow {
            Flow::Nothing => {}
            Flow::Do(step, doing) => return Decision { step: Some(step), doing: Some(doing) },
            Flow::Pass(doing) => waiting = waiting.or(Some(doing)),
            Flow::Hold(doing) => return Decision { step: None, doing: waiting.or(Some(doing)) },
        }
    }
    Decision { step: None, doing: waiting }
}

/// Nothing is decided about members without a leader, or while the membership changes.
fn no_leader(view: &View<'_>) -> Flow {
    let pods = &view.seen.pods;
    let doing = match &view.leader {
        Some(_) if view.settled().is_some() => return Flow::Nothing,
        Some(_) => Doing::new(Progressing::WaitingForMembers, "the membership is changing"),
        None if pods.iter().any(|pod| view::told(pod).is_some()) => {
            Doing::new(Progressing::WaitingForMembers, "no leader is heard; nothing is changed without one")
        }
        None if pods.iter().all(|pod| !pod.ready) => {
            Doing::new(Progressing::WaitingForMembers, "waiting for the pods to start")
        }
        None => Doing::new(Progressing::Unreachable, "no member answers the operator"),
    };
    Flow::Hold(doing)
}

fn requeue(seen: &Observed, decision: &Decision, operation: Option<&OperationBefore>) -> Duration {
    let Some(doing) = &decision.doing else { return AT_REST };
    let waited = operation.map_or(Duration::ZERO, |operation| since(seen.now, operation.started_at));
    match doing.reason {
        // A step that changes nothing must not be taken as fast as can be.
        _ if decision.step.is_some() => {
            if waited < REPEATED {
                AT_ONCE
            } else {
                SOON
            }
        }
        Progressing::Paused
        | Progressing::InvalidSpec
        | Progressing::NameConflict
        | Progressing::Deleting => STOPPED,
        _ if waited >= PATIENCE => LATER,
        _ => SOON,
    }
}
