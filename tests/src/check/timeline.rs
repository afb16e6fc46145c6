//! What each revision changed: the witness that everything else is held against.
//!
//! Made of all watches of everything. Where two of them speak of one revision they have to say the same, and
//! together they have to speak of every revision. A revision without a change of an instance (an override for
//! an absent one) has no entry.

use std::collections::BTreeMap;
use std::ops::Bound;

use registry_proto::v1::{self, EventKind};

use super::history::{History, Watch};
use super::names::Key;
use super::stream::{self, Step};
use super::violation::Violation;

/// A change without its previous value, which follows from the revisions before.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The instance.
    pub key: Key,
    /// What happened.
    pub kind: EventKind,
    /// Why.
    pub cause: v1::EventCause,
    /// The instance after the change; of a removal before it.
    pub instance: v1::Instance,
}

/// What each revision changed, by revision; the changes sorted by instance.
#[derive(Debug, Default)]
pub struct Timeline {
    groups: BTreeMap<u64, Vec<Event>>,
    last: u64,
}

/// True if the watch is told everything.
pub fn is_of_everything(watch: &Watch) -> bool {
    watch.request.all_namespaces
}

/// Changes as the timeline has them. An event without an instance is left out, and so differs.
pub fn events_of(told: &[&v1::InstanceEvent]) -> Vec<Event> {
    let mut events: Vec<Event> = told
        .iter()
        .filter_map(|event| {
            let instance = event.instance.clone()?;
            Some(Event { key: Key::of(&instance), kind: event.kind(), cause: event.cause(), instance })
        })
        .collect();
    events.sort_by(|one, other| one.key.cmp(&other.key));
    events
}

impl Timeline {
    /// The timeline that the watches of everything tell.
    ///
    /// # Errors
    /// What they disagree about, a revision of which none speaks, or one that cannot follow its predecessor.
    pub fn of(history: &History) -> Result<Self, Vec<Violation>> {
        let mut groups: BTreeMap<u64, Vec<Event>> = BTreeMap::new();
        let mut spans = Vec::new();
        let mut violations = Vec::new();
        for watch in history.watches.iter().filter(|watch| is_of_everything(watch)) {
            for (revision, events) in told_by(watch, &mut spans) {
                let present = groups.entry(revision).or_insert_with(|| events.clone());
                if *present != events {
                    let what = format!(
                        "revision {revision} is {events:?} for {} at {}, {present:?} for another watcher",
                        watch.watcher, watch.node
                    );
                    violations.push(Violation::new("I7", what));
                }
            }
        }
        let timeline = Self { groups, last: covered(spans, &mut violations) };
        violations.extend(timeline.follows());
        if violations.is_empty() { Ok(timeline) } else { Err(violations) }
    }

    /// The last revision that it knows of.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// What a revision changed.
    pub fn group(&self, revision: u64) -> &[Event] {
        self.groups.get(&revision).map_or(&[], Vec::as_slice)
    }

    /// What the revisions in (after, upto] changed.
    pub fn groups(&self, after: u64, upto: u64) -> impl Iterator<Item = (u64, &[Event])> {
        let range = (Bound::Excluded(after), Bound::Included(upto.max(after)));
        self.groups.range(range).map(|(revision, events)| (*revision, events.as_slice()))
    }

    /// Each revision follows from the state before it.
    fn follows(&self) -> Vec<Violation> {
        let mut state = State::default();
        let mut violations = Vec::new();
        for (revision, events) in &self.groups {
            for event in events {
                let before = state.get(&event.key);
                let wrong = match (event.kind, before) {
                    (EventKind::Added, None) | (EventKind::Updated, Some(_)) => (event.instance.revision
                        != *revision)
                        .then_some("its instance is of another revision"),
                    (EventKind::Removed, Some(before)) => {
                        (*before != event.instance).then_some("it was not so before")
                    }
                    _ => Some("it does not fit the state before"),
                };
                if let Some(wrong) = wrong {
                    let what = format!(
                        "revision {revision}, {:?} of {}: {wrong}, which was {before:?}",
                        event.kind, event.key
                    );
                    violations.push(Violation::new("I6", what));
                }
            }
            state.apply(*revision, events);
        }
        violations
    }
}

/// The groups of a stream; adds the spans (after, upto] of revisions that it told completely.
fn told_by(watch: &Watch, spans: &mut Vec<(u64, u64)>) -> Vec<(u64, Vec<Event>)> {
    let mut from = watch.request.resume.as_ref().map(|position| position.revision);
    let mut groups = Vec::new();
    for step in stream::read(watch).steps {
        match step {
            Step::View { revision, instances, .. } => {
                // An empty view tells the whole past of a registry that never had anything.
                from = Some(revision);
                if instances.is_empty() && revision == 0 {
                    spans.push((0, 0));
                }
            }
            Step::Group { revision, events, .. } => groups.push((revision, events_of(&events))),
            Step::Told { revision, .. } => {
                spans.extend(from.map(|from| (from, revision)));
                from = Some(revision);
            }
            Step::Restart { .. } => from = None,
        }
    }
    groups
}

/// The last revision of the spans, which have to follow one another from 0 on.
fn covered(mut spans: Vec<(u64, u64)>, violations: &mut Vec<Violation>) -> u64 {
    spans.sort_unstable();
    let mut last = 0;
    for (after, upto) in spans {
        if after > last {
            let what = format!("no watch of everything tells the revisions {} to {after}", last + 1);
            violations.push(Violation::new("witness", what));
        }
        last = last.max(upto);
    }
    last
}

/// What is registered at a revision.
#[derive(Debug, Clone, Default)]
pub struct State<'a> {
    instances: BTreeMap<Key, &'a v1::Instance>,
    revision: u64,
}

impl<'a> State<'a> {
    /// Takes the changes of a revision.
    pub fn apply(&mut self, revision: u64, events: &'a [Event]) {
        self.revision = revision;
        for event in events {
            if event.kind == EventKind::Removed {
                self.instances.remove(&event.key);
            } else {
                self.instances.insert(event.key.clone(), &event.instance);
            }
        }
    }

    /// Goes on to a later revision.
    pub fn advance(&mut self, timeline: &'a Timeline, revision: u64) {
        for (number, events) in timeline.groups(self.revision, revision) {
            self.apply(number, events);
        }
        self.revision = self.revision.max(revision);
    }

    /// The revision.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// An instance.
    pub fn get(&self, key: &Key) -> Option<&'a v1::Instance> {
        self.instances.get(key).copied()
    }

    /// Everything, sorted.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &'a v1::Instance)> {
        self.instances.iter().map(|(key, instance)| (key, *instance))
    }

    /// The instances of a service, sorted by id.
    pub fn service(&self, namespace: &str, service: &str) -> impl Iterator<Item = &'a v1::Instance> {
        let first = Key { namespace: namespace.into(), service: service.into(), instance_id: String::new() };
        let (namespace, service) = (first.namespace.clone(), first.service.clone());
        self.instances
            .range(first..)
            .take_while(move |(key, _)| key.namespace == namespace && key.service == service)
            .map(|(_, instance)| *instance)
    }
}
