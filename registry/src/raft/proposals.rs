//! Room for proposals under way, by what they do to the state (P/O1).

use registry_state::command::Operation;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::ProposeError;

/// Proposals under way at a time: at 20,000 a second a fifth of a second of work.
const MAX_PROPOSALS: usize = 4096;
/// Their payload, in units of 1 KiB: a semaphore counts in 32 bits.
const MAX_KIB: usize = 16 << 10;
/// Of both the part that registrations may take, in eighths. The rest is for what ends, repairs and steers:
/// deregistrations, overrides, the guard, members, settings.
const REGISTRATIONS_EIGHTHS: usize = 7;

/// Room for proposals under way. `Expire` needs none: one is under way at most (P/L4).
pub(super) struct Proposals {
    all: Room,
    registrations: Room,
}

/// Bounds of one class.
struct Room {
    count: Semaphore,
    kib: Semaphore,
}

/// A proposal under way; leaves when dropped.
pub(super) struct Entered<'a> {
    _held: [Option<(SemaphorePermit<'a>, SemaphorePermit<'a>)>; 2],
}

impl Room {
    fn new(eighths: usize) -> Self {
        Self {
            count: Semaphore::new(MAX_PROPOSALS / 8 * eighths),
            kib: Semaphore::new(MAX_KIB / 8 * eighths),
        }
    }

    fn enter(&self, kib: u32) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), ProposeError> {
        let count = self.count.try_acquire().map_err(|_| ProposeError::Overloaded)?;
        let size = self.kib.try_acquire_many(kib).map_err(|_| ProposeError::Overloaded)?;
        Ok((count, size))
    }
}

impl Proposals {
    pub(super) fn new() -> Self {
        Self { all: Room::new(8), registrations: Room::new(REGISTRATIONS_EIGHTHS) }
    }

    /// Lets a command of so many bytes in.
    ///
    /// # Errors
    /// `Overloaded` if its class has no room.
    pub(super) fn enter(&self, operation: &Operation, bytes: usize) -> Result<Entered<'_>, ProposeError> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let registers = matches!(operation, Operation::Register(_) | Operation::BatchRegister(_));
        let first = if registers { Some(self.registrations.enter(kib)?) } else { None };
        Ok(Entered { _held: [first, Some(self.all.enter(kib)?)] })
    }
}

#[cfg(test)]
mod tests {
    use registry_state::command::{Deregister, Register};

    use super::*;

    fn fill(room: &Proposals, operation: &Operation, bytes: usize) -> usize {
        let entered: Vec<_> = std::iter::from_fn(|| room.enter(operation, bytes).ok())
            .map(std::mem::ManuallyDrop::new)
            .collect();
        entered.len()
    }

    #[test]
    fn registrations_leave_room_for_what_ends_and_repairs() {
        let registration = Operation::Register(Register::default());
        let other = Operation::Deregister(Deregister::default());
        for (bytes, all) in [(100, MAX_PROPOSALS), (64 << 10, MAX_KIB / 64)] {
            let room = Proposals::new();
            assert_eq!(fill(&room, &registration, bytes), all / 8 * 7);
            assert_eq!(fill(&room, &other, bytes), all / 8);
        }
    }

    #[test]
    fn a_refused_proposal_takes_no_room() {
        let room = Proposals::new();
        let large = Operation::Register(Register::default());
        assert!(room.enter(&large, MAX_KIB << 10).is_err());
        assert_eq!(fill(&room, &large, 100), MAX_PROPOSALS / 8 * 7);
    }
}
