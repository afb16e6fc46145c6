//! Damage to what was durable: refused where a later frame proves that it was, cut where nothing does (P/W3).

use registry_wal::Error;
use registry_wal::sim_disk::SimDisk;

use crate::support::{Log, PAGE, frames, names, purged, segments};

/// A log over three segments, the first recycled ones gone.
fn small_log() -> Log {
    let mut log = Log::open(&SimDisk::new()).unwrap();
    for index in 0..40 {
        let bytes = if index % 2 == 0 { 40 } else { 6000 };
        log.write(index, &vec![index as u8; bytes]);
        if index == 30 {
            log.wal.purge(purged(25)).unwrap();
            log.drive().unwrap();
        }
        log.settle();
    }
    log.write(40, b"the last");
    log
}

/// Offsets worth damaging: all of header and small payloads, every 61st of larger ones.
fn offsets(used: usize) -> impl Iterator<Item = usize> {
    (0..used).filter(|offset| *offset < 400 || offset % 61 == 0)
}

#[test]
fn every_damaged_byte_is_refused_with_file_and_offset_if_a_synced_frame_follows() {
    let log = small_log();
    let files = segments(&log.disk);
    assert!(files.len() == 3 && files[0].as_str() > "segment-00000000000000000001", "{files:?}");
    let mut tried = 0;
    for name in &files {
        let frames = frames(&log.disk, name);
        let is_last = |at: usize| name == files.last().unwrap() && at == frames.last().unwrap().0;
        for (frame, used) in frames.iter().copied().filter(|(frame, _)| !is_last(*frame)) {
            for position in offsets(used) {
                let disk = log.disk.fork();
                disk.corrupt(name, frame + position, 1 << (position % 8));
                let before = names(&disk);
                match Log::open(&disk) {
                    Err(Error::Corrupt { file, offset, .. }) => {
                        // The frame is expected behind the last good one; at the end of a segment that is the old file.
                        let here = file.ends_with(name.as_str()) && offset == frame as u64;
                        assert!(here || frame == 0, "{name} {frame}+{position}: {file} {offset}");
                    }
                    other => panic!("{name} {frame}+{position}: {other:?}"),
                }
                assert_eq!(names(&disk), before, "nothing was changed");
                tried += 1;
            }
        }
    }
    assert!(tried > 3000, "{tried}");
}

#[test]
fn every_damaged_byte_of_the_last_frame_cuts_it() {
    let log = small_log();
    let name = segments(&log.disk).pop().unwrap();
    let (frame, used) = *frames(&log.disk, &name).last().unwrap();
    let kept = &log.all()[..log.all().len() - 1];
    for position in 0..used {
        for flip in [0x01, 0x80, 0xff] {
            let disk = log.disk.fork();
            disk.corrupt(&name, frame + position, flip);
            let found = Log::open(&disk).unwrap_or_else(|error| panic!("{position}: {error}"));
            assert_eq!(found.all(), kept, "{position}");
        }
    }
}

#[test]
fn damaged_padding_and_free_space_cost_nothing() {
    let log = small_log();
    let all = log.all();
    for name in names(&log.disk) {
        let frames = if name.starts_with("segment") { frames(&log.disk, &name) } else { Vec::new() };
        for position in (0..64 * 1024).step_by(211) {
            let is_used = |(offset, used): &(usize, usize)| (*offset..offset + used).contains(&position);
            if !frames.iter().any(is_used) {
                let disk = log.disk.fork();
                disk.corrupt(&name, position, 0xff);
                assert_eq!(Log::open(&disk).unwrap().all(), all, "{name} {position}");
            }
        }
    }
}

#[test]
fn lost_pages_in_the_middle_are_refused() {
    let log = small_log();
    let name = &segments(&log.disk)[0];
    for page in 0..8 {
        let disk = log.disk.fork();
        let mut bytes = disk.read_file(name).unwrap();
        bytes[page * PAGE..(page + 1) * PAGE].fill(0);
        disk.write_file(name, bytes);
        let refused = Log::open(&disk);
        assert!(matches!(refused, Err(Error::Corrupt { .. })), "page {page}: {refused:?}");
    }
}

#[test]
fn a_missing_segment_is_refused() {
    use registry_wal::Disk;
    let mut log = Log::open(&SimDisk::new()).unwrap();
    for index in 0..60 {
        log.write(index, &[1; 3000]);
    }
    let files = segments(&log.disk);
    assert!(files.len() >= 4, "{files:?}");
    for name in &files[..files.len() - 1] {
        let disk = log.disk.fork();
        disk.remove(name).unwrap();
        let refused = Log::open(&disk);
        assert!(matches!(refused, Err(Error::Corrupt { .. })), "{name}: {refused:?}");
    }
}

#[test]
fn a_frame_of_a_later_format_is_refused_and_not_cut() {
    let log = small_log();
    let name = segments(&log.disk).pop().unwrap();
    let (frame, used) = *frames(&log.disk, &name).last().unwrap();
    let mut bytes = log.disk.read_file(&name).unwrap();
    bytes[frame + 68] = 2;
    let checksum = crc32c::crc32c(&bytes[frame + 8..frame + used]);
    bytes[frame + 4..frame + 8].copy_from_slice(&checksum.to_le_bytes());
    log.disk.write_file(&name, bytes);
    let refused = Log::open(&log.disk);
    assert!(matches!(refused, Err(Error::Format { found: 2, supported: 1, .. })), "{refused:?}");
}

#[test]
fn an_entry_damaged_after_the_start_is_not_handed_to_a_reader() {
    let options = registry_wal::Options { cache_bytes: 0, ..registry_wal::Options::small() };
    let mut log = Log::open_with(&SimDisk::new(), options).unwrap();
    for index in 0..4 {
        log.write(index, &[index as u8; 100]);
    }
    let name = segments(&log.disk).pop().unwrap();
    let frame = frames(&log.disk, &name)[2].0;
    log.disk.corrupt(&name, frame + 120, 1);
    let read = log.wal.read(0..4, u64::MAX);
    assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
    assert_eq!(log.wal.read(2..4, u64::MAX).unwrap().len(), 2);
}

#[test]
fn a_frame_under_another_segment_number_is_free_space() {
    let mut log = Log::open(&SimDisk::new()).unwrap();
    log.write(0, b"before");
    let older = log.disk.fork();
    older.kill();
    // The head of the next generation would follow in the older disk, but it was written to segment 1.
    let log = log.reopen();
    let name = segments(&log.disk).pop().unwrap();
    let frame = frames(&log.disk, &name).last().unwrap().0;
    let mut bytes = log.disk.read_file(&name).unwrap()[frame..frame + PAGE].to_vec();
    bytes.resize(64 * 1024, 0);
    older.write_file("segment-00000000000000000002", bytes);
    let log = Log::open(&older).unwrap();
    assert_eq!((log.indexes(), log.recovered.generation), (vec![0], 2));
    assert_eq!(segments(&older).len(), 1);
}
