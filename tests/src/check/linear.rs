//! Linearizability (I1, I2), by witness.
//!
//! Every answer carries the revision at which it took effect, so the order is given: by revision, and at one
//! revision first the call that made it, then the calls that found it. That is a linearization if and only if
//!
//! 1. each revision was made by one call that accounts for its changes, or by the registry itself (expiry);
//! 2. each call that found a revision was answered by the state at it;
//! 3. the order respects real time: a call's revision is at least (of a change: above) every revision that
//!    anybody had been told before the call began.
//!
//! A call with an unknown outcome may have made any one revision above those told before it began, or none.
//! It takes linear time, but for sorting.

use std::collections::BTreeMap;

use registry_proto::v1::{self, RegisterOutcome, ServiceStatus};

use super::explain::{self, LeasesTold, explains, registered};
use super::history::{Answer, Call, History, Operation, Outcome};
use super::names::namespace_of;
use super::observed::Observed;
use super::timeline::{State, Timeline};
use super::violation::Violation;

/// Checks it.
pub fn check(history: &History, timeline: &Timeline) -> Vec<Violation> {
    let observed = Observed::of(history);
    let leases = LeasesTold::of(history);
    let mut violations = real_time(history, &observed);
    let calls = Calls::of(history, &mut violations);
    let mut open: Vec<&Operation> = history.operations.iter().filter(|call| is_open(call)).collect();
    open.sort_by_key(|call| explain::freedom(&call.call));

    let mut state = State::default();
    for answered in calls.found.get(&0).into_iter().flatten() {
        violations.extend(finds(answered, &state));
    }
    for revision in 1..=timeline.last() {
        let group = timeline.group(revision);
        if let Some(maker) = calls.made.get(&revision) {
            if let Err(why) = explains(&maker.call, maker.answer(), &state, &leases, group) {
                violations.push(Violation::new("I2", format!("{}: {why}", maker.describe())));
            }
        } else if !explain::is_own(group) {
            let candidate = open.iter().position(|call| {
                observed.before(call.invoked) < revision
                    && explains(&call.call, None, &state, &leases, group).is_ok()
            });
            match candidate {
                Some(candidate) => drop(open.remove(candidate)),
                None => {
                    let what = format!("no call accounts for revision {revision}: {group:?}");
                    violations.push(Violation::new("I2", what));
                }
            }
        }
        state.apply(revision, group);
        for answered in calls.found.get(&revision).into_iter().flatten() {
            violations.extend(finds(answered, &state));
        }
    }
    violations.extend(calls.beyond(timeline.last()));
    violations
}

fn is_open(call: &Operation) -> bool {
    call.call.is_write() && matches!(call.outcome, Outcome::Unknown(_))
}

/// Answered calls by the revision of their answer.
struct Calls<'a> {
    made: BTreeMap<u64, &'a Operation>,
    found: BTreeMap<u64, Vec<&'a Operation>>,
}

impl<'a> Calls<'a> {
    fn of(history: &'a History, violations: &mut Vec<Violation>) -> Self {
        let mut calls = Self { made: BTreeMap::new(), found: BTreeMap::new() };
        for call in &history.operations {
            let (Some(revision), Some(answer)) = (call.revision(), call.answer()) else { continue };
            if !changed(answer) {
                calls.found.entry(revision).or_default().push(call);
            } else if let Some(other) = calls.made.insert(revision, call) {
                let what = format!("two calls made one revision: {}; {}", call.describe(), other.describe());
                violations.push(Violation::new("I2", what));
            }
        }
        calls
    }

    /// What was answered with a revision of which no watch knows.
    fn beyond(&self, last: u64) -> Vec<Violation> {
        let made = self.made.range(last + 1..).map(|(_, call)| *call);
        let found = self.found.range(last + 1..).flat_map(|(_, calls)| calls.iter().copied());
        made.chain(found)
            .map(|call| {
                let what = format!("{}, but the last revision is {last}", call.describe());
                Violation::new("I1", what)
            })
            .collect()
    }
}

/// True if the answer says that the call made the revision that it names.
pub fn changed(answer: &Answer) -> bool {
    match answer {
        Answer::Registered(answer) => answer.outcome() != RegisterOutcome::Renewed,
        Answer::BatchRegistered(answer) => {
            answer.results.iter().any(|result| result.outcome() != RegisterOutcome::Renewed)
        }
        Answer::Deregistered(answer) => answer.removed > 0,
        Answer::StateSet(answer) => answer.changed > 0,
        Answer::OverrideSet(answer) => {
            let revision = answer.header.as_ref().map(|header| header.revision);
            answer.operator_override.as_ref().map(|set| set.revision) == revision
        }
        Answer::OverrideCleared(answer) => answer.cleared,
        Answer::Renewed(_) | Answer::Found(_) => false,
    }
}

/// The order of revisions respects the times.
fn real_time(history: &History, observed: &Observed) -> Vec<Violation> {
    let calls = history.operations.iter().filter_map(|call| Some((call, call.answer()?, call.revision()?)));
    calls
        .filter(|(_, answer, _)| !answer.is_stale())
        .filter_map(|(call, answer, revision)| {
            let known = observed.before(call.invoked);
            let (least, what) = if changed(answer) { (known + 1, "made") } else { (known, "found") };
            let text =
                format!("{}, but {known} was known when it began: it {what} the past", call.describe());
            (revision < least).then(|| Violation::new("I2", text))
        })
        .collect()
}

/// The answer of a call that changed nothing is what the state says.
fn finds(call: &Operation, state: &State<'_>) -> Option<Violation> {
    let wrong = match (&call.call, call.answer()?) {
        // Stale answers are the business of I3.
        (_, answer) if answer.is_stale() => None,
        (Call::Discover(request), Answer::Found(answer)) => differs(request, answer, state),
        (Call::Register(request), Answer::Registered(answer)) => {
            let present = state.get(&registered(request));
            let same = present.is_some_and(|present| present.incarnation == answer.incarnation);
            let other = (!same).then(|| format!("it renewed {}, there is {present:?}", answer.incarnation));
            other.or(explain::renews(request, state).err())
        }
        (Call::Deregister(request), Answer::Deregistered(_)) if request.lease_id == 0 => {
            let present = state.get(&explain::target!(request));
            present.map(|present| format!("it removed nothing, there is {present:?}"))
        }
        _ => None,
    }?;
    Some(Violation::new("I2", format!("{}: {wrong}", call.describe())))
}

/// How a read differs from the state at its revision, if it does.
pub fn differs(
    request: &v1::ServiceDiscoveryRequest,
    answer: &v1::ServiceDiscoveryResponse,
    state: &State<'_>,
) -> Option<String> {
    let namespace = namespace_of(&request.namespace);
    let mut expected = state.service(namespace, &request.service_name);
    for found in &answer.instances {
        match expected.next() {
            Some(instance) if instance == found => {}
            other => return Some(format!("it shows {found:?}, the state at its revision has {other:?}")),
        }
    }
    if let Some(missing) = expected.next() {
        return Some(format!("it misses {missing:?}"));
    }
    let status = status_of(&answer.instances);
    if !status.contains(&answer.status()) {
        return Some(format!("it says {:?} of {} instances", answer.status(), answer.instances.len()));
    }
    let total = answer.counts.as_ref().map_or(0, |counts| counts.total);
    (total as usize != answer.instances.len()).then(|| format!("it counts {total} instances"))
}

/// What the instances of a service make of it (API/Q1). Whether one without instances was ever known is not
/// seen from outside.
fn status_of(instances: &[v1::Instance]) -> &'static [ServiceStatus] {
    if instances.is_empty() {
        &[ServiceStatus::Unknown, ServiceStatus::Empty]
    } else if instances.iter().any(|instance| instance.protection.is_some()) {
        &[ServiceStatus::Protected]
    } else if instances.iter().any(|instance| instance.state() == v1::InstanceState::Up) {
        &[ServiceStatus::Available]
    } else {
        &[ServiceStatus::NoneUp]
    }
}
