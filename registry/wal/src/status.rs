//! What the log tells about itself.

use bytes::Bytes;

use crate::record::Purged;

/// The small state of the log, as callers see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogState {
    /// Index of the first entry; `None` if the log has no entries.
    pub first: Option<u64>,
    /// Index of the last entry; of the purged part if nothing follows it; `None` if there never was an entry.
    pub last: Option<u64>,
    /// The purged part.
    pub purged: Option<Purged>,
    /// The vote stored last.
    pub vote: Option<Bytes>,
    /// The committed index, after a start at most `last` (P/W6).
    pub committed: Option<u64>,
}

/// Space kept ready (P/W5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Headroom {
    /// Segments ready for use.
    pub spare_segments: usize,
    /// Bytes allocated as reserve.
    pub reserve_bytes: u64,
    /// The disk refused an allocation and has not granted it since.
    pub full: bool,
    /// Spares and reserve are used up too: what is queued waits until there is room.
    pub stalled: bool,
}

/// Figures for metrics. The counters begin at the start of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Segments of the log.
    pub segments: usize,
    /// Size of their files.
    pub segment_bytes: u64,
    /// Spare segments, reserve, full disk.
    pub headroom: Headroom,
    /// Entries held in memory.
    pub cached_entries: usize,
    /// Their size.
    pub cached_bytes: u64,
    /// Size of what waits for the disk.
    pub queued_bytes: u64,
    /// Frames written and synced.
    pub frames: u64,
    /// Bytes written in frames, with their padding.
    pub written_bytes: u64,
}
