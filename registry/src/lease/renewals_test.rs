use tokio::time::{sleep, timeout};

use super::*;
use crate::lease::expiry;
use crate::testbed::{Fate, REIGN, Testbed, target};

const TTL_MS: u64 = 5_000;
const NONE: [u64; 0] = [];

async fn leader() -> (Arc<Testbed>, Renewals) {
    let testbed = Testbed::new(1_000);
    tokio::spawn(expiry::run(testbed.leases.clone(), testbed.clone()));
    while testbed.leases.leadership() != Some(REIGN) {
        sleep(Duration::from_millis(10)).await;
    }
    let renewals = Renewals::new(testbed.leases.clone(), testbed.clone(), Forwarder::nowhere());
    (testbed, renewals)
}

fn in_seconds(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

async fn renew(renewals: &Renewals, ids: &[u64], deadline: Instant) -> Result<Vec<u64>, Error> {
    renewals.renew(ids, renewals.receive(ids), deadline).await
}

#[tokio::test(start_paused = true)]
async fn renewed_leases_live_and_ended_ones_are_named() {
    let (testbed, renewals) = leader().await;
    let lease = testbed.register("a", "1", TTL_MS);
    let silent = testbed.register("a", "2", TTL_MS);
    for _ in 0..20 {
        sleep(Duration::from_secs(4)).await;
        assert_eq!(renew(&renewals, &[lease], in_seconds(5)).await.unwrap(), NONE);
    }
    assert_eq!(renew(&renewals, &[silent, lease, 99], in_seconds(5)).await.unwrap(), [silent, 99]);
}

#[tokio::test(start_paused = true)]
async fn no_renewal_is_acknowledged_without_a_quorum() {
    let (testbed, renewals) = leader().await;
    let lease = testbed.register("a", "1", TTL_MS);
    testbed.quorum.send_replace(false);
    let early = timeout(Duration::from_secs(1), renew(&renewals, &[lease], in_seconds(5))).await;
    assert!(early.is_err(), "answered before a round");
    assert!(matches!(renew(&renewals, &[lease], in_seconds(5)).await, Err(Error::NoQuorum)));
    testbed.quorum.send_replace(true);
    assert_eq!(renew(&renewals, &[lease], in_seconds(5)).await.unwrap(), NONE);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_moves_on_arrival_and_not_with_the_answer() {
    let (testbed, renewals) = leader().await;
    let lease = testbed.register("a", "1", TTL_MS);
    sleep(Duration::from_millis(4_900)).await;
    let received = renewals.receive(&[lease]);
    // The round and the answer come much later than the old deadline.
    sleep(Duration::from_secs(4)).await;
    assert_eq!(renewals.renew(&[lease], received, in_seconds(5)).await.unwrap(), NONE);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(
        renew(&renewals, &[lease], in_seconds(5)).await.unwrap(),
        [lease],
        "4.9 s + 5 s + 2 s are over"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_in_an_expire_under_way_waits_for_its_outcome() {
    let (testbed, renewals) = leader().await;
    let lease = testbed.register("a", "1", TTL_MS);
    testbed.fate.send_replace(Fate::Open);
    sleep(Duration::from_secs(7)).await;
    let waits = timeout(Duration::from_secs(1), renew(&renewals, &[lease], in_seconds(60))).await;
    assert!(waits.is_err(), "acknowledged while it may be expired");
    let answer = tokio::spawn({
        let renewals = renewals.clone();
        async move { renew(&renewals, &[lease], in_seconds(60)).await }
    });
    sleep(Duration::from_secs(1)).await;
    testbed.fate.send_replace(Fate::Applied);
    assert_eq!(answer.await.unwrap().unwrap(), [lease]);
}

#[tokio::test(start_paused = true)]
async fn an_expire_that_ends_with_the_reign_leaves_the_renewal_open() {
    let (testbed, renewals) = leader().await;
    let lease = testbed.register("a", "1", TTL_MS);
    testbed.fate.send_replace(Fate::Open);
    sleep(Duration::from_secs(7)).await;
    let answer = tokio::spawn({
        let renewals = renewals.clone();
        // Later than a renewal may be passed on.
        let received = renewals.receive(&[lease]);
        async move { renewals.renew_here(&[lease], &received, in_seconds(60)).await }
    });
    sleep(Duration::from_secs(2)).await;
    testbed.leadership.send_replace(None);
    assert!(matches!(answer.await.unwrap(), Err(Error::NotLeader)));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_expire_acknowledges_nothing_until_it_is_known() {
    let (testbed, renewals) = leader().await;
    let lease = testbed.register("a", "1", TTL_MS);
    testbed.fate.send_replace(Fate::Unknown);
    sleep(Duration::from_secs(7)).await;
    assert!(matches!(renew(&renewals, &[lease], in_seconds(2)).await, Err(Error::NoQuorum)));
    testbed.fate.send_replace(Fate::UnknownApplied);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(renew(&renewals, &[lease], in_seconds(2)).await.unwrap(), [lease]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_lead_acknowledges_nothing_by_itself() {
    let (testbed, renewals) = leader().await;
    let lease = testbed.register("a", "1", TTL_MS);
    testbed.leadership.send_replace(None);
    let received = renewals.receive(&[lease]);
    assert!(matches!(renewals.renew_here(&[lease], &received, in_seconds(5)).await, Err(Error::NotLeader)));
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_by_instance_renews_its_lease_and_tells_what_it_is() {
    let (testbed, renewals) = leader().await;
    let lease = testbed.register("a", "1", TTL_MS);
    let beat = renewals.heartbeat_here(&target("a", "1"), Instant::now(), in_seconds(5)).await.unwrap();
    let instance = testbed.state().instance("default", "a", "1").cloned().unwrap();
    assert_eq!(beat.response.lease_id, lease);
    assert_eq!(beat.response.incarnation, instance.incarnation);
    assert_eq!(beat.response.state, v1::InstanceState::Up as i32);
    assert_eq!(beat.response.remaining_ttl, Some(convert::duration(Duration::from_millis(TTL_MS))));
    for _ in 0..10 {
        sleep(Duration::from_secs(4)).await;
        renewals.heartbeat_here(&target("a", "1"), Instant::now(), in_seconds(5)).await.unwrap();
    }
    let by_lease = Target { lease_id: lease, ..Target::default() };
    let beat = renewals.heartbeat_here(&by_lease, Instant::now(), in_seconds(5)).await.unwrap();
    assert_eq!((beat.response.lease_id, beat.response.incarnation, beat.response.state), (lease, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_of_another_incarnation_renews_nothing() {
    let (testbed, renewals) = leader().await;
    testbed.register("a", "1", TTL_MS);
    let stale = Target { incarnation: 77, ..target("a", "1") };
    let start = Instant::now();
    while testbed.state().counts().total > 0 {
        let refused = renewals.heartbeat_here(&stale, Instant::now(), in_seconds(5)).await;
        assert!(matches!(refused, Err(Error::StaleIncarnation { .. } | Error::LeaseExpired)), "{refused:?}");
        sleep(Duration::from_millis(100)).await;
        assert!(start.elapsed() < Duration::from_secs(8));
    }
}

#[tokio::test(start_paused = true)]
async fn a_permanent_instance_answers_without_a_time() {
    let (testbed, renewals) = leader().await;
    testbed.register("a", "1", 0);
    let beat = renewals.heartbeat_here(&target("a", "1"), Instant::now(), in_seconds(5)).await.unwrap();
    assert_eq!(beat.response.remaining_ttl, None);
    let absent = renewals.heartbeat_here(&target("a", "2"), Instant::now(), in_seconds(5)).await;
    assert!(matches!(absent, Err(Error::LeaseExpired)));
}
