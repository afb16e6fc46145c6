//! One watch, from its first message to its last (API/W1 to W11).
//!
//! It is a pull: the transport asks for the next message when it has room for it, so a reader that
//! stands still leaves everything in the bounded queue of the hub.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use registry_proto::raw::WatchResponse;
use registry_proto::v1::{ResponseHeader, WatchKind};
use registry_state::{HistoryGap, RevisionEvents};
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use super::Source;
use super::encode::{Encoder, PART_BYTES};
use super::hub::COME_BACK_AFTER;
use super::queue::{Batch, Mode, Waiting};
use super::scope::covers;
use super::snapshot::Cursor;
use super::subscription::Subscription;
use crate::error::Error;
use crate::raft::Published;
use crate::server::convert;

/// Revisions of the history looked at for one message.
const REVISIONS_PER_READ: usize = 4_096;

/// What a watch begins with.
#[derive(Debug, Clone)]
pub enum Begin {
    /// A snapshot of this state.
    Snapshot(Arc<Published>),
    /// COMPACTED, then a snapshot.
    Compacted {
        /// The state.
        published: Arc<Published>,
        /// Oldest revision from which a resume would have worked.
        oldest: u64,
    },
    /// EPOCH_CHANGED, then a snapshot.
    EpochChanged(Arc<Published>),
    /// The changes after a revision of this epoch.
    After {
        /// The epoch.
        epoch: u64,
        /// The revision.
        revision: u64,
    },
}

/// What the client chose.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Never send a snapshot.
    pub changes_only: bool,
    /// Time between bookmarks when nothing else is sent.
    pub bookmark_interval: Duration,
}

/// One watch.
pub struct Session {
    subscription: Subscription,
    source: Arc<dyn Source>,
    options: Options,
    epoch: u64,
    /// Everything that concerns the watch has been sent up to this revision; 0 = not synced yet.
    last: u64,
    /// SYNCED has still to be sent for the resume.
    owes_synced: bool,
    step: Step,
    /// Decided but not sent; two messages at most.
    outbox: VecDeque<WatchResponse>,
    /// What the last header said that a change of is told at once.
    told: Option<Told>,
    bookmark_at: Instant,
    /// Why it ended, for the metrics.
    ended: &'static str,
}

enum Step {
    Snapshot(Cursor),
    CatchUp(CatchUp),
    Live,
    /// The last message is in the outbox; this follows it.
    End(Error),
    Over,
}

/// Reading the history.
struct CatchUp {
    waiting: Waiting,
    /// Read up to this revision.
    read: u64,
    /// Everything before the first queued revision has been read.
    whole: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Told {
    role: i32,
    term: u64,
    leader: String,
    epoch: u64,
}

impl Session {
    /// A watch that begins so. `subscription` must be older than the state that `begin` was chosen by (V4).
    pub fn new(subscription: Subscription, source: Arc<dyn Source>, options: Options, begin: Begin) -> Self {
        let mut session = Self {
            subscription,
            source,
            options,
            epoch: 0,
            last: 0,
            owes_synced: false,
            step: Step::Over,
            outbox: VecDeque::new(),
            told: None,
            ended: "client",
            bookmark_at: Instant::now() + options.bookmark_interval,
        };
        match begin {
            Begin::Snapshot(published) => {
                // The reader has no older view that this state would have to mend.
                session.subscription.mark_sent(published.state.revision());
                session.begin_snapshot(published);
            }
            Begin::Compacted { published, oldest } => session.compacted(published, oldest),
            Begin::EpochChanged(published) => session.epoch_changed(published),
            Begin::After { epoch, revision } => {
                (session.epoch, session.last, session.owes_synced) = (epoch, revision, true);
                session.subscription.mark_sent(revision);
                session.catch_up_from(revision);
            }
        }
        session
    }

    /// The next message; `None` after the last. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<WatchResponse, Status>> {
        loop {
            if let Some(message) = self.outbox.pop_front() {
                if message.kind == WatchKind::Synced as i32 {
                    // Only now does the snapshot replace what the reader knew.
                    self.subscription.mark_sent(message.revision);
                }
                return Some(Ok(self.finish(message)));
            }
            match std::mem::replace(&mut self.step, Step::Over) {
                Step::Over => return None,
                Step::End(error) => return Some(Err(self.source.status(error))),
                step => self.step = step,
            }
            if matches!(self.subscription.mode(), Mode::Cut(_)) {
                self.end(WatchKind::Resync, Error::WatchResync { revision: self.last });
                continue;
            }
            let message = match &self.step {
                Step::Live => self.live().await,
                _ if self.subscription.closing() => {
                    self.end(WatchKind::Closing, Error::ShuttingDown);
                    continue;
                }
                Step::Snapshot(_) => self.snapshot(),
                Step::CatchUp(_) => self.catch_up(),
                Step::End(_) | Step::Over => None,
            };
            match message {
                Some(message) => return Some(Ok(self.finish(message))),
                // Much has been looked at for nothing: let others run.
                None => tokio::task::yield_now().await,
            }
        }
    }

    fn begin_snapshot(&mut self, published: Arc<Published>) {
        self.epoch = published.state.epoch();
        self.subscription.enter(Mode::CatchingUp);
        self.step = Step::Snapshot(Cursor::new(self.subscription.scope()));
        self.subscription.pin(published);
    }

    fn compacted(&mut self, published: Arc<Published>, oldest: u64) {
        if self.options.changes_only {
            self.ended = "compacted";
            self.step = Step::End(Error::RevisionCompacted { oldest });
            return;
        }
        let message = WatchResponse { oldest_revision: oldest, ..message(WatchKind::Compacted) };
        self.outbox.push_back(message);
        self.begin_snapshot(published);
    }

    fn epoch_changed(&mut self, published: Arc<Published>) {
        self.last = 0;
        if self.options.changes_only {
            self.ended = "epoch_changed";
            self.step = Step::End(Error::EpochChanged { current: published.state.epoch() });
            return;
        }
        self.outbox.push_back(message(WatchKind::EpochChanged));
        self.begin_snapshot(published);
    }

    fn snapshot(&mut self) -> Option<WatchResponse> {
        // Taken away: the watch is cut by now.
        let published = self.subscription.pinned()?;
        let Step::Snapshot(cursor) = &mut self.step else { return None };
        let chunk = cursor.read(self.subscription.scope(), &published.state);
        if chunk.last {
            let revision = published.state.revision();
            self.subscription.unpin();
            self.last = revision;
            self.owes_synced = false;
            self.outbox.push_back(WatchResponse { revision, ..message(WatchKind::Synced) });
            self.catch_up_from(revision);
        }
        let instances = chunk.instances;
        (!instances.is_empty()).then(|| WatchResponse { instances, ..message(WatchKind::Snapshot) })
    }

    fn catch_up_from(&mut self, revision: u64) {
        self.subscription.enter(Mode::CatchingUp);
        self.step = Step::CatchUp(CatchUp { waiting: Waiting::default(), read: revision, whole: false });
    }

    fn catch_up(&mut self) -> Option<WatchResponse> {
        let Step::CatchUp(catch_up) = &mut self.step else { return None };
        if let Some(batch) = catch_up.waiting.take(0) {
            return Some(self.changes(batch));
        }
        if catch_up.whole {
            return self.join();
        }
        let published = self.source.published();
        let state = &published.state;
        if state.epoch() != self.epoch {
            self.epoch_changed(published);
            return None;
        }
        let gap = match state.history_since(catch_up.read) {
            Ok(history) => {
                catch_up.read(history, &self.subscription);
                match (catch_up.read == state.revision(), self.subscription.mode()) {
                    (true, Mode::Joining) => catch_up.whole = true,
                    // From now on it queues; the state loaded next has all that came before (V4).
                    (true, _) => self.subscription.enter(Mode::Joining),
                    // Much came meanwhile: it would only wait in the queue.
                    (false, _) => self.subscription.enter(Mode::CatchingUp),
                }
                return None;
            }
            Err(gap) => gap,
        };
        match gap {
            HistoryGap::Compacted { oldest } => self.compacted(published, oldest),
            HistoryGap::Future { newest } => {
                self.step = Step::End(Error::FutureRevision { asked: catch_up.read, newest });
            }
        }
        None
    }

    /// Everything before the queue has been sent.
    fn join(&mut self) -> Option<WatchResponse> {
        let Step::CatchUp(CatchUp { read, .. }) = self.step else { return None };
        self.last = read;
        self.subscription.mark_sent(read);
        if !self.subscription.go_live() {
            self.catch_up_from(read);
            return None;
        }
        self.step = Step::Live;
        let owed = std::mem::take(&mut self.owes_synced);
        owed.then(|| WatchResponse { revision: read, ..message(WatchKind::Synced) })
    }

    async fn live(&mut self) -> Option<WatchResponse> {
        loop {
            // Asked for first: the queue then has, or had, everything up to it.
            let known = self.subscription.hub().published();
            if let Some(batch) = self.subscription.take(self.last) {
                return Some(self.changes(batch));
            }
            match self.subscription.mode() {
                Mode::Live => {}
                Mode::Cut(_) => return None,
                Mode::CatchingUp | Mode::Joining | Mode::Reset => {
                    self.catch_up_from(self.last);
                    return None;
                }
            }
            if self.subscription.closing() {
                self.end(WatchKind::Closing, Error::ShuttingDown);
                return None;
            }
            if Instant::now() >= self.bookmark_at {
                self.last = self.last.max(known);
                return Some(WatchResponse { revision: self.last, ..message(WatchKind::Bookmark) });
            }
            tokio::select! {
                () = self.subscription.changed() => {}
                () = sleep_until(self.bookmark_at) => {}
            }
        }
    }

    fn changes(&mut self, batch: Batch) -> WatchResponse {
        self.last = self.last.max(batch.complete.unwrap_or_default());
        WatchResponse { changes: batch.parts, revision: self.last, ..message(WatchKind::Changes) }
    }

    /// The last message, and the status after it.
    fn end(&mut self, kind: WatchKind, error: Error) {
        let retry_after = Some(convert::duration(COME_BACK_AFTER));
        self.outbox.push_back(WatchResponse { revision: self.last, retry_after, ..message(kind) });
        self.ended = if kind == WatchKind::Resync { "resync" } else { "closing" };
        self.step = Step::End(error);
    }

    /// Adds the header where it is due, and puts the next bookmark off.
    fn finish(&mut self, mut message: WatchResponse) -> WatchResponse {
        self.bookmark_at = Instant::now() + self.options.bookmark_interval;
        let pinned = self.subscription.pinned().map(|published| published.state.revision());
        let revision = match message.revision {
            0 => pinned.unwrap_or(self.last),
            revision => revision,
        };
        let header = self.source.header(revision);
        let told = Told::from(&header);
        let always = [WatchKind::Synced as i32, WatchKind::Bookmark as i32].contains(&message.kind);
        if always || self.told.as_ref() != Some(&told) {
            message.header = Some(header);
            self.told = Some(told);
        }
        message
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.subscription.hub().metrics().watch_ended(self.ended);
    }
}

impl CatchUp {
    /// Reads on, at most about a message of changes.
    fn read<'a>(
        &mut self,
        history: impl Iterator<Item = &'a Arc<RevisionEvents>>,
        subscription: &Subscription,
    ) {
        for revision in history.take(REVISIONS_PER_READ) {
            self.read = revision.revision;
            let covered: Vec<usize> = (revision.events.iter().enumerate())
                .filter(|(_, event)| {
                    let service = &event.instance.service;
                    covers(subscription.scope(), &service.namespace, &service.name)
                })
                .map(|(position, _)| position)
                .collect();
            if covered.is_empty() {
                continue;
            }
            let mut encoder = Encoder::new(revision, None);
            self.waiting.push(encoder.revision(covered, subscription.with_previous()));
            if self.waiting.bytes() >= PART_BYTES {
                return;
            }
        }
    }
}

impl From<&ResponseHeader> for Told {
    fn from(header: &ResponseHeader) -> Self {
        Self {
            role: header.role,
            term: header.term,
            leader: header.leader_endpoint.clone(),
            epoch: header.epoch,
        }
    }
}

fn message(kind: WatchKind) -> WatchResponse {
    WatchResponse { kind: kind as i32, ..WatchResponse::default() }
}

#[cfg(test)]
#[path = "session_test.rs"]
mod tests;
