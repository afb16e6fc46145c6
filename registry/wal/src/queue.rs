//! The elements of the queue between callers and writer.

use std::fmt;

use bytes::Bytes;

use crate::record::{Entry, Purged, RECORD_OVERHEAD_BYTES};
use crate::wal::Callback;

/// One element of the queue.
#[derive(Debug)]
pub(crate) enum Operation {
    Append(Entry),
    Vote(Bytes),
    Truncate(Option<u64>),
    Purge(Purged),
    Barrier,
    SetReserve(u64),
    ReleaseReserve,
    RetryAllocation,
}

impl Operation {
    /// True if it goes into a frame.
    pub(crate) fn is_recorded(&self) -> bool {
        matches!(
            self,
            Operation::Append(_) | Operation::Vote(_) | Operation::Truncate(_) | Operation::Purge(_)
        )
    }

    /// What it adds to a frame, at most.
    pub(crate) fn cost(&self) -> u64 {
        match self {
            Operation::Append(entry) => entry.bytes.len() as u64 + RECORD_OVERHEAD_BYTES,
            Operation::Vote(bytes) => bytes.len() as u64 + RECORD_OVERHEAD_BYTES,
            Operation::Purge(purged) => purged.mark.len() as u64 + RECORD_OVERHEAD_BYTES,
            _ => RECORD_OVERHEAD_BYTES,
        }
    }
}

pub(crate) struct Queued {
    pub(crate) operation: Operation,
    pub(crate) done: Option<Callback>,
}

impl fmt::Debug for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.operation.fmt(f)
    }
}
