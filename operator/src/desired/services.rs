//! The two services: one that names each pod, one for clients.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names::{CLIENT_PORT, HTTP_PORT, Owner, PEER_PORT};

/// Tells meshes and gateways that the port speaks HTTP/2 without TLS.
const GRPC: Option<&str> = Some("kubernetes.io/h2c");

/// The headless service: a DNS name for each pod, also before it is ready, because the nodes find each other
/// by it before the cluster exists.
pub fn peers(owner: &Owner) -> Service {
    Service {
        metadata: owner.metadata(owner.peers()),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            selector: Some(owner.pod_labels()),
            ports: Some(vec![
                port("grpc", CLIENT_PORT, GRPC),
                port("peer", PEER_PORT, GRPC),
                port("http", HTTP_PORT, Some("http")),
            ]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// The service for clients: all pods that are ready, learners too, since any node takes any call.
pub fn clients(owner: &Owner) -> Service {
    Service {
        metadata: owner.metadata(&owner.name),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            selector: Some(owner.pod_labels()),
            ports: Some(vec![port("grpc", CLIENT_PORT, GRPC)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, number: i32, protocol: Option<&str>) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        port: number,
        // By name, which the pods give to their ports.
        target_port: Some(IntOrString::String(name.into())),
        protocol: Some("TCP".into()),
        app_protocol: protocol.map(str::to_owned),
        ..ServicePort::default()
    }
}
