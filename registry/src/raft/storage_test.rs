use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use openraft::StorageError;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::testing::{blank_ent, log_id};
use openraft::type_config::TypeConfigExt;
use openraft::{RaftLogReader, RaftSnapshotBuilder};
use registry_state::State;
use registry_wal::sim_disk::SimDisk;
use registry_wal::{Identity, NoObserver, Options};
use tempfile::TempDir;

use super::log_store::LogStore;
use super::published::Board;
use super::snapshot::SnapshotStore;
use super::state_machine::{Shared, StateMachine};
use super::types::{RaftVote, TypeConfig as C};

const CLUSTER: &str = "3f0b8c1e-7a58-4d0c-9a55-0b6f3f9a7c11";

fn open_log(disk: &SimDisk, create: bool) -> LogStore {
    let identity = Identity { cluster_id: [1; 16], raft_id: 1, disk_id: [2; 16] };
    let create = create.then_some([3; 16]);
    let opened =
        registry_wal::open(Arc::new(disk.clone()), Options::small(), identity, create, Arc::new(NoObserver));
    let opened = opened.unwrap();
    drop(opened.writer.spawn().unwrap());
    LogStore::new(opened.wal)
}

fn machine(folder: &TempDir, log: &LogStore) -> StateMachine {
    let shared = Shared {
        board: Arc::new(Board::new(State::default())),
        observers: Arc::new([]),
        snapshots: SnapshotStore::open(folder.path(), CLUSTER).unwrap(),
        failure: Arc::new(OnceLock::new()),
        applied_bytes: Arc::new(AtomicU64::new(0)),
    };
    StateMachine::new(shared, log.barrier())
}

struct Builder;

impl StoreBuilder<C, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<C>> {
        let folder = TempDir::new().unwrap();
        let log = open_log(&SimDisk::new(), true);
        let machine = machine(&folder, &log);
        Ok((folder, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_storage_suite_of_openraft_passes() {
    Suite::test_all(Builder).await.unwrap();
}

#[tokio::test]
async fn vote_purge_and_committed_come_back_after_a_restart() {
    let disk = SimDisk::new();
    let mut log = open_log(&disk, true);
    let vote = RaftVote::new_committed(4, 2);
    log.save_vote(&vote).await.unwrap();
    log.blocking_append((0..10).map(|index| blank_ent::<C>(4, 2, index))).await.unwrap();
    log.save_committed(Some(log_id::<C>(4, 2, 7))).await.unwrap();
    log.purge(log_id::<C>(4, 2, 3)).await.unwrap();
    log.blocking_append([blank_ent::<C>(4, 2, 10)]).await.unwrap();
    log.barrier().wait().await.unwrap();
    disk.kill();
    drop(log);

    let mut log = open_log(&disk, false);
    assert_eq!(log.read_vote().await.unwrap(), Some(vote));
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id::<C>(4, 2, 3)));
    assert_eq!(state.last_log_id, Some(log_id::<C>(4, 2, 10)));
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id::<C>(4, 2, 7)));
    let indexes: Vec<u64> =
        log.try_get_log_entries(..).await.unwrap().iter().map(|entry| entry.index()).collect();
    assert_eq!(indexes, (4..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn committed_never_lies_beyond_the_log() {
    let mut log = open_log(&SimDisk::new(), true);
    log.blocking_append((0..4).map(|index| blank_ent::<C>(1, 1, index))).await.unwrap();
    log.save_committed(Some(log_id::<C>(1, 1, 3))).await.unwrap();
    log.truncate_after(Some(log_id::<C>(1, 1, 1))).await.unwrap();
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id::<C>(1, 1, 1)));
}

#[tokio::test]
async fn a_request_is_capped_by_bytes_but_never_empty() {
    let mut log = open_log(&SimDisk::new(), true);
    let mut big = blank_ent::<C>(1, 1, 0);
    big.payload = openraft::EntryPayload::Normal(super::types::CommandBytes(vec![0; 20_000].into()));
    let entries = (0..80).map(|index| {
        let mut entry = big.clone();
        entry.log_id.index = index;
        entry
    });
    log.blocking_append(entries).await.unwrap();
    let capped = log.limited_get_log_entries(0, 80).await.unwrap();
    assert!(!capped.is_empty() && capped.len() < 80, "{} entries", capped.len());
    assert_eq!(log.try_get_log_entries(0..80).await.unwrap().len(), 80);
}

#[tokio::test]
async fn a_failed_disk_fails_the_callback_and_every_later_call() {
    use registry_wal::sim_disk::{Fault, SimOperation};
    let disk = SimDisk::new();
    let mut log = open_log(&disk, true);
    disk.fail(SimOperation::Sync, 0, Fault::Error(std::io::ErrorKind::Other));
    let (sender, answer) = C::oneshot();
    log.append([blank_ent::<C>(1, 1, 0)], IOFlushed::signal(sender)).await.unwrap();
    assert!(answer.await.unwrap().is_err());
    assert!(log.save_vote(&RaftVote::new(2, 1)).await.is_err());
}

#[tokio::test]
async fn a_snapshot_restores_state_and_position_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let log = open_log(&SimDisk::new(), true);
    let mut first = machine(&folder, &log);
    apply(&mut first, [blank_ent::<C>(2, 1, 0), blank_ent::<C>(2, 1, 1)]).await;
    first.get_snapshot_builder().await.build_snapshot().await.unwrap();

    let mut second = machine(&folder, &log);
    let snapshot = second.get_current_snapshot().await.unwrap().unwrap();
    second.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
    assert_eq!(second.applied_state().await.unwrap().0, Some(log_id::<C>(2, 1, 1)));
    let again = second.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(again.meta.last_log_id, Some(log_id::<C>(2, 1, 1)));
}

#[tokio::test]
async fn an_unknown_command_stops_the_state_machine_and_says_so() {
    let folder = TempDir::new().unwrap();
    let log = open_log(&SimDisk::new(), true);
    let mut machine = machine(&folder, &log);
    let mut entry = blank_ent::<C>(1, 1, 0);
    entry.payload = openraft::EntryPayload::Normal(super::types::CommandBytes(vec![0x08, 0x7f].into()));
    let result = machine.apply(futures::stream::iter([Ok((entry, None))])).await;
    assert!(result.unwrap_err().to_string().contains("entry 0 cannot be applied"));
    assert_eq!(machine.applied_state().await.unwrap().0, None);
}

async fn apply(machine: &mut StateMachine, entries: impl IntoIterator<Item = super::types::Entry>) {
    let entries: Vec<_> = entries.into_iter().map(|entry| Ok((entry, None))).collect();
    machine.apply(futures::stream::iter(entries)).await.unwrap();
}
