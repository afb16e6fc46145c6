//! A registry of several nodes over one store, which keeps the rules that a client can see and fails as
//! it is told.

mod service;
mod store;
mod watching;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use registry_client::v1::{self, ErrorReason};
use registry_client::{Client, ClientBuilder};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::net::Net;
pub(crate) use store::Store;

/// What a node does to the next call of a method, instead of answering it.
#[derive(Clone)]
pub(crate) enum Fault {
    /// Refuses it.
    Refuse(Status),
    /// Does it, then loses the connection instead of answering.
    LoseAnswer,
    /// Does it, then answers this instead.
    AnswerInstead(Status),
    /// Never answers and does nothing.
    Hang,
}

/// One node of the mock.
pub(crate) struct Node {
    pub(crate) endpoint: String,
    pub(crate) index: usize,
    faults: Mutex<VecDeque<(&'static str, Fault)>>,
    /// Calls received: method and, for writes, the request id.
    pub(crate) calls: Mutex<Vec<(&'static str, Option<v1::RequestId>)>>,
    /// Age of its data in milliseconds.
    pub(crate) staleness_ms: Mutex<u64>,
    /// How its member entry shows it.
    pub(crate) health: Mutex<v1::MemberHealth>,
    /// The cluster that it says it belongs to.
    pub(crate) cluster_id: Mutex<String>,
    /// Revision that its stale reads show, if it lags.
    pub(crate) lag_at: Mutex<Option<u64>>,
}

impl Node {
    pub(crate) fn fail(&self, method: &'static str, fault: Fault) {
        self.faults.lock().unwrap().push_back((method, fault));
    }

    fn fault(&self, method: &'static str) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let place = faults.iter().position(|(other, _)| *other == method)?;
        faults.remove(place).map(|(_, fault)| fault)
    }

    pub(crate) fn count(&self, method: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|(other, _)| *other == method).count()
    }
}

/// The cluster.
pub(crate) struct Mock {
    pub(crate) net: Net,
    pub(crate) nodes: Vec<Arc<Node>>,
    store: Arc<Mutex<Store>>,
}

impl Mock {
    pub(crate) fn new(size: usize) -> Self {
        let net = Net::default();
        let endpoints: Vec<String> = (1..=size).map(|number| format!("node-{number}:8080")).collect();
        let store = Arc::new(Mutex::new(Store::new(endpoints.clone())));
        let node = |(index, endpoint): (usize, &String)| {
            Arc::new(Node {
                endpoint: endpoint.clone(),
                index,
                faults: Mutex::default(),
                calls: Mutex::default(),
                staleness_ms: Mutex::new(0),
                health: Mutex::new(v1::MemberHealth::Healthy),
                cluster_id: Mutex::new("the-cluster".into()),
                lag_at: Mutex::default(),
            })
        };
        let nodes: Vec<_> = endpoints.iter().enumerate().map(node).collect();
        for node in &nodes {
            let service = service::Service {
                node: node.clone(),
                nodes: nodes.clone(),
                store: store.clone(),
                net: net.clone(),
            };
            net.add(&node.endpoint, service.routes());
        }
        Self { net, nodes, store }
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.endpoint.clone()).collect()
    }

    pub(crate) fn builder(&self) -> ClientBuilder {
        Client::builder().seeds(self.endpoints()).dial(self.net.clone())
    }

    /// A client that knows all nodes and is connected to all of them.
    pub(crate) async fn client(&self) -> Client {
        let client = self.builder().connect().await.unwrap();
        let up = self.nodes.len();
        until("all nodes are connected", || client.connected_endpoints().len() == up).await;
        client
    }

    pub(crate) fn lead(&self, node: usize) {
        let mut store = self.store();
        store.leader = Some(node);
        store.term += 1;
    }
}

/// A refusal with a reason, as the registry gives it.
pub(crate) fn refusal(code: Code, reason: ErrorReason, retry: &str, more: &[(&str, &str)]) -> Status {
    let name = reason.as_str_name().trim_start_matches("ERROR_REASON_");
    let mut metadata = std::collections::HashMap::from([("retry".to_owned(), retry.to_owned())]);
    metadata.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let details = ErrorDetails::with_error_info(name, registry_proto::ERROR_DOMAIN, metadata);
    Status::with_error_details(code, format!("scripted {name}"), details)
}

pub(crate) fn not_leader(hint: &str) -> Status {
    let more = [("leader_endpoint", hint)];
    refusal(Code::Unavailable, ErrorReason::NotLeader, "ELSEWHERE", &more)
}

pub(crate) fn shutting_down() -> Status {
    refusal(Code::Unavailable, ErrorReason::ShuttingDown, "ELSEWHERE", &[])
}

pub(crate) fn no_quorum() -> Status {
    refusal(Code::Unavailable, ErrorReason::NoQuorum, "LATER", &[])
}

/// Waits for a condition; a minute is for machines that are busy with other things.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn instance(port: u32) -> v1::ServiceRegisterRequest {
    v1::ServiceRegisterRequest {
        service_name: "orders".into(),
        host: "10.0.0.1".into(),
        port,
        ..Default::default()
    }
}

pub(crate) fn orders() -> v1::ServiceDiscoveryRequest {
    v1::ServiceDiscoveryRequest { service_name: "orders".into(), ..Default::default() }
}
