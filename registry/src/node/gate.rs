//! What the client port and the peer port answer before Raft runs.
//!
//! Listeners are bound and answer from the first moment on, but what answers most calls exists only once
//! the node has a place in a cluster. Until then calls of clients are told why not, in the words of the
//! API, and ClusterStatus tells how far the node is.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use registry_proto::internal::{
    AwaitWatchesRequest, AwaitWatchesResponse, ClusterViewResponse, ForwardRenewalsRequest,
    ForwardRenewalsResponse, ForwardWritesRequest, ForwardWritesResponse, PeerErrorReason, ReadIndexResponse,
};
use registry_proto::v1::cluster_service_server::{ClusterService, ClusterServiceServer};
use registry_proto::v1::{
    ClusterStatusRequest, ClusterStatusResponse, Member, MemberHealth, MemberKind, QuorumStatus,
    ResponseHeader, StatusSource,
};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tower::Service;

use crate::config::ValidConfig;
use crate::error::peer::PeerError;
use crate::error::{Error, LeaderHint};
use crate::server::peer::{ForwardCalls, Incoming, RenewalCalls};
use crate::standing::{Stage, Standing};

/// The routes of the client port: those of a node that waits, until those of one that runs are there.
#[derive(Clone)]
pub(super) struct Gate {
    early: Routes,
    late: Arc<OnceLock<Routes>>,
}

impl Gate {
    /// Answers for a node that does not run yet.
    pub(super) fn new(config: &ValidConfig, standing: Standing) -> Self {
        let status = EarlyStatus { config: Arc::new(config.clone()), standing: standing.clone() };
        let routes = axum::Router::new()
            .route_service("/registry.v1.ClusterService/{method}", ClusterServiceServer::new(status))
            .fallback_service(Refuse(standing));
        Self { early: Routes::from(routes), late: Arc::default() }
    }

    /// From now on these answer.
    pub(super) fn open(&self, routes: Routes) {
        // Opened once; a second attempt would change nothing.
        let _ = self.late.set(routes);
    }

    /// To be served.
    pub(super) fn routes(self) -> Routes {
        Routes::from(axum::Router::new().fallback_service(self))
    }
}

impl<B> Service<http::Request<B>> for Gate
where
    Routes: Service<http::Request<B>, Response = http::Response<Body>, Error = Infallible>,
    <Routes as Service<http::Request<B>>>::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let mut routes = self.late.get().unwrap_or(&self.early).clone();
        Box::pin(routes.call(request))
    }
}

/// Why a node that does not run refuses a call of a client.
fn refusal(standing: &Standing) -> Error {
    if standing.is_stopping() {
        return Error::ShuttingDown;
    }
    let identity = standing.identity();
    match standing.stage() {
        Stage::Quarantined(quarantine) => {
            Error::NotReady(format!("it is in quarantine: {}", quarantine.reason))
        }
        Stage::Waiting { what, outside: true } => Error::NotReady(what),
        Stage::Waiting { .. } if identity.joined => Error::NotReady("it is starting".to_owned()),
        Stage::Waiting { .. } | Stage::Called => Error::NotInitialized,
        Stage::Running => Error::NotReady("it is starting".to_owned()),
    }
}

#[derive(Clone)]
struct Refuse(Standing);

impl<B> Service<http::Request<B>> for Refuse {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<B>) -> Self::Future {
        std::future::ready(Ok(refusal(&self.0).into_status(&LeaderHint::default()).into_http()))
    }
}

#[derive(Clone)]
struct EarlyStatus {
    config: Arc<ValidConfig>,
    standing: Standing,
}

#[tonic::async_trait]
impl ClusterService for EarlyStatus {
    async fn cluster_status(
        &self,
        _: Request<ClusterStatusRequest>,
    ) -> Result<Response<ClusterStatusResponse>, Status> {
        let voters = u32::try_from(self.config.nodes.len()).unwrap_or(u32::MAX);
        let own_id = &self.config.node.node_id;
        let detail = self.standing.readiness().err().unwrap_or_default();
        let members = self.config.nodes.iter().map(|node| {
            let is_self = node.node_id == *own_id;
            let health = match self.standing.stage() {
                Stage::Quarantined(_) if is_self => MemberHealth::Quarantined,
                _ => MemberHealth::Unknown,
            };
            Member {
                node_id: node.node_id.clone(),
                client_endpoint: node.client_endpoint(),
                peer_endpoint: node.peer_endpoint(),
                kind: MemberKind::Unspecified.into(),
                health: health.into(),
                version: if is_self { env!("CARGO_PKG_VERSION").to_owned() } else { String::new() },
                detail: if is_self { cut(&detail) } else { String::new() },
                ..Member::default()
            }
        });
        Ok(Response::new(ClusterStatusResponse {
            header: Some(ResponseHeader { node_id: own_id.clone(), ..ResponseHeader::default() }),
            source: StatusSource::Node.into(),
            members: members.collect(),
            quorum: Some(QuorumStatus { available: false, voters, needed: voters / 2 + 1, reachable: 0 }),
            ..ClusterStatusResponse::default()
        }))
    }
}

/// `Member.detail` has at most 256 bytes.
fn cut(text: &str) -> String {
    let end = (0..=256.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}

/// A part of the peer port that comes with Raft.
pub(super) struct Late<T: ?Sized>(OnceLock<Arc<T>>);

impl<T: ?Sized> Default for Late<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T: ?Sized> Late<T> {
    /// Hands the part in.
    pub(super) fn set(&self, part: Arc<T>) {
        // Set once; a second attempt would change nothing.
        let _ = self.0.set(part);
    }

    fn get(&self) -> Result<&T, Status> {
        let starting = || PeerError::new(PeerErrorReason::NotReady, "the node is starting; try again");
        self.0.get().map(AsRef::as_ref).ok_or_else(|| starting().into())
    }
}

#[tonic::async_trait]
impl ForwardCalls for Late<dyn ForwardCalls> {
    async fn read_index(&self) -> Result<ReadIndexResponse, Status> {
        self.get()?.read_index().await
    }

    async fn forward_writes(
        &self,
        from: u64,
        requests: Incoming<ForwardWritesRequest>,
    ) -> Result<Incoming<ForwardWritesResponse>, Status> {
        self.get()?.forward_writes(from, requests).await
    }

    async fn cluster_view(&self) -> Result<ClusterViewResponse, Status> {
        self.get()?.cluster_view().await
    }
}

#[tonic::async_trait]
impl RenewalCalls for Late<dyn RenewalCalls> {
    async fn forward_renewals(
        &self,
        from: u64,
        requests: Incoming<ForwardRenewalsRequest>,
    ) -> Result<Incoming<ForwardRenewalsResponse>, Status> {
        self.get()?.forward_renewals(from, requests).await
    }

    async fn await_watches(
        &self,
        request: AwaitWatchesRequest,
        deadline: Instant,
    ) -> Result<AwaitWatchesResponse, Status> {
        self.get()?.await_watches(request, deadline).await
    }
}
