//! Reading old entries from the segment files. Works on a plan made under the lock, without it.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::Result;
use crate::index::Location;
use crate::record::{Entry, decode_entry};
use crate::segment::Segment;

/// Longest stretch of a file read at once. Neighbouring entries come by one call; a lagging follower asks for about
/// this much.
const READ_BYTES_MAX: u64 = 1024 * 1024;

/// An entry to be read. Holding the segment keeps its file from being recycled.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) index: u64,
    pub(crate) location: Location,
    pub(crate) segment: Arc<Segment>,
}

impl Planned {
    fn end(&self) -> u64 {
        u64::from(self.location.offset) + u64::from(self.location.length)
    }
}

/// Reads what was planned, in order, checking the index and checksum of each entry.
pub(crate) fn read_entries(plan: &[Planned]) -> Result<Vec<Entry>> {
    let mut entries = Vec::with_capacity(plan.len());
    let mut rest = plan;
    while let Some(first) = rest.first() {
        let begin = u64::from(first.location.offset);
        let together = |next: &&Planned| {
            next.segment.number == first.segment.number && next.end() - begin <= READ_BYTES_MAX
        };
        // The first is read however long it is.
        let count = 1 + rest[1..].iter().take_while(together).count();
        let (stretch, others) = rest.split_at(count);
        let end = stretch.last().map_or(begin, Planned::end);
        let bytes = Bytes::from(first.segment.read(begin, (end - begin) as usize)?);
        for planned in stretch {
            let from = (u64::from(planned.location.offset) - begin) as usize;
            let record = bytes.slice(from..from + planned.location.length as usize);
            let entry = decode_entry(record, planned.index)
                .map_err(|reason| planned.segment.corrupt(u64::from(planned.location.offset), reason))?;
            entries.push(entry);
        }
        rest = others;
    }
    Ok(entries)
}
