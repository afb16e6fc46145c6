//! Bare calls to one node, without the retries and the routing of the client library.

use std::sync::Arc;
use std::time::Duration;

use registry_client::transport::{Channel, ConnectionOptions, TcpDial};
use registry_proto::v1;
use registry_proto::v1::cluster_service_client::ClusterServiceClient;
use registry_proto::v1::discovery_service_client::DiscoveryServiceClient;
use registry_proto::v1::registry_service_client::RegistryServiceClient;
use tonic::Status;
use tonic_types::StatusExt;

/// Longest time of a bare call.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// The generated clients of one node.
#[derive(Debug, Clone)]
pub struct Api {
    /// Registration.
    pub registry: RegistryServiceClient<Channel>,
    /// Discovery.
    pub discovery: DiscoveryServiceClient<Channel>,
    /// The cluster.
    pub cluster: ClusterServiceClient<Channel>,
}

impl Api {
    /// Calls to the node at `HOST:PORT`.
    pub fn new(endpoint: &str) -> Self {
        let channel = Channel::new(Arc::new(TcpDial::default()), endpoint, ConnectionOptions::default());
        Self {
            registry: RegistryServiceClient::new(channel.clone()),
            discovery: DiscoveryServiceClient::new(channel.clone()),
            cluster: ClusterServiceClient::new(channel),
        }
    }

    /// Registers.
    pub async fn register(
        &self,
        request: v1::ServiceRegisterRequest,
    ) -> Result<v1::ServiceRegisterResponse, Status> {
        let mut client = self.registry.clone();
        limited(async move { client.register(request).await }).await
    }

    /// Removes.
    pub async fn deregister(
        &self,
        request: v1::ServiceDeregisterRequest,
    ) -> Result<v1::ServiceDeregisterResponse, Status> {
        let mut client = self.registry.clone();
        limited(async move { client.deregister(request).await }).await
    }

    /// Renews.
    pub async fn heartbeat(&self, request: v1::HeartbeatRequest) -> Result<v1::HeartbeatResponse, Status> {
        let mut client = self.registry.clone();
        limited(async move { client.heartbeat(request).await }).await
    }

    /// Sets an override.
    pub async fn set_override(
        &self,
        request: v1::SetInstanceOverrideRequest,
    ) -> Result<v1::SetInstanceOverrideResponse, Status> {
        let mut client = self.registry.clone();
        limited(async move { client.set_instance_override(request).await }).await
    }

    /// Clears an override.
    pub async fn clear_override(
        &self,
        request: v1::ClearInstanceOverrideRequest,
    ) -> Result<v1::ClearInstanceOverrideResponse, Status> {
        let mut client = self.registry.clone();
        limited(async move { client.clear_instance_override(request).await }).await
    }

    /// Lists overrides.
    pub async fn overrides(
        &self,
        request: v1::ListInstanceOverridesRequest,
    ) -> Result<v1::ListInstanceOverridesResponse, Status> {
        let mut client = self.registry.clone();
        limited(async move { client.list_instance_overrides(request).await }).await
    }

    /// Ends the mass-expiry guard of a service.
    pub async fn end_protection(&self, service: &str) -> Result<v1::EndProtectionResponse, Status> {
        let mut client = self.registry.clone();
        let request = v1::EndProtectionRequest { service_name: service.into(), ..Default::default() };
        limited(async move { client.end_protection(request).await }).await
    }

    /// Reads a service.
    pub async fn discover(
        &self,
        request: v1::ServiceDiscoveryRequest,
    ) -> Result<v1::ServiceDiscoveryResponse, Status> {
        let mut client = self.discovery.clone();
        limited(async move { client.discover(request).await }).await
    }

    /// Reads a service at a consistency.
    pub async fn discover_at(
        &self,
        service: &str,
        consistency: v1::Consistency,
    ) -> Result<v1::ServiceDiscoveryResponse, Status> {
        self.discover(v1::ServiceDiscoveryRequest {
            service_name: service.into(),
            consistency: consistency.into(),
            ..Default::default()
        })
        .await
    }

    /// Opens a watch.
    pub async fn watch(
        &self,
        request: v1::WatchRequest,
    ) -> Result<tonic::Streaming<v1::WatchResponse>, Status> {
        let mut client = self.discovery.clone();
        limited(async move { client.watch(request).await }).await
    }

    /// The node's own view of the cluster, or the leader's.
    pub async fn status(&self, local: bool) -> Result<v1::ClusterStatusResponse, Status> {
        let mut client = self.cluster.clone();
        limited(async move { client.cluster_status(v1::ClusterStatusRequest { local }).await }).await
    }
}

async fn limited<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("the call took longer than 10 s")),
    }
}

/// The reason of a failed call, such as "NO_QUORUM"; empty if it has none.
pub fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// A registration with the three fields that suffice.
pub fn registration(service: &str, host: &str, port: u32) -> v1::ServiceRegisterRequest {
    v1::ServiceRegisterRequest { service_name: service.into(), host: host.into(), port, ..Default::default() }
}

/// The same with a time to live.
pub fn leased(service: &str, host: &str, port: u32, ttl: Duration) -> v1::ServiceRegisterRequest {
    v1::ServiceRegisterRequest { ttl: Some(duration(ttl)), ..registration(service, host, port) }
}

/// As protobuf.
pub fn duration(value: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(value.as_secs()).expect("not that long"),
        nanos: i32::try_from(value.subsec_nanos()).expect("below 10^9"),
    }
}

/// From protobuf; negative counts as zero.
pub fn from_duration(value: prost_types::Duration) -> Duration {
    Duration::try_from(value).unwrap_or_default()
}

/// A request id.
pub fn request_id(client: &str, serial: u64) -> Option<v1::RequestId> {
    Some(v1::RequestId { client: client.into(), serial, done_below: 0 })
}
