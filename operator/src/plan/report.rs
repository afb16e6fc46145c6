//! The status that follows from what was seen and decided.

use std::collections::BTreeSet;

use crate::crd::status::{Member, Quorum, Role};
use crate::observed::{MemberSeen, NodeState, OperationBefore, Place, PodSeen};

use super::view::{Leader, View, told};
use super::{Decision, Report, Step, conditions};

/// Most entries that the schema takes: more than members and pods of the largest cluster in transition.
const MEMBERS_MAX: usize = 16;

/// Puts it together.
pub(super) fn report(view: &View<'_>, decision: &Decision) -> Report {
    let seen = view.seen;
    let operation = operation(view, decision);
    let quorum = view.leader.map(|leader| {
        let voters = voters(leader);
        let live = voters.iter().filter(|id| is_live(view, leader, **id)).count();
        let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        Quorum::new(count(voters.len()), count(live))
    });
    let members = members(view);
    Report {
        conditions: conditions::conditions(view, decision, operation.as_ref()),
        replicas: u32::try_from(seen.pods.len()).unwrap_or(u32::MAX),
        ready_replicas: u32::try_from(ready_voters(view)).unwrap_or(u32::MAX),
        bootstrapped: view.is_founded(),
        cluster_id: match &decision.step {
            Some(Step::RecordBootstrap { cluster_id, .. }) => Some(cluster_id.clone()),
            _ => seen.before.cluster_id.clone().or_else(|| view.cluster_id().map(str::to_owned)),
        },
        leader: view.leader.map(|leader| leader.pod.name.clone()),
        term: view.leader.map(|leader| leader.node.term),
        quorum,
        current_version: oldest(&members),
        members,
        operation,
    }
}

/// Voters of the newest set.
pub(super) fn voters(leader: Leader<'_>) -> BTreeSet<u64> {
    leader.report.membership.configs.last().cloned().unwrap_or_default()
}

/// Whether a member is well, as far as anybody knows; also while the membership changes.
pub(super) fn is_live(view: &View<'_>, leader: Leader<'_>, raft_id: u64) -> bool {
    match view.settled() {
        Some(settled) => settled.seems_well(raft_id),
        None => leader
            .report
            .members
            .get(&raft_id)
            .is_some_and(|member| !member.dead && member.caught_up_for.is_some()),
    }
}

fn ready_voters(view: &View<'_>) -> usize {
    let Some(leader) = view.leader else { return 0 };
    let is_ready = |id: &u64| {
        let pod = leader.report.members.get(id).and_then(|member| pod_of(view, member));
        is_live(view, leader, *id) && pod.is_some_and(|pod| pod.ready)
    };
    voters(leader).iter().filter(|id| is_ready(id)).count()
}

fn pod_of<'a>(view: &View<'a>, member: &MemberSeen) -> Option<&'a PodSeen> {
    view.seen.pods.iter().find(|pod| pod.name == member.name)
}

/// What is under way; the time is kept while kind, pod and step are the same.
fn operation(view: &View<'_>, decision: &Decision) -> Option<OperationBefore> {
    let doing = decision.doing.as_ref()?;
    let step = decision.step.as_ref().map_or("wait", |step| step.kind());
    let kind = crate::crd::status::Reason::as_str(doing.reason);
    let same = view
        .seen
        .before
        .operation
        .as_ref()
        .filter(|before| before.kind == kind && before.target == doing.target && before.step == step);
    Some(same.cloned().unwrap_or_else(|| OperationBefore {
        kind: kind.to_owned(),
        target: doing.target.clone(),
        step: step.to_owned(),
        started_at: view.seen.now,
    }))
}

/// One entry per name: pods, and members without one.
fn members(view: &View<'_>) -> Vec<Member> {
    let seen = view.seen;
    let known = view.leader.iter().flat_map(|leader| leader.report.members.values());
    let names: BTreeSet<&str> = seen
        .pods
        .iter()
        .map(|pod| pod.name.as_str())
        .chain(known.map(|member| member.name.as_str()))
        .collect();
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_by_key(|name| (seen.ordinal_of(name).unwrap_or(u32::MAX), *name));
    names.truncate(MEMBERS_MAX);
    names.into_iter().map(|name| member(view, name)).collect()
}

fn member(view: &View<'_>, name: &str) -> Member {
    let pod = view.seen.pods.iter().find(|pod| pod.name == name);
    let node = pod.and_then(told);
    let own_id = node.map(|node| node.raft_id).filter(|id| *id != 0);
    let named = view.leader.and_then(|leader| {
        let all = leader.report.members.iter().filter(|(_, member)| member.name == name);
        // Its own id first; else the newest of that name.
        all.max_by_key(|(id, _)| (Some(**id) == own_id, **id))
    });
    let role = match (named.map(|(_, member)| member.place), node.map(|node| node.state)) {
        (Some(Place::Voter), _) | (None, Some(NodeState::Voter)) => Some(Role::Voter),
        (Some(Place::Learner), _) | (None, Some(NodeState::Learner)) => Some(Role::Learner),
        _ => None,
    };
    let raft_id = named.map(|(id, _)| *id).or(own_id);
    let trouble = trouble(view, pod, raft_id);
    Member {
        name: name.to_owned(),
        raft_id: raft_id.and_then(|id| i64::try_from(id).ok()),
        role,
        leader: view.leader.is_some_and(|leader| leader.pod.name == name),
        healthy: trouble.is_none(),
        message: trouble,
        lag: named.and_then(|(_, member)| member.lag_entries).map(Member::rounded_lag),
        version: node.map(|node| node.version.clone()).filter(|version| !version.is_empty()),
    }
}

/// Why a member is not healthy, without numbers that change by themselves.
fn trouble(view: &View<'_>, pod: Option<&PodSeen>, raft_id: Option<u64>) -> Option<String> {
    let Some(pod) = pod else { return Some("it has no pod".into()) };
    if pod.deleting {
        return Some("its pod is ending".into());
    }
    if let Some(waiting) = &pod.waiting {
        return Some(format!("its container does not run: {}", waiting.reason));
    }
    let Some(node) = told(pod) else { return Some("it does not answer the operator".into()) };
    match (node.state, view.leader, raft_id) {
        (NodeState::Pristine | NodeState::Prepared, ..) => {
            Some("its disk is empty; it waits for a place".into())
        }
        (NodeState::Removed, ..) => Some("it was removed; it waits to be admitted anew".into()),
        (NodeState::DiskLost, ..) => Some("it has lost its disk".into()),
        (NodeState::Quarantined, ..) => Some("it is in quarantine: see its log".into()),
        (_, None, _) => Some("it hears no leader".into()),
        (_, Some(leader), Some(id)) if is_live(view, leader, id) => {
            (!node.ready || !pod.ready).then(|| "it is not ready yet".into())
        }
        _ => Some("the leader does not hear it, or it is behind".into()),
    }
}

/// The oldest version that runs, by its numbers.
fn oldest(members: &[Member]) -> Option<String> {
    let numbers = |version: &str| -> Vec<u64> {
        version.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
    };
    members.iter().filter_map(|member| member.version.clone()).min_by_key(|version| numbers(version))
}
