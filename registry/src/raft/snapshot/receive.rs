//! A snapshot on its way in.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{SnapshotError, SnapshotFile, read};

/// Marks a transfer that may go on after a break; removed at the next start of the node.
const PART: &str = ".part.tmp";

/// Takes the bytes of one snapshot in order. Its calls block.
#[derive(Debug)]
pub(crate) struct Receiving {
    path: PathBuf,
    cluster_id: String,
    file: File,
    digest: [u8; 32],
    size_bytes: u64,
    stored_bytes: u64,
}

impl Receiving {
    /// Continues a broken transfer of the same content, or begins; others are given up.
    pub(super) fn open(
        directory: &Path,
        cluster_id: &str,
        digest: [u8; 32],
        size_bytes: u64,
    ) -> Result<Self, SnapshotError> {
        let path = directory.join(format!("{}{PART}", blake3::Hash::from_bytes(digest).to_hex()));
        remove_others(directory, &path)?;
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(SnapshotError::io(&path))?;
        let mut stored_bytes = file.seek(SeekFrom::End(0)).map_err(SnapshotError::io(&path))?;
        if stored_bytes > size_bytes {
            file.set_len(0).and_then(|()| file.rewind()).map_err(SnapshotError::io(&path))?;
            stored_bytes = 0;
        }
        Ok(Self { path, cluster_id: cluster_id.to_owned(), file, digest, size_bytes, stored_bytes })
    }

    /// From where the sender should go on.
    pub(crate) fn next_offset(&self) -> u64 {
        self.stored_bytes
    }

    /// True once all bytes are there.
    pub(crate) fn is_whole(&self) -> bool {
        self.stored_bytes == self.size_bytes
    }

    /// Stores the next bytes.
    pub(crate) fn push(&mut self, offset: u64, data: &[u8], crc: u32) -> Result<(), SnapshotError> {
        let damaged = |reason: &str| Err(SnapshotError::damaged(&self.path, reason));
        if offset != self.stored_bytes {
            return damaged("a chunk is not the next one");
        }
        if data.is_empty() || data.len() as u64 > self.size_bytes - self.stored_bytes {
            return damaged("a chunk is empty or goes beyond the end");
        }
        if crc32c::crc32c(data) != crc {
            return damaged("the checksum of a chunk is wrong");
        }
        self.file.write_all(data).map_err(SnapshotError::io(&self.path))?;
        self.stored_bytes += data.len() as u64;
        Ok(())
    }

    /// Syncs the file and checks all of it (P/W6). A file that does not verify is removed.
    pub(crate) fn finish(self) -> Result<SnapshotFile, SnapshotError> {
        let checked = self.check();
        if matches!(checked, Err(SnapshotError::Damaged { .. } | SnapshotError::Newer { .. })) {
            // It cannot get better by going on: the next transfer begins anew.
            fs::remove_file(&self.path).map_err(SnapshotError::io(&self.path))?;
        }
        checked
    }

    fn check(&self) -> Result<SnapshotFile, SnapshotError> {
        if !self.is_whole() {
            return Err(SnapshotError::Io {
                path: self.path.clone(),
                source: io::Error::new(io::ErrorKind::UnexpectedEof, "the transfer broke off"),
            });
        }
        self.file.sync_all().map_err(SnapshotError::io(&self.path))?;
        let file = read(&self.path, &self.cluster_id)?;
        if file.digest != self.digest {
            return Err(SnapshotError::damaged(&self.path, "it is not the snapshot that was announced"));
        }
        Ok(file)
    }
}

fn remove_others(directory: &Path, keep: &Path) -> Result<(), SnapshotError> {
    for entry in fs::read_dir(directory).map_err(SnapshotError::io(directory))? {
        let path = entry.map_err(SnapshotError::io(directory))?.path();
        if path != keep && path.to_string_lossy().ends_with(PART) {
            fs::remove_file(&path).map_err(SnapshotError::io(&path))?;
        }
    }
    Ok(())
}
