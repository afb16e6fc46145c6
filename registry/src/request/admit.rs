//! Who may come in: bounds over all requests under way, by class (P/O1).
//!
//! Nothing waits here. What does not fit is refused at once, before anything of it is done, so that a
//! node under too much load answers soon and keeps room for what keeps the cluster well. Each class has a
//! bound of its own, and the lower classes are shed earlier, by how long work waits ([`super::load`]).
//! Renewals on streams are not refused but read more slowly (`server/keep_alive.rs`); peers are served on a
//! port and a runtime of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::load::{self, Load};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::server::limits;

/// A class of requests; the first is shed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Reads of what this node knows.
    StaleRead,
    /// Reads that wait for a majority.
    Read,
    /// Registrations.
    Register,
    /// Deregistrations, states, drains, overrides: they take load away or come from people.
    Relief,
    /// Renewals.
    Renewal,
    /// How the cluster is: asked by people who look for the reason.
    Status,
}

impl Class {
    /// Every class, in the order in which they are shed.
    pub const ALL: [Self; 6] =
        [Self::StaleRead, Self::Read, Self::Register, Self::Relief, Self::Renewal, Self::Status];

    /// Its name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::StaleRead => "stale_read",
            Self::Read => "read",
            Self::Register => "register",
            Self::Relief => "relief",
            Self::Renewal => "renewal",
            Self::Status => "status",
        }
    }
}

/// The bounds of one node. A clone shares them.
#[derive(Debug, Clone)]
pub struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// By class; `writes` and `reads` bound two classes together.
    by_class: [Bound; 6],
    reads: Bound,
    writes: Bound,
    registration_kib: Bound,
    write_kib: Bound,
    /// Fractions of calls to be shed that have not made a whole one yet, by class, in 1/65,536.
    parts: [AtomicU32; 6],
    load: Load,
    metrics: Metrics,
}

/// So much of something, and what it is, for people.
#[derive(Debug)]
struct Bound {
    room: Arc<Semaphore>,
    size: usize,
    what: &'static str,
}

/// Leave to go on; given back when dropped.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    _held: [Option<OwnedSemaphorePermit>; 4],
}

impl Bound {
    fn new(size: usize, what: &'static str) -> Self {
        Self { room: Arc::new(Semaphore::new(size)), size, what }
    }

    fn take(&self, permits: usize) -> Result<Option<OwnedSemaphorePermit>, Error> {
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        let refused = |_| Error::Overloaded { what: self.what, retry_after: limits::SHED_RETRY };
        self.room.clone().try_acquire_many_owned(permits).map(Some).map_err(refused)
    }

    fn taken(&self) -> usize {
        self.size.saturating_sub(self.room.available_permits())
    }
}

impl Admission {
    /// Nothing is under way. What is shed is counted.
    pub fn new(load: Load, metrics: Metrics) -> Self {
        let by_class = Class::ALL.map(|class| match class {
            Class::StaleRead => Bound::new(limits::STALE_READS, "stale reads under way"),
            Class::Read => Bound::new(limits::READS, "reads under way"),
            Class::Register => Bound::new(limits::REGISTRATIONS, "registrations under way"),
            Class::Relief => Bound::new(limits::WRITES, "writes under way"),
            Class::Renewal => Bound::new(limits::HEARTBEATS, "heartbeats under way"),
            Class::Status => Bound::new(limits::STATUS_SLOTS, "questions for the status under way"),
        });
        let shared = Shared {
            by_class,
            reads: Bound::new(limits::READS, "reads under way"),
            writes: Bound::new(limits::WRITES, "writes under way"),
            registration_kib: Bound::new(
                limits::REGISTRATION_BYTES >> 10,
                "bytes of registrations under way",
            ),
            write_kib: Bound::new(limits::WRITE_BYTES >> 10, "bytes of writes under way"),
            parts: Default::default(),
            load,
            metrics,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Admits a write of so many bytes.
    ///
    /// # Errors
    /// OVERLOADED.
    pub fn write(&self, class: Class, bytes: usize) -> Result<Permit, Error> {
        self.counted(class, || {
            let shared = &self.shared;
            let kib = (bytes >> 10) + 1;
            let registers = class == Class::Register;
            let own = self.enter(class)?;
            let own_kib = if registers { shared.registration_kib.take(kib)? } else { None };
            Ok(Permit { _held: [own, own_kib, shared.writes.take(1)?, shared.write_kib.take(kib)?] })
        })
    }

    /// Admits a read.
    ///
    /// # Errors
    /// OVERLOADED.
    pub fn read(&self, stale: bool) -> Result<Permit, Error> {
        let class = if stale { Class::StaleRead } else { Class::Read };
        self.counted(class, || {
            Ok(Permit { _held: [self.enter(class)?, self.shared.reads.take(1)?, None, None] })
        })
    }

    /// Admits a Heartbeat. Renewals have their hard bound and are never shed before it.
    ///
    /// # Errors
    /// OVERLOADED.
    pub fn heartbeat(&self) -> Result<Permit, Error> {
        self.counted(Class::Renewal, || Ok(Permit { _held: [self.enter(Class::Renewal)?, None, None, None] }))
    }

    /// Admits a question for the status: four are always answered, more as reads are.
    ///
    /// # Errors
    /// OVERLOADED.
    pub fn status(&self) -> Result<Permit, Error> {
        match self.enter(Class::Status) {
            Ok(own) => Ok(Permit { _held: [own, None, None, None] }),
            Err(_) => self.read(false),
        }
    }

    /// Requests under way, by class.
    pub fn under_way(&self) -> impl Iterator<Item = (Class, usize)> + '_ {
        Class::ALL.into_iter().zip(self.shared.by_class.iter().map(Bound::taken))
    }

    /// How long work waits at this node.
    pub fn delay(&self) -> Duration {
        self.shared.load.delay()
    }

    /// A place in the class's own bound, unless it is this one's turn to be shed.
    fn enter(&self, class: Class) -> Result<Option<OwnedSemaphorePermit>, Error> {
        let delay = self.shared.load.delay();
        if self.is_due(class, load::share(class, delay)) {
            let retry_after = load::retry_after(class, delay);
            return Err(Error::Overloaded { what: "calls wait too long", retry_after });
        }
        self.shared.by_class[class as usize].take(1)
    }

    /// Whether this call is one of the share of its class that is shed: every n-th, without chance.
    fn is_due(&self, class: Class, share: f64) -> bool {
        const WHOLE: u32 = 1 << 16;
        // At most 0.95 of it.
        let part = (share * f64::from(WHOLE)) as u32;
        let before = self.shared.parts[class as usize].fetch_add(part, Ordering::Relaxed);
        before % WHOLE + part >= WHOLE
    }

    fn counted(&self, class: Class, admit: impl FnOnce() -> Result<Permit, Error>) -> Result<Permit, Error> {
        admit().inspect_err(|_| self.shared.metrics.shed(class.label()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calm() -> Admission {
        Admission::new(Load::default(), Metrics::new())
    }

    fn waiting(ms: u64) -> Admission {
        Admission::new(Load::of(Duration::from_millis(ms)), Metrics::new())
    }

    fn fill(mut admit: impl FnMut() -> Result<Permit, Error>) -> Vec<Permit> {
        std::iter::from_fn(|| admit().ok()).collect()
    }

    /// How many of 1,000 calls are let in, each ending before the next.
    fn let_in(mut admit: impl FnMut() -> Result<Permit, Error>) -> usize {
        (0..1_000).filter(|_| admit().is_ok()).count()
    }

    #[test]
    fn registrations_leave_room_for_deregistrations() {
        let admission = calm();
        let held = fill(|| admission.write(Class::Register, 100));
        assert_eq!(held.len(), limits::REGISTRATIONS);
        let relief = fill(|| admission.write(Class::Relief, 100));
        assert_eq!(relief.len(), limits::WRITES - limits::REGISTRATIONS);
        drop(held);
        assert!(admission.write(Class::Register, 100).is_ok());
    }

    #[test]
    fn large_writes_are_bounded_by_their_bytes() {
        let admission = calm();
        let held = fill(|| admission.write(Class::Register, limits::REQUEST_BYTES));
        assert_eq!(held.len(), limits::REGISTRATION_BYTES / (limits::REQUEST_BYTES + 1024));
        assert!(admission.write(Class::Relief, limits::REQUEST_BYTES).is_ok());
    }

    #[test]
    fn stale_reads_leave_room_for_others() {
        let admission = calm();
        let _stale = fill(|| admission.read(true));
        assert!(matches!(admission.read(true), Err(Error::Overloaded { .. })));
        assert!(admission.read(false).is_ok());
    }

    #[test]
    fn the_longer_work_waits_the_more_is_shed_stale_reads_first() {
        let kept = |ms| {
            let admission = waiting(ms);
            [
                let_in(|| admission.read(true)),
                let_in(|| admission.read(false)),
                let_in(|| admission.write(Class::Register, 1)),
                let_in(|| admission.write(Class::Relief, 1)),
                let_in(|| admission.heartbeat()),
            ]
        };
        assert_eq!(kept(10), [1_000; 5]);
        assert_eq!(kept(60), [500, 1_000, 1_000, 1_000, 1_000]);
        assert_eq!(kept(150), [51, 625, 1_000, 1_000, 1_000]);
        // A twentieth comes through, rounded up.
        assert_eq!(kept(10_000), [51, 51, 51, 1_000, 1_000]);
    }

    #[test]
    fn a_shed_caller_is_told_when_to_come_back() {
        let admission = waiting(80);
        let error = fill_error(|| admission.read(true));
        assert!(
            matches!(error, Error::Overloaded { retry_after, .. } if retry_after == Duration::from_secs(1))
        );
    }

    fn fill_error(mut admit: impl FnMut() -> Result<Permit, Error>) -> Error {
        loop {
            if let Err(error) = admit() {
                return error;
            }
        }
    }

    #[test]
    fn four_questions_for_the_status_are_answered_whatever_the_load() {
        let admission = waiting(10_000);
        let _held: Vec<_> = (0..limits::STATUS_SLOTS).map(|_| admission.status().unwrap()).collect();
        assert!(let_in(|| admission.status()) < 100, "more are reads");
        let under_way: Vec<_> = admission.under_way().filter(|(_, count)| *count > 0).collect();
        assert_eq!(under_way, [(Class::Status, limits::STATUS_SLOTS)]);
    }
}
