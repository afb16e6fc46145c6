//! Any node answers: writes are forwarded, reads are as fresh as asked.

use registry_proto::v1::{self, Consistency};
use registry_tests::api::{Api, from_duration, leased, reason, registration};
use registry_tests::cluster::{Cluster, Options, SOON};
use registry_tests::timing::{assert_expired_within, assert_not_before};
use registry_tests::wait;
use std::time::{Duration, Instant};

async fn ids(api: &Api, service: &str, consistency: Consistency) -> Vec<String> {
    let answer = api.discover_at(service, consistency).await.expect("a healthy cluster answers");
    answer.instances.into_iter().map(|instance| instance.instance_id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_at_any_node_is_read_at_every_other() {
    let cluster = Cluster::start(Options::waiting()).await;
    let leader = cluster.leader().await;
    for writer in 0..3 {
        for reader in 0..3 {
            let service = format!("orders-{writer}-{reader}");
            let written =
                cluster.api(writer).register(registration(&service, "127.0.0.1", 7001)).await.unwrap();
            let header = written.header.unwrap();
            assert_eq!(
                header.forwarded,
                writer != leader,
                "a write at node {writer}, the leader is {leader}"
            );
            assert_eq!(written.outcome, v1::RegisterOutcome::Created as i32);
            assert_ne!(written.lease_id, 0);
            assert_eq!(written.incarnation, header.revision);

            // Linearizable sees it at once.
            assert_eq!(
                ids(&cluster.api(reader), &service, Consistency::Linearizable).await,
                ["127.0.0.1:7001"]
            );

            // min_revision gives read-your-writes also to stale reads, which say their age.
            let stale = cluster
                .api(reader)
                .discover(v1::ServiceDiscoveryRequest {
                    service_name: service.clone(),
                    consistency: Consistency::Stale.into(),
                    min_revision: header.revision,
                    min_revision_epoch: header.epoch,
                    ..Default::default()
                })
                .await
                .unwrap();
            assert_eq!(stale.instances.len(), 1);
            let staleness = stale.header.unwrap().staleness.expect("a stale answer says its age");
            assert!(from_duration(staleness) < SOON);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_of_elsewhere_are_refused() {
    let cluster = Cluster::start(Options::waiting()).await;
    let api = cluster.api(cluster.followers().await[0]);
    let header = api.register(registration("orders", "127.0.0.1", 1)).await.unwrap().header.unwrap();
    let read = |min_revision, min_revision_epoch| {
        let request = v1::ServiceDiscoveryRequest {
            service_name: "orders".into(),
            min_revision,
            min_revision_epoch,
            ..Default::default()
        };
        let api = api.clone();
        async move { api.discover(request).await.map_err(|status| reason(&status)) }
    };
    assert_eq!(read(header.revision + 1000, header.epoch).await.unwrap_err(), "FUTURE_REVISION");
    assert_eq!(read(header.revision, header.epoch ^ 1).await.unwrap_err(), "EPOCH_CHANGED");
    assert!(read(header.revision, header.epoch).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_without_renewals_is_gone_after_its_ttl_and_not_before() {
    let cluster = Cluster::start(Options::waiting()).await;
    let ttl = Duration::from_secs(3);
    let follower = cluster.api(cluster.followers().await[0]);
    let asked = Instant::now();
    follower.register(leased("orders", "127.0.0.1", 7001, ttl)).await.unwrap();
    let answered = Instant::now();
    let request = v1::HeartbeatRequest {
        service_name: "orders".into(),
        host: "127.0.0.1".into(),
        port: 7001,
        ..Default::default()
    };
    assert!(follower.heartbeat(request.clone()).await.is_ok(), "a live lease is renewed");
    let renewed = Instant::now();
    wait::until_true("the instance to expire", wait::PATIENCE, || async {
        ids(&follower, "orders", Consistency::Linearizable).await.is_empty()
    })
    .await;
    assert_not_before("expiry after the first sending", asked.elapsed(), ttl);
    assert_not_before(
        "expiry after the answer to the registration",
        answered.elapsed(),
        ttl - (renewed - answered),
    );
    let (took, lateness) = (renewed.elapsed(), cluster.lateness().await);
    assert_expired_within("expiry after the last renewal", took, ttl + Duration::from_secs(2), lateness);
    let refused = follower.heartbeat(request).await.unwrap_err();
    assert_eq!(reason(&refused), "LEASE_EXPIRED");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_reflection_and_health_answer_on_every_node() {
    let cluster = Cluster::start(Options::waiting()).await;
    let leader = cluster.nodes[cluster.leader().await].name.clone();
    for index in 0..3 {
        let status = cluster.api(index).status(false).await.unwrap();
        assert_eq!(status.leader_id, leader);
        assert_eq!(status.members.len(), 3);
        let quorum = status.quorum.unwrap();
        assert!(quorum.available && quorum.voters == 3 && quorum.needed == 2, "{quorum:?}");
        assert_eq!(status.source, v1::StatusSource::Leader as i32);
        assert!(status.members.iter().all(|member| member.kind == v1::MemberKind::Voter as i32));
        for name in ["registry_role", "registry_term", "registry_applied_index"] {
            assert!(cluster.nodes[index].metric(name).await.is_some(), "{name} is exported");
        }
        cluster.nodes[index].http("/livez").await.unwrap();
    }
}
