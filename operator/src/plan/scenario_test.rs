//! Whole flows in a simulated world: each ends as it is wanted, and no step on the way endangers anything.

use std::collections::BTreeSet;

use crate::crd::status::{Available, Degraded, Progressing};

use super::simulation::{Disk, DiskState, Image, SETTLE, Trouble, World};

/// Voters by name.
fn voters(world: &World) -> BTreeSet<String> {
    let raft = world.raft.as_ref().unwrap();
    raft.voters.iter().map(|id| raft.members[id].name.clone()).collect()
}

fn leader_ordinal(world: &World) -> u32 {
    let raft = world.raft.as_ref().unwrap();
    world.home(raft.leader.unwrap()).unwrap()
}

fn count(world: &World, kind: &str) -> usize {
    world.taken.iter().filter(|taken| *taken == kind).count()
}

#[test]
fn a_new_cluster_of_each_size_is_founded_once_with_all_its_voters() {
    for replicas in [1, 3, 5, 7] {
        let mut world = World::new(replicas);
        let plan = world.settle();
        assert_eq!(voters(&world).len(), replicas as usize);
        assert_eq!(count(&world, "initialize"), 1, "{:?}", world.taken);
        assert_eq!(world.story(), ["record-bootstrap", "initialize", "update-settings"]);
        assert_eq!(plan.report.conditions.available.reason, Available::QuorumHealthy);
        assert_eq!(plan.report.conditions.progressing.reason, Progressing::Idle);
        assert_eq!(world.budget.is_some(), replicas > 1);
        assert_eq!(plan.report.quorum.unwrap().summary, format!("{replicas}/{replicas}"));
    }
}

#[test]
fn a_cluster_grows_and_shrinks_by_odd_steps() {
    let mut world = World::founded(1);
    for (replicas, min) in [(3, Some(2)), (5, Some(4)), (7, Some(6)), (3, Some(2)), (5, Some(4)), (1, None)] {
        world.wanted.replicas = replicas;
        world.settle();
        let expected: BTreeSet<String> = (0..replicas).map(|n| format!("a-{n}")).collect();
        assert_eq!(voters(&world), expected);
        assert_eq!(world.budget.as_ref().map(|budget| budget.min), min);
        assert!(world.restarted.is_empty(), "{:?}", world.restarted);
    }
}

#[test]
fn growing_admits_one_by_one_and_gives_the_votes_together() {
    let mut world = World::founded(3);
    world.wanted.replicas = 5;
    world.settle();
    assert_eq!(world.story(), ["scale", "update-settings", "admit", "admit", "promote"]);
}

#[test]
fn shrinking_hands_over_first_and_removes_members_before_pods_and_claims() {
    let mut world = World::founded(5);
    let raft = world.raft.as_mut().unwrap();
    raft.leader = Some(5);
    world.wanted.replicas = 3;
    world.wanted.deletes_claims = true;
    world.settle();
    assert_eq!(
        world.story(),
        ["transfer", "remove", "scale", "update-settings", "delete-claim", "delete-claim"]
    );
    assert_eq!(world.claims.len(), 3);
}

#[test]
fn claims_of_removed_members_stay_unless_the_spec_says_otherwise_and_are_admitted_anew() {
    let mut world = World::founded(5);
    world.wanted.replicas = 3;
    world.settle();
    assert_eq!(world.claims.len(), 5);
    let old = world.disk(4).unwrap().clone();
    world.wanted.replicas = 5;
    world.settle();
    assert_ne!(world.disk(4).unwrap().raft_id, old.raft_id);
    assert_ne!(world.disk(4).unwrap().id, old.id);
    assert_eq!(count(&world, "delete-claim"), 0);
}

#[test]
fn a_roll_restarts_followers_first_and_the_leader_last_after_it_has_handed_over() {
    for replicas in [3, 5, 7] {
        let mut world = World::founded(replicas);
        let leader = leader_ordinal(&world);
        world.wanted.image = Image::Good(2);
        world.settle();
        let order: Vec<&str> = world.restarted.iter().map(|restart| restart.pod.as_str()).collect();
        assert_eq!(order.len(), replicas as usize);
        assert_eq!(order.last().copied(), Some(format!("a-{leader}").as_str()));
        assert!(world.restarted.iter().all(|restart| !restart.led), "a pod that led was stopped: {order:?}");
        assert_eq!(count(&world, "transfer"), 1);
        // Each after the last has been well for the settle time, and so the last after the new leader.
        assert!(world.restarted.windows(2).all(|pair| pair[1].at >= pair[0].at + 2 + SETTLE));
        assert!(world.restarted.last().unwrap().at >= world.handed_over + SETTLE);
    }
}

#[test]
fn a_single_node_is_restarted_though_nobody_can_take_over() {
    let mut world = World::founded(1);
    world.wanted.image = Image::Good(2);
    world.settle();
    assert_eq!(world.restarted.len(), 1);
    assert!(world.restarted[0].led);
}

#[test]
fn a_restart_asked_for_by_kubectl_is_a_roll_and_happens_once() {
    let mut world = World::founded(3);
    world.set.as_mut().unwrap().restarted_at = Some("2026-01-01T00:00:00Z".into());
    world.run(Trouble::default(), |world, plan| plan.step.is_none() && world.restarted.len() == 3).unwrap();
    world.settle();
    assert_eq!(world.restarted.len(), 3);
    assert!(world.pods.values().all(|pod| pod.restarted_at.is_some()));
    // A larger disk makes the set anew; that is no reason to restart again.
    world.wanted.volume = 20;
    world.settle();
    world.sleep(60);
    world.settle();
    assert_eq!(world.restarted.len(), 3);
    assert_eq!(count(&world, "recreate-set"), 1);
}

#[test]
fn a_bad_image_stops_after_one_pod_and_mends_with_the_next_spec() {
    for bad in [Image::Absent(2), Image::Mute(2)] {
        for replicas in [1, 3, 5] {
            let mut world = World::founded(replicas);
            world.wanted.image = bad;
            let mut waited = 0;
            while waited < 700 {
                waited += u32::from(world.turn(Trouble::default()).step.is_none());
            }
            assert_eq!(world.restarted.len(), 1, "{bad:?}");
            let reason = world.plan().report.conditions.progressing.reason;
            let expected = match bad {
                Image::Absent(_) => Progressing::ImagePull,
                _ => Progressing::DeadlineExceeded,
            };
            assert_eq!(reason, expected);
            world.wanted.image = Image::Good(3);
            world.settle();
        }
    }
}

#[test]
fn a_bad_image_from_the_start_mends_with_the_next_spec() {
    for bad in [Image::Absent(2), Image::Mute(2)] {
        let mut world = World::new(3);
        world.wanted.image = bad;
        for _ in 0..200 {
            world.turn(Trouble::default());
        }
        assert_eq!(world.plan().report.conditions.available.reason, Available::NotBootstrapped);
        world.wanted.image = Image::Good(3);
        world.settle();
    }
}

#[test]
fn a_bad_image_while_growing_mends_with_the_next_spec() {
    let mut world = World::founded(3);
    world.wanted.replicas = 5;
    world.wanted.image = Image::Absent(2);
    for _ in 0..100 {
        world.turn(Trouble::default());
    }
    world.wanted.image = Image::Good(3);
    world.settle();
}

#[test]
fn the_lost_disk_of_any_ordinal_is_replaced_under_a_new_id() {
    for replicas in [3, 5] {
        for ordinal in 0..replicas {
            let mut world = World::founded(replicas);
            let old = world.disk(ordinal).unwrap().clone();
            let disk = world.claims[&ordinal].disk;
            world.disks[disk].state = DiskState::Lost;
            world.sleep(1);
            world.settle();
            assert_ne!(world.disk(ordinal).unwrap().raft_id, old.raft_id);
            assert_eq!(voters(&world).len(), replicas as usize);
            assert_eq!(count(&world, "delete-claim"), 0, "the node moves what is left aside");
            assert_eq!(count(&world, "remove"), 0, "one joint change");
        }
    }
}

#[test]
fn a_lost_volume_is_replaced_claim_first_then_pod() {
    for ordinal in 0..3 {
        let mut world = World::founded(3);
        world.claims.get_mut(&ordinal).unwrap().lost = true;
        world.settle();
        let story = world.story();
        let at = |kind: &str| story.iter().position(|step| *step == kind).unwrap();
        assert!(at("delete-claim") < at("delete-pod") && at("delete-pod") < at("admit"), "{story:?}");
        assert_eq!(voters(&world).len(), 3);
    }
}

#[test]
fn two_lost_volumes_of_five_are_repaired_one_after_the_other() {
    let mut world = World::founded(5);
    for ordinal in [1, 3] {
        world.claims.get_mut(&ordinal).unwrap().lost = true;
    }
    world.settle();
    let story = world.story();
    let promoted = story.iter().position(|step| *step == "promote").unwrap();
    assert_eq!(story[..promoted].iter().filter(|step| **step == "delete-claim").count(), 1, "{story:?}");
}

#[test]
fn lost_disks_of_a_majority_are_reported_and_left_alone() {
    let mut world = World::founded(3);
    for ordinal in [0, 1] {
        let disk = world.claims[&ordinal].disk;
        world.disks[disk].state = DiskState::Lost;
    }
    world.sleep(1);
    for _ in 0..100 {
        assert_eq!(world.turn(Trouble::default()).step, None);
    }
    let conditions = world.plan().report.conditions;
    assert_eq!(conditions.degraded.reason, Degraded::DiskLost);
    assert_eq!(conditions.available.reason, Available::QuorumLost);
}

#[test]
fn pod_and_claim_deleted_by_hand_come_back_as_a_new_member() {
    for ordinal in 0..3 {
        let mut world = World::founded(3);
        world.claims.get_mut(&ordinal).unwrap().deleting = true;
        world.pods.get_mut(&ordinal).unwrap().deleted = Some(world.now);
        world.sleep(10);
        world.settle();
        assert_eq!(count(&world, "promote"), 1);
    }
}

#[test]
fn all_pods_gone_at_once_come_back_without_a_step() {
    let mut world = World::founded(5);
    world.pods.clear();
    world.settle();
    assert!(world.taken.is_empty(), "{:?}", world.taken);
}

#[test]
fn a_deleted_set_is_made_anew_as_large_as_its_members_need() {
    let mut world = World::founded(7);
    world.wanted.replicas = 1;
    world.set = None;
    world.pods.clear();
    world.settle();
    assert_eq!(voters(&world).len(), 1);

    let mut world = World::founded(3);
    world.set = None;
    world.settle();
    assert!(world.restarted.is_empty());
}

#[test]
fn a_set_scaled_by_somebody_else_is_scaled_back() {
    for replicas in [0, 1, 2, 4, 9] {
        let mut world = World::founded(3);
        world.set.as_mut().unwrap().replicas = replicas;
        world.sleep(5);
        world.settle();
        assert_eq!(voters(&world).len(), 3);
        assert_eq!(count(&world, "admit"), 0);
    }
}

#[test]
fn a_member_on_a_dead_node_is_neither_removed_nor_its_pod_deleted() {
    let mut world = World::founded(3);
    world.dead_hosts.insert(1);
    for _ in 0..1_000 {
        assert_eq!(world.turn(Trouble::default()).step, None);
    }
    let conditions = world.plan().report.conditions;
    assert_eq!(conditions.degraded.reason, Degraded::NodeUnreachable);
    assert_eq!(conditions.available.reason, Available::QuorumAtRisk);
    // Not even for a roll.
    world.wanted.image = Image::Good(2);
    for _ in 0..100 {
        world.turn(Trouble::default());
    }
    assert!(world.restarted.is_empty());
    world.dead_hosts.clear();
    world.settle();
}

#[test]
fn volumes_grow_online_and_the_set_is_made_anew_under_its_pods() {
    let mut world = World::founded(3);
    let pods = world.pods.clone();
    world.wanted.volume = 20;
    world.settle();
    assert_eq!(world.story(), ["grow-claim", "grow-claim", "grow-claim", "recreate-set"]);
    assert!(world.claims.values().all(|claim| claim.actual == 20));
    assert_eq!(world.set.as_ref().unwrap().volume, 20);
    assert!(world.pods.iter().all(|(ordinal, pod)| pods[ordinal].uid == pod.uid));
}

#[test]
fn a_class_that_cannot_grow_is_a_condition_and_no_loop() {
    let mut world = World::founded(3);
    world.can_grow = false;
    world.wanted.volume = 20;
    for _ in 0..50 {
        assert_eq!(world.turn(Trouble::default()).step, None);
    }
    assert_eq!(world.plan().report.conditions.degraded.reason, Degraded::StorageClassCannotGrow);
}

#[test]
fn a_paused_cluster_is_left_alone() {
    let mut world = World::founded(3);
    world.wanted.paused = true;
    world.wanted.replicas = 5;
    world.wanted.image = Image::Good(2);
    let disk = world.claims[&1].disk;
    world.disks[disk].state = DiskState::Lost;
    for _ in 0..100 {
        assert_eq!(world.turn(Trouble::default()).step, None);
    }
    assert_eq!(world.plan().report.conditions.progressing.reason, Progressing::Paused);
    world.wanted.paused = false;
    world.settle();
}

#[test]
fn an_even_number_of_voters_is_refused_though_the_api_server_let_it_pass() {
    let mut world = World::founded(3);
    world.wanted.replicas = 4;
    for _ in 0..20 {
        assert_eq!(world.turn(Trouble::default()).step, None);
    }
    assert_eq!(world.plan().report.conditions.progressing.reason, Progressing::InvalidSpec);
}

#[test]
fn disks_of_a_cluster_that_was_deleted_are_taken_up_again_and_never_founded_over() {
    let mut world = World::founded(3);
    // The object and all that it owns is gone, the claims were retained.
    world.set = None;
    world.pods.clear();
    world.applied = None;
    world.budget = None;
    world.before = Default::default();
    world.settle();
    assert_eq!(count(&world, "initialize"), 0);
    assert_eq!(world.before.cluster_id, world.raft.as_ref().map(|raft| raft.cluster_id.clone()));
}

#[test]
fn a_foreign_disk_is_never_admitted() {
    let mut world = World::founded(3);
    world.wanted.replicas = 5;
    world.run(Trouble::default(), |world, _| world.pods.len() == 5).unwrap();
    let disk = world.claims[&3].disk;
    world.disks[disk] = Disk {
        state: DiskState::Member,
        raft_id: 9,
        cluster_id: "other".into(),
        ..world.disks[disk].clone()
    };
    for _ in 0..100 {
        world.turn(Trouble::default());
    }
    assert_eq!(world.plan().report.conditions.degraded.reason, Degraded::ForeignDisk);
    assert_eq!(voters(&world).len(), 3);
    assert_eq!(count(&world, "admit"), 0);
}

#[test]
fn a_founded_cluster_that_lost_all_disks_is_not_founded_again() {
    let mut world = World::founded(3);
    world.pods.clear();
    world.claims.clear();
    world.raft = None;
    world.sleep(5);
    for _ in 0..100 {
        assert_eq!(world.turn(Trouble::default()).step, None);
    }
    let conditions = world.plan().report.conditions;
    assert_eq!(conditions.available.reason, Available::QuorumLost);
    assert_eq!(conditions.degraded.reason, Degraded::DiskLost);
}

#[test]
fn what_happens_is_told_once() {
    let mut world = World::founded(3);
    world.dead_hosts.insert(1);
    let mut told = Vec::new();
    for _ in 0..50 {
        told.extend(world.turn(Trouble::default()).events.into_iter().map(|event| event.reason));
    }
    assert_eq!(told, ["QuorumAtRisk", "NodeUnreachable"]);
}
