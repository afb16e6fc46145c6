//! Writes at the leader and at followers.

use registry_proto::v1::{self, ErrorReason, RegisterOutcome};
use tonic_types::StatusExt;

use crate::nodes::{Nodes, discover, reason, registration};

fn request_id(client: &str, serial: u64) -> Option<v1::RequestId> {
    Some(v1::RequestId { client: client.into(), serial, done_below: serial })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_at_any_node_is_seen_at_every_other_at_once() {
    let nodes = Nodes::start().await;
    let leader = nodes.leader().await;
    for number in 0..3 {
        let request = registration(7_000 + u32::try_from(number).unwrap());
        let answer = nodes.registry(number).register(request).await.unwrap().into_inner();
        assert_eq!(answer.outcome(), RegisterOutcome::Created);
        let header = answer.header.unwrap();
        assert_eq!(header.forwarded, number != leader, "one hop, and only from a follower");
        assert_eq!(header.node_id, format!("node-{number}"));
        assert_eq!(header.leader_endpoint, nodes.endpoint(leader));
        assert_eq!(answer.instance.unwrap().instance_id, format!("127.0.0.1:{}", 7_000 + number));
        for other in 0..3 {
            let found = nodes.discovery(other).discover(discover()).await.unwrap().into_inner();
            assert_eq!(found.instances.len(), number + 1, "registered at {number}, asked at {other}");
            assert_eq!(found.header.unwrap().staleness, None);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_registration_makes_no_revision_and_a_changed_one_does() {
    let nodes = Nodes::start().await;
    let leader = nodes.leader().await;
    for number in [leader, nodes.follower().await] {
        let mut registry = nodes.registry(number);
        let port = 7_100 + u32::try_from(number).unwrap();
        let first = registry.register(registration(port)).await.unwrap().into_inner();
        let again = registry.register(registration(port)).await.unwrap().into_inner();
        assert_eq!(again.outcome(), RegisterOutcome::Renewed);
        assert_eq!(again.incarnation, first.incarnation);
        assert_eq!(again.lease_id, first.lease_id);
        assert_eq!(again.header.unwrap().revision, first.header.unwrap().revision);

        let changed = v1::ServiceRegisterRequest { weight: Some(7), ..registration(port) };
        let changed = registry.register(changed).await.unwrap().into_inner();
        assert_eq!(changed.outcome(), RegisterOutcome::Updated);
        assert_eq!(changed.incarnation, first.incarnation);
        assert!(changed.header.unwrap().revision > first.incarnation);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_gets_the_first_answer_at_another_node() {
    let nodes = Nodes::start().await;
    let leader = nodes.leader().await;
    let follower = nodes.follower().await;
    let request = v1::ServiceRegisterRequest { request_id: request_id("run-1", 1), ..registration(7_200) };
    let first = nodes.registry(leader).register(request.clone()).await.unwrap().into_inner();
    // Something else happens in between.
    nodes.registry(leader).register(registration(7_201)).await.unwrap();
    let again = nodes.registry(follower).register(request.clone()).await.unwrap().into_inner();
    let header = again.header.unwrap();
    assert!(header.replayed && header.forwarded);
    assert_eq!(header.revision, first.header.unwrap().revision);
    assert_eq!((again.outcome, again.lease_id), (first.outcome, first.lease_id));

    let other = v1::ServiceRegisterRequest { weight: Some(1), ..request };
    assert_eq!(reason(nodes.registry(follower).register(other).await), ErrorReason::RequestIdReused);
    let unknown = v1::ServiceRegisterRequest { request_id: request_id("run-2", 5), ..registration(7_202) };
    assert_eq!(reason(nodes.registry(follower).register(unknown).await), ErrorReason::SessionUnknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_owner_is_refused_with_the_present_incarnation() {
    let nodes = Nodes::start().await;
    let follower = nodes.follower().await;
    let mut registry = nodes.registry(follower);
    let owned = |client: &str| v1::ServiceRegisterRequest {
        request_id: request_id(client, 1),
        ..registration(7_300)
    };
    let first = registry.register(owned("run-1")).await.unwrap().into_inner();
    let second = registry.register(owned("run-2")).await.unwrap().into_inner();
    assert_eq!(second.outcome(), RegisterOutcome::Replaced);
    assert!(second.incarnation > first.incarnation);

    let late = v1::ServiceDeregisterRequest {
        service_name: "orders".into(),
        host: "127.0.0.1".into(),
        port: 7_300,
        incarnation: first.incarnation,
        ..Default::default()
    };
    let refused = registry.deregister(late.clone()).await.unwrap_err();
    let info = refused.get_details_error_info().unwrap();
    assert_eq!(info.reason, "STALE_INCARNATION");
    assert_eq!(info.metadata["current_incarnation"], second.incarnation.to_string());
    assert_eq!(info.metadata["retry"], "NEVER");
    assert!(!info.metadata["leader_endpoint"].is_empty());

    let own = v1::ServiceDeregisterRequest { incarnation: second.incarnation, ..late.clone() };
    assert_eq!(registry.deregister(own).await.unwrap().into_inner().removed, 1);
    let again = v1::ServiceDeregisterRequest { incarnation: 0, ..late };
    assert_eq!(registry.deregister(again).await.unwrap().into_inner().removed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_shares_a_lease_and_is_refused_as_a_whole() {
    let nodes = Nodes::start().await;
    let mut registry = nodes.registry(nodes.follower().await);
    let entries: Vec<_> = (7_400..7_410).map(registration).collect();
    let batch = v1::BatchRegisterRequest { registrations: entries.clone(), ..Default::default() };
    let answer = registry.batch_register(batch).await.unwrap().into_inner();
    assert_eq!(answer.results.len(), 10);
    assert!(answer.results.iter().all(|result| result.incarnation == answer.results[0].incarnation));

    let mut wrong = entries;
    wrong[3].incarnation = 99;
    wrong[4].port = 7_999;
    let batch = v1::BatchRegisterRequest { registrations: wrong, ..Default::default() };
    let refused = registry.batch_register(batch).await.unwrap_err();
    let info = refused.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.metadata["index"].as_str()), ("STALE_INCARNATION", "3"));
    let found = nodes.discovery(0).discover(discover()).await.unwrap().into_inner();
    assert_eq!(found.instances.len(), 10, "nothing of it took effect");

    let request = v1::SetInstanceStateRequest {
        lease_id: answer.lease_id,
        state: v1::InstanceState::Draining as i32,
        ..Default::default()
    };
    assert_eq!(registry.set_instance_state(request).await.unwrap().into_inner().changed, 10);
    let request = v1::DrainRequest { lease_id: answer.lease_id, ..Default::default() };
    let drained = registry.drain(request).await.unwrap().into_inner();
    assert!(drained.complete && drained.silent_nodes.is_empty(), "{drained:?}");
    assert_eq!((drained.watches, drained.pending_watches), (0, 0));
    assert_eq!(drained.revision, drained.header.unwrap().revision, "they were drained by the call before");
    let request = v1::ServiceDeregisterRequest { lease_id: answer.lease_id, ..Default::default() };
    assert_eq!(registry.deregister(request).await.unwrap().into_inner().removed, 10);
    let request = v1::HeartbeatRequest { lease_id: answer.lease_id, ..Default::default() };
    assert_eq!(reason(registry.heartbeat(request).await), ErrorReason::LeaseExpired);
}
