//! Reads of every consistency, with and without a majority.

use std::time::Duration;

use registry_proto::v1::{self, ErrorReason};
use tokio::time::{Instant, sleep};

use crate::nodes::{Nodes, PATIENCE, discover, reason, registration, stale};

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_read_back_anywhere_by_its_revision() {
    let nodes = Nodes::start().await;
    for round in 0..30_u32 {
        let number = usize::try_from(round % 3).unwrap();
        let written = nodes.registry(number).register(registration(7_000 + round)).await.unwrap();
        let header = written.into_inner().header.unwrap();
        let request = v1::ServiceDiscoveryRequest {
            min_revision: header.revision,
            min_revision_epoch: header.epoch,
            ..stale()
        };
        let found = nodes.discovery((number + 1) % 3).discover(request).await.unwrap().into_inner();
        assert!(found.instances.len() > usize::try_from(round).unwrap());
        let shown = found.header.unwrap();
        assert!(shown.revision >= header.revision);
        assert!(shown.staleness.is_some() && !shown.staleness_unknown);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_from_elsewhere_is_refused() {
    let nodes = Nodes::start().await;
    for number in 0..3 {
        for read in [discover(), stale()] {
            let future = v1::ServiceDiscoveryRequest { min_revision: 1 << 40, ..read.clone() };
            let answer = nodes.discovery(number).discover(future).await;
            assert_eq!(reason(answer), ErrorReason::FutureRevision);
            let foreign = v1::ServiceDiscoveryRequest { min_revision_epoch: 1, ..read };
            let answer = nodes.discovery(number).discover(foreign).await;
            assert_eq!(reason(answer), ErrorReason::EpochChanged);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_tells_how_the_cluster_is() {
    let nodes = Nodes::start().await;
    let leader = nodes.leader().await;
    let deadline = Instant::now() + PATIENCE;
    for number in 0..3 {
        loop {
            let request = v1::ClusterStatusRequest::default();
            let status = nodes.cluster(number).cluster_status(request).await.unwrap().into_inner();
            let well = status.members.iter().all(|member| member.health() == v1::MemberHealth::Healthy);
            if well && status.source() == v1::StatusSource::Leader {
                let quorum = status.quorum.unwrap();
                assert_eq!((quorum.available, quorum.voters, quorum.reachable), (true, 3, 3));
                assert_eq!(status.leader_id, format!("node-{leader}"));
                assert_eq!(status.header.unwrap().node_id, format!("node-{number}"));
                assert!(status.members.is_sorted_by_key(|member| member.node_id.clone()));
                break;
            }
            assert!(Instant::now() < deadline, "{status:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_only_stale_reads_are_answered() {
    let mut nodes = Nodes::start().await;
    nodes.registry(0).register(registration(7_000)).await.unwrap();
    for number in 0..3 {
        // All have it before two of them go.
        nodes.discovery(number).discover(discover()).await.unwrap();
    }
    nodes.kill(1);
    nodes.kill(2);

    let begun = Instant::now();
    let read = nodes.discovery(0).discover(discover()).await;
    assert_eq!(reason(read), ErrorReason::NoQuorum);
    assert!(begun.elapsed() < Duration::from_secs(10), "by its deadline, with room for a busy machine");

    // A write may have been proposed while this node still believed to lead.
    let deadline = Instant::now() + PATIENCE;
    loop {
        match reason(nodes.registry(0).register(registration(7_001)).await) {
            ErrorReason::NoQuorum => break,
            ErrorReason::OutcomeUnknown | ErrorReason::NotLeader => {}
            other => panic!("{other:?}"),
        }
        assert!(Instant::now() < deadline);
    }

    let age = |found: &v1::ServiceDiscoveryResponse| {
        Duration::try_from(found.header.clone().unwrap().staleness.unwrap()).unwrap()
    };
    let first = nodes.discovery(0).discover(stale()).await.unwrap().into_inner();
    assert_eq!(first.instances.len(), 1);
    sleep(Duration::from_millis(50)).await;
    let second = nodes.discovery(0).discover(stale()).await.unwrap().into_inner();
    assert!(age(&second) >= age(&first) + Duration::from_millis(50), "the age grows");

    let bounded = v1::ServiceDiscoveryRequest {
        max_staleness: Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 }),
        ..stale()
    };
    assert_eq!(reason(nodes.discovery(0).discover(bounded).await), ErrorReason::TooStale);
    let either = v1::ServiceDiscoveryRequest {
        consistency: v1::Consistency::LinearizableOrStale as i32,
        ..discover()
    };
    let either = nodes.discovery(0).discover(either).await.unwrap().into_inner();
    assert!(either.header.unwrap().staleness.is_some());

    let request = v1::ClusterStatusRequest::default();
    let status = nodes.cluster(0).cluster_status(request).await.unwrap().into_inner();
    assert_eq!(status.source(), v1::StatusSource::Node);
    assert!(!status.quorum.unwrap().available);
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_find_the_interface_and_the_health_by_themselves() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

    let nodes = Nodes::start().await;
    let ask = |question| ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let questions = tokio_stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("registry.v1.RegistryService".into())),
    ]);
    let answers = ServerReflectionClient::new(nodes.channel(0)).server_reflection_info(questions).await;
    let mut answers = answers.unwrap().into_inner();
    let mut next = async || -> ServerReflectionResponse { answers.message().await.unwrap().unwrap() };
    let Some(MessageResponse::ListServicesResponse(services)) = next().await.message_response else {
        panic!("a list of services");
    };
    let names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
    for name in ["registry.v1.RegistryService", "registry.v1.DiscoveryService", "registry.v1.ClusterService"]
    {
        assert!(names.iter().any(|found| found == name), "{names:?}");
    }
    assert!(names.iter().all(|name| !name.starts_with("registry.internal")), "{names:?}");
    assert!(matches!(next().await.message_response, Some(MessageResponse::FileDescriptorResponse(_))));

    let mut health = tonic_health::pb::health_client::HealthClient::new(nodes.channel(0));
    let deadline = Instant::now() + PATIENCE;
    for service in ["", "registry.v1.DiscoveryService"] {
        loop {
            let request = tonic_health::pb::HealthCheckRequest { service: service.into() };
            let answer = health.check(request).await.unwrap().into_inner();
            if answer.status == tonic_health::ServingStatus::Serving as i32 {
                break;
            }
            assert!(Instant::now() < deadline, "{service}: {answer:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}
