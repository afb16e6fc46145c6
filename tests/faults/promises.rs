//! The test: load, watchers and faults against three nodes, then calm, then every checker.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use registry_tests::admin::Admin;
use registry_tests::check::{Answer, History, Outcome, Recorder, violations};
use registry_tests::cluster::{Cluster, Options};
use registry_tests::timing::spread;
use registry_tests::wait;
use serde_json::json;

use crate::clients::{Clients, TTL};
use crate::nemesis::{self, Made, counts};
use crate::watchers::Watchers;

/// Faults of a round. A history is kept in memory, so a longer run has more rounds instead of longer ones.
const ROUND: Duration = Duration::from_secs(60);
/// How much later than promised an expiry or a bookmark may come on a busy machine.
const LATE: Duration = Duration::from_secs(3);
/// How long the clients go on after the last fault.
const CALM_LOAD: Duration = Duration::from_secs(3);
/// After which every lease must be gone: its time to live, the 2 s of the promise, and the lateness above.
const LAST_EXPIRY: Duration = Duration::from_secs(TTL.as_secs() + 2 + LATE.as_secs() + 1);

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_promise_holds_under_kills_pauses_and_partitions() {
    let seconds = from_environment("FAULT_SECONDS").unwrap_or(ROUND.as_secs());
    let seed = from_environment("FAULT_SEED").unwrap_or_else(|| rand::rng().random());
    println!("{seconds} s of faults, FAULT_SEED={seed}");
    let mut left = Duration::from_secs(seconds);
    let (mut made, mut failovers) = (Vec::new(), Vec::new());
    let mut round = 0;
    while !left.is_zero() {
        let time = left.min(ROUND);
        let (history, faults) = run(time, seed.wrapping_add(round)).await;
        println!("round {round}: {}", describe(&history));
        let judged = Instant::now();
        let violations = violations(&history, LATE);
        println!("judged in {:?}", judged.elapsed());
        let lines: Vec<String> = violations.iter().take(20).map(ToString::to_string).collect();
        assert!(lines.is_empty(), "{} broken promises, the first:\n{}", violations.len(), lines.join("\n"));
        failovers.extend(faults.iter().filter_map(|fault| failover(&history, fault)));
        made.extend(faults);
        left -= time;
        round += 1;
    }
    println!("{} faults: {:?}", made.len(), counts(&made));
    if !failovers.is_empty() {
        let (least, median, most) = spread(&failovers);
        let count = failovers.len();
        failovers.sort();
        let slow = failovers[count * 9 / 10];
        println!("{count} failovers: min {least:?}, median {median:?}, 90 % {slow:?}, max {most:?}");
    }
}

/// One round: its history and its faults.
async fn run(time: Duration, seed: u64) -> (History, Vec<Made>) {
    let mut dice = StdRng::seed_from_u64(seed);
    let file = json!({
        "log": { "segment_bytes": 4 << 20 },
        // So small that nodes come back by snapshots too.
        "snapshot": { "min_bytes": 128 << 10 },
        "raft": { "election_timeout_min": 150, "election_timeout_max": 300, "heartbeat_interval": 50,
                  "max_in_snapshot_log_to_keep": 200 },
    });
    let mut cluster = Cluster::start(Options { partition: true, file, ..Default::default() }).await;
    let begin = Instant::now();
    let recorder = Recorder::new(move || begin.elapsed());
    let nodes: Vec<_> = cluster.nodes.iter().map(|node| (node.name.clone(), node.api())).collect();
    let watchers = Watchers::start(&recorder, &nodes, &["service-0", "service-1", "owned"], seed).await;
    let clients = Clients::start(&recorder, cluster.endpoints(), seed).await;
    let made = nemesis::rage(&mut cluster, &recorder, time, &mut dice).await;

    cluster.leader().await;
    recorder.calm();
    tokio::time::sleep(CALM_LOAD).await;
    clients.finish().await;
    tokio::time::sleep(LAST_EXPIRY).await;
    same_states(&cluster, &recorder).await;
    let history = recorder.history();
    watchers.finish().await;
    (history, made)
}

/// Records the hash of every node's state after the same last entry.
async fn same_states(cluster: &Cluster, recorder: &Recorder) {
    let told = wait::until("all nodes to have applied the same entries", wait::PATIENCE, || async {
        let mut told = Vec::new();
        for node in &cluster.nodes {
            let status = Admin::new(&node.peer_endpoint()).status_with_hash().await;
            let status = status.map_err(|status| status.to_string())?;
            let applied = status.raft.and_then(|raft| raft.applied).map_or(0, |applied| applied.index);
            told.push((node.name.clone(), applied, status.state_hash));
        }
        let same = told.iter().all(|(_, applied, _)| *applied == told[0].1);
        if same { Ok(told) } else { Err(format!("{told:?}")) }
    })
    .await;
    for (node, index, hash) in told {
        recorder.hash(&node, index, hash.to_vec());
    }
}

/// The time from a fault that takes the leader to the end of the first write that began after it.
fn failover(history: &History, made: &Made) -> Option<Duration> {
    if !made.fault.takes_the_leader(made.to - made.from) {
        return None;
    }
    let writes = history.operations.iter().filter(|call| {
        let wrote = matches!(call.answer(), Some(Answer::Registered(_) | Answer::Deregistered(_)));
        wrote && call.invoked >= made.from
    });
    writes.filter_map(|call| call.ended).min().map(|ended| ended - made.from)
}

fn describe(history: &History) -> String {
    let count =
        |holds: fn(&Outcome) -> bool| history.operations.iter().filter(|call| holds(&call.outcome)).count();
    let messages: usize = history.watches.iter().map(|watch| watch.messages.len()).sum();
    format!(
        "{} calls ({} answered, {} refused, {} unknown), {} streams of watches with {messages} messages",
        history.operations.len(),
        count(|outcome| matches!(outcome, Outcome::Answered(_))),
        count(|outcome| matches!(outcome, Outcome::Refused(_))),
        count(|outcome| matches!(outcome, Outcome::Unknown(_))),
        history.watches.len(),
    )
}
