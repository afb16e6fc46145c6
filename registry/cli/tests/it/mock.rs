//! A registry of one node that keeps one lease per instance and tells what it was asked.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use registry_proto::v1::cluster_service_server::ClusterServiceServer;
use registry_proto::v1::discovery_service_server::DiscoveryServiceServer;
use registry_proto::v1::registry_service_server::RegistryServiceServer;
use registry_proto::v1::{self, ErrorReason};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower::ServiceExt as _;

use crate::program::PATIENCE;

mod reading;
mod registering;

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
