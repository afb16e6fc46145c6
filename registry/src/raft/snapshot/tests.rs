use std::fs;
use std::path::Path;

use openraft::testing::log_id;
use registry_state::{ClusterSettings, Command, InitCluster, Operation, State};
use tempfile::TempDir;

use super::*;
use crate::raft::types::{StoredMembership, TypeConfig as C};

const CLUSTER: &str = "3f0b8c1e-7a58-4d0c-9a55-0b6f3f9a7c11";

fn frozen(index: u64) -> Frozen {
    let mut state = State::default();
    state.apply(&Command {
        proposed_at_unix_ms: 1,
        request: None,
        operation: Operation::InitCluster(InitCluster {
            cluster_id: CLUSTER.into(),
            epoch: 42,
            settings: Some(ClusterSettings::DEFAULT),
            members: vec![],
            next_raft_id: 4,
        }),
    });
    Frozen { state, last_log_id: Some(log_id::<C>(2, 1, index)), membership: StoredMembership::default() }
}

fn hash(file: &SnapshotFile) -> u64 {
    file.decoded.as_ref().unwrap().state_hash()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_written_is_read_back() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.snap");
    let frozen = frozen(7);
    let written = write(&path, CLUSTER, &frozen).unwrap();
    let found = read(&path, CLUSTER).unwrap();
    assert_eq!(found.meta, frozen.meta());
    assert_eq!((found.size_bytes, found.digest), (written.size_bytes, written.digest));
    assert_eq!(found.size_bytes, fs::metadata(&path).unwrap().len());
    assert_eq!(hash(&found), frozen.state.state_hash());
}

#[test]
fn every_flipped_byte_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.snap");
    write(&path, CLUSTER, &frozen(7)).unwrap();
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x20;
        fs::write(&path, &damaged).unwrap();
        let error = read(&path, CLUSTER).unwrap_err();
        assert!(!matches!(error, SnapshotError::Io { .. }), "byte {at}: {error}");
    }
}

#[test]
fn every_cut_and_every_longer_file_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.snap");
    write(&path, CLUSTER, &frozen(7)).unwrap();
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(matches!(read(&path, CLUSTER).unwrap_err(), SnapshotError::Damaged { .. }), "{length} bytes");
    }
    fs::write(&path, [whole.as_slice(), &[0]].concat()).unwrap();
    assert!(read(&path, CLUSTER).is_err());
}

#[test]
fn a_snapshot_of_another_cluster_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.snap");
    write(&path, CLUSTER, &frozen(7)).unwrap();
    let error = read(&path, "9d2c1f10-0000-4000-8000-000000000000").unwrap_err();
    assert!(error.to_string().contains("it is of cluster"), "{error}");
}

#[test]
fn the_newest_snapshot_survives_a_restart_and_older_ones_go() {
    let folder = TempDir::new().unwrap();
    let store = SnapshotStore::open(folder.path(), CLUSTER).unwrap();
    assert!(store.current().is_none());
    store.write(&frozen(5)).unwrap();
    store.write(&frozen(9)).unwrap();
    fs::write(folder.path().join("build.tmp"), b"unfinished").unwrap();

    let store = SnapshotStore::open(folder.path(), CLUSTER).unwrap();
    assert_eq!(store.current_index(), Some(9));
    assert!(store.current().unwrap().decoded.is_some(), "the restore needs the content");
    assert!(store.current().unwrap().decoded.is_none(), "and nobody keeps it afterwards");
    assert_eq!(names(folder.path()).len(), 2);
    store.remove_older().unwrap();
    assert_eq!(names(folder.path()).len(), 1);
}

#[test]
fn a_prepared_snapshot_is_current_only_when_raft_takes_it() {
    let folder = TempDir::new().unwrap();
    let store = SnapshotStore::open(folder.path(), CLUSTER).unwrap();
    store.prepare(&frozen(5)).unwrap();
    assert!(store.current().is_none());
    assert_eq!(store.take_prepared().unwrap().meta.last_log_id.unwrap().index, 5);
    assert_eq!(store.current_index(), Some(5));
    assert!(store.take_prepared().is_none());
}

fn source(folder: &Path) -> (Vec<u8>, SnapshotFile) {
    let path = folder.join("source");
    let file = write(&path, CLUSTER, &frozen(7)).unwrap();
    (fs::read(&path).unwrap(), file)
}

#[test]
fn a_broken_transfer_goes_on_where_it_stopped() {
    let (other, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (bytes, file) = source(other.path());
    let store = SnapshotStore::open(folder.path(), CLUSTER).unwrap();
    let half = bytes.len() / 2;

    let mut receiving = store.receive(file.digest, file.size_bytes).unwrap();
    receiving.push(0, &bytes[..half], crc32c::crc32c(&bytes[..half])).unwrap();
    assert!(matches!(receiving.finish(), Err(SnapshotError::Io { .. })), "it is not whole");

    let mut receiving = store.receive(file.digest, file.size_bytes).unwrap();
    assert_eq!(receiving.next_offset(), half as u64);
    receiving.push(half as u64, &bytes[half..], crc32c::crc32c(&bytes[half..])).unwrap();
    assert!(receiving.is_whole());
    let received = receiving.finish().unwrap();
    assert_eq!(hash(&received), frozen(7).state.state_hash());
    store.adopt(received).unwrap();
    assert_eq!(SnapshotStore::open(folder.path(), CLUSTER).unwrap().current_index(), Some(7));
}

#[test]
fn a_transfer_with_a_wrong_chunk_or_content_is_refused() {
    let (other, folder) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (mut bytes, file) = source(other.path());
    let store = SnapshotStore::open(folder.path(), CLUSTER).unwrap();

    let mut receiving = store.receive(file.digest, file.size_bytes).unwrap();
    assert!(receiving.push(1, &bytes[1..2], crc32c::crc32c(&bytes[1..2])).is_err(), "a hole");
    assert!(receiving.push(0, &bytes[..9], 0).is_err(), "a checksum");
    assert!(receiving.push(0, &[], 0).is_err(), "nothing");
    let longer = [bytes.as_slice(), b"more"].concat();
    assert!(receiving.push(0, &longer, crc32c::crc32c(&longer)).is_err(), "too much");

    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    receiving.push(0, &bytes, crc32c::crc32c(&bytes)).unwrap();
    assert!(matches!(receiving.finish(), Err(SnapshotError::Damaged { .. })));
    let again = store.receive(file.digest, file.size_bytes).unwrap();
    assert_eq!(again.next_offset(), 0, "damage is not continued");
}
