use std::sync::Arc;

use registry_state::command::{ClearOverride, SetOverride};
use registry_state::{EventCause, InstanceState};
use tokio::time::{Instant, sleep};

use super::*;
use crate::lease::expiry;
use crate::raft::Leadership;
use crate::testbed::{Fate, REIGN, Testbed, target};

const NONE: [u64; 0] = [];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn set(testbed: &Testbed, id: &str, ttl: Option<Duration>) {
    testbed.apply(Operation::SetOverride(SetOverride {
        target: Some(target("a", id)),
        state: InstanceState::Down as i32,
        ttl_ms: ttl.map(|ttl| ttl.as_millis().try_into().unwrap()),
        ..SetOverride::default()
    }));
}

fn clear(testbed: &Testbed, id: &str) {
    testbed.apply(Operation::ClearOverride(ClearOverride { target: Some(target("a", id)) }));
}

fn remaining(testbed: &Testbed, id: &str) -> Option<Duration> {
    let state = testbed.state();
    let view = state.override_of("default", "a", id)?;
    view.remaining_ms.map(Duration::from_millis)
}

#[test]
fn an_override_ends_after_its_time_and_never_before() {
    let testbed = Testbed::new(100);
    set(&testbed, "1", Some(seconds(30)));
    set(&testbed, "2", Some(seconds(10)));
    set(&testbed, "3", None);
    let mut timers = Timers::default();
    assert!(timers.is_due(&testbed.state(), seconds(100)));
    timers.learn(&testbed.state(), seconds(100));
    assert!(!timers.is_due(&testbed.state(), Duration::from_millis(109_999)));
    assert!(timers.is_due(&testbed.state(), seconds(110)));
    assert_eq!(timers.take_ended(seconds(110)), [2]);
    assert_eq!(timers.take_ended(seconds(129)), NONE);
    assert_eq!(timers.take_ended(seconds(130)), [1]);
    timers.retry(&[1], seconds(130));
    assert_eq!(timers.take_ended(seconds(130)), NONE);
    assert_eq!(timers.take_ended(seconds(131)), [1]);
}

#[test]
fn what_is_left_is_logged_each_minute_and_what_has_gone_is_forgotten() {
    let testbed = Testbed::new(100);
    set(&testbed, "1", Some(seconds(300)));
    set(&testbed, "2", Some(seconds(300)));
    let mut timers = Timers::default();
    timers.learn(&testbed.state(), seconds(100));
    clear(&testbed, "2");
    assert_eq!(timers.take_logs(&testbed.state(), seconds(159)), []);
    let logged = timers.take_logs(&testbed.state(), seconds(160));
    let left: Vec<_> = logged.iter().map(|tick| tick.remaining_ms).collect();
    assert_eq!(left, [240_000]);
    assert_eq!((timers.logs.len(), timers.ends.len()), (1, 1));
    // Set anew: another version, with its own time.
    set(&testbed, "1", Some(seconds(20)));
    timers.learn(&testbed.state(), seconds(170));
    assert_eq!(timers.take_logs(&testbed.state(), seconds(220)), []);
    assert_eq!((timers.logs.len(), timers.ends.len()), (1, 1));
}

#[test]
fn a_hundred_thousand_overrides_are_logged_in_bounded_entries() {
    let testbed = Testbed::new(100);
    let mut state = testbed.state();
    for number in 0..40_000_u64 {
        state.apply(&registry_state::Command {
            proposed_at_unix_ms: 0,
            request: None,
            operation: Operation::SetOverride(SetOverride {
                target: Some(target("a", &number.to_string())),
                weight: Some(1),
                ttl_ms: Some(3_600_000),
                ..SetOverride::default()
            }),
        });
    }
    let mut timers = Timers::default();
    let mut rounds = 0;
    while timers.is_due(&state, seconds(100)) {
        timers.learn(&state, seconds(100));
        rounds += 1;
    }
    assert_eq!(rounds, 3);
    let sizes: Vec<_> = std::iter::from_fn(|| {
        let logs = timers.take_logs(&state, seconds(161));
        (!logs.is_empty()).then_some(logs.len())
    })
    .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 40_000);
    assert!(sizes.iter().all(|size| *size <= TICKS_PER_ENTRY_MAX));
}

async fn leader() -> Arc<Testbed> {
    let testbed = Testbed::new(1_000);
    tokio::spawn(expiry::run(testbed.leases.clone(), testbed.clone()));
    while testbed.leases.leadership() != Some(REIGN) {
        sleep(Duration::from_millis(10)).await;
    }
    testbed
}

async fn ended_after(testbed: &Testbed, id: &str) -> Duration {
    let start = Instant::now();
    while remaining(testbed, id).is_some() {
        sleep(Duration::from_millis(20)).await;
        assert!(start.elapsed() < seconds(3_600), "it stands for ever");
    }
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn the_leader_ends_overrides_in_time_and_tells_why() {
    let testbed = leader().await;
    testbed.register("a", "1", 0);
    for ttl in [1, 17, 61, 400] {
        set(&testbed, "1", Some(seconds(ttl)));
        let took = ended_after(&testbed, "1").await;
        assert!(took >= seconds(ttl) && took <= seconds(ttl + 2), "{took:?} of {ttl} s");
    }
    let state = testbed.state();
    let last = state.history_since(state.revision() - 1).unwrap().next().unwrap().clone();
    assert_eq!(last.events[0].cause, EventCause::OverrideExpired);
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_goes_on_from_what_the_log_says() {
    let testbed = leader().await;
    let start = Instant::now();
    set(&testbed, "absent", Some(seconds(200)));
    sleep(seconds(130)).await;
    // Logged at about 60 and 120 s.
    assert!(remaining(&testbed, "absent").unwrap() <= seconds(81));
    testbed.leadership.send_replace(None);
    sleep(seconds(1)).await;
    testbed.leadership.send_replace(Some(Leadership { term: 2, node: 1 }));
    ended_after(&testbed, "absent").await;
    let took = start.elapsed();
    assert!(took >= seconds(200) && took <= seconds(262), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_could_not_be_agreed_on_is_tried_again() {
    let testbed = leader().await;
    set(&testbed, "1", Some(seconds(5)));
    testbed.fate.send_replace(Fate::Unknown);
    sleep(seconds(20)).await;
    assert!(remaining(&testbed, "1").is_some());
    testbed.fate.send_replace(Fate::Applied);
    assert!(ended_after(&testbed, "1").await <= seconds(1));
}
