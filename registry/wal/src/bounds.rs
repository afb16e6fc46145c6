//! The small state of a log besides its entries, and the rules by which changes follow each other. Kept three times:
//! as callers see it, as the disk has it, and while the log is read back.

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::record::Purged;

/// Vote, purged part, first and last index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) vote: Option<Bytes>,
    pub(crate) purged: Option<Purged>,
    /// Last index; that of the purged part if nothing follows it.
    pub(crate) last: Option<u64>,
    /// Index of the first entry; of the next one if there are none; `None` if it may be any.
    pub(crate) first: Option<u64>,
}

impl Bounds {
    pub(crate) fn purged_index(&self) -> Option<u64> {
        self.purged.as_ref().map(|purged| purged.index)
    }

    /// The index an append has to begin with; `None`: any.
    fn next(&self) -> Option<u64> {
        self.last.map(|last| last.saturating_add(1))
    }

    pub(crate) fn append(&mut self, index: u64) -> Result<()> {
        if let Some(next) = self.next().filter(|next| *next != index) {
            let reason = format!("the next index is {next}");
            return Err(Error::OutOfOrder { action: "append", index, reason });
        }
        // The end of a range and the committed index are kept as index + 1.
        if index >= u64::MAX - 1 {
            return Err(Error::OutOfOrder {
                action: "append",
                index,
                reason: "no index follows it".to_owned(),
            });
        }
        self.first = self.first.or(Some(index));
        self.last = Some(index);
        Ok(())
    }

    pub(crate) fn truncate_after(&mut self, after: Option<u64>) -> Result<()> {
        if after < self.purged_index() {
            let reason = format!("entries up to {:?} are purged", self.purged_index());
            return Err(Error::OutOfOrder { action: "truncate", index: after.unwrap_or(0), reason });
        }
        self.last = self.last.min(after);
        self.first = self.first.zip(after).map(|(first, after)| first.min(after.saturating_add(1)));
        Ok(())
    }

    pub(crate) fn purge(&mut self, purged: Purged) {
        self.last = self.last.max(Some(purged.index));
        self.first = self.first.max(Some(purged.index.saturating_add(1)));
        self.purged = Some(purged);
    }
}
