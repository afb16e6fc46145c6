use std::collections::BTreeMap;

use futures::FutureExt;
use proptest::prelude::*;
use prost::Message;
use registry_proto::v1;
use registry_state::State;
use tokio::time::{advance, timeout};
use tonic::Code;

use super::*;
use crate::error::reason_of;
use crate::server::convert::Scope;
use crate::testbed::{Testbed, founded, register};

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

/// What a client makes of a watch, checking every rule that it can see.
#[derive(Default)]
struct Reader {
    view: BTreeMap<(String, String, String), u64>,
    collected: Vec<v1::Instance>,
    /// What is collected replaces the view.
    replaces: bool,
    /// Of an unfinished revision.
    partial: Vec<v1::InstanceEvent>,
    revision: u64,
    synced: bool,
    kinds: Vec<WatchKind>,
    headed: bool,
}

type Key = (String, String, String);

fn key(instance: &v1::Instance) -> Key {
    (instance.namespace.clone(), instance.service_name.clone(), instance.instance_id.clone())
}

impl Reader {
    fn read(&mut self, message: WatchResponse) {
        // What a client decodes: the raw message is the public one on the wire.
        let message = v1::WatchResponse::decode(&message.encode_to_vec()[..]).unwrap();
        assert!(message.encoded_len() <= 1 << 20, "{} bytes", message.encoded_len());
        let kind = message.kind();
        self.kinds.push(kind);
        let always = matches!(kind, WatchKind::Synced | WatchKind::Bookmark) || !self.headed;
        assert!(!always || message.header.is_some(), "{kind:?} without header");
        self.headed = true;
        if message.revision > 0 {
            assert!(message.revision >= self.revision, "{} after {}", message.revision, self.revision);
        }
        match kind {
            WatchKind::Snapshot => {
                self.replaces = true;
                self.collected.extend(message.instances);
            }
            WatchKind::Compacted => (self.replaces, self.synced) = (true, false),
            WatchKind::EpochChanged => (self.replaces, self.synced, self.revision) = (true, false, 0),
            WatchKind::Synced => {
                if std::mem::take(&mut self.replaces) {
                    self.view = self.collected.drain(..).map(|i| (key(&i), i.revision)).collect();
                }
                self.synced = true;
                self.revision = message.revision;
            }
            WatchKind::Changes => self.apply(&message),
            WatchKind::Bookmark => self.revision = message.revision,
            WatchKind::Resync | WatchKind::Closing => assert!(message.retry_after.is_some()),
            WatchKind::Unspecified => panic!("an unnamed message"),
        }
    }

    fn apply(&mut self, message: &v1::WatchResponse) {
        for changes in &message.changes {
            assert!(changes.revision > self.revision, "{} again", changes.revision);
            self.partial.extend(changes.events.iter().cloned());
            if changes.more {
                continue;
            }
            for event in self.partial.drain(..) {
                let instance = event.instance.clone().unwrap();
                match event.kind() {
                    v1::EventKind::Added => {
                        assert_eq!(self.view.insert(key(&instance), instance.revision), None);
                    }
                    v1::EventKind::Updated => {
                        let before = self.view.insert(key(&instance), instance.revision);
                        assert_eq!(before, event.previous.map(|previous| previous.revision));
                    }
                    v1::EventKind::Removed => {
                        assert_eq!(self.view.remove(&key(&instance)), Some(instance.revision));
                    }
                    v1::EventKind::Unspecified => panic!("an unnamed event"),
                }
            }
            self.revision = changes.revision;
        }
        if self.partial.is_empty() {
            assert_eq!(message.revision, self.revision, "the token is that of the last whole revision");
        }
    }

    /// The view equals what the state has.
    fn agrees(&self, state: &State, scope: &Scope) {
        let expected: BTreeMap<Key, u64> = state
            .services_from(None)
            .filter(|service| covers(scope, &service.key().namespace, &service.key().name))
            .flat_map(|service| service.instances())
            .map(|record| {
                let service = &record.service;
                let key =
                    (service.namespace.to_string(), service.name.to_string(), record.instance_id.to_string());
                (key, record.revision)
            })
            .collect();
        assert_eq!(self.view, expected, "at revision {}", self.revision);
    }
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

#[derive(Debug, Clone)]
enum Action {
    Register(u8, u8, u8),
    Deregister(u8, u8),
    Read(usize),
    Reconnect,
    Install,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..3_u8, 0..6_u8, 0..3_u8).prop_map(|(service, id, zone)| Action::Register(service, id, zone)),
        2 => (0..3_u8, 0..6_u8).prop_map(|(service, id)| Action::Deregister(service, id)),
        4 => (0..4_usize).prop_map(Action::Read),
        1 => Just(Action::Reconnect),
        1 => Just(Action::Install),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_happens_the_view_is_that_of_the_state_at_the_same_revision(
        actions in prop::collection::vec(action(), 1..120),
        history in 1_u64..40,
        which in 0..3_usize,
    ) {
        let scope = [service("s1"), Scope::Namespace("default".into()), Scope::All][which].clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let testbed = Testbed::new(history);
            let mut reader = Reader::default();
            let mut session = snapshot(&testbed, scope.clone());
            for action in actions {
                match action {
                    Action::Register(service, id, zone) => {
                        let service = if service == 2 { "other/s1".into() } else { format!("s{service}") };
                        testbed.apply(register(&service, &id.to_string(), 0, &format!("z{zone}")));
                    }
                    Action::Deregister(service, id) => testbed.deregister(&format!("s{service}"), &id.to_string()),
                    Action::Read(count) => {
                        for _ in 0..count {
                            match timeout(Duration::from_millis(1), session.next()).await {
                                Ok(message) => reader.read(message.unwrap().unwrap()),
                                Err(_) => break,
                            }
                            check(&reader, &testbed, &scope);
                        }
                    }
                    Action::Reconnect if reader.synced => {
                        reader.partial.clear();
                        reader.headed = false;
                        session = after(&testbed, scope.clone(), reader.revision);
                    }
                    Action::Reconnect => {}
                    Action::Install => testbed.install(testbed.state()),
                }
            }
            prop_assert!(drain(&mut session, &mut reader).await.is_none());
            check(&reader, &testbed, &scope);
            reader.agrees(&testbed.state(), &scope);
            Ok(())
        })?;
    }
}

/// Whenever the reader stands at a revision, its view is that of the state of then.
fn check(reader: &Reader, testbed: &Testbed, scope: &Scope) {
    if !reader.synced || !reader.partial.is_empty() {
        return;
    }
    let past = testbed.past.lock().unwrap();
    let then = past.iter().find(|state| state.revision() == reader.revision).expect("a revision that was");
    reader.agrees(then, scope);
}
