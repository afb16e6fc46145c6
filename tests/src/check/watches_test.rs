//! Histories that are wrong in one way each: watches, and the timeline that they make.

use std::time::Duration;

use registry_proto::v1::{self, WatchKind};

use super::example::{Example, assert_one, deregister, message, register, timeline};
use super::history::History;
use super::timeline::Timeline;
use super::violation::Violation;
use super::watches::check;

const LATE: Duration = Duration::from_secs(1);

/// Five revisions; the second watch is resumed at revision 1 and told 2 to 5.
fn example() -> Example {
    let mut run = Example::default();
    run.call(register("a", "1"));
    run.call(register("b", "1"));
    run.call(register("a", "2"));
    run.call(deregister("b", 0));
    run.call(register("c", "1"));
    run
}

fn judge(history: &History) -> Vec<Violation> {
    check(history, &timeline(history), LATE)
}

/// The messages of the watch of the service: SYNCED, then one for each of the revisions 2 to 5.
fn spoiled(spoil: impl FnOnce(&mut Vec<(Duration, v1::WatchResponse)>)) -> Vec<Violation> {
    let mut history = example().history(1);
    spoil(&mut history.watches[1].messages);
    judge(&history)
}

#[test]
fn a_right_history_has_nothing_wrong() {
    assert_eq!(spoiled(|_| {}), []);
}

#[test]
fn i4_revisions_in_another_order() {
    let violations = spoiled(|messages| messages.swap(2, 3));
    assert!(violations.iter().any(|violation| violation.invariant == "I4"), "{violations:?}");
}

#[test]
fn i4_a_position_behind_what_was_told() {
    assert_one(&spoiled(|messages| messages[4].1.revision = 2), "I4", "up to 2");
}

#[test]
fn i5_a_revision_twice() {
    let violations = spoiled(|messages| messages.insert(3, messages[2].clone()));
    assert_one(&violations, "I5", "revision 3 is told twice");
}

#[test]
fn i5_the_revision_that_was_resumed_from() {
    let history = example().history(0);
    let first = history.watches[1].messages[1].clone();
    assert_one(&spoiled(|messages| messages.insert(1, first)), "I5", "revision 1 is told twice");
}

#[test]
fn i6_a_revision_left_out() {
    assert_one(&spoiled(|messages| drop(messages.remove(3))), "I6", "revision 4 is not told");
}

#[test]
fn i7_a_revision_in_part() {
    let mut run = example();
    let both = run.read().instances;
    let changes = both.into_iter().map(|instance| (instance, None)).collect();
    run.change(v1::EventKind::Removed, v1::EventCause::Expired, changes);
    let mut history = run.history(1);
    assert_eq!(judge(&history), []);
    history.watches[1].messages[5].1.changes[0].events.pop();
    assert_one(&judge(&history), "I7", "revision 6");
}

#[test]
fn i7_another_previous_value() {
    let violations = spoiled(|messages| {
        let previous = messages[2].1.changes[0].events[0].previous.as_mut().unwrap();
        previous.zone = "elsewhere".into();
    });
    assert_one(&violations, "I7", "before was");
}

#[test]
fn i7_a_resume_position_within_a_revision() {
    let violations = spoiled(|messages| messages[2].1.changes[0].more = true);
    assert_one(&violations, "I4", "within revision 3");
}

#[test]
fn i8_a_position_that_is_refused_though_it_is_kept() {
    let violations = spoiled(|messages| {
        let header = messages[0].1.header.clone();
        messages.clear();
        let refusal = v1::WatchResponse { header, oldest_revision: 1, ..message(WatchKind::Compacted) };
        messages.push((Duration::ZERO, refusal));
    });
    assert_one(&violations, "I8", "1 is refused");
}

#[test]
fn i6_a_view_that_lacks_an_instance() {
    let mut run = Example::default();
    run.call(register("a", "1"));
    run.call(register("b", "1"));
    let mut history = run.history(2);
    let instances = run.read().instances;
    let watch = &mut history.watches[1];
    watch.request.resume = None;
    let mut view = v1::WatchResponse { instances, ..message(WatchKind::Snapshot) };
    view.header = watch.messages[0].1.header.take();
    watch.messages.insert(0, (run.now, view));
    assert_eq!(judge(&history), []);
    history.watches[1].messages[0].1.instances.pop();
    assert_one(&judge(&history), "I6", "its view is");
}

#[test]
fn i2_a_view_that_is_older_than_what_was_known() {
    let mut history = example().history(1);
    let late = history.end;
    let watch = &mut history.watches[1];
    watch.request.resume = None;
    watch.opened = late;
    watch.messages.truncate(1);
    watch.messages[0].1.revision = 0;
    assert_one(&judge(&history), "I2", "its view is of revision 0");
}

#[test]
fn i9_silence_while_the_cluster_is_calm() {
    let mut history = example().history(1);
    history.calm_from = Some(Duration::ZERO);
    assert_eq!(judge(&history), []);
    history.end += Duration::from_secs(12);
    history.watches[0].closed = Some(Duration::ZERO);
    assert_one(&judge(&history), "I9", "it is silent");
}

#[test]
fn i9_a_bookmark_ahead_of_what_was_told() {
    let violations = spoiled(|messages| {
        let (at, _) = messages.pop().unwrap();
        messages.truncate(3);
        messages.push((at, v1::WatchResponse { revision: 5, ..message(WatchKind::Bookmark) }));
    });
    assert_eq!(violations.len(), 2, "4 and 5 are not told: {violations:?}");
    assert!(violations.iter().all(|violation| violation.invariant == "I6"), "{violations:?}");
}

#[test]
fn a_change_before_the_view_is_complete() {
    let mut history = example().history(0);
    let watch = &mut history.watches[1];
    watch.request.resume = None;
    watch.messages[1].1.header = watch.messages[0].1.header.clone();
    watch.messages.remove(0);
    assert_one(&judge(&history), "I4", "while the stream is Snapshot");
}

#[test]
fn two_watchers_of_everything_that_are_told_different_things() {
    let mut history = example().history(0);
    let mut other = history.watches[0].clone();
    let instance = other.messages[2].1.changes[0].events[0].instance.as_mut().unwrap();
    instance.port = 81;
    history.watches.push(other);
    assert_one(&Timeline::of(&history).unwrap_err(), "I7", "revision 2");
}

#[test]
fn a_timeline_with_a_hole_judges_nothing() {
    let mut run = example();
    let mut history = run.history(0);
    run.call(register("d", "1"));
    run.call(register("e", "1"));
    let mut later = run.history(6).watches.remove(1);
    later.request = v1::WatchRequest { all_namespaces: true, ..later.request };
    history.watches.push(later);
    assert_one(&Timeline::of(&history).unwrap_err(), "witness", "6 to 6");
}

#[test]
fn a_removal_of_what_is_not_there() {
    let mut history = example().history(0);
    let removal = history.watches[0].messages[4].1.changes[0].events[0].clone();
    history.watches[0].messages[2].1.changes[0].events = vec![removal];
    let violations = Timeline::of(&history).unwrap_err();
    assert_eq!(violations.len(), 2, "at 2 and at 4, where it is gone already: {violations:?}");
    assert!(violations.iter().all(|violation| violation.invariant == "I6"), "{violations:?}");
}
