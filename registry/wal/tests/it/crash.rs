//! Crashes: the last write cut at every byte, its pages kept in any subset, on fresh and on recycled segments, with
//! another crash while recovering. What was acknowledged is always there; of the rest, whole frames or nothing.

use std::io;

use registry_wal::Entry;
use registry_wal::sim_disk::{Fate, Fault, SimDisk, SimOperation};

use crate::support::{Log, Outcome, PAGE, entry, purged, segments};

/// A log with some acknowledged entries, on segments that were never used or, if `recycled`, used several times.
fn prepared(recycled: bool) -> (Log, Vec<Entry>) {
    let mut log = Log::open(&SimDisk::new()).unwrap();
    let rounds = if recycled { 120 } else { 3 };
    for index in 0..rounds {
        log.write(index, &[index as u8; 3000]);
        if recycled && index >= 3 {
            log.wal.purge(purged(index - 3)).unwrap();
            log.drive().unwrap();
        }
        log.settle();
    }
    if recycled {
        assert!(segments(&log.disk)[0].as_str() > "segment-00000000000000000004", "segments were recycled");
    }
    let acknowledged = log.all();
    (log, acknowledged)
}

/// Runs a batch whose sync fails: its pages are written and not durable.
fn leave_unsynced(log: &mut Log, entries: &[Entry]) {
    let outcome = Outcome::new();
    log.wal.append(entries.to_vec(), outcome.callback()).unwrap();
    log.disk.fail(SimOperation::Sync, 0, Fault::Error(io::ErrorKind::Other));
    assert!(log.drive().is_err());
    assert_eq!(outcome.get(), Some(Err(io::ErrorKind::Other)));
}

/// Opens and compares with what must be there and what may.
fn open_and_compare(disk: &SimDisk, acknowledged: &[Entry], unacknowledged: &[Entry], what: &str) -> Log {
    let log = Log::open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = log.all();
    let all = [acknowledged, unacknowledged].concat();
    assert!(found == acknowledged || found == all, "{what}: {:?}", log.indexes());
    log
}

/// The same, and looks again after another crash; then appends something else and looks again after a third.
fn check(disk: &SimDisk, acknowledged: &[Entry], unacknowledged: &[Entry], what: &str) {
    let mut found = open_and_compare(disk, acknowledged, unacknowledged, what).all();
    disk.crash(|_| 0, |_, _| Fate::Lost);
    let mut log = Log::open(disk).unwrap();
    assert_eq!(log.all(), found, "{what}: what was found once stays, what was not stays away");
    let next = found.last().map_or(0, |last| last.index + 1);
    for index in next..next + 2 {
        log.write(index, b"afterwards");
        found.push(entry(index, b"afterwards"));
    }
    disk.crash(|_| 0, |_, _| Fate::Lost);
    assert_eq!(Log::open(disk).unwrap().all(), found, "{what}: nothing comes back, nothing is lost");
}

#[test]
fn a_write_torn_at_every_byte_loses_nothing_acknowledged() {
    for recycled in [false, true] {
        let (mut log, acknowledged) = prepared(recycled);
        let next = acknowledged.last().unwrap().index + 1;
        let batch: Vec<_> = (0..2).map(|number| entry(next + number, &[number as u8 + 1; 2500])).collect();
        leave_unsynced(&mut log, &batch);
        let pages = log.disk.unsynced_pages();
        assert_eq!(pages.len(), 2, "{pages:?}");
        let (begin, end) = (pages[0].1 as usize * PAGE, (pages[1].1 as usize + 1) * PAGE);
        for cut in begin..=end {
            let disk = log.disk.fork();
            disk.crash(|_| 0, |_, page| Fate::Torn(cut.saturating_sub(page as usize * PAGE)));
            let what = format!("recycled {recycled}, torn at {cut}");
            // What follows a start depends on what it found, not on the byte: every 64th tells.
            if cut % 64 == 0 {
                check(&disk, &acknowledged, &batch, &what);
            } else {
                open_and_compare(&disk, &acknowledged, &batch, &what);
            }
        }
    }
}

#[test]
fn a_file_cut_at_every_byte_of_the_last_frames_keeps_the_frames_before() {
    let (log, acknowledged) = prepared(false);
    let name = segments(&log.disk).pop().unwrap();
    let bytes = log.disk.read_file(&name).unwrap();
    let frames = crate::support::frames(&log.disk, &name);
    let last_two = &frames[frames.len() - 2..];
    for cut in last_two[0].0..=last_two[1].0 + last_two[1].1 {
        let disk = log.disk.fork();
        disk.write_file(&name, bytes[..cut].to_vec());
        let lost =
            last_two.iter().filter(|(offset, used)| cut < offset + used.next_multiple_of(PAGE)).count();
        let kept = &acknowledged[..acknowledged.len() - lost];
        if cut % 64 == 0 {
            check(&disk, kept, &[], &format!("cut at {cut}"));
        } else {
            open_and_compare(&disk, kept, &[], &format!("cut at {cut}"));
        }
    }
}

#[test]
fn every_subset_of_the_pages_of_an_unsynced_batch_may_survive() {
    for recycled in [false, true] {
        let (mut log, acknowledged) = prepared(recycled);
        let next = acknowledged.last().unwrap().index + 1;
        let batch: Vec<_> = (0..7).map(|number| entry(next + number, &[number as u8 + 1; 2000])).collect();
        leave_unsynced(&mut log, &batch);
        check_all_subsets(&log.disk, &acknowledged, &batch, "batch");
    }
}

#[test]
fn every_subset_of_the_pages_of_a_new_segment_may_survive() {
    for recycled in [false, true] {
        let (mut log, mut acknowledged) = prepared(recycled);
        // Fill the segment until the next batch needs another.
        let before = segments(&log.disk).pop().unwrap();
        let mut next = acknowledged.last().unwrap().index + 1;
        while crate::support::frames(&log.disk, &before).last().unwrap().0 < 64 * 1024 - 4 * PAGE {
            log.write(next, &[7; 3000]);
            acknowledged.push(entry(next, &[7; 3000]));
            next += 1;
        }
        let batch: Vec<_> = (0..7).map(|number| entry(next + number, &[number as u8 + 1; 2000])).collect();
        leave_unsynced(&mut log, &batch);
        let pages = log.disk.unsynced_pages();
        assert!(pages.iter().all(|(name, _)| *name != before), "{pages:?}");
        check_all_subsets(&log.disk, &acknowledged, &batch, "new segment");
    }
}

fn check_all_subsets(disk: &SimDisk, acknowledged: &[Entry], batch: &[Entry], what: &str) {
    let pages = disk.unsynced_pages();
    assert!((4..=6).contains(&pages.len()), "{pages:?}");
    for subset in 0..1_u32 << pages.len() {
        let disk = disk.fork();
        crash_to_subset(&disk, &pages, subset);
        check(&disk, acknowledged, batch, &format!("{what}, subset {subset:b}"));
    }
}

fn crash_to_subset(disk: &SimDisk, pages: &[(String, u64)], subset: u32) {
    let kept = |name: &str, page| {
        let place = pages.iter().position(|(other, number)| other == name && *number == page);
        place.is_some_and(|place| subset & (1 << place) != 0)
    };
    disk.crash(|changes| changes, |name, page| if kept(name, page) { Fate::Kept } else { Fate::Lost });
}

#[test]
fn a_crash_while_recovering_changes_nothing() {
    let (mut log, acknowledged) = prepared(true);
    let next = acknowledged.last().unwrap().index + 1;
    let batch: Vec<_> = (0..5).map(|number| entry(next + number, &[number as u8 + 1; 2000])).collect();
    leave_unsynced(&mut log, &batch);
    let pages = log.disk.unsynced_pages();
    for subset in 0..1_u32 << pages.len() {
        let disk = log.disk.fork();
        crash_to_subset(&disk, &pages, subset);
        // The frame of the new generation is written but not synced: the first sync is that of what was read.
        disk.fail(SimOperation::Sync, 1, Fault::Error(io::ErrorKind::Other));
        assert!(Log::open(&disk).is_err());
        let written = disk.unsynced_pages();
        assert_eq!(written.len(), 1);
        for fate in [Fate::Lost, Fate::Kept, Fate::Torn(40), Fate::Torn(100)] {
            let disk = disk.fork();
            disk.crash(|changes| changes, |_, _| fate);
            check(&disk, &acknowledged, &batch, &format!("subset {subset:b}, then {fate:?}"));
        }
    }
}

#[test]
fn a_frame_behind_a_lost_head_does_not_come_back_behind_its_successor() {
    let options = || registry_wal::Options { spare_segments: 1, ..registry_wal::Options::small() };
    let mut log = Log::open_with(&SimDisk::new(), options()).unwrap();
    for index in 0..15 {
        log.write(index, b"one page each, until the segment is full");
    }
    // The first sync is that of the new file's zeros.
    log.queue(15, 16);
    log.disk.fail(SimOperation::Sync, 1, Fault::Error(io::ErrorKind::Other));
    assert!(log.drive().is_err());
    // Of the new segment the frame survives, its head does not.
    assert_eq!(log.disk.unsynced_pages().len(), 2);
    log.disk.crash(|changes| changes, |_, page| if page == 0 { Fate::Lost } else { Fate::Kept });
    for _ in 0..3 {
        // The same file becomes the same segment with a head of the same number.
        assert_eq!(Log::open_with(&log.disk, options()).unwrap().indexes(), (0..15).collect::<Vec<_>>());
        log.disk.crash(|_| 0, |_, _| Fate::Lost);
    }
}

#[test]
fn what_a_killed_process_left_in_the_page_cache_is_durable_once_it_was_read() {
    let (mut log, acknowledged) = prepared(false);
    let next = acknowledged.last().unwrap().index + 1;
    let batch = vec![entry(next, b"in the page cache")];
    leave_unsynced(&mut log, &batch);
    log.disk.kill();
    let log = Log::open(&log.disk).unwrap();
    let found = log.all();
    assert_eq!(found, [acknowledged, batch].concat());
    log.disk.crash(|_| 0, |_, _| Fate::Lost);
    assert_eq!(Log::open(&log.disk).unwrap().all(), found);
}

#[test]
fn a_crash_at_any_step_of_the_first_start_leaves_a_log_that_can_be_created() {
    let mut errors = 0;
    for operation in [
        SimOperation::Create,
        SimOperation::Write,
        SimOperation::Sync,
        SimOperation::Rename,
        SimOperation::SyncDirectory,
    ] {
        for after in 0..3 {
            for names_kept in 0..4 {
                for fate in [Fate::Lost, Fate::Kept, Fate::Torn(80)] {
                    let disk = SimDisk::new();
                    disk.fail(operation, after, Fault::Error(io::ErrorKind::Other));
                    errors += usize::from(Log::open(&disk).is_err());
                    disk.crash(|changes| changes.min(names_kept), |_, _| fate);
                    check(&disk, &[], &[], &format!("{operation:?} {after} {fate:?}"));
                }
            }
        }
    }
    assert!(errors > 50, "{errors}");
}
