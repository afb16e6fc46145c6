//! A repeated write has its first outcome (P/R3), and a former owner is fenced off (P/R2).

use std::time::Duration;

use registry_proto::v1;
use registry_tests::api::{Api, duration, leased, reason, registration, request_id};
use registry_tests::cluster::{Cluster, Options};
use registry_tests::wait;
use serde_json::json;

async fn register_until_answered(
    api: &Api,
    request: &v1::ServiceRegisterRequest,
) -> v1::ServiceRegisterResponse {
    wait::until("an answer", wait::PATIENCE, || async {
        let answer = api.register(request.clone()).await;
        answer.map_err(|status| status.to_string())
    })
    .await
}

fn same_outcome(first: &v1::ServiceRegisterResponse, again: &v1::ServiceRegisterResponse) {
    assert!(again.header.as_ref().unwrap().replayed, "{again:?}");
    assert_eq!(again.header.as_ref().unwrap().revision, first.header.as_ref().unwrap().revision);
    assert_eq!(
        (again.outcome, again.lease_id, again.incarnation),
        (first.outcome, first.lease_id, first.incarnation)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_is_answered_from_memory_after_a_killed_leader_and_from_a_snapshot() {
    let file = json!({
        "log": { "segment_bytes": 4 << 20 },
        "snapshot": { "min_bytes": 64 << 10 },
        "raft": { "election_timeout_min": 150, "election_timeout_max": 300, "heartbeat_interval": 50,
                  "max_in_snapshot_log_to_keep": 10 },
    });
    let mut cluster = Cluster::start(Options { file, ..Default::default() }).await;
    let request = v1::ServiceRegisterRequest {
        request_id: request_id("program-1", 1),
        ..leased("orders", "127.0.0.1", 7001, Duration::from_secs(3_600))
    };
    let first = cluster.api(0).register(request.clone()).await.unwrap();
    assert!(!first.header.as_ref().unwrap().replayed);
    for index in 0..3 {
        same_outcome(&first, &cluster.api(index).register(request.clone()).await.unwrap());
    }

    let other_content = v1::ServiceRegisterRequest { weight: Some(7), ..request.clone() };
    let refused = cluster.api(1).register(other_content).await.unwrap_err();
    assert_eq!(reason(&refused), "REQUEST_ID_REUSED");

    let leader = cluster.leader().await;
    cluster.nodes[leader].kill();
    let survivor = (leader + 1) % 3;
    same_outcome(&first, &register_until_answered(&cluster.api(survivor), &request).await);

    // And after all of them were started anew from a snapshot: the log no longer has the first write.
    cluster.start_node(leader);
    cluster.ready().await;
    for port in 1..=2_000 {
        register_until_answered(&cluster.api(survivor), &registration("others", "127.0.0.1", port)).await;
    }
    for node in &cluster.nodes {
        wait::until_true("the first entries to be purged", wait::PATIENCE, || async {
            node.metric("registry_log_purged_index").await.unwrap_or(0.0) > 100.0
        })
        .await;
    }
    cluster.kill_all();
    cluster.start_all();
    cluster.ready().await;
    same_outcome(&first, &register_until_answered(&cluster.api(leader), &request).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_after_expiry_does_not_bring_the_instance_back() {
    let cluster = Cluster::start(Options::waiting()).await;
    let api = cluster.api(0);
    let request = v1::ServiceRegisterRequest {
        request_id: request_id("program-1", 1),
        ..leased("orders", "127.0.0.1", 7001, Duration::from_secs(1))
    };
    api.register(request.clone()).await.unwrap();
    wait::until_true("the instance to expire", wait::PATIENCE, || async {
        api.discover_at("orders", v1::Consistency::Linearizable).await.unwrap().instances.is_empty()
    })
    .await;
    assert_eq!(reason(&api.register(request).await.unwrap_err()), "REGISTRATION_GONE");
    assert!(api.discover_at("orders", v1::Consistency::Linearizable).await.unwrap().instances.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_deregister_of_the_former_owner_does_not_remove_its_identical_successor() {
    let cluster = Cluster::start(Options::waiting()).await;
    let api = cluster.api(1);
    let by = |client| v1::ServiceRegisterRequest {
        request_id: request_id(client, 1),
        ttl: Some(duration(Duration::from_secs(60))),
        ..registration("orders", "127.0.0.1", 7001)
    };
    let former = api.register(by("first-run")).await.unwrap();
    let present = api.register(by("second-run")).await.unwrap();
    assert_eq!(present.outcome, v1::RegisterOutcome::Replaced as i32);
    assert!(present.incarnation > former.incarnation);

    let late = v1::ServiceDeregisterRequest {
        service_name: "orders".into(),
        host: "127.0.0.1".into(),
        port: 7001,
        incarnation: former.incarnation,
        ..Default::default()
    };
    assert_eq!(reason(&api.deregister(late).await.unwrap_err()), "STALE_INCARNATION");
    let shown = api.discover_at("orders", v1::Consistency::Linearizable).await.unwrap();
    assert_eq!(shown.instances.len(), 1);
    assert_eq!(shown.instances[0].incarnation, present.incarnation);
}
