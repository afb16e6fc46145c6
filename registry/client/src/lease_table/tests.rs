use proptest::prelude::*;

use super::*;

const TTL: Duration = Duration::from_secs(15);

fn none() -> BTreeSet<u64> {
    BTreeSet::new()
}

#[test]
fn a_lease_is_due_within_a_third_of_its_ttl_and_counts_from_sending() {
    let mut table = LeaseTable::default();
    let start = Instant::now();
    let state = table.add(7, TTL, start);
    assert_eq!(state.borrow().valid_until, start + TTL);
    let due = table.next_event().unwrap();
    assert!(due <= start + TTL / 3 && due >= start + TTL / 4);
    assert_eq!(table.take_due(start), None);
    let (number, leases) = table.take_due(due).unwrap();
    assert_eq!(leases, [7]);
    assert_eq!(table.take_due(due), None, "an unanswered lease is not sent twice");
    assert_eq!(table.answered(number, &none()), 1);
    assert_eq!(state.borrow().valid_until, due + TTL);
    assert!(table.next_event().unwrap() > due);
}

#[test]
fn an_ended_stream_makes_its_leases_due_at_once() {
    let mut table = LeaseTable::default();
    let start = Instant::now();
    let state = table.add(7, TTL, start);
    let now = start + TTL / 3;
    let (number, _) = table.take_due(now).unwrap();
    table.put_back_all(now);
    assert_eq!(table.answered(number, &none()), 0, "an answer from a stream that was given up");
    assert_eq!(state.borrow().valid_until, start + TTL);
    let (again, leases) = table.take_due(now).unwrap();
    assert_ne!(again, number);
    assert_eq!(leases, [7]);
}

#[test]
fn an_expired_lease_is_told_and_never_sent_again() {
    let mut table = LeaseTable::default();
    let start = Instant::now();
    let (lost, kept) = (table.add(1, TTL, start), table.add(2, TTL, start));
    let now = start + TTL / 3;
    let (number, leases) = table.take_due(now).unwrap();
    assert_eq!(leases.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from([1, 2]));
    assert_eq!(table.answered(number, &BTreeSet::from([1])), 1);
    assert!(lost.borrow().expired && !kept.borrow().expired);
    let (_, leases) = table.take_due(now + TTL).unwrap();
    assert_eq!(leases, [2]);
    table.remove(1);
    table.remove(2);
    assert!(table.is_empty());
}

#[test]
fn a_lease_of_two_holders_is_renewed_until_both_have_let_go() {
    let mut table = LeaseTable::default();
    let start = Instant::now();
    let _first = table.add(7, TTL, start);
    let _second = table.add(7, TTL, start + Duration::from_secs(1));
    table.remove(7);
    assert_eq!(table.take_due(start + TTL).unwrap().1, [7]);
    table.remove(7);
    assert!(table.is_empty());
}

proptest! {
    /// Whatever is answered, lost or refused, every lease is either due or waits for an answer.
    #[test]
    fn no_lease_is_ever_forgotten(steps in prop::collection::vec((0_u8..5, 0_u64..40), 1..300)) {
            let mut table = LeaseTable::default();
            let mut now = Instant::now();
            let mut sent: Vec<(u64, Vec<u64>)> = Vec::new();
            let mut alive = BTreeSet::new();
            for (action, which) in steps {
                now += Duration::from_millis(500);
                match action {
                    0 if alive.insert(which) => {
                        table.add(which, TTL, now);
                    }
                    1 => sent.extend(table.take_due(now)),
                    2 if !sent.is_empty() => {
                        let (number, _) = sent.swap_remove(which as usize % sent.len());
                        table.answered(number, &none());
                    }
                    3 if !sent.is_empty() => {
                        let (number, _) = sent.swap_remove(which as usize % sent.len());
                        table.put_back(number, now);
                    }
                    4 if alive.remove(&which) => table.remove(which),
                    _ => {}
                }
                for lease in &alive {
                    let entry = &table.leases[lease];
                    prop_assert_eq!(entry.batch.is_none(), table.due.contains(&(entry.due, *lease)));
                }
                prop_assert_eq!(table.leases.len(), alive.len());
            }
    }
}
