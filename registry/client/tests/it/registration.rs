//! Registrations that are held.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use registry_client::v1::{ErrorReason, InstanceState};
use registry_client::{CallOptions, Client, RegistrationStatus};
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::mock::{Fault, Mock, instance, no_quorum, refusal, until};
use crate::net::Reach;

/// Renewals of this lease so far.
fn renewals(mock: &Mock, lease: u64) -> usize {
    mock.store().renewals.iter().filter(|(renewed, _)| *renewed == lease).count()
}

async fn quick(mock: &Mock) -> Client {
    mock.store().default_ttl = Duration::from_millis(600);
    mock.client().await
}

#[tokio::test]
async fn one_stream_renews_all_registrations_of_a_client_in_time() {
    let mock = Mock::new(3);
    let client = quick(&mock).await;
    let mut held = Vec::new();
    for port in 1..=50 {
        held.push(client.keep_registered(instance(port)).await.unwrap());
    }
    until("each was renewed thrice", || held.iter().all(|one| renewals(&mock, one.lease_id()) >= 3)).await;
    assert!(held.iter().all(|one| one.status().is_registered() && one.valid_until().is_some()));
    let streams: usize = mock.nodes.iter().map(|node| node.count("keep_alive")).sum();
    assert_eq!(streams, 1);
    assert_eq!(client.metrics().leases_lost, 0);
}

#[tokio::test]
async fn the_stream_moves_to_another_node_at_once_when_its_node_dies() {
    let mock = Mock::new(3);
    let client = quick(&mock).await;
    let held = client.keep_registered(instance(1)).await.unwrap();
    for _ in 0..3 {
        until("it was renewed", || renewals(&mock, held.lease_id()) > 0).await;
        let (_, node) = *mock.store().renewals.last().unwrap();
        let victim = mock.nodes[node].endpoint.clone();
        mock.net.kill(&victim);
        mock.store().renewals.clear();
        until("another renews it", || mock.store().renewals.iter().any(|(_, other)| *other != node)).await;
        mock.net.set(&victim, Reach::Up);
    }
    assert!(matches!(held.status(), RegistrationStatus::Registered | RegistrationStatus::AtRisk));
    assert_eq!(client.metrics().leases_lost, 0);
}

#[tokio::test]
async fn a_lost_lease_is_registered_again_with_the_last_incarnation_and_state() {
    let mock = Mock::new(1);
    let client = quick(&mock).await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let held = client
        .registration(instance(1))
        .on_status({
            let told = told.clone();
            move |status| told.lock().unwrap().push(status.to_string())
        })
        .start()
        .await
        .unwrap();
    held.set_state(InstanceState::Starting).await.unwrap();
    let (lease, incarnation) = (held.lease_id(), held.incarnation());
    mock.store().expire(lease);
    until("it is registered again", || held.lease_id() != lease).await;
    assert!(held.incarnation() > incarnation);
    assert_eq!(mock.store().instances["10.0.0.1:1"].instance.state(), InstanceState::Starting);
    until("it says so", || held.status().is_registered()).await;
    assert_eq!(*told.lock().unwrap(), ["registered", "registering again", "registered"]);
    assert_eq!(client.metrics().reregistrations, 1);
    let again = held.lease_id();
    until("the new lease is renewed", || renewals(&mock, again) > 0).await;
}

#[tokio::test]
async fn who_was_replaced_while_it_slept_stops_and_says_so() {
    let mock = Mock::new(1);
    let client = quick(&mock).await;
    let held = client.keep_registered(instance(1)).await.unwrap();
    mock.store().expire(held.lease_id());
    let successor = mock.client().await;
    successor.register(instance(1)).await.unwrap();
    let mut status = held.watch_status();
    let replaced = status.wait_for(RegistrationStatus::is_final).await.unwrap().clone();
    let RegistrationStatus::Replaced(error) = replaced else { panic!("{replaced}") };
    assert!(error.is(ErrorReason::StaleIncarnation));
    let renewed = renewals(&mock, held.lease_id());
    held.deregister().await.unwrap();
    assert_eq!(mock.store().instances.len(), 1, "the successor stays");
    assert_eq!(renewed, 0);
}

#[tokio::test]
async fn without_a_majority_a_registration_is_at_risk_and_recovers() {
    let mock = Mock::new(2);
    let client = quick(&mock).await;
    let held = client.keep_registered(instance(1)).await.unwrap();
    mock.store().leader = None;
    let mut status = held.watch_status();
    status.wait_for(|status| matches!(status, RegistrationStatus::AtRisk)).await.unwrap();
    mock.lead(1);
    status.wait_for(RegistrationStatus::is_registered).await.unwrap();
    assert_eq!(client.metrics().reregistrations, 0);
}

#[tokio::test]
async fn content_is_updated_in_place() {
    let mock = Mock::new(1);
    let client = mock.client().await;
    let held = client.keep_registered(instance(1)).await.unwrap();
    let (lease, incarnation) = (held.lease_id(), held.incarnation());
    held.update(|request| request.weight = Some(7)).await.unwrap();
    assert_eq!((held.lease_id(), held.incarnation()), (lease, incarnation));
    assert_eq!(held.instance().unwrap().weight, Some(7));
    assert!(held.update(|request| request.port = 2).await.is_err());
    assert_eq!(mock.store().instances.len(), 1);
}

#[tokio::test]
async fn a_polite_end_drains_and_deregisters() {
    let mock = Mock::new(1);
    let client = mock.client().await;
    let held = client.keep_registered(instance(1)).await.unwrap();
    assert!(held.drain(Duration::from_secs(1)).await.unwrap().complete);
    assert!(matches!(held.status(), RegistrationStatus::Draining));
    assert_eq!(mock.store().instances["10.0.0.1:1"].instance.state(), InstanceState::Draining);
    let mut status = held.watch_status();
    held.deregister().await.unwrap();
    assert!(matches!(*status.borrow_and_update(), RegistrationStatus::Deregistered));
    assert!(mock.store().instances.is_empty());
}

#[tokio::test]
async fn an_orderly_end_drains_then_finishes_then_deregisters() {
    let mock = Mock::new(1);
    let client = mock.client().await;
    let held = client.keep_registered(instance(1)).await.unwrap();
    // Not whole milliseconds, and longer than the registry waits.
    let limit = Duration::from_secs(3_600) + Duration::from_nanos(1);
    let finished = Mutex::new(false);
    let finish = async {
        assert_eq!(mock.store().instances["10.0.0.1:1"].instance.state(), InstanceState::Draining);
        assert_eq!(mock.nodes[0].count("deregister"), 0);
        *finished.lock().unwrap() = true;
    };
    assert!(held.end(limit, finish).await.unwrap().complete);
    assert!(*finished.lock().unwrap());
    assert!(mock.store().instances.is_empty());

    // A drain that is refused keeps nobody alive.
    let held = client.keep_registered(instance(2)).await.unwrap();
    let refused = refusal(tonic::Code::ResourceExhausted, ErrorReason::QuotaExceeded, "NEVER", &[]);
    mock.nodes[0].fail("drain", Fault::Refuse(refused));
    assert!(!held.end(Duration::from_secs(1), async {}).await.unwrap().complete);
    assert!(mock.store().instances.is_empty());
}

#[tokio::test]
async fn a_registry_without_drain_gets_the_state_and_some_time() {
    let mock = Mock::new(1);
    mock.store().drain_unimplemented = true;
    let client = mock.client().await;
    let held = client.keep_registered(instance(1)).await.unwrap();
    assert!(!held.drain(Duration::from_millis(1)).await.unwrap().complete);
    assert_eq!(mock.store().instances["10.0.0.1:1"].instance.state(), InstanceState::Draining);
    assert!(matches!(held.status(), RegistrationStatus::Draining));
}

#[tokio::test]
async fn dropping_stops_the_renewals_and_sends_nothing() {
    let mock = Mock::new(1);
    let client = quick(&mock).await;
    let kept = client.keep_registered(instance(1)).await.unwrap();
    let dropped = client.keep_registered(instance(2)).await.unwrap();
    let lease = dropped.lease_id();
    drop(dropped);
    let before = renewals(&mock, lease);
    let other = renewals(&mock, kept.lease_id());
    until("others are renewed", || renewals(&mock, kept.lease_id()) >= other + 3).await;
    assert_eq!(renewals(&mock, lease), before);
    assert_eq!(mock.nodes[0].count("deregister"), 0);
}

#[tokio::test]
async fn a_registration_in_the_background_waits_for_the_registry() {
    let mock = Mock::new(1);
    mock.net.kill("node-1:8080");
    let client = mock.builder().deadline(Duration::from_millis(100)).build().unwrap();
    let held = client.registration(instance(1)).start_in_background();
    assert!(matches!(held.status(), RegistrationStatus::Registering));
    until("it was tried", || client.metrics().calls_failed > 0).await;
    mock.net.set("node-1:8080", Reach::Up);
    held.watch_status().wait_for(RegistrationStatus::is_registered).await.unwrap();
    assert_eq!(mock.store().instances.len(), 1);
}

#[tokio::test]
async fn a_registration_that_is_refused_for_good_fails() {
    let mock = Mock::new(1);
    let client = mock.client().await;
    let invalid = refusal(tonic::Code::InvalidArgument, ErrorReason::InvalidField, "NEVER", &[]);
    mock.nodes[0].fail("register", Fault::Refuse(invalid.clone()));
    assert!(client.keep_registered(instance(1)).await.unwrap_err().is(ErrorReason::InvalidField));
    mock.nodes[0].fail("register", Fault::Refuse(no_quorum()));
    mock.nodes[0].fail("register", Fault::Refuse(invalid));
    let held = client.registration(instance(1)).start_in_background();
    let status = held.watch_status().wait_for(RegistrationStatus::is_final).await.unwrap().clone();
    assert!(matches!(status, RegistrationStatus::Failed(_)), "{status}");
}

#[tokio::test]
async fn a_registration_without_room_is_postponed_as_long_as_the_registry_says() {
    let mock = Mock::new(1);
    let client = quick(&mock).await;
    let mut full =
        refusal(Code::ResourceExhausted, ErrorReason::QuotaExceeded, "LATER", &[]).get_error_details();
    full.set_retry_info(Some(Duration::from_secs(1)));
    let full = Status::with_error_details(Code::ResourceExhausted, "the disks are full", full);
    // Longer than a call may take in this client: it comes back at once, and is made again later.
    let client = client.with(CallOptions::new().deadline(Duration::from_millis(500)));
    (0..2).for_each(|_| mock.nodes[0].fail("register", Fault::Refuse(full.clone())));
    let begun = Instant::now();
    let held = client.registration(instance(1)).start_in_background();
    until("it says that it waits", || matches!(held.status(), RegistrationStatus::Postponed(_))).await;
    assert!(held.status().to_string().contains("the disks are full"));
    until("it is registered", || held.status().is_registered()).await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(mock.nodes[0].count("register"), 3);
}
