//! What can go wrong, told so that the reader knows which file and what to do.

use std::io;
use std::sync::Arc;

/// Result of a call to the log.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the log. Cloneable, because a failure is final: every later call answers it again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The operating system refused. After a failed write or sync the log is closed for good: what the disk holds is
    /// then unknown, and a repeated fsync would lie (P/W5).
    #[error("cannot {action} {file}: {source}")]
    Io {
        /// What was tried: `write`, `sync`, `rename` and so on.
        action: &'static str,
        /// Full name of the file or folder.
        file: String,
        /// The error of the operating system.
        source: Arc<io::Error>,
    },
    /// Something that was durable is damaged: a frame that does not verify is followed by frames written after it
    /// was synced (P/W3). The node must not take part in consensus with this log.
    #[error(
        "log file {file} is damaged at offset {offset}: {reason}; replace this member's disk, do not edit the log"
    )]
    Corrupt {
        /// Full name of the damaged file.
        file: String,
        /// Offset of the first bad byte range, in bytes.
        offset: u64,
        /// What was expected there.
        reason: String,
    },
    /// The folder holds no log and none may be created.
    #[error("there is no log in {folder}; this member's disk was lost or another folder was mounted")]
    Missing {
        /// The folder that was searched.
        folder: String,
    },
    /// The log belongs to another cluster, member or data folder (P/W4).
    #[error("log file {file} belongs to {field} {found}, expected {expected}; mount the right disk")]
    Foreign {
        /// Full name of the file.
        file: String,
        /// `cluster id`, `raft id` or `disk id`.
        field: &'static str,
        /// Value in the file.
        found: String,
        /// Value of this node.
        expected: String,
    },
    /// The log was written by another version of the program.
    #[error(
        "log file {file} has format {found}, this program reads format {supported}; start a matching version"
    )]
    Format {
        /// Full name of the file.
        file: String,
        /// Format number in the file.
        found: u32,
        /// Format number of this program.
        supported: u32,
    },
    /// A value does not fit: nothing was queued, the log goes on.
    #[error("{what} of {bytes} bytes is larger than the limit of {limit_bytes} bytes")]
    TooLarge {
        /// `entry`, `vote` or `purge mark`.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The caller broke the order of indexes: nothing was queued, the log goes on.
    #[error("{action} at index {index} is out of order: {reason}")]
    OutOfOrder {
        /// `append`, `truncate` or `purge`.
        action: &'static str,
        /// Index given.
        index: u64,
        /// What would have been right.
        reason: String,
    },
    /// An option is out of its range.
    #[error("log option {name} is {value}: {requirement}")]
    Option {
        /// Name of the option.
        name: &'static str,
        /// Value given.
        value: u64,
        /// What is allowed.
        requirement: &'static str,
    },
    /// The disk is full and spare segments and reserve are used up (P/W5).
    #[error(
        "no room for another segment in {folder}, and the reserve is used up; free space or enlarge the disk"
    )]
    Full {
        /// The log folder.
        folder: String,
    },
    /// [`Wal::close`](crate::Wal::close) was called.
    #[error("the log is closed")]
    Closed,
}

impl Error {
    pub(crate) fn io(action: &'static str, file: String, source: io::Error) -> Error {
        Error::Io { action, file, source: Arc::new(source) }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match &error {
            Error::Io { source, .. } => source.kind(),
            Error::Corrupt { .. } | Error::Foreign { .. } | Error::Format { .. } => {
                io::ErrorKind::InvalidData
            }
            Error::Missing { .. } => io::ErrorKind::NotFound,
            Error::TooLarge { .. } | Error::OutOfOrder { .. } | Error::Option { .. } => {
                io::ErrorKind::InvalidInput
            }
            Error::Full { .. } => io::ErrorKind::StorageFull,
            Error::Closed => io::ErrorKind::BrokenPipe,
        };
        io::Error::new(kind, error)
    }
}
