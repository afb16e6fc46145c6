use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::{advance, sleep};

use super::agreement::Agreement;
use super::expiry;
use super::table::Renewal;
use super::*;
use crate::testbed::{Fate, REIGN, Testbed, register};

const TTL: Duration = Duration::from_secs(5);
const TTL_MS: u64 = 5_000;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A leader whose leases are watched over.
async fn leader() -> Arc<Testbed> {
    let testbed = Testbed::new(1_000);
    tokio::spawn(expiry::run(testbed.leases.clone(), testbed.clone()));
    while testbed.leases.leadership() != Some(REIGN) {
        sleep(Duration::from_millis(10)).await;
    }
    testbed
}

fn alive(testbed: &Testbed, id: &str) -> bool {
    testbed.state().instance("default", "a", id).is_some()
}

/// Time until an instance is gone.
async fn gone_after(testbed: &Testbed, id: &str) -> Duration {
    let start = Instant::now();
    while alive(testbed, id) {
        sleep(Duration::from_millis(10)).await;
        assert!(start.elapsed() < seconds(3_600), "it lives for ever");
    }
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_silent_instance_goes_after_its_time_to_live_and_within_two_seconds() {
    let testbed = leader().await;
    for delay_ms in [0, 130, 470, 999] {
        sleep(Duration::from_millis(delay_ms)).await;
        testbed.register("a", "1", TTL_MS);
        let gone = gone_after(&testbed, "1").await;
        assert!(gone >= TTL && gone <= TTL + seconds(2), "{gone:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_of_the_owner_counts_as_renewal() {
    let testbed = leader().await;
    testbed.register("a", "1", TTL_MS);
    sleep(seconds(4)).await;
    testbed.apply(register("a", "1", TTL_MS, "other"));
    let gone = gone_after(&testbed, "1").await;
    assert!(gone >= TTL && gone <= TTL + seconds(2), "{gone:?}");
}

#[tokio::test(start_paused = true)]
async fn permanent_instances_stay() {
    let testbed = leader().await;
    testbed.register("a", "1", 0);
    sleep(seconds(3_600)).await;
    assert!(alive(&testbed, "1"));
}

#[tokio::test(start_paused = true)]
async fn nothing_expires_while_there_is_no_quorum() {
    let testbed = leader().await;
    testbed.register("a", "1", TTL_MS);
    sleep(seconds(2)).await;
    testbed.quorum.send_replace(false);
    sleep(seconds(600)).await;
    assert!(alive(&testbed, "1"));
    testbed.quorum.send_replace(true);
    let gone = gone_after(&testbed, "1").await;
    // Two of five seconds had passed, and one more until the quorum was missed.
    assert!(gone >= seconds(2) && gone <= seconds(5), "{gone:?}");
}

#[tokio::test(start_paused = true)]
async fn a_frozen_node_gives_the_others_time_to_renew() {
    let testbed = leader().await;
    testbed.register("a", "1", TTL_MS);
    advance(seconds(60)).await;
    let gone = gone_after(&testbed, "1").await;
    assert!(gone >= seconds(3), "{gone:?}");
}

#[tokio::test(start_paused = true)]
async fn a_new_reign_gives_every_lease_its_full_time() {
    let testbed = leader().await;
    testbed.register("a", "1", TTL_MS);
    sleep(seconds(4)).await;
    testbed.leadership.send_replace(None);
    sleep(seconds(1)).await;
    assert_eq!(testbed.leases.leadership(), None);
    let next = Leadership { term: 2, node: 1 };
    testbed.leadership.send_replace(Some(next));
    let gone = gone_after(&testbed, "1").await;
    assert!(gone >= TTL && gone <= TTL + seconds(3), "{gone:?}");
    assert_eq!(testbed.leases.leadership(), Some(next));
}

#[tokio::test]
async fn what_is_applied_while_the_table_is_filled_is_not_missed() {
    let testbed = Testbed::new(1_000);
    for id in 0..10_000 {
        testbed.register("a", &id.to_string(), TTL_MS);
    }
    let leases = testbed.leases.clone();
    let source = testbed.clone();
    let filling =
        leases.establish(REIGN, Instant::now(), move || crate::watch::Source::published(source.as_ref()));
    tokio::pin!(filling);
    // It pauses between chunks; changes come in one of the pauses.
    assert!(futures::poll!(filling.as_mut()).is_pending());
    let new = testbed.register("b", "new", TTL_MS);
    testbed.deregister("a", "17");
    filling.await;
    let now = Instant::now();
    assert_eq!(leases.renewed_by_write(new, now), Renewal::Moved);
    let state = testbed.state();
    let lost = state.instance("default", "a", "17");
    assert_eq!(lost, None);
    let count =
        state.leases().filter(|lease| leases.renewed_by_write(lease.id, now) == Renewal::Moved).count();
    assert_eq!(count, 10_000);
}

#[tokio::test(start_paused = true)]
async fn many_leases_expire_in_bounded_entries() {
    let testbed = leader().await;
    for id in 0..1_000 {
        // Services so small that the guard leaves them alone.
        testbed.register(&format!("a{}", id / 4), &id.to_string(), TTL_MS);
    }
    let before = testbed.state().revision();
    sleep(TTL + seconds(2)).await;
    assert_eq!(testbed.state().counts().total, 0);
    assert_eq!(testbed.state().revision() - before, 4, "1,000 leases in entries of 256");
}

#[tokio::test(start_paused = true)]
async fn an_expire_of_unknown_outcome_is_named_again() {
    let testbed = leader().await;
    testbed.register("a", "1", TTL_MS);
    testbed.fate.send_replace(Fate::Unknown);
    sleep(TTL + seconds(5)).await;
    assert!(alive(&testbed, "1"));
    testbed.fate.send_replace(Fate::Applied);
    assert!(gone_after(&testbed, "1").await <= seconds(1));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_arrives_while_a_new_reign_fills_its_table_counts() {
    let testbed = Testbed::new(1_000);
    // So many that filling the table pauses in between.
    let ids: Vec<u64> =
        (0..ESTABLISH_CHUNK + 10).map(|number| testbed.register("a", &number.to_string(), TTL_MS)).collect();
    let (silent, renewed) = (ids[0], ids[1]);
    let arrived = Instant::now() + seconds(1);
    let published = || Agreement::published(testbed.as_ref());
    let filling = testbed.leases.establish(REIGN, Instant::now(), published);
    tokio::join!(filling, async { testbed.leases.touch([(renewed, arrived)].into_iter()) });

    let mut overdue = HashMap::new();
    for half_seconds in 1..20 {
        let now = Instant::now() + Duration::from_millis(500) * half_seconds;
        testbed.leases.quorum_seen(REIGN, now);
        testbed.leases.tick(REIGN, now);
        loop {
            let taken = testbed.leases.take_overdue(REIGN, |_| 1);
            if taken.is_empty() {
                break;
            }
            overdue.extend(taken.iter().map(|lease| (lease.id, now)));
        }
    }
    assert!(overdue[&silent] < arrived + TTL, "the silent one had its time from the start of the reign");
    assert!(overdue[&renewed] >= arrived + TTL, "the renewed one has its time from the renewal");
}
