//! Decides when a snapshot is made, and makes it.
//!
//! The file is written before Raft hears of it: a full disk is then a warning and another try, while a
//! builder of Raft that fails would end the node.

use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use registry_wal::Wal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use super::consensus::RaftHandle;
use super::options::RaftOptions;
use super::state_machine::{Shared, StateMachine, blocking};

/// How often it is looked whether a snapshot is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Wait after a failure: a full disk does not get empty sooner.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// Longest wait for Raft to take over a file that is written: a message and a rename of a slot.
const TAKE_OVER_WAIT: Duration = Duration::from_secs(5);

/// Makes snapshots by size and by time.
pub(crate) struct Snapshotting {
    raft: RaftHandle,
    shared: Shared,
    wal: Wal,
    min_bytes: u64,
    min_reserve_bytes: u64,
    max_age: Duration,
    look_every: Duration,
    last: Last,
    ended: watch::Receiver<bool>,
    wishes: mpsc::Receiver<Wish>,
}

/// Somebody wants a snapshot now, and to know what it covers.
pub(crate) type Wish = oneshot::Sender<std::io::Result<Option<u64>>>;

/// What the last snapshot covered.
struct Last {
    at: Instant,
    applied_bytes: u64,
    applied_index: u64,
}

impl Snapshotting {
    pub(crate) fn new(
        options: &RaftOptions,
        raft: RaftHandle,
        shared: Shared,
        wal: Wal,
        ended: watch::Receiver<bool>,
        wishes: mpsc::Receiver<Wish>,
    ) -> Self {
        // What was applied again at the start counts: it is what the last snapshot does not cover.
        let last = Last { at: Instant::now(), applied_bytes: 0, applied_index: snapshot_index(&shared) };
        let max_age = options.snapshot_max_age;
        Self {
            raft,
            shared,
            wal,
            min_bytes: options.snapshot_min_bytes,
            min_reserve_bytes: options.reserve_bytes,
            max_age,
            look_every: LOOK_EVERY.min(max_age),
            last,
            ended,
            wishes,
        }
    }

    /// Runs until Raft ends.
    pub(crate) async fn run(mut self) {
        while self.pause(self.look_every).await {
            // The handle has the other end, and lives as long as Raft.
            if let Ok(wish) = self.wishes.try_recv() {
                // Whoever wished may be gone.
                let _ = wish.send(self.make_now().await);
                continue;
            }
            let snapshots = self.shared.snapshots.clone();
            // A snapshot of the leader, or the own one, has taken the place of these.
            if let Err(error) = blocking(move || Ok(snapshots.remove_older()?)).await {
                tracing::warn!(%error, "an old snapshot was not removed");
            }
            if self.wal.is_full() {
                self.shorten_log().await;
            }
            if !self.is_due() {
                continue;
            }
            if let Err(error) = self.make().await {
                tracing::warn!(%error, "no snapshot was made; the next try is in 30 s");
                self.pause(RETRY_AFTER).await;
            }
        }
    }

    /// False once Raft has ended: then nothing must be written into its folder any more.
    async fn pause(&mut self, length: Duration) -> bool {
        let _ = timeout(length, self.ended.wait_for(|ended| *ended)).await;
        !*self.ended.borrow() && self.raft.metrics().borrow_watched().running_state.is_ok()
    }

    fn is_due(&self) -> bool {
        let applied = self.shared.board.load().applied_index();
        if applied <= self.last.applied_index {
            return false;
        }
        let bytes = self.shared.applied_bytes.load(Ordering::Relaxed).saturating_sub(self.last.applied_bytes);
        bytes >= self.min_bytes.max(self.shared.snapshots.current_bytes())
            || self.last.at.elapsed() >= self.max_age
            || (self.lives_on_reserve() && self.last.at.elapsed() >= RETRY_AFTER)
    }

    /// The disk is full and the spare segments are used up: a snapshot makes the log short (P/W5).
    fn lives_on_reserve(&self) -> bool {
        let headroom = self.wal.headroom();
        headroom.full && headroom.spare_segments == 0
    }

    /// On a full disk nothing is kept of the log that the snapshot covers: a follower that lacks it gets the
    /// snapshot.
    async fn shorten_log(&self) {
        if let Some(index) = self.shared.snapshots.current_index()
            && let Err(error) = self.raft.trigger().purge_log(index).await
        {
            tracing::debug!(%error, "Raft has ended");
        }
    }

    /// Makes one unless there is nothing new; the index that the newest covers.
    async fn make_now(&mut self) -> std::io::Result<Option<u64>> {
        let applied = self.shared.board.load().applied_index();
        if self.shared.snapshots.current_index().is_none_or(|covered| covered < applied) {
            self.make().await?;
        }
        Ok(self.shared.snapshots.current_index())
    }

    async fn make(&mut self) -> std::io::Result<()> {
        let begun = Instant::now();
        let applied_bytes = self.shared.applied_bytes.load(Ordering::Relaxed);
        let frozen = self.raft.with_state_machine(|machine: &mut StateMachine| {
            let frozen = machine.freeze();
            Box::pin(async move { frozen })
        });
        let frozen = frozen.await.map_err(std::io::Error::other)?;
        let applied_index = frozen.last_log_id.map_or(0, |id| id.index);
        let snapshots = self.shared.snapshots.clone();
        let prepare = move || Ok(snapshots.prepare(&frozen)?);
        if let Err(error) = blocking(prepare.clone()).await {
            if error.kind() != std::io::ErrorKind::StorageFull {
                return Err(error);
            }
            // What the reserve is for (P/W5): a snapshot makes the log short, which makes room.
            self.release_reserve().await?;
            // Whatever comes of it, the reserve is taken back as far as there is room.
            let again = blocking(prepare).await;
            self.wal.set_reserve_bytes(self.reserve_bytes())?;
            again?;
        }
        self.raft.trigger().snapshot().await.map_err(std::io::Error::other)?;
        self.taken_over(applied_index).await;
        self.last = Last { at: Instant::now(), applied_bytes, applied_index };
        let bytes = self.shared.snapshots.current_bytes();
        self.wal.set_reserve_bytes(self.reserve_bytes())?;
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(applied_index, bytes, took_ms, "wrote a snapshot");
        Ok(())
    }
}

impl Snapshotting {
    /// Waits until Raft has made the file written its newest snapshot: until then size and index are those
    /// of the one before.
    async fn taken_over(&self, index: u64) {
        let mut metrics = self.raft.metrics();
        let taken = async {
            while self.shared.snapshots.current_index().is_none_or(|covered| covered < index) {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        // In vain only if Raft has ended, or is busy with another one.
        let _ = timeout(TAKE_OVER_WAIT, taken).await;
    }

    /// Twice the last snapshot, for the next one beside it (P/W5).
    fn reserve_bytes(&self) -> u64 {
        self.min_reserve_bytes.max(2 * self.shared.snapshots.current_bytes())
    }

    async fn release_reserve(&self) -> std::io::Result<()> {
        let (done, released) = oneshot::channel();
        self.wal.release_reserve(Box::new(move |result| drop(done.send(result))))?;
        released.await.map_err(std::io::Error::other)?
    }
}

fn snapshot_index(shared: &Shared) -> u64 {
    shared.snapshots.current_index().unwrap_or(0)
}
