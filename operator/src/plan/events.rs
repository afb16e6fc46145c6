//! What people are told when it happens: the step about to be taken, and every change of a condition's reason.

use crate::crd::status::{Because, Conditions, Reason, Truth};

use super::view::View;
use super::{Event, Step};

/// The events of this look.
pub(super) fn events(view: &View<'_>, step: Option<&Step>, conditions: &Conditions) -> Vec<Event> {
    let Conditions { available, progressing, degraded, upgrade_pending, paused } = conditions;
    let changes = [
        change(view, available, Truth::True),
        // What is being done is told by its steps; what stops it is a warning.
        change(view, progressing, Truth::True).filter(|event| event.is_warning),
        change(view, degraded, Truth::False),
        change(view, upgrade_pending, Truth::Unknown),
        change(view, paused, Truth::Unknown),
    ];
    changes.into_iter().flatten().chain(step.and_then(|step| of_step(view, step))).collect()
}

/// The event of a condition that has another reason than the status tells. `good` is the truth that is no
/// warning; Unknown = neither is.
fn change<R: Reason>(view: &View<'_>, because: &Because<R>, good: Truth) -> Option<Event> {
    let word = because.reason.as_str();
    let before = view.seen.before.reasons.get(R::CONDITION);
    // The first look at a new cluster tells nothing that was not to be expected.
    let is_new = before.is_none_or(|before| before != word) && (before.is_some() || is_bad(because, good));
    is_new.then(|| Event {
        is_warning: is_bad(because, good),
        reason: word,
        note: because.message.clone(),
        pod: None,
    })
}

fn is_bad<R: Reason>(because: &Because<R>, good: Truth) -> bool {
    /// Words of a condition that is not true, and yet nothing is wrong.
    const AT_REST: [&str; 4] = ["Idle", "Paused", "NotBootstrapped", "Unreachable"];
    let word = because.reason.as_str();
    good != Truth::Unknown && because.reason.truth() != good && !AT_REST.contains(&word)
}

/// The event of a step; `None` = of no interest to people.
fn of_step(view: &View<'_>, step: &Step) -> Option<Event> {
    let names = |ids: &[u64]| {
        let member = |id: &u64| view.leader.and_then(|leader| leader.report.members.get(id));
        let named =
            |id: &u64| member(id).map_or_else(|| format!("member {id}"), |member| member.name.clone());
        ids.iter().map(named).collect::<Vec<_>>().join(", ")
    };
    let event = |reason: &'static str, note: String| Event { is_warning: false, reason, note, pod: None };
    let on = |pod: &str, reason, note| Event { pod: Some(pod.to_owned()), ..event(reason, note) };
    Some(match step {
        Step::Initialize { .. } => event("FoundingCluster", step.to_string()),
        Step::Admit { pod, .. } => on(pod, "AdmittingMember", step.to_string()),
        Step::Promote { raft_ids, replaced, .. } if replaced.is_empty() => {
            event("GivingVotes", format!("let {} vote", names(raft_ids)))
        }
        Step::Promote { raft_ids, .. } => event(
            "ReplacingMember",
            format!("let {} vote under a new id, in place of the old", names(raft_ids)),
        ),
        Step::Remove { raft_ids, .. } => {
            event("RemovingMembers", format!("remove {} for good", names(raft_ids)))
        }
        Step::Transfer { to, .. } => event("MovingLeadership", format!("let {} lead", names(&[*to]))),
        Step::UpdateSettings { .. } => event("UpdatingSettings", step.to_string()),
        Step::DeletePod { name, .. } => {
            on(name, "DeletingPod", format!("delete pod {name}; it is made anew"))
        }
        Step::DeleteClaim { .. } => event("DeletingClaim", step.to_string()),
        Step::GrowClaim { .. } => event("GrowingClaim", step.to_string()),
        Step::RecreateSet { .. } => event("RecreatingSet", step.to_string()),
        Step::Scale { .. } => event("ScalingSet", step.to_string()),
        Step::ApplyObjects { .. }
        | Step::RecordBootstrap { .. }
        | Step::RelabelPod { .. }
        | Step::WriteBudget { .. }
        | Step::DeleteBudget => return None,
    })
}
