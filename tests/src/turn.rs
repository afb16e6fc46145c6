//! Turns of the clusters that want to run on this machine.
//!
//! A machine has [`SEATS`], and a cluster takes one or more while it lives. Those that mostly wait for time
//! to pass take one each and run beside others; a cluster that is to have the machine for itself takes all.
//! A seat is a lock on a file, so turns hold between processes, and end with a process however it ends.

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::time::Duration;

/// Seats of a machine.
const SEATS: usize = 4;

/// How often a cluster at the head of the queue looks for seats.
const INTERVAL: Duration = Duration::from_millis(20);

/// How much of the machine a cluster takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// It waits more than it works: four at a time.
    Quarter,
    /// It works, and nothing that it measures is spoilt by another that works too.
    Half,
    /// It keeps the machine busy, or measures what the machine can do.
    Whole,
}

impl Share {
    fn seats(self) -> usize {
        match self {
            Self::Quarter => 1,
            Self::Half => SEATS / 2,
            Self::Whole => SEATS,
        }
    }
}

/// A turn; over when dropped.
#[derive(Debug)]
pub struct Turn {
    _seats: Vec<File>,
}

impl Turn {
    /// Waits for it, first come, first served.
    pub async fn take(share: Share) -> Self {
        tokio::task::spawn_blocking(move || Self::wait(share)).await.expect("the locks are taken")
    }

    fn wait(share: Share) -> Self {
        // Held until all seats are taken: nobody overtakes, and no two wait for each other's seats.
        let queue = open("queue");
        queue.lock().expect("the head of the queue is reached");
        let mut seats: Vec<File> = Vec::new();
        let mut free: Vec<File> = (0..SEATS).map(|seat| open(&seat.to_string())).collect();
        loop {
            free = free
                .into_iter()
                .filter_map(|seat| {
                    if seats.len() == share.seats() {
                        return None;
                    }
                    match seat.try_lock() {
                        Ok(()) => {
                            seats.push(seat);
                            None
                        }
                        Err(TryLockError::WouldBlock) => Some(seat),
                        Err(TryLockError::Error(error)) => panic!("a seat cannot be locked: {error}"),
                    }
                })
                .collect();
            if seats.len() == share.seats() {
                return Self { _seats: seats };
            }
            std::thread::sleep(INTERVAL);
        }
    }
}

fn open(name: &str) -> File {
    let path: PathBuf = std::env::temp_dir().join(format!("registry-tests-{name}.lock"));
    File::options().create(true).append(true).open(path).expect("the lock file opens")
}
