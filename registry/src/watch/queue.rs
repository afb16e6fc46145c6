//! What waits for one watch (P/V5): bounded, and replaced by one word when the bound is reached.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::encode::{Encoded, PART_BYTES, framed};

/// Events that may wait for one watch (P/V5).
pub const QUEUE_EVENTS: usize = 1_024;

/// Bytes that may wait for one watch (P/V5).
pub const QUEUE_BYTES: usize = 1 << 20;

/// Where a watch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Reads a snapshot or the history: nothing is queued for it.
    CatchingUp,
    /// Queues, and still sends what lies between its last revision and the first queued one.
    Joining,
    /// Sends from the queue.
    Live,
    /// The state was replaced by a snapshot: it has to look where it stands.
    Reset,
    /// Read too slowly since then: RESYNC is all that is left to send.
    Cut(Instant),
}

/// What became of a revision offered to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It waits.
    Queued,
    /// The watch does not queue now.
    NotWanted,
    /// The bound was reached; the queue is free and the watch is cut.
    Overflow,
}

/// Revisions in order, taken message by message.
#[derive(Debug, Default)]
pub struct Waiting {
    revisions: VecDeque<Arc<Encoded>>,
    events: usize,
    bytes: usize,
    /// Parts of the first revision that have been taken.
    parts_taken: usize,
}

/// The queue of one watch.
#[derive(Debug)]
pub struct Queue {
    mode: Mode,
    waiting: Waiting,
    /// The last revision up to which everything has been handed over.
    sent: u64,
}

/// Taken from a queue: parts that fit into one message.
#[derive(Debug, Default)]
pub struct Batch {
    /// Encoded `v1::RevisionChanges`.
    pub parts: Vec<bytes::Bytes>,
    /// Last complete revision in it, if one is complete.
    pub complete: Option<u64>,
    /// When the oldest revision that it completes was published.
    pub published_at: Option<Instant>,
}

impl Waiting {
    /// Adds the next revision.
    pub fn push(&mut self, revision: Arc<Encoded>) {
        self.events += revision.events;
        self.bytes += revision.bytes;
        self.revisions.push_back(revision);
    }

    /// Sum of what waits, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.revisions.is_empty()
    }

    /// Takes what fits into one message, of revisions above `after`; `None` if nothing waits.
    pub fn take(&mut self, after: u64) -> Option<Batch> {
        let mut batch = Batch::default();
        let mut size = 0;
        while let Some(first) = self.revisions.front().cloned() {
            if first.revision > after {
                while let Some(part) = first.parts.get(self.parts_taken) {
                    if size + framed(part.len()) > PART_BYTES && !batch.parts.is_empty() {
                        return Some(batch);
                    }
                    size += framed(part.len());
                    batch.parts.push(part.clone());
                    self.parts_taken += 1;
                }
                batch.complete = Some(first.revision);
                batch.published_at = batch.published_at.or(first.published_at);
            }
            self.revisions.pop_front();
            self.parts_taken = 0;
            self.events -= first.events;
            self.bytes -= first.bytes;
        }
        (!batch.parts.is_empty()).then_some(batch)
    }
}

impl Queue {
    /// The queue of a watch that has been sent everything up to `sent`, catching up.
    pub fn new(sent: u64) -> Self {
        Self { mode: Mode::CatchingUp, waiting: Waiting::default(), sent }
    }

    /// Where the watch stands.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.waiting.bytes
    }

    /// Changes the mode, but for a cut watch, which stays cut. What waits is dropped unless the watch
    /// goes on to send it.
    pub fn enter(&mut self, mode: Mode) {
        if matches!(self.mode, Mode::Cut(_)) {
            return;
        }
        if !(self.mode == Mode::Joining && mode == Mode::Live) {
            self.waiting = Waiting::default();
        }
        self.mode = mode;
    }

    /// Ends the watch with RESYNC and frees its queue.
    pub fn cut(&mut self, now: Instant) {
        self.enter(Mode::Cut(now));
    }

    /// Everything up to `revision` has been handed over.
    pub fn mark_sent(&mut self, revision: u64) {
        self.sent = self.sent.max(revision);
    }

    /// Offers a revision. `room` is what the node has left for queues, in bytes. An empty queue takes any.
    pub fn offer(&mut self, revision: &Arc<Encoded>, room: usize, now: Instant) -> Offer {
        if !matches!(self.mode, Mode::Joining | Mode::Live) {
            return Offer::NotWanted;
        }
        let fits = self.waiting.events + revision.events <= QUEUE_EVENTS
            && self.waiting.bytes + revision.bytes <= QUEUE_BYTES
            && revision.bytes <= room;
        if !fits && !self.waiting.is_empty() {
            self.cut(now);
            return Offer::Overflow;
        }
        self.waiting.push(revision.clone());
        Offer::Queued
    }

    /// Takes what fits into one message, of revisions above `after`; `None` if nothing waits.
    pub fn take(&mut self, after: u64) -> Option<Batch> {
        let batch = self.waiting.take(after)?;
        self.mark_sent(batch.complete.unwrap_or_default());
        Some(batch)
    }

    /// True if the watch still has to be sent something at or before `revision`.
    pub fn owes(&self, revision: u64) -> bool {
        match self.mode {
            Mode::Cut(_) => false,
            Mode::Live => self.waiting.revisions.front().is_some_and(|first| first.revision <= revision),
            Mode::CatchingUp | Mode::Joining | Mode::Reset => self.sent < revision,
        }
    }
}

#[cfg(test)]
#[path = "queue_test.rs"]
mod tests;
