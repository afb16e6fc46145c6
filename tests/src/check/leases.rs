//! Leases (I10): nothing expires before a full time to live has passed since its owner sent the last renewal
//! that was acknowledged, and in a calm cluster everything that is not renewed is gone soon after.

use std::collections::BTreeMap;
use std::time::Duration;

use registry_proto::v1::EventCause;

use super::explain::{LeasesTold, registered, target};
use super::history::{Answer, Call, History, Operation, Outcome, Time};
use super::names::Key;
use super::observed::Observed;
use super::timeline::{State, Timeline};
use super::violation::Violation;

/// How much later than its time to live an instance is gone at most (README, API/H2).
const LATE: Duration = Duration::from_secs(2);
/// The longest time for which a call that nobody waits for any more may go on at a node.
const UNARY_DEADLINE: Duration = Duration::from_secs(5);

/// Checks them. `late` is how much later than promised an expiry may be seen on this machine.
pub fn check(history: &History, timeline: &Timeline, late: Duration) -> Vec<Violation> {
    let told = LeasesTold::of(history);
    let renewals = Renewals::of(history);
    let observed = Observed::of(history);
    let mut violations = Vec::new();
    for (revision, events) in timeline.groups(0, timeline.last()) {
        for event in events.iter().filter(|event| event.cause == EventCause::Expired) {
            let Some(lease) = told.of_instance(&event.key, event.instance.incarnation) else { continue };
            let seen = observed.first(revision).unwrap_or(history.end);
            let ttl = ttl_of(&event.instance);
            violations.extend(renewals.early(lease, &event.key, ttl, revision, seen));
        }
    }
    violations.extend(overdue(history, timeline, &told, &renewals, late));
    violations
}

fn ttl_of(instance: &registry_proto::v1::Instance) -> Duration {
    instance.ttl.and_then(|ttl| Duration::try_from(ttl).ok()).unwrap_or_default()
}

/// Calls that may renew a lease.
#[derive(Default)]
struct Renewals<'a> {
    /// By lease.
    by_lease: BTreeMap<u64, Vec<&'a Operation>>,
    /// By an instance that they name, whoever owns it.
    by_key: BTreeMap<Key, Vec<&'a Operation>>,
}

impl<'a> Renewals<'a> {
    fn of(history: &'a History) -> Self {
        let mut renewals = Self::default();
        for call in history.operations.iter().filter(|call| !matches!(call.outcome, Outcome::Refused(_))) {
            let (lease, key) = match &call.call {
                Call::Register(request) => (request.lease_id, Some(registered(request))),
                Call::BatchRegister(request) => (request.lease_id, None),
                Call::Renew(request) => (request.lease_id, Some(target!(request))),
                Call::SetState(request) => (request.lease_id, Some(target!(request))),
                _ => continue,
            };
            let lease = match call.answer() {
                Some(Answer::Registered(answer)) => answer.lease_id,
                Some(Answer::BatchRegistered(answer)) => answer.lease_id,
                Some(Answer::Renewed(answer)) => answer.lease_id,
                _ => lease,
            };
            renewals.by_lease.entry(lease).or_default().push(call);
            if let Some(key) = key {
                renewals.by_key.entry(key).or_default().push(call);
            }
        }
        renewals
    }

    /// Renewals of a lease that were acknowledged.
    fn acknowledged(&self, lease: u64) -> impl Iterator<Item = &'a Operation> {
        let calls = self.by_lease.get(&lease).map_or(&[][..], Vec::as_slice);
        let renews = |call: &&Operation| call.answer().is_some() && !matches!(call.call, Call::SetState(_));
        calls.iter().copied().filter(renews)
    }

    /// An expiry seen at this time was not too early.
    fn early(&self, lease: u64, key: &Key, ttl: Duration, revision: u64, seen: Time) -> Option<Violation> {
        let what = |why: String| {
            Some(Violation::new("I10", format!("{key} of lease {lease:#x} expires at {revision}: {why}")))
        };
        if ttl.is_zero() {
            return what("it is permanent".into());
        }
        for call in self.acknowledged(lease) {
            if call.invoked >= seen {
                return what(format!("it is seen at {seen:?}, then {}", call.describe()));
            }
            let due = call.invoked + ttl;
            if seen < due {
                return what(format!("it is seen at {seen:?}, due at {due:?} after {}", call.describe()));
            }
        }
        None
    }

    /// The latest moment in which the lease of an instance may have been renewed.
    fn last(&self, lease: u64, key: &Key, end: Time) -> Time {
        let calls = self.by_lease.get(&lease).into_iter().chain(self.by_key.get(key)).flatten();
        let ends = calls.map(|call| match (&call.outcome, call.ended) {
            (Outcome::Answered(_), Some(ended)) => ended,
            (_, Some(ended)) => ended + UNARY_DEADLINE,
            (_, None) => end,
        });
        ends.max().unwrap_or(end)
    }
}

/// What is not renewed is gone in time, once the cluster is calm.
fn overdue(
    history: &History,
    timeline: &Timeline,
    told: &LeasesTold,
    renewals: &Renewals<'_>,
    late: Duration,
) -> Vec<Violation> {
    let Some(calm) = history.calm_from else { return Vec::new() };
    let mut state = State::default();
    state.advance(timeline, timeline.last());
    // The state at the last revision was still that when a watch last said so.
    let seen = history.watches.iter().filter(|watch| super::timeline::is_of_everything(watch));
    let seen = seen.filter_map(|watch| {
        let (at, message) = watch.messages.last()?;
        (message.revision == timeline.last()).then_some(*at)
    });
    let Some(seen) = seen.max() else { return Vec::new() };
    let mut violations = Vec::new();
    for (key, instance) in state.all() {
        let Some(lease) = told.of_instance(key, instance.incarnation) else { continue };
        let ttl = ttl_of(instance);
        let due = renewals.last(lease, key, history.end).max(calm) + ttl + LATE + late;
        if !ttl.is_zero() && instance.protection.is_none() && due < seen {
            let what = format!("{key} of lease {lease:#x} was due at {due:?} and is there at {seen:?}");
            violations.push(Violation::new("I10", what));
        }
    }
    violations
}
