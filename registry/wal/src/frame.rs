//! The batch frame: the unit of write, checksum and cut (P/W1).
//!
//! A frame starts on a page boundary and is padded with zeros to the next, so that a sector with acknowledged bytes is
//! never written again. All numbers are little-endian:
//!
//! | Offset | Bytes | Field |
//! |---|---|---|
//! | 0 | 4 | magic `RWAL` |
//! | 4 | 4 | CRC32C of everything from offset 8 to the end of the payload |
//! | 8 | 16 | log uuid |
//! | 24 | 8 | segment number |
//! | 32 | 8 | generation |
//! | 40 | 8 | frame number |
//! | 48 | 8 | `synced`: highest frame known durable when this one was built |
//! | 56 | 8 | committed index + 1, 0 for none |
//! | 64 | 4 | length of the payload |
//! | 68 | 4 | format |
//! | 72 | | payload: length-delimited [`Record`]s |
//!
//! As the checksum starts with uuid, segment and generation, it is seeded by them: an old frame in a recycled segment
//! verifies only under its own segment number and generation, and those are free space (P/W2).

use registry_bug::bug;

use crate::record::Record;

/// Frames start on multiples of this; what disks and page caches write whole, at best.
pub(crate) const PAGE_BYTES: usize = 4096;
/// Size of the header before the payload.
pub(crate) const HEADER_BYTES: usize = 72;
/// Format of header and records. A frame that verifies but has another one stops the node (P/O3).
pub(crate) const FORMAT: u32 = 1;

const MAGIC: [u8; 4] = *b"RWAL";
const CHECKED_FROM: usize = 8;

/// Everything of a header but magic and checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) log: [u8; 16],
    pub(crate) segment: u64,
    pub(crate) generation: u64,
    pub(crate) number: u64,
    pub(crate) synced: u64,
    pub(crate) committed: Option<u64>,
    pub(crate) length: u32,
    pub(crate) format: u32,
}

impl FrameHeader {
    /// Reads a header; `None` if these bytes do not begin a frame. Says nothing about the checksum.
    pub(crate) fn parse(bytes: &[u8]) -> Option<FrameHeader> {
        if bytes.get(..4)? != MAGIC {
            return None;
        }
        Some(FrameHeader {
            log: bytes.get(8..24)?.try_into().ok()?,
            segment: read_u64(bytes, 24)?,
            generation: read_u64(bytes, 32)?,
            number: read_u64(bytes, 40)?,
            synced: read_u64(bytes, 48)?,
            committed: read_u64(bytes, 56)?.checked_sub(1),
            length: read_u32(bytes, 64)?,
            format: read_u32(bytes, 68)?,
        })
    }

    /// Bytes of header and payload, without padding.
    pub(crate) fn used_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.length)
    }

    /// Bytes the frame takes on disk.
    pub(crate) fn padded_bytes(&self) -> u64 {
        self.used_bytes().next_multiple_of(PAGE_BYTES as u64)
    }
}

/// True if `frame`, header and payload of the length its header says, carries the right checksum.
pub(crate) fn verifies(frame: &[u8]) -> bool {
    read_u32(frame, 4).is_some_and(|stored| stored == checksum(frame))
}

fn checksum(frame: &[u8]) -> u32 {
    let from = if bug("checksum-without-segment") { 32 } else { CHECKED_FROM };
    crc32c::crc32c(frame.get(from..).unwrap_or_default())
}

fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Builds a frame in a buffer that may be used again.
#[derive(Debug)]
pub(crate) struct FrameBuilder {
    buffer: Vec<u8>,
    /// Where this frame begins; not 0 when it follows another in the same write.
    start: usize,
}

impl FrameBuilder {
    /// Begins a frame at the end of `buffer`, which must hold whole pages.
    pub(crate) fn new(mut buffer: Vec<u8>) -> FrameBuilder {
        debug_assert!(buffer.len().is_multiple_of(PAGE_BYTES), "a frame starts on a page");
        let start = buffer.len();
        buffer.resize(start + HEADER_BYTES, 0);
        FrameBuilder { buffer, start }
    }

    /// Adds a record; tells its offset within the frame and its length, both without the length prefix.
    pub(crate) fn push(&mut self, record: &Record) -> (u32, u32) {
        let (begin, length) = record.append_to(&mut self.buffer);
        ((begin - self.start) as u32, length as u32)
    }

    /// Writes the header, pads to the page and gives the buffer back. `length` of the header is set here.
    pub(crate) fn finish(mut self, header: &FrameHeader) -> Vec<u8> {
        let length = (self.buffer.len() - self.start - HEADER_BYTES) as u32;
        let frame = &mut self.buffer[self.start..];
        frame[8..24].copy_from_slice(&header.log);
        for (at, value) in [
            (24, header.segment),
            (32, header.generation),
            (40, header.number),
            (48, header.synced),
            (56, header.committed.map_or(0, |index| index.saturating_add(1))),
        ] {
            frame[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        frame[64..68].copy_from_slice(&length.to_le_bytes());
        frame[68..72].copy_from_slice(&header.format.to_le_bytes());
        let checksum = checksum(frame);
        frame[..4].copy_from_slice(&MAGIC);
        frame[4..8].copy_from_slice(&checksum.to_le_bytes());
        let padded = self.buffer.len().next_multiple_of(PAGE_BYTES);
        self.buffer.resize(padded, 0);
        self.buffer
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::record::Entry;

    fn header(committed: Option<u64>) -> FrameHeader {
        let log = [7; 16];
        FrameHeader {
            log,
            segment: 3,
            generation: 2,
            number: 9,
            synced: 8,
            committed,
            length: 0,
            format: FORMAT,
        }
    }

    fn frame(entries: &[Vec<u8>], committed: Option<u64>) -> Vec<u8> {
        let mut builder = FrameBuilder::new(Vec::new());
        for (index, bytes) in entries.iter().enumerate() {
            builder
                .push(&Record::entry(&Entry { index: index as u64, bytes: Bytes::copy_from_slice(bytes) }));
        }
        builder.finish(&header(committed))
    }

    proptest! {
        #[test]
        fn a_frame_comes_back_as_it_was_built(
            entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..8),
            committed in prop::option::of(0..u64::MAX - 1),
        ) {
            let bytes = frame(&entries, committed);
            prop_assert!(bytes.len().is_multiple_of(PAGE_BYTES));
            let parsed = FrameHeader::parse(&bytes).unwrap();
            prop_assert_eq!(parsed.padded_bytes(), bytes.len() as u64);
            prop_assert_eq!(&FrameHeader { length: 0, ..parsed.clone() }, &header(committed));
            let used = &bytes[..parsed.used_bytes() as usize];
            prop_assert!(verifies(used));
            let records = crate::record::split(&used[HEADER_BYTES..]).unwrap();
            prop_assert_eq!(records.len(), entries.len());
        }

        #[test]
        fn a_changed_byte_is_noticed(position in 0..10_000_usize, flip in 1..=255_u8) {
            let mut bytes = frame(&[vec![1; 9_000]], Some(4));
            let used = FrameHeader::parse(&bytes).unwrap().used_bytes() as usize;
            let position = position % used;
            bytes[position] ^= flip;
            let whole = FrameHeader::parse(&bytes).is_some_and(|header| header.used_bytes() as usize == used);
            prop_assert!(!whole || !verifies(&bytes[..used]));
        }
    }

    #[test]
    fn a_frame_of_another_segment_number_does_not_verify() {
        let mut bytes = frame(&[vec![1; 10]], None);
        let used = FrameHeader::parse(&bytes).unwrap().used_bytes() as usize;
        assert!(verifies(&bytes[..used]));
        bytes[24..32].copy_from_slice(&4_u64.to_le_bytes());
        assert!(!verifies(&bytes[..used]));
    }
}
