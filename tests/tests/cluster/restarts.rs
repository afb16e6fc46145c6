//! What was acknowledged is there after any restart, and a folder is used by its own node only.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use rand::RngExt;
use registry_proto::v1::{self, Consistency};
use registry_tests::api::{Api, registration};
use registry_tests::cluster::{Cluster, Options};
use registry_tests::wait;
use serde_json::json;

fn permanent(service: &str, port: u32) -> v1::ServiceRegisterRequest {
    v1::ServiceRegisterRequest {
        ttl: Some(prost_types::Duration::default()),
        ..registration(service, "127.0.0.1", port)
    }
}

async fn ports(api: &Api, service: &str) -> BTreeSet<u32> {
    let answer = wait::until("a linearizable read", wait::PATIENCE, || async {
        api.discover_at(service, Consistency::Linearizable).await.map_err(|status| status.to_string())
    })
    .await;
    answer.instances.iter().map(|instance| instance.port).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_killed_at_once_thirty_times_keep_every_acknowledged_registration() {
    let mut cluster = Cluster::start(Options::default()).await;
    let mut acknowledged = BTreeSet::new();
    let mut next_port = 1;
    #[allow(clippy::explicit_counter_loop, reason = "the port counts calls, not rounds")]
    for round in 0..30 {
        let api = cluster.api(round % 3);
        let delay = Duration::from_millis(rand::rng().random_range(20..400));
        let writing = async {
            loop {
                if api.register(permanent("orders", next_port)).await.is_ok() {
                    acknowledged.insert(next_port);
                }
                next_port += 1;
            }
        };
        let _ = tokio::time::timeout(delay, writing).await;
        // The call that was cut off may have registered its port: leave it alone.
        next_port += 1;
        cluster.kill_all();
        cluster.start_all();
        cluster.ready().await;
        let present = ports(&cluster.api((round + 1) % 3), "orders").await;
        let lost: Vec<_> = acknowledged.difference(&present).collect();
        assert!(lost.is_empty(), "round {round}: acknowledged and lost: {lost:?}");
    }
    println!("{} registrations acknowledged, none lost in 30 restarts", acknowledged.len());
    assert!(acknowledged.len() > 30, "the rounds did write");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_missed_ten_thousand_writes_comes_back_by_snapshot() {
    let file = json!({
        "log": { "segment_bytes": 4 << 20 },
        "snapshot": { "min_bytes": 256 << 10 },
        "raft": { "election_timeout_min": 150, "election_timeout_max": 300, "heartbeat_interval": 50,
                  "max_in_snapshot_log_to_keep": 500 },
    });
    let mut cluster = Cluster::start(Options { file, ..Default::default() }).await;
    let follower = cluster.followers().await[0];
    cluster.nodes[follower].stop().await;
    let leader = cluster.leader().await;
    let api = cluster.api(leader);
    let failed: usize = futures::stream::iter(1..=10_000)
        .map(|port| {
            let api = api.clone();
            async move { usize::from(api.register(permanent("orders", port)).await.is_err()) }
        })
        .buffer_unordered(32)
        .fold(0, |sum, failed| async move { sum + failed })
        .await;
    assert_eq!(failed, 0);
    wait::until_true("the leader to purge its log", wait::PATIENCE, || async {
        cluster.nodes[leader].metric("registry_log_purged_index").await.unwrap_or(0.0) > 5_000.0
    })
    .await;

    cluster.start_node(follower);
    cluster.nodes[follower].ready().await;
    cluster.caught_up(follower).await;
    assert_eq!(ports(&cluster.api(follower), "orders").await.len(), 10_000);
    let installed = cluster.nodes[follower].metric("registry_snapshots_installed_total").await;
    assert!(installed.unwrap_or(0.0) >= 1.0, "it was fed a snapshot: {installed:?}");

    // A node fed by a snapshot has the same history floor as the others: a resume that works at one
    // works at all.
    let mut floors = Vec::new();
    for index in 0..3 {
        let request =
            v1::WatchRequest { service_name: "orders".into(), changes_only: true, ..Default::default() };
        let header = cluster
            .api(index)
            .discover_at("orders", Consistency::Linearizable)
            .await
            .unwrap()
            .header
            .unwrap();
        let resume = Some(v1::Position { epoch: header.epoch, revision: 1 });
        floors.push(floor(&cluster.api(index), v1::WatchRequest { resume, ..request }).await);
    }
    assert!(floors.windows(2).all(|pair| pair[0] == pair[1]), "floors: {floors:?}");
}

/// What a resume from revision 1 gives: the first kind of message, or the error.
async fn floor(api: &Api, request: v1::WatchRequest) -> String {
    let mut stream = match api.watch(request).await {
        Ok(stream) => stream,
        Err(status) => return status.message().to_owned(),
    };
    match stream.message().await {
        Ok(Some(message)) => {
            format!("{:?} from {:?}", message.kind(), message.changes.first().map(|c| c.revision))
        }
        Ok(None) => "end".into(),
        Err(status) => status.message().to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_used_by_its_own_node_of_its_own_cluster_only() {
    let mut cluster = Cluster::start(Options::default()).await;

    // Two processes on one folder: the second ends with a line that names the folder.
    let output = cluster.nodes[0].command().arg("--data-dir").arg(&cluster.nodes[0].data).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "the second process ends: {text}");
    assert!(text.contains(&cluster.nodes[0].data.display().to_string()) || text.contains("8080"), "{text}");

    // The folder of another node.
    cluster.nodes[1].stop().await;
    let foreign = cluster.nodes[2].data.clone();
    cluster.nodes[2].stop().await;
    let output = cluster.nodes[1].command().arg("--data-dir").arg(&foreign).output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(text.contains(&foreign.display().to_string()), "{text}");
    assert!(text.trim().lines().count() <= 3, "one line says it: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_another_cluster_takes_no_part_in_this_one() {
    let kept = tempfile::tempdir().unwrap();
    let foreign = kept.path().join("registry-node-1");
    {
        let mut other = Cluster::start(Options::default()).await;
        other.api(0).register(permanent("elsewhere", 1)).await.unwrap();
        other.nodes[0].stop().await;
        std::fs::rename(&other.nodes[0].data, &foreign).unwrap();
    }
    let mut cluster = Cluster::start(Options::default()).await;
    let before = cluster.api(1).status(false).await.unwrap().cluster_id;
    cluster.nodes[0].stop().await;
    std::fs::remove_dir_all(&cluster.nodes[0].data).unwrap();
    std::fs::rename(&foreign, &cluster.nodes[0].data).unwrap();
    cluster.start_node(0);
    let status = cluster.nodes[0].exited().await;
    let log = cluster.nodes[0].log_text();
    assert_eq!(status.code(), Some(78), "{log}");
    let line = log.lines().rev().find(|line| line.starts_with("error:")).expect("an error line");
    assert!(line.contains(&cluster.nodes[0].data.display().to_string()), "it names the folder: {line}");
    // The others noticed nothing.
    cluster.api(1).register(permanent("orders", 1)).await.unwrap();
    assert_eq!(cluster.api(2).status(false).await.unwrap().cluster_id, before);
    assert!(ports(&cluster.api(2), "elsewhere").await.is_empty());
}
