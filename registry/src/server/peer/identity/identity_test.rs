use registry_proto::internal::PeerHeader;

use super::*;
use crate::config::{Sources, load};
use crate::environment::Environment;
use crate::identity::{DataFolder, FolderLock};

pub(super) struct Fixture {
    pub(super) service: IdentityService,
    pub(super) standing: Standing,
    _dir: tempfile::TempDir,
}

pub(super) fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/cluster.json").into();
    let node_id = Some("registry-node-2".to_owned());
    let config = load(&Sources { file, node_id, ..Sources::default() }).unwrap();
    let random = Environment::system().random;
    let lock = FolderLock::take(dir.path()).unwrap();
    let folder = DataFolder::open(dir.path(), lock, "registry-node-2", random.as_ref()).unwrap();
    let standing = Standing::new(folder, 77);
    standing.found_empty();
    Fixture {
        service: IdentityService::new(&config, standing.clone(), Hints::default(), CrashPoint::default()),
        standing,
        _dir: dir,
    }
}

/// A UUID that stands for the name.
pub(super) fn id(cluster: &str) -> String {
    uuid::Uuid::from_u128(cluster.bytes().fold(1, |sum, byte| sum * 256 + u128::from(byte))).to_string()
}

fn offer(fixture: &Fixture, cluster: &str) -> PrepareRequest {
    PrepareRequest {
        header: None,
        cluster_id: id(cluster),
        nodes_digest: fixture.service.nodes_digest.to_vec().into(),
        raft_id: 2,
        disk_id: fixture.standing.identity().disk_id,
    }
}

async fn refusal(fixture: &Fixture, request: PrepareRequest) -> PeerErrorReason {
    PeerError::reason_of(&fixture.service.prepare(request).await.unwrap_err()).unwrap()
}

#[tokio::test]
async fn an_empty_node_takes_offers_until_it_has_joined() {
    let fixture = fixture();
    assert_eq!(fixture.service.hello(HelloRequest::default()).await.unwrap().state(), NodeState::Pristine);
    for cluster in ["one", "two", "two"] {
        let stored = fixture.service.prepare(offer(&fixture, cluster)).await.unwrap().identity.unwrap();
        assert_eq!((stored.cluster_id, stored.raft_id), (id(cluster), 2));
    }
    let hello = fixture.service.hello(HelloRequest::default()).await.unwrap();
    assert_eq!((hello.state(), hello.process_nonce), (NodeState::Prepared, 77));
    fixture.standing.join().unwrap();
    assert_eq!(refusal(&fixture, offer(&fixture, "three")).await, PeerErrorReason::NotReady);
    assert_eq!(fixture.service.own(), Own { cluster_id: id("two"), raft_id: 2 });
}

#[tokio::test]
async fn an_offer_for_another_list_or_disk_or_to_a_quarantined_node_is_refused() {
    let fixture = fixture();
    let request = PrepareRequest { nodes_digest: vec![0; 32].into(), ..offer(&fixture, "c") };
    assert_eq!(refusal(&fixture, request).await, PeerErrorReason::ConfigMismatch);
    let request = PrepareRequest { disk_id: "other".into(), ..offer(&fixture, "c") };
    assert_eq!(refusal(&fixture, request).await, PeerErrorReason::TargetMismatch);
    for bad in [
        PrepareRequest { raft_id: 0, ..offer(&fixture, "c") },
        PrepareRequest { cluster_id: "c".into(), ..offer(&fixture, "c") },
    ] {
        assert_eq!(refusal(&fixture, bad).await, PeerErrorReason::InvalidField);
    }
    fixture.standing.quarantine(Cause::Broken, "damaged".into());
    assert_eq!(refusal(&fixture, offer(&fixture, "c")).await, PeerErrorReason::NotPristine);
    assert_eq!(fixture.standing.member(), None);
}

#[tokio::test]
async fn a_raft_call_starts_a_prepared_node_only() {
    let fixture = fixture();
    let reason = |status: Status| PeerError::reason_of(&status).unwrap();
    assert_eq!(reason(fixture.service.raft().await.unwrap_err()), PeerErrorReason::NotReady);
    assert!(matches!(fixture.standing.stage(), Stage::Waiting { .. }));
    fixture.service.prepare(offer(&fixture, "c")).await.unwrap();
    assert_eq!(reason(fixture.service.raft().await.unwrap_err()), PeerErrorReason::NotReady);
    assert_eq!(fixture.standing.stage(), Stage::Called);
    // An offer that comes now may find a vote a moment later.
    assert_eq!(refusal(&fixture, offer(&fixture, "d")).await, PeerErrorReason::NotReady);
    fixture.standing.quarantine(Cause::DiskLost, "gone".into());
    assert_eq!(reason(fixture.service.raft().await.unwrap_err()), PeerErrorReason::DiskLost);
}

#[tokio::test]
async fn quarantine_is_told_and_the_first_reason_stands() {
    let fixture = fixture();
    fixture.standing.quarantine(Cause::DiskLost, "the log is gone".into());
    fixture.standing.quarantine(Cause::Broken, "later".into());
    let probe = fixture.service.probe().await.unwrap();
    assert_eq!((probe.state(), probe.quarantine.as_str()), (NodeState::DiskLost, "the log is gone"));
    assert_eq!(fixture.service.hello(HelloRequest::default()).await.unwrap().quarantine, "the log is gone");
    assert_eq!(fixture.standing.readiness(), Err("the log is gone".into()));
}

#[tokio::test]
async fn a_member_that_stops_is_no_heir_until_another_process_of_it_says_hello() {
    let fixture = fixture();
    fixture.service.prepare(offer(&fixture, "c")).await.unwrap();
    let header = |nonce| {
        Some(PeerHeader { cluster_id: id("c"), from_raft_id: 3, to_raft_id: 0, process_nonce: nonce })
    };
    fixture.service.goodbye(GoodbyeRequest { header: header(5), leaving_now: false }).await;
    assert_eq!(fixture.standing.leaving(), [3]);
    let hello = |nonce| HelloRequest { header: header(nonce), ..HelloRequest::default() };
    fixture.service.hello(hello(5)).await.unwrap();
    assert_eq!(fixture.standing.leaving(), [3]);
    fixture.service.hello(hello(6)).await.unwrap();
    assert!(fixture.standing.leaving().is_empty());
}

#[test]
fn a_difference_of_timings_is_seen() {
    let raft = RaftConfig {
        heartbeat_interval: Duration::from_millis(50),
        election_timeout_min: Duration::from_millis(150),
        election_timeout_max: Duration::from_millis(300),
        max_in_snapshot_log_to_keep: 0,
    };
    let own = compatibility(&raft);
    assert!(same_timings(&own, &compatibility(&RaftConfig { max_in_snapshot_log_to_keep: 9, ..raft })));
    let other = RaftConfig { heartbeat_interval: Duration::from_millis(51), ..raft };
    assert!(!same_timings(&own, &compatibility(&other)));
}
