//! Measures how fast the disk syncs, before Raft depends on it (P/O2).

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// Enough for a rough p99, in well under a second on any usable disk.
const SYNCS: usize = 20;
/// A disk slower than this is known to be slow after a few syncs.
const LIMIT: Duration = Duration::from_secs(1);

/// The slowest of a few synced 4 KiB writes. Blocks.
///
/// # Errors
/// The folder cannot be written.
pub(super) fn slowest_sync(folder: &Path) -> io::Result<Duration> {
    let path = folder.join("fsync-probe");
    let measured = measure(&path);
    // A probe that stays behind is overwritten at the next start.
    let _ = fs::remove_file(&path);
    measured
}

fn measure(path: &Path) -> io::Result<Duration> {
    let mut file = File::create(path)?;
    let block = [0x5a; 4_096];
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    for _ in 0..SYNCS {
        let start = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        slowest = slowest.max(start.elapsed());
        if begun.elapsed() > LIMIT {
            break;
        }
    }
    Ok(slowest)
}
