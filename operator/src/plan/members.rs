//! Members: lost disks replaced, the wanted number of voters reached, odd to odd, by one change at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use registry_proto::internal::ClusterSettings;

use crate::crd::status::Progressing;
use crate::observed::{ClaimSeen, HostHealth, LogId, MemberSeen, NodeState, Place, PodSeen, Volume};

use super::Step;
use super::flow::{Doing, Flow};
use super::objects::scale;
use super::view::{Settled, is_plainly_down, is_valid_count, told};

/// Time that a learner must be caught up without a break before it votes: longer than any stall that is
/// over in a heartbeat, shorter than anybody waits for.
const PROVEN_AFTER: Duration = Duration::from_secs(3);

/// Age of a pod that cannot be scheduled before its volume counts as lost with its node: a node that
/// registers anew is back by then.
const HOST_GONE_AFTER: Duration = Duration::from_secs(60);

/// A change that gives votes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Promotion {
    /// Learners that get a vote.
    pub(super) raft_ids: Vec<u64>,
    /// Voters that lose vote and place.
    pub(super) replaced: Vec<u64>,
    /// Voters afterwards.
    pub(super) voters: usize,
}

/// The votes that can be given now: in the place of a lost disk first, then up to the wanted number.
pub(super) fn promotion(settled: Settled<'_>) -> Option<Promotion> {
    let wanted = settled.view.seen.spec.replicas;
    let change = |raft_ids: Vec<u64>, replaced: Vec<u64>| {
        let leaving: BTreeSet<u64> = replaced.iter().copied().collect();
        let to: BTreeSet<u64> =
            settled.voters.difference(&leaving).copied().chain(raft_ids.iter().copied()).collect();
        let is_safe = settled.may_become(&to) && !leaving.contains(&settled.leader.node.raft_id);
        is_safe.then_some(Promotion { raft_ids, replaced, voters: to.len() })
    };
    for lost in settled.voters.iter().filter(|id| settled.has_lost_disk(**id)) {
        let heir = settled.pod(*lost).and_then(|pod| proven_learner(settled, pod));
        if let Some(heir) = heir.filter(|_| settled.ordinal(*lost).is_some_and(|it| it < wanted)) {
            return change(vec![heir], vec![*lost]);
        }
    }
    let missing: Vec<u32> = (0..wanted).filter(|ordinal| voter_of(settled, *ordinal).is_none()).collect();
    let heirs: Option<Vec<u64>> = missing
        .iter()
        .map(|ordinal| settled.view.seen.pod(*ordinal).and_then(|pod| proven_learner(settled, pod)))
        .collect();
    let raft_ids = heirs.filter(|heirs| !heirs.is_empty())?;
    // One without a name of ours is somebody else's business.
    let stays = |id: &u64| settled.ordinal(*id).is_none_or(|ordinal| ordinal < wanted);
    let replaced =
        settled.voters.iter().copied().filter(|id| !stays(id) || settled.has_lost_disk(*id)).collect();
    change(raft_ids, replaced)
}

/// The voter of this ordinal that has its disk still.
fn voter_of(settled: Settled<'_>, ordinal: u32) -> Option<u64> {
    let is_it = |id: &u64| settled.ordinal(*id) == Some(ordinal) && !settled.has_lost_disk(*id);
    settled.voters.iter().copied().find(is_it)
}

/// The learner in this pod, if it has been caught up for long enough to vote.
fn proven_learner(settled: Settled<'_>, pod: &PodSeen) -> Option<u64> {
    let (raft_id, member) = settled.member_in(pod)?;
    let is_proven = member.place == Place::Learner
        && settled.is_live(raft_id)
        && member.caught_up_for.is_some_and(|time| time >= PROVEN_AFTER);
    is_proven.then_some(raft_id)
}

fn expected(settled: Settled<'_>) -> LogId {
    settled.leader.report.membership.log_id
}

fn leader(settled: Settled<'_>) -> String {
    settled.leader.pod.name.clone()
}

/// Gives the votes that can be given; labels and budget are ready for it by then.
pub(super) fn promote(settled: Settled<'_>) -> Flow {
    let Some(Promotion { raft_ids, replaced, .. }) = promotion(settled) else { return Flow::Nothing };
    let reason = if replaced.is_empty() { Progressing::ScalingUp } else { Progressing::ReplacingDisk };
    let first = raft_ids.first().and_then(|id| settled.member(*id)).map(|member| member.name.clone());
    let step = Step::Promote { leader: leader(settled), raft_ids, replaced, expected: expected(settled) };
    Flow::step(step, reason, first.as_deref())
}

/// How far the repair of a voter that lost its disk has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// The claim has to go.
    Claim,
    /// The claim goes when the pod has gone.
    Pod,
    /// The pod has not answered yet, or with a disk that is not to be touched.
    Start,
    /// A fresh disk waits for admission.
    Admit,
    /// A learner of that name catches up.
    CatchUp,
}

/// Repairs the disk of one voter; others wait for it.
pub(super) fn repair(settled: Settled<'_>) -> Flow {
    let wanted = settled.view.seen.spec.replicas;
    let stays = |id: &u64| settled.ordinal(*id).is_some_and(|ordinal| ordinal < wanted);
    let stages =
        settled.voters.iter().copied().filter(stays).filter_map(|id| Some((stage(settled, id)?, id)));
    // The one that is furthest, then the lowest.
    let Some((stage, lost)) = stages.max_by_key(|(stage, id)| (*stage, std::cmp::Reverse(*id))) else {
        return Flow::Nothing;
    };
    let (Some(member), Some(ordinal)) = (settled.member(lost), settled.ordinal(lost)) else {
        return Flow::Nothing;
    };
    let on = |message: String| Doing::on(Progressing::ReplacingDisk, &member.name, message);
    if !settled.holds_without(&BTreeSet::from([lost])) {
        let message =
            format!("the disk of {} is lost; repaired once a majority of the others is well", member.name);
        return Flow::Hold(Doing::on(Progressing::Blocked, &member.name, message));
    }
    if let Some(other) = unfinished(settled, lost).filter(|_| stage <= Stage::Pod) {
        let message = format!("the disk of {} is replaced once {other} is back", member.name);
        return Flow::Hold(on(message));
    }
    let (pod, claim) = (settled.view.seen.pod(ordinal), settled.view.seen.claim(ordinal));
    let step = match (stage, pod, claim) {
        (Stage::Claim, _, Some(claim)) => {
            Step::DeleteClaim { name: claim.name.clone(), uid: claim.uid.clone() }
        }
        (Stage::Pod, Some(pod), _) if !pod.deleting => {
            Step::DeletePod { name: pod.name.clone(), uid: pod.uid.clone() }
        }
        (Stage::Admit, Some(pod), _) => admit(settled, pod),
        (Stage::CatchUp, ..) => {
            return Flow::Hold(on(format!("{} has a new disk and is catching up", member.name)));
        }
        (Stage::Start, Some(pod), _) if settled.view.is_foreign(pod) => {
            let message = format!("the disk in {} belongs to another registry cluster", pod.name);
            return Flow::Pass(Doing::on(Progressing::Blocked, &pod.name, message));
        }
        _ => return Flow::Hold(on(format!("waiting for {} with a new disk", member.name))),
    };
    Flow::step(step, Progressing::ReplacingDisk, Some(&member.name))
}

/// Another voter that is on its way back, perhaps from a repair: one at a time. Those that cannot come back by
/// themselves are not waited for.
fn unfinished(settled: Settled<'_>, lost: u64) -> Option<&str> {
    let comes_back = |id: &u64| {
        let is_cut_off =
            |pod: &PodSeen| matches!(pod.host_health, HostHealth::Unreachable | HostHealth::Gone);
        *id != lost
            && !settled.is_live(*id)
            && stage(settled, *id).is_none()
            && !settled.pod(*id).is_some_and(is_cut_off)
    };
    let id = settled.voters.iter().copied().find(comes_back)?;
    settled.member(id).map(|member| member.name.as_str())
}

/// What the repair of a voter comes to next; `None` = nothing is wrong with its disk.
fn stage(settled: Settled<'_>, voter: u64) -> Option<Stage> {
    let seen = settled.view.seen;
    let ordinal = settled.ordinal(voter)?;
    let pod = seen.pod(ordinal);
    if settled.has_lost_disk(voter) {
        let pod = pod?;
        return Some(match settled.member_in(pod) {
            Some((id, _)) if id != voter => Stage::CatchUp,
            _ if may_be_admitted(settled, pod) => Stage::Admit,
            _ => Stage::Start,
        });
    }
    let claim = seen.claim(ordinal)?;
    if !is_volume_lost(claim, pod) {
        return None;
    }
    Some(match pod {
        _ if !claim.deleting => Stage::Claim,
        Some(pod) if !pod.deleting => Stage::Pod,
        _ => Stage::Start,
    })
}

/// Whether a pod is kept from starting by a volume that is gone.
fn is_volume_lost(claim: &ClaimSeen, pod: Option<&PodSeen>) -> bool {
    let is_down = pod.is_none_or(|pod| is_plainly_down(pod) && !pod.ready);
    match claim.volume {
        Volume::Lost => is_down,
        Volume::HostGone => is_down && pod.is_some_and(|pod| pod.age >= HOST_GONE_AFTER),
        Volume::Unbound | Volume::Bound => false,
    }
}

/// Whether the node in this pod waits for a place. A disk of a removed member, or one that was lost, is moved
/// aside by the node itself on the leader's word.
fn may_be_admitted(settled: Settled<'_>, pod: &PodSeen) -> bool {
    use NodeState::{DiskLost, Prepared, Pristine, Removed};
    let waits = told(pod).is_some_and(|node| matches!(node.state, Pristine | Prepared | Removed | DiskLost));
    waits && !pod.deleting && !settled.view.is_foreign(pod)
}

fn admit(settled: Settled<'_>, pod: &PodSeen) -> Step {
    Step::Admit { leader: leader(settled), pod: pod.name.clone(), expected: expected(settled) }
}

/// Removes learners whose disk is gone: the pod comes back under another id.
pub(super) fn bury(settled: Settled<'_>) -> Flow {
    let is_gone = |id: &u64, member: &MemberSeen| {
        !settled.voters.contains(id) && member.place != Place::Voter && settled.has_lost_disk(*id)
    };
    let gone = settled.members().find(|(id, member)| is_gone(id, member));
    match gone {
        Some((id, member)) => {
            let step =
                Step::Remove { leader: leader(settled), raft_ids: vec![id], expected: expected(settled) };
            Flow::step(step, Progressing::ReplacingDisk, Some(&member.name))
        }
        None => Flow::Nothing,
    }
}

/// Takes members away: the highest ordinals, the leader not before it has handed over; then their pods, then,
/// if the spec says so, their claims.
pub(super) fn shrink(settled: Settled<'_>) -> Flow {
    let seen = settled.view.seen;
    let wanted = seen.spec.replicas;
    let is_above = |id: &u64| settled.ordinal(*id).is_some_and(|ordinal| ordinal >= wanted);
    let leaving: BTreeSet<u64> = settled.members().map(|(id, _)| id).filter(is_above).collect();
    let remaining: BTreeSet<u64> = settled.voters.difference(&leaving).copied().collect();
    if leaving.is_empty() {
        return shed_pods(settled);
    }
    if remaining.len() != settled.voters.len() {
        if !is_valid_count(remaining.len()) {
            // Others have to vote in their place first.
            return Flow::Nothing;
        }
        if let Some(weak) = remaining.iter().find(|id| !settled.is_live(**id)) {
            let name = settled.member(*weak).map_or("a member", |member| &member.name);
            let message = format!("scaling down waits until {name}, which stays, is well");
            return Flow::Hold(Doing::on(Progressing::Blocked, name, message));
        }
        if leaving.contains(&settled.leader.node.raft_id) {
            return hand_over(settled, &remaining, Progressing::ScalingDown);
        }
    }
    let raft_ids = leaving.iter().copied().collect();
    let target = leaving.last().and_then(|id| settled.member(*id)).map(|member| member.name.clone());
    let step = Step::Remove { leader: leader(settled), raft_ids, expected: expected(settled) };
    Flow::step(step, Progressing::ScalingDown, target.as_deref())
}

/// Lets the best of these voters lead.
pub(super) fn hand_over(settled: Settled<'_>, to: &BTreeSet<u64>, reason: Progressing) -> Flow {
    let able = to.iter().copied().filter(|id| *id != settled.leader.node.raft_id && settled.is_live(*id));
    let lag = |id: u64| settled.member(id).and_then(|member| member.lag_entries).unwrap_or(u64::MAX);
    match able.min_by_key(|id| (lag(*id), *id)) {
        Some(to) => {
            let step = Step::Transfer { leader: leader(settled), to, expected: expected(settled) };
            let name = settled.member(to).map(|member| member.name.clone());
            Flow::step(step, reason, name.as_deref())
        }
        None => Flow::Hold(Doing::new(Progressing::Blocked, "no other voter is able to lead")),
    }
}

/// Pods of members that have left for good, then their claims.
fn shed_pods(settled: Settled<'_>) -> Flow {
    let seen = settled.view.seen;
    let wanted = seen.spec.replicas;
    let Some(set) = seen.own_set() else { return Flow::Nothing };
    let all = settled.leader.report.members.values();
    let is_present = |name: &str| seen.ordinal_of(name).is_some_and(|ordinal| ordinal >= wanted);
    if all.into_iter().any(|member| is_present(&member.name)) {
        return Flow::Hold(Doing::new(Progressing::ScalingDown, "a member is leaving"));
    }
    if set.replicas > wanted {
        // Its pods have no vote, but nothing is stopped on a cluster that is not well.
        return if settled.holds_without(&BTreeSet::new()) {
            scale(settled.view, wanted, Progressing::ScalingDown)
        } else {
            Flow::Hold(Doing::new(Progressing::Blocked, "pods are removed once a majority of voters is well"))
        };
    }
    if let Some(pod) = seen.pods.iter().filter(|pod| pod.ordinal >= wanted).max_by_key(|pod| pod.ordinal) {
        let message = format!("waiting for pod {} to end", pod.name);
        return Flow::Pass(Doing::on(Progressing::ScalingDown, &pod.name, message));
    }
    let unused = seen.claims.iter().filter(|claim| claim.ordinal >= wanted && !claim.deleting);
    match unused.filter(|_| seen.spec.deletes_claims).max_by_key(|claim| claim.ordinal) {
        Some(claim) => {
            let step = Step::DeleteClaim { name: claim.name.clone(), uid: claim.uid.clone() };
            Flow::step(step, Progressing::ScalingDown, None)
        }
        None => Flow::Nothing,
    }
}

/// Brings members in, one by one, until all that shall vote are learners at least.
pub(super) fn grow(settled: Settled<'_>) -> Flow {
    let seen = settled.view.seen;
    let wanted = seen.spec.replicas;
    let missing: Vec<u32> = (0..wanted).filter(|ordinal| voter_of(settled, *ordinal).is_none()).collect();
    if missing.is_empty() {
        return Flow::Nothing;
    }
    let Some(set) = seen.own_set() else { return Flow::Nothing };
    if set.replicas < wanted {
        return scale(settled.view, wanted, Progressing::ScalingUp);
    }
    let wait = |pod: &str, message: String| Flow::Pass(Doing::on(Progressing::ScalingUp, pod, message));
    for ordinal in missing {
        let name = seen.pod_name(ordinal);
        let Some(pod) = seen.pod(ordinal).filter(|pod| !pod.deleting) else {
            return wait(&name, format!("waiting for pod {name}"));
        };
        match settled.member_in(pod) {
            // One by one: each costs the leader a snapshot.
            Some((_, member)) if member.caught_up_for.is_none() => {
                return wait(&name, format!("{name} is catching up"));
            }
            Some(_) => {}
            None if settled.view.is_foreign(pod) => {
                let message = format!("the disk in {name} belongs to another registry cluster");
                return Flow::Pass(Doing::on(Progressing::Blocked, &name, message));
            }
            None if !may_be_admitted(settled, pod) => {
                return wait(&name, format!("waiting for the node in {name} to answer"));
            }
            None if !settled.holds_without(&BTreeSet::new()) => {
                let message = "members are admitted once a majority of voters is well";
                return Flow::Pass(Doing::on(Progressing::Blocked, &name, message));
            }
            None => return Flow::step(admit(settled, pod), Progressing::ScalingUp, Some(&name)),
        }
    }
    Flow::Pass(Doing::new(Progressing::ScalingUp, "the new members are about to get their votes"))
}

/// Takes the membership over, if somebody else decides about it: first, because all else depends on it.
pub(super) fn own(settled: Settled<'_>) -> Flow {
    match &settled.leader.report.settings {
        Some(known) if known.now.membership_owner != known.wanted.membership_owner => settings(settled),
        _ => Flow::Nothing,
    }
}

/// What is waited for when nothing is to be done: members that are not well.
pub(super) fn await_all(settled: Settled<'_>) -> Flow {
    let weak = settled.voters.iter().find(|id| !settled.is_live(**id));
    match weak.and_then(|id| settled.member(*id)) {
        Some(member) => {
            let message = format!("waiting for {} to be well", member.name);
            Flow::Pass(Doing::on(Progressing::WaitingForMembers, &member.name, message))
        }
        None => Flow::Nothing,
    }
}

/// Settings that are changed while the cluster runs.
pub(super) fn settings(settled: Settled<'_>) -> Flow {
    let Some(settings) = &settled.leader.report.settings else { return Flow::Nothing };
    let (now, wanted) = (&settings.now, &settings.wanted);
    if (ClusterSettings { version: now.version, ..*wanted }) == *now {
        return Flow::Nothing;
    }
    let step = Step::UpdateSettings {
        leader: leader(settled),
        expected_version: now.version,
        settings: Box::new(*wanted),
    };
    Flow::step(step, Progressing::UpdatingSettings, None)
}
