//! The peer port: what nodes say to each other.
//!
//! Every call is checked here before anything else of it is read: is it from our cluster, and meant for
//! this node (P/N2)? Then it is passed to the part that answers it.

pub mod forward;
pub mod identity;
mod raft;
pub mod renewals;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use registry_proto::internal as pb;
use registry_proto::internal::peer_service_server::{PeerService as Rpc, PeerServiceServer};
use registry_proto::internal::{
    AwaitWatchesRequest, AwaitWatchesResponse, ClusterViewResponse, ForwardRenewalsRequest,
    ForwardRenewalsResponse, ForwardWritesRequest, ForwardWritesResponse, GoodbyeRequest, HelloRequest,
    HelloResponse, PeerErrorReason, PrepareRequest, PrepareResponse, ProbeResponse, ReadIndexResponse,
};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use self::raft::{HasHeader, check_caller, open_stream};
use crate::error::peer::PeerError;
use crate::peers::MAX_PEER_MESSAGE_BYTES;
use crate::raft::Consensus;
use crate::server::admin::Caller;

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
    /// The leader's side of membership.
    pub membership: Arc<dyn MembershipCalls>,
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
    /// The running Raft for a Raft call.
    ///
    /// # Errors
    /// DISK_LOST, QUARANTINED or NOT_READY, as statuses of this port.
    async fn raft(&self) -> Result<Consensus, Status>;
    /// Index of an applied entry by which this member is removed for good; `None` if it is not (P/N5).
    fn removed_at(&self, raft_id: u64) -> Option<u64>;
    /// Takes note where a call of a member came from: a hint for dialling it, no more (P/N2).
    fn heard(&self, raft_id: u64, from: IpAddr);
    /// Called with what is to be appended, before it is. Nothing, but for tests of what is left half done.
    fn arriving(&self, _request: &pb::AppendRequest) {}
    /// Called before a vote or an append is answered: makes `joined` durable as soon as the log holds
    /// anything (P/N1). Costs nothing once it is.
    ///
    /// # Errors
    /// The identity could not be written: then nothing may be answered.
    fn seal(&self) -> Result<(), Status>;
    /// Answers Hello, in every state.
    async fn hello(&self, request: HelloRequest) -> Result<HelloResponse, Status>;
    /// Answers Prepare.
    async fn prepare(&self, request: PrepareRequest) -> Result<PrepareResponse, Status>;
    /// Answers Adopt: stores the place durably before it answers (P/N4 R2).
    ///
    /// # Errors
    /// NOT_PRISTINE, TARGET_MISMATCH.
    async fn adopt(&self, request: pb::AdoptRequest) -> Result<pb::AdoptResponse, Status>;
    /// Answers Renew: the node starts anew after the answer (P/N5).
    ///
    /// # Errors
    /// NOT_PRISTINE, TARGET_MISMATCH.
    async fn renew(&self, request: pb::RenewRequest) -> Result<pb::RenewResponse, Status>;
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
        deadline: Instant,
    ) -> Result<AwaitWatchesResponse, Status>;
}

/// Calls about who is a member, which only the leader answers.
#[tonic::async_trait]
pub trait MembershipCalls: Send + Sync + 'static {
    /// Answers Join (P/N4).
    ///
    /// # Errors
    /// NOT_LEADER with a hint, NO_QUORUM, NOT_INITIALIZED, ALREADY_MEMBER, VERSION_UNSUPPORTED; NOT_READY
    /// while Raft does not run here.
    async fn join(&self, request: pb::JoinRequest) -> Result<pb::JoinResponse, Status>;
}

/// Longest wait of a call that waits for something, whatever its caller allows.
const MAX_WAIT: Duration = Duration::from_secs(600);

impl PeerService {
    /// The service for the peer listener, with the limits of messages between nodes.
    pub fn into_server(self) -> PeerServiceServer<Self> {
        PeerServiceServer::new(self)
            .max_decoding_message_size(MAX_PEER_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_PEER_MESSAGE_BYTES)
    }

    /// The message, and the Raft id of its sender.
    fn admit<T: HasHeader>(&self, request: Request<T>) -> Result<(u64, T), Status> {
        let caller = request.extensions().get::<Caller>().copied();
        let message = request.into_inner();
        let from = check_caller(self.identity.as_ref(), &message, caller)?;
        Ok((from, message))
    }

    /// As [`admit`](Self::admit), for calls that Raft answers.
    async fn admit_to_raft<T: HasHeader>(&self, request: Request<T>) -> Result<(Consensus, T), Status> {
        let (_, message) = self.admit(request)?;
        Ok((self.identity.raft().await?, message))
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Rpc for PeerService {
    type AppendStream = Incoming<pb::AppendResponse>;
    type InstallSnapshotStream = Incoming<pb::InstallSnapshotResponse>;
    type ForwardWritesStream = Incoming<ForwardWritesResponse>;
    type ForwardRenewalsStream = Incoming<ForwardRenewalsResponse>;

    async fn hello(&self, request: Request<HelloRequest>) -> Answer<HelloResponse> {
        let header = request.get_ref().header.clone().unwrap_or_default();
        let own = self.identity.own();
        if let Some(Caller(address)) = request.extensions().get()
            && !own.cluster_id.is_empty()
            && header.cluster_id == own.cluster_id
            && self.identity.removed_at(header.from_raft_id).is_none()
        {
            self.identity.heard(header.from_raft_id, address.ip());
        }
        self.identity.hello(request.into_inner()).await.map(Response::new)
    }

    async fn prepare(&self, request: Request<PrepareRequest>) -> Answer<PrepareResponse> {
        self.identity.prepare(request.into_inner()).await.map(Response::new)
    }

    async fn join(&self, request: Request<pb::JoinRequest>) -> Answer<pb::JoinResponse> {
        self.membership.join(request.into_inner()).await.map(Response::new)
    }

    async fn adopt(&self, request: Request<pb::AdoptRequest>) -> Answer<pb::AdoptResponse> {
        self.identity.adopt(request.into_inner()).await.map(Response::new)
    }

    async fn renew(&self, request: Request<pb::RenewRequest>) -> Answer<pb::RenewResponse> {
        self.identity.renew(request.into_inner()).await.map(Response::new)
    }

    async fn append(&self, request: Request<Streaming<pb::AppendRequest>>) -> Answer<Self::AppendStream> {
        let (_, requests) = open_stream(&self.identity, request).await?;
        let raft = self.identity.raft().await?;
        let arriving = self.identity.clone();
        let requests = requests.inspect_ok(move |request| arriving.arriving(request));
        let identity = self.identity.clone();
        let sealed = move |answer: Result<_, Status>| identity.seal().and(answer);
        Ok(Response::new(raft.serve_append(requests).map(sealed).boxed()))
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Answer<pb::VoteResponse> {
        let (raft, message) = self.admit_to_raft(request).await?;
        let answer = raft.serve_vote(message).await;
        self.identity.seal()?;
        answer.map(Response::new)
    }

    async fn pre_vote(&self, request: Request<pb::PreVoteRequest>) -> Answer<pb::PreVoteResponse> {
        let (raft, message) = self.admit_to_raft(request).await?;
        raft.serve_pre_vote(message).await.map(Response::new)
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::InstallSnapshotRequest>>,
    ) -> Answer<Self::InstallSnapshotStream> {
        let (_, requests) = open_stream(&self.identity, request).await?;
        let raft = self.identity.raft().await?;
        let identity = self.identity.clone();
        let sealed = move |answer: Result<_, Status>| identity.seal().and(answer);
        Ok(Response::new(raft.serve_install_snapshot(requests)?.map(sealed).boxed()))
    }

    async fn timeout_now(&self, request: Request<pb::TimeoutNowRequest>) -> Answer<pb::TimeoutNowResponse> {
        let (raft, message) = self.admit_to_raft(request).await?;
        raft.serve_timeout_now(message).await.map(Response::new)
    }

    async fn read_index(&self, request: Request<pb::ReadIndexRequest>) -> Answer<ReadIndexResponse> {
        self.admit(request)?;
        self.forward.read_index().await.map(Response::new)
    }

    async fn forward_writes(
        &self,
        request: Request<Streaming<ForwardWritesRequest>>,
    ) -> Answer<Self::ForwardWritesStream> {
        let (from, requests) = open_stream(&self.identity, request).await?;
        self.forward.forward_writes(from, requests).await.map(Response::new)
    }

    async fn forward_renewals(
        &self,
        request: Request<Streaming<ForwardRenewalsRequest>>,
    ) -> Answer<Self::ForwardRenewalsStream> {
        let (from, requests) = open_stream(&self.identity, request).await?;
        self.renewals.forward_renewals(from, requests).await.map(Response::new)
    }

    async fn await_watches(&self, request: Request<AwaitWatchesRequest>) -> Answer<AwaitWatchesResponse> {
        let deadline = Instant::now() + time_left(&request);
        let (_, message) = self.admit(request)?;
        self.renewals.await_watches(message, deadline).await.map(Response::new)
    }

    async fn goodbye(&self, request: Request<GoodbyeRequest>) -> Answer<pb::GoodbyeResponse> {
        let (_, message) = self.admit(request)?;
        self.identity.goodbye(message).await;
        Ok(Response::new(pb::GoodbyeResponse {}))
    }

    /// In every state and whoever is meant: the answer says who this is.
    async fn probe(&self, request: Request<pb::ProbeRequest>) -> Answer<ProbeResponse> {
        let own = self.identity.own();
        let theirs = request.into_inner().header.unwrap_or_default().cluster_id;
        if !own.cluster_id.is_empty() && theirs != own.cluster_id {
            let reason = format!("the call is for cluster {theirs:?}, this node is of {:?}", own.cluster_id);
            return Err(PeerError::new(PeerErrorReason::ClusterMismatch, reason).into());
        }
        self.identity.probe().await.map(Response::new)
    }

    async fn cluster_view(&self, request: Request<pb::ClusterViewRequest>) -> Answer<ClusterViewResponse> {
        self.admit(request)?;
        self.forward.cluster_view().await.map(Response::new)
    }
}

/// What the caller allows, as `grpc-timeout` says (at most eight digits and a unit).
pub(super) fn time_left<T>(request: &Request<T>) -> Duration {
    let header = request.metadata().get("grpc-timeout").and_then(|value| value.to_str().ok());
    let parsed = header.and_then(|value| {
        let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
        let amount: u64 = digits.parse().ok()?;
        Some(match unit {
            "H" => Duration::from_secs(amount.saturating_mul(3600)),
            "M" => Duration::from_secs(amount.saturating_mul(60)),
            "S" => Duration::from_secs(amount),
            "m" => Duration::from_millis(amount),
            "u" => Duration::from_micros(amount),
            "n" => Duration::from_nanos(amount),
            _ => return None,
        })
    });
    parsed.unwrap_or(MAX_WAIT).min(MAX_WAIT)
}
