//! What callers and the writer share: the log as callers see it, the queue, and where durable entries stand.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::bounds::Bounds;
use crate::cache::Cache;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::frame::{HEADER_BYTES, PAGE_BYTES};
use crate::index::Index;
use crate::options::{Observer, Options};
use crate::queue::{Operation, Queued};
use crate::reader::{Planned, read_entries};
use crate::record::{Entry, Purged, RECORD_OVERHEAD_BYTES};
use crate::segment::Segment;
use crate::status::{Headroom, LogState, Statistics};
use crate::wal::Callback;

/// Longest vote or purge mark. Both stand in segment heads, which have to fit into one page.
const MARK_BYTES_MAX: u64 = 1024;

/// Under the lock.
#[derive(Debug)]
pub(crate) struct Memory {
    /// The log as callers see it: with everything that is queued.
    pub(crate) bounds: Bounds,
    pub(crate) committed: Option<u64>,
    pub(crate) cache: Cache,
    /// The log as the disk has it.
    pub(crate) index: Index,
    /// Entries before this are in `index` in their present form and may leave the cache.
    durable_end: u64,
    /// Truncations that are in the queue but not yet in `index`.
    truncations_queued: usize,
    pub(crate) segments: BTreeMap<u64, Arc<Segment>>,
    queue: VecDeque<Queued>,
    /// Size of the queue and of the batch being written.
    pub(crate) queued_bytes: u64,
    pub(crate) headroom: Headroom,
    pub(crate) frames: u64,
    pub(crate) written_bytes: u64,
    failure: Option<Error>,
    closed: bool,
    writer_waits: bool,
}

impl Memory {
    pub(crate) fn new(bounds: Bounds, committed: Option<u64>, cache: Cache, index: Index) -> Memory {
        let durable_end = index.end();
        Memory {
            bounds,
            committed,
            cache,
            index,
            durable_end,
            truncations_queued: 0,
            segments: BTreeMap::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            headroom: Headroom::default(),
            frames: 0,
            written_bytes: 0,
            failure: None,
            closed: false,
            writer_waits: false,
        }
    }

    fn check_open(&self) -> Result<()> {
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None if self.closed => Err(Error::Closed),
            None => Ok(()),
        }
    }

    fn enqueue(&mut self, operation: Operation, done: Option<Callback>) {
        self.queued_bytes += operation.cost();
        self.queue.push_back(Queued { operation, done });
    }

    /// First and last index, if there are entries.
    fn range(&self) -> Option<(u64, u64)> {
        self.bounds.first.zip(self.bounds.last).filter(|(first, last)| first <= last)
    }

    fn truncate_after(&mut self, after: Option<u64>) -> Result<()> {
        self.bounds.truncate_after(after)?;
        let end = after.map_or(0, |after| after.saturating_add(1));
        self.cache.truncate(end);
        self.durable_end = self.durable_end.min(end);
        self.truncations_queued += 1;
        self.enqueue(Operation::Truncate(after), None);
        Ok(())
    }

    /// Takes note that `truncations` of the queue have reached the index, and lets durable entries leave the cache.
    pub(crate) fn settle(&mut self, truncations: usize, batch_bytes: u64) {
        self.truncations_queued -= truncations;
        self.queued_bytes -= batch_bytes;
        // With a truncation still queued, the end of the index may hold entries that callers have replaced.
        if self.truncations_queued == 0 {
            self.durable_end = self.index.end();
        }
        self.cache.evict(self.durable_end);
    }

    /// Takes operations for one batch: until the next would exceed `bytes_max`, at least one.
    pub(crate) fn take(&mut self, bytes_max: u64) -> Vec<Queued> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.queue.front() {
            bytes += next.operation.cost();
            if bytes > bytes_max && !taken.is_empty() {
                break;
            }
            taken.extend(self.queue.pop_front());
        }
        taken
    }

    /// Undoes [`Memory::take`].
    pub(crate) fn put_back(&mut self, operations: Vec<Queued>) {
        operations.into_iter().rev().for_each(|queued| self.queue.push_front(queued));
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }
}

/// What there is for the writer to do.
#[derive(Debug)]
pub(crate) enum Work {
    Queued,
    Nothing,
    Closed,
}

/// The log, shared by its handles and the writer.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: Options,
    pub(crate) observer: Arc<dyn Observer>,
    memory: Mutex<Memory>,
    changed: Condvar,
    on_queued: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("disk", &self.disk).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        options: Options,
        observer: Arc<dyn Observer>,
        memory: Memory,
    ) -> Shared {
        Shared {
            disk,
            options,
            observer,
            memory: Mutex::new(memory),
            changed: Condvar::new(),
            on_queued: Mutex::new(None),
        }
    }

    /// No code panics under this lock but by a bug; what it protects is whole between any two statements that can.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn append(&self, entries: Vec<Entry>, done: Callback) -> Result<()> {
        let limit_bytes = self.max_entry_bytes();
        if let Some(entry) = entries.iter().find(|entry| entry.bytes.len() as u64 > limit_bytes) {
            return Err(Error::TooLarge { what: "entry", bytes: entry.bytes.len() as u64, limit_bytes });
        }
        let mut memory = self.lock();
        memory.check_open()?;
        let mut bounds = memory.bounds.clone();
        for entry in &entries {
            bounds.append(entry.index)?;
        }
        memory.bounds = bounds;
        let count = entries.len();
        let mut done = Some(done);
        for (position, entry) in entries.into_iter().enumerate() {
            memory.cache.push(entry.index, entry.bytes.clone());
            let done = if position + 1 == count { done.take() } else { None };
            memory.enqueue(Operation::Append(entry), done);
        }
        if done.is_some() {
            memory.enqueue(Operation::Barrier, done);
        }
        self.wake(memory);
        Ok(())
    }

    /// One page is the head, one frame takes the rest.
    pub(crate) fn max_entry_bytes(&self) -> u64 {
        self.options.segment_bytes - PAGE_BYTES as u64 - HEADER_BYTES as u64 - RECORD_OVERHEAD_BYTES
    }

    /// Payload at which a batch is closed: small segments are not filled by a single frame.
    pub(crate) fn batch_bytes(&self) -> u64 {
        self.options.batch_bytes.min(self.options.segment_bytes / 4)
    }

    pub(crate) fn set_vote(&self, vote: Bytes, done: Callback) -> Result<()> {
        check_mark("vote", &vote)?;
        let mut memory = self.lock();
        memory.check_open()?;
        memory.bounds.vote = Some(vote.clone());
        memory.enqueue(Operation::Vote(vote), Some(done));
        self.wake(memory);
        Ok(())
    }

    pub(crate) fn truncate_after(&self, after: Option<u64>) -> Result<()> {
        let mut memory = self.lock();
        memory.check_open()?;
        memory.truncate_after(after)?;
        self.wake(memory);
        Ok(())
    }

    pub(crate) fn purge(&self, purged: Purged) -> Result<()> {
        check_mark("purge mark", &purged.mark)?;
        let mut memory = self.lock();
        memory.check_open()?;
        if purged.index >= u64::MAX - 1 {
            let reason = "no index follows it".to_owned();
            return Err(Error::OutOfOrder { action: "purge", index: purged.index, reason });
        }
        if memory.bounds.purged_index() >= Some(purged.index) {
            return Ok(());
        }
        memory.cache.purge(purged.index + 1);
        memory.bounds.purge(purged.clone());
        memory.enqueue(Operation::Purge(purged), None);
        self.wake(memory);
        Ok(())
    }

    pub(crate) fn set_committed(&self, committed: Option<u64>) -> Result<()> {
        let mut memory = self.lock();
        memory.check_open()?;
        memory.committed = committed;
        Ok(())
    }

    pub(crate) fn push(&self, operation: Operation, done: Option<Callback>) -> Result<()> {
        let mut memory = self.lock();
        memory.check_open()?;
        memory.enqueue(operation, done);
        self.wake(memory);
        Ok(())
    }

    fn wake(&self, memory: MutexGuard<'_, Memory>) {
        let waits = memory.writer_waits;
        drop(memory);
        if waits {
            self.changed.notify_one();
        }
        self.call_hook();
    }

    pub(crate) fn on_queued(&self, hook: Box<dyn Fn() + Send + Sync>) {
        *self.on_queued.lock().unwrap_or_else(PoisonError::into_inner) = Some(hook.into());
    }

    /// Outside of all locks, so that the hook may use the log.
    fn call_hook(&self) {
        let hook = self.on_queued.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(hook) = hook {
            hook();
        }
    }

    /// Waits until something is queued, at most so long.
    pub(crate) fn wait(&self, at_most: Duration) -> Work {
        let mut memory = self.lock();
        if memory.queue.is_empty() && !memory.closed && !at_most.is_zero() {
            memory.writer_waits = true;
            let idle = |memory: &mut Memory| memory.queue.is_empty() && !memory.closed;
            let waited = self.changed.wait_timeout_while(memory, at_most, idle);
            memory = waited.unwrap_or_else(PoisonError::into_inner).0;
            memory.writer_waits = false;
        }
        match (memory.queue.is_empty(), memory.closed) {
            (false, _) => Work::Queued,
            (true, true) => Work::Closed,
            (true, false) => Work::Nothing,
        }
    }

    pub(crate) fn read(&self, range: Range<u64>, max_bytes: u64) -> Result<Vec<Entry>> {
        let memory = self.lock();
        memory.check_open()?;
        let Some((first, last)) = memory.range() else { return Ok(Vec::new()) };
        let mut plan = Vec::new();
        let mut cached = Vec::new();
        let mut bytes = 0;
        for index in range.start.max(first)..range.end.min(last + 1) {
            let size = if let Some(data) = memory.cache.get(index) {
                cached.push(Entry { index, bytes: data.clone() });
                data.len() as u64
            } else {
                let location = memory.index.get(index).ok_or_else(|| self.lost(index))?;
                let segment = memory.segments.get(&location.segment).ok_or_else(|| self.lost(index))?;
                plan.push(Planned { index, location, segment: Arc::clone(segment) });
                u64::from(location.length)
            };
            bytes += size;
            if bytes > max_bytes && plan.len() + cached.len() > 1 {
                // The last one was too much. Cached entries come behind planned ones.
                let _ = cached.pop().is_none() && plan.pop().is_some();
                break;
            }
        }
        drop(memory);
        let mut entries = read_entries(&plan)?;
        entries.append(&mut cached);
        Ok(entries)
    }

    /// An entry within the log that is neither in memory nor on disk would be a bug of this crate; a reader must
    /// still get an error and not a hole.
    fn lost(&self, index: u64) -> Error {
        let reason = format!("entry {index} has no place in the log");
        Error::Corrupt { file: self.disk.describe(""), offset: 0, reason }
    }

    pub(crate) fn state(&self) -> LogState {
        let memory = self.lock();
        LogState {
            first: memory.range().map(|(first, _)| first),
            last: memory.bounds.last,
            purged: memory.bounds.purged.clone(),
            vote: memory.bounds.vote.clone(),
            committed: memory.committed,
        }
    }

    pub(crate) fn queued_bytes(&self) -> u64 {
        self.lock().queued_bytes
    }

    pub(crate) fn headroom(&self) -> Headroom {
        self.lock().headroom
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let memory = self.lock();
        Statistics {
            segments: memory.segments.len(),
            segment_bytes: memory.segments.values().map(|segment| segment.size).sum(),
            headroom: memory.headroom,
            cached_entries: memory.cache.len(),
            cached_bytes: memory.cache.bytes(),
            queued_bytes: memory.queued_bytes,
            frames: memory.frames,
            written_bytes: memory.written_bytes,
        }
    }

    pub(crate) fn failure(&self) -> Option<Error> {
        self.lock().failure.clone()
    }

    /// Makes `error` the answer to every later call; gives back what was queued. `None` if it has failed before.
    pub(crate) fn fail(&self, error: &Error) -> Option<Vec<Queued>> {
        let mut memory = self.lock();
        if memory.failure.is_some() {
            return None;
        }
        memory.failure = Some(error.clone());
        memory.queued_bytes = 0;
        Some(memory.queue.drain(..).collect())
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
        self.call_hook();
    }
}

fn check_mark(what: &'static str, bytes: &Bytes) -> Result<()> {
    let bytes = bytes.len() as u64;
    if bytes > MARK_BYTES_MAX {
        return Err(Error::TooLarge { what, bytes, limit_bytes: MARK_BYTES_MAX });
    }
    Ok(())
}
