//! Watches lose nothing and say when they must begin anew.

use std::collections::BTreeMap;
use std::time::Duration;

use registry_proto::v1::{self, WatchKind};
use registry_tests::api::{Api, reason, registration};
use registry_tests::cluster::{Cluster, Options};
use registry_tests::wait;
use serde_json::json;
use tonic::{Status, Streaming};

fn permanent(service: &str, port: u32) -> v1::ServiceRegisterRequest {
    v1::ServiceRegisterRequest {
        ttl: Some(prost_types::Duration::default()),
        ..registration(service, "127.0.0.1", port)
    }
}

fn orders(resume: Option<v1::Position>) -> v1::WatchRequest {
    v1::WatchRequest { service_name: "orders".into(), resume, ..Default::default() }
}

async fn next(stream: &mut Streaming<v1::WatchResponse>) -> Result<v1::WatchResponse, Status> {
    let message = tokio::time::timeout(wait::PATIENCE, stream.message()).await.expect("a message in time")?;
    message.ok_or_else(|| Status::unknown("the stream ended without a word"))
}

/// What a reader knows, built from the messages alone.
#[derive(Default)]
struct View {
    instances: BTreeMap<String, v1::Instance>,
    collected: BTreeMap<String, v1::Instance>,
    epoch: u64,
    revision: u64,
    revisions: Vec<u64>,
    kinds: Vec<WatchKind>,
}

impl View {
    fn take(&mut self, message: &v1::WatchResponse) {
        if let Some(header) = &message.header {
            self.epoch = header.epoch;
        }
        self.kinds.push(message.kind());
        match message.kind() {
            WatchKind::Snapshot => {
                let found =
                    message.instances.iter().map(|instance| (instance.instance_id.clone(), instance.clone()));
                self.collected.extend(found);
            }
            WatchKind::Synced => {
                if self.kinds.contains(&WatchKind::Snapshot) || self.instances.is_empty() {
                    self.instances = std::mem::take(&mut self.collected);
                }
                self.kinds.clear();
            }
            WatchKind::Changes => {
                for changes in &message.changes {
                    self.revisions.push(changes.revision);
                    for event in &changes.events {
                        let instance = event.instance.clone().expect("an event has its instance");
                        if event.kind() == v1::EventKind::Removed {
                            assert!(self.instances.remove(&instance.instance_id).is_some(), "it was there");
                        } else {
                            self.instances.insert(instance.instance_id.clone(), instance);
                        }
                    }
                }
            }
            _ => {}
        }
        assert!(message.revision == 0 || message.revision >= self.revision, "revisions never fall");
        self.revision = self.revision.max(message.revision);
    }

    async fn until(&mut self, stream: &mut Streaming<v1::WatchResponse>, revision: u64) {
        while self.revision < revision {
            let message = next(stream).await.expect("the watch goes on");
            self.take(&message);
        }
    }
}

async fn write(api: &Api, ports: std::ops::RangeInclusive<u32>) -> u64 {
    let mut revision = 0;
    for port in ports {
        revision = api.register(permanent("orders", port)).await.unwrap().header.unwrap().revision;
    }
    revision
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_resumed_at_another_node_after_a_killed_leader_misses_and_repeats_nothing() {
    let mut cluster = Cluster::start(Options::default()).await;
    let leader = cluster.leader().await;
    let survivors: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    let first = write(&cluster.api(leader), 1..=5).await;
    let mut view = View::default();
    let mut stream = cluster.api(leader).watch(orders(None)).await.unwrap();
    view.until(&mut stream, first).await;
    assert_eq!(view.instances.len(), 5);
    let second = write(&cluster.api(survivors[0]), 6..=10).await;
    view.until(&mut stream, second).await;

    cluster.nodes[leader].kill();
    let third = wait::until("a write after the failover", wait::PATIENCE, || async {
        let answer = cluster.api(survivors[0]).register(permanent("orders", 11)).await;
        answer.map(|answer| answer.header.unwrap().revision).map_err(|status| status.to_string())
    })
    .await;
    let position = Some(v1::Position { epoch: view.epoch, revision: view.revision });
    let mut stream = cluster.api(survivors[1]).watch(orders(position)).await.unwrap();
    view.until(&mut stream, third).await;
    assert_eq!(view.instances.len(), 11);
    let mut unique = view.revisions.clone();
    unique.dedup();
    assert_eq!(unique, view.revisions, "no revision twice");
    assert!(view.revisions.windows(2).all(|pair| pair[0] < pair[1]));

    // The view equals Discover at the same revision (W3).
    let shown = cluster.api(survivors[0]).discover_at("orders", v1::Consistency::Linearizable).await.unwrap();
    let shown: Vec<_> = shown.instances;
    assert_eq!(shown, view.instances.into_values().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_that_are_no_use_are_answered_explicitly() {
    // A history so short that the first revisions leave it soon.
    let settings = json!({ "history": { "events": 100 } });
    let cluster = Cluster::start(Options { settings, ..Options::waiting() }).await;
    let api = cluster.api(1);
    let last = write(&api, 1..=300).await;
    let epoch = api.status(true).await.unwrap().epoch;

    // Too old: COMPACTED and a snapshot, or an error with changes_only.
    let old = Some(v1::Position { epoch, revision: 1 });
    let mut stream = api.watch(orders(old)).await.unwrap();
    let message = next(&mut stream).await.unwrap();
    assert_eq!(message.kind(), WatchKind::Compacted);
    assert!(message.oldest_revision > 1 && message.oldest_revision <= last);
    let mut view = View::default();
    view.until(&mut stream, last).await;
    assert_eq!(view.instances.len(), 300);
    assert_eq!(
        failure(&api, v1::WatchRequest { changes_only: true, ..orders(old) }).await,
        "REVISION_COMPACTED"
    );

    // Another epoch.
    let other = Some(v1::Position { epoch: epoch ^ 1, revision: last });
    let mut stream = api.watch(orders(other)).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap().kind(), WatchKind::EpochChanged);
    assert_eq!(
        failure(&api, v1::WatchRequest { changes_only: true, ..orders(other) }).await,
        "EPOCH_CHANGED"
    );

    // The future.
    let future = Some(v1::Position { epoch, revision: last + 1_000 });
    assert_eq!(failure(&api, orders(future)).await, "FUTURE_REVISION");

    // Within history, at every node.
    for index in 0..3 {
        let recent = Some(v1::Position { epoch, revision: last - 10 });
        let mut stream = cluster.api(index).watch(orders(recent)).await.unwrap();
        let mut view = View { revision: last - 10, ..Default::default() };
        view.until(&mut stream, last).await;
        assert_eq!(view.revisions.len(), 10, "node {index}");
    }
}

/// The reason with which a watch ends.
async fn failure(api: &Api, request: v1::WatchRequest) -> String {
    let mut stream = match api.watch(request).await {
        Ok(stream) => stream,
        Err(status) => return reason(&status),
    };
    loop {
        match next(&mut stream).await {
            Ok(_) => {}
            Err(status) => return reason(&status),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_is_cut_and_others_see_nothing_of_it() {
    let cluster = Cluster::start(Options::default()).await;
    let node = cluster.followers().await[0];
    let api = cluster.api(node);
    write(&api, 1..=1).await;
    let big = |port: u32, generation: u32| v1::ServiceRegisterRequest {
        metadata: [("data".to_owned(), format!("{generation:04}").repeat(1_500))].into(),
        ..permanent("orders", port)
    };
    let mut honest = api.watch(orders(None)).await.unwrap();
    // On a connection of its own: the flow control of one connection is shared by its streams.
    let mut stuck = cluster.api(node).watch(orders(None)).await.unwrap();
    assert_eq!(next(&mut stuck).await.unwrap().kind(), WatchKind::Snapshot);
    let mut view = View::default();
    let writer = cluster.api(cluster.leader().await);
    let before = cluster.nodes[node].resident_bytes();
    let mut last = 0;
    // 7 MB of events with their previous values: more than the windows of connection and stream and the
    // queue hold.
    for generation in 0..600 {
        last = writer.register(big(1, generation)).await.unwrap().header.unwrap().revision;
        if generation % 50 == 0 {
            view.until(&mut honest, last).await;
        }
    }
    view.until(&mut honest, last).await;
    let mut ended = None;
    while ended.is_none() {
        match next(&mut stuck).await {
            Ok(message) if message.kind() == WatchKind::Resync => ended = Some("RESYNC".to_owned()),
            Ok(_) => {}
            Err(status) => ended = Some(reason(&status)),
        }
    }
    assert!(
        matches!(ended.as_deref(), Some("RESYNC" | "WATCH_RESYNC")),
        "the stuck reader was told {ended:?}"
    );
    let after = cluster.nodes[node].resident_bytes();
    println!("resident memory of the node: {} MiB, then {} MiB", before >> 20, after >> 20);
    // The history itself may take its 64 MiB; queues without bound would show far more.
    assert!(after < before + (160 << 20), "memory grew from {before} to {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_watch_gets_bookmarks_with_the_age_of_the_data() {
    let cluster = Cluster::start(Options::waiting()).await;
    let request = v1::WatchRequest {
        bookmark_interval: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..orders(None)
    };
    let mut stream = cluster.api(2).watch(request).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap().kind(), WatchKind::Synced, "an empty view has no snapshot");
    let bookmark = next(&mut stream).await.unwrap();
    assert_eq!(bookmark.kind(), WatchKind::Bookmark);
    let age = bookmark.header.unwrap().staleness.expect("a bookmark has the age");
    assert!(Duration::try_from(age).unwrap() < Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_only_this_node_has_not_reached_is_waited_for() {
    let cluster = Cluster::start(Options::waiting()).await;
    let late = cluster.followers().await[0];
    write(&cluster.api(late), 1..=1).await;
    cluster.nodes[late].signal(rustix::process::Signal::STOP);
    let last = write(&cluster.api(cluster.leader().await), 2..=20).await;
    cluster.nodes[late].signal(rustix::process::Signal::CONT);
    // At once, while it still has those entries to catch up with.
    let epoch = cluster.api(cluster.leader().await).status(true).await.unwrap().epoch;
    let position = Some(v1::Position { epoch, revision: last });
    let mut stream = cluster.api(late).watch(orders(position)).await.unwrap();
    let message = next(&mut stream).await.unwrap();
    assert_eq!((message.kind(), message.revision), (WatchKind::Synced, last));
    let next_revision = write(&cluster.api(late), 21..=21).await;
    let mut view = View { revision: last, ..Default::default() };
    view.until(&mut stream, next_revision).await;
    assert_eq!(view.revisions, [next_revision]);
}
