//! A node that is cut off serves old answers that say so, and nothing else.

use std::time::{Duration, Instant};

use registry_client::Client;
use registry_proto::v1::{self, Consistency};
use registry_tests::api::{Api, from_duration, reason, registration};
use registry_tests::cluster::{Cluster, Options};
use registry_tests::wait;

async fn age(api: &Api) -> Duration {
    let answer = api.discover_at("orders", Consistency::Stale).await.expect("a stale read needs no leader");
    assert_eq!(answer.instances.len(), 1, "the old view is served");
    from_duration(answer.header.unwrap().staleness.expect("a stale answer says its age"))
}

async fn a_lonely_node_is_read_only(cluster: &Cluster, lonely: usize) {
    let api = cluster.api(lonely);
    let others: Vec<usize> = (0..3).filter(|index| *index != lonely).collect();
    cluster.api(others[0]).register(registration("orders", "127.0.0.1", 1)).await.unwrap();
    cluster.caught_up(lonely).await;

    let cut = Instant::now();
    cluster.partition.as_ref().unwrap().isolate(lonely);

    // The others go on, with a new leader if need be.
    wait::until("a write at the majority", wait::PATIENCE, || async {
        let answer = cluster.api(others[0]).register(registration("billing", "127.0.0.1", 2)).await;
        answer.map(|_| ()).map_err(|status| status.to_string())
    })
    .await;

    // A write that was proposed in the moment of the cut may have an open outcome; later ones may not.
    wait::until("a write to be refused", wait::PATIENCE, || async {
        let status =
            api.register(registration("lost", "127.0.0.1", 3)).await.expect_err("no majority, no write");
        if reason(&status) == "NO_QUORUM" { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    // Many at a time, begun one after the other: whichever moment their time is up in, the answer is the
    // same.
    let asked = Instant::now();
    let mut reads = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let api = api.clone();
        reads.spawn(async move { api.discover_at("orders", Consistency::Linearizable).await });
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    for refused in reads.join_all().await {
        let refused = refused.expect_err("no majority, no linearizable read");
        assert_eq!(reason(&refused), "NO_QUORUM", "{refused}");
    }
    assert!(asked.elapsed() < Duration::from_secs(5), "linearizable reads fail by their deadline");

    let first = age(&api).await;
    let between = Instant::now();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let second = age(&api).await;
    // True age: at least the time since the cut less one refresh, and growing with the clock.
    assert!(first + Duration::from_secs(3) >= cut.elapsed() - between.elapsed(), "age {first:?}");
    assert!(second >= first + Duration::from_millis(900), "the age grew from {first:?} to {second:?}");
    assert!(
        second <= cut.elapsed() + Duration::from_secs(3),
        "age {second:?} of a cut of {:?}",
        cut.elapsed()
    );

    cluster.partition.as_ref().unwrap().heal();
    wait::until("the lonely node to catch up", wait::PATIENCE, || async {
        let answer =
            api.discover_at("billing", Consistency::Linearizable).await.map_err(|s| s.to_string())?;
        if answer.instances.len() == 1 { Ok(()) } else { Err("it does not see the write".to_owned()) }
    })
    .await;
    let shown = api.discover_at("lost", Consistency::Linearizable).await.unwrap();
    let service = v1::ServiceStatus::try_from(shown.status).unwrap();
    println!("the write refused during the partition: {service:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_cut_off_is_read_only() {
    let cluster = Cluster::start(Options { partition: true, ..Default::default() }).await;
    let follower = cluster.followers().await[0];
    a_lonely_node_is_read_only(&cluster, follower).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_is_read_only() {
    let cluster = Cluster::start(Options { partition: true, ..Default::default() }).await;
    let leader = cluster.leader().await;
    a_lonely_node_is_read_only(&cluster, leader).await;
    assert!(cluster.leader().await < 3, "there is a leader after healing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_never_goes_back_though_one_of_its_nodes_is_cut_off() {
    let cluster = Cluster::start(Options { partition: true, ..Default::default() }).await;
    let followers = cluster.followers().await;
    let seeds = [followers[0], followers[1]].map(|index| cluster.nodes[index].endpoint());
    let client = Client::builder().seeds(seeds).discover_members(false).build().expect("endpoints");
    wait::until_true("the client to know both nodes", wait::PATIENCE, || async {
        client.connected_endpoints().len() == 2
    })
    .await;
    client.register(registration("orders", "127.0.0.1", 1)).await.expect("a healthy cluster registers");
    cluster.caught_up(followers[0]).await;
    cluster.partition.as_ref().unwrap().isolate(followers[0]);

    // Reads may be as stale as they like, and any of the two nodes is asked, in no order.
    let mut newest = 0;
    for port in 2..=15 {
        wait::until("a write", wait::PATIENCE, || client.register(registration("orders", "127.0.0.1", port)))
            .await;
        let read = || {
            client.discover(v1::ServiceDiscoveryRequest {
                service_name: "orders".into(),
                consistency: Consistency::Stale.into(),
                ..Default::default()
            })
        };
        let answer = wait::until("a stale read", wait::PATIENCE, read).await;
        let revision = answer.header.unwrap().revision;
        assert!(revision >= newest, "revision {revision} after {newest}");
        newest = revision;
        assert_eq!(answer.instances.len(), port as usize, "it has not read what it wrote");
    }
}
