//! Kubernetes objects: applied as a whole, never over somebody else's, and the set with enough pods.

use crate::crd::status::Progressing;
use crate::observed::{ClaimSeen, NodeReport, NodeState, ObjectSeen, Observed, Presence, Volume};

use super::flow::{Doing, Flow};
use super::view::{Settled, View, is_valid_count, told};
use super::{SetShape, Step};

/// Most pods that a cluster may need: the most voters.
const MAX_REPLICAS: u32 = 7;

/// Specs under which nothing is done.
pub(super) fn halt(view: &View<'_>) -> Flow {
    let spec = &view.seen.spec;
    if spec.deleting {
        return Flow::Hold(Doing::new(Progressing::Deleting, "the object is being deleted"));
    }
    if spec.paused {
        return Flow::Hold(Doing::new(Progressing::Paused, "spec.paused is true: nothing is changed"));
    }
    if let Some(why) = &spec.invalid {
        return Flow::Hold(Doing::new(Progressing::InvalidSpec, why));
    }
    if !is_valid_count(usize::try_from(spec.replicas).unwrap_or_default()) {
        let message = format!("spec.replicas must be 1, 3, 5 or 7, not {}", spec.replicas);
        return Flow::Hold(Doing::new(Progressing::InvalidSpec, message));
    }
    Flow::Nothing
}

/// Makes the objects as they shall be.
pub(super) fn apply(view: &View<'_>) -> Flow {
    let seen = view.seen;
    let conflict = |owner: &str, label: &str| {
        let message = format!(
            "{label} exists and belongs to {owner}: delete or rename it, or give this cluster another name"
        );
        Doing::new(Progressing::NameConflict, message)
    };
    let leaving = |label: &str| {
        Doing::new(Progressing::ApplyingObjects, format!("{label} is being deleted; it is made anew then"))
    };
    match &seen.set {
        Presence::Foreign(owner) => return Flow::Hold(conflict(owner, "StatefulSet")),
        Presence::Deleting => return Flow::Hold(leaving("StatefulSet")),
        Presence::Absent | Presence::Ours(_) => {}
    }
    let obstacle = seen.objects.iter().find_map(|ObjectSeen { label, presence }| match presence {
        Presence::Foreign(owner) => Some(conflict(owner, label)),
        Presence::Deleting => Some(leaving(label)),
        Presence::Absent | Presence::Ours(_) => None,
    });
    let is_wanting =
        |object: &ObjectSeen| matches!(object.presence, Presence::Absent | Presence::Ours(false));
    match obstacle {
        // A cluster that runs is looked after all the same.
        Some(doing) if seen.own_set().is_some() => Flow::Pass(doing),
        Some(doing) => Flow::Hold(doing),
        None if seen.own_set().is_none() || seen.objects.iter().any(is_wanting) => {
            let step = Step::ApplyObjects { set: present_shape(view) };
            Flow::step(step, Progressing::ApplyingObjects, None)
        }
        None => Flow::Nothing,
    }
}

/// The set as it is; one that is missing, as large as any member that is known needs it.
fn present_shape(view: &View<'_>) -> SetShape {
    let seen = view.seen;
    match seen.own_set() {
        Some(set) => {
            SetShape { replicas: set.replicas, volume_size: set.volume_size.clone(), restarted_at: None }
        }
        None => SetShape {
            replicas: needed(view),
            volume_size: seen.spec.volume_size.clone(),
            // A set deleted for a larger disk, before it was made anew: without this, a restart that was
            // asked for once would look as if it were still to be done, or undone.
            restarted_at: seen.pods.iter().filter_map(|pod| pod.restarted_at.clone()).max(),
        },
    }
}

/// The shape of the set that exists, with another number of pods.
fn with_replicas(seen: &Observed, replicas: u32) -> Option<SetShape> {
    let set = seen.own_set()?;
    Some(SetShape { replicas, volume_size: set.volume_size.clone(), restarted_at: None })
}

/// Scales the set that exists.
pub(super) fn scale(view: &View<'_>, replicas: u32, reason: Progressing) -> Flow {
    match with_replicas(view.seen, replicas) {
        Some(set) => Flow::step(Step::Scale { set }, reason, None),
        None => Flow::Nothing,
    }
}

/// Pods that members need, and that the spec wants. Never a count of pods that happen to be seen.
fn needed(view: &View<'_>) -> u32 {
    let seen = view.seen;
    let by_leader = view.leader.iter().flat_map(|leader| leader.report.members.values());
    let by_leader = by_leader.map(|member| member.name.as_str());
    // Without a leader, what each node knows; some of it may be out of date, which costs an idle pod.
    let nodes = seen.pods.iter().filter(|pod| view.leader.is_none() && !view.is_foreign(pod));
    let takes_part = |node: &&NodeReport| matches!(node.state, NodeState::Learner | NodeState::Voter);
    let by_nodes = nodes.filter_map(told).filter(takes_part);
    let by_nodes = by_nodes.flat_map(|node| node.known_members.iter().map(String::as_str));
    let ordinals = by_leader.chain(by_nodes).filter_map(|name| seen.ordinal_of(name));
    let for_members = ordinals.map(|ordinal| ordinal + 1).max().unwrap_or(0).min(MAX_REPLICAS);
    for_members.max(seen.spec.replicas)
}

/// Undoes what took pods away from members: somebody else scaled the set, or it was made anew too small.
pub(super) fn keep_pods(view: &View<'_>) -> Flow {
    let Some(set) = view.seen.own_set() else { return Flow::Nothing };
    let needed = needed(view);
    if set.replicas >= needed {
        return Flow::Nothing;
    }
    scale(view, needed, Progressing::ScalingUp)
}

/// Asks for larger volumes. Needs no quorum: a full disk may be why there is none.
pub(super) fn grow_volumes(view: &View<'_>) -> Flow {
    let seen = view.seen;
    let Some(set) = seen.own_set() else { return Flow::Nothing };
    let mut claims: Vec<_> = seen.claims.iter().filter(|claim| claim.ordinal < set.replicas).collect();
    claims.sort_by_key(|claim| claim.ordinal);
    claims.retain(|claim| !claim.deleting && claim.volume == Volume::Bound);
    let wanted = seen.spec.volume_bytes;
    let may_grow = claims.iter().find(|claim| claim.asked_bytes < wanted && !is_stuck(claim));
    if let Some(claim) = may_grow {
        let (name, uid) = (claim.name.clone(), claim.uid.clone());
        let step = Step::GrowClaim { name, uid, size: seen.spec.volume_size.clone() };
        return Flow::step(step, Progressing::GrowingStorage, Some(&seen.pod_name(claim.ordinal)));
    }
    let growing = claims.iter().find(|claim| claim.actual_bytes < claim.asked_bytes && !is_stuck(claim));
    match growing {
        Some(claim) => {
            let message = format!("claim {} is growing", claim.name);
            Flow::Pass(Doing::on(Progressing::GrowingStorage, &seen.pod_name(claim.ordinal), message))
        }
        None => Flow::Nothing,
    }
}

/// Whether asking a claim to grow is in vain.
pub(super) fn is_stuck(claim: &ClaimSeen) -> bool {
    claim.can_grow == Some(false) || claim.resize_trouble.is_some()
}

/// Makes the set anew when its claim template is behind: that part of a set cannot be changed.
pub(super) fn recreate_set(settled: Settled<'_>) -> Flow {
    let view = settled.view;
    let seen = view.seen;
    let Some(set) = seen.own_set().filter(|set| set.volume_bytes < seen.spec.volume_bytes) else {
        return Flow::Nothing;
    };
    let is_behind = |ordinal: u32| {
        seen.claim(ordinal).is_none_or(|claim| claim.asked_bytes < seen.spec.volume_bytes || claim.deleting)
    };
    if (0..set.replicas).any(is_behind) {
        return Flow::Nothing;
    }
    // Pods that die while there is no set are not made anew: at a quiet moment only.
    let is_quiet = settled.voters.iter().all(|id| settled.is_live(*id))
        && (0..set.replicas).all(|ordinal| seen.pod(ordinal).is_some_and(|pod| !pod.deleting));
    if !is_quiet {
        let message = "the StatefulSet is made anew for larger volumes once all members are well";
        return Flow::Pass(Doing::new(Progressing::GrowingStorage, message));
    }
    let shape = SetShape {
        replicas: set.replicas,
        volume_size: seen.spec.volume_size.clone(),
        restarted_at: set.restarted_at.clone(),
    };
    let step = Step::RecreateSet { uid: set.uid.clone(), set: shape };
    Flow::step(step, Progressing::GrowingStorage, None)
}
