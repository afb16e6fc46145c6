//! Snapshots: the state as a sequence of records of bytes, and back. Framing, compression, checksums and
//! files are the caller's.

use crate::state::State;

/// Newest format of snapshot records that this program reads, and the one that it writes.
pub const FORMAT: u32 = 1;

/// Why records are no state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Written by a newer program (P/O3). The node must stop and be upgraded.
    #[error("snapshot of format {found}, but this program reads formats up to {FORMAT}: upgrade this node")]
    HigherFormat {
        /// Its format.
        found: u32,
    },
    /// Needs features that this program does not have (P/O3). The node must stop and be upgraded.
    #[error(
        "snapshot of feature level {found}, but this program has level {}: upgrade this node",
        crate::FEATURE_LEVEL
    )]
    HigherFeatureLevel {
        /// Its level.
        found: u32,
    },
    /// A record of a kind that this program does not know (P/O3). The node must stop and be upgraded.
    #[error("record {record} is of a kind unknown to this program: upgrade this node")]
    UnknownRecord {
        /// Position of the record, from 0.
        record: u64,
    },
    /// Not records of a state, or damaged ones.
    #[error("record {record}: {detail}")]
    Malformed {
        /// Position of the record, from 0.
        record: u64,
        /// What is wrong.
        detail: String,
    },
}

impl State {
    /// The state as records, in an order that is the same for equal states. Each is at most
    /// `SNAPSHOT_RECORD_BYTES` and one item long. Lazy: holds one record at a time.
    pub fn records(&self) -> impl Iterator<Item = Vec<u8>> + use<> {
        std::iter::empty()
    }
}

/// Builds a state from its records.
#[derive(Debug, Default)]
pub struct StateDecoder {
    state: State,
}

impl StateDecoder {
    /// Waits for the first record.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next record.
    pub fn push(&mut self, record: &[u8]) -> Result<(), SnapshotError> {
        let _ = record;
        Ok(())
    }

    /// The state, if all its records were there and it has the hash that it had.
    pub fn finish(self) -> Result<State, SnapshotError> {
        Ok(self.state)
    }
}
