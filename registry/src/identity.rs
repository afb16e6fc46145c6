//! Who this node is: its data folder, the lock on it, and the identity kept there.
//!
//! A folder has a disk id from its first use. Founding or admission adds the cluster and the Raft id; `joined` says that the node may have voted or acknowledged entries, so that a folder whose log is
//! gone can never pass for a fresh one (P/N1). The file is replaced as a whole: written beside, synced,
//! renamed, and the folder synced, so that a crash leaves the old one or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::environment::Random;

mod aside;
#[cfg(test)]
mod identity_test;

/// Format of `identity.json` that this program writes and reads (P/O3).
const FORMAT: u32 = 1;
const IDENTITY_FILE: &str = "identity.json";
const TEMPORARY_FILE: &str = "identity.json.tmp";
const LOCK_FILE: &str = "lock";
/// A file larger than this was not written by us.
const MAX_IDENTITY_BYTES: u64 = 64 << 10;

/// The content of `identity.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    format: u32,
    /// Configured name of the node that the folder belongs to.
    pub node_id: String,
    /// Random UUID of the folder.
    pub disk_id: String,
    /// The place in a cluster, once one was offered and accepted.
    pub member: Option<MemberId>,
    /// True before the first vote or entry is answered: from then on the log must not be empty.
    pub joined: bool,
    /// True if the place was given by a leader that admitted the node, not at the founding: such a node
    /// never founds a cluster.
    #[serde(default, skip_serializing_if = "is_false")]
    pub admitted: bool,
    /// Index of the entry that removed the member, once the node has heard of it: final (P/N5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<u64>,
}

impl Identity {
    /// That of a folder used for the first time.
    fn fresh(node_id: &str, random: &dyn Random) -> Self {
        Self {
            format: FORMAT,
            node_id: node_id.to_owned(),
            disk_id: random.uuid(),
            member: None,
            joined: false,
            admitted: false,
            removed_at: None,
        }
    }
}

/// A place in a cluster. Raft ids are never used again, so it names one disk for ever (P/N2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberId {
    /// UUID of the cluster.
    pub cluster_id: String,
    /// Raft id, never 0.
    pub raft_id: u64,
}

/// Why a data folder cannot be used. Each message is one line that names it and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Another process holds the lock.
    #[error(
        "the data folder {path} is in use by another process{holder}: stop that one, or give this node another --data-dir"
    )]
    Locked {
        /// The folder.
        path: String,
        /// ` (pid N)` if known.
        holder: String,
    },
    /// The folder was made by a node of another name.
    #[error(
        "the data folder {path} belongs to {found}, not to {expected}: give the folder of {expected} with --data-dir, or start this node with --node {found}"
    )]
    OtherNode {
        /// The folder.
        path: String,
        /// The name that it has.
        found: String,
        /// The name of this node.
        expected: String,
    },
    /// `identity.json` is damaged or from a newer program.
    #[error(
        "{path} cannot be read: {reason}. Restore it from a copy, or, if this node's data may be lost, move the folder away and let the cluster admit the node anew"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A place in another cluster, or another place in this one, is taken already.
    #[error("the data folder {path} is already member {raft_id} of cluster {cluster_id}")]
    Taken {
        /// The folder.
        path: String,
        /// The cluster it belongs to.
        cluster_id: String,
        /// Its Raft id there.
        raft_id: u64,
    },
    /// The folder has been handed on: this node starts anew.
    #[error("this node is starting anew; try again")]
    HandedOn,
    /// Reading or writing failed.
    #[error(
        "the data folder cannot be used: {action} {path}: {source}. Check owner, permissions and free space"
    )]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The lock on a data folder: one process uses it. A clone is the same lock; the system releases it when
/// the last one is gone.
#[derive(Debug, Clone)]
pub struct FolderLock {
    _file: Arc<File>,
}

impl FolderLock {
    /// Creates the folder if it is not there, and locks it.
    ///
    /// # Errors
    /// [`IdentityError::Locked`] if another process has it; [`IdentityError::Io`].
    pub fn take(path: &Path) -> Result<Self, IdentityError> {
        fs::create_dir_all(path).map_err(|source| io_error("creating", path, source))?;
        Ok(Self { _file: Arc::new(lock(path)?) })
    }
}

/// The locked data folder of this process.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    identity: Identity,
    /// Held for as long as the folder is in use.
    _lock: FolderLock,
}

impl DataFolder {
    /// Opens the folder of the node `node_id`, locked before. A new one gets a disk id.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn open(
        path: &Path,
        lock: FolderLock,
        node_id: &str,
        random: &dyn Random,
    ) -> Result<Self, IdentityError> {
        let fresh = || Identity::fresh(node_id, random);
        let found = read(&path.join(IDENTITY_FILE))?;
        let is_new = found.is_none();
        let folder = Self { path: path.to_owned(), identity: found.unwrap_or_else(fresh), _lock: lock };
        if folder.identity.node_id != node_id {
            return Err(IdentityError::OtherNode {
                path: path.display().to_string(),
                found: folder.identity.node_id,
                expected: node_id.to_owned(),
            });
        }
        if is_new {
            folder.write(&folder.identity)?;
            // The folder itself may be new: its name must survive too.
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                sync_folder(parent)?;
            }
        }
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is durable now.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Stores a place offered by the founder of a cluster; durable when it returns. Another place may be
    /// stored until [`join`](Self::join): nothing has been voted or acknowledged under it (P/N3).
    ///
    /// # Errors
    /// [`IdentityError::Taken`] if the node has joined under another place, or was admitted to one.
    pub fn prepare(&mut self, member: MemberId) -> Result<(), IdentityError> {
        if self.identity.member.as_ref() == Some(&member) {
            return Ok(());
        }
        self.check_free(self.identity.joined || self.identity.admitted)?;
        self.replace(Identity { member: Some(member), ..self.identity.clone() })
    }

    /// Stores a place given by a leader; durable when it returns (P/N4 R2).
    ///
    /// # Errors
    /// [`IdentityError::Taken`] if there is another one, unless that was only offered by a founder.
    pub fn adopt(&mut self, member: MemberId) -> Result<(), IdentityError> {
        if self.identity.member.as_ref() == Some(&member) {
            return Ok(());
        }
        self.check_free(self.identity.joined || self.identity.admitted)?;
        self.replace(Identity { member: Some(member), admitted: true, ..self.identity.clone() })
    }

    fn check_free(&self, is_bound: bool) -> Result<(), IdentityError> {
        match &self.identity.member {
            Some(own) if is_bound => Err(IdentityError::Taken {
                path: self.path.display().to_string(),
                cluster_id: own.cluster_id.clone(),
                raft_id: own.raft_id,
            }),
            _ => Ok(()),
        }
    }

    /// Stores that the member was removed by the entry at `index`; durable when it returns. The first
    /// index stands.
    ///
    /// # Errors
    /// [`IdentityError::Io`].
    pub fn remove(&mut self, index: u64) -> Result<(), IdentityError> {
        if self.identity.removed_at.is_some() {
            return Ok(());
        }
        self.replace(Identity { removed_at: Some(index), ..self.identity.clone() })
    }

    /// Stores that the node takes part from now on; durable when it returns.
    ///
    /// # Errors
    /// [`IdentityError::Io`].
    pub fn join(&mut self) -> Result<(), IdentityError> {
        if self.identity.joined {
            return Ok(());
        }
        self.replace(Identity { joined: true, ..self.identity.clone() })
    }

    fn replace(&mut self, identity: Identity) -> Result<(), IdentityError> {
        self.write(&identity)?;
        self.identity = identity;
        Ok(())
    }

    fn write(&self, identity: &Identity) -> Result<(), IdentityError> {
        let temporary = self.path.join(TEMPORARY_FILE);
        let written = || -> io::Result<()> {
            let mut text = serde_json::to_vec_pretty(identity)?;
            text.push(b'\n');
            let mut file = File::create(&temporary)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&temporary, self.path.join(IDENTITY_FILE))
        };
        written().map_err(|source| io_error("writing", &temporary, source))?;
        sync_folder(&self.path)
    }
}

/// Whether a process has locked this data folder. One that was killed keeps the lock for a moment after it
/// seems to be gone: its memory is freed before its files are closed.
pub(crate) fn is_in_use(folder: &Path) -> bool {
    let Ok(file) = File::open(folder.join(LOCK_FILE)) else { return false };
    flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK)
}

fn lock(folder: &Path) -> Result<File, IdentityError> {
    let path = folder.join(LOCK_FILE);
    let failed = |source| IdentityError::Io { action: "opening", path: path.display().to_string(), source };
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // The pid is only a help for people.
            let _ = file.take(20).read_to_string(&mut text);
            let holder = text.trim().parse::<u32>().map_or(String::new(), |pid| format!(" (pid {pid})"));
            return Err(IdentityError::Locked { path: folder.display().to_string(), holder });
        }
        Err(error) => return Err(failed(error.into())),
    }
    file.set_len(0).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

fn read(path: &Path) -> Result<Option<Identity>, IdentityError> {
    let unreadable = |reason: String| IdentityError::Unreadable { path: path.display().to_string(), reason };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    let mut text = String::new();
    file.take(MAX_IDENTITY_BYTES).read_to_string(&mut text).map_err(|error| unreadable(error.to_string()))?;
    let identity: Identity = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    if identity.format != FORMAT {
        return Err(unreadable(format!(
            "its format is {}, this program knows {FORMAT}; start a newer program",
            identity.format
        )));
    }
    let is_complete = !identity.disk_id.is_empty()
        && identity.member.as_ref().is_none_or(|own| own.raft_id != 0 && !own.cluster_id.is_empty())
        && (identity.member.is_some()
            || !(identity.joined || identity.admitted || identity.removed_at.is_some()));
    if is_complete { Ok(Some(identity)) } else { Err(unreadable("it contradicts itself".to_owned())) }
}

fn sync_folder(path: &Path) -> Result<(), IdentityError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|source| io_error("syncing", path, source))
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> IdentityError {
    IdentityError::Io { action, path: path.display().to_string(), source }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}
