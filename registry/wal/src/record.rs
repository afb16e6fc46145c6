//! What frames hold. The payload of a frame is a sequence of length-delimited records, in the order of the queue.

use bytes::Bytes;
use prost::Message;
use prost::encoding::encode_varint;

use crate::options::Identity;

/// An entry of the log: an index and bytes the log does not look into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Position in the log; indexes follow each other without holes.
    pub index: u64,
    /// The encoded entry, with its term and leader.
    pub bytes: Bytes,
}

/// How far the log is purged: entries up to `index` (inclusive) are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purged {
    /// Last purged index.
    pub index: u64,
    /// What the caller wants to remember of it: the encoded log id.
    pub mark: Bytes,
}

/// One change of the log.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Record {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5")]
    pub(crate) kind: Option<Kind>,
}

/// The kinds of changes. A kind unknown to this program stops the node: it was written by a later version.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Kind {
    /// Identity and state at this point: first in every segment, and the first after every start (P/W3, P/W4).
    #[prost(message, tag = "1")]
    Head(HeadRecord),
    #[prost(message, tag = "2")]
    Entry(EntryRecord),
    #[prost(bytes = "bytes", tag = "3")]
    Vote(Bytes),
    #[prost(message, tag = "4")]
    Truncate(TruncateRecord),
    #[prost(message, tag = "5")]
    Purge(PurgeRecord),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct HeadRecord {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) cluster_id: Bytes,
    #[prost(uint64, tag = "2")]
    pub(crate) raft_id: u64,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) disk_id: Bytes,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(crate) vote: Option<Bytes>,
    #[prost(message, optional, tag = "5")]
    pub(crate) purged: Option<PurgeRecord>,
    /// Last index of the log, of the purged part if nothing follows it.
    #[prost(uint64, optional, tag = "6")]
    pub(crate) last: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EntryRecord {
    #[prost(uint64, tag = "1")]
    pub(crate) index: u64,
    /// CRC32C of index and data: a reader takes single entries out of a frame and can't check the whole (P/W4).
    #[prost(fixed32, tag = "2")]
    pub(crate) checksum: u32,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) data: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TruncateRecord {
    /// Last index that stays; absent: none does.
    #[prost(uint64, optional, tag = "1")]
    pub(crate) after: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PurgeRecord {
    #[prost(uint64, tag = "1")]
    pub(crate) index: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) mark: Bytes,
}

/// More than any record adds to the bytes it carries: tags, lengths, index and checksum.
pub(crate) const RECORD_OVERHEAD_BYTES: u64 = 48;

impl Record {
    pub(crate) fn entry(entry: &Entry) -> Record {
        let checksum = entry_checksum(entry.index, &entry.bytes);
        let record = EntryRecord { index: entry.index, checksum, data: entry.bytes.clone() };
        Record { kind: Some(Kind::Entry(record)) }
    }

    pub(crate) fn vote(vote: Bytes) -> Record {
        Record { kind: Some(Kind::Vote(vote)) }
    }

    pub(crate) fn truncate(after: Option<u64>) -> Record {
        Record { kind: Some(Kind::Truncate(TruncateRecord { after })) }
    }

    pub(crate) fn purge(purged: &Purged) -> Record {
        Record { kind: Some(Kind::Purge(purged.into())) }
    }

    pub(crate) fn head(
        identity: &Identity,
        vote: Option<Bytes>,
        purged: Option<&Purged>,
        last: Option<u64>,
    ) -> Record {
        let head = HeadRecord {
            cluster_id: Bytes::copy_from_slice(&identity.cluster_id),
            raft_id: identity.raft_id,
            disk_id: Bytes::copy_from_slice(&identity.disk_id),
            vote,
            purged: purged.map(PurgeRecord::from),
            last,
        };
        Record { kind: Some(Kind::Head(head)) }
    }

    /// Appends length prefix and record; tells where the record itself begins and how long it is.
    pub(crate) fn append_to(&self, buffer: &mut Vec<u8>) -> (usize, usize) {
        let length = self.encoded_len();
        encode_varint(length as u64, buffer);
        let begin = buffer.len();
        self.encode_raw(buffer);
        (begin, length)
    }
}

impl From<&Purged> for PurgeRecord {
    fn from(purged: &Purged) -> PurgeRecord {
        PurgeRecord { index: purged.index, mark: purged.mark.clone() }
    }
}

impl From<PurgeRecord> for Purged {
    fn from(record: PurgeRecord) -> Purged {
        Purged { index: record.index, mark: record.mark }
    }
}

/// A record as found in a payload.
#[derive(Debug)]
pub(crate) struct Found {
    /// Offset of the record within the payload, behind its length prefix.
    pub(crate) offset: u32,
    pub(crate) length: u32,
    pub(crate) kind: Kind,
}

/// Takes a payload apart. The error says what is wrong; as the frame verified, it is a bug or a later version.
pub(crate) fn split(payload: &[u8]) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    let mut rest = payload;
    while !rest.is_empty() {
        let length = prost::decode_length_delimiter(&mut rest).map_err(|error| error.to_string())?;
        let offset = payload.len() - rest.len();
        let record = rest.get(..length).ok_or("a record longer than its frame")?;
        let record = Record::decode(record).map_err(|error| error.to_string())?;
        let kind = record.kind.ok_or("a record of an unknown kind, written by a later version")?;
        found.push(Found { offset: offset as u32, length: length as u32, kind });
        rest = &rest[length..];
    }
    Ok(found)
}

/// Decodes the record of the entry `index`, as read alone. The error says what was found instead.
pub(crate) fn decode_entry(bytes: Bytes, index: u64) -> Result<Entry, String> {
    let record = Record::decode(bytes).map_err(|error| error.to_string())?;
    let Some(Kind::Entry(entry)) = record.kind else {
        return Err(format!("another record where entry {index} should be"));
    };
    if entry.index != index {
        return Err(format!("entry {} where {index} should be", entry.index));
    }
    if entry.checksum != entry_checksum(index, &entry.data) {
        return Err(format!("entry {index} does not have its checksum"));
    }
    Ok(Entry { index, bytes: entry.data })
}

fn entry_checksum(index: u64, data: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&index.to_le_bytes()), data)
}
