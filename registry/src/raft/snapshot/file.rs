//! One snapshot file: writing and reading it.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use registry_proto::internal as pb;
use registry_state::{State, StateDecoder};

use super::super::codec;
use super::super::types::{LogId, SnapshotMeta, StoredMembership};
use super::{FORMAT, SnapshotError};

const MAGIC: &[u8; 8] = b"REGSNAP\n";
const DIGEST_BYTES: usize = 32;
/// Longest header: a membership of a few hundred members.
const MAX_HEADER_BYTES: usize = 1 << 20;
/// Records are collected up to this before they are compressed: large enough to compress well.
const FRAME_BYTES: usize = 256 << 10;
/// Longest frame, compressed or not. A record is at most 64 KiB, so that one frame stays far below.
const MAX_FRAME_BYTES: usize = 1 << 20;
/// Fast: a snapshot competes with the log for disk and processor.
const ZSTD_LEVEL: i32 = 1;

/// The state at one position, as the state machine hands it out: O(1) to make, never changes.
#[derive(Debug, Clone)]
pub(crate) struct Frozen {
    pub(crate) state: State,
    pub(crate) last_log_id: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

impl Frozen {
    pub(crate) fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last_log_id, last_membership: self.membership.clone() }
    }
}

/// A whole snapshot file. A clone shares it; it stays readable when its name is gone.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotFile {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<File>,
    pub(crate) meta: SnapshotMeta,
    pub(crate) size_bytes: u64,
    pub(crate) digest: [u8; DIGEST_BYTES],
    /// The content, if it was decoded to check it: what a transfer has brought.
    pub(crate) decoded: Option<State>,
}

/// The start of the file.
#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(string, tag = "2")]
    cluster_id: String,
    #[prost(message, optional, tag = "3")]
    last_log_id: Option<pb::LogId>,
    #[prost(message, optional, tag = "4")]
    membership: Option<pb::Membership>,
    #[prost(message, optional, tag = "5")]
    membership_log_id: Option<pb::LogId>,
}

impl Header {
    fn new(cluster_id: &str, meta: &SnapshotMeta) -> Self {
        Self {
            format: FORMAT,
            cluster_id: cluster_id.to_owned(),
            last_log_id: meta.last_log_id.as_ref().map(codec::log_id_to_proto),
            membership: Some(codec::membership_to_proto(meta.last_membership.membership())),
            membership_log_id: meta.last_membership.log_id().as_ref().map(codec::log_id_to_proto),
        }
    }

    fn meta(self) -> Result<SnapshotMeta, codec::CodecError> {
        let membership = codec::membership_from_proto(self.membership.unwrap_or_default())?;
        let membership_log_id = self.membership_log_id.map(codec::log_id_from_proto);
        Ok(SnapshotMeta {
            last_log_id: self.last_log_id.map(codec::log_id_from_proto),
            last_membership: StoredMembership::new(membership_log_id, membership),
        })
    }
}

/// Writes the state to `path` and syncs the file; the name is not durable yet.
pub(crate) fn write(path: &Path, cluster_id: &str, frozen: &Frozen) -> Result<SnapshotFile, SnapshotError> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
    let file = file.map_err(SnapshotError::io(path))?;
    let meta = frozen.meta();
    let (size_bytes, digest) =
        write_to(&file, cluster_id, &meta, &frozen.state).map_err(SnapshotError::io(path))?;
    Ok(SnapshotFile { path: path.to_owned(), file: Arc::new(file), meta, size_bytes, digest, decoded: None })
}

fn write_to(
    file: &File,
    cluster_id: &str,
    meta: &SnapshotMeta,
    state: &State,
) -> io::Result<(u64, [u8; DIGEST_BYTES])> {
    let mut out = Hashing::new(BufWriter::with_capacity(MAX_FRAME_BYTES, file));
    let header = Header::new(cluster_id, meta).encode_to_vec();
    out.put(MAGIC)?;
    out.put(&length(header.len())?)?;
    out.put(&header)?;
    out.put(&crc32c::crc32c(&header).to_le_bytes())?;
    let mut records = 0_u64;
    let mut frame = Vec::with_capacity(FRAME_BYTES + (64 << 10));
    for record in state.records() {
        frame.extend_from_slice(&length(record.len())?);
        frame.extend_from_slice(&record);
        records += 1;
        if frame.len() >= FRAME_BYTES {
            out.frame(&frame)?;
            frame.clear();
        }
    }
    if !frame.is_empty() {
        out.frame(&frame)?;
    }
    out.put(&0_u32.to_le_bytes())?;
    out.put(&records.to_le_bytes())?;
    let digest = *out.hash.finalize().as_bytes();
    out.put(&digest)?;
    out.inner.flush()?;
    file.sync_all()?;
    Ok((out.bytes, digest))
}

fn length(bytes: usize) -> io::Result<[u8; 4]> {
    u32::try_from(bytes).map(u32::to_le_bytes).map_err(io::Error::other)
}

/// Hashes and counts what passes.
struct Hashing<W> {
    inner: W,
    hash: blake3::Hasher,
    bytes: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hash: blake3::Hasher::new(), bytes: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.inner.write_all(bytes)
    }

    fn frame(&mut self, records: &[u8]) -> io::Result<()> {
        let packed = zstd::bulk::compress(records, ZSTD_LEVEL)?;
        self.put(&length(packed.len())?)?;
        self.put(&crc32c::crc32c(&packed).to_le_bytes())?;
        self.put(&packed)
    }
}

/// Reads and checks the whole file: every checksum, the count, the digest and the cluster.
pub(crate) fn read(path: &Path, cluster_id: &str) -> Result<SnapshotFile, SnapshotError> {
    let file = File::open(path).map_err(SnapshotError::io(path))?;
    let mut reader = Reader {
        path,
        inner: BufReader::with_capacity(MAX_FRAME_BYTES, &file),
        hash: blake3::Hasher::new(),
        bytes: 0,
    };
    let meta = reader.header(cluster_id)?;
    let state = reader.state()?;
    let (size_bytes, digest) = reader.end()?;
    Ok(SnapshotFile {
        path: path.to_owned(),
        file: Arc::new(file),
        meta,
        size_bytes,
        digest,
        decoded: Some(state),
    })
}

struct Reader<'a> {
    path: &'a Path,
    inner: BufReader<&'a File>,
    hash: blake3::Hasher,
    bytes: u64,
}

impl Reader<'_> {
    fn damaged(&self, reason: impl Into<String>) -> SnapshotError {
        SnapshotError::damaged(self.path, format!("{} (before byte {})", reason.into(), self.bytes))
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        self.inner.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("the file ends too early"),
            _ => SnapshotError::Io { path: self.path.to_owned(), source: error },
        })?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn take_u32(&mut self) -> Result<u32, SnapshotError> {
        let mut bytes = [0; 4];
        self.take(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn take_vec(&mut self, length: u32, limit: usize) -> Result<Vec<u8>, SnapshotError> {
        let length = length as usize;
        if length > limit {
            return Err(self.damaged(format!("a part claims {length} bytes, more than {limit}")));
        }
        let mut bytes = vec![0; length];
        self.take(&mut bytes)?;
        Ok(bytes)
    }

    fn header(&mut self, cluster_id: &str) -> Result<SnapshotMeta, SnapshotError> {
        let mut magic = [0; MAGIC.len()];
        self.take(&mut magic)?;
        if &magic != MAGIC {
            return Err(self.damaged("this is not a snapshot"));
        }
        let length = self.take_u32()?;
        let bytes = self.take_vec(length, MAX_HEADER_BYTES)?;
        if self.take_u32()? != crc32c::crc32c(&bytes) {
            return Err(self.damaged("the checksum of the header is wrong"));
        }
        let header = Header::decode(Bytes::from(bytes)).map_err(|error| self.damaged(error.to_string()))?;
        if header.format != FORMAT {
            return Err(SnapshotError::Newer { path: self.path.to_owned(), found: header.format });
        }
        if header.cluster_id != cluster_id {
            let reason = format!("it is of cluster {}, this node is of {cluster_id}", header.cluster_id);
            return Err(self.damaged(reason));
        }
        header.meta().map_err(|error| self.damaged(error.to_string()))
    }

    fn state(&mut self) -> Result<State, SnapshotError> {
        let mut decoder = StateDecoder::new();
        let mut records = 0_u64;
        loop {
            let length = self.take_u32()?;
            if length == 0 {
                break;
            }
            let crc = self.take_u32()?;
            let packed = self.take_vec(length, MAX_FRAME_BYTES)?;
            if crc != crc32c::crc32c(&packed) {
                return Err(self.damaged("the checksum of a frame is wrong"));
            }
            let frame = zstd::bulk::decompress(&packed, MAX_FRAME_BYTES)
                .map_err(|error| self.damaged(format!("a frame does not unpack: {error}")))?;
            let mut rest = frame.as_slice();
            while !rest.is_empty() {
                let record = split_record(&mut rest).ok_or_else(|| self.damaged("a record is cut off"))?;
                decoder.push(record).map_err(|error| self.damaged(error.to_string()))?;
                records += 1;
            }
        }
        let mut count = [0; 8];
        self.take(&mut count)?;
        if u64::from_le_bytes(count) != records {
            return Err(self.damaged(format!("{records} records instead of {}", u64::from_le_bytes(count))));
        }
        decoder.finish().map_err(|error| self.damaged(error.to_string()))
    }

    fn end(mut self) -> Result<(u64, [u8; DIGEST_BYTES]), SnapshotError> {
        let computed = *self.hash.finalize().as_bytes();
        let mut digest = [0; DIGEST_BYTES];
        self.take(&mut digest)?;
        if digest != computed {
            return Err(self.damaged("the digest is wrong"));
        }
        if self.inner.read(&mut [0]).map_err(SnapshotError::io(self.path))? != 0 {
            return Err(self.damaged("something follows the end"));
        }
        Ok((self.bytes, digest))
    }
}

fn split_record<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (record, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = after;
    Some(record)
}
