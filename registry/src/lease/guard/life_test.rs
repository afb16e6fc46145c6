//! The guard at work: owners, a leader and its log, in simulated time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use registry_state::command::{Operation, Register};
use registry_state::{
    ClusterSettings, EndProtection, EventCause, EventKind, GuardSettings, GuardState, UpdateSettings,
};
use tokio::time::{Instant, sleep, timeout};

use crate::lease::expiry;
use crate::lease::forward::Forwarder;
use crate::lease::renewals::Renewals;
use crate::lease::table::Renewal;
use crate::raft::Leadership;
use crate::testbed::{Fate, REIGN, Testbed, register};

const TTL: Duration = Duration::from_secs(6);
const TTL_MS: u64 = 6_000;
const LATE: Duration = Duration::from_secs(2);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn leader() -> Arc<Testbed> {
    let testbed = Testbed::new(10_000);
    tokio::spawn(expiry::run(testbed.leases.clone(), testbed.clone()));
    while testbed.leases.leadership() != Some(REIGN) {
        sleep(Duration::from_millis(10)).await;
    }
    testbed
}

/// Registers so many owners of a service, spread over a third of their time to live as renewals are.
async fn owners(testbed: &Testbed, service: &str, count: u32) -> Vec<u64> {
    let mut leases = Vec::new();
    for number in 0..count {
        leases.push(testbed.register(service, &number.to_string(), TTL_MS));
        sleep(TTL / 3 / count).await;
    }
    leases
}

/// Owners that renew every third of their time to live, until the moment given.
async fn renew_until(testbed: &Testbed, leases: &[u64], end: Instant) {
    while Instant::now() < end {
        for lease in leases {
            testbed.leases.renewed_by_write(*lease, Instant::now());
        }
        sleep(TTL / 3).await;
    }
}

fn total(testbed: &Testbed) -> u32 {
    testbed.state().counts().total
}

fn protected(testbed: &Testbed) -> u32 {
    testbed.state().counts().protected
}

fn guard(testbed: &Testbed, service: &str) -> GuardState {
    testbed.state().service("default", service).unwrap().guard()
}

/// Instances with an event of this cause so far.
fn told(testbed: &Testbed, cause: EventCause) -> BTreeSet<String> {
    let state = testbed.state();
    let revisions: Vec<_> = state.history_since(0).unwrap().cloned().collect();
    let events = revisions.iter().flat_map(|revision| &revision.events);
    events.filter(|event| event.cause == cause).map(|event| event.instance.instance_id.to_string()).collect()
}

fn end_protection(testbed: &Testbed, service: &str) {
    let (namespace, service_name) = ("default".to_owned(), service.to_owned());
    testbed.apply(Operation::EndProtection(EndProtection { service_name, namespace, all_namespaces: false }));
}

fn settings(testbed: &Testbed, guard: GuardSettings) {
    let expected_version = testbed.state().settings().version;
    let settings = Some(ClusterSettings { guard, ..ClusterSettings::DEFAULT });
    testbed.apply(Operation::UpdateSettings(UpdateSettings { expected_version, settings }));
}

async fn until(what: &str, limit: Duration, holds: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        sleep(Duration::from_millis(20)).await;
        assert!(start.elapsed() <= limit, "{what} within {limit:?}");
    }
    start.elapsed()
}

/// Another node leads, then this one again: a new reign.
async fn fail_over(testbed: &Testbed) {
    testbed.leadership.send_replace(None);
    sleep(Duration::from_millis(500)).await;
    let next = Leadership { term: testbed.leases.leadership().map_or(2, |reign| reign.term + 1), node: 1 };
    testbed.leadership.send_replace(Some(next));
    until("a new reign", seconds(2), || testbed.leases.leadership() == Some(next)).await;
}

#[tokio::test(start_paused = true)]
async fn when_all_owners_die_none_is_removed_before_the_guard_holds_and_all_go_at_its_end() {
    let testbed = leader().await;
    owners(&testbed, "a", 200).await;
    let died = Instant::now();
    until("the guard", TTL + LATE, || protected(&testbed) == 200).await;
    let took = died.elapsed();
    assert!(took >= TTL * 2 / 3 && took <= TTL + LATE, "{took:?}");
    assert_eq!(told(&testbed, EventCause::Protected).len(), 200);
    let silent: Vec<_> = testbed
        .state()
        .service("default", "a")
        .unwrap()
        .instances()
        .map(|instance| instance.protection.as_ref().unwrap().silent_for_ms)
        .collect();
    assert!(silent.iter().all(|ms| (TTL_MS * 2 / 3..=TTL_MS + 2_000).contains(ms)), "{silent:?}");

    let hold = Duration::from_millis(ClusterSettings::DEFAULT.guard.hold_ms);
    sleep(hold - seconds(2)).await;
    assert_eq!((total(&testbed), told(&testbed, EventCause::Expired).len()), (200, 0));
    until("the end", seconds(5), || total(&testbed) == 0).await;
    assert_eq!(guard(&testbed, "a"), GuardState::Disarmed, "until those that expired are forgotten");
    until("calm", TTL + seconds(5), || guard(&testbed, "a") == GuardState::Armed).await;
}

#[tokio::test(start_paused = true)]
async fn few_owners_go_in_time() {
    for (count, dying) in [(200, 2), (2, 2), (4, 4), (20, 10)] {
        let testbed = leader().await;
        let leases = owners(&testbed, "a", count).await;
        let died = Instant::now();
        let alive = &leases[dying as usize..];
        renew_until(&testbed, alive, died + TTL + LATE).await;
        assert_eq!(total(&testbed), count - dying, "{dying} of {count}");
        assert_eq!(told(&testbed, EventCause::Protected).len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn owners_that_come_back_are_recovered_and_the_others_stay_protected() {
    let testbed = leader().await;
    let leases = owners(&testbed, "a", 20).await;
    until("the guard", TTL + LATE, || protected(&testbed) == 20).await;
    testbed.leases.renewed_by_write(leases[3], Instant::now());
    testbed.apply(register("a", "7", TTL_MS, ""));
    assert_eq!(protected(&testbed), 19, "a registration ends it at once");
    until("the renewal", seconds(1), || protected(&testbed) == 18).await;
    assert_eq!(told(&testbed, EventCause::Recovered), ["3".to_owned(), "7".to_owned()].into());
    // Once more silent, they are kept as long as the guard holds.
    sleep(TTL + LATE).await;
    assert_eq!((total(&testbed), protected(&testbed)), (20, 20));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_while_the_guard_takes_hold_is_not_lost() {
    let testbed = leader().await;
    let leases = owners(&testbed, "a", 20).await;
    testbed.fate.send_replace(Fate::Open);
    sleep(TTL + LATE).await;
    assert_eq!(testbed.leases.renewed_by_write(leases[5], Instant::now()), Renewal::Moved);
    testbed.fate.send_replace(Fate::Applied);
    until("its recovery", seconds(1), || told(&testbed, EventCause::Recovered).len() == 1).await;
    assert_eq!(protected(&testbed), 19);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_expired_already_is_not_answered_because_a_guard_takes_hold() {
    let testbed = leader().await;
    let first = testbed.register("a", "first", TTL_MS);
    sleep(TTL / 2).await;
    let others = owners(&testbed, "a", 8).await;
    testbed.fate.send_replace(Fate::Unknown);
    renew_until(&testbed, &others, Instant::now() + TTL).await;
    assert_eq!(testbed.leases.renewed_by_write(first, Instant::now()), Renewal::Expiring);
    sleep(TTL + LATE).await;
    assert_eq!(testbed.leases.renewed_by_write(first, Instant::now()), Renewal::Expiring);
    testbed.fate.send_replace(Fate::Applied);
    until("the guard", seconds(2), || protected(&testbed) == 8).await;
    assert_eq!(told(&testbed, EventCause::Expired), ["first".to_owned()].into());
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_inherits_the_guard_with_the_time_that_it_had_left() {
    let testbed = leader().await;
    settings(&testbed, GuardSettings { hold_ms: 100_000, ..ClusterSettings::DEFAULT.guard });
    owners(&testbed, "a", 20).await;
    until("the guard", TTL + LATE, || protected(&testbed) == 20).await;
    let held = Instant::now();
    // Logged again after 30 and 60 s.
    sleep(seconds(65)).await;
    fail_over(&testbed).await;
    sleep(TTL * 3).await;
    assert_eq!(protected(&testbed), 20, "the new leader gave them no deadline");
    until("the end", seconds(60), || total(&testbed) == 0).await;
    let took = held.elapsed();
    assert!(took >= seconds(100) && took <= seconds(140), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_inherited_guard_lets_nobody_go_who_may_have_renewed_with_the_former_leader() {
    let testbed = leader().await;
    settings(&testbed, GuardSettings { hold_ms: 1_000, ..ClusterSettings::DEFAULT.guard });
    owners(&testbed, "a", 20).await;
    until("the guard", TTL + LATE, || protected(&testbed) == 20).await;
    fail_over(&testbed).await;
    let reign = Instant::now();
    until("the end", TTL + seconds(4), || total(&testbed) == 0).await;
    assert!(reign.elapsed() >= TTL - Duration::from_millis(200), "{:?}", reign.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_operator_ends_the_guard_and_what_is_silent_goes_within_two_seconds() {
    for failing_over in [false, true] {
        let testbed = leader().await;
        owners(&testbed, "a", 20).await;
        until("the guard", TTL + LATE, || protected(&testbed) == 20).await;
        if failing_over {
            fail_over(&testbed).await;
        }
        end_protection(&testbed, "a");
        until("their end", LATE, || total(&testbed) == 0).await;
    }
    // The leader that took the call is gone before it could do anything.
    let testbed = leader().await;
    owners(&testbed, "a", 20).await;
    until("the guard", TTL + LATE, || protected(&testbed) == 20).await;
    testbed.leadership.send_replace(None);
    end_protection(&testbed, "a");
    sleep(seconds(1)).await;
    fail_over(&testbed).await;
    until("their end", LATE, || total(&testbed) == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_renewal_of_what_was_let_go_is_answered_only_when_the_log_has_it() {
    let testbed = leader().await;
    let leases = owners(&testbed, "a", 20).await;
    until("the guard", TTL + LATE, || protected(&testbed) == 20).await;
    testbed.fate.send_replace(Fate::Open);
    end_protection(&testbed, "a");
    let renewals = Renewals::new(testbed.leases.clone(), testbed.clone(), Forwarder::nowhere());
    let received = renewals.receive(&leases[..1]);
    let deadline = Instant::now() + seconds(60);
    let renewal = renewals.renew(&leases[..1], received, deadline);
    tokio::pin!(renewal);
    assert!(timeout(seconds(1), &mut renewal).await.is_err(), "answered before its Unprotect");
    testbed.fate.send_replace(Fate::Applied);
    assert_eq!(timeout(seconds(2), renewal).await.unwrap().unwrap(), Vec::<u64>::new());
    assert_eq!(told(&testbed, EventCause::Recovered), ["0".to_owned()].into());
    sleep(seconds(2)).await;
    assert_eq!(total(&testbed), 1, "the others are gone");
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_has_ended_does_not_take_hold_again_at_once() {
    let testbed = leader().await;
    owners(&testbed, "a", 20).await;
    until("the guard", TTL + LATE, || protected(&testbed) == 20).await;
    end_protection(&testbed, "a");
    until("their end", LATE, || total(&testbed) == 0).await;
    let again = owners(&testbed, "a", 20).await;
    assert_eq!(guard(&testbed, "a"), GuardState::Disarmed, "20 of 40 expired a moment ago");
    renew_until(&testbed, &again, Instant::now() + TTL + seconds(4)).await;
    assert_eq!(guard(&testbed, "a"), GuardState::Armed);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_touches_a_guarded_service_is_kept_whole() {
    let testbed = leader().await;
    let shared = testbed.register("a", "0", TTL_MS);
    let mut other = register("b", "0", TTL_MS, "");
    if let Operation::Register(Register { registration: Some(registration), .. }) = &mut other {
        registration.lease_id = shared;
    }
    testbed.apply(other);
    let alive: Vec<u64> = (1..10).map(|id| testbed.register("b", &id.to_string(), TTL_MS)).collect();
    for id in 1..10 {
        testbed.register("a", &id.to_string(), TTL_MS);
    }
    renew_until(&testbed, &alive, Instant::now() + TTL + LATE).await;
    assert_eq!((total(&testbed), protected(&testbed)), (20, 11));
    assert!(matches!(guard(&testbed, "b"), GuardState::Holding { .. }));
}

#[tokio::test(start_paused = true)]
async fn one_owner_of_many_instances_is_one_death() {
    let testbed = leader().await;
    let lease = testbed.register("a", "0", TTL_MS);
    for id in 1..100 {
        let mut more = register("a", &id.to_string(), TTL_MS, "");
        if let Operation::Register(Register { registration: Some(registration), .. }) = &mut more {
            registration.lease_id = lease;
        }
        testbed.apply(more);
    }
    until("its end", TTL + LATE, || total(&testbed) == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_is_switched_off_keeps_nothing_and_lets_go_what_it_has() {
    let testbed = leader().await;
    owners(&testbed, "a", 20).await;
    until("the guard", TTL + LATE, || protected(&testbed) == 20).await;
    settings(&testbed, GuardSettings { enabled: false, ..ClusterSettings::DEFAULT.guard });
    until("their end", seconds(4), || total(&testbed) == 0).await;
    owners(&testbed, "b", 20).await;
    until("their end", TTL + LATE, || total(&testbed) == 0).await;
    assert_eq!(told(&testbed, EventCause::Protected).len(), 20);
}

#[tokio::test(start_paused = true)]
async fn many_leases_are_taken_in_bounded_entries() {
    let testbed = leader().await;
    owners(&testbed, "a", 1_000).await;
    let before = testbed.state().revision();
    until("the guard", TTL + LATE, || protected(&testbed) == 1_000).await;
    let entries = testbed.state().revision() - before;
    assert!((4..=8).contains(&entries), "1,000 leases in {entries} entries of at most 256");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Owners renew every third of their time to live, in any phase; some die in one moment.
    #[test]
    fn a_mass_is_kept_and_a_few_go_whatever_their_phases(
        phases_ms in prop::collection::vec(0_u64..2_000, 1..60), dying_percent in 0_usize..=100, run_ms in 2_000_u64..9_000,
    ) {
        let count = phases_ms.len();
        let dying = count * dying_percent / 100;
        // At the thresholds themselves the order of a millisecond decides.
        let is_mass = dying >= 5 && dying * 100 > count * 55;
        let is_few = dying < 5 || dying * 100 < count * 45;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let (removed, kept) = runtime.block_on(async {
            let testbed = leader().await;
            let leases: Vec<u64> =
                (0..count).map(|number| testbed.register("a", &number.to_string(), TTL_MS)).collect();
            let start = Instant::now();
            let end = start + Duration::from_millis(run_ms);
            let last = end + TTL + LATE;
            let owners = leases.iter().zip(&phases_ms).enumerate().map(|(number, (lease, phase))| {
                let (testbed, until) = (testbed.clone(), if number < dying { end } else { last });
                async move {
                    sleep(Duration::from_millis(*phase)).await;
                    renew_until(&testbed, &[*lease], until).await;
                }
            });
            tokio::join!(futures::future::join_all(owners), tokio::time::sleep_until(last));
            let state = testbed.state();
            let revisions: Vec<_> = state.history_since(0).unwrap().cloned().collect();
            let gone = revisions.iter().flat_map(|r| &r.events).filter(|e| e.kind == EventKind::Removed).count();
            (gone, usize::try_from(state.counts().protected).unwrap())
        });
        if is_mass {
            prop_assert_eq!((removed, kept), (0, dying), "of {}", count);
        } else if is_few {
            prop_assert_eq!((removed, kept), (dying, 0), "of {}", count);
        } else {
            prop_assert_eq!(removed + kept, dying, "of {}", count);
        }
    }
}
