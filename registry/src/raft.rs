//! Agreement: the only module that names openraft.
//!
//! [`build`] recovers log and state of a node, [`Built::run`] starts it, and [`Consensus`] is what the
//! rest of the node sees: propose, confirm a read, read the published state, hand leadership over.

mod codec;
mod consensus;
mod contact;
mod ending;
mod error;
mod log_store;
mod membership;
mod network;
mod observe;
mod options;
mod proposals;
mod published;
mod room;
mod runtime;
mod serve;
mod snapshot;
mod snapshot_now;
mod snapshotting;
mod start;
mod state_machine;
mod status;
mod successor;
mod types;

#[cfg(test)]
mod storage_test;

pub use consensus::{Consensus, Outcome, ReadIndex};
pub use error::{ChangeError, InitializeError, ProposeError, ReadIndexError, StartError, TransferError};
pub use options::{RaftIdentity, RaftOptions, Timings};
pub use published::{Elapsed, HashMark, Observer, Published};
pub use room::Room;
pub use runtime::seed_raft;
pub use snapshot_now::SnapshotMade;
pub use start::{Built, LogDisk, Surroundings, build};
pub use status::{Failure, Follower, Leadership, LogPosition, Member, Membership, RaftStatus, Role, Vote};

/// What Raft keeps in a data folder; the log first.
pub const DATA_FOLDERS: [&str; 2] = ["log", "snapshots"];

/// Whether a data folder holds a log or a snapshot: then its node was, or is about to be, a member (P/N3).
///
/// # Errors
/// When the folder cannot be read.
pub fn has_data(directory: &std::path::Path) -> std::io::Result<bool> {
    for name in DATA_FOLDERS {
        match std::fs::read_dir(directory.join(name)) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Ok(true);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}
