//! Snapshot files: how they are written, checked and kept.
//!
//! ```text
//! magic "REGSNAP\n" · length u32 · header (protobuf) · CRC32C of the header u32
//! frames: length u32 (not 0) · CRC32C u32 · zstd of records, each: length u32 · bytes
//! end: 0 u32 · number of records u64 · BLAKE3 of everything before, 32 bytes
//! ```
//! All numbers are little-endian. A file is written beside its place, synced, renamed, and the folder is
//! synced; so a file under its final name is whole, and one that does not verify has been damaged.

mod file;
mod receive;
mod store;

pub(crate) use file::{Frozen, SnapshotFile, read, write};
pub(crate) use receive::Receiving;
pub(crate) use store::SnapshotStore;

use std::io;
use std::path::{Path, PathBuf};

/// Format of the files that this program writes; it reads no higher one (P/O3).
pub(crate) const FORMAT: u32 = 1;

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// Not what was written, or of another cluster.
    #[error("snapshot {}: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// Written by a newer program.
    #[error("snapshot {} has format {found}, this program reads up to {FORMAT}: start a newer program", path.display())]
    Newer { path: PathBuf, found: u32 },
    /// Reading or writing failed.
    #[error("snapshot {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl SnapshotError {
    fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.into() }
    }

    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

impl From<SnapshotError> for io::Error {
    fn from(error: SnapshotError) -> Self {
        let kind = match &error {
            SnapshotError::Damaged { .. } | SnapshotError::Newer { .. } => io::ErrorKind::InvalidData,
            SnapshotError::Io { source, .. } => source.kind(),
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests;
