//! The handle of the log: what any thread may call.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::Disk;
use crate::error::Result;
use crate::memory::Shared;
use crate::options::{Identity, Observer, Options};
use crate::queue::Operation;
use crate::record::{Entry, Purged};
use crate::recover::{Recovered, recover};
use crate::status::{Headroom, LogState, Statistics};
use crate::writer::Writer;

/// Called once with the outcome: `Ok` when everything queued up to and including its operation is durable, an error
/// when the log failed. Called on the writer's thread, in the order of the queue; it must not block.
pub type Callback = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What [`open`] gives.
#[derive(Debug)]
pub struct Opened {
    /// The handle.
    pub wal: Wal,
    /// The other side, not running yet: give it a thread by [`Writer::spawn`], or drive it by hand in a simulation.
    pub writer: Writer,
    /// What was found.
    pub recovered: Recovered,
}

/// Opens the log in `disk`, or creates it with the uuid `create`. Without `create` an absent log is
/// [`Error::Missing`](crate::Error::Missing).
///
/// The log is recovered by P/W3: an unacknowledged tail is cut and a frame of a new generation is durable before this
/// returns, so that nothing of the tail can ever come back; damage before acknowledged frames is
/// [`Error::Corrupt`](crate::Error::Corrupt). Blocks while it reads the segments.
pub fn open(
    disk: Arc<dyn Disk>,
    options: Options,
    identity: Identity,
    create: Option<[u8; 16]>,
    observer: Arc<dyn Observer>,
) -> Result<Opened> {
    options.check()?;
    let (shared, parts, recovered) = recover(disk, options, identity, create, observer)?;
    let writer = Writer::new(Arc::clone(&shared), parts);
    Ok(Opened { wal: Wal { shared }, writer, recovered })
}

/// The log, for any thread. Cloning gives another handle of the same log.
///
/// Calls never wait for the disk, except [`Wal::read`] of old entries. Changes are seen by every reader when the call
/// returns; they are durable when the callback is called. All changes go through one queue and reach the disk in the
/// order of the calls (P/W5). After a failure every call answers its error.
///
/// The queue has no bound of its own, because a caller that holds a Raft core must not be blocked in here: whoever
/// appends compares [`Wal::queued_bytes`] with a limit and waits for a [`Wal::barrier`] when above.
#[derive(Debug, Clone)]
pub struct Wal {
    shared: Arc<Shared>,
}

impl Wal {
    /// Appends entries with consecutive indexes, the first following the last of the log; an empty log that was never
    /// purged begins where the first append says. On an error nothing was queued and `done` is dropped uncalled.
    pub fn append(&self, entries: Vec<Entry>, done: Callback) -> Result<()> {
        self.shared.append(entries, done)
    }

    /// Largest entry that fits into a segment, in bytes. A larger one is refused by [`Wal::append`].
    pub fn max_entry_bytes(&self) -> u64 {
        self.shared.max_entry_bytes()
    }

    /// Stores the vote, at most 1 KiB.
    pub fn set_vote(&self, vote: Bytes, done: Callback) -> Result<()> {
        self.shared.set_vote(vote, done)
    }

    /// Removes all entries after `after` (exclusive); all, for `None`.
    pub fn truncate_after(&self, after: Option<u64>) -> Result<()> {
        self.shared.truncate_after(after)
    }

    /// Removes all entries up to `purged.index` (inclusive), which may lie beyond the last entry; the log then goes on
    /// at the next index. The mark has at most 1 KiB. Older than a former purge: does nothing.
    pub fn purge(&self, purged: Purged) -> Result<()> {
        self.shared.purge(purged)
    }

    /// Remembers the committed index. Lazy: it rides in the header of the next frame and causes no write of its own,
    /// so a crash may forget the newest; that is safe, as the leader tells it again.
    pub fn set_committed(&self, committed: Option<u64>) -> Result<()> {
        self.shared.set_committed(committed)
    }

    /// Calls `done` once everything queued before is durable (P/W6).
    pub fn barrier(&self, done: Callback) -> Result<()> {
        self.shared.push(Operation::Barrier, Some(done))
    }

    /// Entries of `range` that the log has, in order: as many as fit into `max_bytes`, at least one if there is one.
    /// Recent ones come from memory, older ones from the segment files (this blocks on the disk).
    pub fn read(&self, range: Range<u64>, max_bytes: u64) -> Result<Vec<Entry>> {
        self.shared.read(range, max_bytes)
    }

    /// First and last index, purged, vote and committed, as a reader sees them now.
    pub fn state(&self) -> LogState {
        self.shared.state()
    }

    /// Bytes that wait in the queue or are being written.
    pub fn queued_bytes(&self) -> u64 {
        self.shared.queued_bytes()
    }

    /// Space kept ready (P/W5).
    pub fn headroom(&self) -> Headroom {
        self.shared.headroom()
    }

    /// True while spare segments or the reserve could not be allocated because the disk is full: registrations should
    /// be refused, what shrinks the state still goes on (P/W5).
    pub fn is_full(&self) -> bool {
        self.shared.headroom().full
    }

    /// Changes the size of the reserve: twice the last snapshot, at least 64 MiB (P/W5). Done in the background.
    pub fn set_reserve_bytes(&self, bytes: u64) -> Result<()> {
        self.shared.push(Operation::SetReserve(bytes), None)
    }

    /// Gives the reserve back to the file system, for a snapshot that found the disk full. `done` is called when that
    /// has happened. It is allocated again after the next [`Wal::set_reserve_bytes`], to be called when the snapshot
    /// is done with; until then the log is [full](Wal::is_full).
    pub fn release_reserve(&self, done: Callback) -> Result<()> {
        self.shared.push(Operation::ReleaseReserve, Some(done))
    }

    /// Tries again to allocate what the full disk refused. A running writer thread does so by itself every 5 s.
    pub fn retry_allocation(&self) -> Result<()> {
        self.shared.push(Operation::RetryAllocation, None)
    }

    /// Figures for metrics.
    pub fn statistics(&self) -> Statistics {
        self.shared.statistics()
    }

    /// Free bytes of the file system.
    pub fn free_bytes(&self) -> io::Result<u64> {
        self.shared.disk.free_bytes()
    }

    /// The failure, if there was one.
    pub fn failure(&self) -> Option<crate::Error> {
        self.shared.failure()
    }

    /// Calls `hook` after every call that queues something: wakes the task that drives the [`Writer`] in a
    /// simulation. A running writer thread needs none.
    pub fn on_queued(&self, hook: Box<dyn Fn() + Send + Sync>) {
        self.shared.on_queued(hook);
    }

    /// Ends the log: what is queued is still written, then the writer ends; later calls answer
    /// [`Error::Closed`](crate::Error::Closed).
    pub fn close(&self) {
        self.shared.close();
    }
}
