//! The listeners and what they serve.
//!
//! [`routes`] is the client port. What its services can answer depends on how far the node has come:
//! they all ask [`front::Front`] for the parts that answer ([`core::Core`]), which are there once Raft runs.

pub mod abortable;
pub mod admin;
pub mod cluster;
pub mod convert;
pub mod core;
pub mod discovery;
pub mod drain;
pub mod front;
pub mod header;
pub mod keep_alive;
pub mod limits;
pub mod listen;
pub mod observe;
pub mod peer;
pub mod registry;
pub mod watch;

use registry_proto::PUBLIC_DESCRIPTORS;
use registry_proto::raw;
use registry_proto::v1::cluster_service_server::ClusterServiceServer;
use registry_proto::v1::registry_service_server::RegistryServiceServer;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use self::cluster::ClusterService;
use self::discovery::DiscoveryService;
use self::front::Front;
use self::registry::RegistryService;

/// Services whose health is told, beside that of the whole node (the empty name).
const SERVICES: [&str; 4] =
    ["", "registry.v1.RegistryService", "registry.v1.DiscoveryService", "registry.v1.ClusterService"];

/// What the client port serves: the three services of the interface, health, and reflection in both of
/// its versions.
///
/// # Errors
/// If the descriptors built into the program cannot be read: a bug.
pub fn routes(front: &Front, health: &Health) -> Result<Routes, tonic_reflection::server::Error> {
    let registry = RegistryServiceServer::new(RegistryService::new(front.clone()))
        .max_decoding_message_size(limits::REQUEST_BYTES)
        .max_encoding_message_size(limits::ANSWER_BYTES);
    let discovery = raw::DiscoveryServiceServer::new(DiscoveryService::new(front.clone()))
        .max_decoding_message_size(limits::REQUEST_BYTES)
        .max_encoding_message_size(limits::ANSWER_BYTES);
    let cluster = ClusterServiceServer::new(ClusterService::new(front.clone()))
        .max_decoding_message_size(limits::REQUEST_BYTES);
    let descriptors = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(PUBLIC_DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(Routes::new(registry)
        .add_service(discovery)
        .add_service(cluster)
        .add_service(health.service())
        .add_service(descriptors().build_v1()?)
        .add_service(descriptors().build_v1alpha()?))
}

/// The gRPC health service: tells whether the node should get traffic (P/N11).
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
}

impl Health {
    /// Not serving yet.
    pub async fn new() -> Self {
        let health = Self { reporter: HealthReporter::new() };
        health.set_serving(false).await;
        health
    }

    /// Tells every watcher of it.
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
    }

    /// Ends the streams of those who watch it: an orderly stop would wait for them.
    pub async fn end(&self) {
        self.set_serving(false).await;
        let mut reporter = self.reporter.clone();
        for service in SERVICES {
            reporter.clear_service_status(service).await;
        }
    }

    fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }
}
