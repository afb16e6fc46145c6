//! The messages of a watch put together: what a reader of the stream knows after each of them.

use std::collections::BTreeMap;

use registry_proto::v1::{self, WatchKind};

use super::history::{Time, Watch};
use super::names::Key;

/// What one or more messages of a stream say.
#[derive(Debug, Clone)]
pub enum Step<'a> {
    /// A whole view of what is there at a revision.
    View {
        /// When its last message came.
        at: Time,
        /// Its revision.
        revision: u64,
        /// The instances.
        instances: BTreeMap<Key, &'a v1::Instance>,
    },
    /// All changes of a revision.
    Group {
        /// When its last fragment came.
        at: Time,
        /// The revision.
        revision: u64,
        /// The changes, in the order in which they came.
        events: Vec<&'a v1::InstanceEvent>,
    },
    /// Everything up to this revision has been told.
    Told {
        /// When this was said.
        at: Time,
        /// The revision.
        revision: u64,
    },
    /// The position to resume from was of no use: a view follows.
    Restart {
        /// The oldest position that would have been; 0 if the epoch was another.
        oldest: u64,
    },
}

/// A stream read to its end, or to the first message that breaks the order of messages (API/W1).
#[derive(Debug)]
pub struct Stream<'a> {
    /// What it said.
    pub steps: Vec<Step<'a>>,
    /// The message that broke the order, for people.
    pub broken: Option<String>,
}

/// Whether a stream may tell changes yet.
#[derive(Debug, PartialEq)]
enum Phase {
    /// A view has to come first.
    Snapshot,
    /// The changes since the position are coming.
    Resuming,
    /// The view is complete.
    Synced,
    /// The last message has come.
    Ended,
}

struct Reader<'a> {
    phase: Phase,
    collected: BTreeMap<Key, &'a v1::Instance>,
    /// A revision of which a fragment came, but not the last one.
    open: Option<(u64, Vec<&'a v1::InstanceEvent>)>,
    steps: Vec<Step<'a>>,
}

/// Puts the messages of a stream together.
pub fn read(watch: &Watch) -> Stream<'_> {
    let phase = match (&watch.request.resume, watch.request.changes_only) {
        (Some(_), _) => Phase::Resuming,
        (None, true) => Phase::Synced,
        (None, false) => Phase::Snapshot,
    };
    let mut reader = Reader { phase, collected: BTreeMap::new(), open: None, steps: Vec::new() };
    for (number, (at, message)) in watch.messages.iter().enumerate() {
        if number == 0 && message.header.is_none() {
            return reader.broken("the first message has no header");
        }
        if let Err(why) = reader.take(*at, message) {
            return reader.broken(&format!("message {number} ({}): {why}", message.kind().as_str_name()));
        }
    }
    Stream { steps: reader.steps, broken: None }
}

impl<'a> Reader<'a> {
    fn broken(self, why: &str) -> Stream<'a> {
        Stream { steps: self.steps, broken: Some(why.to_owned()) }
    }

    fn take(&mut self, at: Time, message: &'a v1::WatchResponse) -> Result<(), String> {
        if self.phase == Phase::Ended {
            return Err("after the last message of the stream".into());
        }
        if self.open.is_some() && message.kind() != WatchKind::Changes {
            return Err("between the fragments of a revision".into());
        }
        match (message.kind(), &self.phase) {
            (WatchKind::Snapshot, Phase::Snapshot) => {
                let found = message.instances.iter().map(|instance| (Key::of(instance), instance));
                self.collected.extend(found);
            }
            (WatchKind::Synced, Phase::Snapshot) => {
                let instances = std::mem::take(&mut self.collected);
                self.steps.push(Step::View { at, revision: message.revision, instances });
                self.phase = Phase::Synced;
            }
            (WatchKind::Synced, Phase::Resuming) => {
                self.steps.push(Step::Told { at, revision: message.revision });
                self.phase = Phase::Synced;
            }
            (WatchKind::Changes, Phase::Resuming | Phase::Synced) => self.changes(at, message)?,
            (WatchKind::Bookmark, Phase::Synced) => {
                self.steps.push(Step::Told { at, revision: message.revision });
            }
            (WatchKind::Compacted | WatchKind::EpochChanged, Phase::Resuming) => {
                self.steps.push(Step::Restart { oldest: message.oldest_revision });
                self.phase = Phase::Snapshot;
            }
            (WatchKind::Resync | WatchKind::Closing, phase) => {
                // 0 = begin anew; of a stream that never was synced nothing follows.
                if message.revision > 0 && *phase != Phase::Snapshot {
                    self.steps.push(Step::Told { at, revision: message.revision });
                }
                self.phase = Phase::Ended;
            }
            (_, phase) => return Err(format!("while the stream is {phase:?}")),
        }
        Ok(())
    }

    fn changes(&mut self, at: Time, message: &'a v1::WatchResponse) -> Result<(), String> {
        for changes in &message.changes {
            let (revision, mut events) = self.open.take().unwrap_or((changes.revision, Vec::new()));
            if revision != changes.revision {
                return Err(format!("revision {revision} is not finished when {} begins", changes.revision));
            }
            events.extend(&changes.events);
            if changes.more {
                self.open = Some((revision, events));
            } else {
                self.steps.push(Step::Group { at, revision, events });
            }
        }
        match &self.open {
            Some((revision, _)) if message.revision >= *revision => {
                Err(format!("it offers to resume at {}, within revision {revision}", message.revision))
            }
            Some(_) => Ok(()),
            None => {
                self.steps.push(Step::Told { at, revision: message.revision });
                Ok(())
            }
        }
    }
}
