//! Nodes that consist of Raft and a peer port.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use registry::environment::Environment;
use registry::metrics::Metrics;
use registry::peers::{Hints, Peers};
use registry::raft::{
    Consensus, LogDisk, Member, Observer, Outcome, Published, RaftIdentity, RaftOptions, RaftStatus,
    Surroundings, build,
};
use registry::server::listen::Server;
use registry::server::observe::Unobserved;
use registry::server::peer::{
    ForwardCalls, IdentityCalls, Incoming, MembershipCalls, Own, PeerService, RenewalCalls,
};
use registry_proto::internal as pb;
use registry_state::{
    ClusterSettings, Command, InitCluster, LeaseChange, MemberSpec, Operation, Register, Registration,
    RevisionEvents,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tonic::Status;
use tonic::service::Routes;

pub(crate) const CLUSTER: &str = "3f0b8c1e-7a58-4d0c-9a55-0b6f3f9a7c11";
/// Longest wait for anything here; on a busy machine elections repeat.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What an observer was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) revisions: Mutex<Vec<u64>>,
    pub(crate) resets: AtomicU64,
}

impl Observer for Told {
    fn applied(&self, published: &Arc<Published>, events: &[Arc<RevisionEvents>], _: &[LeaseChange]) {
        let mut revisions = self.revisions.lock().unwrap();
        for event in events {
            assert!(event.revision <= published.state.revision(), "an event before its state");
            revisions.push(event.revision);
        }
    }

    fn reset(&self, _: &Arc<Published>) {
        self.resets.fetch_add(1, Ordering::Relaxed);
    }
}

/// A running node.
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) consensus: Consensus,
    pub(crate) told: Arc<Told>,
    server: Server,
}

/// The nodes of a cluster, some of them down.
pub(crate) struct Cluster {
    pub(crate) nodes: BTreeMap<u64, Node>,
    folders: BTreeMap<u64, TempDir>,
    addresses: BTreeMap<u64, String>,
    pub(crate) tune: fn(&mut RaftOptions),
}

impl Cluster {
    /// Three nodes, founded.
    pub(crate) async fn start(tune: fn(&mut RaftOptions)) -> Self {
        let mut cluster = Self {
            nodes: BTreeMap::new(),
            folders: (1..=3).map(|id| (id, TempDir::new().unwrap())).collect(),
            addresses: BTreeMap::new(),
            tune,
        };
        for id in 1..=3 {
            cluster.start_node(id).await;
        }
        let members = cluster.members();
        cluster.nodes[&1].consensus.initialize(members).await.unwrap();
        let leader = cluster.leader().await;
        propose(&cluster.nodes[&leader].consensus, &found()).await;
        cluster
    }

    /// `HOST:PORT` of a node.
    pub(crate) fn endpoint(&self, id: u64) -> &str {
        &self.addresses[&id]
    }

    fn members(&self) -> BTreeMap<u64, Member> {
        members_at(&self.addresses)
    }

    /// Starts a node, with its disk and address of before if it had any.
    pub(crate) async fn start_node(&mut self, id: u64) {
        let address = self.addresses.get(&id).map_or("127.0.0.1:0", String::as_str).to_owned();
        let spec = Spec {
            id,
            environment: Environment::system(),
            address,
            directory: self.folders[&id].path().to_owned(),
            disk: LogDisk::Files,
            tune: self.tune,
        };
        let node = run_node(spec).await;
        self.addresses.insert(id, node.server.address().to_string());
        self.nodes.insert(id, node);
    }

    /// Starts a node that is no member yet; what it would be.
    pub(crate) async fn start_stranger(&mut self, id: u64) -> Member {
        self.folders.insert(id, TempDir::new().unwrap());
        self.start_node(id).await;
        self.members().remove(&id).unwrap()
    }

    /// Ends a node; its disk stays.
    pub(crate) async fn stop_node(&mut self, id: u64) {
        let node = self.nodes.remove(&id).unwrap();
        node.server.close();
        node.consensus.shutdown().await;
    }

    /// Waits until all running nodes follow one leader among them.
    pub(crate) async fn leader(&self) -> u64 {
        wait_for("one leader", || {
            let statuses: Vec<RaftStatus> = self.nodes.values().map(|node| node.consensus.status()).collect();
            let leader = statuses.first()?.leader?;
            let agreed = statuses
                .iter()
                .all(|status| status.leader == Some(leader) && status.vote == statuses[0].vote);
            (agreed && statuses[0].vote.committed && self.nodes.contains_key(&leader)).then_some(leader)
        })
        .await
    }

    /// Waits until all running nodes have applied what the first that leads has.
    pub(crate) async fn settle(&self) -> u64 {
        let leader = self.leader().await;
        let index = self.nodes[&leader].consensus.published().applied_index();
        for node in self.nodes.values() {
            node.consensus.wait_applied(index, Instant::now() + PATIENCE).await.unwrap();
        }
        index
    }

    /// Fails if nodes that have applied the same index have different states.
    pub(crate) fn assert_equal_states(&self) {
        let mut hashes = BTreeMap::new();
        for node in self.nodes.values() {
            let published = node.consensus.published();
            let hash = published.state.state_hash();
            let known = *hashes.entry(published.applied_index()).or_insert(hash);
            assert_eq!(known, hash, "node {} has another state", node.id);
        }
    }
}

/// How to run one node.
pub(crate) struct Spec {
    pub(crate) id: u64,
    pub(crate) environment: Environment,
    pub(crate) address: String,
    pub(crate) directory: PathBuf,
    pub(crate) disk: LogDisk,
    pub(crate) tune: fn(&mut RaftOptions),
}

/// Members by their addresses.
pub(crate) fn members_at(addresses: &BTreeMap<u64, String>) -> BTreeMap<u64, Member> {
    let member = |id: u64, address: &String| Member {
        name: format!("node-{id}"),
        peer_endpoint: address.clone(),
        ..Member::default()
    };
    addresses.iter().map(|(id, address)| (*id, member(*id, address))).collect()
}

/// Binds, recovers and starts a node.
pub(crate) async fn run_node(spec: Spec) -> Node {
    let Spec { id, environment, address, directory, disk, tune } = spec;
    let listener = environment.bind.bind(&address).await.unwrap();
    let identity = RaftIdentity {
        cluster_id: CLUSTER.into(),
        raft_id: id,
        disk_id: uuid::Uuid::from_u128(id.into()).into(),
    };
    let mut options = RaftOptions::new(directory, identity);
    options.segment_bytes = 1 << 20;
    options.joined = matches!(disk, LogDisk::Files) && registry::raft::has_data(&options.directory).unwrap();
    tune(&mut options);
    let told = Arc::new(Told::default());
    let around = Surroundings {
        peers: Peers::new(
            environment.dial.clone(),
            CLUSTER.into(),
            id,
            environment.random.nonzero_u64(),
            Hints::default(),
        ),
        observers: vec![told.clone()],
        metrics: Metrics::new(),
        random: environment.random.clone(),
        disk,
    };
    let built = build(options, around).await.unwrap();
    let doubles = Arc::new(Doubles { id, consensus: built.consensus().clone() });
    let service = PeerService {
        identity: doubles.clone(),
        forward: doubles.clone(),
        renewals: doubles.clone(),
        membership: doubles,
    };
    let server = Server::start(listener, Routes::new(service.into_server()), Arc::new(Unobserved)).unwrap();
    let consensus = built.run().await;
    Node { id, consensus, told, server }
}

/// Waits for a condition.
pub(crate) async fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Proposes until it is taken; for commands that may be applied twice.
pub(crate) async fn propose(consensus: &Consensus, command: &Command) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match consensus.propose(command, deadline).await {
            Ok(outcome) => {
                let reply = &outcome.applied.reply;
                assert!(!matches!(reply, registry_state::Reply::Rejected(_)), "{reply:?}");
                return outcome;
            }
            Err(error) if Instant::now() < deadline => {
                eprintln!("proposal: {error}");
                sleep(Duration::from_millis(10)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) fn command(operation: Operation) -> Command {
    Command { proposed_at_unix_ms: 1, request: None, operation }
}

/// A member as commands name it.
pub(crate) fn spec(id: u64) -> MemberSpec {
    MemberSpec {
        raft_id: id,
        node_id: format!("node-{id}"),
        disk_id: uuid::Uuid::from_u128(id.into()).into(),
        peer_endpoint: format!("127.0.0.1:{}", 9_000 + id),
        client_endpoint: format!("127.0.0.1:{}", 8_000 + id),
    }
}

/// Founds the state.
pub(crate) fn found() -> Command {
    command(Operation::InitCluster(InitCluster {
        cluster_id: CLUSTER.into(),
        epoch: 7,
        settings: Some(ClusterSettings::DEFAULT),
        members: (1..=3).map(spec).collect(),
        next_raft_id: 4,
    }))
}

/// Registers instance `n` of the service `test`, with so many bytes of metadata.
pub(crate) fn register(n: u64, bytes: usize) -> Command {
    let registration = Registration {
        namespace: "default".into(),
        service_name: "test".into(),
        instance_id: format!("i-{n}"),
        host: "127.0.0.1".into(),
        port: 1000,
        ttl_ms: Some(0),
        metadata: vec![registry_state::Pair { key: "k".into(), value: "v".repeat(bytes) }],
        ..Registration::default()
    };
    command(Operation::Register(Register { registration: Some(registration), new_lease_id: n + 1 }))
}

/// Instances that a node knows of.
pub(crate) fn instances(consensus: &Consensus) -> u64 {
    let published = consensus.published();
    published.state.service("default", "test").map_or(0, |service| service.counts().total as u64)
}

struct Doubles {
    id: u64,
    consensus: Consensus,
}

#[tonic::async_trait]
impl IdentityCalls for Doubles {
    fn own(&self) -> Own {
        Own { cluster_id: CLUSTER.into(), raft_id: self.id }
    }

    async fn raft(&self) -> Result<Consensus, Status> {
        Ok(self.consensus.clone())
    }

    fn removed_at(&self, raft_id: u64) -> Option<u64> {
        let published = self.consensus.published();
        published.state.is_removed(raft_id).then(|| published.applied_index())
    }

    fn heard(&self, _: u64, _: IpAddr) {}

    fn seal(&self) -> Result<(), Status> {
        Ok(())
    }

    async fn hello(&self, _: pb::HelloRequest) -> Result<pb::HelloResponse, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn prepare(&self, _: pb::PrepareRequest) -> Result<pb::PrepareResponse, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn adopt(&self, _: pb::AdoptRequest) -> Result<pb::AdoptResponse, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn renew(&self, _: pb::RenewRequest) -> Result<pb::RenewResponse, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn probe(&self) -> Result<pb::ProbeResponse, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn goodbye(&self, _: pb::GoodbyeRequest) {}
}

#[tonic::async_trait]
impl MembershipCalls for Doubles {
    async fn join(&self, _: pb::JoinRequest) -> Result<pb::JoinResponse, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

#[tonic::async_trait]
impl ForwardCalls for Doubles {
    async fn read_index(&self) -> Result<pb::ReadIndexResponse, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn forward_writes(
        &self,
        _: u64,
        _: Incoming<pb::ForwardWritesRequest>,
    ) -> Result<Incoming<pb::ForwardWritesResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn cluster_view(&self) -> Result<pb::ClusterViewResponse, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

#[tonic::async_trait]
impl RenewalCalls for Doubles {
    async fn forward_renewals(
        &self,
        _: u64,
        requests: Incoming<pb::ForwardRenewalsRequest>,
    ) -> Result<Incoming<pb::ForwardRenewalsResponse>, Status> {
        let answer = |request: pb::ForwardRenewalsRequest| pb::ForwardRenewalsResponse {
            sequence: request.sequence,
            ..pb::ForwardRenewalsResponse::default()
        };
        Ok(requests.map(move |request| request.map(answer)).boxed())
    }

    async fn await_watches(
        &self,
        _: pb::AwaitWatchesRequest,
        _: Instant,
    ) -> Result<pb::AwaitWatchesResponse, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}
