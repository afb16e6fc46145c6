//! How far the snapshots are that this node sends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Snapshots on their way, by receiver. A clone shares them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Transfers {
    percents: Arc<Mutex<BTreeMap<u64, u8>>>,
}

/// One of them; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Transfer {
    transfers: Transfers,
    target: u64,
}

impl Transfers {
    pub(super) fn begin(&self, target: u64) -> Transfer {
        self.percents().insert(target, 0);
        Transfer { transfers: self.clone(), target }
    }

    /// How much of its snapshot a member has stored, in percent; `None` if none is on its way.
    pub(crate) fn percent(&self, target: u64) -> Option<u8> {
        self.percents().get(&target).copied()
    }

    fn percents(&self) -> MutexGuard<'_, BTreeMap<u64, u8>> {
        self.percents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transfer {
    /// So many bytes of all are stored.
    pub(super) fn stored(&self, bytes: u64, of: u64) {
        let percent = u8::try_from(bytes.saturating_mul(100) / of.max(1)).unwrap_or(100).min(100);
        self.transfers.percents().insert(self.target, percent);
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.transfers.percents().remove(&self.target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_shown_until_the_transfer_ends() {
        let transfers = Transfers::default();
        let transfer = transfers.begin(2);
        transfer.stored(1, 3);
        assert_eq!(transfers.percent(2), Some(33));
        transfer.stored(3, 3);
        assert_eq!(transfers.percent(2), Some(100));
        transfer.stored(0, 0);
        assert_eq!(transfers.percent(2), Some(0));
        drop(transfer);
        assert_eq!(transfers.percent(2), None);
    }
}
