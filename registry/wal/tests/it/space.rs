//! Spare segments, the reserve and the full disk (P/W5).

use std::io;

use registry_wal::sim_disk::{Fault, SimDisk, SimOperation};
use registry_wal::{Error, Headroom, Options};

use crate::support::{Log, Outcome, names, numbered, segments};

const SEGMENT: u64 = 64 * 1024;

fn with_reserve() -> Options {
    Options { reserve_bytes: 3 * SEGMENT, ..Options::small() }
}

#[test]
fn two_spares_and_the_reserve_are_made_in_the_background() {
    let mut log = Log::open_with(&SimDisk::new(), with_reserve()).unwrap();
    assert_eq!(log.wal.headroom(), Headroom::default());
    log.settle();
    let whole = Headroom { spare_segments: 2, reserve_bytes: 3 * SEGMENT, full: false, stalled: false };
    assert_eq!(log.wal.headroom(), whole);
    assert_eq!(names(&log.disk).len(), 4);
    let log = Log::open_with(&log.disk, with_reserve()).unwrap();
    assert_eq!(log.wal.headroom(), whole, "taken over by the next process");
}

#[test]
fn the_reserve_follows_the_snapshot() {
    let mut log = Log::open_with(&SimDisk::new(), with_reserve()).unwrap();
    for bytes in [10 * SEGMENT, SEGMENT] {
        log.wal.set_reserve_bytes(bytes).unwrap();
        log.drive().unwrap();
        log.settle();
        assert_eq!(log.wal.headroom().reserve_bytes, bytes);
    }
}

#[test]
fn a_full_disk_is_told_and_the_log_goes_on_with_spares_and_reserve() {
    let mut log = Log::open_with(&SimDisk::new(), with_reserve()).unwrap();
    log.settle();
    log.disk.set_capacity(Some(log.disk.used_bytes()));
    assert!(!log.wal.is_full());
    let mut told_at = None;
    let mut index = 0;
    let waiting = loop {
        let outcome = Outcome::new();
        log.wal.append(vec![crate::support::entry(index, &[1; 3000])], outcome.callback()).unwrap();
        log.drive().unwrap();
        if log.wal.headroom().stalled {
            break outcome;
        }
        assert!(outcome.is_ok());
        log.settle();
        if log.wal.is_full() && told_at.is_none() {
            told_at = Some(segments(&log.disk).len());
        }
        index += 1;
    };
    assert_eq!(told_at, Some(2), "as soon as a spare could not be replaced");
    assert_eq!(segments(&log.disk).len(), 1 + 2 + 3, "the first, the spares and the reserve are used up");
    assert_eq!(waiting.get(), None, "what does not fit waits, it is not refused");
    log.disk.set_capacity(Some(log.disk.used_bytes() + SEGMENT));
    log.drive().unwrap();
    assert!(waiting.is_ok(), "and goes on when there is room");
    assert!(!log.wal.headroom().stalled && log.wal.is_full());
    log.disk.kill();
    let log = Log::open_with(&log.disk, with_reserve()).unwrap();
    assert_eq!(log.indexes(), (0..=index).collect::<Vec<_>>());
}

#[test]
fn a_log_that_ends_with_its_segment_starts_on_a_full_disk_without_reserve() {
    let options = Options { spare_segments: 0, ..Options::small() };
    let mut log = Log::open_with(&SimDisk::new(), options.clone()).unwrap();
    log.disk.set_capacity(Some(log.disk.used_bytes()));
    // The first page is the head of the log, each further entry takes one.
    let pages = SEGMENT / 4096 - 1;
    for index in 0..pages {
        log.write(index, &[1; 3000]);
    }
    let outcome = log.queue(pages, pages + 1);
    log.drive().unwrap();
    assert!(log.wal.headroom().stalled && outcome.get().is_none(), "exactly full");
    for _ in 0..3 {
        log.disk.kill();
        log = Log::open_with(&log.disk, options.clone()).unwrap();
        assert_eq!(log.indexes(), (0..pages).collect::<Vec<_>>());
    }
    let outcome = log.queue(pages, pages + 1);
    log.drive().unwrap();
    assert_eq!(outcome.get(), None, "it reads, but has no room to write");
    log.disk.set_capacity(None);
    log.drive().unwrap();
    assert!(outcome.is_ok());
    log.disk.kill();
    let log = Log::open_with(&log.disk, options).unwrap();
    assert_eq!(log.indexes(), (0..=pages).collect::<Vec<_>>());
}

#[test]
fn room_found_again_is_used_after_a_retry() {
    let mut log = Log::open_with(&SimDisk::new(), with_reserve()).unwrap();
    log.disk.set_capacity(Some(log.disk.used_bytes() + SEGMENT));
    log.settle();
    assert_eq!(
        log.wal.headroom(),
        Headroom { spare_segments: 1, reserve_bytes: 0, full: true, stalled: false }
    );
    assert!(
        names(&log.disk).iter().all(|name| !name.ends_with("partial")),
        "what could not be filled is removed"
    );
    log.disk.set_capacity(None);
    log.settle();
    assert!(log.wal.is_full(), "not tried again at once");
    log.wal.retry_allocation().unwrap();
    log.drive().unwrap();
    log.settle();
    assert_eq!(
        log.wal.headroom(),
        Headroom { spare_segments: 2, reserve_bytes: 3 * SEGMENT, full: false, stalled: false }
    );
}

#[test]
fn a_snapshot_may_take_the_reserve_and_give_it_back() {
    let mut log = Log::open_with(&SimDisk::new(), with_reserve()).unwrap();
    log.settle();
    let used = log.disk.used_bytes();
    let outcome = Outcome::new();
    log.wal.release_reserve(outcome.callback()).unwrap();
    log.drive().unwrap();
    assert!(outcome.is_ok());
    assert_eq!(log.disk.used_bytes(), used - 3 * SEGMENT);
    log.wal.retry_allocation().unwrap();
    log.drive().unwrap();
    log.settle();
    assert_eq!(
        log.wal.headroom(),
        Headroom { spare_segments: 2, reserve_bytes: 0, full: true, stalled: false }
    );
    log.wal.set_reserve_bytes(SEGMENT).unwrap();
    log.drive().unwrap();
    log.settle();
    assert_eq!(
        log.wal.headroom(),
        Headroom { spare_segments: 2, reserve_bytes: SEGMENT, full: false, stalled: false }
    );
}

#[test]
fn a_file_system_without_allocation_has_no_reserve_but_works() {
    let mut log = Log::open_with(&SimDisk::new(), with_reserve()).unwrap();
    log.disk.fail(SimOperation::Allocate, 0, Fault::Error(io::ErrorKind::Unsupported));
    log.settle();
    assert_eq!(
        log.wal.headroom(),
        Headroom { spare_segments: 2, reserve_bytes: 0, full: false, stalled: false }
    );
}

#[test]
fn a_failure_while_filling_a_spare_is_final() {
    let mut log = Log::open(&SimDisk::new()).unwrap();
    log.disk.fail(SimOperation::Sync, 0, Fault::Error(io::ErrorKind::Other));
    assert!(log.writer.step().is_err());
    let refused = log.wal.append(vec![numbered(0)], Outcome::new().callback());
    assert!(matches!(refused, Err(Error::Io { action: "fill", .. })), "{refused:?}");
}

#[test]
fn a_segment_is_made_at_once_when_no_spare_is_ready() {
    let mut log = Log::open(&SimDisk::new()).unwrap();
    for index in 0..40 {
        log.write(index, &[2; 5000]);
    }
    assert!(segments(&log.disk).len() > 4);
    assert_eq!(log.reopen().indexes(), (0..40).collect::<Vec<_>>());
}
