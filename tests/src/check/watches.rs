//! The guarantees of watches (I4 to I9), for every stream that was recorded.
//!
//! I4 ordered: revisions rise. I5 unique: none is told twice, nor told again after it was resumed from. I6
//! reliable: of what concerns the watch nothing is left out. I7 atomic: the changes of a revision come together,
//! all of them, as everybody else is told them. I8 resumable: a resume goes on right after its position, and is
//! refused only if that is gone. I9 bookmarked: a position says that everything until then has been told, and
//! an open watch is never silent for long while the cluster is calm.

use std::collections::BTreeMap;
use std::time::Duration;

use registry_proto::v1::{self, Consistency};

use super::history::{History, Time, Watch};
use super::names::{Key, namespace_of};
use super::observed::Observed;
use super::stream::{self, Step};
use super::timeline::{Event, State, Timeline, events_of};
use super::violation::Violation;

/// Time between bookmarks unless asked otherwise (P/V6).
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(10);

/// Checks them. `late` is how much later than promised a bookmark may come on this machine.
pub fn check(history: &History, timeline: &Timeline, late: Duration) -> Vec<Violation> {
    let observed = Observed::of(history);
    let mut violations = Vec::new();
    let mut pictures = Vec::new();
    for watch in &history.watches {
        let stream = stream::read(watch);
        let told = watch.request.resume.as_ref().map(|position| Told::upto(position.revision));
        let mut reading = Reading { watch, timeline, observed: &observed, told, found: Vec::new() };
        if let Some(why) = &stream.broken {
            reading.breaks("I4", why.clone());
        }
        for step in stream.steps {
            reading.take(step, &mut pictures);
        }
        reading.silence(history, late);
        violations.extend(reading.found);
    }
    violations.extend(compare(pictures, timeline));
    violations
}

/// True if a change of this instance concerns the watch.
fn concerns(watch: &v1::WatchRequest, key: &Key) -> bool {
    watch.all_namespaces
        || (namespace_of(&watch.namespace) == key.namespace
            && (watch.service_name.is_empty() || watch.service_name == key.service))
}

/// Something that a watch says about the state at a revision.
struct Picture<'a> {
    revision: u64,
    watch: &'a Watch,
    says: Says<'a>,
}

enum Says<'a> {
    /// This is all there is.
    View(BTreeMap<Key, &'a v1::Instance>),
    /// So these were before the next revision, by the `previous` of its changes.
    Before(Vec<&'a v1::InstanceEvent>),
}

/// A stream as far as it has been read.
struct Reading<'a> {
    watch: &'a Watch,
    timeline: &'a Timeline,
    observed: &'a Observed,
    /// The revision up to which everything was told; `None` before a view is complete.
    told: Option<Told>,
    found: Vec<Violation>,
}

struct Told {
    /// Everything up to it was told.
    upto: u64,
    /// The revisions that were told since.
    since: Vec<u64>,
}

impl Told {
    fn upto(revision: u64) -> Self {
        Self { upto: revision, since: Vec::new() }
    }

    fn last(&self) -> u64 {
        self.since.last().copied().unwrap_or(self.upto)
    }
}

impl<'a> Reading<'a> {
    fn breaks(&mut self, invariant: &'static str, what: String) {
        let watch = self.watch;
        let text = format!("{} at {}, opened at {:?}: {what}", watch.watcher, watch.node, watch.opened);
        self.found.push(Violation::new(invariant, text));
    }

    fn take(&mut self, step: Step<'a>, pictures: &mut Vec<Picture<'a>>) {
        match step {
            Step::View { revision, instances, .. } => self.view(revision, instances, pictures),
            Step::Group { revision, events, .. } => self.group(revision, events, pictures),
            Step::Told { revision, .. } => self.position(revision),
            Step::Restart { oldest } => {
                let position = self.told.as_ref().map_or(0, |told| told.upto);
                if oldest != 0 && oldest <= position {
                    self.breaks("I8", format!("{position} is refused, though it keeps {oldest} and later"));
                }
                self.told = None;
            }
        }
    }

    fn view(
        &mut self,
        revision: u64,
        instances: BTreeMap<Key, &'a v1::Instance>,
        pictures: &mut Vec<Picture<'a>>,
    ) {
        let request = &self.watch.request;
        let linearizable =
            matches!(request.consistency(), Consistency::Unspecified | Consistency::Linearizable);
        let known = self.observed.before(self.watch.opened);
        if linearizable && revision < known {
            self.breaks("I2", format!("its view is of revision {revision}, {known} was known before"));
        }
        if revision < request.min_revision {
            let floor = request.min_revision;
            self.breaks("I3", format!("its view is of revision {revision}, it asked for {floor}"));
        }
        self.told = Some(Told::upto(revision));
        pictures.push(Picture { revision, watch: self.watch, says: Says::View(instances) });
    }

    fn group(&mut self, revision: u64, events: Vec<&'a v1::InstanceEvent>, pictures: &mut Vec<Picture<'a>>) {
        // The next change is the first one of a watch that wants neither view nor position.
        let told = self.told.get_or_insert_with(|| Told::upto(revision - 1));
        let last = told.last();
        if revision > last {
            told.since.push(revision);
        } else if told.since.contains(&revision) || revision == last {
            self.breaks("I5", format!("revision {revision} is told twice"));
        } else {
            self.breaks("I4", format!("revision {revision} is told after {last}"));
        }
        let told = events_of(&events);
        let timeline = self.timeline;
        let expected = timeline.group(revision).iter();
        let expected: Vec<&Event> =
            expected.filter(|event| concerns(&self.watch.request, &event.key)).collect();
        if !told.iter().eq(expected.iter().copied()) {
            self.breaks("I7", format!("revision {revision} is told as {told:?}, it is {expected:?}"));
        }
        if !self.watch.request.omit_previous {
            pictures.push(Picture { revision: revision - 1, watch: self.watch, says: Says::Before(events) });
        }
    }

    /// Everything up to the revision has been told.
    fn position(&mut self, revision: u64) {
        let Some(told) = self.told.replace(Told::upto(revision)) else { return };
        if revision < told.last() {
            let last = told.last();
            self.breaks("I4", format!("it says that it told everything up to {revision}, after {last}"));
        }
        let timeline = self.timeline;
        for (number, events) in timeline.groups(told.upto, revision) {
            let wanted = events.iter().any(|event| concerns(&self.watch.request, &event.key));
            if wanted && told.since.binary_search(&number).is_err() {
                self.breaks("I6", format!("revision {number} is not told, though {revision} is reached"));
            }
        }
    }

    /// Bookmarks come while the cluster is calm.
    fn silence(&mut self, history: &History, late: Duration) {
        let Some(calm) = history.calm_from else { return };
        let asked = self.watch.request.bookmark_interval.and_then(|asked| Duration::try_from(asked).ok());
        let longest = asked.unwrap_or(BOOKMARK_INTERVAL) + late;
        let begin = calm.max(self.watch.opened);
        let end = self.watch.closed.unwrap_or(history.end);
        let came = self.watch.messages.iter().map(|(at, _)| *at).filter(|at| *at > begin);
        let mut last: Time = begin;
        for at in came.chain([end]) {
            if at > last + longest {
                self.breaks("I9", format!("it is silent from {last:?} to {at:?}"));
            }
            last = at;
        }
    }
}

/// Holds what watches say about states against the timeline, in one pass over it.
fn compare(mut pictures: Vec<Picture<'_>>, timeline: &Timeline) -> Vec<Violation> {
    pictures.sort_by_key(|picture| picture.revision);
    let mut state = State::default();
    let mut violations = Vec::new();
    for picture in pictures {
        state.advance(timeline, picture.revision);
        let (revision, watch) = (picture.revision, picture.watch);
        let mut differs = |invariant, what: String| {
            let text = format!("{} at {}, revision {revision}: {what}", watch.watcher, watch.node);
            violations.push(Violation::new(invariant, text));
        };
        match picture.says {
            Says::View(view) => {
                let there = state.all().filter(|(key, _)| concerns(&watch.request, key));
                let there: BTreeMap<&Key, &v1::Instance> = there.collect();
                if !view
                    .iter()
                    .map(|(key, instance)| (key, *instance))
                    .eq(there.iter().map(|(k, i)| (*k, *i)))
                {
                    differs("I6", format!("its view is {view:?}, there is {there:?}"));
                }
            }
            Says::Before(events) => {
                for event in events.iter().filter(|event| event.kind() == v1::EventKind::Updated) {
                    let before = event.instance.as_ref().and_then(|now| state.get(&Key::of(now)));
                    if event.previous.as_ref() != before {
                        differs("I7", format!("before was {:?}, there was {before:?}", event.previous));
                    }
                }
            }
        }
    }
    violations
}
