//! Applies committed entries: state first, then what readers see, then observers, then replies.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use futures::{Stream, TryStreamExt};
use openraft::storage::EntryResponder;
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, storage::RaftStateMachine};
use registry_state::{Applied, Command, LeaseChange, RevisionEvents, State};

use super::codec;
use super::log_store::Barrier;
use super::published::{Board, HashMark, Observer, Published};
use super::snapshot::{Frozen, SnapshotFile, SnapshotStore, read};
use super::status::Failure;
use super::types::{CommandBytes, EntryReply, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};

type ApplyResponder = openraft::storage::ApplyResponder<TypeConfig>;

/// Entries applied before readers see them. Bounds how stale a reader gets in a long catch-up, while a
/// burst still costs one publication.
const PUBLISH_EVERY: usize = 1024;

/// Entries between two hashes of the state that nodes compare (P/O4).
const HASH_EVERY: u64 = 1024;
/// Marks kept: at full load those of some seconds, longer than a probe takes.
const MAX_MARKS: usize = 16;

/// What the state machine shares with the rest of the node.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) board: Arc<Board>,
    pub(crate) observers: Arc<[Arc<dyn Observer>]>,
    pub(crate) snapshots: SnapshotStore,
    /// Why it cannot go on, told more precisely than an I/O error can.
    pub(crate) failure: Arc<OnceLock<Failure>>,
    /// Payload applied since the start of the process, in bytes.
    pub(crate) applied_bytes: Arc<AtomicU64>,
}

/// The state and where it stands in the log.
pub(crate) struct StateMachine {
    state: State,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    hash_marks: Arc<[HashMark]>,
    shared: Shared,
    barrier: Barrier,
}

/// What a batch has done so far and readers do not see yet.
#[derive(Default)]
struct Batch {
    events: Vec<Arc<RevisionEvents>>,
    leases: Vec<LeaseChange>,
    replies: Vec<(ApplyResponder, EntryReply)>,
    entries: usize,
}

impl StateMachine {
    pub(crate) fn new(shared: Shared, barrier: Barrier) -> Self {
        let membership = StoredMembership::default();
        Self {
            state: State::default(),
            last_applied: None,
            membership,
            hash_marks: Arc::default(),
            shared,
            barrier,
        }
    }

    /// The state as it is now, in constant time.
    pub(crate) fn freeze(&self) -> Frozen {
        Frozen {
            state: self.state.clone(),
            last_log_id: self.last_applied,
            membership: self.membership.clone(),
        }
    }

    fn apply_command(&mut self, id: &LogId, bytes: &CommandBytes) -> io::Result<Applied> {
        let command = Command::decode(&bytes.0).map_err(|error| {
            // Another node may have applied it: going on without would make this state differ.
            let reason = format!("entry {} cannot be applied: {error}", id.index);
            let _ = self.shared.failure.set(Failure::Unsupported(reason.clone()));
            io::Error::new(io::ErrorKind::InvalidData, reason)
        })?;
        self.shared.applied_bytes.fetch_add(bytes.0.len() as u64, Ordering::Relaxed);
        Ok(self.state.apply(&command))
    }

    fn apply_entry(&mut self, batch: &mut Batch, item: EntryResponder<TypeConfig>) -> io::Result<()> {
        let (entry, responder) = item;
        let mut reply = EntryReply::default();
        match &entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
            }
            EntryPayload::Normal(command) => {
                let mut applied = self.apply_command(&entry.log_id, command)?;
                batch.events.extend(applied.events.clone());
                batch.leases.append(&mut applied.leases);
                reply.0 = responder.is_some().then(|| Arc::new(applied));
            }
        }
        self.last_applied = Some(entry.log_id);
        if entry.log_id.index.is_multiple_of(HASH_EVERY) {
            self.mark(entry.log_id.index);
        }
        batch.entries += 1;
        if let Some(responder) = responder {
            batch.replies.push((responder, reply));
        }
        Ok(())
    }

    /// In this order, so that whoever holds a reply finds its state published and its events on their way.
    fn publish(&mut self, batch: &mut Batch) {
        let published = self.publish_state();
        for observer in self.shared.observers.iter() {
            observer.applied(&published, &batch.events, &batch.leases);
        }
        for (responder, reply) in batch.replies.drain(..) {
            responder.send(reply);
        }
        *batch = Batch::default();
    }

    fn mark(&mut self, index: u64) {
        let mark = HashMark { index, hash: self.state.state_hash() };
        let skip = (self.hash_marks.len() + 1).saturating_sub(MAX_MARKS);
        self.hash_marks = self.hash_marks.iter().skip(skip).copied().chain([mark]).collect();
    }

    fn publish_state(&self) -> Arc<Published> {
        let applied = self.last_applied.as_ref().map(codec::position_from_raft);
        let published =
            Arc::new(Published { state: self.state.clone(), applied, hash_marks: self.hash_marks.clone() });
        self.shared.board.publish(published.clone());
        published
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batch = Batch::default();
        while let Some(item) = entries.try_next().await? {
            self.apply_entry(&mut batch, item)?;
            if batch.entries == PUBLISH_EVERY {
                self.publish(&mut batch);
            }
        }
        if batch.entries > 0 {
            self.publish(&mut batch);
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { frozen: self.freeze(), snapshots: self.shared.snapshots.clone() }
    }

    /// P/W6. The file was decoded and checked before Raft heard of it; here everything that the log has
    /// queued becomes durable first, or a truncation could be lost behind a durable snapshot (F2).
    async fn install_snapshot(&mut self, meta: &SnapshotMeta, file: SnapshotFile) -> Result<(), io::Error> {
        self.barrier.wait().await?;
        let snapshots = self.shared.snapshots.clone();
        let state = blocking(move || {
            let mut file = match file.decoded {
                Some(_) => file,
                None => read(&file.path, snapshots.cluster_id())?,
            };
            let state = file.decoded.take();
            snapshots.adopt(file)?;
            Ok(state)
        })
        .await?;
        self.state = state.ok_or_else(|| io::Error::other("the snapshot has no content"))?;
        self.last_applied = meta.last_log_id;
        self.hash_marks = Arc::default();
        self.membership = meta.last_membership.clone();
        let published = self.publish_state();
        for observer in self.shared.observers.iter() {
            observer.reset(&published);
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let current = self.shared.snapshots.current();
        Ok(current.map(|file| Snapshot { meta: file.meta.clone(), snapshot: file }))
    }
}

/// Gives Raft the snapshot that was prepared, or writes one.
pub(crate) struct Builder {
    frozen: Frozen,
    snapshots: SnapshotStore,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let (frozen, snapshots) = (self.frozen.clone(), self.snapshots.clone());
        let file = match snapshots.take_prepared() {
            Some(prepared) => prepared,
            None => blocking(move || Ok(snapshots.write(&frozen)?)).await?,
        };
        Ok(Snapshot { meta: file.meta.clone(), snapshot: file })
    }
}

/// Runs file work off the task that keeps Raft going.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(format!("file work ended early: {error}"))),
    }
}
