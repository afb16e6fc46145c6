//! Stale reads (I3): old, but true, never going back within a session, and as old as they say at most.

use std::collections::BTreeMap;
use std::time::Duration;

use registry_proto::v1::{Consistency, ServiceDiscoveryRequest};

use super::history::{Answer, Call, History, Operation, Time};
use super::linear::differs;
use super::observed::Observed;
use super::timeline::{State, Timeline};
use super::violation::Violation;

/// Checks them.
pub fn check(history: &History, timeline: &Timeline) -> Vec<Violation> {
    let mut violations = sessions(history);
    let replies = history.operations.iter().filter_map(|call| Some((call.ended?, call.revision()?)));
    let replies = Observed::from(replies.collect());
    let mut reads: Vec<Read<'_>> = history.operations.iter().filter_map(Read::of).collect();
    violations.extend(reads.iter().filter_map(|read| read.age(&replies)));
    violations.extend(reads.iter().filter_map(Read::floor));
    reads.sort_by_key(|read| read.revision);
    let mut state = State::default();
    for read in reads.into_iter().filter(|read| read.stale.is_some()) {
        state.advance(timeline, read.revision);
        if read.revision > timeline.last() {
            violations.push(read.breaks(format!("the last revision is {}", timeline.last())));
        } else if let Answer::Found(answer) = read.answer
            && let Some(how) = differs(read.request, answer, &state)
        {
            violations.push(read.breaks(how));
        }
    }
    violations
}

/// A read that was answered.
struct Read<'a> {
    call: &'a Operation,
    request: &'a ServiceDiscoveryRequest,
    answer: &'a Answer,
    revision: u64,
    /// How old the answer says that it is at most; `None` = not old at all.
    stale: Option<Duration>,
    /// The node knows no bound.
    unknown: bool,
}

impl<'a> Read<'a> {
    fn of(call: &'a Operation) -> Option<Self> {
        let Call::Discover(request) = &call.call else { return None };
        let answer = call.answer()?;
        let header = answer.header()?;
        let stale = header.staleness.map(|age| Duration::try_from(age).unwrap_or_default());
        let (revision, unknown) = (header.revision, header.staleness_unknown);
        Some(Self { call, request, answer, revision, stale, unknown })
    }

    fn breaks(&self, how: String) -> Violation {
        Violation::new("I3", format!("{}: {how}", self.call.describe()))
    }

    /// Its age is a bound, and not above the bound that was asked for.
    fn age(&self, replies: &Observed) -> Option<Violation> {
        let consistency = self.request.consistency();
        let may_be_stale = matches!(consistency, Consistency::Stale | Consistency::LinearizableOrStale);
        let Some(age) = self.stale else {
            return (consistency == Consistency::Stale)
                .then(|| self.breaks("it is stale and does not say how old".into()));
        };
        if !may_be_stale {
            return Some(self.breaks("it was to be linearizable and is stale".into()));
        }
        let most = self.request.max_staleness.and_then(|most| Duration::try_from(most).ok());
        if most.is_some_and(|most| age > most || self.unknown) {
            return Some(self.breaks(format!("it is {age:?} old, {most:?} at most was asked for")));
        }
        // Everything that was answered before the age began is in it.
        let since: Time = self.call.invoked.checked_sub(age)?;
        let known = replies.before(since);
        (!self.unknown && self.revision < known)
            .then(|| self.breaks(format!("it is {age:?} old at most, and {known} was known at {since:?}")))
    }

    fn floor(&self) -> Option<Violation> {
        let floor = self.request.min_revision;
        (self.revision < floor).then(|| self.breaks(format!("it asked for revision {floor} at least")))
    }
}

/// Within a session nothing goes back.
fn sessions(history: &History) -> Vec<Violation> {
    let mut sessions: BTreeMap<u32, Vec<&Operation>> = BTreeMap::new();
    for call in &history.operations {
        if let Some(session) = call.session {
            sessions.entry(session).or_default().push(call);
        }
    }
    let mut violations = Vec::new();
    for calls in sessions.values() {
        let seen = calls.iter().filter_map(|call| Some((call.ended?, call.revision()?)));
        let seen = Observed::from(seen.collect());
        for call in calls.iter().filter(|call| matches!(call.call, Call::Discover(_))) {
            let known = seen.before(call.invoked);
            if call.revision().is_some_and(|revision| revision < known) {
                let what = format!("{}, though its session had seen {known}", call.describe());
                violations.push(Violation::new("I3", what));
            }
        }
    }
    violations
}
