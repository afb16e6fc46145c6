//! The writer on its own thread, on the real file system, with readers beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use registry_wal::{DirectoryDisk, NoObserver, Opened, Options, open};

use crate::support::{IDENTITY, LOG, entry, purged};

fn open_directory(path: &std::path::Path) -> Opened {
    let disk = DirectoryDisk::open(path.join("log")).unwrap();
    let options = Options { cache_bytes: 10_000, reserve_bytes: 64 * 1024, ..Options::small() };
    open(Arc::new(disk), options, IDENTITY, Some(LOG), Arc::new(NoObserver)).unwrap()
}

#[test]
fn entries_written_by_a_thread_are_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open_directory(folder.path());
    let thread = opened.writer.spawn().unwrap();
    let (sender, receiver) = channel();
    for index in 0..200_u64 {
        let sender = sender.clone();
        let done = Box::new(move |result: std::io::Result<()>| {
            result.unwrap();
            sender.send(index).unwrap();
        });
        opened.wal.append(vec![entry(index, &[index as u8; 1000])], done).unwrap();
    }
    opened.wal.set_vote(Bytes::from_static(b"vote"), Box::new(|result| result.unwrap())).unwrap();
    opened.wal.close();
    thread.join().unwrap();
    drop(sender);
    assert_eq!(receiver.iter().collect::<Vec<_>>(), (0..200).collect::<Vec<_>>(), "acknowledged in order");
    let again = open_directory(folder.path());
    let entries = again.wal.read(0..u64::MAX, u64::MAX).unwrap();
    assert_eq!(entries, (0..200).map(|index| entry(index, &[index as u8; 1000])).collect::<Vec<_>>());
    assert_eq!(again.wal.state().vote.as_deref(), Some(&b"vote"[..]));
    assert!(again.wal.free_bytes().unwrap() > 0);
}

#[test]
fn readers_never_see_a_wrong_entry_while_segments_are_recycled() {
    const LAST: u64 = 3000;
    let folder = tempfile::tempdir().unwrap();
    let opened = open_directory(folder.path());
    let thread = opened.writer.spawn().unwrap();
    let (wal, stop, reads) = (opened.wal, Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (wal, stop, reads) = (wal.clone(), Arc::clone(&stop), Arc::clone(&reads));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    for found in wal.read(0..u64::MAX, 50_000).unwrap() {
                        assert_eq!(found, entry(found.index, &found.index.to_le_bytes().repeat(60)));
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    let (sender, receiver) = channel();
    for index in 0..LAST {
        let sender = sender.clone();
        let done = Box::new(move |result: std::io::Result<()>| sender.send(result.is_ok()).unwrap());
        wal.append(vec![entry(index, &index.to_le_bytes().repeat(60))], done).unwrap();
        if index % 50 == 49 {
            // As a caller that bounds the queue: wait for everything so far.
            let until = receiver.iter().take(50);
            assert!(until.into_iter().all(|durable| durable));
            if index > 200 {
                wal.purge(purged(index - 200)).unwrap();
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert!(reads.load(Ordering::Relaxed) > 0);
    wal.close();
    thread.join().unwrap();
    assert_eq!(wal.state().last, Some(LAST - 1));
    assert!(wal.statistics().segments < 8, "{:?}", wal.statistics());
}

#[test]
fn the_thread_makes_spares_and_reserve_while_idle() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open_directory(folder.path());
    let thread = opened.writer.spawn().unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while opened.wal.headroom().spare_segments < 2 || opened.wal.headroom().reserve_bytes == 0 {
        assert!(std::time::Instant::now() < deadline, "{:?}", opened.wal.headroom());
        std::thread::sleep(Duration::from_millis(2));
    }
    opened.wal.close();
    thread.join().unwrap();
}
