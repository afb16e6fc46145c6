//! A full disk stops what grows, and nothing else (P/W5).

use std::time::{Duration, Instant};

use registry_client::{CallOptions, Client};
use registry_proto::v1::{self, Consistency};
use registry_tests::api::{Api, leased, reason, registration};
use registry_tests::cluster::{Cluster, Options};
use registry_tests::small_disk::SmallDisk;
use registry_tests::timing::{assert_expired_within, assert_within};
use registry_tests::wait;
use serde_json::json;
use tonic::Status;
use tonic_types::StatusExt;

/// Room for all that a node needs, and some to fill.
const DISK_BYTES: u64 = 48 << 20;

/// Three nodes, each with a small disk of its own.
async fn start() -> (Cluster, Vec<SmallDisk>) {
    let file = json!({ "log": { "segment_bytes": 1 << 20, "reserve_bytes": 4 << 20 } });
    let mut cluster = Cluster::prepare(Options { file, ..Default::default() }).await;
    let disks = cluster.nodes.iter_mut().map(|node| SmallDisk::give(node, DISK_BYTES)).collect();
    cluster.start_all();
    cluster.ready().await;
    for node in &cluster.nodes {
        wait::until_true("the reserve", wait::PATIENCE, || async {
            node.metric("registry_log_reserve_bytes").await == Some(f64::from(4 << 20))
        })
        .await;
    }
    (cluster, disks)
}

/// One of twenty permanent instances, with 8 KiB of new content each time: much log, little state.
fn large(number: u32) -> v1::ServiceRegisterRequest {
    let content = |at| (format!("k{at}"), format!("{number:0>1000}"));
    v1::ServiceRegisterRequest {
        instance_id: format!("large-{}", number % 20),
        ttl: Some(prost_types::Duration::default()),
        metadata: (0..8).map(content).collect(),
        ..registration("large", "10.0.0.1", 1)
    }
}

async fn is(cluster: &Cluster, node: usize, metric: &str) -> bool {
    cluster.nodes[node].metric(metric).await == Some(1.0)
}

/// The library, as patient as a program that must be registered.
async fn patient(cluster: &Cluster) -> Client {
    let client = Client::connect(cluster.endpoints()).await.expect("the cluster answers");
    client.with(CallOptions::new().deadline(Duration::from_secs(30)))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_with_a_full_disk_stops_nobody_and_comes_back_by_itself() {
    let (cluster, disks) = start().await;
    let client = patient(&cluster).await;
    let mut number = 0;
    let victim = cluster.followers().await[0];
    let pid = cluster.nodes[victim].pid();
    disks[victim].fill();
    // Its spares go first, then its reserve, and at last it waits. With less to write than the snapshots of
    // every half minute make room for, it lives on its reserve. All that time the others take registrations.
    let (full_by, waits_by) = (Instant::now() + wait::PATIENCE, Instant::now() + Duration::from_secs(20));
    loop {
        for _ in 0..50 {
            number += 1;
            client.register(large(number)).await.expect("two disks of three have room");
        }
        let is_full = is(&cluster, victim, "registry_disk_full").await;
        if is_full && (is(&cluster, victim, "registry_log_stalled").await || Instant::now() > waits_by) {
            break;
        }
        assert!(Instant::now() < full_by, "the disk of node {victim} never became full");
    }
    println!("the log of node {victim} waits: {}", is(&cluster, victim, "registry_log_stalled").await);
    for _ in 0..50 {
        number += 1;
        client.register(large(number)).await.expect("two disks of three have room");
    }
    let status = cluster.api(cluster.leader().await).status(true).await.expect("the leader answers");
    let shown = status.members.iter().find(|member| member.node_id == cluster.nodes[victim].name);
    assert!(shown.is_some_and(|member| member.detail.contains("disk is full")), "{shown:?}");
    let stale = cluster.api(victim).discover_at("large", Consistency::Stale).await.expect("it still reads");
    assert_eq!(stale.instances.len(), 20);
    assert!(cluster.nodes[victim].http("/readyz").await.is_ok(), "and stays ready");

    disks[victim].free();
    let freed = Instant::now();
    cluster.caught_up(victim).await;
    assert_within("a node catches up after its disk was freed", freed.elapsed(), Duration::from_secs(5));
    wait::until_true("room again", wait::PATIENCE, || async {
        !is(&cluster, victim, "registry_disk_full").await
    })
    .await;
    assert_eq!(cluster.nodes[victim].pid(), pid, "the same process");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_with_a_full_disk_hands_over_and_registrations_go_on() {
    let (cluster, disks) = start().await;
    let client = patient(&cluster).await;
    let leader = cluster.leader().await;
    disks[leader].fill();
    let limit = Instant::now() + wait::PATIENCE;
    let mut number = 0;
    while cluster.leader().await == leader {
        for _ in 0..50 {
            number += 1;
            client.register(large(number)).await.expect("another leader takes it in a moment");
        }
        assert!(Instant::now() < limit, "node {leader} still leads");
    }
    assert!(is(&cluster, leader, "registry_disk_full").await);
}

/// Registers until it is refused for want of room.
async fn register_until_refused(api: &Api) -> Status {
    let limit = Instant::now() + wait::PATIENCE;
    for number in 0.. {
        match api.register(large(number)).await {
            Ok(_) => {}
            Err(status) if reason(&status) == "QUOTA_EXCEEDED" => {
                let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
                // For a moment each leader may find that only its own disk is full.
                if delay >= Some(Duration::from_secs(30)) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(status) if reason(&status) == "NOT_LEADER" => {}
            Err(status) => panic!("{status}"),
        }
        assert!(Instant::now() < limit, "never refused");
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_all_disks_full_only_registrations_are_refused_until_there_is_room() {
    let (mut cluster, disks) = start().await;
    let client = patient(&cluster).await;
    let ttl = Duration::from_secs(3);
    let held = client.keep_registered(leased("held", "10.0.0.1", 1, ttl)).await.expect("there is room");
    let api = cluster.api(0);
    let falls_silent = client.keep_registered(leased("silent", "10.0.0.1", 1, ttl)).await.expect("room");
    let leaves = api.register(registration("leaves", "10.0.0.1", 1)).await.expect("there is room");

    disks.iter().for_each(SmallDisk::fill);
    let refusal = register_until_refused(&api).await;
    let quota = refusal.get_details_error_info().and_then(|info| info.metadata.get("quota").cloned());
    assert_eq!(quota.as_deref(), Some("the disks of a majority"), "{refusal}");
    assert!(refusal.message().contains("free space"), "{refusal}");

    // What shrinks, renews and repairs goes on. A registration that is dropped is not renewed any more.
    assert!(held.status().is_registered() && falls_silent.status().is_registered());
    drop(falls_silent);
    let silent_since = Instant::now();
    let request = v1::ServiceDeregisterRequest {
        service_name: "leaves".into(),
        host: "10.0.0.1".into(),
        port: 1,
        incarnation: leaves.incarnation,
        ..Default::default()
    };
    assert_eq!(api.deregister(request).await.expect("deregistration goes on").removed, 1);
    let count = |service: &'static str| {
        let api = api.clone();
        async move {
            let found = api.discover_at(service, Consistency::Linearizable).await;
            found.map(|answer| answer.instances.len()).map_err(|status| status.to_string())
        }
    };
    wait::until_true("the silent owner to expire", wait::PATIENCE, || async {
        count("silent").await == Ok(0)
    })
    .await;
    let promise = ttl + Duration::from_secs(2);
    assert_expired_within("expiry", silent_since.elapsed(), promise, cluster.lateness().await);
    assert_eq!(count("held").await, Ok(1));
    assert_eq!(client.metrics().leases_lost, 0);
    assert!(held.status().is_registered());

    // A start needs no room either.
    let victim = cluster.followers().await[0];
    cluster.nodes[victim].kill();
    cluster.start_node(victim);
    cluster.nodes[victim].ready().await;
    assert_eq!(reason(&api.register(large(0)).await.expect_err("still full")), "QUOTA_EXCEEDED");

    disks.iter().for_each(SmallDisk::free);
    let freed = Instant::now();
    wait::until("a registration", wait::PATIENCE, || api.register(large(1))).await;
    assert_within("registrations after the disks were freed", freed.elapsed(), Duration::from_secs(5));
}
