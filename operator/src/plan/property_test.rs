//! For looks that a cluster can come to, and for looks that contradict themselves: no plan endangers anything.
//!
//! The looks are those of every turn of many simulated flows, each then bent at up to eight places. What is
//! checked is worked out here from the look alone, without the words of the planner.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use crate::observed::{
    Answer, HostHealth, LeaderReport, MemberSeen, NodeReport, NodeState, Observed, Place, PodPhase, PodSeen,
    Presence, Role, Volume, Waiting,
};

use super::disturbed_test::flows;
use super::simulation::{Trouble, World};
use super::{Plan, Step, plan};

/// The looks of every turn of every flow.
fn corpus() -> Vec<Observed> {
    let mut looks = Vec::new();
    for (_, start) in flows() {
        let mut world: World = start;
        for _ in 0..400 {
            looks.push(world.look());
            let plan = world.turn(Trouble::default());
            if world.is_at_rest(&plan) {
                break;
            }
        }
        looks.push(world.look());
    }
    looks
}

/// One place at which a look is bent: which, at which pod or member, and how.
type Bend = (u8, usize, u8);

fn bend(seen: &mut Observed, (what, at, how): Bend) {
    let count = seen.pods.len();
    match what {
        0..=12 if count > 0 => bend_pod(&mut seen.pods[at % count], what, how),
        13..=22 => {
            if let Some(report) = leading(seen) {
                bend_report(report, what, at, how);
            }
        }
        23 => seen.spec.replicas = [1, 3, 5, 7][usize::from(how) % 4],
        24 => seen.spec.paused = how.is_multiple_of(2),
        25 => {
            seen.set = match how % 3 {
                0 => Presence::Absent,
                1 => Presence::Foreign("nobody".into()),
                _ => Presence::Deleting,
            }
        }
        26 => {
            if let Presence::Ours(set) = &mut seen.set {
                set.replicas = u32::from(how % 9);
            }
        }
        27 => {
            if let Presence::Ours(set) = &mut seen.set {
                set.spec_hash = Some("another".into());
            }
        }
        28 => seen.before.cluster_id = (!how.is_multiple_of(3)).then(|| format!("cluster-{}", how % 5)),
        29 => seen.before.bootstrapped = how.is_multiple_of(2),
        30 if !seen.claims.is_empty() => {
            let index = at % seen.claims.len();
            let claim = &mut seen.claims[index];
            claim.volume =
                [Volume::Lost, Volume::HostGone, Volume::Unbound, Volume::Bound][usize::from(how) % 4];
            claim.deleting = how % 8 > 4;
        }
        31 => seen.spec.deletes_claims = true,
        32 if count > 0 => drop(seen.pods.remove(at % count)),
        33 => seen.spec.volume_bytes = 30,
        _ => {}
    }
}

fn bend_pod(pod: &mut PodSeen, what: u8, how: u8) {
    use NodeState::{Adopted, DiskLost, Learner, Prepared, Pristine, Quarantined, Removed, Voter};
    let states = [Pristine, Prepared, Adopted, Learner, Voter, Removed, DiskLost, Quarantined];
    match what {
        0 => pod.ready = how.is_multiple_of(2),
        1 => pod.answer = Answer::Silent("refused".into()),
        2 => pod.deleting = how.is_multiple_of(2),
        3 => pod.phase = [PodPhase::Pending, PodPhase::Running, PodPhase::Ended][usize::from(how) % 3],
        4 => pod.waiting = Some(Waiting { reason: "CrashLoopBackOff".into(), message: String::new() }),
        5 => pod.spec_hash = Some(format!("{how}")),
        6 => pod.role = [None, Some(Role::Voter), Some(Role::Learner)][usize::from(how) % 3],
        7 => pod.age = Duration::from_secs(u64::from(how) * 4),
        8 => {
            pod.host_health =
                [HostHealth::Unreachable, HostHealth::Gone, HostHealth::Ready][usize::from(how) % 3]
        }
        _ => {
            let Answer::Told(node) = &mut pod.answer else { return };
            match what {
                9 => node.state = states[usize::from(how) % 8],
                10 => node.disk_id = format!("d{}", how % 9),
                11 => node.raft_id = u64::from(how % 9),
                _ => node.cluster_id = format!("cluster-{}", how % 5),
            }
        }
    }
}

fn leading(seen: &mut Observed) -> Option<&mut LeaderReport> {
    seen.pods.iter_mut().find_map(|pod| match &mut pod.answer {
        Answer::Told(node) => node.leading.as_mut(),
        Answer::Silent(_) => None,
    })
}

fn bend_report(report: &mut LeaderReport, what: u8, at: usize, how: u8) {
    let ids: Vec<u64> = report.members.keys().copied().collect();
    let Some(id) = ids.get(at % ids.len().max(1)).copied() else { return };
    let Some(member) = report.members.get_mut(&id) else { return };
    match what {
        13 => member.caught_up_for = None,
        14 => member.caught_up_for = Some(Duration::from_secs(u64::from(how))),
        15 => member.dead = true,
        16 => member.place = [Place::Admitted, Place::Learner, Place::Leaving][usize::from(how) % 3],
        17 => member.disk_id = format!("d{}", how % 9),
        18 => report.quorum_age = (!how.is_multiple_of(3)).then(|| Duration::from_secs(u64::from(how))),
        19 => report.membership.committed = false,
        20 => report.membership.configs.push(BTreeSet::from([id, u64::from(how % 9)])),
        21 => {
            for voters in &mut report.membership.configs {
                if !voters.remove(&id) {
                    voters.insert(id);
                }
            }
        }
        _ => drop(report.members.remove(&id)),
    }
}

/// A leader whose word counts, found the long way round.
fn leader(seen: &Observed) -> Option<(&PodSeen, &NodeReport, &LeaderReport)> {
    let mut best: Option<(&PodSeen, &NodeReport, &LeaderReport)> = None;
    for pod in seen.pods.iter().filter(|pod| !pod.deleting) {
        let Answer::Told(node) = &pod.answer else { continue };
        let Some(report) = &node.leading else { continue };
        let is_single = report.membership.configs.len() == 1 && report.membership.configs[0].len() == 1;
        let hears = is_single || report.quorum_age.is_some_and(|age| age <= Duration::from_secs(2));
        if hears && best.is_none_or(|(_, other, _)| node.term >= other.term) {
            best = Some((pod, node, report));
        }
    }
    best
}

/// Whether this voter counts: the leader hears it, and pod, disk and id fit.
fn is_live(seen: &Observed, report: &LeaderReport, id: u64) -> bool {
    let Some(member) = report.members.get(&id) else { return false };
    let fits = |pod: &PodSeen| match &pod.answer {
        Answer::Told(node) => {
            let is_out =
                matches!(node.state, NodeState::DiskLost | NodeState::Removed | NodeState::Quarantined);
            node.raft_id == id && node.disk_id == member.disk_id && !is_out
        }
        Answer::Silent(_) => false,
    };
    let pod = seen.pods.iter().find(|pod| pod.name == member.name && !pod.deleting);
    member.caught_up_for.is_some() && !member.dead && pod.is_some_and(fits)
}

fn has_majority(
    seen: &Observed,
    report: &LeaderReport,
    voters: &BTreeSet<u64>,
    without: &BTreeSet<u64>,
) -> bool {
    let live = voters.difference(without).filter(|id| is_live(seen, report, **id)).count();
    live * 2 > voters.len()
}

/// A leader and its voters, if the membership is at rest.
fn at_rest(seen: &Observed) -> Option<(&NodeReport, &LeaderReport, &BTreeSet<u64>)> {
    let (_, node, report) = leader(seen)?;
    let [voters] = report.membership.configs.as_slice() else { return None };
    (report.membership.committed && voters.contains(&node.raft_id)).then_some((node, report, voters))
}

fn ordinal(member: &MemberSeen) -> u32 {
    member.name.strip_prefix("a-").unwrap().parse().unwrap()
}

fn named<'a>(report: &'a LeaderReport, name: &'a str) -> impl Iterator<Item = u64> + 'a {
    report.members.iter().filter(move |(_, member)| member.name == name).map(|(id, _)| *id)
}

fn check(seen: &Observed, plan: &Plan) {
    let Some(step) = &plan.step else { return };
    assert!(!seen.spec.paused, "{step}: paused");
    assert!(!matches!(seen.set, Presence::Foreign(_) | Presence::Deleting), "{step}: not our set");
    let rest = at_rest(seen);
    match step {
        Step::DeletePod { name, uid } => check_pod(seen, step, name, uid),
        Step::DeleteClaim { name, .. } => {
            let (_, report, voters) = rest.expect("a claim is deleted with a leader only");
            let claim = seen.claims.iter().find(|claim| claim.name == *name).unwrap();
            let pod_name = format!("a-{}", claim.ordinal);
            let own: BTreeSet<u64> = named(report, &pod_name).collect();
            let is_lost = matches!(claim.volume, Volume::Lost | Volume::HostGone);
            let pod = seen.pods.iter().find(|pod| pod.name == pod_name);
            assert!(pod.is_none_or(|pod| matches!(pod.answer, Answer::Silent(_)) && !pod.ready), "{step}");
            assert!(is_lost || own.is_empty(), "{step}: members {own:?} have it");
            assert!(own.is_empty() || has_majority(seen, report, voters, &own), "{step}: no majority");
        }
        Step::RecordBootstrap { .. } | Step::Initialize { .. } => {
            assert!(!seen.before.bootstrapped, "{step}: it was founded");
            for ordinal in 0..seen.spec.replicas {
                assert!(seen.pods.iter().any(|pod| pod.ordinal == ordinal), "{step}: {ordinal} is missing");
            }
            for pod in &seen.pods {
                let Answer::Told(node) = &pod.answer else { panic!("{step}: {} is silent", pod.name) };
                let is_free = match node.state {
                    NodeState::Pristine => true,
                    NodeState::Prepared | NodeState::Adopted => {
                        let ours = seen.before.cluster_id.as_ref();
                        node.cluster_id.is_empty() || ours.is_none_or(|ours| *ours == node.cluster_id)
                    }
                    _ => false,
                };
                assert!(is_free, "{step}: {node:?}");
            }
        }
        Step::Scale { set } => {
            let Presence::Ours(has) = &seen.set else { panic!("{step}: no set") };
            if set.replicas < has.replicas
                && let Some((_, report, voters)) = rest
            {
                assert!(report.members.values().all(|member| ordinal(member) < set.replicas), "{step}");
                assert!(has_majority(seen, report, voters, &BTreeSet::new()), "{step}: no majority");
            } else if set.replicas < has.replicas {
                let dropped = seen.pods.iter().filter(|pod| pod.ordinal >= set.replicas && !pod.deleting);
                for pod in dropped {
                    let is_empty =
                        matches!(&pod.answer, Answer::Told(node) if node.state == NodeState::Pristine);
                    assert!(is_empty, "{step}: {}", pod.name);
                }
            }
        }
        Step::RecreateSet { set, .. } => {
            let (_, report, voters) = rest.expect("at rest");
            assert!(voters.iter().all(|id| is_live(seen, report, *id)), "{step}");
            let Presence::Ours(has) = &seen.set else { panic!("{step}: no set") };
            assert_eq!((set.replicas, &set.restarted_at), (has.replicas, &has.restarted_at));
        }
        Step::Admit { .. }
        | Step::Promote { .. }
        | Step::Remove { .. }
        | Step::Transfer { .. }
        | Step::UpdateSettings { .. } => check_members(seen, step),
        Step::ApplyObjects { set } => {
            if let Presence::Ours(has) = &seen.set {
                assert_eq!(set.replicas, has.replicas, "{step}: pods come and go by a step of their own");
            }
        }
        Step::GrowClaim { name, .. } => {
            let claim = seen.claims.iter().find(|claim| claim.name == *name).unwrap();
            assert!(claim.asked_bytes < seen.spec.volume_bytes && claim.can_grow != Some(false), "{step}");
        }
        Step::RelabelPod { .. } | Step::WriteBudget { .. } | Step::DeleteBudget => {
            assert!(rest.is_some(), "{step}: nobody can tell who votes");
        }
    }
}

fn check_pod(seen: &Observed, step: &Step, name: &str, uid: &str) {
    let pod = seen.pods.iter().find(|pod| pod.name == name && pod.uid == uid).unwrap();
    assert!(!pod.deleting, "{step}: it is on its way");
    let is_silent = matches!(pod.answer, Answer::Silent(_));
    let has_ended = pod.phase != PodPhase::Running || pod.waiting.is_some();
    if is_silent && !pod.ready && has_ended {
        return;
    }
    match at_rest(seen) {
        Some((node, report, voters)) => {
            let own: BTreeSet<u64> = named(report, name).collect();
            let is_single = voters.len() == 1 && own.contains(&node.raft_id);
            assert!(is_single || has_majority(seen, report, voters, &own), "{step}: no majority without it");
            assert!(is_single || !own.contains(&node.raft_id), "{step}: it leads");
        }
        None => {
            let is_empty = matches!(&pod.answer, Answer::Told(node) if node.state == NodeState::Pristine);
            let is_new = !seen.before.bootstrapped && leader(seen).is_none();
            let is_stuck = is_silent && pod.age >= Duration::from_secs(60) && leader(seen).is_none();
            assert!(!pod.ready && (is_stuck || (is_empty && is_new)), "{step}: nobody can tell what it is");
        }
    }
}

fn check_members(seen: &Observed, step: &Step) {
    let (node, report, voters) = at_rest(seen).expect("members are changed with a leader and at rest only");
    let is_odd = |voters: &BTreeSet<u64>| matches!(voters.len(), 1 | 3 | 5 | 7);
    match step {
        Step::Admit { pod, expected, .. } => {
            let pod = seen.pods.iter().find(|seen| seen.name == *pod).unwrap();
            let Answer::Told(new) = &pod.answer else { panic!("{step}: it is silent") };
            assert_eq!(*expected, report.membership.log_id);
            assert_eq!(pod.role, Some(Role::Learner), "{step}");
            let is_ours = new.state == NodeState::Pristine
                || new.cluster_id.is_empty()
                || new.cluster_id == node.cluster_id;
            assert!(is_ours, "{step}: {} is not {}", new.cluster_id, node.cluster_id);
        }
        Step::Promote { raft_ids, replaced, expected, .. } => {
            assert_eq!(*expected, report.membership.log_id);
            let to: BTreeSet<u64> = voters.iter().chain(raft_ids).copied().collect();
            let to: BTreeSet<u64> = to.into_iter().filter(|id| !replaced.contains(id)).collect();
            assert!(is_odd(&to) && to.contains(&node.raft_id), "{step}: {to:?}");
            let nobody = BTreeSet::new();
            assert!(has_majority(seen, report, voters, &nobody) && has_majority(seen, report, &to, &nobody));
            for id in raft_ids {
                assert!(is_live(seen, report, *id), "{step}: {id}");
            }
            for id in replaced.iter().filter(|id| ordinal(&report.members[id]) < seen.spec.replicas) {
                assert!(!is_live(seen, report, *id), "{step}: {id} has its disk");
            }
        }
        Step::Remove { raft_ids, expected, .. } => {
            assert_eq!(*expected, report.membership.log_id);
            let gone: BTreeSet<u64> = raft_ids.iter().copied().collect();
            let to: BTreeSet<u64> = voters.difference(&gone).copied().collect();
            assert!(!gone.contains(&node.raft_id), "{step}: it leads");
            assert!(to == *voters || (is_odd(&to) && has_majority(seen, report, &to, &BTreeSet::new())));
            for id in raft_ids {
                let is_above = ordinal(&report.members[id]) >= seen.spec.replicas;
                assert!(is_above || !(voters.contains(id) || is_live(seen, report, *id)), "{step}: {id}");
            }
        }
        Step::Transfer { to, .. } => {
            assert!(voters.contains(to) && *to != node.raft_id && is_live(seen, report, *to), "{step}");
        }
        _ => {}
    }
}

#[test]
fn no_plan_endangers_quorum_or_data_whatever_is_seen() {
    let corpus = corpus();
    let kinds = std::cell::RefCell::new(BTreeSet::new());
    let bends = prop::collection::vec((0..36_u8, any::<usize>(), any::<u8>()), 0..8);
    let config = ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(at in any::<prop::sample::Index>(), bends in bends)| {
        let mut seen = corpus[at.index(corpus.len())].clone();
        for one in bends {
            bend(&mut seen, one);
        }
        let plan = plan(&seen);
        check(&seen, &plan);
        kinds.borrow_mut().extend(plan.step.map(|step| step.kind()));
    });
    // Nothing is proved about a step that never comes.
    assert_eq!(kinds.borrow().len(), 16, "{:?}", kinds.borrow());
}
