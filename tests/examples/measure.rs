//! Measures a cluster of three processes on this machine, once:
//!
//! ```console
//! cargo run --release -p registry-tests --example measure
//! ```
//!
//! Registration rate with 64 clients, time per registration of one, memory per 100,000 instances, the cost
//! of doing nothing, and the time of a failover. Numbers of a busy machine mean little: run it alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use registry_client::Client;
use registry_proto::v1;
use registry_tests::api::{Api, registration};
use registry_tests::cluster::{Cluster, Options};
use registry_tests::timing::spread;
use serde_json::json;

const CLIENTS: u32 = 64;
const INSTANCES: u32 = 100_000;
const PER_SERVICE: u32 = 100;

fn request(number: u32) -> v1::ServiceRegisterRequest {
    v1::ServiceRegisterRequest {
        instance_id: format!("instance-{number}"),
        ttl: Some(prost_types::Duration::default()),
        metadata: [("data".to_owned(), "x".repeat(150))].into(),
        ..registration(&format!("service-{}", number / PER_SERVICE), "10.0.0.1", number % 65_535 + 1)
    }
}

/// CPU time of all nodes so far, in clock ticks of 10 ms.
fn cpu_ticks(cluster: &Cluster) -> u64 {
    let ticks = |pid: u32| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the node runs");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
        fields[11].parse::<u64>().expect("user time") + fields[12].parse::<u64>().expect("system time")
    };
    cluster.nodes.iter().map(|node| ticks(node.pid())).sum()
}

fn resident_mib(cluster: &Cluster) -> Vec<u64> {
    cluster.nodes.iter().map(|node| node.resident_bytes() >> 20).collect()
}

/// Registers `count` new instances through `clients` bare connections to the leader.
async fn register(leader: &str, next: &Arc<AtomicU32>, clients: u32, count: u32) -> Vec<Duration> {
    let end = next.load(Ordering::Relaxed) + count;
    let mut tasks = tokio::task::JoinSet::new();
    // Eight connections, as eight programs with eight tasks each would have.
    let apis: Vec<Api> = (0..clients.min(8)).map(|_| Api::new(leader)).collect();
    for client in 0..clients {
        let (next, api) = (next.clone(), apis[client as usize % apis.len()].clone());
        tasks.spawn(async move {
            let mut times = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return times;
                }
                let start = Instant::now();
                api.register(request(number)).await.expect("a healthy cluster registers");
                times.push(start.elapsed());
            }
        });
    }
    let times = tasks.join_all().await.into_iter().flatten().collect();
    next.store(end, Ordering::Relaxed);
    times
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

async fn failover(cluster: &mut Cluster) -> Duration {
    let leader = cluster.leader().await;
    let survivors: Vec<Api> = (0..3).filter(|node| *node != leader).map(|node| cluster.api(node)).collect();
    cluster.nodes[leader].kill();
    let start = Instant::now();
    let mut number = 0;
    let first = 'probing: loop {
        for api in &survivors {
            number += 1;
            let probe = registration("probe", "10.0.0.2", number);
            if matches!(tokio::time::timeout(Duration::from_millis(50), api.register(probe)).await, Ok(Ok(_)))
            {
                break 'probing start.elapsed();
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    cluster.start_node(leader);
    cluster.nodes[leader].ready().await;
    first
}

#[tokio::main]
async fn main() {
    // The segments of a real node, so that recycling and syncs are those of a real node.
    let file = json!({ "log": { "segment_bytes": 64 << 20 } });
    let mut cluster = Cluster::start(Options { file, ..Default::default() }).await;
    println!("empty: {:?} MiB resident per node", resident_mib(&cluster));

    let idle = Duration::from_secs(30);
    let before = cpu_ticks(&cluster);
    tokio::time::sleep(idle).await;
    let spent =
        Duration::from_millis(10) * u32::try_from(cpu_ticks(&cluster) - before).expect("not that long");
    println!("idle: {:.2} % of a core for all three nodes", spent.as_secs_f64() / idle.as_secs_f64() * 100.0);

    let leader = cluster.nodes[cluster.leader().await].endpoint();
    let next = Arc::new(AtomicU32::new(0));
    register(&leader, &next, CLIENTS, 5_000).await;
    let mut one = register(&leader, &next, 1, 1_000).await;
    let (p50, p99) = (percentile(&mut one, 50), percentile(&mut one, 99));
    println!("register, 1 client: p50 {p50:?}, p99 {p99:?}");

    let rest = INSTANCES - next.load(Ordering::Relaxed);
    let (start, cpu) = (Instant::now(), cpu_ticks(&cluster));
    let mut many = register(&leader, &next, CLIENTS, rest).await;
    let (took, cpu) = (start.elapsed(), cpu_ticks(&cluster) - cpu);
    let (p50, p99) = (percentile(&mut many, 50), percentile(&mut many, 99));
    println!(
        "register, {CLIENTS} clients at the leader: {:.0}/s, p50 {p50:?}, p99 {p99:?}, {} us of CPU of the nodes each",
        f64::from(rest) / took.as_secs_f64(),
        cpu * 10_000 / u64::from(rest),
    );
    println!("with {INSTANCES} instances: {:?} MiB resident per node", resident_mib(&cluster));

    let client = Client::connect(cluster.endpoints()).await.expect("the cluster answers");
    let read = v1::ServiceDiscoveryRequest { service_name: "service-7".into(), ..Default::default() };
    let mut reads = Vec::new();
    for _ in 0..1_000 {
        let start = Instant::now();
        client.discover(read.clone()).await.expect("the cluster answers");
        reads.push(start.elapsed());
    }
    println!("discover 100 instances, linearizable, 1 client: p50 {:?}", percentile(&mut reads, 50));

    let mut times = Vec::new();
    for _ in 0..10 {
        times.push(failover(&mut cluster).await);
    }
    let (least, median, most) = spread(&times);
    println!("failover, kill -9, 10 rounds: min {least:?}, median {median:?}, max {most:?}");
}
