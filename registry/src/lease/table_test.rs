use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const TTL: Duration = Duration::from_secs(5);
const NONE: [u64; 0] = [];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Ticks every 250 ms up to `to`, with a quorum, and says which leases could be expired.
fn run(table: &mut Table, from: u64, to: u64) -> Vec<u64> {
    for at in (from..=to).step_by(250) {
        table.tick(ms(at), ms(at));
    }
    let taken = table.take_overdue(|_| 1);
    table.settled(&taken, Outcome::Certain);
    taken.into_iter().map(|lease| lease.id).collect()
}

#[test]
fn a_silent_lease_expires_after_its_time_to_live() {
    let mut table = Table::new(ms(0));
    table.opened(7, 1, TTL, ms(0));
    assert_eq!(run(&mut table, 0, 4_750), NONE);
    assert_eq!(run(&mut table, 5_000, 6_000), [7]);
}

#[test]
fn a_renewal_counts_from_its_arrival_at_the_node_asked() {
    let mut table = Table::new(ms(0));
    table.opened(7, 1, TTL, ms(0));
    run(&mut table, 0, 4_000);
    assert_eq!(table.renew(7, ms(3_900)), Renewal::Moved);
    assert_eq!(run(&mut table, 4_250, 8_750), NONE);
    assert_eq!(run(&mut table, 9_000, 10_000), [7]);
}

#[test]
fn a_renewal_after_the_slot_fired_saves_the_lease() {
    let mut table = Table::new(ms(0));
    table.opened(7, 1, TTL, ms(0));
    for at in (0..=6_000).step_by(250) {
        table.tick(ms(at), ms(at));
    }
    assert_eq!(table.renew(7, ms(6_000)), Renewal::Moved);
    assert!(table.take_overdue(|_| 1).is_empty());
    assert_eq!(run(&mut table, 6_250, 10_750), NONE);
    assert_eq!(run(&mut table, 11_000, 12_000), [7]);
}

#[test]
fn a_long_freeze_moves_lease_time_by_two_seconds_at_most() {
    let mut table = Table::new(ms(0));
    table.opened(7, 1, TTL, ms(0));
    // The round is fresh, only the tick is late.
    table.tick(ms(60_000), ms(60_000));
    assert!(table.take_overdue(|_| 1).is_empty());
    assert_eq!(run(&mut table, 60_250, 62_750), NONE);
    assert_eq!(run(&mut table, 63_000, 64_000), [7]);
}

#[test]
fn lease_time_stands_still_without_a_quorum() {
    let mut table = Table::new(ms(0));
    table.opened(7, 1, TTL, ms(0));
    for at in (0..60_000).step_by(250) {
        table.tick(ms(at), ms(0));
    }
    assert!(table.take_overdue(|_| 1).is_empty());
    assert_eq!(run(&mut table, 60_000, 63_500), NONE);
    assert_eq!(run(&mut table, 63_750, 66_000), [7]);
}

#[test]
fn a_lease_in_an_expire_under_way_cannot_be_renewed() {
    let mut table = Table::new(ms(0));
    table.opened(7, 1, TTL, ms(0));
    for at in (0..=6_000).step_by(250) {
        table.tick(ms(at), ms(at));
    }
    let taken = table.take_overdue(|_| 1);
    assert_eq!(taken, [Overdue { id: 7, version: 1, late: ms(1_000), again: false }]);
    assert_eq!(table.renew(7, ms(6_001)), Renewal::Expiring);
    // The same version again, as after a reload, does not free it either.
    table.opened(7, 1, TTL, ms(6_001));
    assert_eq!(table.renew(7, ms(6_001)), Renewal::Expiring);
    // A write of its owner does: the Expire names the older version.
    table.opened(7, 2, TTL, ms(6_002));
    assert_eq!(table.renew(7, ms(6_003)), Renewal::Moved);
    table.settled(&taken, Outcome::Certain);
    assert!(table.take_overdue(|_| 1).is_empty());
}

#[test]
fn an_expire_of_unknown_outcome_holds_its_leases_and_is_repeated() {
    let mut table = Table::new(ms(0));
    table.opened(7, 1, TTL, ms(0));
    for at in (0..=6_000).step_by(250) {
        table.tick(ms(at), ms(at));
    }
    let taken = table.take_overdue(|_| 1);
    table.settled(&taken, Outcome::Unknown);
    assert_eq!(table.renew(7, ms(6_001)), Renewal::Expiring);
    assert_eq!(table.take_overdue(|_| 1), [Overdue { again: true, ..taken[0] }]);
    table.settled(&taken, Outcome::Certain);
    assert_eq!(table.renew(7, ms(6_002)), Renewal::Moved);
    assert!(table.take_overdue(|_| 1).is_empty());
}

#[test]
fn an_entry_is_bounded_in_leases_and_in_instances() {
    let mut table = Table::new(ms(0));
    for id in 1..=600 {
        table.opened(id, 1, TTL, ms(0));
    }
    for at in (0..=6_000).step_by(250) {
        table.tick(ms(at), ms(at));
    }
    assert_eq!(table.take_overdue(|_| 1).len(), EXPIRE_LEASES);
    assert_eq!(table.take_overdue(|_| 100).len(), EXPIRE_INSTANCES / 100);
    assert_eq!(table.take_overdue(|_| 5_000).len(), 1);
}

#[test]
fn permanent_leases_and_those_held_by_the_guard_never_expire() {
    let mut table = Table::new(ms(0));
    table.opened(1, 1, Duration::ZERO, ms(0));
    table.held(2, 1, TTL);
    assert_eq!(run(&mut table, 0, 60_000), NONE);
    assert_eq!(table.renew(1, ms(60_000)), Renewal::Unknown);
    assert_eq!(table.renew(2, ms(60_000)), Renewal::Moved);
}

#[test]
fn a_lease_that_the_guard_lets_go_is_due_at_once() {
    let mut table = Table::new(ms(0));
    table.opened(1, 1, TTL, ms(0));
    run(&mut table, 0, 4_000);
    table.held(1, 1, TTL);
    assert_eq!(run(&mut table, 4_250, 60_000), NONE);
    table.released(1, 1, TTL);
    assert_eq!(run(&mut table, 60_250, 61_500), [1]);
}

#[test]
fn a_lease_that_was_renewed_while_the_guard_took_it_has_recovered() {
    let mut table = Table::new(ms(0));
    (1..=3).for_each(|id| table.opened(id, 1, TTL, ms(0)));
    run(&mut table, 0, 4_000);
    assert_eq!(table.renew(2, ms(4_000)), Renewal::Moved);
    (1..=2).for_each(|id| table.held(id, 1, TTL));
    assert_eq!(table.take_recovered(|_| 1), [(2, 1)]);
    assert!(!table.has_recovered());
    // Its Unprotect failed, and the other owner is back as well.
    table.unprotected(&[(2, 1)]);
    assert_eq!(table.renew(1, ms(4_100)), Renewal::Moved);
    assert_eq!(table.renew(1, ms(4_200)), Renewal::Moved);
    assert_eq!(table.take_recovered(|_| 1), [(1, 1), (2, 1)]);
    // One is applied.
    table.opened(1, 2, TTL, ms(4_300));
    table.unprotected(&[(1, 1), (2, 1)]);
    assert_eq!(table.take_recovered(|_| 1), [(2, 1)]);
    assert_eq!(run(&mut table, 4_250, 9_000), [3]);
}

#[test]
fn while_a_guard_ends_and_after_it_owners_wait_until_the_log_has_their_return() {
    let mut table = Table::new(ms(0));
    (1..=3).for_each(|id| table.opened(id, 1, TTL, ms(0)));
    run(&mut table, 0, 4_000);
    (1..=3).for_each(|id| table.held(id, 1, TTL));
    table.let_go(true);
    assert_eq!(table.renew(1, ms(4_000)), Renewal::Expiring);
    table.released(2, 1, TTL);
    assert_eq!(table.renew(2, ms(4_000)), Renewal::Expiring);
    table.released(3, 1, TTL);
    table.let_go(false);
    assert_eq!(run(&mut table, 4_250, 4_250), [3], "whoever is back is not expired");
    assert_eq!(table.renew(1, ms(4_300)), Renewal::Moved);
    assert_eq!(table.renew(2, ms(4_300)), Renewal::Expiring);
    table.opened(2, 2, TTL, ms(4_300));
    assert_eq!(table.renew(2, ms(4_300)), Renewal::Moved);
}

#[test]
fn a_shorter_time_to_live_is_looked_at_in_time() {
    let mut table = Table::new(ms(0));
    table.opened(1, 1, Duration::from_secs(3_600), ms(0));
    table.opened(1, 2, TTL, ms(1_000));
    assert_eq!(run(&mut table, 0, 5_750), NONE);
    assert_eq!(run(&mut table, 6_000, 7_000), [1]);
}

/// What happens to the table between two ticks.
#[derive(Debug, Clone)]
enum Step {
    /// Steady time passes, then a tick; with or without a quorum since.
    Tick {
        after_ms: u64,
        quorum: bool,
    },
    /// The owner writes (with this time to live) or renews, this long ago.
    Write {
        id: u64,
        ttl_ms: u64,
    },
    Renew {
        id: u64,
        waited_ms: u64,
    },
    Close {
        id: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1_u64..600).prop_map(|after_ms| Step::Tick { after_ms, quorum: true }),
        1 => (1_u64..70_000, any::<bool>()).prop_map(|(after_ms, quorum)| Step::Tick { after_ms, quorum }),
        2 => (1_u64..6, 1_000_u64..9_000).prop_map(|(id, ttl_ms)| Step::Write { id, ttl_ms }),
        4 => (1_u64..6, 0_u64..1_000).prop_map(|(id, waited_ms)| Step::Renew { id, waited_ms }),
        1 => (1_u64..6).prop_map(|id| Step::Close { id }),
    ]
}

/// What the model knows of a lease: its last sign of life, its time to live, its version, and how much
/// of the steady time since then surely counted.
#[derive(Debug)]
struct Known {
    heard_ms: u64,
    ttl_ms: u64,
    version: u64,
    counted_ms: u64,
}

proptest! {
    #[test]
    fn a_lease_is_never_expired_early_and_always_in_time(steps in prop::collection::vec(step(), 1..400)) {
        let mut table = Table::new(ms(100_000));
        let mut model: BTreeMap<u64, Known> = BTreeMap::new();
        let (mut now, mut quorum_at, mut version) = (100_000_u64, 100_000_u64, 0);
        for step in steps {
            match step {
                Step::Tick { after_ms, quorum } => {
                    now += after_ms;
                    if quorum {
                        quorum_at = now;
                    }
                    table.tick(ms(now), ms(quorum_at));
                    if now - quorum_at <= 1_000 {
                        model.values_mut().for_each(|lease| lease.counted_ms += after_ms.min(2_000));
                    }
                    let taken = table.take_overdue(|_| 1);
                    for Overdue { id, version, .. } in &taken {
                        let lease = model.remove(id).expect("only known leases expire");
                        prop_assert_eq!(*version, lease.version);
                        prop_assert!(now - lease.heard_ms >= lease.ttl_ms, "early: {:?} at {}", lease, now);
                        table.closed(*id);
                    }
                    table.settled(&taken, Outcome::Certain);
                    // Late: the slot (1 s), and what a sign of life between ticks may take too much: one step (2 s).
                    for (id, lease) in &model {
                        prop_assert!(lease.counted_ms < lease.ttl_ms + 3_000, "{} is late: {:?}", id, lease);
                    }
                }
                Step::Write { id, ttl_ms } => {
                    version += 1;
                    table.opened(id, version, ms(ttl_ms), ms(now));
                    model.insert(id, Known { heard_ms: now, ttl_ms, version, counted_ms: 0 });
                }
                Step::Renew { id, waited_ms } => {
                    let arrived = now - waited_ms;
                    let known = model.get_mut(&id);
                    prop_assert_eq!(table.renew(id, ms(arrived)) == Renewal::Moved, known.is_some());
                    if let Some(lease) = known && arrived > lease.heard_ms {
                        lease.heard_ms = arrived;
                        lease.counted_ms = 0;
                    }
                }
                Step::Close { id } => {
                    table.closed(id);
                    model.remove(&id);
                }
            }
            prop_assert_eq!(table.len(), model.len());
        }
    }
}
