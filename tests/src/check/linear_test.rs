//! Histories that are wrong in one way each: linearizability.

use std::time::Duration;

use registry_proto::v1::{self, EventCause, EventKind, RegisterOutcome};

use super::example::{Example, TICK, assert_one, deregister, discover, key, register, timeline};
use super::history::{Answer, Call, History, Outcome};
use super::linear::check;
use super::violation::Violation;

/// Two instances come, one changes, one goes, with a read after each.
fn example() -> Example {
    let mut run = Example::default();
    run.call(register("a", "1"));
    run.call(discover());
    run.call(register("b", "1"));
    run.call(register("a", "2"));
    run.call(discover());
    run.call(deregister("b", 0));
    run.call(discover());
    run
}

fn judge(history: &History) -> Vec<Violation> {
    check(history, &timeline(history))
}

fn found(history: &mut History, at: usize) -> &mut v1::ServiceDiscoveryResponse {
    match &mut history.operations[at].outcome {
        Outcome::Answered(Answer::Found(answer)) => answer,
        other => panic!("a read was answered, not {other:?}"),
    }
}

fn registered(history: &mut History, at: usize) -> &mut v1::ServiceRegisterResponse {
    match &mut history.operations[at].outcome {
        Outcome::Answered(Answer::Registered(answer)) => answer,
        other => panic!("a registration was answered, not {other:?}"),
    }
}

#[test]
fn a_right_history_has_nothing_wrong() {
    assert_eq!(judge(&example().history(0)), []);
}

#[test]
fn a_read_that_misses_what_was_acknowledged_before_it_began() {
    let mut run = Example::default();
    run.call(register("a", "1"));
    let old = run.read();
    run.call(register("b", "1"));
    let read = run.call(discover());
    let mut history = run.history(0);
    *found(&mut history, read) = old;
    assert_one(&judge(&history), "I2", "but 2 was known when it began");
}

#[test]
fn a_read_that_shows_another_content_than_its_revision_has() {
    let mut history = example().history(0);
    found(&mut history, 4).instances[0].metadata.insert("mark".into(), "1".into());
    assert_one(&judge(&history), "I2", "it shows");
}

#[test]
fn a_read_that_leaves_out_an_instance_of_its_revision() {
    let mut history = example().history(0);
    found(&mut history, 4).instances.pop();
    assert_one(&judge(&history), "I2", "it misses");
}

#[test]
fn a_read_that_still_shows_a_removed_instance() {
    let mut history = example().history(0);
    let removed = found(&mut history, 4).instances[1].clone();
    found(&mut history, 6).instances.push(removed);
    assert_one(&judge(&history), "I2", "it shows");
}

#[test]
fn a_read_of_a_revision_that_never_was() {
    let mut history = example().history(0);
    found(&mut history, 6).header.as_mut().unwrap().revision = 9;
    assert_one(&judge(&history), "I1", "the last revision is 4");
}

#[test]
fn an_acknowledged_write_that_is_lost() {
    let mut run = example();
    let history = run.history(0);
    run.call(register("c", "1"));
    // The watches end before it, as if a new leader had never had it.
    let lost = History { watches: history.watches, ..run.history(0) };
    assert_one(&judge(&lost), "I1", "Register orders/c");
}

#[test]
fn a_write_that_something_else_took_the_revision_of() {
    let mut run = Example::default();
    let lost = run.call(register("a", "1"));
    let mut other = Example::default();
    other.call(register("a", "x"));
    let history = History { watches: other.history(0).watches, ..run.history(0) };
    assert_one(&judge(&history), "I2", &history.operations[lost].describe());
}

#[test]
fn two_writes_with_one_revision() {
    let mut run = Example::default();
    run.call(register("a", "1"));
    let other = run.call(register("b", "1"));
    let mut history = run.history(0);
    registered(&mut history, other).header.as_mut().unwrap().revision = 1;
    let violations = judge(&history);
    assert!(violations.iter().any(|v| v.what.contains("two calls made one revision")), "{violations:?}");
}

#[test]
fn a_write_that_took_effect_before_it_was_made() {
    let mut run = Example::default();
    run.call(register("a", "1"));
    let read = run.call(discover());
    let write = run.call(register("b", "1"));
    let read_after = run.call(discover());
    let mut history = run.history(0);
    // Somebody read it before it was asked for; nothing is wrong with the read but its time.
    let (invoked, ended) = (history.operations[read].invoked, history.operations[read].ended);
    history.operations[read_after].invoked = invoked;
    history.operations[read_after].ended = ended;
    let describe = history.operations[write].describe();
    assert_one(&judge(&history), "I2", &describe);
}

#[test]
fn a_change_that_nobody_asked_for() {
    let mut run = Example::default();
    run.call(register("a", "1"));
    let instance = run.read().instances[0].clone();
    run.change(EventKind::Removed, EventCause::Deregistered, vec![(instance, None)]);
    assert_one(&judge(&run.history(0)), "I2", "no call accounts for revision 2");
}

#[test]
fn a_refused_call_that_took_effect_all_the_same() {
    let mut run = Example::default();
    let refused = run.call(register("a", "1"));
    let mut history = run.history(0);
    history.operations[refused].outcome = Outcome::Refused("NO_QUORUM".into());
    assert_one(&judge(&history), "I2", "no call accounts for revision 1");
}

#[test]
fn a_call_with_an_unknown_outcome_may_have_happened_later_or_never() {
    let mut run = Example::default();
    let late = run.call(register("a", "1"));
    run.call(discover());
    let mut history = run.history(0);
    history.operations[late].outcome = Outcome::Unknown("timeout".into());
    history.operations[late].ended = Some(Duration::ZERO);
    let mut never = history.operations[late].clone();
    never.call = register("b", "1");
    history.operations.push(never);
    assert_eq!(judge(&history), []);
}

#[test]
fn a_call_with_an_unknown_outcome_that_happened_twice() {
    let mut run = Example::default();
    let unknown = run.call(deregister("a", 0));
    run.call(register("a", "1"));
    run.take(&deregister("a", 0));
    run.wait(TICK);
    run.call(register("a", "1"));
    run.take(&deregister("a", 0));
    let mut history = run.history(0);
    history.operations[unknown].outcome = Outcome::Unknown("timeout".into());
    assert_one(&judge(&history), "I2", "no call accounts for revision 4");
}

#[test]
fn a_call_with_an_unknown_outcome_that_happened_before_it_was_made() {
    let mut run = Example::default();
    run.call(register("a", "1"));
    run.call(discover());
    let unknown = run.call(deregister("a", 0));
    let mut history = run.history(0);
    history.operations[unknown].outcome = Outcome::Unknown("timeout".into());
    assert_eq!(judge(&history), []);
    history.operations[unknown].invoked += TICK * 2;
    assert_one(&judge(&history), "I2", "no call accounts for revision 2");
}

#[test]
fn of_two_unknown_calls_the_one_that_fits_nothing_else_is_taken_first() {
    let mut run = Example::default();
    let calls = [deregister("a", 0), deregister("a", 1)].map(|call| run.call(call));
    run.call(register("a", "1"));
    run.take(&deregister("a", 0));
    run.wait(TICK);
    run.call(register("a", "1"));
    run.take(&deregister("a", 0));
    let mut history = run.history(0);
    for call in calls {
        history.operations[call].outcome = Outcome::Unknown("timeout".into());
    }
    assert_eq!(judge(&history), []);
}

#[test]
fn an_answer_with_another_incarnation_than_was_given() {
    let mut history = example().history(0);
    registered(&mut history, 3).incarnation = 3;
    assert_one(&judge(&history), "I2", "it was answered incarnation 3");
}

#[test]
fn an_answer_that_shows_another_instance_than_was_made() {
    let mut history = example().history(0);
    registered(&mut history, 3).instance.as_mut().unwrap().zone = "elsewhere".into();
    assert_one(&judge(&history), "I2", "it was answered Some");
}

#[test]
fn an_answer_that_calls_a_change_a_creation() {
    let mut history = example().history(0);
    registered(&mut history, 3).outcome = RegisterOutcome::Created.into();
    assert_one(&judge(&history), "I2", "it was answered Created");
}

#[test]
fn a_renewal_of_what_is_not_there() {
    let mut run = Example::default();
    run.call(register("a", "1"));
    let renewed = run.call(register("a", "1"));
    let mut history = run.history(0);
    registered(&mut history, renewed).incarnation = 7;
    assert_one(&judge(&history), "I2", "it renewed 7");
}

#[test]
fn a_removal_that_says_nothing_was_there() {
    let mut run = Example::default();
    run.call(register("a", "1"));
    let call = run.call(deregister("b", 0));
    let mut history = run.history(0);
    history.operations[call].call = deregister("a", 0);
    assert_one(&judge(&history), "I2", "it removed nothing");
}

#[test]
fn a_fenced_removal_that_hit_the_successor() {
    let mut run = Example::default();
    run.call(register("a", "1"));
    let call = run.call(deregister("a", 0));
    let mut history = run.history(0);
    history.operations[call].call = deregister("a", 9);
    assert_one(&judge(&history), "I2", "it does not name");
}

/// A batch of a and b, and what it is answered.
fn batch(run: &mut Example) -> (Call, Answer) {
    let registrations = ["a", "b"].map(|id| match register(id, "1") {
        Call::Register(request) => request,
        other => unreachable!("{other:?}"),
    });
    let calls = registrations.clone();
    let instances = calls.map(|request| match Example::default().take(&Call::Register(request)) {
        Answer::Registered(answer) => answer.instance.unwrap(),
        other => unreachable!("{other:?}"),
    });
    let result = |id: &str| v1::BatchRegisterResult {
        instance_id: id.into(),
        incarnation: 1,
        outcome: RegisterOutcome::Created.into(),
    };
    let results = vec![result("a"), result("b")];
    let changes = instances.into_iter().map(|instance| (instance, None)).collect();
    run.change(EventKind::Added, EventCause::Registered, changes);
    let header = run.header();
    let call = Call::BatchRegister(v1::BatchRegisterRequest {
        registrations: registrations.into(),
        ..Default::default()
    });
    (call, Answer::BatchRegistered(v1::BatchRegisterResponse { header, results, lease_id: 5 }))
}

/// A history of one batch; `spoil` changes what the revision did.
fn of_batch(spoil: impl FnOnce(&mut v1::RevisionChanges)) -> History {
    let mut run = Example::default();
    let place = run.call(discover());
    let (call, answer) = batch(&mut run);
    let mut history = run.history(0);
    history.operations[place].call = call;
    history.operations[place].outcome = Outcome::Answered(answer);
    spoil(&mut history.watches[0].messages[1].1.changes[0]);
    history
}

#[test]
fn a_batch_is_one_revision() {
    assert_eq!(judge(&of_batch(|_| {})), []);
}

#[test]
fn a_batch_that_registered_only_some() {
    let history = of_batch(|changes| drop(changes.events.pop()));
    assert_one(&judge(&history), "I2", "all or none");
}

#[test]
fn a_revision_with_a_change_that_is_not_of_its_batch() {
    let history = of_batch(|changes| {
        let mut foreign = changes.events[0].clone();
        foreign.instance.as_mut().unwrap().instance_id = "foreign".into();
        changes.events.push(foreign);
    });
    assert_one(&judge(&history), "I2", &format!("it does not register {}", key("foreign")));
}
