//! Reading a log back after a stop of any kind (P/W2, P/W3, P/W4).
//!
//! Frames are followed from the head of the oldest segment: each must verify, carry the log's uuid and the number of
//! its segment, and have the next frame number and no older generation. Where that ends, a frame is expected at F.
//! If a later frame knows F as synced, F was acknowledged and is damaged: refuse. Otherwise F never was acknowledged:
//! the log ends before it, and a frame of a new generation is written and synced there, which makes everything
//! behind it free space. That is done at every start, as the free space behind a clean end looks the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::bounds::Bounds;
use crate::cache::Cache;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::frame::{FORMAT, FrameHeader, HEADER_BYTES, PAGE_BYTES, verifies};
use crate::index::{Index, Location};
use crate::memory::{Memory, Shared};
use crate::options::{Identity, Observer, Options};
use crate::record::{Found, HeadRecord, Kind, split};
use crate::segment::{FileName, Segment};
use crate::space::Space;
use crate::status::LogState;
use crate::writer::Tail;

/// Stretch of a file looked through at once for frames behind the end.
const SCAN_BYTES: u64 = 1024 * 1024;

/// What a start found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// True if there was no log and this start created it.
    pub created: bool,
    /// Uuid of the log.
    pub log: [u8; 16],
    /// The state found.
    pub state: LogState,
    /// The unacknowledged tail that was cut, if there were traces of one.
    pub cut: Option<Cut>,
    /// Generation of this start.
    pub generation: u64,
}

/// Where the log was cut: what follows was never acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Full name of the file.
    pub file: String,
    /// Offset of the first frame cut off.
    pub offset: u64,
}

/// The last frame that counts, and where the next is expected.
#[derive(Debug, Clone, Copy)]
struct End {
    segment: u64,
    offset: u64,
    frame: u64,
    generation: u64,
}

/// What following the frames has brought together.
struct Replay {
    identity: Identity,
    log: Option<[u8; 16]>,
    end: Option<End>,
    bounds: Bounds,
    committed: Option<u64>,
    index: Index,
    cache: Cache,
}

type Segments = BTreeMap<u64, Arc<Segment>>;

/// Recovers or creates the log; gives what the handle and the writer need.
pub(crate) fn recover(
    disk: Arc<dyn Disk>,
    options: Options,
    identity: Identity,
    create: Option<[u8; 16]>,
    observer: Arc<dyn Observer>,
) -> Result<(Arc<Shared>, (Tail, Space), Recovered)> {
    let names = disk.list().map_err(|source| Error::io("list", disk.describe(""), source))?;
    let mut segments = open_segments(&disk, &names)?;
    let mut space =
        Space::new(Arc::clone(&disk), options.segment_bytes, options.spare_segments, options.reserve_bytes);
    let mut replay = Replay::new(identity, options.cache_bytes);
    replay.follow(&segments)?;
    let cut = replay.check_rest(&segments)?;
    replay.check_complete(&disk)?;

    let created = replay.end.is_none();
    if created && create.is_none() {
        return Err(Error::Missing { folder: disk.describe("") });
    }
    space.adopt(&names)?;
    // Segments behind the end were begun by a stopped process and hold nothing; the last first, to leave no hole.
    let last = replay.end.map_or(0, |end| end.segment);
    for segment in segments.split_off(&(last + 1)).into_values().rev() {
        discard(&mut space, segment)?;
    }
    replay.committed = replay.committed.min(replay.bounds.last);
    let log = replay.log.or(create).unwrap_or_default();
    let tail = begin_generation(&replay, log, &mut segments, &mut space)?;

    let generation = tail.generation;
    let mut memory = Memory::new(replay.bounds, replay.committed, replay.cache, replay.index);
    memory.segments = segments;
    memory.headroom = space.headroom();
    let shared = Arc::new(Shared::new(disk, options, observer, memory));
    let recovered = Recovered { created, log, state: shared.state(), cut, generation };
    Ok((shared, (tail, space), recovered))
}

/// Opens all segment files, which have to be numbered without holes.
fn open_segments(disk: &Arc<dyn Disk>, names: &[String]) -> Result<Segments> {
    let mut segments = Segments::new();
    for name in names {
        if let Some(FileName::Segment(number)) = FileName::parse(name) {
            segments.insert(number, Arc::new(Segment::open(disk, number)?));
        }
    }
    for (segment, next) in segments.values().zip(segments.values().skip(1)) {
        if segment.number + 1 != next.number {
            let reason =
                format!("the segment before it is missing, the last one found is {}", segment.path());
            return Err(next.corrupt(0, reason));
        }
    }
    Ok(segments)
}

/// Makes a spare of a segment that holds nothing.
fn discard(space: &mut Space, segment: Arc<Segment>) -> Result<()> {
    let name = segment.name();
    // Nobody else has it yet.
    match Arc::try_unwrap(segment) {
        Ok(segment) => space.reuse(&name, segment.size, segment.file),
        Err(held) => Err(held.corrupt(0, "still in use while the log is opened")),
    }
}

/// Writes and syncs the first frame of a new generation where the log ends, in a new segment if need be.
fn begin_generation(
    replay: &Replay,
    log: [u8; 16],
    segments: &mut Segments,
    space: &mut Space,
) -> Result<Tail> {
    let end = replay.end.unwrap_or(End { segment: 0, offset: 0, frame: 0, generation: 0 });
    // What a killed process left in the page cache must not be lost after it was read from there.
    if let Some(last) = segments.get(&end.segment) {
        last.file.sync_data().map_err(|source| last.error("sync", source))?;
    }
    let last = segments.get(&end.segment).cloned();
    let mut tail = Tail {
        log,
        identity: replay.identity,
        // Of a new log there is none yet.
        segment: match last {
            Some(last) => last,
            None => new_segment(end.segment + 1, segments, space)?,
        },
        offset: end.offset,
        generation: end.generation + 1,
        next_frame: end.frame + 1,
        synced: end.frame,
        bounds: replay.bounds.clone(),
    };
    if tail.offset + PAGE_BYTES as u64 > tail.segment.size {
        if !space.secure()? {
            // Exactly full, on a full disk. Nothing stands behind the end that could come back (there is no further
            // segment), so the first write may begin the generation, in the segment that it needs anyway.
            return Ok(tail);
        }
        tail.segment = new_segment(end.segment + 1, segments, space)?;
        tail.offset = 0;
    }
    let number = tail.next_frame;
    let head = tail.head(Vec::new(), number, tail.segment.number, replay.committed);
    tail.write(&head, number)?;
    Ok(tail)
}

fn new_segment(number: u64, segments: &mut Segments, space: &mut Space) -> Result<Arc<Segment>> {
    let segment = Arc::new(space.take_segment(number)?);
    segments.insert(number, Arc::clone(&segment));
    Ok(segment)
}

impl Replay {
    fn new(identity: Identity, cache_bytes: u64) -> Replay {
        Replay {
            identity,
            log: None,
            end: None,
            bounds: Bounds::default(),
            committed: None,
            index: Index::default(),
            cache: Cache::new(cache_bytes),
        }
    }

    /// Follows the frames through the segments.
    fn follow(&mut self, segments: &Segments) -> Result<()> {
        for segment in segments.values() {
            let mut offset = 0;
            while let Some((header, payload)) = self.next_frame(segment, offset)? {
                if header.format != FORMAT {
                    return Err(Error::Format {
                        file: segment.path(),
                        found: header.format,
                        supported: FORMAT,
                    });
                }
                self.take(segment, offset, &header, &payload)?;
                offset += header.padded_bytes();
                self.log = Some(header.log);
                self.committed = header.committed;
                let (segment, frame) = (segment.number, header.number);
                self.end = Some(End { segment, offset, frame, generation: header.generation });
            }
            // The head of the next segment goes on where this one ends, or nothing does.
            if offset == 0 {
                break;
            }
        }
        Ok(())
    }

    /// The frame at `offset`, if it is the one that comes next.
    fn next_frame(&self, segment: &Segment, offset: u64) -> Result<Option<(FrameHeader, Bytes)>> {
        let Some(header) = read_header(segment, offset)? else { return Ok(None) };
        let follows = match self.end {
            Some(end) => header.number == end.frame + 1 && header.generation >= end.generation,
            None => true,
        };
        if !follows || !self.is_ours(segment, &header) {
            return Ok(None);
        }
        Ok(read_verified(segment, offset, &header)?.map(|payload| (header, payload)))
    }

    fn is_ours(&self, segment: &Segment, header: &FrameHeader) -> bool {
        header.segment == segment.number && self.log.is_none_or(|log| log == header.log)
    }

    /// Carries out the records of a frame.
    fn take(&mut self, segment: &Segment, offset: u64, header: &FrameHeader, payload: &Bytes) -> Result<()> {
        let wrong = |reason: String| segment.corrupt(offset, format!("frame {}: {reason}", header.number));
        let records = split(payload).map_err(wrong)?;
        if offset == 0 && !matches!(records.first(), Some(Found { kind: Kind::Head(_), .. })) {
            return Err(wrong("the first frame of a segment is no head".to_owned()));
        }
        for record in records {
            let place = Location {
                segment: segment.number,
                offset: (offset as u32).saturating_add(HEADER_BYTES as u32 + record.offset),
                length: record.length,
            };
            self.take_record(segment, record.kind, place).map_err(|error| match error {
                Error::OutOfOrder { .. } => wrong(error.to_string()),
                other => other,
            })?;
        }
        Ok(())
    }

    fn take_record(&mut self, segment: &Segment, kind: Kind, place: Location) -> Result<()> {
        match kind {
            Kind::Head(head) => {
                self.check_identity(segment, &head)?;
                if self.end.is_none() {
                    self.begin(head);
                }
            }
            Kind::Entry(entry) => {
                self.bounds.append(entry.index)?;
                self.index.push(entry.index, place);
                // A copy of its own: a slice would keep the whole frame in memory.
                self.cache.push(entry.index, Bytes::copy_from_slice(&entry.data));
                self.cache.evict(self.index.end());
            }
            Kind::Vote(vote) => self.bounds.vote = Some(vote),
            Kind::Truncate(truncate) => {
                self.bounds.truncate_after(truncate.after)?;
                self.index.truncate_after(truncate.after);
                self.cache.truncate(truncate.after.map_or(0, |after| after.saturating_add(1)));
            }
            Kind::Purge(purge) => {
                self.index.purge(purge.index);
                self.cache.purge(purge.index.saturating_add(1));
                self.bounds.purge(purge.into());
            }
        }
        Ok(())
    }

    /// Starts from the head of the oldest segment. Entries before it are gone with their segments; whether they were
    /// all purged is known at the end.
    fn begin(&mut self, head: HeadRecord) {
        let next = head.last.map(|last| last.saturating_add(1));
        let first = match &head.purged {
            Some(purged) => Some(purged.index.saturating_add(1)),
            None => head.last.map(|_| 0),
        };
        self.bounds = Bounds { vote: head.vote, purged: head.purged.map(Into::into), last: head.last, first };
        self.index = Index::starting_at(next);
        self.cache.truncate(0);
        self.cache.purge(next.unwrap_or(0));
    }

    fn check_identity(&self, segment: &Segment, head: &HeadRecord) -> Result<()> {
        let Identity { cluster_id, raft_id, disk_id } = self.identity;
        let foreign = |field, found: String, expected: String| {
            Err(Error::Foreign { file: segment.path(), field, found, expected })
        };
        if head.cluster_id != cluster_id.as_slice() {
            return foreign("cluster id", hex(&head.cluster_id), hex(&cluster_id));
        }
        if head.raft_id != raft_id {
            return foreign("raft id", head.raft_id.to_string(), raft_id.to_string());
        }
        if head.disk_id != disk_id.as_slice() {
            return foreign("disk id", hex(&head.disk_id), hex(&disk_id));
        }
        Ok(())
    }

    /// Looks through everything behind the end (P/W3): an error if a frame there knows the expected one as synced,
    /// else the cut, if there is a trace of frames that do not count.
    fn check_rest(&self, segments: &Segments) -> Result<Option<Cut>> {
        let begin = self
            .end
            .map_or((segments.keys().next().copied().unwrap_or(0), 0), |end| (end.segment, end.offset));
        let expected = self.end.map_or(1, |end| end.frame + 1);
        let Some(first) = segments.get(&begin.0) else { return Ok(None) };
        if self.end.is_none() && first.number > 1 {
            // The segments before it were recycled only after its head was durable.
            return Err(first.corrupt(0, "the head of the oldest segment does not verify"));
        }
        let mut cut = None;
        for segment in segments.range(begin.0..).map(|(_, segment)| segment) {
            let from = if segment.number == begin.0 { begin.1 } else { 0 };
            let mut trace = None;
            for_each_header(segment, from, |offset, header| {
                if !self.is_ours(segment, &header)
                    || self.end.is_some_and(|end| header.generation < end.generation)
                {
                    return Ok(());
                }
                trace.get_or_insert(offset);
                let counts = header.synced >= expected || self.end.is_none();
                if counts && read_verified(segment, offset, &header)?.is_some() {
                    let reason = format!(
                        "frame {expected} is not there, but frame {} written after it is",
                        header.number
                    );
                    return Err(first.corrupt(begin.1, reason));
                }
                Ok(())
            })?;
            cut = cut.or_else(|| trace.map(|offset| Cut { file: segment.path(), offset }));
        }
        Ok(cut)
    }

    /// Refuses a log whose oldest segments were taken away.
    fn check_complete(&self, disk: &Arc<dyn Disk>) -> Result<()> {
        let Bounds { first, last, .. } = self.bounds;
        let (Some(first), Some(available)) = (first, self.index.first()) else { return Ok(()) };
        if last.is_some_and(|last| first <= last) && available > first {
            let reason = format!("entries {first} to {} are missing with their segments", available - 1);
            return Err(Error::Corrupt { file: disk.describe(""), offset: 0, reason });
        }
        Ok(())
    }
}

/// Header at `offset`, if one begins there and its frame fits into the segment.
fn read_header(segment: &Segment, offset: u64) -> Result<Option<FrameHeader>> {
    if offset + PAGE_BYTES as u64 > segment.size {
        return Ok(None);
    }
    let header = FrameHeader::parse(&segment.read(offset, HEADER_BYTES)?);
    Ok(header.filter(|header| offset + header.padded_bytes() <= segment.size))
}

/// Payload of the frame at `offset`, if it verifies.
fn read_verified(segment: &Segment, offset: u64, header: &FrameHeader) -> Result<Option<Bytes>> {
    let frame = segment.read(offset, header.used_bytes() as usize)?;
    Ok(verifies(&frame).then(|| Bytes::from(frame).slice(HEADER_BYTES..)))
}

/// Calls `found` for every page from `from` on that begins with a header whose frame fits into the segment.
fn for_each_header(
    segment: &Segment,
    from: u64,
    mut found: impl FnMut(u64, FrameHeader) -> Result<()>,
) -> Result<()> {
    let mut offset = from;
    while offset + PAGE_BYTES as u64 <= segment.size {
        let stretch = segment.read(offset, (segment.size - offset).min(SCAN_BYTES) as usize)?;
        for page in stretch.chunks_exact(PAGE_BYTES) {
            let header =
                FrameHeader::parse(page).filter(|header| offset + header.padded_bytes() <= segment.size);
            if let Some(header) = header {
                found(offset, header)?;
            }
            offset += PAGE_BYTES as u64;
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
