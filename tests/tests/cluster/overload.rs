//! Three times the load that the machine can carry: what matters goes on, the rest is told to come later
//! (P/O1).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use registry_client::{Client, Registration};
use registry_proto::v1::{self, Consistency, ErrorReason};
use registry_tests::api::{leased, registration};
use registry_tests::cluster::{Cluster, Options};
use registry_tests::storm::{Kind, Storm, Tally};
use registry_tests::timing::assert_within;
use registry_tests::turn::Share;
use registry_tests::wait;
use serde_json::json;

/// How long it storms; `OVERLOAD_SECONDS` sets another time.
fn storm_time() -> Duration {
    let seconds = std::env::var("OVERLOAD_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(15))
}

/// Memory that a node may take for the storm: calls under way, their answers, the log in memory.
const MEMORY: u64 = 384 << 20;

/// Owners of one lease each, of 5 to 15 s, through clients of the library.
struct Honest {
    clients: Vec<Client>,
    registrations: Vec<Registration>,
}

impl Honest {
    async fn register(cluster: &Cluster) -> Self {
        let mut honest = Self { clients: Vec::new(), registrations: Vec::new() };
        for number in 0..5 {
            let client = Client::connect(cluster.endpoints()).await.expect("the cluster answers");
            for port in 1..=10 {
                let ttl = Duration::from_secs(5 + u64::from(port));
                let request = leased(&format!("honest-{number}"), "10.0.0.1", port, ttl);
                honest.registrations.push(client.keep_registered(request).await.expect("it is calm"));
            }
            honest.clients.push(client);
        }
        honest
    }

    fn check(&self) {
        for client in &self.clients {
            let metrics = client.metrics();
            assert_eq!(
                (metrics.leases_lost, metrics.reregistrations),
                (0, 0),
                "an honest client lost a lease"
            );
        }
        for one in &self.registrations {
            assert!(!one.status().is_final(), "{}", one.status());
        }
    }
}

/// Calls shed by all nodes, by class.
async fn shed(cluster: &Cluster) -> BTreeMap<String, f64> {
    let mut shed = BTreeMap::new();
    for node in &cluster.nodes {
        let text = wait::until("metrics", wait::PATIENCE, || node.http("/metrics")).await;
        for line in text.lines().filter(|line| line.starts_with("registry_calls_shed_total{")) {
            let (labels, value) = line.rsplit_once(' ').expect("a value");
            let class = labels.split('"').nth(1).expect("a class").to_owned();
            *shed.entry(class).or_default() += value.parse::<f64>().expect("a number");
        }
    }
    shed
}

/// Deregistrations while it storms: never shed, though an answer may come too late on a machine that gives
/// the nodes no time. Gives how many were answered.
async fn relieve(client: &Client, until: Instant) -> u32 {
    let (mut number, mut answered) = (0, 0);
    while Instant::now() < until {
        number += 1;
        let request = v1::ServiceDeregisterRequest {
            service_name: "absent".into(),
            host: "10.0.0.1".into(),
            port: number,
            ..Default::default()
        };
        match client.deregister(request).await {
            Ok(_) => answered += 1,
            Err(error) => {
                assert!(!error.is(ErrorReason::Overloaded), "deregistrations are not shed: {error}")
            }
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    answered
}

/// Waits until each kind of call has an answer at once again, at every node.
async fn recovered(cluster: &Cluster) {
    for (index, node) in cluster.nodes.iter().enumerate() {
        let api = node.api();
        wait::until(&format!("node {index} to be well"), wait::PATIENCE, || async {
            let begun = Instant::now();
            for consistency in [Consistency::Stale, Consistency::Linearizable] {
                api.discover_at("storm-1", consistency).await.map_err(|status| status.to_string())?;
            }
            api.register(registration("after", "10.0.0.1", 1)).await.map_err(|status| status.to_string())?;
            let took = begun.elapsed();
            if took < Duration::from_millis(500) { Ok(()) } else { Err(format!("it took {took:?}")) }
        })
        .await;
    }
}

fn print(what: &str, tally: &Tally) {
    println!(
        "{what}: {:.0}/s sent, {:.0}/s answered, {} unsent; stale {:?}, linearizable {:?}, register {:?}; {:?}",
        tally.sent_per_second(),
        tally.answered_per_second(),
        tally.unsent,
        tally.of(Kind::Stale),
        tally.of(Kind::Linearizable),
        tally.of(Kind::Register),
        tally.failure,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn under_three_times_the_load_no_lease_is_lost_and_stale_reads_are_shed_first() {
    // Little of what grows with the load by design, so that what grows otherwise is seen.
    let file = json!({
        "log": { "segment_bytes": 4 << 20, "reserve_bytes": 8 << 20, "cache_bytes": 4 << 20 },
        "snapshot": { "min_bytes": 16 << 20 },
    });
    let settings = json!({ "history": { "bytes": 1 << 20 } });
    let mut cluster =
        Cluster::prepare(Options { file, settings, share: Share::Whole, ..Default::default() }).await;
    // The nodes share one core, the load has the other: else it could not be three times as much.
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
        for node in &mut cluster.nodes {
            node.set_launcher(["taskset", "--cpu-list", "0"].map(String::from).to_vec());
        }
    }
    cluster.start_all();
    cluster.ready().await;
    let honest = Honest::register(&cluster).await;
    let client = Client::connect(cluster.endpoints()).await.expect("the cluster answers");

    let calm = Storm::closed(cluster.endpoints(), 32);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let calm = calm.finish();
    print("32 callers", &calm);
    let capacity = calm.answered_per_second();
    let before: Vec<u64> = cluster.nodes.iter().map(|node| node.resident_bytes()).collect();
    let shed_before = shed(&cluster).await;

    let storm = Storm::open(cluster.endpoints(), 3.0 * capacity);
    let relieved = relieve(&client, Instant::now() + storm_time()).await;
    let after: Vec<u64> = cluster.nodes.iter().map(|node| node.resident_bytes()).collect();
    let storm = storm.finish();
    let calm_again = Instant::now();
    recovered(&cluster).await;
    assert_within("recovery", calm_again.elapsed(), Duration::from_secs(5));
    print("three times as much", &storm);
    let shed = shed(&cluster).await;
    println!(
        "shed before {shed_before:?}, after {shed:?}; {relieved} deregistrations; {after:?} bytes resident"
    );

    honest.check();
    assert!(relieved > 0, "no deregistration was answered");
    let expired: f64 = futures::future::join_all(
        cluster
            .nodes
            .iter()
            .map(|node| async { node.metric("registry_leases_expired_total").await.unwrap_or(0.0) }),
    )
    .await
    .iter()
    .sum();
    assert_eq!(expired, 0.0, "no lease expired");
    let [stale, linearizable, register] =
        [Kind::Stale, Kind::Linearizable, Kind::Register].map(|kind| storm.of(kind).shed_share());
    // Not more: a registration that was passed on is weighed twice, here and at the leader, so its share
    // may be that of reads. The order of all classes is tested in `request/admit.rs`.
    assert!(
        stale > linearizable && stale > register,
        "stale reads are shed first: {stale}, then {linearizable} and {register}"
    );
    for class in ["relief", "renewal", "status"] {
        assert_eq!(shed.get(class), None, "{class} is not shed");
    }
    for (before, after) in before.iter().zip(&after) {
        assert!(after - before.min(after) < MEMORY, "{before} bytes before, {after} after");
    }
}
