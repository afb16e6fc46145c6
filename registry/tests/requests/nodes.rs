//! Three whole nodes, each on a runtime of its own that can be ended at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use registry::config::{self, Sources};
use registry::environment::Environment;
use registry::error::reason_of;
use registry::node::{self, Spawners};
use registry_client::transport::{Channel, ConnectionOptions, TcpDial};
use registry_proto::v1::cluster_service_client::ClusterServiceClient;
use registry_proto::v1::discovery_service_client::DiscoveryServiceClient;
use registry_proto::v1::registry_service_client::RegistryServiceClient;
use registry_proto::v1::{self, ErrorReason};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tonic::Status;

/// Longest wait for anything here; the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Node {
    runtime: Option<Runtime>,
    _signals: watch::Sender<u32>,
    channel: Channel,
    pub(crate) endpoint: String,
}

/// A cluster on a loopback address of its own.
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    _folder: TempDir,
}

static CLUSTERS: AtomicU8 = AtomicU8::new(1);

impl Nodes {
    /// Three nodes, founded and ready.
    pub(crate) async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let host = format!("127.{}.{}.{}", 100 + CLUSTERS.fetch_add(1, Ordering::Relaxed), high, low.max(1));
        let listed: Vec<_> = (0_u16..3)
            .map(|number| {
                let (client, raft) = (8_080 + number, 9_080 + number);
                format!(
                    r#"{{"node_id":"node-{number}","host":"{host}","client_port":{client},"raft_port":{raft}}}"#
                )
            })
            .collect();
        // Calm elections: other tests use the machine at the same time.
        let text = format!(
            r#"{{"cluster":{{"nodes":[{}]}},
                "raft":{{"election_timeout_min":500,"election_timeout_max":1000,"heartbeat_interval":100}},
                "log":{{"segment_bytes":4194304}},"shutdown":{{"linger":"0s"}}}}"#,
            listed.join(",")
        );
        let file = folder.path().join("cluster.json");
        std::fs::write(&file, text).unwrap();
        let nodes = (0..3).map(|number| start_node(&folder, &file, number)).collect();
        let nodes = Self { nodes, _folder: folder };
        nodes.ready().await;
        nodes
    }

    async fn ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        for number in 0..3 {
            loop {
                match self.discovery(number).list_services(v1::ListServicesRequest::default()).await {
                    Ok(_) => break,
                    Err(status) => assert!(Instant::now() < deadline, "node {number}: {status}"),
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// The number of the node that leads.
    pub(crate) async fn leader(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for (number, node) in self.nodes.iter().enumerate() {
                if node.runtime.is_none() {
                    continue;
                }
                let request = v1::ClusterStatusRequest { local: true };
                let status = self.cluster(number).cluster_status(request).await.unwrap().into_inner();
                if status.source() == v1::StatusSource::Leader {
                    return number;
                }
            }
            assert!(Instant::now() < deadline, "no leader");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// A node that follows.
    pub(crate) async fn follower(&self) -> usize {
        (self.leader().await + 1) % 3
    }

    /// Ends a node as if its process had been killed.
    pub(crate) fn kill(&mut self, number: usize) {
        if let Some(runtime) = self.nodes[number].runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub(crate) fn endpoint(&self, number: usize) -> &str {
        &self.nodes[number].endpoint
    }

    pub(crate) fn channel(&self, number: usize) -> Channel {
        self.nodes[number].channel.clone()
    }

    pub(crate) fn registry(&self, number: usize) -> RegistryServiceClient<Channel> {
        RegistryServiceClient::new(self.channel(number))
    }

    pub(crate) fn discovery(&self, number: usize) -> DiscoveryServiceClient<Channel> {
        DiscoveryServiceClient::new(self.channel(number))
    }

    pub(crate) fn cluster(&self, number: usize) -> ClusterServiceClient<Channel> {
        ClusterServiceClient::new(self.channel(number))
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        (0..self.nodes.len()).for_each(|number| self.kill(number));
    }
}

fn start_node(folder: &TempDir, file: &std::path::Path, number: usize) -> Node {
    let node_id = format!("node-{number}");
    let data = folder.path().join(&node_id).to_string_lossy().into_owned();
    let sources = Sources {
        file: file.to_owned(),
        environment: Vec::new(),
        flags: vec![("data_dir", data)],
        node_id: Some(node_id),
    };
    let config = config::load(&sources).unwrap_or_else(|errors| panic!("{:?}", errors.0));
    let endpoint = config.client_bind();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (signals, received) = watch::channel(0);
    let spawners = Spawners { clients: runtime.handle().clone(), raft: runtime.handle().clone() };
    runtime.spawn(async move {
        if let Err(fatal) = node::run(config, Environment::system(), spawners, received).await {
            eprintln!("a node ended: {fatal:?}");
        }
    });
    let channel = Channel::new(Arc::new(TcpDial::default()), endpoint.clone(), ConnectionOptions::default());
    Node { runtime: Some(runtime), _signals: signals, channel, endpoint }
}

/// The three fields that suffice.
pub(crate) fn registration(port: u32) -> v1::ServiceRegisterRequest {
    v1::ServiceRegisterRequest {
        service_name: "orders".into(),
        host: "127.0.0.1".into(),
        port,
        ..Default::default()
    }
}

pub(crate) fn discover() -> v1::ServiceDiscoveryRequest {
    v1::ServiceDiscoveryRequest { service_name: "orders".into(), ..Default::default() }
}

pub(crate) fn stale() -> v1::ServiceDiscoveryRequest {
    v1::ServiceDiscoveryRequest { consistency: v1::Consistency::Stale as i32, ..discover() }
}

/// The reason of a refusal.
pub(crate) fn reason<T: std::fmt::Debug>(answer: Result<T, Status>) -> ErrorReason {
    let status = answer.expect_err("refused");
    reason_of(&status).unwrap_or_else(|| panic!("a reason in {status:?}"))
}
