//! A disk that fails ends its node at once, with the reason and the exit code for it; the others go on
//! (P/W5, P/N10).

use registry_proto::v1::Consistency;
use registry_tests::api::{Api, registration};
use registry_tests::cluster::{Cluster, Options};
use registry_tests::wait;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// Exit code for input and output that failed.
const IO: i32 = 74;
/// Position in a file from which on every write fails: in the middle of a segment of the log.
const FAILS_FROM: u64 = 1 << 20;

async fn write(api: &Api, port: u32) -> Result<(), String> {
    let answer = api.register(registration("orders", "127.0.0.1", port)).await;
    answer.map(drop).map_err(|status| status.to_string())
}

/// Writes until the node has ended; returns the ports that were acknowledged, and its exit code.
async fn write_until_it_ends(
    cluster: &mut Cluster,
    failing: usize,
    next: &mut u32,
) -> (Vec<u32>, Option<i32>) {
    let api = cluster.api((failing + 1) % 3);
    let mut acknowledged = Vec::new();
    // A write is a page of 4 KiB at least: 256 of them reach the place.
    while !cluster.nodes[failing].has_ended() {
        assert!(*next < 3_000, "the node lives on although its log cannot be written");
        *next += 1;
        if write(&api, *next).await.is_ok() {
            acknowledged.push(*next);
        }
    }
    (acknowledged, cluster.nodes[failing].exited().await.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_disk_fails_ends_at_once_and_nothing_is_lost() {
    let mut cluster = Cluster::prepare(Options::default()).await;
    for node in &mut cluster.nodes {
        // Else the signal ends the process before it sees the error.
        let ignoring = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"];
        node.set_launcher(ignoring.map(String::from).to_vec());
    }
    cluster.start_all();
    cluster.ready().await;
    let mut port = 0;
    let mut acknowledged = Vec::new();
    for failing in [cluster.followers().await[0], cluster.leader().await] {
        let pid = Pid::from_raw(i32::try_from(cluster.nodes[failing].pid()).unwrap());
        let limit = Rlimit { current: Some(FAILS_FROM), maximum: None };
        prlimit(pid, Resource::Fsize, limit).unwrap();
        let (written, code) = write_until_it_ends(&mut cluster, failing, &mut port).await;
        acknowledged.extend(written);
        let log = cluster.nodes[failing].log_text();
        let last = log.lines().last().unwrap_or_default();
        assert_eq!(code, Some(IO), "{last}");
        assert!(
            last.contains("log or snapshot failed") && last.contains("disk"),
            "the last line says why: {last}"
        );
        let api = cluster.api((failing + 1) % 3);
        port += 1;
        wait::until("the others to go on", wait::PATIENCE, || write(&api, port)).await;
        acknowledged.push(port);
        // Started again on a disk that works, it has what it had, and gets the rest.
        cluster.start_node(failing);
        cluster.nodes[failing].ready().await;
    }
    for index in 0..3 {
        let answer = cluster.api(index).discover_at("orders", Consistency::Linearizable).await.unwrap();
        let present: Vec<u32> = answer.instances.iter().map(|instance| instance.port).collect();
        let lost: Vec<_> = acknowledged.iter().filter(|port| !present.contains(*port)).collect();
        assert!(lost.is_empty(), "node {index}: acknowledged and lost: {lost:?}");
    }
}
