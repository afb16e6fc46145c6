use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// A revision with so many events of so many bytes.
fn revision(number: u64, events: usize, event_bytes: usize) -> Arc<Encoded> {
    Arc::new(Encoded::new(number, &vec![Bytes::from(vec![0; event_bytes]); events], None))
}

fn live() -> Queue {
    let mut queue = Queue::new(0);
    queue.enter(Mode::Joining);
    assert_eq!(queue.mode(), Mode::Joining);
    queue.enter(Mode::Live);
    queue
}

const ROOM: usize = usize::MAX;

#[test]
fn a_queue_holds_1024_events_and_not_one_more() {
    let now = Instant::now();
    let mut queue = live();
    for number in 1..=1_024 {
        assert_eq!(queue.offer(&revision(number, 1, 10), ROOM, now), Offer::Queued);
    }
    assert_eq!(queue.offer(&revision(1_025, 1, 10), ROOM, now), Offer::Overflow);
    assert_eq!((queue.mode(), queue.bytes()), (Mode::Cut(now), 0), "freed at once");
    assert_eq!(queue.offer(&revision(1_026, 1, 10), ROOM, now), Offer::NotWanted);
    queue.enter(Mode::Live);
    assert_eq!(queue.mode(), Mode::Cut(now), "a cut is final");
}

#[test]
fn a_queue_holds_a_mebibyte_and_the_node_may_have_less() {
    let now = Instant::now();
    let mut queue = live();
    for number in 1..=15 {
        assert_eq!(queue.offer(&revision(number, 1, 64 << 10), ROOM, now), Offer::Queued);
    }
    assert_eq!(queue.offer(&revision(16, 1, 64 << 10), ROOM, now), Offer::Overflow);
    let mut queue = live();
    assert_eq!(queue.offer(&revision(1, 1, 100), 0, now), Offer::Queued, "an empty queue takes any");
    assert_eq!(queue.offer(&revision(2, 1, 100), 50, now), Offer::Overflow);
}

#[test]
fn an_empty_queue_takes_any_single_revision_and_hands_it_over_in_parts() {
    let mut queue = live();
    assert_eq!(queue.offer(&revision(5, 2_000, 2_000), ROOM, Instant::now()), Offer::Queued);
    let mut parts = 0;
    while let Some(batch) = queue.take(0) {
        assert!(batch.parts.iter().map(Bytes::len).sum::<usize>() <= 1 << 20);
        parts += batch.parts.len();
        if batch.complete.is_none() {
            assert!(queue.owes(5), "a part is not the whole");
            assert_eq!(queue.sent, 0);
        }
    }
    assert!(parts >= 4);
    assert_eq!((queue.sent, queue.bytes()), (5, 0));
}

#[test]
fn several_revisions_share_a_message() {
    let mut queue = live();
    for number in 1..=3 {
        queue.offer(&revision(number, 1, 10), ROOM, Instant::now());
    }
    let batch = queue.take(1).unwrap();
    assert_eq!((batch.parts.len(), batch.complete), (2, Some(3)), "1 was sent with the state");
    assert!(queue.take(1).is_none());
}

#[test]
fn who_waits_is_told_what_is_owed() {
    let mut queue = Queue::new(0);
    assert!(queue.owes(7), "a watch that reads its snapshot has not been told");
    queue.enter(Mode::Joining);
    queue.mark_sent(7);
    assert!(!queue.owes(7) && queue.owes(8));
    queue.enter(Mode::Live);
    assert!(!queue.owes(8), "it concerns nobody or comes");
    queue.offer(&revision(8, 1, 10), ROOM, Instant::now());
    assert!(queue.owes(8) && !queue.owes(7));
    queue.take(0);
    assert!(!queue.owes(8));
    queue.enter(Mode::Reset);
    assert!(queue.owes(9));
    queue.cut(Instant::now());
    assert!(!queue.owes(9), "a watch that ends prolongs nothing");
}

proptest! {
    #[test]
    fn what_was_queued_comes_out_once_in_order_and_whole(
        sizes in prop::collection::vec((1_usize..40, 1_usize..60_000), 1..40),
        takes in prop::collection::vec(any::<bool>(), 1..200),
    ) {
        let mut queue = live();
        let mut sizes = sizes.into_iter().enumerate();
        let (mut expected, mut got, mut last) = (Vec::new(), Vec::new(), 0);
        for take in takes {
            if take {
                let Some(batch) = queue.take(0) else { continue };
                prop_assert!(batch.parts.iter().map(|part| framed(part.len())).sum::<usize>() <= PART_BYTES + 64);
                got.extend(batch.parts);
                if let Some(complete) = batch.complete {
                    prop_assert!(complete > last);
                    last = complete;
                }
            } else if let Some((number, (events, bytes))) = sizes.next() {
                let next = revision(u64::try_from(number).unwrap() + 1, events, bytes);
                match queue.offer(&next, ROOM, Instant::now()) {
                    Offer::Queued => expected.extend(next.parts.clone()),
                    Offer::Overflow => {
                        prop_assert_eq!(queue.bytes(), 0);
                        return Ok(());
                    }
                    Offer::NotWanted => prop_assert!(false, "it is live"),
                }
            }
        }
        while let Some(batch) = queue.take(0) {
            got.extend(batch.parts);
        }
        prop_assert_eq!(got, expected);
        prop_assert_eq!((queue.bytes(), queue.waiting.events), (0, 0));
    }
}
