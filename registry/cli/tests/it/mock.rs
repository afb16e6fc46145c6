//! A registry of one node that keeps one lease per instance and tells what it was asked.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use registry_proto::v1::cluster_service_server::{ClusterService, ClusterServiceServer};
use registry_proto::v1::discovery_service_server::{DiscoveryService, DiscoveryServiceServer};
use registry_proto::v1::registry_service_server::{RegistryService, RegistryServiceServer};
use registry_proto::v1::{self, ErrorReason, InstanceState};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower::ServiceExt as _;

use crate::program::PATIENCE;

/// What differs from a registry that does as it is told.
#[derive(Default)]
pub(crate) struct Manners {
    /// Drain answers UNIMPLEMENTED.
    pub(crate) no_drain: bool,
    /// A node that Drain cannot ask.
    pub(crate) silent_node: Option<String>,
    /// Every call is refused so.
    pub(crate) refuse: Option<ErrorReason>,
    /// Reads are never answered.
    pub(crate) silent: bool,
    /// Instances on one page.
    pub(crate) page: Option<usize>,
    /// Whether this file exists is told with every Drain.
    pub(crate) marker: Option<PathBuf>,
    /// Peer ports of its members, parted by commas; empty = one member without.
    pub(crate) peer_endpoint: String,
    /// Streams of Watch, one after the other. The last one stays open.
    pub(crate) watches: VecDeque<Vec<v1::WatchResponse>>,
}

/// The registry of a test.
#[derive(Clone)]
pub(crate) struct Mock {
    shared: Arc<Shared>,
}

struct Shared {
    endpoint: String,
    manners: Mutex<Manners>,
    calls: watch::Sender<Vec<String>>,
    instances: Mutex<BTreeMap<String, v1::Instance>>,
    open: Mutex<Vec<tokio::sync::mpsc::Sender<Result<v1::WatchResponse, Status>>>>,
}

pub(crate) const EPOCH: u64 = 77;
pub(crate) const LEASE: u64 = 0x1f2e_3d4c_5b6a_7988;

impl Mock {
    pub(crate) async fn start() -> Self {
        Self::with(Manners::default()).await
    }

    pub(crate) async fn with(manners: Manners) -> Self {
        Self::at(TcpListener::bind("127.0.0.1:0").await.unwrap(), manners)
    }

    pub(crate) fn at(listener: TcpListener, manners: Manners) -> Self {
        let mock = Self {
            shared: Arc::new(Shared {
                endpoint: listener.local_addr().unwrap().to_string(),
                manners: Mutex::new(manners),
                calls: watch::Sender::new(Vec::new()),
                instances: Mutex::default(),
                open: Mutex::default(),
            }),
        };
        let routes = Routes::new(RegistryServiceServer::new(mock.clone()))
            .add_service(DiscoveryServiceServer::new(mock.clone()))
            .add_service(ClusterServiceServer::new(mock.clone()));
        tokio::spawn(serve(listener, routes));
        mock
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.shared.endpoint
    }

    /// Changes its manners.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.shared.manners.lock().unwrap());
    }

    /// The calls so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.shared.calls.borrow().clone()
    }

    /// Waits until it was asked this.
    pub(crate) async fn asked(&self, call: &str) {
        let mut calls = self.shared.calls.subscribe();
        let asked = calls.wait_for(|calls| calls.iter().any(|made| made == call));
        if timeout(PATIENCE, asked).await.is_err() {
            panic!("{call:?} is not among {:?}", self.calls());
        }
    }

    fn note(&self, call: String) {
        self.shared.calls.send_modify(|calls| calls.push(call));
    }
}

pub(crate) async fn serve(listener: TcpListener, routes: Routes) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let routes = routes.clone();
        let service = hyper::service::service_fn(move |request| routes.clone().oneshot(request));
        tokio::spawn(
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service),
        );
    }
}

impl Mock {
    fn header(&self) -> Option<v1::ResponseHeader> {
        Some(v1::ResponseHeader {
            revision: 5,
            term: 1,
            epoch: EPOCH,
            role: v1::NodeRole::Leader.into(),
            node_id: "mock".into(),
            leader_endpoint: self.shared.endpoint.clone(),
            cluster_id: "6ba7b810-9dad-11d1-80b4-00c04fd430c8".into(),
            ..Default::default()
        })
    }

    fn refusal(&self) -> Result<(), Status> {
        let Some(reason) = self.shared.manners.lock().unwrap().refuse else { return Ok(()) };
        Err(refused(reason))
    }

    fn set_state(&self, id: &str, state: i32) {
        if let Some(instance) = self.shared.instances.lock().unwrap().get_mut(id) {
            instance.state = state;
        }
    }
}

fn state_name(state: i32) -> String {
    let state = InstanceState::try_from(state).unwrap();
    state.as_str_name().trim_start_matches("INSTANCE_STATE_").to_owned()
}

/// A refusal as the registry words it.
pub(crate) fn refused(reason: ErrorReason) -> Status {
    use ErrorReason::*;
    let (code, retry) = match reason {
        InvalidField => (Code::InvalidArgument, "NEVER"),
        NoQuorum => (Code::Unavailable, "LATER"),
        StaleIncarnation => (Code::FailedPrecondition, "NEVER"),
        InstanceNotFound => (Code::NotFound, "NEVER"),
        LeaseExpired => (Code::NotFound, "RESTART"),
        QuotaExceeded => (Code::ResourceExhausted, "NEVER"),
        Internal => (Code::Internal, "NEVER"),
        other => panic!("{other:?} has no wording here"),
    };
    let name = reason.as_str_name().trim_start_matches("ERROR_REASON_");
    let metadata = [("retry".to_owned(), retry.to_owned())];
    let details = ErrorDetails::with_error_info(name, "registry.dev", metadata);
    Status::with_error_details(code, "refused by the mock", details)
}

/// The instance that a request names.
fn id(host: &str, port: u32, instance_id: &str) -> String {
    if instance_id.is_empty() { format!("{host}:{port}") } else { instance_id.to_owned() }
}

#[tonic::async_trait]
impl RegistryService for Mock {
    async fn register(
        &self,
        request: Request<v1::ServiceRegisterRequest>,
    ) -> Result<Response<v1::ServiceRegisterResponse>, Status> {
        let request = request.into_inner();
        let id = id(&request.host, request.port, &request.instance_id);
        let state = match request.state() {
            InstanceState::Unspecified => InstanceState::Up,
            state => state,
        };
        self.note(format!("register {}/{id} {}", request.service_name, state_name(state.into())));
        self.refusal()?;
        let instance = v1::Instance {
            instance_id: id.clone(),
            host: request.host,
            port: request.port,
            state: state.into(),
            weight: Some(100),
            namespace: "default".into(),
            service_name: request.service_name,
            revision: 5,
            incarnation: 5,
            ttl: Some(request.ttl.unwrap_or(prost_types::Duration { seconds: 15, nanos: 0 })),
            ..Default::default()
        };
        self.shared.instances.lock().unwrap().insert(id, instance.clone());
        Ok(Response::new(v1::ServiceRegisterResponse {
            header: self.header(),
            instance: Some(instance),
            lease_id: LEASE,
            incarnation: 5,
            outcome: v1::RegisterOutcome::Created.into(),
        }))
    }

    async fn batch_register(
        &self,
        _: Request<v1::BatchRegisterRequest>,
    ) -> Result<Response<v1::BatchRegisterResponse>, Status> {
        Err(Status::unimplemented("batch_register"))
    }

    async fn deregister(
        &self,
        request: Request<v1::ServiceDeregisterRequest>,
    ) -> Result<Response<v1::ServiceDeregisterResponse>, Status> {
        let request = request.into_inner();
        self.note("deregister".to_owned());
        self.refusal()?;
        let mut instances = self.shared.instances.lock().unwrap();
        let removed = if request.lease_id != 0 {
            std::mem::take(&mut *instances).len()
        } else {
            instances.remove(&id(&request.host, request.port, &request.instance_id)).iter().count()
        };
        Ok(Response::new(v1::ServiceDeregisterResponse { header: self.header(), removed: removed as u32 }))
    }

    async fn heartbeat(
        &self,
        _: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        self.refusal()?;
        let remaining_ttl = Some(prost_types::Duration { seconds: 15, nanos: 0 });
        Ok(Response::new(v1::HeartbeatResponse {
            header: self.header(),
            remaining_ttl,
            lease_id: LEASE,
            incarnation: 5,
            state: InstanceState::Up.into(),
        }))
    }

    type KeepAliveStream = Pin<Box<dyn Stream<Item = Result<v1::KeepAliveResponse, Status>> + Send>>;

    async fn keep_alive(
        &self,
        request: Request<Streaming<v1::KeepAliveRequest>>,
    ) -> Result<Response<Self::KeepAliveStream>, Status> {
        let mock = self.clone();
        let answers = request.into_inner().map(move |request| {
            let request = request?;
            let refuse = mock.shared.manners.lock().unwrap().refuse;
            let failed = |lease_id: &u64| v1::KeepAliveFailure {
                lease_id: *lease_id,
                reason: ErrorReason::LeaseExpired.into(),
            };
            let failures: Vec<_> = match refuse {
                Some(_) => request.lease_ids.iter().map(failed).collect(),
                None => Vec::new(),
            };
            Ok(v1::KeepAliveResponse {
                header: mock.header(),
                sequence: request.sequence,
                renewed: (request.lease_ids.len() - failures.len()) as u32,
                failures,
                ..Default::default()
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn set_instance_state(
        &self,
        request: Request<v1::SetInstanceStateRequest>,
    ) -> Result<Response<v1::SetInstanceStateResponse>, Status> {
        let request = request.into_inner();
        self.note(format!("set {}", state_name(request.state)));
        self.refusal()?;
        self.set_state(&id(&request.host, request.port, &request.instance_id), request.state);
        Ok(Response::new(v1::SetInstanceStateResponse { header: self.header(), changed: 1, overridden: 0 }))
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Result<Response<v1::DrainResponse>, Status> {
        let request = request.into_inner();
        let marked = self.shared.manners.lock().unwrap().marker.as_ref().is_some_and(|path| path.exists());
        self.note(format!("drain, signalled {marked}"));
        self.refusal()?;
        if self.shared.manners.lock().unwrap().no_drain {
            return Err(Status::unimplemented("not offered yet"));
        }
        self.set_state(
            &id(&request.host, request.port, &request.instance_id),
            InstanceState::Draining.into(),
        );
        let silent = self.shared.manners.lock().unwrap().silent_node.clone();
        Ok(Response::new(v1::DrainResponse {
            header: self.header(),
            complete: silent.is_none(),
            revision: 6,
            silent_nodes: silent.into_iter().collect(),
            ..Default::default()
        }))
    }

    async fn set_instance_override(
        &self,
        request: Request<v1::SetInstanceOverrideRequest>,
    ) -> Result<Response<v1::SetInstanceOverrideResponse>, Status> {
        let request = request.into_inner();
        let set = request.operator_override.unwrap_or_default();
        let ttl = request.ttl.map_or(0, |ttl| ttl.seconds);
        let state = state_name(set.state);
        self.note(format!("override {} {state} {:?} for {ttl} s", request.instance_id, set.weight));
        self.refusal()?;
        let registered = self.shared.instances.lock().unwrap().contains_key(&request.instance_id);
        Ok(Response::new(v1::SetInstanceOverrideResponse {
            header: self.header(),
            operator_override: Some(set),
            registered,
        }))
    }

    async fn clear_instance_override(
        &self,
        request: Request<v1::ClearInstanceOverrideRequest>,
    ) -> Result<Response<v1::ClearInstanceOverrideResponse>, Status> {
        self.note(format!("clear the override of {}", request.into_inner().instance_id));
        self.refusal()?;
        Ok(Response::new(v1::ClearInstanceOverrideResponse { header: self.header(), cleared: true }))
    }

    async fn list_instance_overrides(
        &self,
        request: Request<v1::ListInstanceOverridesRequest>,
    ) -> Result<Response<v1::ListInstanceOverridesResponse>, Status> {
        self.refusal()?;
        // Two pages of one override each.
        let first = request.into_inner().page_token.is_empty();
        let entry = v1::OverrideEntry {
            namespace: "default".into(),
            service_name: "orders".into(),
            instance_id: if first { "a" } else { "b" }.into(),
            ..Default::default()
        };
        Ok(Response::new(v1::ListInstanceOverridesResponse {
            header: self.header(),
            overrides: vec![entry],
            next_page_token: if first { "more".into() } else { String::new() },
        }))
    }

    async fn end_protection(
        &self,
        request: Request<v1::EndProtectionRequest>,
    ) -> Result<Response<v1::EndProtectionResponse>, Status> {
        let request = request.into_inner();
        self.note(format!(
            "end protection of {:?} everywhere {}",
            request.service_name, request.all_namespaces
        ));
        self.refusal()?;
        Ok(Response::new(v1::EndProtectionResponse { header: self.header(), ended: 2 }))
    }
}

#[tonic::async_trait]
impl DiscoveryService for Mock {
    async fn discover(
        &self,
        request: Request<v1::ServiceDiscoveryRequest>,
    ) -> Result<Response<v1::ServiceDiscoveryResponse>, Status> {
        self.refusal()?;
        if self.shared.manners.lock().unwrap().silent {
            std::future::pending::<()>().await;
        }
        let request = request.into_inner();
        let all: Vec<_> = self.shared.instances.lock().unwrap().values().cloned().collect();
        let status = if all.is_empty() { v1::ServiceStatus::Unknown } else { v1::ServiceStatus::Available };
        let begin = request.page_token.parse().unwrap_or(0);
        let size = self.shared.manners.lock().unwrap().page.unwrap_or(all.len().max(1));
        let end = all.len().min(begin + size);
        Ok(Response::new(v1::ServiceDiscoveryResponse {
            header: self.header(),
            instances: all[begin..end].to_vec(),
            status: status.into(),
            next_page_token: if end < all.len() { end.to_string() } else { String::new() },
            ..Default::default()
        }))
    }

    async fn list_services(
        &self,
        _: Request<v1::ListServicesRequest>,
    ) -> Result<Response<v1::ListServicesResponse>, Status> {
        self.refusal()?;
        Ok(Response::new(v1::ListServicesResponse { header: self.header(), ..Default::default() }))
    }

    type WatchStream = ReceiverStream<Result<v1::WatchResponse, Status>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.refusal()?;
        let request = request.into_inner();
        let from = request.resume.map(|at| format!("{}:{}", at.epoch, at.revision));
        self.note(format!("watch {} from {}", request.service_name, from.as_deref().unwrap_or("the start")));
        let (sender, stream) = tokio::sync::mpsc::channel(64);
        let (messages, last) = {
            let watches = &mut self.shared.manners.lock().unwrap().watches;
            (watches.pop_front().unwrap_or_default(), watches.is_empty())
        };
        for mut message in messages {
            let staleness = Some(prost_types::Duration::default());
            message.header.get_or_insert_with(|| v1::ResponseHeader { staleness, ..self.header().unwrap() });
            sender.try_send(Ok(message)).unwrap();
        }
        if last {
            // Open until the test ends.
            self.shared.open.lock().unwrap().push(sender);
        }
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

#[tonic::async_trait]
impl ClusterService for Mock {
    async fn cluster_status(
        &self,
        _: Request<v1::ClusterStatusRequest>,
    ) -> Result<Response<v1::ClusterStatusResponse>, Status> {
        let peers = self.shared.manners.lock().unwrap().peer_endpoint.clone();
        let members = peers.split(',').enumerate().map(|(index, peer)| v1::Member {
            node_id: if index == 0 { "mock".into() } else { format!("mock-{}", index + 1) },
            raft_id: index as u64 + 1,
            client_endpoint: self.shared.endpoint.clone(),
            peer_endpoint: peer.into(),
            role: if index == 0 { v1::NodeRole::Leader.into() } else { v1::NodeRole::Follower.into() },
            kind: v1::MemberKind::Voter.into(),
            health: v1::MemberHealth::Healthy.into(),
            ..Default::default()
        });
        Ok(Response::new(v1::ClusterStatusResponse {
            header: self.header(),
            source: v1::StatusSource::Leader.into(),
            cluster_id: "6ba7b810-9dad-11d1-80b4-00c04fd430c8".into(),
            leader_id: "mock".into(),
            term: 1,
            members: members.collect(),
            quorum: Some(v1::QuorumStatus { available: true, voters: 1, needed: 1, reachable: 1 }),
            epoch: EPOCH,
            ..Default::default()
        }))
    }
}
