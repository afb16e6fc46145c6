use tokio::sync::oneshot::Receiver;

use super::*;

const NONE: [u64; 0] = [];

fn leases(ids: &[u64], arrived: Instant) -> (Pending, Receiver<Result<Vec<u64>, Error>>) {
    let (sender, receiver) = oneshot::channel();
    (Pending { ask: Ask::Leases(ids.to_vec(), sender), arrived }, receiver)
}

fn heartbeat(request: &'static str, arrived: Instant) -> (Pending, Receiver<Result<ForwardedReply, Error>>) {
    let (sender, receiver) = oneshot::channel();
    (Pending { ask: Ask::Heartbeat(Bytes::from_static(request.as_bytes()), sender), arrived }, receiver)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn renewals_of_one_lease_become_one_with_the_age_of_the_youngest() {
    let start = Instant::now();
    let (one, mut first) = leases(&[1, 2], start);
    let (two, mut second) = leases(&[2, 3], start + ms(300));
    let mut batch = Batch::default();
    batch.add(one, start + ms(500));
    batch.add(two, start + ms(500));
    let message = batch.message(start + ms(500));
    assert_eq!(message.lease_ids, [1, 2, 3]);
    assert_eq!(message.waited_ms, [500, 200, 200]);
    batch.answer(ForwardRenewalsResponse { expired: vec![2, 1], ..Default::default() });
    assert_eq!(first.try_recv().unwrap().unwrap(), [1, 2]);
    assert_eq!(second.try_recv().unwrap().unwrap(), [2]);
}

#[test]
fn equal_heartbeats_become_one_with_the_age_of_the_youngest() {
    let start = Instant::now();
    let (one, mut first) = heartbeat("orders", start);
    let (two, mut second) = heartbeat("orders", start + ms(30));
    let mut batch = Batch::default();
    [one, two].into_iter().for_each(|pending| batch.add(pending, start + ms(50)));
    let message = batch.message(start + ms(50));
    assert_eq!((message.heartbeats.len(), message.waited_ms), (1, vec![20]));
    let reply = ForwardedReply { revision: 7, ..Default::default() };
    batch.answer(ForwardRenewalsResponse { replies: vec![reply], ..Default::default() });
    assert_eq!(first.try_recv().unwrap().unwrap().revision, 7);
    assert_eq!(second.try_recv().unwrap().unwrap().revision, 7);
}

#[test]
fn heartbeats_are_answered_in_order() {
    let start = Instant::now();
    let (one, mut first) = heartbeat("one", start);
    let (lease, mut renewed) = leases(&[7], start);
    let (two, mut second) = heartbeat("two", start + ms(5));
    let mut batch = Batch::default();
    [one, lease, two].into_iter().for_each(|pending| batch.add(pending, start + ms(10)));
    let message = batch.message(start + ms(10));
    assert_eq!((message.heartbeats.len(), message.waited_ms), (2, vec![10, 10, 5]));
    let reply = |revision| ForwardedReply { revision, ..Default::default() };
    batch.answer(ForwardRenewalsResponse { replies: vec![reply(1), reply(2)], ..Default::default() });
    assert_eq!(first.try_recv().unwrap().unwrap().revision, 1);
    assert_eq!(second.try_recv().unwrap().unwrap().revision, 2);
    assert_eq!(renewed.try_recv().unwrap().unwrap(), NONE);
}

#[test]
fn what_waited_for_more_than_a_second_is_failed_and_not_sent() {
    let start = Instant::now();
    let (old, mut answer) = leases(&[1], start);
    let mut batch = Batch::default();
    batch.add(old, start + ms(1_001));
    assert!(batch.is_empty());
    assert!(matches!(answer.try_recv().unwrap(), Err(Error::NoQuorum)));
}

#[test]
fn nobody_is_asked_for_a_caller_that_has_gone() {
    let start = Instant::now();
    let (gone, answer) = leases(&[1], start);
    drop(answer);
    let mut batch = Batch::default();
    batch.add(gone, start);
    assert!(batch.is_empty() && batch.message(start).lease_ids.is_empty());
}

#[test]
fn an_error_of_the_leader_reaches_every_caller() {
    let start = Instant::now();
    let (one, mut first) = leases(&[1], start);
    let (two, mut second) = heartbeat("beat", start);
    let mut batch = Batch::default();
    batch.add(one, start);
    batch.add(two, start);
    let status = Error::NoQuorum.into_status(&crate::error::LeaderHint::default());
    let error = crate::request::forward::encode_status(&status);
    batch.answer(ForwardRenewalsResponse { error, ..Default::default() });
    let reason = Some(registry_proto::v1::ErrorReason::NoQuorum);
    assert_eq!(first.try_recv().unwrap().unwrap_err().reason(), reason);
    assert_eq!(second.try_recv().unwrap().unwrap_err().reason(), reason);
}

#[test]
fn a_leader_that_answers_too_few_heartbeats_is_not_believed() {
    let start = Instant::now();
    let (beat, mut answer) = heartbeat("beat", start);
    let mut batch = Batch::default();
    batch.add(beat, start);
    batch.answer(ForwardRenewalsResponse::default());
    assert!(matches!(answer.try_recv().unwrap(), Err(Error::Internal(_))));
}

#[test]
fn a_full_batch_has_no_room_for_the_largest_wish() {
    let start = Instant::now();
    let mut batch = Batch::default();
    let mut waiting = Vec::new();
    for request in 0..4 {
        assert!(batch.has_room(4_096));
        let ids: Vec<u64> = (0..4_096).map(|id| request * 4_096 + id).collect();
        let (pending, answer) = leases(&ids, start);
        waiting.push(answer);
        batch.add(pending, start);
    }
    assert!(!batch.has_room(4_096));
    assert_eq!(batch.message(start).lease_ids.len(), BATCH_LEASES);
}
