//! `watch`: one list, however many streams it takes.

use std::collections::VecDeque;

use registry_proto::v1::{self, WatchKind};

use crate::mock::{EPOCH, Manners, Mock};
use crate::program::{Program, registryctl};

fn at(kind: WatchKind, revision: u64) -> v1::WatchResponse {
    v1::WatchResponse { kind: kind.into(), revision, ..Default::default() }
}

fn instance(port: u32) -> v1::Instance {
    v1::Instance {
        instance_id: format!("127.0.0.1:{port}"),
        host: "127.0.0.1".into(),
        port,
        state: v1::InstanceState::Up.into(),
        weight: Some(100),
        namespace: "default".into(),
        service_name: "orders".into(),
        ..Default::default()
    }
}

fn added(revision: u64, port: u32) -> v1::WatchResponse {
    let event = v1::InstanceEvent {
        kind: v1::EventKind::Added.into(),
        cause: v1::EventCause::Registered.into(),
        instance: Some(instance(port)),
        previous: None,
    };
    let changes = v1::RevisionChanges { revision, events: vec![event], more: false };
    v1::WatchResponse { changes: vec![changes], ..at(WatchKind::Changes, revision) }
}

/// A stream that ends after one change, and one that goes on from there.
async fn interrupted() -> Mock {
    let first = vec![
        v1::WatchResponse { instances: vec![instance(7001)], ..at(WatchKind::Snapshot, 0) },
        at(WatchKind::Synced, 5),
        added(6, 7002),
        at(WatchKind::Closing, 6),
    ];
    let second = vec![at(WatchKind::Synced, 6), added(7, 7003)];
    Mock::with(Manners { watches: VecDeque::from([first, second]), ..Manners::default() }).await
}

#[tokio::test]
async fn a_watch_goes_on_where_its_stream_ended() {
    let mock = interrupted().await;
    let ended = registryctl(mock.endpoint(), &["watch", "orders", "--count", "2"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines[0], "PRESENT   default/orders/127.0.0.1:7001  UP");
    assert_eq!(lines[1], "SYNCED    up to revision 5");
    assert_eq!(lines[2], "ADDED     default/orders/127.0.0.1:7002  UP  revision 6, registered");
    assert_eq!(*lines.last().unwrap(), "ADDED     default/orders/127.0.0.1:7003  UP  revision 7, registered");
    assert_eq!(mock.calls(), ["watch orders from the start", &format!("watch orders from {EPOCH}:6")]);
}

#[tokio::test]
async fn lines_of_json_carry_the_position_to_resume_from() {
    let mock = interrupted().await;
    let ended = registryctl(mock.endpoint(), &["watch", "orders", "--count", "0", "-o", "json"]).await;
    let lines: Vec<serde_json::Value> =
        ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["kind"], "WATCH_KIND_SNAPSHOT");
    assert_eq!(lines[0]["instances"][0]["instanceId"], "127.0.0.1:7001");
    assert_eq!(lines[1]["kind"], "WATCH_KIND_SYNCED");
    assert_eq!(lines[1]["revision"], "5");
    assert_eq!(lines[1]["header"]["epoch"], EPOCH.to_string());
    assert_eq!(lines.len(), 2);
}

#[tokio::test]
async fn a_bare_revision_is_of_the_present_epoch() {
    let second = vec![at(WatchKind::Synced, 6), added(7, 7003)];
    let mock = Mock::with(Manners { watches: VecDeque::from([second]), ..Manners::default() }).await;
    let ended = registryctl(mock.endpoint(), &["watch", "orders", "--from", "6", "--count", "1"]).await;
    assert!(ended.out.ends_with("127.0.0.1:7003  UP  revision 7, registered\n"), "{ended:?}");
    assert_eq!(mock.calls(), [format!("watch orders from {EPOCH}:6")]);
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_watch_quietly() {
    let snapshot = v1::WatchResponse { instances: vec![instance(7001)], ..at(WatchKind::Snapshot, 0) };
    // More than fits into a pipe, so that the second line must be written to nobody.
    let more = (0..1_000).map(|number| added(6 + number, 7002));
    let stream: Vec<_> = [snapshot, at(WatchKind::Synced, 5)].into_iter().chain(more.take(60)).collect();
    let streams = (0..60).map(|_| stream.clone()).collect();
    let mock = Mock::with(Manners { watches: streams, ..Manners::default() }).await;
    let mut watch = Program::start(mock.endpoint(), &["watch", "orders"]);
    watch.line().await;
    watch.stop_reading();
    let ended = watch.ended().await;
    assert_eq!(ended.code, 0, "{ended:?}");
}
