//! The leases that a client keeps alive: which are due, which were sent, until when each holds. Pure; the
//! caller gives the time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::backoff::jittered;

/// How a lease is, as its owner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaseState {
    /// The lease certainly holds until then: sending of the last renewal that was answered, plus the TTL.
    /// The registry counts from when it got it, which is later, so both bounds hold (P/L2).
    pub(crate) valid_until: Instant,
    /// The registry says that the lease is not open.
    pub(crate) expired: bool,
}

struct Entry {
    ttl: Duration,
    due: Instant,
    /// Number of the batch that it was sent in, while that is unanswered.
    batch: Option<u64>,
    /// Registrations that hold it.
    holders: usize,
    state: watch::Sender<LeaseState>,
}

struct Batch {
    sent_at: Instant,
    answer_by: Instant,
    leases: Vec<u64>,
}

/// All leases of a client.
#[derive(Default)]
pub(crate) struct LeaseTable {
    leases: BTreeMap<u64, Entry>,
    due: BTreeSet<(Instant, u64)>,
    batches: BTreeMap<u64, Batch>,
    next_batch: u64,
}

/// Leases in one message: 8 KiB of the 1 MiB that a request may have, so that one answer is never far.
const MAX_BATCH: usize = 1024;
/// Messages without answer, well below the 64 at which a node reads no further.
const MAX_UNANSWERED: usize = 16;
/// Bounds of the wait for an answer before another node is tried; between them a third of the shortest
/// TTL in the batch. A node waits up to 2 s for a majority.
const SHORTEST_ANSWER: Duration = Duration::from_millis(300);
const LONGEST_ANSWER: Duration = Duration::from_millis(2500);

impl LeaseTable {
    /// Adds a lease that was granted or renewed by a request sent at `sent_at`.
    pub(crate) fn add(&mut self, lease: u64, ttl: Duration, sent_at: Instant) -> watch::Receiver<LeaseState> {
        let state = LeaseState { valid_until: sent_at + ttl, expired: false };
        if let Some(entry) = self.leases.get_mut(&lease) {
            entry.holders += 1;
            entry.state.send_if_modified(|old| {
                let later = state.valid_until > old.valid_until;
                old.valid_until = old.valid_until.max(state.valid_until);
                later
            });
            return entry.state.subscribe();
        }
        let due = sent_at + renew_after(ttl);
        let (sender, receiver) = watch::channel(state);
        self.leases.insert(lease, Entry { ttl, due, batch: None, holders: 1, state: sender });
        self.due.insert((due, lease));
        receiver
    }

    /// One holder fewer; without holders it is renewed no more.
    pub(crate) fn remove(&mut self, lease: u64) {
        let Some(entry) = self.leases.get_mut(&lease) else { return };
        entry.holders -= 1;
        if entry.holders == 0 {
            self.due.remove(&(entry.due, lease));
            self.leases.remove(&lease);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// When to look again: the next lease is due, or an answer is overdue.
    pub(crate) fn next_event(&self) -> Option<Instant> {
        let answer = self.answer_by();
        let due = self.due.first().map(|(due, _)| *due).filter(|_| self.batches.len() < MAX_UNANSWERED);
        [answer, due].into_iter().flatten().min()
    }

    /// When the earliest outstanding answer is overdue.
    pub(crate) fn answer_by(&self) -> Option<Instant> {
        self.batches.values().map(|batch| batch.answer_by).min()
    }

    /// The next message to send, if any lease is due: its number and its leases.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(u64, Vec<u64>)> {
        if self.batches.len() >= MAX_UNANSWERED || self.due.first().is_none_or(|(due, _)| *due > now) {
            return None;
        }
        let number = self.next_batch;
        let mut leases = Vec::new();
        let mut shortest = Duration::MAX;
        while let Some(&(due, lease)) = self.due.first()
            && leases.len() < MAX_BATCH
        {
            let Some(entry) = self.leases.get_mut(&lease) else {
                self.due.pop_first();
                continue;
            };
            // Those that are due soon go along: a tenth of the TTL early makes few, full messages.
            if due > now + entry.ttl / 10 {
                break;
            }
            self.due.pop_first();
            entry.batch = Some(number);
            shortest = shortest.min(entry.ttl);
            leases.push(lease);
        }
        self.next_batch += 1;
        let answer_by = now + (shortest / 3).clamp(SHORTEST_ANSWER, LONGEST_ANSWER);
        self.batches.insert(number, Batch { sent_at: now, answer_by, leases: leases.clone() });
        Some((number, leases))
    }

    /// The answer to a message: all of its leases were renewed but `failed`. Returns the number renewed.
    pub(crate) fn answered(&mut self, number: u64, failed: &BTreeSet<u64>) -> usize {
        let Some(batch) = self.batches.remove(&number) else { return 0 };
        let mut renewed = 0;
        for lease in batch.leases {
            let Some(entry) = self.leases.get_mut(&lease).filter(|entry| entry.batch == Some(number)) else {
                continue;
            };
            entry.batch = None;
            if failed.contains(&lease) {
                entry.state.send_modify(|state| state.expired = true);
                // Its holders learn of it and let go; it is not due any more.
                continue;
            }
            renewed += 1;
            entry.state.send_modify(|state| {
                *state = LeaseState { valid_until: batch.sent_at + entry.ttl, expired: false };
            });
            entry.due = batch.sent_at + renew_after(entry.ttl);
            self.due.insert((entry.due, lease));
        }
        renewed
    }

    /// Nothing is said about the leases of a message: they are due again at `again`.
    pub(crate) fn put_back(&mut self, number: u64, again: Instant) {
        let Some(batch) = self.batches.remove(&number) else { return };
        for lease in batch.leases {
            if let Some(entry) = self.leases.get_mut(&lease).filter(|entry| entry.batch == Some(number)) {
                entry.batch = None;
                entry.due = again;
                self.due.insert((again, lease));
            }
        }
    }

    /// The stream has ended: what is unanswered is due now.
    pub(crate) fn put_back_all(&mut self, now: Instant) {
        for number in self.batches.keys().copied().collect::<Vec<_>>() {
            self.put_back(number, now);
        }
    }
}

/// A third of the TTL, up to a sixth less, so that clients that started together drift apart: two renewals
/// may be lost before the third is too late.
fn renew_after(ttl: Duration) -> Duration {
    let third = ttl / 3;
    third / 2 + jittered(third / 2)
}

#[cfg(test)]
#[path = "lease_table/tests.rs"]
mod tests;
