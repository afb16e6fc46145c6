//! Segment files and their names.

use std::io;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, read_exact_at};
use crate::error::{Error, Result};

const SEGMENT_PREFIX: &str = "segment-";
const SPARE_PREFIX: &str = "spare-";
const PARTIAL_SUFFIX: &str = ".partial";
/// The file that keeps the reserve allocated.
pub(crate) const RESERVE_NAME: &str = "reserve";

/// A file of the log folder, told by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileName {
    /// Part of the log.
    Segment(u64),
    /// Zeros, or a former segment: ready to become a segment.
    Spare(u64),
    /// A spare that was not filled to the end.
    Partial(u64),
}

impl FileName {
    /// `None` for a name that is not ours; such files are left alone.
    pub(crate) fn parse(name: &str) -> Option<FileName> {
        let parsed = if let Some(number) = name.strip_prefix(SEGMENT_PREFIX) {
            FileName::Segment(number.parse().ok()?)
        } else {
            let rest = name.strip_prefix(SPARE_PREFIX)?;
            match rest.strip_suffix(PARTIAL_SUFFIX) {
                Some(number) => FileName::Partial(number.parse().ok()?),
                None => FileName::Spare(rest.parse().ok()?),
            }
        };
        (parsed.text() == name).then_some(parsed)
    }

    pub(crate) fn text(self) -> String {
        match self {
            FileName::Segment(number) => format!("{SEGMENT_PREFIX}{number:020}"),
            FileName::Spare(number) => format!("{SPARE_PREFIX}{number:020}"),
            FileName::Partial(number) => format!("{SPARE_PREFIX}{number:020}{PARTIAL_SUFFIX}"),
        }
    }
}

/// A segment of the log. Readers hold a reference; the file is recycled only when nobody else does (P/W4).
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) size: u64,
    pub(crate) file: Box<dyn DiskFile>,
    disk: Arc<dyn Disk>,
}

impl Segment {
    pub(crate) fn new(disk: Arc<dyn Disk>, number: u64, size: u64, file: Box<dyn DiskFile>) -> Segment {
        Segment { number, size, file, disk }
    }

    pub(crate) fn open(disk: &Arc<dyn Disk>, number: u64) -> Result<Segment> {
        let name = FileName::Segment(number).text();
        let opened = disk.open(&name).and_then(|file| Ok((file.size()?, file)));
        let (size, file) = opened.map_err(|source| Error::io("open", disk.describe(&name), source))?;
        Ok(Segment { number, size, file, disk: Arc::clone(disk) })
    }

    pub(crate) fn name(&self) -> String {
        FileName::Segment(self.number).text()
    }

    /// Full name, for messages.
    pub(crate) fn path(&self) -> String {
        self.disk.describe(&self.name())
    }

    pub(crate) fn error(&self, action: &'static str, source: io::Error) -> Error {
        Error::io(action, self.path(), source)
    }

    pub(crate) fn corrupt(&self, offset: u64, reason: impl Into<String>) -> Error {
        Error::Corrupt { file: self.path(), offset, reason: reason.into() }
    }

    /// Reads exactly `length` bytes from `offset`.
    pub(crate) fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut buffer = vec![0; length];
        read_exact_at(&*self.file, &mut buffer, offset).map_err(|source| self.error("read", source))?;
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_foreign_ones_ignored() {
        for name in [FileName::Segment(1), FileName::Spare(u64::MAX), FileName::Partial(7)] {
            assert_eq!(FileName::parse(&name.text()), Some(name));
        }
        for name in ["reserve", "segment-1", "segment-", "spare-x", "spare-.partial", "lost+found"] {
            assert_eq!(FileName::parse(name), None, "{name}");
        }
    }
}
