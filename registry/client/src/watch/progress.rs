//! What a watch has received and where it resumes. Pure: messages in, events out.

use std::collections::VecDeque;
use std::time::Duration;

use registry_proto::v1::{
    ErrorReason, Instance, Position, ResponseHeader, RevisionChanges, WatchKind, WatchRequest, WatchResponse,
};

use crate::error::Error;
use crate::watch::WatchEvent;

/// Events of one revision that arrives in parts. One command changes at most 1,024 instances (P/L4);
/// more than this is not the registry that this library was made for.
const MAX_REVISION_EVENTS: usize = 65_536;

/// What the messages of a stream that is opened now will lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A snapshot is being collected.
    Snapshot,
    /// What was missed is being told.
    Resume,
    /// The view is complete.
    Live,
}

/// Whether the stream goes on.
#[derive(Debug)]
pub(crate) enum Flow {
    /// Read on.
    Continue,
    /// Open another stream, after `wait`; at another node if `elsewhere`.
    Reopen { wait: Duration, elsewhere: bool, error: Error },
}

/// The state of a watch apart from its stream.
#[derive(Debug)]
pub(crate) struct Progress {
    request: WatchRequest,
    /// Data older than this is left for another node's (P/V6).
    max_age: Duration,
    phase: Phase,
    epoch: u64,
    position: Option<Position>,
    collected: Vec<Instance>,
    part: Option<RevisionChanges>,
    events: VecDeque<WatchEvent>,
}

impl Progress {
    pub(crate) fn new(request: WatchRequest, max_age: Duration) -> Self {
        Self {
            position: request.resume,
            request,
            max_age,
            phase: Phase::Snapshot,
            epoch: 0,
            collected: Vec::new(),
            part: None,
            events: VecDeque::new(),
        }
    }

    pub(crate) fn position(&self) -> Option<Position> {
        self.position
    }

    pub(crate) fn changes_only(&self) -> bool {
        self.request.changes_only
    }

    /// The next event to tell.
    pub(crate) fn pop(&mut self) -> Option<WatchEvent> {
        self.events.pop_front()
    }

    pub(crate) fn push(&mut self, event: WatchEvent) {
        self.events.push_back(event);
    }

    /// Longest silence that a healthy stream can have: a few bookmarks.
    pub(crate) fn longest_silence(&self) -> Duration {
        let default = Duration::from_secs(10);
        let interval =
            self.request.bookmark_interval.map_or(default, |given| given.try_into().unwrap_or(default));
        interval * 5 / 2 + Duration::from_secs(2)
    }

    /// The request for a new stream. What a former one left half-told is forgotten.
    pub(crate) fn begin(&mut self) -> WatchRequest {
        self.collected.clear();
        self.part = None;
        let resume = self.position;
        self.phase = match resume {
            None if !self.request.changes_only => Phase::Snapshot,
            _ => Phase::Resume,
        };
        WatchRequest { resume, ..self.request.clone() }
    }

    /// The position is of another history: begin with a snapshot.
    pub(crate) fn forget(&mut self) {
        self.position = None;
        self.epoch = 0;
        self.push(WatchEvent::EpochChanged);
    }

    /// Takes a message.
    pub(crate) fn receive(&mut self, message: WatchResponse) -> Flow {
        if let Some(header) = &message.header {
            self.epoch = header.epoch;
        }
        match message.kind() {
            WatchKind::Snapshot => {
                self.collected.extend(message.instances);
                Flow::Continue
            }
            WatchKind::Synced => self.synced(&message),
            WatchKind::Changes => self.changed(message),
            WatchKind::Bookmark => self.bookmark(&message),
            WatchKind::Compacted => {
                self.phase = Phase::Snapshot;
                self.push(WatchEvent::Compacted { oldest_revision: message.oldest_revision });
                Flow::Continue
            }
            WatchKind::EpochChanged => {
                self.phase = Phase::Snapshot;
                self.position = None;
                self.push(WatchEvent::EpochChanged);
                Flow::Continue
            }
            WatchKind::Resync => Self::end(&message, false, "this reader was too slow"),
            WatchKind::Closing => Self::end(&message, true, "the node closes the stream"),
            WatchKind::Unspecified => Flow::Continue,
        }
    }

    fn synced(&mut self, message: &WatchResponse) -> Flow {
        let position = Position { epoch: self.epoch, revision: message.revision };
        let staleness = message.header.as_ref().and_then(age);
        self.part = None;
        if self.phase == Phase::Snapshot {
            self.position = Some(position);
            let instances = std::mem::take(&mut self.collected);
            self.push(WatchEvent::Snapshot { instances, position, staleness });
        } else {
            self.advance(message.revision);
            if let Some(position) = self.position {
                self.push(WatchEvent::Resumed { position, staleness });
            }
        }
        self.phase = Phase::Live;
        Flow::Continue
    }

    fn changed(&mut self, message: WatchResponse) -> Flow {
        if self.phase == Phase::Snapshot {
            return broken("changes before the snapshot was complete");
        }
        for changes in message.changes {
            if let Some(flow) = self.revision(changes) {
                return flow;
            }
        }
        if self.part.is_none() {
            self.advance(message.revision);
        }
        Flow::Continue
    }

    /// One revision, or a part of one. It is told when it is whole.
    fn revision(&mut self, mut changes: RevisionChanges) -> Option<Flow> {
        if let Some(mut part) = self.part.take() {
            if part.revision != changes.revision {
                return Some(broken("a revision was not told to its end"));
            }
            part.events.append(&mut changes.events);
            changes.events = part.events;
        }
        if std::mem::take(&mut changes.more) {
            if changes.events.len() > MAX_REVISION_EVENTS {
                return Some(broken("a revision has too many events"));
            }
            self.part = Some(changes);
            return None;
        }
        let told = self.position.filter(|position| position.epoch == self.epoch || self.epoch == 0);
        if told.is_some_and(|told| changes.revision <= told.revision) {
            return None;
        }
        self.advance(changes.revision);
        if let Some(position) = self.position {
            self.push(WatchEvent::Changes { changes, position });
        }
        None
    }

    fn bookmark(&mut self, message: &WatchResponse) -> Flow {
        self.advance(message.revision);
        let staleness = message.header.as_ref().and_then(age);
        if let Some(position) = self.position {
            self.push(WatchEvent::Bookmark { position, staleness });
        }
        match (staleness, &message.header) {
            (Some(staleness), _) if staleness > self.max_age => {
                too_old(&format!("the node's data is {} s old", staleness.as_secs()))
            }
            (None, Some(_)) => too_old("the node does not know how old its data is"),
            _ => Flow::Continue,
        }
    }

    fn end(message: &WatchResponse, elsewhere: bool, why: &str) -> Flow {
        let wait = message.retry_after.and_then(|wait| wait.try_into().ok()).unwrap_or_default();
        let reason = if elsewhere { ErrorReason::ShuttingDown } else { ErrorReason::WatchResync };
        Flow::Reopen { wait, elsewhere, error: Error::ended(reason, why) }
    }

    fn advance(&mut self, revision: u64) {
        let epoch =
            if self.epoch == 0 { self.position.map_or(0, |position| position.epoch) } else { self.epoch };
        match &mut self.position {
            Some(position) if position.epoch == epoch => position.revision = position.revision.max(revision),
            position => *position = Some(Position { epoch, revision }),
        }
    }
}

fn broken(what: &str) -> Flow {
    let error = Error::protocol(format!("the stream broke its rules: {what}"));
    Flow::Reopen { wait: Duration::ZERO, elsewhere: true, error }
}

fn too_old(why: &str) -> Flow {
    Flow::Reopen { wait: Duration::ZERO, elsewhere: true, error: Error::protocol(why) }
}

/// Age of the data behind a message; `None` = the node does not know.
fn age(header: &ResponseHeader) -> Option<Duration> {
    if header.staleness_unknown {
        return None;
    }
    Some(header.staleness.map_or(Duration::ZERO, |age| age.try_into().unwrap_or_default()))
}

#[cfg(test)]
#[path = "progress/tests.rs"]
mod tests;
