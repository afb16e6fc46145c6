//! Snapshots: the state as a sequence of records of bytes, and back. Framing, compression, checksums and
//! files are the caller's.

mod decode;
mod encode;
mod records;
mod wire;

pub use decode::StateDecoder;

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
    /// The state as records, in an order and with bytes that are the same for equal states. Each is at
    /// most [`SNAPSHOT_RECORD_BYTES`](crate::limits::SNAPSHOT_RECORD_BYTES) long. Lazy: works on a frozen
    /// copy and holds about one record at a time.
    pub fn records(&self) -> impl Iterator<Item = Vec<u8>> + Send + use<> {
        records::Records::new(self.clone())
    }
}
