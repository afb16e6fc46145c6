//! One description per unary call: how it is sent, and what may be done to it.

use std::time::Duration;

use futures::future::BoxFuture;
use registry_proto::v1::cluster_service_client::ClusterServiceClient;
use registry_proto::v1::discovery_service_client::DiscoveryServiceClient;
use registry_proto::v1::registry_service_client::RegistryServiceClient;
use registry_proto::v1::{self, RequestId, ResponseHeader};
use tonic::{Request, Response, Status};

use crate::transport::Connection;

/// Answers are at most 4 MiB (P/O5); one more for the frame.
pub(crate) const MAX_ANSWER_BYTES: usize = (4 << 20) + 1024;

/// What repeating a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: it may be repeated anywhere.
    Read,
    /// Renews once more: it may be repeated anywhere.
    Renewal,
    /// Takes effect once more unless it carries the same request id.
    Write,
}

/// A request of the public interface with one answer.
pub(crate) trait Unary: Clone + Send + Sync + 'static {
    /// Its answer.
    type Answer: Send + 'static;
    /// Name in spans and metrics.
    const METHOD: &'static str;
    /// What repeating it does.
    const KIND: Kind;

    /// Sends it. `timeout` is told to the node, which gives up when it is over.
    fn send(
        self,
        node: Connection,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Response<Self::Answer>, Status>>;

    /// The header of an answer.
    fn header(answer: &Self::Answer) -> Option<&ResponseHeader>;

    /// The place of the request id, if it has one.
    fn request_id(&mut self) -> Option<&mut Option<RequestId>> {
        None
    }

    /// The freshness asked for, if it is a read that has one.
    fn freshness(&mut self) -> Option<Freshness<'_>> {
        None
    }

    /// Time that the node spends waiting on purpose.
    fn waits(&self) -> Duration {
        Duration::ZERO
    }
}

/// The fields that all reads share.
pub(crate) struct Freshness<'a> {
    pub(crate) consistency: &'a mut i32,
    pub(crate) max_staleness: &'a mut Option<prost_types::Duration>,
    pub(crate) min_revision: &'a mut u64,
    pub(crate) min_revision_epoch: &'a mut u64,
}

macro_rules! freshness {
    () => {
        fn freshness(&mut self) -> Option<Freshness<'_>> {
            Some(Freshness {
                consistency: &mut self.consistency,
                max_staleness: &mut self.max_staleness,
                min_revision: &mut self.min_revision,
                min_revision_epoch: &mut self.min_revision_epoch,
            })
        }
    };
}

macro_rules! request_id {
    () => {
        fn request_id(&mut self) -> Option<&mut Option<RequestId>> {
            Some(&mut self.request_id)
        }
    };
}

macro_rules! unary {
    ($request:ident => $answer:ident, $service:ident.$method:ident, $kind:ident { $($more:tt)* }) => {
        impl Unary for v1::$request {
            type Answer = v1::$answer;
            const METHOD: &'static str = stringify!($method);
            const KIND: Kind = Kind::$kind;

            fn send(
                self,
                node: Connection,
                timeout: Duration,
            ) -> BoxFuture<'static, Result<Response<Self::Answer>, Status>> {
                Box::pin(async move {
                    let mut request = Request::new(self);
                    request.set_timeout(timeout);
                    let mut client = $service::new(node).max_decoding_message_size(MAX_ANSWER_BYTES);
                    client.$method(request).await
                })
            }

            fn header(answer: &Self::Answer) -> Option<&ResponseHeader> {
                answer.header.as_ref()
            }

            $($more)*
        }
    };
}

unary!(ServiceRegisterRequest => ServiceRegisterResponse, RegistryServiceClient.register, Write { request_id!(); });
unary!(BatchRegisterRequest => BatchRegisterResponse, RegistryServiceClient.batch_register, Write { request_id!(); });
unary!(ServiceDeregisterRequest => ServiceDeregisterResponse, RegistryServiceClient.deregister, Write { request_id!(); });
unary!(HeartbeatRequest => HeartbeatResponse, RegistryServiceClient.heartbeat, Renewal {});
unary!(SetInstanceStateRequest => SetInstanceStateResponse, RegistryServiceClient.set_instance_state, Write { request_id!(); });
unary!(DrainRequest => DrainResponse, RegistryServiceClient.drain, Write {
    request_id!();

    fn waits(&self) -> Duration {
        // API: 10 s unless asked otherwise, at most 5 min.
        let asked = self.timeout.map_or(Duration::from_secs(10), |timeout| timeout.try_into().unwrap_or_default());
        asked.min(Duration::from_secs(300))
    }
});
unary!(SetInstanceOverrideRequest => SetInstanceOverrideResponse, RegistryServiceClient.set_instance_override, Write { request_id!(); });
unary!(ClearInstanceOverrideRequest => ClearInstanceOverrideResponse, RegistryServiceClient.clear_instance_override, Write { request_id!(); });
unary!(ListInstanceOverridesRequest => ListInstanceOverridesResponse, RegistryServiceClient.list_instance_overrides, Read { freshness!(); });
unary!(EndProtectionRequest => EndProtectionResponse, RegistryServiceClient.end_protection, Write { request_id!(); });
unary!(ServiceDiscoveryRequest => ServiceDiscoveryResponse, DiscoveryServiceClient.discover, Read { freshness!(); });
unary!(ListServicesRequest => ListServicesResponse, DiscoveryServiceClient.list_services, Read { freshness!(); });
unary!(ClusterStatusRequest => ClusterStatusResponse, ClusterServiceClient.cluster_status, Read {});
