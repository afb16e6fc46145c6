use futures::FutureExt;
use registry_proto::v1;
use tokio::time::{advance, timeout};
use tonic::Code;

use self::reader::Reader;
use super::*;
use crate::error::reason_of;
use crate::server::convert::Scope;
use crate::testbed::{Testbed, founded, register};

#[path = "session_property_test.rs"]
mod property;
#[path = "session_reader_test.rs"]
mod reader;

fn service(name: &str) -> Scope {
    Scope::Service { namespace: "default".into(), service_name: name.into() }
}

const OPTIONS: Options = Options { changes_only: false, bookmark_interval: Duration::from_secs(10) };

fn open(testbed: &Arc<Testbed>, scope: Scope, options: Options, begin: Begin) -> Session {
    let subscription = testbed.hub.subscribe(scope, true).unwrap();
    Session::new(subscription, testbed.clone(), options, begin)
}

fn snapshot(testbed: &Arc<Testbed>, scope: Scope) -> Session {
    let begin = Begin::Snapshot(Source::published(testbed.as_ref()));
    open(testbed, scope, OPTIONS, begin)
}

fn after(testbed: &Arc<Testbed>, scope: Scope, revision: u64) -> Session {
    open(testbed, scope, OPTIONS, Begin::After { epoch: 42, revision })
}

/// Reads all that is there now.
async fn drain(session: &mut Session, reader: &mut Reader) -> Option<Status> {
    loop {
        match timeout(Duration::from_millis(1), session.next()).await {
            Err(_) => return None,
            Ok(None) => return None,
            Ok(Some(Ok(message))) => reader.read(message),
            Ok(Some(Err(status))) => return Some(status),
        }
    }
}

async fn read(session: &mut Session) -> (Reader, Option<Status>) {
    let mut reader = Reader::default();
    let status = drain(session, &mut reader).await;
    (reader, status)
}

fn reason(status: Option<Status>) -> Option<v1::ErrorReason> {
    status.as_ref().and_then(reason_of)
}

#[tokio::test(start_paused = true)]
async fn a_watch_begins_with_what_is_there_and_goes_on_with_what_changes() {
    let testbed = Testbed::new(1_000);
    testbed.register("a", "1", 0);
    testbed.register("b", "1", 0);
    let mut session = snapshot(&testbed, service("a"));
    let (mut reader, _) = read(&mut session).await;
    assert_eq!(reader.kinds, [WatchKind::Snapshot, WatchKind::Synced]);
    assert_eq!(reader.revision, 2);
    testbed.register("b", "2", 0);
    testbed.register("a", "2", 0);
    testbed.apply(register("a", "1", 0, "zone"));
    testbed.deregister("a", "2");
    drain(&mut session, &mut reader).await;
    assert_eq!(reader.kinds[2..], [WatchKind::Changes]);
    assert_eq!(reader.revision, 6);
    reader.agrees(&testbed.state(), &service("a"));
}

#[tokio::test(start_paused = true)]
async fn an_empty_view_has_no_snapshot_message() {
    let testbed = Testbed::new(1_000);
    let (reader, _) = read(&mut snapshot(&testbed, service("nobody"))).await;
    assert_eq!(reader.kinds, [WatchKind::Synced]);
}

#[tokio::test(start_paused = true)]
async fn a_large_snapshot_comes_in_messages_of_less_than_a_mebibyte() {
    let testbed = Testbed::new(100_000);
    let zone = "z".repeat(250);
    for id in 0..6_000 {
        testbed.apply(register(&format!("n{}/s{}", id % 3, id % 7), &id.to_string(), 0, &zone));
    }
    for scope in [Scope::All, Scope::Namespace("n1".into())] {
        let (reader, _) = read(&mut snapshot(&testbed, scope.clone())).await;
        reader.agrees(&testbed.state(), &scope);
        if scope == Scope::All {
            assert!(reader.kinds.len() > 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_resumes_with_exactly_what_came_after() {
    let testbed = Testbed::new(1_000);
    for id in 0..10 {
        testbed.register("a", &id.to_string(), 0);
    }
    let mut session = after(&testbed, service("a"), 7);
    let (reader, _) = read(&mut session).await;
    assert_eq!(reader.kinds, [WatchKind::Changes, WatchKind::Synced]);
    let added: Vec<u64> = reader.view.values().copied().collect();
    assert_eq!(added, [8, 9, 10]);
    testbed.register("a", "new", 0);
    let mut more = Reader { revision: 10, headed: true, synced: true, ..Reader::default() };
    drain(&mut session, &mut more).await;
    assert_eq!(more.revision, 11);
}

#[tokio::test(start_paused = true)]
async fn a_position_that_is_too_old_heals_by_a_snapshot_or_ends_the_stream() {
    let testbed = Testbed::new(5);
    for id in 0..20 {
        testbed.register("a", &id.to_string(), 0);
    }
    let (reader, _) = read(&mut after(&testbed, service("a"), 3)).await;
    assert_eq!(reader.kinds, [WatchKind::Compacted, WatchKind::Snapshot, WatchKind::Synced]);
    reader.agrees(&testbed.state(), &service("a"));

    let options = Options { changes_only: true, ..OPTIONS };
    let begin = Begin::After { epoch: 42, revision: 3 };
    let (reader, status) = read(&mut open(&testbed, service("a"), options, begin)).await;
    assert_eq!(reader.kinds, []);
    assert_eq!(reason(status), Some(v1::ErrorReason::RevisionCompacted));
}

#[tokio::test(start_paused = true)]
async fn a_position_of_another_epoch_heals_by_a_snapshot_or_ends_the_stream() {
    let testbed = Testbed::new(1_000);
    testbed.register("a", "1", 0);
    let begin = Begin::After { epoch: 41, revision: 900 };
    let (reader, _) = read(&mut open(&testbed, service("a"), OPTIONS, begin.clone())).await;
    assert_eq!(reader.kinds, [WatchKind::EpochChanged, WatchKind::Snapshot, WatchKind::Synced]);
    let options = Options { changes_only: true, ..OPTIONS };
    let (_, status) = read(&mut open(&testbed, service("a"), options, begin)).await;
    assert_eq!(reason(status), Some(v1::ErrorReason::EpochChanged));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_cut_and_resumes_and_others_notice_nothing() {
    let testbed = Testbed::new(10_000);
    let mut slow = snapshot(&testbed, service("a"));
    let (mut slow_reader, _) = read(&mut slow).await;
    let mut quick = snapshot(&testbed, service("a"));
    let (mut quick_reader, _) = read(&mut quick).await;
    for id in 0..500 {
        testbed.register("a", &id.to_string(), 0);
    }
    drain(&mut slow, &mut slow_reader).await;
    for id in 500..2_000 {
        testbed.register("a", &id.to_string(), 0);
        drain(&mut quick, &mut quick_reader).await;
    }
    assert_eq!(testbed.hub.queue_bytes(), 0, "the queue of the slow one is free");
    let status = drain(&mut slow, &mut slow_reader).await;
    assert_eq!(slow_reader.kinds.last(), Some(&WatchKind::Resync));
    assert_eq!(reason(status), Some(v1::ErrorReason::WatchResync));
    assert_eq!(slow_reader.revision, 500);
    assert!(slow.next().await.is_none(), "the stream is over");
    quick_reader.agrees(&testbed.state(), &service("a"));

    let mut resumed = after(&testbed, service("a"), slow_reader.revision);
    slow_reader.kinds.clear();
    drain(&mut resumed, &mut slow_reader).await;
    slow_reader.agrees(&testbed.state(), &service("a"));
}

#[tokio::test(start_paused = true)]
async fn without_events_a_bookmark_comes_at_each_interval() {
    let testbed = Testbed::new(1_000);
    let mut session = snapshot(&testbed, service("a"));
    read(&mut session).await;
    testbed.register("b", "1", 0);
    let mut before = None;
    for _ in 0..3 {
        let message = session.next().await.unwrap().unwrap();
        assert_eq!(message.kind, WatchKind::Bookmark as i32);
        assert_eq!(message.revision, 1, "what concerns others is passed over");
        assert!(message.header.is_some());
        let now = Instant::now();
        assert!(before.is_none_or(|before| now - before == Duration::from_secs(10)), "{before:?} {now:?}");
        before = Some(now);
    }
    // Dropping a read loses nothing.
    assert!(session.next().now_or_never().is_none());
    advance(Duration::from_secs(5)).await;
    testbed.register("a", "1", 0);
    assert_eq!(session.next().await.unwrap().unwrap().kind, WatchKind::Changes as i32);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_counts_as_handed_over_with_its_last_word_unless_its_reader_is_new() {
    let testbed = Testbed::new(10);
    let services = [("default".to_owned(), "a".to_owned())];
    let pending = async || testbed.hub.await_sent(&services, 20, Instant::now()).await.pending;
    let mut old = snapshot(&testbed, service("a"));
    drain(&mut old, &mut Reader::default()).await;
    let ahead = Testbed::new(10);
    for id in 1..=20 {
        ahead.register("a", &id.to_string(), 0);
    }
    testbed.install(ahead.state());
    for kind in [WatchKind::Compacted, WatchKind::Snapshot] {
        assert_eq!(pending().await, 1, "its reader has the former view");
        assert_eq!(old.next().await.unwrap().unwrap().kind, kind as i32);
    }
    assert_eq!(pending().await, 1);
    assert_eq!(old.next().await.unwrap().unwrap().kind, WatchKind::Synced as i32);
    assert_eq!(pending().await, 0);
    let _new = snapshot(&testbed, service("a"));
    assert_eq!(pending().await, 0, "whoever begins now begins with what is there now");
}

#[tokio::test(start_paused = true)]
async fn a_change_of_leader_is_told_in_the_next_message() {
    let testbed = Testbed::new(1_000);
    let mut session = snapshot(&testbed, service("a"));
    read(&mut session).await;
    testbed.register("a", "1", 0);
    assert_eq!(session.next().await.unwrap().unwrap().header, None);
    let next = crate::raft::Leadership { term: 2, node: 3 };
    testbed.leadership.send_replace(Some(next));
    testbed.register("a", "2", 0);
    assert_eq!(session.next().await.unwrap().unwrap().header.unwrap().term, 2);
}

#[tokio::test(start_paused = true)]
async fn every_watch_is_told_that_the_node_closes_after_what_waits_for_it() {
    let testbed = Testbed::new(1_000);
    let mut live = snapshot(&testbed, service("a"));
    let (mut reader, _) = read(&mut live).await;
    let mut reading = snapshot(&testbed, service("a"));
    testbed.register("a", "1", 0);
    testbed.hub.close();
    let status = drain(&mut live, &mut reader).await;
    assert_eq!(reader.kinds[1..], [WatchKind::Changes, WatchKind::Closing]);
    assert_eq!(reason(status.clone()), Some(v1::ErrorReason::ShuttingDown));
    assert_eq!(status.unwrap().code(), Code::Unavailable);
    let (reader, _) = read(&mut reading).await;
    assert_eq!(reader.kinds, [WatchKind::Closing]);
    assert_eq!(reader.revision, 0, "begin anew");
}

#[tokio::test(start_paused = true)]
async fn an_installed_snapshot_costs_a_watch_nothing_if_its_history_reaches_back() {
    let testbed = Testbed::new(1_000);
    let mut session = snapshot(&testbed, service("a"));
    let (mut reader, _) = read(&mut session).await;
    testbed.register("a", "1", 0);
    // Elsewhere the cluster went on; this node gets the result as a snapshot.
    let ahead = Testbed::new(1_000);
    for id in 1..=20 {
        ahead.register("a", &id.to_string(), 0);
    }
    testbed.install(ahead.state());
    testbed.register("a", "21", 0);
    drain(&mut session, &mut reader).await;
    assert!(!reader.kinds.contains(&WatchKind::Compacted));
    assert_eq!(reader.revision, 21);
    reader.agrees(&testbed.state(), &service("a"));
}

#[tokio::test(start_paused = true)]
async fn an_installed_snapshot_with_a_short_history_is_told() {
    let testbed = Testbed::new(10);
    let mut session = snapshot(&testbed, service("a"));
    let (mut reader, _) = read(&mut session).await;
    testbed.register("a", "1", 0);
    let ahead = Testbed::new(10);
    for id in 1..=20 {
        ahead.register("a", &id.to_string(), 0);
    }
    testbed.install(ahead.state());
    drain(&mut session, &mut reader).await;
    assert!(reader.kinds.contains(&WatchKind::Compacted));
    assert_eq!(reader.kinds.last(), Some(&WatchKind::Synced));
    reader.agrees(&testbed.state(), &service("a"));
}

#[tokio::test(start_paused = true)]
async fn a_restored_cluster_tells_its_watches_of_the_new_epoch() {
    let testbed = Testbed::new(1_000);
    testbed.register("a", "1", 0);
    let mut session = snapshot(&testbed, service("a"));
    let (mut reader, _) = read(&mut session).await;
    testbed.install(founded(43, 1_000));
    drain(&mut session, &mut reader).await;
    assert_eq!(reader.kinds[2..], [WatchKind::EpochChanged, WatchKind::Synced]);
    assert_eq!(session.epoch, 43);
}

#[tokio::test(start_paused = true)]
async fn changes_of_a_batch_too_large_for_a_message_come_in_parts() {
    let testbed = Testbed::new(100_000);
    let mut session = snapshot(&testbed, service("a"));
    let (mut reader, _) = read(&mut session).await;
    let pair = |n: usize| registry_state::command::Pair { key: format!("k{n}"), value: "v".repeat(3_000) };
    let registrations = (0..1_000)
        .map(|id| {
            let mut registration = registry_state::command::Registration {
                namespace: "default".into(),
                service_name: "a".into(),
                instance_id: format!("i{id}"),
                host: "h".into(),
                port: 1,
                weight: Some(1),
                metadata: vec![pair(1), pair(2)],
                ..Default::default()
            };
            registration.canonicalize();
            registration
        })
        .collect();
    testbed.apply(registry_state::Operation::BatchRegister(registry_state::command::BatchRegister {
        registrations,
        new_lease_id: 9,
        ..Default::default()
    }));
    drain(&mut session, &mut reader).await;
    assert!(reader.kinds.len() > 6, "{:?}", reader.kinds);
    assert_eq!(reader.revision, 1);
    reader.agrees(&testbed.state(), &service("a"));
}
