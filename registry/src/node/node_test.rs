//! Whole nodes in one process, over loopback and real folders.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use registry_client::transport::{Channel, ConnectionOptions, TcpDial};
use registry_proto::v1::cluster_service_client::ClusterServiceClient;
use registry_proto::v1::{ClusterStatusRequest, ClusterStatusResponse, MemberKind};
use tokio::time::{sleep, timeout};

use super::*;
use crate::config::{Sources, load};
use crate::exit::Exit;
use crate::identity::MemberId;

/// Long enough for a machine on which a compiler runs beside.
const PATIENCE: Duration = Duration::from_secs(60);

/// An address of 127.0.0.0/8 that no other test of this process uses, and hardly another process.
fn address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high % 200 + 20, low, NEXT.fetch_add(1, Ordering::Relaxed))
}

fn config(folder: &Path, host: Ipv4Addr, number: usize) -> ValidConfig {
    let nodes: Vec<_> = (1..=3)
        .map(|n| {
            serde_json::json!({ "node_id": format!("n{n}"), "host": host.to_string(),
                "client_port": 8080 + n, "raft_port": 9080 + n })
        })
        .collect();
    let file = folder.join("cluster.json");
    let text = serde_json::json!({
        "cluster": { "nodes": nodes },
        // Calm on a loaded machine.
        "raft": { "heartbeat_interval": 100, "election_timeout_min": 1000, "election_timeout_max": 2000 },
        "log": { "segment_bytes": "1MiB" },
        "shutdown": { "linger": 0 },
        "cluster_settings": { "dead_member_after": "1s", "promote_after": "0ms" },
        "data_dir": folder.join(format!("n{number}")),
    });
    std::fs::write(&file, text.to_string()).unwrap();
    load(&Sources { file, node_id: Some(format!("n{number}")), ..Sources::default() }).unwrap()
}

const FOUNDED: &str = "1c9f6a52-5f0e-4f44-8b11-0a4f3c1d7e01";
const EARLIER: &str = "1c9f6a52-5f0e-4f44-8b11-0a4f3c1d7e02";

struct Running {
    stop: watch::Sender<u32>,
    ended: JoinHandle<Result<(), Fatal>>,
    client: ClusterServiceClient<Channel>,
}

fn start(config: ValidConfig) -> Running {
    let (stop, signals) = watch::channel(0);
    let endpoint = config.node.client_endpoint();
    let spawners = Spawners { clients: Handle::current(), raft: Handle::current() };
    let ended = tokio::spawn(run(config, Environment::system(), spawners, signals));
    let channel = Channel::new(Arc::new(TcpDial::default()), endpoint, ConnectionOptions::default());
    Running { stop, ended, client: ClusterServiceClient::new(channel) }
}

impl Running {
    async fn status_when(&self, reached: impl Fn(&ClusterStatusResponse) -> bool) -> ClusterStatusResponse {
        let ask = async {
            loop {
                let answer = self.client.clone().cluster_status(ClusterStatusRequest { local: true }).await;
                if let Ok(status) = answer.map(tonic::Response::into_inner)
                    && reached(&status)
                {
                    return status;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, ask).await.expect("the node gets there in time")
    }

    async fn founded(&self) -> String {
        self.status_when(|status| status.epoch != 0).await.cluster_id
    }

    async fn end(self) {
        self.stop.send_replace(1);
        timeout(PATIENCE, self.ended).await.expect("it ends").unwrap().unwrap();
    }
}

fn prepared(folder: &Path, name: &str, cluster_id: &str, raft_id: u64) {
    let random = Environment::system().random;
    let path = folder.join(name);
    let lock = FolderLock::take(&path).unwrap();
    let mut folder = DataFolder::open(&path, lock, name, random.as_ref()).unwrap();
    folder.prepare(MemberId { cluster_id: cluster_id.into(), raft_id }).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_found_one_cluster_stop_and_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let host = address();
    let nodes: Vec<Running> = (1..=3).map(|number| start(config(folder.path(), host, number))).collect();
    let cluster_id = nodes[0].founded().await;
    for node in &nodes {
        assert_eq!(node.founded().await, cluster_id);
    }
    for node in nodes {
        node.end().await;
    }
    let nodes: Vec<Running> = (1..=3).map(|number| start(config(folder.path(), host, number))).collect();
    // All before any ends: what a log holds is applied only once a majority has said that it is committed.
    for node in &nodes {
        assert_eq!(node.founded().await, cluster_id);
    }
    for node in nodes {
        node.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founding_that_was_cut_short_is_finished_under_its_cluster_id() {
    let folder = tempfile::tempdir().unwrap();
    let host = address();
    // The founder stored its own place; one node still has the offer of an attempt before.
    prepared(folder.path(), "n1", FOUNDED, 1);
    prepared(folder.path(), "n2", FOUNDED, 2);
    prepared(folder.path(), "n3", EARLIER, 3);
    let nodes: Vec<Running> = (1..=3).map(|number| start(config(folder.path(), host, number))).collect();
    for node in &nodes {
        assert_eq!(node.founded().await, FOUNDED);
    }
    for node in nodes {
        node.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_node_says_whom_it_waits_for_and_stops_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(config(folder.path(), address(), 1));
    let said = |status: &ClusterStatusResponse| {
        status.members.iter().any(|member| member.detail.contains("waiting for n2, n3"))
    };
    let status = node.status_when(said).await;
    assert!(status.cluster_id.is_empty());
    node.end().await;
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_setting() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), address(), 1);
    let _holder = tokio::net::TcpListener::bind(config.peer_bind()).await.unwrap();
    let fatal = start(config.clone()).ended.await.unwrap().unwrap_err();
    assert_eq!(fatal.exit, Exit::Io);
    assert!(fatal.message.contains(&config.peer_bind()) && fatal.message.contains("raft_port"), "{fatal}");
    assert!(!fatal.message.contains('\n'));
}

#[tokio::test]
async fn a_log_without_identity_is_a_lost_disk() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), address(), 1);
    std::fs::create_dir_all(config.data_dir.join("log")).unwrap();
    std::fs::write(config.data_dir.join("log/1"), "x").unwrap();
    let node = start(config);
    let said = |status: &ClusterStatusResponse| {
        status.members.iter().any(|member| member.detail.contains("identity.json was lost"))
    };
    node.status_when(said).await;
    node.end().await;
}

/// The Raft id of the node's own member entry, once it is a voter.
fn voter(status: &ClusterStatusResponse, name: &str) -> Option<u64> {
    let voters = status.members.iter().filter(|member| member.kind() == MemberKind::Voter);
    let named: Vec<_> = voters.filter(|member| member.node_id == name).collect();
    match named.as_slice() {
        [one] => Some(one.raft_id),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_log_begins_a_new_life_in_the_same_process() {
    let folder = tempfile::tempdir().unwrap();
    let host = address();
    let mut nodes: Vec<Running> = (1..=3).map(|number| start(config(folder.path(), host, number))).collect();
    let cluster_id = nodes[0].founded().await;
    for node in &nodes {
        node.founded().await;
    }
    let before = nodes[0].status_when(|status| voter(status, "n3").is_some()).await;
    nodes.remove(2).end().await;
    std::fs::remove_dir_all(folder.path().join("n3/log")).unwrap();

    let node = start(config(folder.path(), host, 3));
    let after =
        node.status_when(|status| voter(status, "n3").is_some_and(|id| id > 3) && status.epoch != 0).await;
    assert_eq!(after.cluster_id, cluster_id);
    assert_ne!(voter(&after, "n3"), voter(&before, "n3"));
    let voters = after.members.iter().filter(|member| member.kind() == MemberKind::Voter).count();
    assert_eq!(voters, 3, "{after:?}");
    assert!(folder.path().join("n3/lost-3/identity.json").exists(), "what was left is kept aside");
    node.end().await;
    for node in nodes {
        node.end().await;
    }
}

/// A node that was called under the place of a founding which came to nothing has a log with its id, and
/// nothing in it: another founding must get through (P/N3).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_place_of_a_founding_that_was_given_up_is_no_dead_end() {
    use registry_proto::internal::peer_service_client::PeerServiceClient;
    use registry_proto::internal::{PeerHeader, PreVoteRequest};

    let folder = tempfile::tempdir().unwrap();
    let host = address();
    prepared(folder.path(), "n2", EARLIER, 2);
    let two = config(folder.path(), host, 2);
    let channel =
        Channel::new(Arc::new(TcpDial::default()), two.node.peer_endpoint(), ConnectionOptions::default());
    let second = start(two);
    let header = PeerHeader { cluster_id: EARLIER.into(), from_raft_id: 1, to_raft_id: 2, process_nonce: 1 };
    let call = async {
        let mut client = PeerServiceClient::new(channel);
        let request =
            PreVoteRequest { header: Some(header), vote: Some(Default::default()), last_log_id: None };
        while client.pre_vote(request.clone()).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, call).await.expect("Raft runs under the place that was offered");

    let first = start(config(folder.path(), host, 1));
    let third = start(config(folder.path(), host, 3));
    let cluster_id = first.founded().await;
    assert_ne!(cluster_id, EARLIER);
    for node in [&second, &third] {
        assert_eq!(node.founded().await, cluster_id);
    }
    for node in [first, second, third] {
        node.end().await;
    }
}

/// The same, where the others have founded a cluster meanwhile: the node gets a place in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_the_place_of_another_founding_is_admitted_to_the_cluster_that_came_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let host = address();
    let nodes: Vec<Running> = (1..=3).map(|number| start(config(folder.path(), host, number))).collect();
    let cluster_id = nodes[0].founded().await;
    for node in &nodes {
        node.founded().await;
    }
    let mut nodes = nodes;
    nodes.remove(2).end().await;
    std::fs::remove_dir_all(folder.path().join("n3")).unwrap();
    prepared(folder.path(), "n3", EARLIER, 3);
    let third = start(config(folder.path(), host, 3));
    let status = third.status_when(|status| voter(status, "n3").is_some_and(|id| id > 3)).await;
    assert_eq!(status.cluster_id, cluster_id);
    nodes.push(third);
    for node in nodes {
        node.end().await;
    }
}
