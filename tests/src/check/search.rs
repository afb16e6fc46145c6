//! Linearizability of small histories by search: Wing and Gong's algorithm with Lowe's memory of what was tried.
//!
//! It knows nothing of the checker by witness but the history itself: it has a registry of its own, tries every
//! order of the calls that respects the real times, and asks whether one of them gives every answer. Exponential;
//! there to be compared with the witness. (J. Wing, C. Gong, "Testing and verifying concurrent objects", 1993;
//! G. Lowe, "Testing for linearizability", 2017.)

use std::collections::{BTreeMap, BTreeSet};

use registry_proto::v1::{self, EventCause, EventKind, RegisterOutcome};

use super::history::{Answer, Call, History, Operation, Outcome, Time};
use super::timeline::{Event, Timeline};

/// Calls and messages of watches that a history may have for a search.
pub const MAX_STEPS: usize = 64;

/// An instance in short: its mark and its incarnation, by id.
type State = BTreeMap<String, (String, u64)>;

/// True if there is an order in which every answer is right and every revision is as the watches tell it.
/// Knows Register (without owners), Deregister of an instance, and linearizable Discover.
pub fn is_linearizable(history: &History, timeline: &Timeline) -> bool {
    let calls = history.operations.iter().filter_map(Step::of_call);
    let messages = history.watches.iter().flat_map(|watch| &watch.messages);
    let seen = messages.map(|(at, message)| Step {
        invoked: Time::ZERO,
        ended: Some(*at),
        kind: Kind::Seen(message.revision),
    });
    let steps: Vec<Step> = calls.chain(seen).collect();
    assert!(steps.len() <= MAX_STEPS, "{} steps are too many for a search", steps.len());
    let mut search = Search { steps, timeline, tried: BTreeSet::new() };
    search.goes_on(0, 0, &State::new())
}

struct Step {
    invoked: Time,
    /// When it was over; `None` if it need not have happened at all.
    ended: Option<Time>,
    kind: Kind,
}

enum Kind {
    Put {
        id: String,
        mark: String,
        answer: Option<(u64, RegisterOutcome, u64)>,
    },
    Remove {
        id: String,
        incarnation: u64,
        answer: Option<(u64, u32)>,
    },
    Read {
        shown: State,
        revision: u64,
    },
    /// Somebody was told of this revision.
    Seen(u64),
}

fn mark_of(metadata: &BTreeMap<String, String>) -> String {
    metadata.get("mark").cloned().unwrap_or_default()
}

impl Step {
    fn of_call(call: &Operation) -> Option<Self> {
        if matches!(call.outcome, Outcome::Refused(_)) {
            return None;
        }
        let revision = call.revision().unwrap_or_default();
        let kind = match (&call.call, call.answer()) {
            (Call::Register(request), answer) => Kind::Put {
                id: request.instance_id.clone(),
                mark: mark_of(&request.metadata),
                answer: match answer {
                    Some(Answer::Registered(a)) => Some((revision, a.outcome(), a.incarnation)),
                    _ => None,
                },
            },
            (Call::Deregister(request), answer) => Kind::Remove {
                id: request.instance_id.clone(),
                incarnation: request.incarnation,
                answer: match answer {
                    Some(Answer::Deregistered(answer)) => Some((revision, answer.removed)),
                    _ => None,
                },
            },
            (Call::Discover(_), Some(Answer::Found(answer))) => {
                Kind::Read { shown: answer.instances.iter().map(in_short).collect(), revision }
            }
            _ => return None,
        };
        let ended = call.ended.filter(|_| call.answer().is_some());
        Some(Self { invoked: call.invoked, ended, kind })
    }
}

fn in_short(instance: &v1::Instance) -> (String, (String, u64)) {
    (instance.instance_id.clone(), (mark_of(&instance.metadata), instance.incarnation))
}

struct Search<'a> {
    steps: Vec<Step>,
    timeline: &'a Timeline,
    /// Which steps were taken, and the revision reached: the state follows from the revision.
    tried: BTreeSet<(u64, u64)>,
}

impl Search<'_> {
    /// Whether the rest can be put in order after these steps.
    fn goes_on(&mut self, taken: u64, revision: u64, state: &State) -> bool {
        let done = |at: usize| taken & (1 << at) != 0;
        if revision == self.timeline.last()
            && self.steps.iter().enumerate().all(|(at, step)| done(at) || step.ended.is_none())
        {
            return true;
        }
        if !self.tried.insert((taken, revision)) {
            return false;
        }
        let group = self.timeline.group(revision + 1);
        if !group.is_empty() && group.iter().all(|event| event.cause == EventCause::Expired) {
            let mut next = state.clone();
            group.iter().for_each(|event| drop(next.remove(&event.key.instance_id)));
            if self.goes_on(taken, revision + 1, &next) {
                return true;
            }
        }
        for at in (0..self.steps.len()).filter(|at| !done(*at)) {
            let invoked = self.steps[at].invoked;
            let must_wait = self
                .steps
                .iter()
                .enumerate()
                .any(|(other, step)| !done(other) && step.ended.is_some_and(|ended| ended < invoked));
            if must_wait {
                continue;
            }
            if let Some((revision, next)) = self.steps[at].kind.step(revision, state, group)
                && self.goes_on(taken | 1 << at, revision, &next)
            {
                return true;
            }
        }
        false
    }
}

impl Kind {
    /// The revision and the state after the step, if its answer is right in this state and it does what the
    /// next revision did.
    fn step(&self, revision: u64, state: &State, group: &[Event]) -> Option<(u64, State)> {
        match self {
            Kind::Seen(seen) => (revision >= *seen).then(|| (revision, state.clone())),
            Kind::Read { shown, revision: at } => {
                (*at == revision && shown == state).then(|| (revision, state.clone()))
            }
            Kind::Put { id, mark, answer } => {
                let present = state.get(id);
                let incarnation = present.map_or(revision + 1, |(_, incarnation)| *incarnation);
                let outcome = match present {
                    Some((same, _)) if same == mark => RegisterOutcome::Renewed,
                    Some(_) => RegisterOutcome::Updated,
                    None => RegisterOutcome::Created,
                };
                let after = revision + u64::from(outcome != RegisterOutcome::Renewed);
                let mut next = state.clone();
                next.insert(id.clone(), (mark.clone(), incarnation));
                let right = answer.is_none_or(|answer| answer == (after, outcome, incarnation));
                (right && (after == revision || makes(state, &next, group))).then_some((after, next))
            }
            Kind::Remove { id, incarnation, answer } => {
                let hit = state.get(id).is_some_and(|(_, now)| [0, *now].contains(incarnation));
                let after = revision + u64::from(hit);
                let mut next = state.clone();
                if hit {
                    next.remove(id);
                }
                let right = answer.is_none_or(|answer| answer == (after, u32::from(hit)));
                (right && (after == revision || makes(state, &next, group))).then_some((after, next))
            }
        }
    }
}

/// True if the group is what made `after` of `before`.
fn makes(before: &State, after: &State, group: &[Event]) -> bool {
    let mut told = before.clone();
    for event in group {
        if event.cause == EventCause::Expired {
            return false;
        }
        let (id, short) = in_short(&event.instance);
        if event.kind == EventKind::Removed {
            told.remove(&id)
        } else {
            told.insert(id, short)
        };
    }
    !group.is_empty() && told == *after
}
