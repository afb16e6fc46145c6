//! Sizes, identity and the observer of a log.

use crate::error::{Error, Result};
use crate::frame::PAGE_BYTES;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Smallest segment: one head and room for a few pages; only tests want it this small.
const SEGMENT_BYTES_MIN: u64 = 64 * KIB;
/// Largest segment: offsets within a segment are kept in 32 bits, and a reader at start-up has to walk through it.
const SEGMENT_BYTES_MAX: u64 = 1024 * MIB;

/// Sizes of a log.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size of a segment file (P/S2: 64 MiB, tests and `dev` 4 MiB). A multiple of 4 KiB, 64 KiB to 1 GiB. May be
    /// changed between starts: old segments keep their size.
    pub segment_bytes: u64,
    /// Recent entries kept in memory for readers. Entries that are not durable yet are kept beyond it.
    pub cache_bytes: u64,
    /// Payload at which a batch is closed. Bounds the time of one write and sync; a single larger entry still makes
    /// a batch of its own.
    pub batch_bytes: u64,
    /// Segments kept ready for use, made in the background (P/W5: two).
    pub spare_segments: usize,
    /// Disk space kept allocated for the time after the disk is full (P/W5: at least 64 MiB, later twice the last
    /// snapshot, see [`Wal::set_reserve_bytes`](crate::Wal::set_reserve_bytes)).
    pub reserve_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 * MIB,
            cache_bytes: 64 * MIB,
            batch_bytes: MIB,
            spare_segments: 2,
            reserve_bytes: 64 * MIB,
        }
    }
}

impl Options {
    /// Options with the smallest segments, batches and no reserve: for tests and simulations.
    pub fn small() -> Options {
        Options {
            segment_bytes: SEGMENT_BYTES_MIN,
            cache_bytes: 64 * KIB,
            batch_bytes: 16 * KIB,
            spare_segments: 2,
            reserve_bytes: 0,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let page = PAGE_BYTES as u64;
        let size = self.segment_bytes;
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&size) || !size.is_multiple_of(page) {
            return Err(Error::Option {
                name: "segment_bytes",
                value: size,
                requirement: "must be a multiple of 4096 between 65536 and 1073741824",
            });
        }
        Ok(())
    }
}

/// Whose log this is; stands in the head of every segment (P/W4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// UUID of the cluster.
    pub cluster_id: [u8; 16],
    /// Raft id of this member.
    pub raft_id: u64,
    /// Random id of the data folder.
    pub disk_id: [u8; 16],
}

/// Hears of the writer's work, on the writer's thread. The log has no clock: whoever wants the latency of a sync
/// takes the time in the first two calls.
pub trait Observer: Send + Sync + 'static {
    /// A batch of so many bytes is about to be written and synced.
    fn sync_started(&self, _bytes: u64) {}
    /// That batch is durable; its callbacks follow.
    fn sync_finished(&self) {}
    /// The log failed for good. Called once, after all waiting callbacks got the error. The node ends itself.
    fn failed(&self, _error: &Error) {}
}

/// An [`Observer`] that ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}
