use tokio::time::{sleep, timeout};

use super::*;
use crate::testbed::{Testbed, founded};

fn service(name: &str) -> Scope {
    Scope::Service { namespace: "default".into(), service_name: name.into() }
}

/// A watch that takes events from its queue.
fn live(testbed: &Testbed, scope: Scope) -> Subscription {
    let watch = testbed.hub.subscribe(scope, true).unwrap();
    watch.enter(Mode::Joining);
    watch.mark_sent(testbed.hub.published());
    assert!(watch.go_live());
    watch
}

#[test]
fn an_event_touches_only_its_watches() {
    let testbed = Testbed::new(1_000);
    let scopes = [
        service("a"),
        service("b"),
        Scope::Namespace("default".into()),
        Scope::Namespace("other".into()),
        Scope::All,
    ];
    let watches: Vec<Subscription> = scopes.into_iter().map(|scope| live(&testbed, scope)).collect();
    testbed.register("a", "1", 0);
    testbed.register("other/a", "1", 0);
    let got: Vec<Option<u64>> =
        watches.iter().map(|watch| watch.take(0).and_then(|batch| batch.complete)).collect();
    assert_eq!(got, [Some(1), None, Some(1), Some(2), Some(2)]);
    assert_eq!(testbed.hub.queue_bytes(), 0);
}

#[test]
fn watches_of_one_scope_share_the_same_bytes() {
    let testbed = Testbed::new(1_000);
    let watches = [live(&testbed, service("a")), live(&testbed, service("a"))];
    testbed.register("a", "1", 0);
    let parts: Vec<_> = watches.iter().map(|watch| watch.take(0).unwrap().parts.remove(0)).collect();
    assert_eq!(parts[0].as_ptr(), parts[1].as_ptr());
}

#[test]
fn a_watch_that_leaves_gives_everything_back() {
    let testbed = Testbed::new(1_000);
    let watch = live(&testbed, Scope::All);
    testbed.register("a", "1", 0);
    assert!(testbed.hub.queue_bytes() > 0);
    assert_eq!(testbed.hub.open_watches(), 1);
    drop(watch);
    assert_eq!((testbed.hub.queue_bytes(), testbed.hub.open_watches()), (0, 0));
}

#[test]
fn the_node_opens_no_more_watches_than_its_limit_and_none_when_it_closes() {
    let testbed = Testbed::with(1_000, HubLimits { watches: 2, queue_bytes: 1 << 20 });
    let first = live(&testbed, Scope::All);
    let _second = live(&testbed, Scope::All);
    let third = testbed.hub.subscribe(Scope::All, true);
    assert!(matches!(third, Err(Error::Overloaded { .. })));
    drop(first);
    let _third = testbed.hub.subscribe(Scope::All, true).unwrap();
    testbed.hub.close();
    let late = testbed.hub.subscribe(Scope::All, true);
    assert!(matches!(late, Err(Error::ShuttingDown)));
}

#[test]
fn the_memory_of_all_queues_is_bounded() {
    let testbed = Testbed::with(1_000, HubLimits { watches: 10, queue_bytes: 1_000 });
    let watches = [live(&testbed, Scope::All), live(&testbed, Scope::All), live(&testbed, Scope::All)];
    for id in 0..20 {
        testbed.register("a", &id.to_string(), 0);
        // An empty queue takes any revision, so the bound may be passed by one for each watch.
        assert!(testbed.hub.queue_bytes() <= 1_000 + 3 * 200, "{}", testbed.hub.queue_bytes());
    }
    assert!(watches.iter().any(|watch| matches!(watch.mode(), Mode::Cut(_))));
}

#[tokio::test(start_paused = true)]
async fn drain_waits_until_every_watch_of_the_service_has_been_handed_the_change() {
    let testbed = Testbed::new(1_000);
    let (one, two) = (live(&testbed, service("a")), live(&testbed, Scope::All));
    let other = live(&testbed, service("b"));
    testbed.register("a", "1", 0);
    testbed.register("b", "1", 0);
    let services = [("default".to_owned(), "a".to_owned())];
    let soon = Instant::now() + Duration::from_secs(1);
    assert_eq!(testbed.hub.await_sent(&services, 1, soon).await, Sent { watches: 2, pending: 2 });
    let waits = tokio::spawn({
        let hub = testbed.hub.clone();
        async move { hub.await_sent(&services, 1, Instant::now() + Duration::from_secs(60)).await }
    });
    sleep(Duration::from_secs(1)).await;
    one.take(0).unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(!waits.is_finished());
    two.take(0).unwrap();
    let sent = timeout(Duration::from_millis(10), waits).await.expect("it is woken").unwrap();
    assert_eq!(sent, Sent { watches: 2, pending: 0 });
    assert!(other.take(0).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_begins_after_a_revision_counts_as_having_it_and_a_resumed_one_does_not() {
    let testbed = Testbed::new(1_000);
    testbed.register("a", "1", 0);
    testbed.register("a", "2", 0);
    let services = [("default".to_owned(), "a".to_owned())];
    let now = || Instant::now();
    let anew = testbed.hub.subscribe(service("a"), true).unwrap();
    anew.begins_anew();
    assert_eq!(testbed.hub.await_sent(&services, 2, now()).await, Sent { watches: 1, pending: 0 });
    assert_eq!(testbed.hub.await_sent(&services, 3, now()).await, Sent { watches: 1, pending: 1 });

    let resumed = testbed.hub.subscribe(service("a"), true).unwrap();
    resumed.mark_sent(1);
    assert_eq!(testbed.hub.await_sent(&services, 1, now()).await, Sent { watches: 2, pending: 0 });
    assert_eq!(testbed.hub.await_sent(&services, 2, now()).await, Sent { watches: 2, pending: 1 });
    resumed.mark_sent(2);
    assert_eq!(testbed.hub.await_sent(&services, 2, now()).await, Sent { watches: 2, pending: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_reads_too_slowly_is_waited_for_until_it_is_cut_or_gone() {
    let testbed = Testbed::new(10_000);
    let services = [("default".to_owned(), "a".to_owned())];
    let stuck = live(&testbed, service("a"));
    let gone = live(&testbed, service("a"));
    testbed.register("a", "0", 0);
    let now = || Instant::now();
    assert_eq!(testbed.hub.await_sent(&services, 1, now()).await, Sent { watches: 2, pending: 2 });
    drop(gone);
    assert_eq!(testbed.hub.await_sent(&services, 1, now()).await, Sent { watches: 1, pending: 1 });
    for id in 1..=1_024 {
        testbed.register("a", &id.to_string(), 0);
    }
    assert!(matches!(stuck.mode(), Mode::Cut(_)));
    assert_eq!(testbed.hub.await_sent(&services, 1, now()).await, Sent { watches: 1, pending: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_has_not_arrived_here_is_pending_for_all() {
    let testbed = Testbed::new(1_000);
    let _watch = live(&testbed, service("a"));
    let services = [("default".to_owned(), "a".to_owned())];
    let soon = Instant::now() + Duration::from_secs(1);
    assert_eq!(testbed.hub.await_sent(&services, 1, soon).await, Sent { watches: 1, pending: 1 });
    assert_eq!(testbed.hub.await_sent(&[], 0, soon).await, Sent { watches: 0, pending: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_resync_nobody_reads_is_reset_after_thirty_seconds() {
    let testbed = Testbed::new(10_000);
    let watch = live(&testbed, Scope::All);
    let (handle, registration) = futures::future::AbortHandle::new_pair();
    watch.reset_with(handle);
    for id in 0..1_025 {
        testbed.register("a", &id.to_string(), 0);
    }
    assert!(matches!(watch.mode(), Mode::Cut(_)));
    let newest = crate::watch::Source::published(testbed.as_ref());
    testbed.hub.sweep(&newest, Instant::now() + Duration::from_secs(29));
    assert!(!registration.handle().is_aborted());
    testbed.hub.sweep(&newest, Instant::now() + Duration::from_secs(30));
    assert!(registration.handle().is_aborted());
}

#[test]
fn a_snapshot_that_nobody_reads_loses_its_state_when_the_history_has_passed_it() {
    let testbed = Testbed::new(10);
    let watch = testbed.hub.subscribe(Scope::All, true).unwrap();
    testbed.register("a", "0", 0);
    watch.pin(crate::watch::Source::published(testbed.as_ref()));
    for id in 1..=10 {
        testbed.register("a", &id.to_string(), 0);
    }
    testbed.hub.sweep(&crate::watch::Source::published(testbed.as_ref()), Instant::now());
    assert!(watch.pinned().is_some(), "the history still reaches back to it");
    testbed.register("a", "11", 0);
    testbed.hub.sweep(&crate::watch::Source::published(testbed.as_ref()), Instant::now());
    assert!(watch.pinned().is_none());
    assert!(matches!(watch.mode(), Mode::Cut(_)));
}

#[test]
fn a_snapshot_installed_here_makes_every_watch_look_where_it_stands() {
    let testbed = Testbed::new(1_000);
    let watch = live(&testbed, Scope::All);
    let reading = testbed.hub.subscribe(Scope::All, true).unwrap();
    testbed.register("a", "1", 0);
    testbed.install(founded(42, 1_000));
    assert_eq!((watch.mode(), reading.mode()), (Mode::Reset, Mode::CatchingUp));
    assert_eq!(testbed.hub.queue_bytes(), 0);
}
