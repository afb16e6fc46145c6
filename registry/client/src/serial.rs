//! Serials of writes: which may be sent now, and what the registry may forget (P/R3).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use registry_proto::v1::RequestId;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Writes of one client that may be open at once: what the registry remembers of it (P/R3).
const MAX_OPEN: u64 = 16;

/// How a write ended, as far as its serial is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It reached the log, or may have: the serial is used up.
    Consumed,
    /// It was refused before the log: the next write takes the serial.
    NotConsumed,
}

/// The serials of one client name. Pure.
#[derive(Debug)]
pub(crate) struct Window {
    next: u64,
    open: BTreeSet<u64>,
    free: BTreeSet<u64>,
    known: bool,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self { next: 1, open: BTreeSet::new(), free: BTreeSet::new(), known: false }
    }

    /// All serials below this one are answered, or given up for good.
    pub(crate) fn done_below(&self) -> u64 {
        let lowest = |set: &BTreeSet<u64>| set.first().copied().unwrap_or(u64::MAX);
        lowest(&self.open).min(lowest(&self.free)).min(self.next)
    }

    /// A serial for a new write, or `None` if it has to wait for an open one.
    pub(crate) fn take(&mut self) -> Option<u64> {
        // The registry learns the client's name from its first write: a second one that overtakes it
        // would be refused as SESSION_UNKNOWN.
        if !self.known && !self.open.is_empty() {
            return None;
        }
        let serial = self.free.first().copied().unwrap_or(self.next);
        if serial >= self.done_below() + MAX_OPEN {
            return None;
        }
        if !self.free.remove(&serial) {
            self.next += 1;
        }
        self.open.insert(serial);
        Some(serial)
    }

    /// Ends an open write.
    pub(crate) fn end(&mut self, serial: u64, end: End) {
        if !self.open.remove(&serial) {
            return;
        }
        match end {
            End::Consumed => self.known = true,
            End::NotConsumed => {
                self.free.insert(serial);
            }
        }
    }
}

/// One client name and its serials.
struct Session {
    client: String,
    window: Mutex<Window>,
    /// At most as many waiters as serials may be open stand here; all others queue in the semaphore.
    changed: Notify,
    permits: Arc<Semaphore>,
}

impl Session {
    fn new(client: String) -> Arc<Self> {
        Arc::new(Self {
            client,
            window: Mutex::new(Window::new()),
            changed: Notify::new(),
            permits: Arc::new(Semaphore::new(MAX_OPEN as usize)),
        })
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        // A panic elsewhere cannot leave the window half-changed: its methods do not panic.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives each write its request id. Shared by all handles of a client.
pub(crate) struct Serials {
    session: Mutex<Arc<Session>>,
}

impl Serials {
    pub(crate) fn new(client: Option<String>) -> Self {
        Self { session: Mutex::new(Session::new(client.unwrap_or_else(random_name))) }
    }

    fn session(&self) -> Arc<Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn client_id(&self) -> String {
        self.session().client.clone()
    }

    /// Waits until another write may be sent; `None` if that is not before `deadline`.
    pub(crate) async fn acquire(&self, deadline: Instant) -> Option<Ticket> {
        let session = self.session();
        let waiting = async {
            let permit = session.permits.clone().acquire_owned().await.ok()?;
            loop {
                let changed = session.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(serial) = session.window().take() {
                    return Some((permit, serial));
                }
                changed.await;
            }
        };
        let (permit, serial) = timeout_at(deadline, waiting).await.ok().flatten()?;
        Some(Ticket { session, serial, sent: AtomicBool::new(false), end: None, _permit: permit })
    }

    /// The registry does not know the ticket's client name: later writes use a new one. True if this
    /// call made the change, and not another write before it.
    pub(crate) fn restart(&self, ticket: &Ticket) -> bool {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let present = Arc::ptr_eq(&session, &ticket.session);
        if present {
            *session = Session::new(random_name());
        }
        present
    }
}

fn random_name() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// The serial of one write, until it has ended. Dropped without an end it counts as used up once it was
/// sent, since it may still take effect.
pub(crate) struct Ticket {
    session: Arc<Session>,
    serial: u64,
    sent: AtomicBool,
    end: Option<End>,
    _permit: OwnedSemaphorePermit,
}

impl Ticket {
    /// The request id, for the first sending or a repetition.
    pub(crate) fn request_id(&self) -> RequestId {
        self.sent.store(true, Relaxed);
        let done_below = self.session.window().done_below();
        RequestId { client: self.session.client.clone(), serial: self.serial, done_below }
    }

    pub(crate) fn end(mut self, end: End) {
        self.end = Some(end);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let end = self.end.unwrap_or(if self.sent.load(Relaxed) { End::Consumed } else { End::NotConsumed });
        self.session.window().end(self.serial, end);
        self.session.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_write_is_sent_alone() {
        let mut window = Window::new();
        assert_eq!(window.take(), Some(1));
        assert_eq!(window.take(), None);
        window.end(1, End::NotConsumed);
        assert_eq!(window.take(), Some(1), "a refused first write leaves its serial to the next");
        window.end(1, End::Consumed);
        assert_eq!((window.take(), window.take()), (Some(2), Some(3)));
    }

    #[test]
    fn sixteen_writes_may_be_open_and_the_oldest_bounds_the_newest() {
        let mut window = Window::new();
        window.take();
        window.end(1, End::Consumed);
        let open: Vec<_> = std::iter::from_fn(|| window.take()).collect();
        assert_eq!(open, (2..18).collect::<Vec<_>>());
        window.end(9, End::Consumed);
        assert_eq!(window.take(), None, "serial 18 would be 16 above the oldest open write");
        window.end(2, End::Consumed);
        assert_eq!(window.take(), Some(18));
    }

    /// What the registry remembers of one client, by the words of P/R3.
    #[derive(Default)]
    struct Registry {
        done_below: u64,
        highest: u64,
        seen: BTreeSet<u64>,
    }

    impl Registry {
        fn receive(&mut self, serial: u64, done_below: u64) {
            assert!(self.highest > 0 || serial == 1, "SESSION_UNKNOWN");
            self.done_below = self.done_below.max(done_below);
            assert!(serial >= self.done_below.max(self.highest.saturating_sub(15)), "REQUEST_SUPERSEDED");
            assert!(serial < self.done_below + 16, "INVALID_FIELD");
            self.highest = self.highest.max(serial);
            assert!(self.seen.insert(serial), "REQUEST_ID_REUSED");
        }
    }

    proptest! {
        #[test]
        fn no_order_of_ends_makes_the_registry_refuse_a_serial(steps in prop::collection::vec((0_u8..4, 0_usize..16), 1..400)) {
            let mut window = Window::new();
            let mut registry = Registry::default();
            let mut open: Vec<u64> = Vec::new();
            let mut last_done = 0;
            for (action, which) in steps {
                match action {
                    0 | 1 => open.extend(window.take()),
                    _ if open.is_empty() => {}
                    _ => {
                        let serial = open.remove(which % open.len());
                        let done_below = window.done_below();
                        prop_assert!(done_below >= last_done && done_below <= serial);
                        last_done = done_below;
                        let consumed = action == 2;
                        if consumed {
                            registry.receive(serial, done_below);
                        }
                        window.end(serial, if consumed { End::Consumed } else { End::NotConsumed });
                    }
                }
                prop_assert!(open.len() <= 16);
            }
        }
    }

    #[tokio::test]
    async fn writers_queue_and_go_on_as_others_end() {
        let serials = Arc::new(Serials::new(None));
        let deadline = Instant::now() + Duration::from_secs(10);
        let first = serials.acquire(deadline).await.unwrap();
        let others: Vec<_> = (0..100)
            .map(|_| {
                let serials = serials.clone();
                tokio::spawn(async move {
                    let ticket = serials.acquire(deadline).await.unwrap();
                    let serial = ticket.request_id().serial;
                    ticket.end(End::Consumed);
                    serial
                })
            })
            .collect();
        assert_eq!(first.request_id().serial, 1);
        first.end(End::Consumed);
        let mut serials = BTreeSet::new();
        for other in others {
            serials.insert(other.await.unwrap());
        }
        assert_eq!(serials, (2..=101).collect());
    }

    #[tokio::test]
    async fn a_write_given_up_before_sending_leaves_its_serial_and_one_given_up_after_does_not() {
        let serials = Serials::new(Some("me".into()));
        let deadline = Instant::now() + Duration::from_secs(10);
        drop(serials.acquire(deadline).await.unwrap());
        let ticket = serials.acquire(deadline).await.unwrap();
        assert_eq!(ticket.request_id().serial, 1);
        drop(ticket);
        let ticket = serials.acquire(deadline).await.unwrap();
        assert_eq!(ticket.request_id(), RequestId { client: "me".into(), serial: 2, done_below: 2 });
        assert!(serials.restart(&ticket) && !serials.restart(&ticket));
        assert_ne!(serials.client_id(), "me");
    }
}
