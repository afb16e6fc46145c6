//! Failing writes and syncs, short writes and reads.

use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use registry_wal::sim_disk::{Fate, Fault, SimDisk, SimOperation};
use registry_wal::{Error, Observer, Options, open};

use crate::support::{IDENTITY, LOG, Log, Outcome, numbered, purged};

#[derive(Debug, Default)]
struct Notes(Mutex<Vec<String>>);

impl Observer for Notes {
    fn sync_started(&self, bytes: u64) {
        self.0.lock().unwrap().push(format!("started {bytes}"));
    }
    fn sync_finished(&self) {
        self.0.lock().unwrap().push("finished".to_owned());
    }
    fn failed(&self, error: &Error) {
        self.0.lock().unwrap().push(error.to_string());
    }
}

#[test]
fn a_failed_sync_is_final_and_everybody_is_told() {
    for operation in [SimOperation::Sync, SimOperation::Write] {
        let disk = SimDisk::new();
        let notes = Arc::new(Notes::default());
        let observer = Arc::clone(&notes) as Arc<dyn Observer>;
        let opened = open(Arc::new(disk.clone()), Options::small(), IDENTITY, Some(LOG), observer).unwrap();
        let mut log = Log { disk, wal: opened.wal, writer: opened.writer, recovered: opened.recovered };
        log.write(0, b"acknowledged");
        let outcomes = [log.queue(1, 2), log.queue(2, 200)];
        let batch = log.writer.take_batch().unwrap();
        let late = Outcome::new();
        log.wal.barrier(late.callback()).unwrap();
        log.disk.fail(operation, 0, Fault::Error(io::ErrorKind::Other));
        assert!(log.writer.run_once(batch).is_err());
        for outcome in outcomes.iter().chain([&late]) {
            assert_eq!(outcome.get(), Some(Err(io::ErrorKind::Other)));
        }
        assert!(matches!(log.wal.failure(), Some(Error::Io { .. })));
        for refused in [
            log.wal.append(vec![numbered(200)], Outcome::new().callback()),
            log.wal.set_vote(Bytes::new(), Outcome::new().callback()),
            log.wal.truncate_after(Some(0)),
            log.wal.purge(purged(0)),
            log.wal.set_committed(Some(0)),
            log.wal.barrier(Outcome::new().callback()),
            log.wal.read(0..1, 1).map(drop),
        ] {
            assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
        }
        let notes = notes.0.lock().unwrap();
        assert_eq!(notes[..2], ["started 4096", "finished"]);
        assert!(notes[2].starts_with("started "), "{notes:?}");
        assert!(notes[3].contains("segment-00000000000000000001") && notes.len() == 4, "{notes:?}");
        log.disk.crash(|_| 0, |_, _| Fate::Lost);
        assert_eq!(Log::open(&log.disk).unwrap().indexes(), [0]);
    }
}

#[test]
fn a_failure_while_a_segment_is_begun_loses_nothing_acknowledged() {
    for operation in
        [SimOperation::Rename, SimOperation::SyncDirectory, SimOperation::Write, SimOperation::Sync]
    {
        let mut log = Log::open(&SimDisk::new()).unwrap();
        log.settle();
        let mut acknowledged = 0;
        loop {
            let outcome = log.queue(acknowledged, acknowledged + 1);
            log.wal.set_vote(Bytes::from(vec![0; 1000]), Outcome::new().callback()).unwrap();
            if log.wal.statistics().frames == 13 {
                log.disk.fail(operation, 0, Fault::Error(io::ErrorKind::Other));
            }
            if log.drive().is_err() {
                break;
            }
            assert!(outcome.is_ok());
            acknowledged += 1;
        }
        for fate in [Fate::Lost, Fate::Kept, Fate::Torn(1000)] {
            for names in 0..3 {
                let disk = log.disk.fork();
                disk.crash(|changes| changes.min(names), |_, _| fate);
                let found = Log::open(&disk).unwrap().indexes();
                assert!(
                    found.starts_with(&(0..acknowledged).collect::<Vec<_>>()),
                    "{operation:?}: {found:?}"
                );
            }
        }
    }
}

#[test]
fn short_writes_and_reads_are_continued() {
    let mut log = Log::open(&SimDisk::new()).unwrap();
    for (index, bytes) in [1, 71, 72, 4095, 4096].into_iter().enumerate() {
        log.disk.fail(SimOperation::Write, 0, Fault::Short(bytes));
        log.disk.fail(SimOperation::Write, 1, Fault::Error(io::ErrorKind::Interrupted));
        log.write(index as u64, &[3; 9000]);
    }
    log.disk.kill();
    for bytes in [1, 71, 4095] {
        log.disk.fail(SimOperation::Read, 0, Fault::Short(bytes));
        log.disk.fail(SimOperation::Read, 3, Fault::Short(bytes));
    }
    let log = Log::open(&log.disk).unwrap();
    assert_eq!(log.indexes(), [0, 1, 2, 3, 4]);
}

#[test]
fn a_short_write_that_is_never_continued_is_cut() {
    for bytes in [0, 1, 72, 5000, 8000] {
        let mut log = Log::open(&SimDisk::new()).unwrap();
        log.write(0, b"acknowledged");
        let outcome = Outcome::new();
        log.wal.append(vec![crate::support::entry(1, &[1; 9000])], outcome.callback()).unwrap();
        log.disk.fail(SimOperation::Write, 0, Fault::Short(bytes));
        log.disk.fail(SimOperation::Write, 1, Fault::Error(io::ErrorKind::Other));
        assert!(log.drive().is_err());
        assert!(outcome.get().unwrap().is_err());
        log.disk.crash(|_| 0, |_, _| Fate::Kept);
        assert_eq!(Log::open(&log.disk).unwrap().indexes(), [0], "{bytes}");
    }
}
