//! What people are told of a step once it is done.

use super::view::View;
use super::{Event, Step};

/// The event of a step; `None` = of no interest to people.
pub(super) fn of_step(view: &View<'_>, step: &Step) -> Option<Event> {
    let names = |ids: &[u64]| {
        let member = |id: &u64| view.leader.and_then(|leader| leader.report.members.get(id));
        let named =
            |id: &u64| member(id).map_or_else(|| format!("member {id}"), |member| member.name.clone());
        ids.iter().map(named).collect::<Vec<_>>().join(", ")
    };
    let event = |reason: &'static str, note: String| Event { is_warning: false, reason, note, pod: None };
    let on = |pod: &str, event: Event| Event { pod: Some(pod.to_owned()), ..event };
    Some(match step {
        Step::Initialize { cluster_id, pods } => {
            event("ClusterFounded", format!("cluster {cluster_id} was founded with {}", pods.join(", ")))
        }
        Step::Admit { pod, .. } => {
            on(pod, event("MemberAdmitted", format!("{pod} was admitted as a learner")))
        }
        Step::Promote { raft_ids, replaced, .. } if replaced.is_empty() => {
            event("VotesGiven", format!("{} may vote", names(raft_ids)))
        }
        Step::Promote { raft_ids, .. } => event(
            "MemberReplaced",
            format!("{} votes under a new id, in the place of a lost disk", names(raft_ids)),
        ),
        Step::Remove { raft_ids, .. } => {
            event("MembersRemoved", format!("{} left the cluster for good", names(raft_ids)))
        }
        Step::Transfer { to, .. } => event("LeadershipMoved", format!("{} leads", names(&[*to]))),
        Step::UpdateSettings { .. } => {
            event("SettingsUpdated", "the settings of the cluster were updated".into())
        }
        Step::DeletePod { name, .. } => on(name, event("PodDeleted", format!("pod {name} is made anew"))),
        Step::DeleteClaim { name, .. } => event("ClaimDeleted", format!("claim {name} was deleted")),
        Step::GrowClaim { name, size, .. } => {
            event("ClaimGrown", format!("claim {name} was asked to grow to {size}"))
        }
        Step::RecreateSet { .. } => {
            event("SetRecreated", "the StatefulSet was made anew under its pods, for larger volumes".into())
        }
        Step::Scale { set } => event("Scaled", format!("the StatefulSet has {} pods now", set.replicas)),
        Step::ApplyObjects { .. }
        | Step::RecordBootstrap { .. }
        | Step::RelabelPod { .. }
        | Step::WriteBudget { .. }
        | Step::DeleteBudget => return None,
    })
}
