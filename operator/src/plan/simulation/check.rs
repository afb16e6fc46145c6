//! What must never happen, looked at from outside.

use crate::observed::Role;
use crate::plan::Step;

use super::{DiskState, Pod, World};

fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// Whether a step may be taken in this world. Panics if not.
pub(super) fn step(world: &World, step: &Step) {
    let mut after = world.clone();
    after.act(step, false);
    after.end_surplus();
    keeps_quorum(world, &after, step);
    match step {
        Step::DeleteClaim { uid, .. } => {
            let claim = world.claims.values().find(|claim| claim.uid == *uid).unwrap();
            let disk = &world.disks[claim.disk];
            let members = world.raft.iter().flat_map(|raft| raft.members.values());
            let is_members = members.into_iter().any(|member| member.disk == disk.id);
            let has_data = disk.state == DiskState::Member && !claim.lost;
            assert!(!(is_members && has_data), "{step}: its data is that of a member");
        }
        Step::Initialize { .. } | Step::RecordBootstrap { .. } => {
            let used = world.claims.values().map(|claim| &world.disks[claim.disk]);
            let mut used = used.filter(|disk| matches!(disk.state, DiskState::Member | DiskState::Lost));
            assert!(used.next().is_none() && world.raft.is_none(), "{step}: {used:?} has been a member's");
        }
        Step::Promote { raft_ids, .. } => {
            let raft = world.raft.as_ref().unwrap();
            for id in raft_ids.iter().filter(|id| !raft.voters.contains(id)) {
                let home = world.home(*id).unwrap_or_else(|| panic!("{step}: {id} does not run"));
                assert!(world.pods[&home].caught_up.is_some(), "{step}: {id} is not caught up");
                assert_eq!(world.pods[&home].role, Role::Voter, "{step}: no budget protects {id}");
            }
        }
        Step::Admit { pod, .. } => {
            let ordinal: u32 = pod.strip_prefix("a-").unwrap().parse().unwrap();
            assert_eq!(world.pods[&ordinal].role, Role::Learner, "{step}: it would be counted as a voter");
        }
        _ => {}
    }
}

/// A majority of live voters before a step is one after it; without one, nothing that runs is stopped.
fn keeps_quorum(world: &World, after: &World, step: &Step) {
    let Some(raft) = &world.raft else { return };
    let voters = &after.raft.as_ref().unwrap().voters;
    if raft.leader.is_none() {
        let stopped: Vec<_> = world.running_voters().difference(&after.running_voters()).copied().collect();
        assert!(stopped.is_empty(), "{step}: stops {stopped:?} without a leader");
        return;
    }
    if voters.len() == 1 && matches!(step, Step::DeletePod { .. }) {
        // The documented exception.
        return;
    }
    if after.live_voters() == world.live_voters() && *voters == raft.voters {
        return;
    }
    let live = after.live_voters().len();
    assert!(live >= majority(voters.len()), "{step}: {live} of {} voters are live", voters.len());
}

/// However many evictions the budget allows now, a majority of the voters lives on.
pub(super) fn evictions(world: &World) {
    let (Some(budget), Some(raft)) = (&world.budget, &world.raft) else { return };
    let live = world.live_voters();
    if live.len() < majority(raft.voters.len()) || raft.voters.len() == 1 {
        return;
    }
    // Until Kubernetes has seen that a node is dead, its budget is wrong; nothing can be done about that.
    let is_ready = |(ordinal, pod): &(&u32, &Pod)| world.is_ready(pod) && !world.dead_hosts.contains(ordinal);
    let ready: Vec<&String> = world.pods.iter().filter(is_ready).map(|(_, pod)| &pod.uid).collect();
    let healthy = budget.counted.iter().filter(|uid| ready.contains(uid)).count();
    let allowed = healthy.saturating_sub(budget.min as usize);
    let is_covered =
        |id: &&u64| world.home(**id).is_some_and(|ordinal| world.pods[&ordinal].role == Role::Voter);
    let covered = live.iter().filter(is_covered).count();
    // What is not covered can always be evicted.
    let left = covered.saturating_sub(allowed);
    assert!(
        left >= majority(raft.voters.len()),
        "{allowed} evictions of {covered} voters are allowed, {} vote: {budget:?} after {:?}",
        raft.voters.len(),
        world.taken
    );
}

impl World {
    /// Pods that a smaller set is about to end.
    fn end_surplus(&mut self) {
        let replicas = self.set.as_ref().map_or(u32::MAX, |set| set.replicas);
        self.pods.retain(|ordinal, _| *ordinal < replicas);
    }
}
