//! The leader is killed or stopped under load: nothing acknowledged is lost, nobody alive is forgotten.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use registry_client::{CacheEvent, CallOptions, Client, ServiceCache};
use registry_proto::v1::{self, Consistency};
use registry_tests::api::{Api, leased, registration};
use registry_tests::cluster::{Cluster, Options};
use registry_tests::turn::Share;
use registry_tests::workload::{Writer, written};
use registry_tests::{timing, wait};

const ROUNDS: usize = 20;
const LEASES: u32 = 500;

/// Time from now until a write that begins after now is acknowledged: one is begun each 5 ms at each
/// survivor and given up after 200 ms, so that a call stuck at a dead leader measures nothing.
async fn first_write(survivors: Vec<Api>, round: usize) -> Duration {
    let start = Instant::now();
    let done = Arc::new(AtomicBool::new(false));
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let mut number = 0_u32;
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    loop {
        tokio::select! {
            took = receiver.recv() => return took.expect("the sender is kept"),
            _ = ticks.tick() => {
                for api in survivors.clone() {
                    number += 1;
                    let request = v1::ServiceRegisterRequest {
                        instance_id: format!("probe-{round}-{number}"),
                        ttl: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
                        ..registration("probe", "127.0.0.1", 1)
                    };
                    let (sender, done) = (sender.clone(), done.clone());
                    tokio::spawn(async move {
                        let answer = tokio::time::timeout(Duration::from_millis(200), api.register(request)).await;
                        if matches!(answer, Ok(Ok(_))) && !done.swap(true, Ordering::Relaxed) {
                            let _ = sender.send(start.elapsed()).await;
                        }
                    });
                }
            }
        }
    }
}

/// A view of a service that is followed through all failovers, and every revision it was told.
struct Followed {
    cache: ServiceCache,
    told: Arc<Mutex<Told>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Told {
    revisions: Vec<u64>,
    added: Vec<String>,
    resets: usize,
}

impl Followed {
    async fn start(client: &Client, service: &str) -> Self {
        let cache = client.cache(service);
        let mut events = cache.events();
        cache.synced().await.unwrap();
        let told = Arc::new(Mutex::new(Told::default()));
        let task = tokio::spawn({
            let told = told.clone();
            async move {
                while let Some(event) = events.next().await {
                    let mut told = told.lock().unwrap();
                    match event {
                        CacheEvent::Reset(_) => told.resets += 1,
                        CacheEvent::Changes { changes, .. } => {
                            told.revisions.push(changes.revision);
                            let ids = changes.events.iter().filter_map(|event| event.instance.as_ref());
                            told.added.extend(ids.map(|instance| instance.instance_id.clone()));
                        }
                        other => panic!("an event that this test does not know: {other:?}"),
                    }
                }
            }
        });
        Self { cache, told, task }
    }

    /// No gap, no duplicate: each instance that is there was told exactly once, in rising revisions.
    async fn check(self, client: &Client, present: &BTreeSet<u32>) {
        let position = client.position().expect("the client has read");
        let view = self.cache.at_least(position, wait::PATIENCE).await.unwrap();
        assert_eq!(view.len(), present.len(), "the view is complete");
        wait::until("the events of the view", wait::PATIENCE, || async {
            let told = self.told.lock().unwrap();
            let (added, resets, there) = (told.added.len(), told.resets, present.len());
            if added >= there { Ok(()) } else { Err(format!("{added} of {there} told, {resets} views")) }
        })
        .await;
        let told = self.told.lock().unwrap();
        assert!(told.revisions.windows(2).all(|pair| pair[0] < pair[1]), "revisions rise, each once");
        assert_eq!(told.added.len(), present.len(), "each instance is told once");
        assert!(told.resets <= 1, "the watch was resumed, not begun anew: {} views", told.resets);
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_killed_leaders_under_load_lose_no_write_and_expire_no_live_lease() {
    let mut cluster = Cluster::start(Options { share: Share::Whole, ..Options::default() }).await;
    let client = Client::connect(cluster.endpoints()).await.unwrap();
    let mut held = Vec::new();
    for number in 1..=LEASES {
        let request = leased("held", "127.0.0.1", number, Duration::from_secs(15));
        held.push(client.keep_registered(request).await.unwrap());
    }
    let cache = client.cache("held");
    let mut events = cache.events();
    let view = cache.synced().await.unwrap();
    assert_eq!(view.len(), LEASES as usize);
    let removed = Arc::new(AtomicUsize::new(0));
    let counting = tokio::spawn({
        let removed = removed.clone();
        async move {
            while let Some(event) = events.next().await {
                if let CacheEvent::Changes { changes, .. } = event {
                    let gone = changes.events.iter().filter(|event| event.kind() == v1::EventKind::Removed);
                    removed.fetch_add(gone.count(), Ordering::Relaxed);
                }
            }
        }
    });

    let followed = Followed::start(&client, "written").await;
    let writer = Writer::start(client.clone(), "written", 200);
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let goal = writer.acknowledged() + 50;
        wait::until_true("the load to flow", wait::PATIENCE, || async { writer.acknowledged() >= goal })
            .await;
        let leader = cluster.leader().await;
        let survivors = (0..3).filter(|index| *index != leader).map(|index| cluster.api(index)).collect();
        cluster.nodes[leader].kill();
        times.push(first_write(survivors, round).await);
        cluster.start_node(leader);
        cluster.nodes[leader].ready().await;
    }
    let record = writer.finish().await;
    let (least, median, most) = timing::spread(&times);
    println!("time to the first new write after kill -9 of the leader, {ROUNDS} rounds:");
    println!("  min {least:?}, median {median:?}, max {most:?}");
    timing::assert_within("the median failover", median, Duration::from_secs(1));

    // The calls went through the library's retries.
    assert!(
        record.failed.is_empty(),
        "{} of the library's calls failed: {:?}",
        record.failed.len(),
        record.failed.first()
    );
    let mut present = BTreeSet::new();
    let mut token = String::new();
    loop {
        let request = v1::ServiceDiscoveryRequest {
            service_name: "written".into(),
            page_size: 5_000,
            page_token: token,
            ..Default::default()
        };
        let page = client.discover(request).await.unwrap();
        present.extend(written(&page.instances));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let lost: Vec<_> = record.acknowledged.difference(&present).collect();
    assert!(lost.is_empty(), "{} acknowledged, lost: {lost:?}", record.acknowledged.len());

    followed.check(&client, &present).await;

    let shown = client.with(CallOptions::new().consistency(Consistency::Linearizable));
    let request = v1::ServiceDiscoveryRequest { service_name: "held".into(), ..Default::default() };
    assert_eq!(shown.discover(request).await.unwrap().instances.len(), LEASES as usize);
    assert_eq!(removed.load(Ordering::Relaxed), 0, "no live lease expired");
    assert_eq!(cache.view().len(), LEASES as usize);
    println!("{} writes acknowledged, none lost; {LEASES} leases held", record.acknowledged.len());
    counting.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_stopped_hands_over_and_no_call_of_the_library_fails() {
    let mut cluster = Cluster::start(Options::default()).await;
    let client = Client::connect(cluster.endpoints()).await.unwrap();
    for _ in 0..3 {
        let writer = Writer::start(client.clone(), "written", 100);
        let reading = Arc::new(AtomicBool::new(true));
        let reads = tokio::spawn({
            let (client, reading) = (client.clone(), reading.clone());
            async move {
                let mut failed = Vec::new();
                let mut count = 0;
                while reading.load(Ordering::Relaxed) {
                    let request = v1::ServiceDiscoveryRequest {
                        service_name: "written".into(),
                        page_size: 1,
                        ..Default::default()
                    };
                    if let Err(error) = client.discover(request).await {
                        failed.push(error.to_string());
                    }
                    count += 1;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                (count, failed)
            }
        });
        wait::until_true("the load to flow", wait::PATIENCE, || async { writer.acknowledged() >= 50 }).await;
        let leader = cluster.leader().await;
        let status = cluster.nodes[leader].stop().await;
        assert!(status.success(), "an orderly stop ends with 0: {status}");
        let goal = writer.acknowledged() + 50;
        wait::until_true("the load to go on", wait::PATIENCE, || async { writer.acknowledged() >= goal })
            .await;
        reading.store(false, Ordering::Relaxed);
        let record = writer.finish().await;
        let (count, failed) = reads.await.unwrap();
        assert!(record.failed.is_empty(), "writes failed: {:?}", record.failed);
        assert!(failed.is_empty(), "{} of {count} reads failed: {:?}", failed.len(), failed.first());
        let log = cluster.nodes[leader].log_text();
        assert!(log.contains("leadership"), "the log tells of the hand-over");
        cluster.start_node(leader);
        cluster.nodes[leader].ready().await;
    }
}
