use futures::stream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::*;
use crate::error::reason_of;
use crate::lease::expiry;
use crate::lease::forward::Forwarder;
use crate::testbed::{REIGN, Testbed};

const TTL_MS: u64 = 5_000;

async fn service() -> (Arc<Testbed>, KeepAlive) {
    let testbed = Testbed::new(1_000);
    tokio::spawn(expiry::run(testbed.leases.clone(), testbed.clone()));
    while testbed.leases.leadership() != Some(REIGN) {
        sleep(Duration::from_millis(10)).await;
    }
    let renewals = Renewals::new(testbed.leases.clone(), testbed.clone(), Forwarder::nowhere());
    let service = KeepAlive::new(renewals, testbed.clone(), testbed.hub.closing());
    (testbed, service)
}

fn request(sequence: u64, lease_ids: &[u64]) -> Result<v1::KeepAliveRequest, Status> {
    Ok(v1::KeepAliveRequest { sequence, lease_ids: lease_ids.to_vec() })
}

#[tokio::test(start_paused = true)]
async fn each_request_gets_one_answer_in_order_and_only_failures_are_named() {
    let (testbed, service) = service().await;
    let one = testbed.register("a", "1", TTL_MS);
    let two = testbed.register("a", "2", TTL_MS);
    let requests = [request(7, &[one, two, one]), request(3, &[99, two]), request(3, &[98])];
    let answers: Vec<_> = service.keep_alive(stream::iter(requests)).collect().await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    let seen: Vec<_> = answers.iter().map(|answer| (answer.sequence, answer.renewed)).collect();
    assert_eq!(seen, [(7, 2), (3, 1), (3, 0)], "a lease named twice counts once");
    let failed: Vec<Vec<u64>> =
        answers.iter().map(|answer| answer.failures.iter().map(|f| f.lease_id).collect()).collect();
    assert_eq!(failed, [vec![], vec![99], vec![98]]);
    assert!(answers[1].failures[0].reason == v1::ErrorReason::LeaseExpired as i32);
    let headed: Vec<bool> = answers.iter().map(|answer| answer.header.is_some()).collect();
    assert_eq!(headed, [true, false, false]);
}

#[tokio::test(start_paused = true)]
async fn renewals_that_fail_for_a_common_reason_do_not_end_the_stream() {
    let (testbed, service) = service().await;
    let lease = testbed.register("a", "1", TTL_MS);
    let (sender, receiver) = mpsc::unbounded_channel();
    let mut answers = service.keep_alive(UnboundedReceiverStream::new(receiver));
    testbed.quorum.send_replace(false);
    sender.send(request(1, &[lease])).unwrap();
    let answer = answers.next().await.unwrap().unwrap();
    assert_eq!(answer.error(), v1::ErrorReason::NoQuorum);
    assert!(answer.retry_after.is_some() && answer.renewed == 0 && answer.failures.is_empty());
    testbed.quorum.send_replace(true);
    sender.send(request(2, &[lease])).unwrap();
    let answer = answers.next().await.unwrap().unwrap();
    assert_eq!((answer.sequence, answer.renewed, answer.error), (2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_with_too_many_leases_or_none_ends_the_stream() {
    let (_testbed, service) = service().await;
    for ids in [vec![], vec![1; LEASES + 1]] {
        let requests = stream::iter([request(1, &ids)]).chain(stream::pending());
        let answer = service.keep_alive(requests).next().await.unwrap();
        assert_eq!(reason_of(&answer.unwrap_err()), Some(v1::ErrorReason::InvalidField));
    }
}

#[tokio::test(start_paused = true)]
async fn with_64_requests_unanswered_no_further_is_read() {
    let (testbed, service) = service().await;
    testbed.quorum.send_replace(false);
    let read = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = read.clone();
    let requests = stream::iter(1..).map(move |sequence| {
        counter.fetch_max(sequence, std::sync::atomic::Ordering::Relaxed);
        request(sequence, &[sequence])
    });
    let mut answers = service.keep_alive(requests);
    assert!(timeout(Duration::from_secs(1), answers.next()).await.is_err());
    assert_eq!(read.load(std::sync::atomic::Ordering::Relaxed), 64);
    testbed.quorum.send_replace(true);
    assert_eq!(answers.next().await.unwrap().unwrap().sequence, 1);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_stream_shortens_no_lease_and_a_closing_node_says_so() {
    let (testbed, service) = service().await;
    let lease = testbed.register("a", "1", TTL_MS);
    let answers: Vec<_> = service.keep_alive(stream::iter([request(1, &[lease])])).collect().await;
    assert_eq!(answers.len(), 1);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(testbed.state().counts().total, 1);

    let (sender, receiver) = mpsc::unbounded_channel();
    let mut answers = service.keep_alive(UnboundedReceiverStream::new(receiver));
    sender.send(request(1, &[lease])).unwrap();
    assert!(answers.next().await.unwrap().is_ok());
    testbed.hub.close();
    let status = answers.next().await.unwrap().unwrap_err();
    assert_eq!(reason_of(&status), Some(v1::ErrorReason::ShuttingDown));
    assert!(answers.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_node_holds_only_so_many_unanswered_leases() {
    let (testbed, service) = service().await;
    testbed.quorum.send_replace(false);
    let ids: Vec<u64> = (1..=4_096).collect();
    let mut streams: Vec<_> = (0..10)
        .map(|_| {
            service.keep_alive(stream::iter(1..).map({
                let ids = ids.clone();
                move |n| request(n, &ids)
            }))
        })
        .collect();
    for stream in &mut streams {
        assert!(timeout(Duration::from_millis(1), stream.next()).await.is_err());
    }
    assert_eq!(service.room.available_permits(), 0);
    testbed.quorum.send_replace(true);
    for stream in &mut streams {
        assert_eq!(stream.next().await.unwrap().unwrap().sequence, 1);
    }
    drop(streams);
    assert_eq!(service.room.available_permits(), PENDING_LEASES);
}
