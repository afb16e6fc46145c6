//! A disk in memory, for tests and simulations: it loses, keeps or tears what was not synced when it crashes, and
//! fails on demand.
//!
//! Written pages are durable after [`DiskFile::sync_data`] of their file, names after [`Disk::sync_directory`]. At a
//! [crash](SimDisk::crash) every page written since has a fate of its own; of the changes of names a beginning
//! survives, as a journal keeps them in order.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::contents::Contents;
use self::file::SimFile;
use crate::disk::{Disk, DiskFile};

mod contents;
mod file;

/// Pages have this many bytes; a page that is torn has the first bytes new and the others old.
pub const PAGE_BYTES: usize = 4096;

/// What happens to an unsynced page in a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The page is as it was at the last sync.
    Lost,
    /// The page reached the disk.
    Kept,
    /// So many bytes from its beginning reached the disk.
    Torn(usize),
}

/// An operation that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SimOperation {
    /// [`Disk::create`].
    Create,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::sync_directory`].
    SyncDirectory,
    /// [`DiskFile::read_at`].
    Read,
    /// [`DiskFile::write_at`].
    Write,
    /// [`DiskFile::sync_data`].
    Sync,
    /// [`DiskFile::allocate`].
    Allocate,
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It answers this error and has no effect.
    Error(io::ErrorKind),
    /// A write or read handles only so many bytes.
    Short(usize),
}

/// A disk in memory. A clone is another handle of the same disk; [`SimDisk::fork`] makes an independent one.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Default)]
struct State {
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    changes: Vec<Change>,
    files: BTreeMap<u64, Contents>,
    next_file: u64,
    capacity: Option<u64>,
    /// Faults to come, with the number of operations of that kind that still succeed.
    faults: Vec<(SimOperation, u64, Fault)>,
    /// Counts crashes: files opened before one are dead.
    life: u64,
    syncs: u64,
}

#[derive(Debug, Clone)]
enum Change {
    Set(String, u64),
    Remove(String),
}

impl SimDisk {
    /// An empty disk without limit.
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    /// An independent copy in the same condition, unsynced pages included.
    pub fn fork(&self) -> SimDisk {
        SimDisk { state: Arc::new(Mutex::new(self.lock().clone())) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Limits the sum of all file sizes; beyond it writes and allocations find the disk full.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Makes one operation fail: the first after `after` others of its kind.
    pub fn fail(&self, operation: SimOperation, after: u64, fault: Fault) {
        self.lock().faults.push((operation, after, fault));
    }

    /// Syncs of files that succeeded so far.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Sum of all file sizes.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// The pages written since the last sync of their file.
    pub fn unsynced_pages(&self) -> Vec<(String, u64)> {
        let state = self.lock();
        let pages = |(name, id): (&String, &u64)| {
            let dirty = state.files.get(id).map(|file| file.dirty.clone()).unwrap_or_default();
            dirty.into_iter().map(|page| (name.clone(), page)).collect::<Vec<_>>()
        };
        state.names.iter().flat_map(pages).collect()
    }

    /// Power loss. `fate` decides about every unsynced page (file name, page number), `names_kept` how many of the
    /// unsynced changes of names survive. Files opened before answer errors from now on.
    pub fn crash(&self, names_kept: impl FnOnce(usize) -> usize, mut fate: impl FnMut(&str, u64) -> Fate) {
        let mut state = self.lock();
        let names = state.names.iter().map(|(name, id)| (*id, name.clone())).collect::<BTreeMap<_, _>>();
        for (id, file) in &mut state.files {
            let name = names.get(id).map_or("", String::as_str);
            file.crash(|page| fate(name, page));
        }
        let kept = names_kept(state.changes.len());
        let changes = std::mem::take(&mut state.changes);
        for change in changes.into_iter().take(kept) {
            change.apply(&mut state.durable_names);
        }
        state.names = state.durable_names.clone();
        state.restart();
    }

    /// Power loss where a generator with this seed decides.
    pub fn crash_seeded(&self, seed: u64) {
        let mut random = seed;
        let mut below = |limit: u64| {
            random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            // SplitMix64 (Steele, Lea, Flood 2014).
            let mut mixed = random;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)) % limit
        };
        let names = below(4);
        self.crash(
            |changes| if names == 0 { 0 } else { changes },
            |_, _| match below(8) {
                0..3 => Fate::Lost,
                3..6 => Fate::Kept,
                _ => Fate::Torn(below(PAGE_BYTES as u64) as usize),
            },
        );
    }

    /// End of the process alone: the page cache stays, files opened before answer errors from now on.
    pub fn kill(&self) {
        self.lock().restart();
    }

    /// Flips bits of a byte, on the disk and in the cache.
    pub fn corrupt(&self, name: &str, offset: usize, flip: u8) {
        let mut state = self.lock();
        if let Some(id) = state.names.get(name).copied()
            && let Some(file) = state.files.get_mut(&id)
        {
            for bytes in [&mut file.now, &mut file.durable] {
                if let Some(byte) = Arc::make_mut(bytes).get_mut(offset) {
                    *byte ^= flip;
                }
            }
        }
    }

    /// Content of a file as a program reads it.
    pub fn read_file(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        state.files.get(state.names.get(name)?).map(|file| file.now.to_vec())
    }

    /// Replaces or makes a file, durably.
    pub fn write_file(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.lock();
        let id = state.new_file();
        let bytes = Arc::new(bytes);
        state.files.insert(id, Contents { now: Arc::clone(&bytes), durable: bytes, dirty: BTreeSet::new() });
        state.names.insert(name.to_owned(), id);
        state.durable_names.insert(name.to_owned(), id);
    }
}

impl State {
    fn used_bytes(&self) -> u64 {
        self.names.values().filter_map(|id| self.files.get(id)).map(|file| file.now.len() as u64).sum()
    }

    fn new_file(&mut self) -> u64 {
        self.next_file += 1;
        self.files.insert(self.next_file, Contents::default());
        self.next_file
    }

    fn change(&mut self, change: Change) {
        change.clone().apply(&mut self.names);
        self.changes.push(change);
    }

    fn restart(&mut self) {
        self.life += 1;
        self.faults.clear();
        let used = self.names.values().chain(self.durable_names.values()).copied().collect::<BTreeSet<_>>();
        self.files.retain(|id, _| used.contains(id));
    }

    /// The fault for this operation, if it is its turn.
    fn fault(&mut self, operation: SimOperation) -> Option<Fault> {
        let mut due = None;
        for (position, (of, after, fault)) in self.faults.iter_mut().enumerate() {
            if *of == operation {
                match after.checked_sub(1) {
                    Some(less) => *after = less,
                    None => due = due.or(Some((position, *fault))),
                }
            }
        }
        let (position, fault) = due?;
        self.faults.remove(position);
        Some(fault)
    }

    fn check(&mut self, operation: SimOperation) -> io::Result<()> {
        match self.fault(operation) {
            Some(Fault::Error(kind)) => Err(kind.into()),
            Some(Fault::Short(_)) | None => Ok(()),
        }
    }

    fn check_room(&self, more: u64) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if more > 0 && self.used_bytes() + more > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }
}

impl Change {
    fn apply(self, names: &mut BTreeMap<String, u64>) {
        match self {
            Change::Set(name, id) => {
                // A rename is two changes; the file has one name at a time.
                names.retain(|_, other| *other != id);
                names.insert(name, id);
            }
            Change::Remove(name) => drop(names.remove(&name)),
        }
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.lock();
        state.check(SimOperation::Create)?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = state.new_file();
        state.change(Change::Set(name.to_owned(), id));
        Ok(Box::new(SimFile { disk: self.clone(), id, life: state.life }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let state = self.lock();
        let id = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(SimFile { disk: self.clone(), id, life: state.life }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.check(SimOperation::Rename)?;
        let id = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.change(Change::Set(to.to_owned(), id));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change(Change::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.check(SimOperation::SyncDirectory)?;
        state.durable_names = state.names.clone();
        state.changes.clear();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.lock();
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used_bytes())))
    }

    fn describe(&self, name: &str) -> String {
        format!("sim:/{name}")
    }
}
