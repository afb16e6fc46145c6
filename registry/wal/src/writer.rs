//! The writer: takes batches from the queue, writes each as one frame, syncs once, calls the callbacks in order.
//!
//! It is an object without a thread: [`Writer::spawn`] gives it one, a simulation calls [`Writer::take_batch`],
//! [`Writer::run_once`] and [`Writer::step`] from a task and decides how long a sync takes.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use registry_bug::bug;

use crate::bounds::Bounds;
use crate::disk::write_all_at;
use crate::error::{Error, Result};
use crate::frame::{FORMAT, FrameBuilder, FrameHeader, HEADER_BYTES, PAGE_BYTES};
use crate::index::Location;
use crate::memory::{Shared, Work};
use crate::options::Identity;
use crate::queue::{Operation, Queued};
use crate::record::Record;
use crate::segment::Segment;
use crate::space::Space;

/// How long the thread sleeps without work. Then it tries again what a full disk refused.
const IDLE_WAIT: Duration = Duration::from_secs(5);

/// How long the thread sleeps when nothing can be written for want of room.
const STALL_WAIT: Duration = Duration::from_millis(250);

/// Operations for one frame, in the order of the queue.
#[derive(Debug)]
pub struct Batch {
    operations: Vec<Queued>,
    committed: Option<u64>,
}

impl Drop for Batch {
    /// A batch that is never written must not leave anybody waiting.
    fn drop(&mut self) {
        tell(std::mem::take(&mut self.operations), &Err(Error::Closed));
    }
}

impl Batch {
    /// Bytes its frame takes on disk, at most.
    fn frame_bytes_max(&self) -> u64 {
        let payload: u64 = self.operations.iter().map(|queued| queued.operation.cost()).sum();
        (HEADER_BYTES as u64 + payload).next_multiple_of(PAGE_BYTES as u64)
    }
}

/// Where the next frame goes and what its header says.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) log: [u8; 16],
    pub(crate) identity: Identity,
    pub(crate) segment: Arc<Segment>,
    /// Offset of the next frame in the segment.
    pub(crate) offset: u64,
    pub(crate) generation: u64,
    /// Number of the next frame.
    pub(crate) next_frame: u64,
    /// Highest frame known durable.
    pub(crate) synced: u64,
    /// The log as the frames up to here have it.
    pub(crate) bounds: Bounds,
}

impl Tail {
    /// Adds a head to `buffer`: first frame of `segment`, or first of a generation.
    pub(crate) fn head(&self, buffer: Vec<u8>, number: u64, segment: u64, committed: Option<u64>) -> Vec<u8> {
        let Bounds { vote, purged, last, .. } = &self.bounds;
        let mut builder = FrameBuilder::new(buffer);
        builder.push(&Record::head(&self.identity, vote.clone(), purged.as_ref(), *last));
        builder.finish(&self.header(number, segment, committed))
    }

    fn header(&self, number: u64, segment: u64, committed: Option<u64>) -> FrameHeader {
        FrameHeader {
            log: self.log,
            segment,
            generation: self.generation,
            number,
            synced: self.synced,
            committed,
            // Set by the builder.
            length: 0,
            format: FORMAT,
        }
    }

    /// Writes whole frames up to number `last_frame` at the tail and syncs them.
    pub(crate) fn write(&mut self, bytes: &[u8], last_frame: u64) -> Result<()> {
        let segment = &self.segment;
        write_all_at(&*segment.file, bytes, self.offset).map_err(|source| segment.error("write", source))?;
        if !bug("no-sync") {
            segment.file.sync_data().map_err(|source| segment.error("sync", source))?;
        }
        self.offset += bytes.len() as u64;
        self.next_frame = last_frame + 1;
        self.synced = last_frame;
        Ok(())
    }
}

/// A change of the index, found while a frame was built.
#[derive(Debug)]
enum Change {
    /// Entry with index, offset within its frame, and length.
    Push(u64, u32, u32),
    Truncate(Option<u64>),
    Purge(u64),
}

/// The one that writes. There is one per log; dropped, it leaves the log closed.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    tail: Tail,
    space: Space,
    /// Kept for the next frame, to spare an allocation of up to 1 MiB per batch.
    buffer: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, (tail, space): (Tail, Space)) -> Writer {
        Writer { shared, tail, space, buffer: Vec::new() }
    }

    /// Runs on a thread of its own until the log is closed or fails.
    pub fn spawn(self) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("wal".to_owned()).spawn(move || self.run())
    }

    fn run(mut self) {
        let mut more = true;
        loop {
            // Background work only while nothing is queued, or when the next segment would have to wait for it.
            let outcome = match self.shared.wait(if more { Duration::ZERO } else { IDLE_WAIT }) {
                Work::Closed => return,
                Work::Nothing if more => self.step().map(|left| more = left),
                Work::Nothing => {
                    more = self.space.retry();
                    Ok(())
                }
                Work::Queued => self.run_queued().map(|()| more = true),
            };
            if outcome.is_err() {
                return;
            }
        }
    }

    fn run_queued(&mut self) -> Result<()> {
        match self.take_batch() {
            Some(batch) => self.run_once(batch)?,
            None => return self.stall(),
        }
        if self.space.is_short() {
            self.step()?;
        }
        Ok(())
    }

    /// Something is queued that cannot be written for want of room, or the log has failed over it.
    fn stall(&mut self) -> Result<()> {
        if let Some(failure) = self.shared.failure() {
            return Err(failure);
        }
        if self.shared.lock().is_closed() {
            // Whoever waits would wait for ever.
            self.fail(&Error::Closed, Vec::new());
            return Err(Error::Closed);
        }
        std::thread::sleep(STALL_WAIT);
        Ok(())
    }

    /// Takes the next batch off the queue: at most `batch_bytes` of [`Options`](crate::Options), or a single larger
    /// entry. `None` if nothing is queued, if it has to wait for room on a full disk ([`Headroom::stalled`], W5), or if
    /// the log has failed.
    ///
    /// [`Headroom::stalled`]: crate::Headroom::stalled
    pub fn take_batch(&mut self) -> Option<Batch> {
        let mut batch = {
            let mut memory = self.shared.lock();
            let operations = memory.take(self.shared.batch_bytes());
            let committed = memory.committed;
            (!operations.is_empty()).then_some(Batch { operations, committed })?
        };
        let room = if self.needs_segment(&batch) { self.space.secure() } else { Ok(true) };
        let operations = match room {
            Ok(true) => return Some(batch),
            Ok(false) => std::mem::take(&mut batch.operations),
            Err(error) => {
                self.fail(&error, std::mem::take(&mut batch.operations));
                return None;
            }
        };
        let mut memory = self.shared.lock();
        if !memory.headroom.stalled {
            tracing::error!(
                "disk full, and the reserve of the log is used up: nothing is written until there is room"
            );
        }
        memory.headroom = crate::Headroom { stalled: true, ..self.space.headroom() };
        memory.put_back(operations);
        None
    }

    fn needs_segment(&self, batch: &Batch) -> bool {
        batch.operations.iter().any(|queued| queued.operation.is_recorded())
            && self.tail.offset + batch.frame_bytes_max() > self.tail.segment.size
    }

    /// Makes a batch durable: one write, one sync, then all callbacks in order. After an error the log has failed,
    /// everything waiting has been told, and the writer is of no more use.
    pub fn run_once(&mut self, mut batch: Batch) -> Result<()> {
        let written = match self.shared.failure() {
            Some(failure) => Err(failure),
            None => self.write(&batch),
        };
        let operations = std::mem::take(&mut batch.operations);
        match &written {
            Ok(()) => tell(operations, &written),
            Err(error) => self.fail(error, operations),
        }
        written
    }

    /// A step of background work: recycles segments, fills spares, allocates the reserve. At most 1 MiB is written.
    /// True if there is more to do now. Errors as in [`Writer::run_once`]; a full disk is none.
    pub fn step(&mut self) -> Result<bool> {
        let outcome = self.space.step();
        self.shared.lock().headroom = self.space.headroom();
        outcome.inspect_err(|error| self.fail(error, Vec::new()))
    }

    fn write(&mut self, batch: &Batch) -> Result<()> {
        let mut changes = Vec::with_capacity(batch.operations.len());
        let mut frame_at = None;
        if batch.operations.iter().any(|queued| queued.operation.is_recorded()) {
            frame_at = Some(self.write_frame(batch, &mut changes)?);
        }
        for queued in &batch.operations {
            match queued.operation {
                Operation::SetReserve(bytes) => self.space.set_reserve(bytes),
                Operation::ReleaseReserve => self.space.release_reserve()?,
                Operation::RetryAllocation => drop(self.space.retry()),
                _ => {}
            }
        }
        self.settle(batch, changes, frame_at);
        Ok(())
    }

    /// Builds, writes and syncs the frame, in a new segment if it might not fit; tells its offset and length.
    fn write_frame(&mut self, batch: &Batch, changes: &mut Vec<Change>) -> Result<(u64, u64)> {
        let mut number = self.tail.next_frame;
        let mut buffer = std::mem::take(&mut self.buffer);
        if self.tail.offset + batch.frame_bytes_max() > self.tail.segment.size {
            // The head of the new segment and the frame go out in one write and one sync.
            let segment = self.space.take_segment(self.tail.segment.number + 1)?;
            buffer = self.tail.head(buffer, number, segment.number, batch.committed);
            self.tail.segment = Arc::new(segment);
            self.tail.offset = 0;
            number += 1;
        }
        let frame_at = buffer.len();
        let mut builder = FrameBuilder::new(buffer);
        for queued in &batch.operations {
            let Some(record) = record_of(&queued.operation) else { continue };
            let place = builder.push(&record);
            changes.extend(change(&mut self.tail.bounds, &queued.operation, place)?);
        }
        let mut bytes = builder.finish(&self.tail.header(number, self.tail.segment.number, batch.committed));
        let frame_offset = self.tail.offset + frame_at as u64;
        let length = bytes.len() as u64;
        self.shared.observer.sync_started(length);
        self.tail.write(&bytes, number)?;
        self.shared.observer.sync_finished();
        bytes.clear();
        self.buffer = bytes;
        Ok((frame_offset, length))
    }

    /// Lets readers find what is durable now, and retires segments that hold nothing any more.
    fn settle(&mut self, batch: &Batch, changes: Vec<Change>, frame_at: Option<(u64, u64)>) {
        let active = self.tail.segment.number;
        let mut memory = self.shared.lock();
        memory.segments.entry(active).or_insert_with(|| Arc::clone(&self.tail.segment));
        let (frame_offset, frame_bytes) = frame_at.unwrap_or((0, 0));
        let mut truncations = 0;
        for change in changes {
            match change {
                Change::Push(index, offset, length) => {
                    let offset = frame_offset as u32 + offset;
                    memory.index.push(index, Location { segment: active, offset, length });
                }
                Change::Truncate(after) => {
                    truncations += 1;
                    memory.index.truncate_after(after);
                }
                Change::Purge(upto) => memory.index.purge(upto),
            }
        }
        memory.frames += u64::from(frame_at.is_some());
        memory.written_bytes += frame_bytes;
        memory.settle(truncations, batch.operations.iter().map(|queued| queued.operation.cost()).sum());
        let needed = memory.index.front().map_or(active, |location| location.segment);
        let kept = memory.segments.split_off(&needed);
        let unneeded = std::mem::replace(&mut memory.segments, kept);
        self.space.retire(unneeded.into_values().collect());
        memory.headroom = self.space.headroom();
    }

    fn fail(&self, error: &Error, operations: Vec<Queued>) {
        let waiting = self.shared.fail(error);
        let first = waiting.is_some();
        tell(operations, &Err(error.clone()));
        tell(waiting.unwrap_or_default(), &Err(error.clone()));
        if first {
            tracing::error!(%error, "the log failed");
            self.shared.observer.failed(error);
        }
    }
}

impl Drop for Writer {
    /// Nobody must wait for a writer that is gone.
    fn drop(&mut self) {
        tell(self.shared.fail(&Error::Closed).unwrap_or_default(), &Err(Error::Closed));
    }
}

fn tell(operations: Vec<Queued>, outcome: &Result<()>) {
    for done in operations.into_iter().filter_map(|queued| queued.done) {
        done(outcome.clone().map_err(io::Error::from));
    }
}

/// What goes into the frame, if anything.
fn record_of(operation: &Operation) -> Option<Record> {
    match operation {
        Operation::Append(entry) => Some(Record::entry(entry)),
        Operation::Vote(vote) => Some(Record::vote(vote.clone())),
        Operation::Truncate(after) => Some(Record::truncate(*after)),
        Operation::Purge(purged) => Some(Record::purge(purged)),
        Operation::Barrier
        | Operation::SetReserve(_)
        | Operation::ReleaseReserve
        | Operation::RetryAllocation => None,
    }
}

/// Carries the operation into the bounds and tells what it does to the index. The calls were checked when they were
/// queued; an error here would be a bug, and must not reach the disk.
fn change(
    bounds: &mut Bounds,
    operation: &Operation,
    (offset, length): (u32, u32),
) -> Result<Option<Change>> {
    Ok(match operation {
        Operation::Append(entry) => {
            bounds.append(entry.index)?;
            Some(Change::Push(entry.index, offset, length))
        }
        Operation::Vote(vote) => {
            bounds.vote = Some(vote.clone());
            None
        }
        Operation::Truncate(after) => {
            bounds.truncate_after(*after)?;
            Some(Change::Truncate(*after))
        }
        Operation::Purge(purged) => {
            bounds.purge(purged.clone());
            Some(Change::Purge(purged.index))
        }
        Operation::Barrier
        | Operation::SetReserve(_)
        | Operation::ReleaseReserve
        | Operation::RetryAllocation => None,
    })
}
