//! A snapshot on somebody's wish, and what it depends on.

use openraft::async_runtime::WatchReceiver;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::codec;
use super::consensus::Consensus;
use super::status::LogPosition;

/// A snapshot that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotMade {
    /// Last entry that it includes.
    pub position: Option<LogPosition>,
    /// Its size in bytes.
    pub size_bytes: u64,
}

impl Consensus {
    /// Size of the newest snapshot in bytes; 0 = there is none.
    pub fn snapshot_bytes(&self) -> u64 {
        self.snapshots().current_bytes()
    }

    /// Last entry of the log.
    pub fn last_log_position(&self) -> Option<LogPosition> {
        let metrics = self.raft().data_metrics();
        let last = metrics.borrow_watched().last_log;
        last.as_ref().map(codec::position_from_raft)
    }

    /// Writes a snapshot now, unless the newest covers everything; waits until Raft knows it.
    ///
    /// # Errors
    /// The disk refused it, Raft has ended, or the deadline came; then it may be made later.
    pub async fn make_snapshot(&self, deadline: Instant) -> std::io::Result<SnapshotMade> {
        let late = |_| std::io::Error::new(std::io::ErrorKind::TimedOut, "it is not written in time");
        let (wish, made) = oneshot::channel();
        self.inner.wishes.try_send(wish).map_err(std::io::Error::other)?;
        let covered = timeout_at(deadline, made).await.map_err(late)?.map_err(std::io::Error::other)??;
        let mut status = self.watch_status();
        let known = status.wait_for(|status| {
            status.failed.is_some() || status.snapshot.map(|position| position.index) >= covered
        });
        let position = timeout_at(deadline, known).await.map_err(late)?;
        let position = position.map_err(std::io::Error::other)?.snapshot;
        Ok(SnapshotMade { position, size_bytes: self.snapshot_bytes() })
    }
}
