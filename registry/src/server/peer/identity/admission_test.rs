use registry_proto::internal::NodeState;

use super::super::identity_test::{Fixture, fixture, id};
use super::*;
use crate::standing::Cause;

fn place(fixture: &Fixture, cluster: &str, raft_id: u64) -> AdoptRequest {
    let disk_id = fixture.standing.identity().disk_id;
    AdoptRequest { header: None, cluster_id: id(cluster), raft_id, disk_id }
}

fn refusal(fixture: &Fixture, request: AdoptRequest) -> PeerErrorReason {
    PeerError::reason_of(&fixture.service.adopt_place(request).unwrap_err()).unwrap()
}

fn word(fixture: &Fixture, cluster: &str, raft_id: u64) -> RenewRequest {
    let disk_id = fixture.standing.identity().disk_id;
    RenewRequest { header: None, cluster_id: id(cluster), raft_id, disk_id }
}

fn renewal_refusal(fixture: &Fixture, request: &RenewRequest) -> PeerErrorReason {
    PeerError::reason_of(&fixture.service.renew_place(request).unwrap_err()).unwrap()
}

#[tokio::test]
async fn an_empty_node_takes_one_place_and_the_same_again() {
    let fixture = fixture();
    for _ in 0..2 {
        let stored = fixture.service.adopt_place(place(&fixture, "c", 4)).unwrap().identity.unwrap();
        assert_eq!((stored.cluster_id, stored.raft_id), (id("c"), 4));
    }
    assert_eq!(fixture.service.state(), NodeState::Adopted);
    assert_eq!(refusal(&fixture, place(&fixture, "c", 5)), PeerErrorReason::NotPristine);
    assert_eq!(refusal(&fixture, place(&fixture, "other", 4)), PeerErrorReason::NotPristine);
    fixture.standing.join().unwrap();
    fixture.service.adopt_place(place(&fixture, "c", 4)).unwrap();
}

#[tokio::test]
async fn a_place_for_another_disk_or_without_a_cluster_is_refused() {
    let fixture = fixture();
    let other = AdoptRequest { disk_id: "another".into(), ..place(&fixture, "c", 4) };
    assert_eq!(refusal(&fixture, other), PeerErrorReason::TargetMismatch);
    let nameless = AdoptRequest { cluster_id: String::new(), ..place(&fixture, "c", 4) };
    assert_eq!(refusal(&fixture, nameless), PeerErrorReason::InvalidField);
    assert_eq!(refusal(&fixture, place(&fixture, "c", 0)), PeerErrorReason::InvalidField);
    assert_eq!(fixture.standing.member(), None);
}

#[tokio::test]
async fn a_node_with_data_takes_no_place() {
    let fixture = fixture();
    fixture.standing.bind();
    assert_eq!(refusal(&fixture, place(&fixture, "c", 4)), PeerErrorReason::NotPristine);
    fixture.standing.quarantine(Cause::DiskLost, "the log is gone".into());
    assert_eq!(refusal(&fixture, place(&fixture, "c", 4)), PeerErrorReason::NotPristine);
}

#[tokio::test]
async fn a_healthy_member_keeps_its_data_whatever_a_leader_says() {
    let fixture = fixture();
    fixture.service.adopt_place(place(&fixture, "c", 4)).unwrap();
    fixture.standing.join().unwrap();
    assert_eq!(renewal_refusal(&fixture, &word(&fixture, "c", 4)), PeerErrorReason::NotPristine);
    fixture.standing.quarantine(Cause::Broken, "damaged".into());
    assert_eq!(renewal_refusal(&fixture, &word(&fixture, "c", 4)), PeerErrorReason::NotPristine);
}

#[tokio::test]
async fn a_removed_node_starts_anew_on_the_word_for_exactly_what_it_had() {
    let fixture = fixture();
    fixture.service.adopt_place(place(&fixture, "c", 4)).unwrap();
    fixture.standing.join().unwrap();
    fixture.standing.remove(70).unwrap();
    fixture.standing.quarantine(Cause::Removed, "removed".into());
    assert_eq!(fixture.service.state(), NodeState::Removed);
    for wrong in [
        word(&fixture, "c", 5),
        word(&fixture, "other", 4),
        RenewRequest { disk_id: "another".into(), ..word(&fixture, "c", 4) },
    ] {
        assert_eq!(renewal_refusal(&fixture, &wrong), PeerErrorReason::TargetMismatch);
    }
    let given_up = fixture.service.renew_place(&word(&fixture, "c", 4)).unwrap().identity.unwrap();
    assert_eq!(given_up.raft_id, 4);
    fixture.standing.renewed().await;
}
