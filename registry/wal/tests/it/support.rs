//! A log on a simulated disk, driven by hand.

use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use registry_wal::sim_disk::SimDisk;
use registry_wal::{
    Callback, Entry, Error, Identity, NoObserver, Options, Purged, Recovered, Wal, Writer, open,
};

pub(crate) const IDENTITY: Identity = Identity { cluster_id: [1; 16], raft_id: 7, disk_id: [2; 16] };
pub(crate) const LOG: [u8; 16] = [9; 16];
pub(crate) const PAGE: usize = 4096;

/// A log and the one that writes it.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) disk: SimDisk,
    pub(crate) wal: Wal,
    pub(crate) writer: Writer,
    pub(crate) recovered: Recovered,
}

impl Log {
    pub(crate) fn open(disk: &SimDisk) -> Result<Log, Error> {
        Log::open_with(disk, Options::small())
    }

    pub(crate) fn open_with(disk: &SimDisk, options: Options) -> Result<Log, Error> {
        let opened = open(Arc::new(disk.clone()), options, IDENTITY, Some(LOG), Arc::new(NoObserver))?;
        Ok(Log { disk: disk.clone(), wal: opened.wal, writer: opened.writer, recovered: opened.recovered })
    }

    /// Ends the process and starts it again.
    pub(crate) fn reopen(self) -> Log {
        self.disk.kill();
        Log::open(&self.disk).unwrap()
    }

    /// Writes everything queued.
    pub(crate) fn drive(&mut self) -> Result<(), Error> {
        while let Some(batch) = self.writer.take_batch() {
            self.writer.run_once(batch)?;
        }
        Ok(())
    }

    /// Does all background work.
    pub(crate) fn settle(&mut self) {
        while self.writer.step().unwrap() {}
    }

    /// Appends one entry and makes it durable.
    pub(crate) fn write(&mut self, index: u64, bytes: &[u8]) {
        let outcome = Outcome::new();
        self.wal.append(vec![entry(index, bytes)], outcome.callback()).unwrap();
        self.drive().unwrap();
        assert!(outcome.is_ok(), "entry {index} is acknowledged");
    }

    /// Queues entries `from..to`, whose content tells their index.
    pub(crate) fn queue(&self, from: u64, to: u64) -> Outcome {
        let outcome = Outcome::new();
        self.wal.append((from..to).map(numbered).collect(), outcome.callback()).unwrap();
        outcome
    }

    pub(crate) fn all(&self) -> Vec<Entry> {
        self.wal.read(0..u64::MAX, u64::MAX).unwrap()
    }

    pub(crate) fn indexes(&self) -> Vec<u64> {
        self.all().iter().map(|entry| entry.index).collect()
    }
}

pub(crate) fn entry(index: u64, bytes: &[u8]) -> Entry {
    Entry { index, bytes: Bytes::copy_from_slice(bytes) }
}

pub(crate) fn numbered(index: u64) -> Entry {
    entry(index, format!("entry {index}").as_bytes())
}

pub(crate) fn purged(index: u64) -> Purged {
    Purged { index, mark: Bytes::from(format!("mark {index}")) }
}

/// What a callback was told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome(Arc<Mutex<Option<Result<(), io::ErrorKind>>>>);

impl Outcome {
    pub(crate) fn new() -> Outcome {
        Outcome::default()
    }

    pub(crate) fn callback(&self) -> Callback {
        let outcome = Arc::clone(&self.0);
        Box::new(move |result| *outcome.lock().unwrap() = Some(result.map_err(|error| error.kind())))
    }

    pub(crate) fn get(&self) -> Option<Result<(), io::ErrorKind>> {
        *self.0.lock().unwrap()
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.get() == Some(Ok(()))
    }
}

/// Names of the segment files, oldest first.
pub(crate) fn segments(disk: &SimDisk) -> Vec<String> {
    let mut names = names(disk);
    names.retain(|name| name.starts_with("segment-"));
    names
}

pub(crate) fn names(disk: &SimDisk) -> Vec<String> {
    use registry_wal::Disk;
    disk.list().unwrap()
}

/// Offset and used bytes of every frame of a segment, found by following the lengths in the headers.
pub(crate) fn frames(disk: &SimDisk, name: &str) -> Vec<(usize, usize)> {
    let bytes = disk.read_file(name).unwrap();
    let number: u64 = name.strip_prefix("segment-").unwrap().parse().unwrap();
    let mut frames = Vec::new();
    let mut offset = 0;
    while bytes.get(offset..offset + 4) == Some(b"RWAL") {
        let field = |at: usize| u64::from_le_bytes(bytes[offset + at..offset + at + 8].try_into().unwrap());
        if field(24) != number {
            break;
        }
        let used = 72 + (field(64) & 0xffff_ffff) as usize;
        frames.push((offset, used));
        offset += used.next_multiple_of(PAGE);
    }
    frames
}
