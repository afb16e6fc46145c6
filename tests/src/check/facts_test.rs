//! Histories that are wrong in one way each: stale reads, leases, hashes, revisions.

use std::time::Duration;

use super::example::{Example, TICK, TTL, assert_one, discover, register, timeline};
use super::history::{Answer, Call, History, Outcome, StateHash};
use super::{hashes, leases, revisions, stale, violations};

const LATE: Duration = Duration::from_millis(500);
const SECOND: Duration = Duration::from_secs(1);

/// A stale read of revision 1 a second after revision 2, which says that it is this old.
fn stale_read(age: Duration) -> (Example, usize) {
    let mut run = Example::default();
    run.call(register("a", "1"));
    let old = run.read();
    run.call(register("a", "2"));
    run.wait(SECOND);
    let at = run.stale(old, age);
    (run, at)
}

#[test]
fn i3_a_stale_read_that_says_how_old_it_is_is_right() {
    let history = stale_read(SECOND * 2).0.history(0);
    assert_eq!(stale::check(&history, &timeline(&history)), []);
}

#[test]
fn i3_a_stale_read_that_is_older_than_it_says() {
    let history = stale_read(TICK).0.history(0);
    assert_one(&stale::check(&history, &timeline(&history)), "I3", "2 was known at");
}

#[test]
fn i3_a_stale_read_that_shows_what_never_was() {
    let (run, at) = stale_read(SECOND * 2);
    let mut history = run.history(0);
    if let Outcome::Answered(Answer::Found(answer)) = &mut history.operations[at].outcome {
        answer.instances[0].port = 81;
    }
    assert_one(&stale::check(&history, &timeline(&history)), "I3", "it shows");
}

#[test]
fn i3_a_stale_read_that_does_not_say_how_old_it_is() {
    let (run, at) = stale_read(SECOND * 2);
    let mut history = run.history(0);
    if let Outcome::Answered(Answer::Found(answer)) = &mut history.operations[at].outcome {
        answer.header.as_mut().unwrap().staleness = None;
    }
    assert_one(&stale::check(&history, &timeline(&history)), "I3", "does not say how old");
}

#[test]
fn i3_a_linearizable_read_that_is_stale() {
    let (run, at) = stale_read(SECOND * 2);
    let mut history = run.history(0);
    history.operations[at].call = discover();
    assert_one(&stale::check(&history, &timeline(&history)), "I3", "it was to be linearizable");
}

#[test]
fn i3_a_stale_read_beyond_the_age_that_was_asked_for() {
    let (run, at) = stale_read(SECOND * 2);
    let mut history = run.history(0);
    if let Call::Discover(request) = &mut history.operations[at].call {
        request.max_staleness = SECOND.try_into().ok();
    }
    assert_one(&stale::check(&history, &timeline(&history)), "I3", "at most was asked for");
}

#[test]
fn i3_a_session_that_goes_back() {
    let mut history = stale_read(SECOND * 2).0.history(0);
    history.operations.iter_mut().for_each(|call| call.session = Some(1));
    assert_one(&stale::check(&history, &timeline(&history)), "I3", "its session had seen 2");
}

#[test]
fn i3_a_read_below_the_revision_that_was_asked_for() {
    let (run, at) = stale_read(SECOND * 2);
    let mut history = run.history(0);
    if let Call::Discover(request) = &mut history.operations[at].call {
        request.min_revision = 2;
    }
    assert_one(&stale::check(&history, &timeline(&history)), "I3", "it asked for revision 2");
}

/// An instance is renewed once and expires this long after the renewal began.
fn lease(silence: Duration) -> Example {
    let mut run = Example::default();
    run.call(register("a", "1"));
    run.wait(SECOND);
    let renewed = run.now;
    run.renew("a");
    run.wait(renewed + silence - run.now);
    run.expire("a");
    run
}

fn judge_leases(history: &History) -> Vec<super::Violation> {
    leases::check(history, &timeline(history), LATE)
}

#[test]
fn i10_an_expiry_after_a_full_time_to_live_is_right() {
    assert_eq!(judge_leases(&lease(TTL).history(0)), []);
}

#[test]
fn i10_an_expiry_before_the_time_to_live_since_the_last_renewal() {
    let history = lease(TTL - SECOND / 2).history(0);
    assert_one(&judge_leases(&history), "I10", "after Renew");
}

#[test]
fn i10_a_renewal_acknowledged_after_the_expiry() {
    let mut run = lease(TTL);
    let mut again = run.history(0).operations[1].clone();
    run.wait(SECOND);
    again.invoked = run.now;
    again.ended = Some(run.now + TICK);
    let mut history = run.history(0);
    history.operations.push(again);
    assert_one(&judge_leases(&history), "I10", "it is seen at");
}

#[test]
fn i10_an_instance_that_is_never_gone() {
    let mut run = Example::default();
    run.call(register("a", "1"));
    run.wait(TTL + SECOND * 3);
    run.call(register("b", "1"));
    let mut history = run.history(0);
    assert_eq!(judge_leases(&history), [], "nothing is promised while there are faults");
    history.calm_from = Some(Duration::ZERO);
    assert_one(&judge_leases(&history), "I10", "was due at");
}

#[test]
fn i10_a_permanent_instance_that_expires() {
    let mut run = Example::default();
    let Call::Register(mut request) = register("a", "1") else { unreachable!() };
    request.ttl = Some(Default::default());
    run.call(Call::Register(request));
    run.wait(TTL * 2);
    run.expire("a");
    assert_one(&judge_leases(&run.history(0)), "I10", "it is permanent");
}

#[test]
fn i12_two_states_after_the_same_entries() {
    let hash = |node: &str, index, byte| StateHash {
        node: node.into(),
        told: Duration::ZERO,
        index,
        hash: vec![byte; 2],
    };
    let mut history = History { hashes: vec![hash("1", 7, 1), hash("2", 7, 1)], ..History::default() };
    assert_eq!(hashes::check(&history), []);
    history.hashes.extend([hash("3", 8, 2), hash("3", 7, 2)]);
    assert_one(&hashes::check(&history), "I12", "after entry 7");
}

#[test]
fn i13_a_node_that_goes_back_while_it_runs() {
    let mut history = stale_read(SECOND * 2).0.history(0);
    let again = history.operations[2].clone();
    history.operations.push(again);
    // The read before showed the newer revision.
    let header = registry_proto::v1::ResponseHeader {
        revision: 2,
        epoch: 7,
        node_id: "registry-node-1".into(),
        ..Default::default()
    };
    history.operations[2].invoked = Duration::ZERO;
    history.operations[2].ended = Some(SECOND / 2);
    if let Outcome::Answered(Answer::Found(answer)) = &mut history.operations[2].outcome {
        answer.header = Some(header);
    }
    assert_one(&revisions::check(&history, &timeline(&history)), "I13", "after 2");
    // Another process may know less: it has just begun.
    history.starts.insert("registry-node-1".into(), vec![SECOND / 2 + TICK]);
    assert_eq!(revisions::check(&history, &timeline(&history)), []);
}

#[test]
fn i13_an_epoch_that_changes() {
    let mut history = stale_read(SECOND * 2).0.history(0);
    history.watches[1].messages[0].1.header.as_mut().unwrap().epoch = 8;
    assert_one(&revisions::check(&history, &timeline(&history)), "I13", "several names");
}

#[test]
fn i13_an_incarnation_that_is_not_the_revision_of_its_registration() {
    let mut history = stale_read(SECOND * 2).0.history(0);
    for watch in &mut history.watches {
        let event = &mut watch.messages[2].1.changes[0].events[0];
        event.instance.as_mut().unwrap().incarnation = 2;
    }
    assert_one(&revisions::check(&history, &timeline(&history)), "I13", "has incarnation 2");
}

#[test]
fn a_right_history_passes_all_checkers() {
    let mut run = lease(TTL);
    run.call(register("b", "1"));
    run.call(discover());
    let mut history = run.history(1);
    history.calm_from = Some(Duration::ZERO);
    assert_eq!(violations(&history, LATE), []);
}
