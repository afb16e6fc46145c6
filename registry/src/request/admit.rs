//! Who may come in: bounds over all requests under way, by class (P/O1).
//!
//! Nothing waits here. What does not fit is refused at once, before anything of it is done, so that a
//! node under too much load answers soon and keeps room for what keeps the cluster well.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;
use crate::metrics::Metrics;
use crate::server::limits;

/// A class of writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Deregistrations, states, drains, overrides: they take load away or come from people.
    Relief,
    /// Registrations.
    Register,
}

/// The bounds of one node. A clone shares them.
#[derive(Debug, Clone)]
pub struct Admission {
    registrations: Arc<Semaphore>,
    proposals: Arc<Semaphore>,
    kibibytes: Arc<Semaphore>,
    stale: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    metrics: Metrics,
}

/// Leave to go on; given back when dropped.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    _held: [Option<OwnedSemaphorePermit>; 3],
}

impl Admission {
    /// Nothing is under way. What is shed is counted.
    pub fn new(metrics: Metrics) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self {
            metrics,
            registrations: semaphore(limits::PROPOSALS - limits::PROPOSALS_KEPT),
            proposals: semaphore(limits::PROPOSALS),
            kibibytes: semaphore(limits::PROPOSAL_BYTES >> 10),
            stale: semaphore(limits::READS - limits::READS_KEPT),
            reads: semaphore(limits::READS),
        }
    }

    /// Admits a write of so many bytes.
    ///
    /// # Errors
    /// OVERLOADED.
    pub fn write(&self, class: Class, bytes: usize) -> Result<Permit, Error> {
        let label = match class {
            Class::Relief => "relief",
            Class::Register => "register",
        };
        self.take_write(class, bytes).inspect_err(|_| self.metrics.shed(label))
    }

    fn take_write(&self, class: Class, bytes: usize) -> Result<Permit, Error> {
        let registration = match class {
            Class::Relief => None,
            Class::Register => Some(take(&self.registrations, 1, "registrations under way")?),
        };
        let kibibytes = u32::try_from(bytes >> 10).unwrap_or(u32::MAX).saturating_add(1);
        let proposal = take(&self.proposals, 1, "writes under way")?;
        let kibibytes = take(&self.kibibytes, kibibytes, "bytes of writes under way")?;
        Ok(Permit { _held: [registration, Some(proposal), Some(kibibytes)] })
    }

    /// Admits a read; stale ones are shed before others.
    ///
    /// # Errors
    /// OVERLOADED.
    pub fn read(&self, stale: bool) -> Result<Permit, Error> {
        let label = if stale { "stale_read" } else { "read" };
        self.take_read(stale).inspect_err(|_| self.metrics.shed(label))
    }

    fn take_read(&self, stale: bool) -> Result<Permit, Error> {
        let first = if stale { Some(take(&self.stale, 1, "stale reads under way")?) } else { None };
        Ok(Permit { _held: [first, Some(take(&self.reads, 1, "reads under way")?), None] })
    }
}

fn take(from: &Arc<Semaphore>, permits: u32, what: &'static str) -> Result<OwnedSemaphorePermit, Error> {
    let refused = |_| Error::Overloaded { what, retry_after: limits::SHED_RETRY };
    from.clone().try_acquire_many_owned(permits).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(mut admit: impl FnMut() -> Result<Permit, Error>) -> Vec<Permit> {
        std::iter::from_fn(|| admit().ok()).collect()
    }

    #[test]
    fn registrations_leave_room_for_deregistrations() {
        let admission = Admission::new(Metrics::new());
        let held = fill(|| admission.write(Class::Register, 100));
        assert_eq!(held.len(), limits::PROPOSALS - limits::PROPOSALS_KEPT);
        let relief = fill(|| admission.write(Class::Relief, 100));
        assert_eq!(relief.len(), limits::PROPOSALS_KEPT);
        drop(held);
        assert!(admission.write(Class::Register, 100).is_ok());
    }

    #[test]
    fn large_writes_are_bounded_by_their_bytes() {
        let admission = Admission::new(Metrics::new());
        let held = fill(|| admission.write(Class::Relief, limits::REQUEST_BYTES));
        assert_eq!(held.len(), limits::PROPOSAL_BYTES / (limits::REQUEST_BYTES + 1024));
    }

    #[test]
    fn stale_reads_are_shed_first() {
        let admission = Admission::new(Metrics::new());
        let _stale = fill(|| admission.read(true));
        assert!(matches!(admission.read(true), Err(Error::Overloaded { .. })));
        assert!(admission.read(false).is_ok());
    }
}
