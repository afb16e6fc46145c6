//! What the client repeats, and with which request id.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use registry_client::CallOptions;
use registry_client::v1::{self, ErrorReason, Position};
use tonic::{Code, Status};

use crate::mock::{Fault, Mock, instance, no_quorum, not_leader, orders, refusal, shutting_down, until};

fn short() -> CallOptions {
    CallOptions::new().deadline(Duration::from_millis(400)).attempt_timeout(Duration::from_millis(100))
}

/// Request ids of the writes that all nodes got.
fn ids(mock: &Mock) -> Vec<v1::RequestId> {
    let calls = |node: &Arc<crate::mock::Node>| node.calls.lock().unwrap().clone();
    mock.nodes.iter().flat_map(calls).filter_map(|(_, id)| id).collect()
}

#[tokio::test]
async fn a_hint_leads_to_the_leader_at_once() {
    let mock = Mock::new(3);
    mock.lead(1);
    let client = mock.client().await;
    for _ in 0..20 {
        client.list_services(v1::ListServicesRequest::default()).await.unwrap();
    }
    let asked: usize = mock.nodes.iter().map(|node| node.count("list_services")).sum();
    assert!(asked <= 40, "one redirection per call at most, {asked} calls");
    assert_eq!(mock.nodes[1].count("list_services"), 20);
}

#[tokio::test]
async fn hints_in_a_circle_end_with_the_deadline_and_do_not_spin() {
    let mock = Mock::new(2);
    let client = mock.client().await;
    for _ in 0..1000 {
        mock.nodes[0].fail("register", Fault::Refuse(not_leader("node-2:8080")));
        mock.nodes[1].fail("register", Fault::Refuse(not_leader("node-1:8080")));
    }
    let error = client.with(short()).register(instance(1)).await.unwrap_err();
    assert!(error.is(ErrorReason::NotLeader) && !error.is_outcome_unknown(), "{error}");
    assert!(error.leader_endpoint().is_some());
    let asked = mock.nodes[0].count("register") + mock.nodes[1].count("register");
    assert!(asked < 100, "{asked} attempts in 400 ms");
    let serials: BTreeSet<_> = ids(&mock).into_iter().map(|id| id.serial).collect();
    assert_eq!(serials, BTreeSet::from([1]));
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_done_once_and_answered() {
    let mock = Mock::new(3);
    let client = mock.client().await;
    mock.nodes[0].fail("register", Fault::LoseAnswer);
    mock.nodes.iter().skip(1).for_each(|node| node.fail("register", Fault::LoseAnswer));
    let answer = client.register(instance(1)).await.unwrap();
    assert!(answer.header.as_ref().unwrap().replayed);
    assert_eq!(answer.outcome(), v1::RegisterOutcome::Created);
    assert_eq!(mock.store().revision, 1);
    let ids = ids(&mock);
    assert!(ids.len() >= 2 && ids.iter().all(|id| id.serial == 1), "{ids:?}");
}

#[tokio::test]
async fn an_unknown_outcome_is_repeated_with_the_same_id_and_told_if_it_stays_unknown() {
    let mock = Mock::new(1);
    let client = mock.client().await;
    let unknown = refusal(Code::Unknown, ErrorReason::OutcomeUnknown, "SAME_REQUEST", &[]);
    mock.nodes[0].fail("register", Fault::AnswerInstead(unknown.clone()));
    assert!(client.register(instance(1)).await.unwrap().header.unwrap().replayed);

    mock.nodes[0].fail("register", Fault::AnswerInstead(unknown));
    for _ in 0..1000 {
        mock.nodes[0].fail("register", Fault::Refuse(no_quorum()));
    }
    let error = client.with(short()).register(instance(2)).await.unwrap_err();
    assert!(error.is(ErrorReason::NoQuorum) && error.is_outcome_unknown(), "{error}");
    assert_eq!(client.metrics().outcomes_unknown, 1);
}

#[tokio::test]
async fn a_serial_refused_before_the_log_is_used_by_the_next_write() {
    let mock = Mock::new(1);
    let client = mock.client().await;
    let invalid = refusal(Code::InvalidArgument, ErrorReason::InvalidField, "NEVER", &[]);
    mock.nodes[0].fail("register", Fault::Refuse(invalid));
    assert!(client.register(instance(1)).await.unwrap_err().is(ErrorReason::InvalidField));
    client.register(instance(2)).await.unwrap();
    client.register(instance(3)).await.unwrap();
    let serials: Vec<_> = ids(&mock).into_iter().map(|id| (id.serial, id.done_below)).collect();
    assert_eq!(serials, [(1, 1), (1, 1), (2, 2)]);
}

#[tokio::test]
async fn a_forgotten_client_begins_anew_before_anything_happened_and_never_afterwards() {
    let mock = Mock::new(1);
    let client = mock.client().await;
    client.register(instance(1)).await.unwrap();
    let first = client.client_id();
    mock.store().forget_clients();
    client.register(instance(2)).await.unwrap();
    assert_ne!(client.client_id(), first);
    assert_eq!(client.metrics().sessions_restarted, 1);

    client.register(instance(3)).await.unwrap();
    mock.nodes[0].fail("register", Fault::Refuse(Status::unavailable("a proxy says so")));
    let before = mock.store().revision;
    mock.store().forget_clients();
    let error = client.register(instance(4)).await.unwrap_err();
    assert!(error.is(ErrorReason::SessionUnknown) && error.is_outcome_unknown(), "{error}");
    assert_eq!(mock.store().revision, before);
    client.register(instance(4)).await.unwrap();
}

#[tokio::test]
async fn many_writers_with_failing_nodes_keep_the_rules_of_serials() {
    let mock = Arc::new(Mock::new(3));
    // So many lost connections take their time.
    let client = mock.client().await.with(CallOptions::new().deadline(Duration::from_secs(60)));
    for (index, node) in mock.nodes.iter().enumerate() {
        for round in 0..20 {
            node.fail(
                "register",
                match (index + round) % 4 {
                    0 => Fault::LoseAnswer,
                    1 => Fault::Refuse(no_quorum()),
                    2 => Fault::Refuse(shutting_down()),
                    _ => Fault::AnswerInstead(Status::unavailable("a proxy lost it")),
                },
            );
        }
    }
    let writers: Vec<_> = (0..64)
        .map(|writer| {
            let client = client.clone();
            tokio::spawn(async move {
                for write in 0..5 {
                    client.register(instance(1 + writer * 5 + write)).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let store = mock.store();
    assert_eq!(store.violations, Vec::<String>::new());
    assert_eq!((store.instances.len(), store.revision, store.clients()), (320, 320, 1));
}

#[tokio::test]
async fn a_node_that_shuts_down_fails_no_call() {
    let mock = Arc::new(Mock::new(3));
    let client = mock.client().await;
    let callers: Vec<_> = (0..16)
        .map(|caller| {
            let client = client.clone();
            tokio::spawn(async move {
                for call in 0..20 {
                    client.discover(orders()).await.unwrap();
                    client.register(instance(1 + caller * 20 + call)).await.unwrap();
                }
            })
        })
        .collect();
    until("calls run", || mock.nodes[0].count("register") > 50).await;
    mock.nodes[0].fail("register", Fault::Refuse(shutting_down()));
    mock.lead(1);
    mock.net.go_away("node-1:8080");
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(client.metrics().calls_failed, 0);
    until("the node is gone", || client.connected_endpoints().len() == 2).await;
}

#[tokio::test]
async fn a_node_that_hangs_is_left_for_another() {
    let mock = Mock::new(2);
    let client = mock.client().await.with(CallOptions::new().attempt_timeout(Duration::from_millis(100)));
    mock.nodes.iter().for_each(|node| node.fail("discover", Fault::Hang));
    for _ in 0..4 {
        client.discover(orders()).await.unwrap();
    }
    mock.nodes[0].fail("register", Fault::Hang);
    client.register(instance(1)).await.unwrap();
    assert_eq!(client.metrics().calls_failed, 0);
}

#[tokio::test]
async fn overload_is_waited_for_and_a_fault_of_the_registry_is_not_repeated() {
    let mock = Mock::new(1);
    let client = mock.client().await;
    let overloaded = refusal(Code::ResourceExhausted, ErrorReason::Overloaded, "LATER", &[]);
    mock.nodes[0].fail("discover", Fault::Refuse(overloaded));
    client.discover(orders()).await.unwrap();
    assert_eq!(mock.nodes[0].count("discover"), 2);

    let internal = refusal(Code::Internal, ErrorReason::Internal, "NEVER", &[]);
    mock.nodes[0].fail("register", Fault::Refuse(internal));
    let error = client.register(instance(1)).await.unwrap_err();
    assert!(error.is_outcome_unknown());
    assert_eq!(mock.nodes[0].count("register"), 1);
}

#[tokio::test]
async fn a_stale_read_never_shows_less_than_the_client_has_seen() {
    let mock = Mock::new(2);
    let client = mock.client().await;
    let written = client.register(instance(1)).await.unwrap().header.unwrap();
    *mock.nodes[1].lag_at.lock().unwrap() = Some(0);
    let stale = client.with(CallOptions::new().stale());
    for _ in 0..20 {
        assert!(stale.discover(orders()).await.unwrap().header.unwrap().revision >= written.revision);
    }
    let there = client.with(CallOptions::new().stale().at("node-2:8080"));
    assert_eq!(there.discover(orders()).await.unwrap().header.unwrap().revision, 0);

    // The cluster was rebuilt: what the client has seen means nothing any more.
    mock.store().epoch += 1;
    *mock.nodes[1].lag_at.lock().unwrap() = None;
    stale.discover(orders()).await.unwrap();
    let elsewhere = Position { epoch: 1, revision: 1 };
    let given = client.with(CallOptions::new().stale().min_revision(elsewhere));
    assert!(given.discover(orders()).await.unwrap_err().is(ErrorReason::EpochChanged));
}

#[tokio::test]
async fn without_a_majority_writes_fail_by_their_deadline_and_stale_reads_go_on() {
    let mock = Mock::new(3);
    let client = mock.client().await;
    client.register(instance(1)).await.unwrap();
    mock.store().leader = None;
    let error = client.with(short()).register(instance(2)).await.unwrap_err();
    assert!(error.is(ErrorReason::NoQuorum) && !error.is_outcome_unknown(), "{error}");
    assert_eq!(client.with(short().stale()).discover(orders()).await.unwrap().instances.len(), 1);
    mock.lead(0);
    client.register(instance(2)).await.unwrap();
    assert_eq!(mock.store().violations, Vec::<String>::new());
}
