//! The folder of snapshots: one current file, sometimes a newer one being made.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::types::LogId;
use super::{Frozen, Receiving, SnapshotError, SnapshotFile, read, write};

const SUFFIX: &str = ".snap";
const TEMPORARY: &str = ".tmp";

/// The snapshots of this node. A clone shares them. Its calls block: they belong on a blocking thread.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    cluster_id: String,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    current: Option<SnapshotFile>,
    /// Written, but Raft does not know it yet.
    prepared: Option<SnapshotFile>,
}

impl SnapshotStore {
    /// Opens the folder and checks the newest snapshot in it whole. Unfinished files are removed.
    pub(crate) fn open(directory: &Path, cluster_id: &str) -> Result<Self, SnapshotError> {
        fs::create_dir_all(directory).map_err(SnapshotError::io(directory))?;
        let mut names = Vec::new();
        for entry in fs::read_dir(directory).map_err(SnapshotError::io(directory))? {
            let path = entry.map_err(SnapshotError::io(directory))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(TEMPORARY) {
                fs::remove_file(&path).map_err(SnapshotError::io(&path))?;
            } else if let Some(key) = parse_name(&name) {
                names.push((key, path));
            }
        }
        names.sort();
        let current = names.pop().map(|(_, path)| read(&path, cluster_id)).transpose()?;
        let slots = Mutex::new(Slots { current, prepared: None });
        Ok(Self {
            shared: Arc::new(Shared {
                directory: directory.to_owned(),
                cluster_id: cluster_id.to_owned(),
                slots,
            }),
        })
    }

    /// The cluster whose snapshots these are.
    pub(crate) fn cluster_id(&self) -> &str {
        &self.shared.cluster_id
    }

    /// The newest snapshot, without its decoded content unless it was not taken yet.
    pub(crate) fn current(&self) -> Option<SnapshotFile> {
        let mut slots = self.slots();
        let current = slots.current.as_mut()?;
        let handle = current.clone();
        // Handed out once, at the restore after a restart: nobody else needs it, and it is the whole state.
        current.decoded = None;
        Some(handle)
    }

    /// Size of the newest snapshot in bytes; 0 if there is none.
    pub(crate) fn current_bytes(&self) -> u64 {
        self.slots().current.as_ref().map_or(0, |current| current.size_bytes)
    }

    /// Index of the last entry in the newest snapshot.
    pub(crate) fn current_index(&self) -> Option<u64> {
        self.slots().current.as_ref()?.meta.last_log_id.map(|id| id.index)
    }

    /// Writes the state to a file that is durable under its final name, and keeps it until
    /// [`take_prepared`](Self::take_prepared).
    pub(crate) fn prepare(&self, frozen: &Frozen) -> Result<(), SnapshotError> {
        let file = self.write_durably(frozen)?;
        self.slots().prepared = Some(file);
        Ok(())
    }

    /// The snapshot prepared; it is the current one from now on.
    pub(crate) fn take_prepared(&self) -> Option<SnapshotFile> {
        let prepared = self.slots().prepared.take()?;
        self.advance(prepared.clone());
        Some(prepared)
    }

    /// Writes the state; it is the current snapshot afterwards.
    pub(crate) fn write(&self, frozen: &Frozen) -> Result<SnapshotFile, SnapshotError> {
        let file = self.write_durably(frozen)?;
        self.advance(file.clone());
        Ok(file)
    }

    fn write_durably(&self, frozen: &Frozen) -> Result<SnapshotFile, SnapshotError> {
        let temporary = self.shared.directory.join(format!("build{TEMPORARY}"));
        let file = write(&temporary, &self.shared.cluster_id, frozen)
            .inspect_err(|_| drop(fs::remove_file(&temporary)))?;
        self.place(file)
    }

    /// Gives a checked file that a transfer has brought its final name; it is the current one afterwards.
    pub(crate) fn adopt(&self, received: SnapshotFile) -> Result<SnapshotFile, SnapshotError> {
        let file = self.place(received)?;
        self.advance(file.clone());
        Ok(file)
    }

    /// Begins or continues to receive the snapshot of this digest.
    pub(crate) fn receive(&self, digest: [u8; 32], size_bytes: u64) -> Result<Receiving, SnapshotError> {
        Receiving::open(&self.shared.directory, &self.shared.cluster_id, digest, size_bytes)
    }

    /// Removes all snapshots but the newest: those are needed no more once the log no longer counts on them.
    pub(crate) fn remove_older(&self) -> Result<(), SnapshotError> {
        let directory = &self.shared.directory;
        let Some(current) = self.slots().current.as_ref().map(|file| file_key(file.meta.last_log_id)) else {
            return Ok(());
        };
        for entry in fs::read_dir(directory).map_err(SnapshotError::io(directory))? {
            let path = entry.map_err(SnapshotError::io(directory))?.path();
            let key = path.file_name().and_then(|name| parse_name(&name.to_string_lossy()));
            if key.is_some_and(|key| key < current) {
                fs::remove_file(&path).map_err(SnapshotError::io(&path))?;
            }
        }
        Ok(())
    }

    /// Renames the synced file to its final name and syncs the folder.
    fn place(&self, mut file: SnapshotFile) -> Result<SnapshotFile, SnapshotError> {
        let place = self.shared.directory.join(file_name(file.meta.last_log_id));
        if place != file.path {
            fs::rename(&file.path, &place).map_err(SnapshotError::io(&place))?;
            sync_directory(&self.shared.directory).map_err(SnapshotError::io(&self.shared.directory))?;
            file.path = place;
        }
        Ok(file)
    }

    fn advance(&self, mut file: SnapshotFile) {
        file.decoded = None;
        let mut slots = self.slots();
        let newer = slots
            .current
            .as_ref()
            .is_none_or(|current| file_key(current.meta.last_log_id) <= file_key(file.meta.last_log_id));
        if newer {
            slots.current = Some(file);
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.shared.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Orders snapshots by what they include. The index decides: committed entries have one content each.
type Key = (u64, u64, u64);

fn file_key(last: Option<LogId>) -> Key {
    last.map_or((0, 0, 0), |id| (id.index + 1, id.leader_id.term, id.leader_id.node_id))
}

fn file_name(last: Option<LogId>) -> String {
    let (next, term, node) = file_key(last);
    format!("{next:020}-{term}-{node}{SUFFIX}")
}

fn parse_name(name: &str) -> Option<Key> {
    let mut parts = name.strip_suffix(SUFFIX)?.splitn(3, '-').map(str::parse);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Ok(next)), Some(Ok(term)), Some(Ok(node))) => Some((next, term, node)),
        _ => None,
    }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
