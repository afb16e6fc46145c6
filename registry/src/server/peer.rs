//! The peer port: what nodes say to each other.
//!
//! Every call is checked here before anything else of it is read: is it from our cluster, and meant for
//! this node (P/N2)? Then it is passed to the part that answers it.

use std::sync::Arc;

use futures::stream::BoxStream;
use registry_proto::internal::{
    AwaitWatchesRequest, AwaitWatchesResponse, ClusterViewResponse, ForwardRenewalsRequest,
    ForwardRenewalsResponse, ForwardWritesRequest, ForwardWritesResponse, GoodbyeRequest, HelloRequest,
    HelloResponse, PrepareRequest, PrepareResponse, ProbeResponse, ReadIndexResponse,
};
use tonic::Status;

use crate::raft::Consensus;

/// Messages of a stream whose header has been checked; the first message is among them.
pub type Incoming<T> = BoxStream<'static, Result<T, Status>>;

/// Who answers what on the peer port.
#[derive(Clone)]
pub struct PeerService {
    /// Who this node is; its own life and death.
    pub identity: Arc<dyn IdentityCalls>,
    /// The leader's side of reads and writes of other nodes.
    pub forward: Arc<dyn ForwardCalls>,
    /// The leader's side of renewals, and watches of this node.
    pub renewals: Arc<dyn RenewalCalls>,
}

/// What the header check needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// UUID of the cluster; empty without identity.
    pub cluster_id: String,
    /// Own Raft id; 0 without identity.
    pub raft_id: u64,
}

/// Calls about the node itself, and the gate before Raft.
#[tonic::async_trait]
pub trait IdentityCalls: Send + Sync + 'static {
    /// Who this node is now.
    fn own(&self) -> Own;
    /// The running Raft for a Raft call, after `joined` is durable (P/N1).
    ///
    /// # Errors
    /// DISK_LOST, QUARANTINED or NOT_READY, as statuses of this port.
    async fn raft(&self) -> Result<Consensus, Status>;
    /// Answers Hello, in every state.
    async fn hello(&self, request: HelloRequest) -> Result<HelloResponse, Status>;
    /// Answers Prepare.
    async fn prepare(&self, request: PrepareRequest) -> Result<PrepareResponse, Status>;
    /// Answers Probe, in every state.
    async fn probe(&self) -> Result<ProbeResponse, Status>;
    /// Takes note that a peer stops.
    async fn goodbye(&self, request: GoodbyeRequest);
}

/// Calls of other nodes that only the leader answers.
#[tonic::async_trait]
pub trait ForwardCalls: Send + Sync + 'static {
    /// Answers ReadIndex.
    async fn read_index(&self) -> Result<ReadIndexResponse, Status>;
    /// Answers writes of clients of node `from`.
    async fn forward_writes(
        &self,
        from: u64,
        requests: Incoming<ForwardWritesRequest>,
    ) -> Result<Incoming<ForwardWritesResponse>, Status>;
    /// Answers ClusterView.
    async fn cluster_view(&self) -> Result<ClusterViewResponse, Status>;
}

/// Calls of other nodes about leases and watches.
#[tonic::async_trait]
pub trait RenewalCalls: Send + Sync + 'static {
    /// Answers renewals collected at node `from`.
    async fn forward_renewals(
        &self,
        from: u64,
        requests: Incoming<ForwardRenewalsRequest>,
    ) -> Result<Incoming<ForwardRenewalsResponse>, Status>;
    /// Answers AwaitWatches, just before `deadline` at the latest.
    async fn await_watches(
        &self,
        request: AwaitWatchesRequest,
        deadline: tokio::time::Instant,
    ) -> Result<AwaitWatchesResponse, Status>;
}
