use std::sync::Arc;

use futures::stream;
use tokio::time::sleep;

use super::*;
use crate::error::reason_of;
use crate::lease::expiry;
use crate::lease::forward::Forwarder;
use crate::request::forward::decode_status;
use crate::testbed::{REIGN, Testbed};

const TTL_MS: u64 = 5_000;

async fn leader() -> (Arc<Testbed>, RenewalServer) {
    let testbed = Testbed::new(1_000);
    tokio::spawn(expiry::run(testbed.leases.clone(), testbed.clone()));
    while testbed.leases.leadership() != Some(REIGN) {
        sleep(Duration::from_millis(10)).await;
    }
    let renewals = Renewals::new(testbed.leases.clone(), testbed.clone(), Forwarder::nowhere());
    (testbed.clone(), RenewalServer::new(renewals, testbed.hub.clone(), testbed))
}

async fn ask(server: &RenewalServer, request: ForwardRenewalsRequest) -> ForwardRenewalsResponse {
    let mut answers = server.forward_renewals(2, stream::iter([Ok(request)]).boxed()).await.unwrap();
    answers.next().await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_time_to_live_counts_from_before_the_wait_at_the_follower() {
    let (testbed, server) = leader().await;
    let waited = testbed.register("a", "waited", TTL_MS);
    let fresh = testbed.register("a", "fresh", TTL_MS);
    sleep(Duration::from_secs(4)).await;
    let start = Instant::now();
    let request = ForwardRenewalsRequest {
        lease_ids: vec![waited, 99, fresh],
        waited_ms: vec![1_000, 0, 0],
        sequence: 5,
        ..Default::default()
    };
    let response = ask(&server, request).await;
    assert_eq!((response.expired, response.sequence), (vec![99], 5));
    let mut gone = std::collections::BTreeMap::new();
    while gone.len() < 2 {
        sleep(Duration::from_millis(10)).await;
        for id in ["waited", "fresh"] {
            if testbed.state().instance("default", "a", id).is_none() {
                gone.entry(id).or_insert(start.elapsed());
            }
        }
    }
    let (waited, fresh) = (gone["waited"], gone["fresh"]);
    assert!(waited >= Duration::from_secs(4) && waited <= Duration::from_secs(6), "{waited:?}");
    assert!(fresh >= Duration::from_secs(5) && fresh <= Duration::from_secs(7), "{fresh:?}");
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_answered_as_the_client_would_be() {
    let (testbed, server) = leader().await;
    let lease = testbed.register("a", "1", TTL_MS);
    let beat = |instance_id: &str| {
        let request = v1::HeartbeatRequest {
            service_name: "a".into(),
            instance_id: instance_id.into(),
            ..Default::default()
        };
        Bytes::from(request.encode_to_vec())
    };
    let request = ForwardRenewalsRequest {
        heartbeats: vec![beat("absent"), beat("1")],
        waited_ms: vec![0, 20],
        ..Default::default()
    };
    let mut replies = ask(&server, request).await.replies.into_iter();
    let Some(forwarded_reply::Outcome::Status(status)) = replies.next().unwrap().outcome else { panic!() };
    assert_eq!(reason_of(&decode_status(&status)), Some(v1::ErrorReason::LeaseExpired));
    let reply = replies.next().unwrap();
    let Some(forwarded_reply::Outcome::Response(response)) = reply.outcome else { panic!() };
    assert_eq!(v1::HeartbeatResponse::decode(response).unwrap().lease_id, lease);
    assert_eq!(reply.revision, 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_lead_says_so_for_all_at_once() {
    let (testbed, server) = leader().await;
    let lease = testbed.register("a", "1", TTL_MS);
    testbed.leadership.send_replace(None);
    let request = ForwardRenewalsRequest { lease_ids: vec![lease], waited_ms: vec![0], ..Default::default() };
    let response = ask(&server, request).await;
    let status = decode_status(&response.error);
    assert_eq!(reason_of(&status), Some(v1::ErrorReason::NotLeader));
    assert!(response.expired.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_breaks_a_bound_ends_the_stream() {
    let (_testbed, server) = leader().await;
    let broken = [
        ForwardRenewalsRequest { lease_ids: vec![1], ..Default::default() },
        ForwardRenewalsRequest { lease_ids: vec![1], waited_ms: vec![1_001], ..Default::default() },
        ForwardRenewalsRequest {
            lease_ids: vec![1; BATCH_LEASES + 1],
            waited_ms: vec![0; BATCH_LEASES + 1],
            ..Default::default()
        },
    ];
    for request in broken {
        let mut answers = server.forward_renewals(2, stream::iter([Ok(request)]).boxed()).await.unwrap();
        let status = answers.next().await.unwrap().unwrap_err();
        assert_eq!(PeerError::reason_of(&status), Some(PeerErrorReason::InvalidField));
    }
}

#[tokio::test(start_paused = true)]
async fn watches_are_awaited_until_just_before_the_deadline() {
    let (testbed, server) = leader().await;
    let _watch = testbed.hub.subscribe(crate::server::convert::Scope::All, true).unwrap();
    testbed.register("a", "1", TTL_MS);
    let services = vec![registry_proto::internal::WatchedService {
        namespace: "default".into(),
        service_name: "a".into(),
    }];
    let request = AwaitWatchesRequest { revision: 1, services, ..Default::default() };
    let deadline = Instant::now() + Duration::from_secs(2);
    let response = server.await_watches(request, deadline).await.unwrap();
    assert_eq!((response.watches, response.pending), (1, 1));
    assert!(Instant::now() < deadline);
}
