//! Flows of which every step is disturbed: the operator ends in the middle of it, the status is wiped, a pod dies.

use super::simulation::{DiskState, Image, Trouble, World};

/// Flows of which every step is disturbed in turn.
pub(super) fn flows() -> Vec<(&'static str, World)> {
    let change = |replicas: u32, change: fn(&mut World)| {
        let mut world = World::founded(replicas);
        change(&mut world);
        world.sleep(1);
        world
    };
    vec![
        ("founding", World::new(3)),
        ("1 to 3", change(1, |world| world.wanted.replicas = 3)),
        ("3 to 5", change(3, |world| world.wanted.replicas = 5)),
        (
            "5 to 3",
            change(5, |world| {
                world.wanted.replicas = 3;
                world.wanted.deletes_claims = true;
                world.raft.as_mut().unwrap().leader = Some(4);
            }),
        ),
        ("3 to 1", change(3, |world| world.wanted.replicas = 1)),
        ("roll", change(3, |world| world.wanted.image = Image::Good(2))),
        (
            "roll and grow",
            change(3, |world| {
                world.wanted.image = Image::Good(2);
                world.wanted.replicas = 5;
            }),
        ),
        (
            "lost disk",
            change(3, |world| {
                let disk = world.claims[&1].disk;
                world.disks[disk].state = DiskState::Lost;
            }),
        ),
        ("lost volume", change(3, |world| world.claims.get_mut(&0).unwrap().lost = true)),
        (
            "lost volume while shrinking",
            change(5, |world| {
                world.claims.get_mut(&4).unwrap().lost = true;
                world.wanted.replicas = 3;
            }),
        ),
        (
            "larger volumes",
            change(3, |world| {
                world.wanted.volume = 20;
                world.set.as_mut().unwrap().restarted_at = Some("2026-01-01T00:00:00Z".into());
            }),
        ),
    ]
}

#[test]
fn an_operator_that_ends_in_the_middle_of_any_step_is_gone_on_from() {
    for (name, start) in flows() {
        let mut whole = start.clone();
        whole.settle();
        let steps = whole.taken.len();
        assert!(steps > 0, "{name}");
        for crash_at in 0..steps {
            let mut world = start.clone();
            world.settle_with(Trouble { crash_at: Some(crash_at), forgets: false });
        }
    }
}

#[test]
fn a_status_wiped_before_every_look_changes_nothing_once_the_cluster_is_founded() {
    for (name, start) in flows().into_iter().skip(1) {
        let mut world = start.clone();
        let mut whole = start;
        whole.settle();
        world.settle_with(Trouble { crash_at: None, forgets: true });
        assert_eq!(world.taken, whole.taken, "{name}");
    }
}

#[test]
fn a_status_wiped_once_while_the_cluster_is_founded_leads_to_one_cluster() {
    for (crash_at, at) in [(None, 0), (None, 1), (None, 2), (None, 3), (Some(2), 3), (Some(3), 4)] {
        let mut world = World::new(3);
        let trouble = Trouble { crash_at, forgets: false };
        world.run(trouble, |world, _| world.taken.len() > at).unwrap();
        world.before = Default::default();
        world.settle();
        assert_eq!(world.before.cluster_id, world.raft.as_ref().map(|raft| raft.cluster_id.clone()));
    }
}

#[test]
fn a_pod_or_the_leader_lost_after_any_step_is_survived() {
    for (name, start) in flows() {
        let mut whole = start.clone();
        whole.settle();
        for at in 0..whole.taken.len() {
            let mut world = start.clone();
            world.run(Trouble::default(), |world, _| world.taken.len() > at).unwrap();
            let victim = world.raft.as_ref().and_then(|raft| raft.leader).and_then(|id| world.home(id));
            let now = world.now;
            if let Some(pod) = victim.and_then(|ordinal| world.pods.get_mut(&ordinal)) {
                pod.deleted = Some(now);
            }
            world.settle();
            assert!(world.raft.is_some(), "{name}");
        }
    }
}
