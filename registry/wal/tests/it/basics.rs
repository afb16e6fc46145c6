//! What a caller sees while nothing goes wrong.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use registry_wal::sim_disk::SimDisk;
use registry_wal::{Error, Identity, NoObserver, Options, open};

use crate::support::{IDENTITY, LOG, Log, Outcome, entry, names, numbered, purged, segments};

#[test]
fn a_new_log_is_empty_and_says_that_it_was_created() {
    let log = Log::open(&SimDisk::new()).unwrap();
    assert!(log.recovered.created);
    assert_eq!(log.wal.state(), log.recovered.state);
    assert_eq!(log.wal.state().last, None);
    let log = log.reopen();
    assert!(!log.recovered.created);
    assert_eq!((log.recovered.log, log.recovered.generation, log.recovered.cut), (LOG, 2, None));
}

#[test]
fn entries_are_readable_at_once_and_acknowledged_when_written() {
    let mut log = Log::open(&SimDisk::new()).unwrap();
    let outcome = log.queue(0, 3);
    assert_eq!(log.indexes(), [0, 1, 2]);
    assert_eq!(outcome.get(), None);
    log.drive().unwrap();
    assert!(outcome.is_ok());
    let log = log.reopen();
    assert_eq!(log.all(), (0..3).map(numbered).collect::<Vec<_>>());
}

#[test]
fn the_log_may_begin_at_any_index_and_then_has_no_holes() {
    let mut log = Log::open(&SimDisk::new()).unwrap();
    log.queue(5, 7);
    let refused = log.wal.append(vec![numbered(8)], Outcome::new().callback());
    assert!(matches!(refused, Err(Error::OutOfOrder { index: 8, .. })), "{refused:?}");
    let refused = log.wal.append(vec![numbered(7), numbered(9)], Outcome::new().callback());
    assert!(matches!(refused, Err(Error::OutOfOrder { index: 9, .. })), "{refused:?}");
    assert_eq!(log.indexes(), [5, 6]);
    log.drive().unwrap();
    let log = log.reopen();
    assert_eq!(log.indexes(), [5, 6]);
    assert_eq!(log.wal.state().first, Some(5));
}

#[test]
fn callbacks_come_in_the_order_of_the_calls_and_after_one_sync() {
    let mut log = Log::open(&SimDisk::new()).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = |name: &'static str| {
        let order = Arc::clone(&order);
        Box::new(move |result: std::io::Result<()>| {
            result.unwrap();
            order.lock().unwrap().push(name);
        })
    };
    log.wal.append(vec![numbered(0), numbered(1)], note("append")).unwrap();
    log.wal.set_vote(Bytes::from_static(b"vote"), note("vote")).unwrap();
    log.wal.append(Vec::new(), note("nothing")).unwrap();
    log.wal.truncate_after(Some(0)).unwrap();
    log.wal.barrier(note("barrier")).unwrap();
    let syncs = log.disk.syncs();
    log.drive().unwrap();
    assert_eq!(*order.lock().unwrap(), ["append", "vote", "nothing", "barrier"]);
    assert_eq!(log.disk.syncs(), syncs + 1);
    assert_eq!(log.wal.queued_bytes(), 0);
}

#[test]
fn a_barrier_alone_writes_nothing() {
    let mut log = Log::open(&SimDisk::new()).unwrap();
    let (outcome, frames) = (Outcome::new(), log.wal.statistics().frames);
    log.wal.barrier(outcome.callback()).unwrap();
    log.drive().unwrap();
    assert!(outcome.is_ok());
    assert_eq!(log.wal.statistics().frames, frames);
}

#[test]
fn the_committed_index_rides_with_the_next_frame_and_is_clamped_to_the_log() {
    let mut log = Log::open(&SimDisk::new()).unwrap();
    log.write(0, b"a");
    let syncs = log.disk.syncs();
    log.wal.set_committed(Some(0)).unwrap();
    log.drive().unwrap();
    assert_eq!(log.disk.syncs(), syncs, "no sync of its own");
    let mut log = log.reopen();
    assert_eq!(log.wal.state().committed, None, "nothing was written since");
    log.wal.set_committed(Some(9)).unwrap();
    assert_eq!(log.wal.state().committed, Some(9));
    log.write(1, b"b");
    assert_eq!(log.reopen().wal.state().committed, Some(1));
}

#[test]
fn the_vote_survives_and_the_last_one_counts() {
    let mut log = Log::open(&SimDisk::new()).unwrap();
    for vote in [&b"one"[..], b"two"] {
        log.wal.set_vote(Bytes::from_static(vote), Outcome::new().callback()).unwrap();
    }
    log.drive().unwrap();
    let log = log.reopen().reopen();
    assert_eq!(log.wal.state().vote.as_deref(), Some(&b"two"[..]));
}

#[test]
fn truncated_entries_are_replaced_by_new_ones() {
    let mut log = Log::open(&SimDisk::new()).unwrap();
    log.queue(0, 10);
    log.drive().unwrap();
    log.wal.truncate_after(Some(4)).unwrap();
    log.wal.append(vec![entry(5, b"new")], Outcome::new().callback()).unwrap();
    for _ in 0..2 {
        assert_eq!(log.indexes(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(log.all()[5], entry(5, b"new"));
        log.drive().unwrap();
    }
    let log = log.reopen();
    assert_eq!((log.indexes(), &log.all()[5]), (vec![0, 1, 2, 3, 4, 5], &entry(5, b"new")));
}

#[test]
fn a_log_truncated_to_nothing_may_begin_elsewhere() {
    let mut log = Log::open(&SimDisk::new()).unwrap();
    log.queue(5, 10);
    log.drive().unwrap();
    log.wal.truncate_after(None).unwrap();
    assert_eq!((log.indexes(), log.wal.state().last), (vec![], None));
    log.queue(8, 9);
    assert_eq!(log.indexes(), [8]);
    log.drive().unwrap();
    assert_eq!(log.indexes(), [8]);
    assert_eq!(log.reopen().indexes(), [8]);
}

#[test]
fn purged_entries_are_gone_and_the_mark_stays() {
    let mut log = Log::open(&SimDisk::new()).unwrap();
    log.queue(0, 10);
    log.wal.purge(purged(3)).unwrap();
    log.wal.purge(purged(2)).unwrap();
    assert_eq!(log.indexes(), [4, 5, 6, 7, 8, 9]);
    log.drive().unwrap();
    let mut log = log.reopen();
    assert_eq!(log.indexes(), [4, 5, 6, 7, 8, 9]);
    assert_eq!(log.wal.state().purged, Some(purged(3)));
    let refused = log.wal.truncate_after(Some(2));
    assert!(matches!(refused, Err(Error::OutOfOrder { .. })), "{refused:?}");
    log.wal.truncate_after(Some(3)).unwrap();
    log.drive().unwrap();
    let log = log.reopen();
    assert_eq!((log.wal.state().first, log.wal.state().last), (None, Some(3)));
}

#[test]
fn a_purge_beyond_the_end_moves_the_log_there() {
    let mut log = Log::open(&SimDisk::new()).unwrap();
    log.queue(0, 3);
    log.wal.purge(purged(100)).unwrap();
    assert_eq!((log.indexes(), log.wal.state().last), (vec![], Some(100)));
    log.queue(101, 103);
    log.drive().unwrap();
    assert_eq!(log.indexes(), [101, 102]);
    assert_eq!(log.reopen().indexes(), [101, 102]);
}

#[test]
fn a_read_is_bounded_by_bytes_but_gives_at_least_one_entry() {
    let options = || Options { cache_bytes: 3 * 1064, ..Options::small() };
    let mut log = Log::open_with(&SimDisk::new(), options()).unwrap();
    for index in 0..10 {
        log.write(index, &[index as u8; 1000]);
    }
    assert_eq!(log.wal.statistics().cached_entries, 3);
    for (range, max_bytes, expected) in [
        (0..10, 0, 0..1),
        (0..10, 2500, 0..2),
        (2..5, u64::MAX, 2..5),
        (5..10, 3100, 5..8),
        (5..10, 4100, 5..9),
        (8..10, 1, 8..9),
        (8..99, 5000, 8..10),
        (10..20, 5000, 0..0),
    ] {
        let read = log.wal.read(range.clone(), max_bytes).unwrap();
        let expected: Vec<_> = expected.map(|index| entry(index, &[index as u8; 1000])).collect();
        assert_eq!(read, expected, "{range:?}, {max_bytes} bytes");
    }
}

#[test]
fn an_entry_that_fills_a_segment_is_taken_and_a_larger_one_refused() {
    let mut log = Log::open(&SimDisk::new()).unwrap();
    let limit = log.wal.max_entry_bytes();
    log.write(0, b"small");
    log.write(1, &vec![5; limit as usize]);
    let refused = log.wal.append(vec![entry(2, &vec![5; limit as usize + 1])], Outcome::new().callback());
    assert!(
        matches!(refused, Err(Error::TooLarge { limit_bytes, .. }) if limit_bytes == limit),
        "{refused:?}"
    );
    log.write(2, b"small");
    let log = log.reopen();
    assert_eq!(log.all().iter().map(|entry| entry.bytes.len()).collect::<Vec<_>>(), [5, limit as usize, 5]);
    let refused = log.wal.set_vote(Bytes::from(vec![0; 1025]), Outcome::new().callback());
    assert!(matches!(refused, Err(Error::TooLarge { what: "vote", .. })), "{refused:?}");
}

#[test]
fn a_large_append_is_split_into_batches_and_acknowledged_once() {
    let mut log = Log::open(&SimDisk::new()).unwrap();
    let outcome = Outcome::new();
    let entries: Vec<_> = (0..300).map(|index| entry(index, &[index as u8; 1000])).collect();
    log.wal.append(entries.clone(), outcome.callback()).unwrap();
    let batch = log.writer.take_batch().unwrap();
    log.writer.run_once(batch).unwrap();
    assert_eq!(outcome.get(), None);
    log.drive().unwrap();
    assert!(outcome.is_ok());
    assert_eq!(log.all(), entries);
    assert_eq!(log.reopen().all(), entries);
}

#[test]
fn segments_are_recycled_after_a_purge_and_the_log_stays_small() {
    let mut log = Log::open(&SimDisk::new()).unwrap();
    log.wal.set_vote(Bytes::from_static(b"vote"), Outcome::new().callback()).unwrap();
    for index in 0..500 {
        log.write(index, &[index as u8; 2000]);
        if index % 10 == 9 {
            log.wal.purge(purged(index - 5)).unwrap();
        }
        log.settle();
    }
    log.drive().unwrap();
    let files = names(&log.disk);
    assert!(files.len() <= 6, "{files:?}");
    assert!(segments(&log.disk)[0].as_str() > "segment-00000000000000000020", "{files:?}");
    let log = log.reopen();
    assert_eq!(log.indexes(), [495, 496, 497, 498, 499]);
    assert_eq!(log.wal.state().vote.as_deref(), Some(&b"vote"[..]));
}

#[test]
fn a_changed_segment_size_is_taken_over() {
    let disk = SimDisk::new();
    let mut log = Log::open(&disk).unwrap();
    log.queue(0, 3);
    log.drive().unwrap();
    log.settle();
    drop(log);
    let larger = || Options { segment_bytes: 256 * 1024, ..Options::small() };
    let mut log = Log::open_with(&disk, larger()).unwrap();
    log.write(3, &[1; 200_000]);
    log.settle();
    let log = Log::open_with(&disk, larger()).unwrap();
    assert_eq!(log.indexes(), [0, 1, 2, 3]);
    assert_eq!(log.wal.statistics().segment_bytes, (64 + 256) * 1024);
}

#[test]
fn an_absent_log_is_missing_unless_it_may_be_created() {
    let missing = open(Arc::new(SimDisk::new()), Options::small(), IDENTITY, None, Arc::new(NoObserver));
    assert!(matches!(missing, Err(Error::Missing { .. })), "{missing:?}");
}

#[test]
fn a_log_of_another_identity_is_refused_by_name() {
    let disk = SimDisk::new();
    drop(Log::open(&disk).unwrap());
    for (identity, name) in [
        (Identity { cluster_id: [3; 16], ..IDENTITY }, "cluster id"),
        (Identity { raft_id: 8, ..IDENTITY }, "raft id"),
        (Identity { disk_id: [3; 16], ..IDENTITY }, "disk id"),
    ] {
        let before = disk.read_file(&segments(&disk)[0]);
        let refused =
            open(Arc::new(disk.clone()), Options::small(), identity, Some(LOG), Arc::new(NoObserver));
        assert!(matches!(refused, Err(Error::Foreign { field, .. }) if field == name), "{refused:?}");
        assert_eq!(disk.read_file(&segments(&disk)[0]), before, "nothing was changed");
    }
}

#[test]
fn options_out_of_range_are_refused() {
    for segment_bytes in [0, 4096, 65537, 2 << 30] {
        let refused = Log::open_with(&SimDisk::new(), Options { segment_bytes, ..Options::small() });
        assert!(matches!(refused, Err(Error::Option { name: "segment_bytes", .. })), "{refused:?}");
    }
}

#[test]
fn a_closed_log_writes_what_is_queued_and_refuses_more() {
    let mut log = Log::open(&SimDisk::new()).unwrap();
    let outcome = log.queue(0, 2);
    log.wal.close();
    let refused = log.wal.append(vec![numbered(2)], Outcome::new().callback());
    assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
    log.drive().unwrap();
    assert!(outcome.is_ok());
    assert_eq!(log.reopen().indexes(), [0, 1]);
}

#[test]
fn whoever_waits_is_told_when_the_writer_goes() {
    let log = Log::open(&SimDisk::new()).unwrap();
    let outcome = log.queue(0, 2);
    drop(log.writer);
    assert_eq!(outcome.get(), Some(Err(std::io::ErrorKind::BrokenPipe)));
}

#[test]
fn the_hook_is_called_for_everything_queued() {
    let log = Log::open(&SimDisk::new()).unwrap();
    let calls = Arc::new(Mutex::new(0));
    let count = Arc::clone(&calls);
    log.wal.on_queued(Box::new(move || *count.lock().unwrap() += 1));
    log.queue(0, 1);
    log.wal.set_vote(Bytes::new(), Outcome::new().callback()).unwrap();
    log.wal.truncate_after(Some(0)).unwrap();
    log.wal.purge(purged(0)).unwrap();
    log.wal.barrier(Outcome::new().callback()).unwrap();
    assert_eq!(*calls.lock().unwrap(), 5);
}
