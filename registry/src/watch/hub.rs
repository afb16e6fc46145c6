//! Hands every published revision to the watches that it concerns, and to no others.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use registry_state::{LeaseChange, RevisionEvents};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use super::encode::{Encoded, Encoder};
use super::queue::{Mode, Offer, Queue};
use super::scope::{Index, Watches};
use super::subscription::Subscription;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::raft::{Observer, Published};
use crate::server::convert::Scope;

/// Bounds of all watches of a node (P/S2).
#[derive(Debug, Clone, Copy)]
pub struct HubLimits {
    /// Open watches.
    pub watches: usize,
    /// Bytes in all queues.
    pub queue_bytes: usize,
}

impl Default for HubLimits {
    fn default() -> Self {
        Self { watches: 20_000, queue_bytes: 256 << 20 }
    }
}

/// Time for which a RESYNC may stay unread before the stream is reset (P/V5).
const UNREAD_LIMIT: Duration = Duration::from_secs(30);

/// How often watches are looked at that do nothing themselves.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Time that a refused or ended watch is asked to wait, before its jitter.
pub const COME_BACK_AFTER: Duration = Duration::from_millis(250);

/// All watches of this node. A clone shares them.
#[derive(Debug, Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: HubLimits,
    index: Mutex<Index<Mailbox>>,
    /// Revision up to which everything has been put into the queues. Written after the queues.
    published: AtomicU64,
    queue_bytes: AtomicUsize,
    /// Calls of [`Hub::await_sent`] under way; without any, nobody is woken for progress.
    awaiting: AtomicUsize,
    progress: Notify,
    closing: watch::Sender<bool>,
    metrics: Metrics,
}

/// Where the hub leaves word for one watch.
#[derive(Debug)]
pub(super) struct Mailbox {
    pub(super) with_previous: bool,
    state: Mutex<MailboxState>,
    pub(super) wake: Notify,
}

#[derive(Debug)]
pub(super) struct MailboxState {
    pub(super) queue: Queue,
    /// The state that a snapshot is read from. It lies here and not in the stream, so that it can be
    /// taken away from a reader that stands still.
    pub(super) pinned: Option<Arc<Published>>,
    /// Resets the stream of a reader that stands still.
    pub(super) reset: Option<futures::future::AbortHandle>,
}

impl Hub {
    /// A hub without watches.
    pub fn new(limits: HubLimits, metrics: Metrics) -> Self {
        let shared = Shared {
            limits,
            index: Mutex::default(),
            published: AtomicU64::new(0),
            queue_bytes: AtomicUsize::new(0),
            awaiting: AtomicUsize::new(0),
            progress: Notify::new(),
            closing: watch::Sender::new(false),
            metrics,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Registers a watch that catches up from `sent`. Subscribe before loading the state (V4).
    ///
    /// # Errors
    /// `Overloaded` at the limit of watches, `ShuttingDown` after [`Hub::close`].
    pub fn subscribe(&self, scope: Scope, with_previous: bool) -> Result<Subscription, Error> {
        if *self.shared.closing.borrow() {
            return Err(Error::ShuttingDown);
        }
        let state = MailboxState { queue: Queue::new(0), pinned: None, reset: None };
        let mailbox = Arc::new(Mailbox { with_previous, state: Mutex::new(state), wake: Notify::new() });
        let mut index = self.index();
        if index.len() >= self.shared.limits.watches {
            return Err(Error::Overloaded { what: "watches of this node", retry_after: COME_BACK_AFTER });
        }
        let id = index.insert(&scope, mailbox.clone());
        drop(index);
        Ok(Subscription::new(self.clone(), scope, id, mailbox))
    }

    /// Ends every watch with CLOSING, after what waits for it (API/W10), and refuses new ones.
    pub fn close(&self) {
        self.shared.closing.send_replace(true);
    }

    /// Becomes true when the node closes its streams.
    pub fn closing(&self) -> watch::Receiver<bool> {
        self.shared.closing.subscribe()
    }

    /// Number of open watches.
    pub fn open_watches(&self) -> usize {
        self.index().len()
    }

    /// Revision up to which everything has been put into the queues.
    pub fn published(&self) -> u64 {
        self.shared.published.load(Ordering::SeqCst)
    }

    /// Bytes in all queues.
    pub fn queue_bytes(&self) -> usize {
        self.shared.queue_bytes.load(Ordering::Relaxed)
    }

    /// What the node counts.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Waits until every open watch that covers one of the services has been handed `revision`, at most
    /// until `deadline` (P/V7).
    pub async fn await_sent(&self, services: &[(String, String)], revision: u64, deadline: Instant) -> Sent {
        let _guard = Awaiting::new(&self.shared.awaiting);
        loop {
            let progress = self.shared.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            let sent = self.sent(services, revision);
            if sent.pending == 0 || timeout_at(deadline, progress).await.is_err() {
                return sent;
            }
        }
    }

    /// Looks after watches whose readers stand still, for as long as the node lives.
    pub async fn run(self, newest: impl Fn() -> Arc<Published>) {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sweep(&newest(), Instant::now());
        }
    }

    /// Takes the state away from snapshots that nobody reads before it keeps more memory alive than the
    /// history does, and resets the streams whose RESYNC nobody has read (P/V5).
    pub fn sweep(&self, newest: &Published, now: Instant) {
        let floor = newest.state.history_floor();
        let mut resets = Vec::new();
        for mailbox in self.index().iter() {
            let reset = self.update(mailbox, |state| {
                if state.pinned.as_ref().is_some_and(|pinned| pinned.state.revision() < floor) {
                    state.queue.cut(now);
                    state.pinned = None;
                    mailbox.wake.notify_one();
                }
                match state.queue.mode() {
                    Mode::Cut(since) if now.duration_since(since) >= UNREAD_LIMIT => state.reset.take(),
                    _ => None,
                }
            });
            resets.extend(reset);
        }
        for reset in resets {
            reset.abort();
        }
    }

    fn sent(&self, services: &[(String, String)], revision: u64) -> Sent {
        let behind = self.published() < revision;
        let index = self.index();
        let covering: HashMap<u64, &Arc<Mailbox>> =
            services.iter().flat_map(|(namespace, service)| index.covering(namespace, service)).collect();
        let pending =
            covering.values().filter(|mailbox| behind || mailbox.state().queue.owes(revision)).count();
        Sent { watches: covering.len(), pending }
    }

    fn publish(&self, revision: &RevisionEvents, now: Instant) {
        let index = self.index();
        if index.is_empty() || revision.events.is_empty() {
            return;
        }
        let mut encoder = Encoder::new(revision, Some(now));
        let everything: Vec<usize> = (0..revision.events.len()).collect();
        self.deliver(index.all(), &mut encoder, &everything, now);
        if index.only_all() {
            return;
        }
        let mut namespaces: BTreeMap<&str, BTreeMap<&str, Vec<usize>>> = BTreeMap::new();
        for (position, event) in revision.events.iter().enumerate() {
            let service = &event.instance.service;
            let services = namespaces.entry(service.namespace.as_str()).or_default();
            services.entry(service.name.as_str()).or_default().push(position);
        }
        for (namespace, services) in namespaces {
            if let Some(watches) = index.namespace(namespace) {
                let mut positions: Vec<usize> = services.values().flatten().copied().collect();
                positions.sort_unstable();
                self.deliver(watches, &mut encoder, &positions, now);
            }
            for (service, positions) in services {
                if let Some(watches) = index.service(namespace, service) {
                    self.deliver(watches, &mut encoder, &positions, now);
                }
            }
        }
    }

    fn deliver(
        &self,
        watches: &Watches<Mailbox>,
        encoder: &mut Encoder<'_>,
        positions: &[usize],
        now: Instant,
    ) {
        let mut forms: [Option<Arc<Encoded>>; 2] = [None, None];
        for mailbox in watches.values() {
            let [without, with] = &mut forms;
            let form = if mailbox.with_previous { with } else { without };
            let encoded = form
                .get_or_insert_with(|| encoder.revision(positions.iter().copied(), mailbox.with_previous));
            let used = self.shared.queue_bytes.load(Ordering::Relaxed);
            let room = self.shared.limits.queue_bytes.saturating_sub(used);
            match self.update(mailbox, |state| state.queue.offer(encoded, room, now)) {
                Offer::NotWanted => {}
                Offer::Queued => mailbox.wake.notify_one(),
                Offer::Overflow => mailbox.wake.notify_one(),
            }
        }
    }

    /// Changes what lies in a mailbox and keeps account of its bytes.
    pub(super) fn update<T>(&self, mailbox: &Mailbox, change: impl FnOnce(&mut MailboxState) -> T) -> T {
        let mut state = mailbox.state();
        let before = state.queue.bytes();
        let result = change(&mut state);
        let after = state.queue.bytes();
        drop(state);
        let total = &self.shared.queue_bytes;
        if after > before {
            total.fetch_add(after - before, Ordering::Relaxed);
        } else {
            total.fetch_sub(before - after, Ordering::Relaxed);
        }
        result
    }

    /// Takes a watch out.
    pub(super) fn leave(&self, scope: &Scope, id: u64) {
        self.index().remove(scope, id);
    }

    fn announce(&self, revision: u64) {
        self.shared.published.store(revision, Ordering::SeqCst);
        self.wake_awaiting();
    }

    pub(super) fn wake_awaiting(&self) {
        if self.shared.awaiting.load(Ordering::SeqCst) > 0 {
            self.shared.progress.notify_waiters();
        }
    }

    fn index(&self) -> MutexGuard<'_, Index<Mailbox>> {
        self.shared.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Hub {
    fn applied(&self, published: &Arc<Published>, events: &[Arc<RevisionEvents>], _leases: &[LeaseChange]) {
        let now = Instant::now();
        for revision in events {
            self.publish(revision, now);
        }
        self.announce(published.state.revision());
    }

    /// Every watch finds its place in the history of the new state, or says COMPACTED.
    fn reset(&self, published: &Arc<Published>) {
        for mailbox in self.index().iter() {
            let woken = self.update(mailbox, |state| {
                let queues = matches!(state.queue.mode(), Mode::Joining | Mode::Live);
                if queues {
                    state.queue.enter(Mode::Reset);
                }
                queues
            });
            if woken {
                mailbox.wake.notify_one();
            }
        }
        self.announce(published.state.revision());
    }
}

impl Mailbox {
    pub(super) fn state(&self) -> MutexGuard<'_, MailboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far a revision went (P/V7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Open watches that cover the services.
    pub watches: usize,
    /// Those that have not been handed the revision.
    pub pending: usize,
}

/// Counts a call for as long as it waits.
struct Awaiting<'a>(&'a AtomicUsize);

impl<'a> Awaiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
#[path = "hub_test.rs"]
mod tests;
