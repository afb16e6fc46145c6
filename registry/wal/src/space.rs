//! Disk space of the log (P/W5): segments come from spares, which are zero-filled in the background or recycled, and a
//! reserve stays allocated for the time when the disk is full.
//!
//! Zero-filled means written: on blocks that are only allocated, a sync also has to journal that they are now in use,
//! which costs 40 % of the rate. Filling goes in steps of 1 MiB, so that it never holds up a batch for long.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, is_out_of_space, write_all_at};
use crate::error::{Error, Result};
use crate::segment::{FileName, RESERVE_NAME, Segment};
use crate::status::Headroom;

/// Bytes written and synced in one step: some milliseconds even on a network volume.
const FILL_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
struct Spare {
    number: u64,
    file: Box<dyn DiskFile>,
}

/// A spare that is being filled.
#[derive(Debug)]
struct Partial {
    number: u64,
    file: Box<dyn DiskFile>,
    filled: u64,
}

#[derive(Debug)]
struct Reserve {
    file: Box<dyn DiskFile>,
    bytes: u64,
}

/// The files of the log folder that are not part of the log, and those about to leave it.
#[derive(Debug)]
pub(crate) struct Space {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    spares_wanted: usize,
    reserve_wanted: u64,
    spares: VecDeque<Spare>,
    partial: Option<Partial>,
    reserve: Option<Reserve>,
    /// Former segments, oldest first; recycled when no reader holds them any more.
    retired: VecDeque<Arc<Segment>>,
    next_spare: u64,
    /// The disk refused an allocation and has not granted it since.
    full: bool,
    /// Nothing is allocated in the background until [`Space::retry`].
    blocked: bool,
    /// The reserve was given away and is not allocated again before [`Space::set_reserve`].
    released: bool,
}

impl Space {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        segment_bytes: u64,
        spares_wanted: usize,
        reserve_wanted: u64,
    ) -> Space {
        Space {
            disk,
            segment_bytes,
            spares_wanted,
            reserve_wanted,
            spares: VecDeque::new(),
            partial: None,
            reserve: None,
            retired: VecDeque::new(),
            next_spare: 0,
            full: false,
            blocked: false,
            released: false,
        }
    }

    /// Takes over what a former process left: spares of the right size and the reserve. The rest is removed.
    pub(crate) fn adopt(&mut self, names: &[String]) -> Result<()> {
        let mut removed = false;
        for name in names {
            match FileName::parse(name) {
                Some(FileName::Spare(number)) => {
                    self.next_spare = self.next_spare.max(number + 1);
                    let (file, bytes) = self.open(name)?;
                    if bytes == self.segment_bytes {
                        self.spares.push_back(Spare { number, file });
                    } else {
                        self.remove(name)?;
                        removed = true;
                    }
                }
                Some(FileName::Partial(number)) => {
                    self.next_spare = self.next_spare.max(number + 1);
                    self.remove(name)?;
                    removed = true;
                }
                Some(FileName::Segment(_)) => {}
                None if name == RESERVE_NAME => {
                    let (file, bytes) = self.open(name)?;
                    self.reserve = Some(Reserve { file, bytes });
                }
                None => tracing::debug!(
                    file = self.disk.describe(name),
                    "unknown file in the log folder left alone"
                ),
            }
        }
        if removed { self.sync_directory() } else { Ok(()) }
    }

    pub(crate) fn headroom(&self) -> Headroom {
        Headroom {
            spare_segments: self.spares.len(),
            reserve_bytes: self.reserve.as_ref().map_or(0, |reserve| reserve.bytes),
            full: self.full,
            stalled: false,
        }
    }

    /// True if the next segment would have to be made while a batch waits.
    pub(crate) fn is_short(&self) -> bool {
        self.spares.is_empty() && !self.blocked
    }

    /// Makes a segment of a spare. Its name is durable when this returns, its content is not yet a segment's. Without
    /// a spare one is made at once; on a full disk the reserve gives the room.
    pub(crate) fn take_segment(&mut self, number: u64) -> Result<Segment> {
        self.secure()?;
        let Some(spare) = self.spares.pop_front() else { return Err(self.no_room()) };
        let from = FileName::Spare(spare.number).text();
        self.rename(&from, &FileName::Segment(number).text())?;
        self.sync_directory()?;
        Ok(Segment::new(Arc::clone(&self.disk), number, self.segment_bytes, spare.file))
    }

    /// Sees to it that there is a spare, if need be at the cost of the reserve. False if the disk is full and the
    /// reserve used up.
    pub(crate) fn secure(&mut self) -> Result<bool> {
        while self.recycle_one()? {}
        // What a full disk refused is not written again without a sign that there is room.
        let mut hopeful = !self.full || self.has_room();
        while self.spares.is_empty() {
            if hopeful {
                match self.fill_step() {
                    Ok(()) => continue,
                    Err(error) if is_full(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            self.refused()?;
            if !self.shrink_reserve()? {
                return Ok(false);
            }
            hopeful = true;
        }
        Ok(true)
    }

    /// The disk refused an allocation: nothing more is tried in the background before there is a sign of room.
    fn refused(&mut self) -> Result<()> {
        self.abandon_partial()?;
        self.full = true;
        self.blocked = true;
        Ok(())
    }

    /// True if the file system says that what is missing next would fit, or says nothing.
    fn has_room(&self) -> bool {
        let has = self.reserve.as_ref().map_or(0, |reserve| reserve.bytes);
        let missing = if self.spares.len() < self.spares_wanted {
            self.segment_bytes
        } else {
            self.reserve_wanted.saturating_sub(has)
        };
        self.disk.free_bytes().map_or(true, |free| free >= missing)
    }

    /// Hands over segments that left the log, oldest first. The heads of all later segments are durable by now, and so
    /// is the purge that made them superfluous (P/W4).
    pub(crate) fn retire(&mut self, segments: Vec<Arc<Segment>>) {
        self.retired.extend(segments);
    }

    /// One step of background work; true if it should be called again soon. A full disk is not an error here.
    pub(crate) fn step(&mut self) -> Result<bool> {
        if self.recycle_one()? {
            return Ok(true);
        }
        if self.blocked {
            return Ok(false);
        }
        let outcome = if self.spares.len() < self.spares_wanted {
            self.fill_step().map(|()| true)
        } else if self.released {
            return Ok(false);
        } else {
            self.adjust_reserve().map(|()| false)
        };
        match outcome {
            Ok(true) => Ok(true),
            Ok(false) => {
                if std::mem::take(&mut self.full) {
                    tracing::info!("spare log segments and reserve are allocated again");
                }
                Ok(false)
            }
            Err(error) if is_full(&error) => {
                if !self.full {
                    tracing::warn!(%error, "disk full: no room for spare log segments and reserve");
                }
                self.refused()?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Lets the next steps try again what a full disk refused, if there is a sign of room now; true if there is
    /// something to try.
    pub(crate) fn retry(&mut self) -> bool {
        if !self.blocked || !self.has_room() {
            return false;
        }
        self.blocked = false;
        true
    }

    /// Changes the size of the reserve; the next steps follow it.
    pub(crate) fn set_reserve(&mut self, bytes: u64) {
        self.reserve_wanted = bytes;
        self.released = false;
        self.blocked = false;
    }

    /// Gives the reserve back to the file system.
    pub(crate) fn release_reserve(&mut self) -> Result<()> {
        self.full = true;
        self.released = true;
        self.resize_reserve(0)
    }

    /// Turns the oldest retired segment into a spare, or removes it if there are enough. False if there is none, or a
    /// reader still holds it. One by one with a directory sync each: a hole between segments would be damage.
    fn recycle_one(&mut self) -> Result<bool> {
        let Some(oldest) = self.retired.pop_front() else { return Ok(false) };
        let segment = match Arc::try_unwrap(oldest) {
            Ok(segment) => segment,
            Err(held) => {
                self.retired.push_front(held);
                return Ok(false);
            }
        };
        self.reuse(&segment.name(), segment.size, segment.file)?;
        Ok(true)
    }

    /// Makes a spare of a file that is no longer, or never became, part of the log.
    pub(crate) fn reuse(&mut self, name: &str, bytes: u64, file: Box<dyn DiskFile>) -> Result<()> {
        if bytes == self.segment_bytes && self.spares.len() < self.spares_wanted {
            let number = self.draw_number();
            self.rename(name, &FileName::Spare(number).text())?;
            self.spares.push_back(Spare { number, file });
        } else {
            self.remove(name)?;
        }
        self.sync_directory()
    }

    /// Fills the partial spare by one step, beginning one if there is none.
    fn fill_step(&mut self) -> Result<()> {
        let mut partial = match self.partial.take() {
            Some(partial) => partial,
            None => {
                let number = self.draw_number();
                let name = FileName::Partial(number).text();
                let file = self.disk.create(&name).map_err(|source| self.error("create", &name, source))?;
                Partial { number, file, filled: 0 }
            }
        };
        let left = usize::try_from(self.segment_bytes - partial.filled).unwrap_or(usize::MAX);
        let count = left.min(FILL_BYTES);
        let written = write_all_at(&*partial.file, &vec![0; count], partial.filled);
        let synced = written.and_then(|()| partial.file.sync_data());
        partial.filled += count as u64;
        let (number, complete) = (partial.number, partial.filled == self.segment_bytes);
        let name = FileName::Partial(number).text();
        self.partial = Some(partial);
        synced.map_err(|source| self.error("fill", &name, source))?;
        if complete && let Some(partial) = self.partial.take() {
            self.rename(&name, &FileName::Spare(number).text())?;
            self.sync_directory()?;
            self.spares.push_back(Spare { number, file: partial.file });
        }
        Ok(())
    }

    fn abandon_partial(&mut self) -> Result<()> {
        let Some(partial) = self.partial.take() else { return Ok(()) };
        self.remove(&FileName::Partial(partial.number).text())
    }

    fn adjust_reserve(&mut self) -> Result<()> {
        let has = self.reserve.as_ref().map_or(0, |reserve| reserve.bytes);
        if has == self.reserve_wanted {
            return Ok(());
        }
        match self.resize_reserve(self.reserve_wanted) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::Unsupported => {
                tracing::warn!(
                    "this file system cannot allocate blocks: the log has no reserve for a full disk"
                );
                self.reserve_wanted = 0;
                self.resize_reserve(0)
            }
            other => other,
        }
    }

    /// Takes room for one segment from the reserve; false if there is none left.
    fn shrink_reserve(&mut self) -> Result<bool> {
        match self.reserve.as_ref().map_or(0, |reserve| reserve.bytes) {
            0 => Ok(false),
            bytes => self.resize_reserve(bytes.saturating_sub(self.segment_bytes)).map(|()| true),
        }
    }

    fn resize_reserve(&mut self, bytes: u64) -> Result<()> {
        let reserve = match self.reserve.take() {
            Some(reserve) => reserve,
            None if bytes == 0 => return Ok(()),
            None => {
                let created = self.disk.create(RESERVE_NAME);
                Reserve {
                    file: created.map_err(|source| self.error("create", RESERVE_NAME, source))?,
                    bytes: 0,
                }
            }
        };
        let resized = if bytes > reserve.bytes {
            // A refused allocation may have taken a part.
            reserve.file.allocate(bytes).inspect_err(|_| drop(reserve.file.set_size(reserve.bytes)))
        } else {
            reserve.file.set_size(bytes)
        };
        let resized = resized.and_then(|()| reserve.file.sync_data());
        let has = if resized.is_ok() { bytes } else { reserve.bytes };
        self.reserve = Some(Reserve { bytes: has, ..reserve });
        resized.map_err(|source| self.error("resize", RESERVE_NAME, source))
    }

    fn draw_number(&mut self) -> u64 {
        self.next_spare += 1;
        self.next_spare - 1
    }

    fn open(&self, name: &str) -> Result<(Box<dyn DiskFile>, u64)> {
        let opened = self.disk.open(name).and_then(|file| file.size().map(|bytes| (file, bytes)));
        opened.map_err(|source| self.error("open", name, source))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.disk.rename(from, to).map_err(|source| self.error("rename", from, source))
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.disk.remove(name).map_err(|source| self.error("remove", name, source))
    }

    fn sync_directory(&self) -> Result<()> {
        self.disk.sync_directory().map_err(|source| self.error("sync", "", source))
    }

    fn error(&self, action: &'static str, name: &str, source: io::Error) -> Error {
        Error::io(action, self.disk.describe(name), source)
    }

    fn no_room(&self) -> Error {
        Error::Full { folder: self.disk.describe("") }
    }
}

fn is_full(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if is_out_of_space(source))
}
