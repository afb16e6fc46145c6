//! The state that readers see, and how they wait for it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use registry_state::{LeaseChange, RevisionEvents, State};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::status::LogPosition;

/// The state after a batch of entries. Readers hold it as long as they like: it never changes.
#[derive(Debug, Clone)]
pub struct Published {
    /// The state.
    pub state: State,
    /// The last entry that it includes; `None` = nothing applied yet.
    pub applied: Option<LogPosition>,
    /// Hashes of the state at the last indexes that are multiples of 1,024, ascending, to compare with
    /// other nodes (P/O4). Several, because under load no two nodes are at the same one at a moment.
    pub hash_marks: Arc<[HashMark]>,
}

/// What the state was at an index. Equal on all nodes, or one of them is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashMark {
    /// The index, a multiple of 1,024.
    pub index: u64,
    /// Hash of the state with this entry applied.
    pub hash: u64,
}

impl Published {
    /// The newest mark.
    pub fn hash_mark(&self) -> Option<HashMark> {
        self.hash_marks.last().copied()
    }

    /// Index of the last entry included; 0 also if there is none.
    pub fn applied_index(&self) -> u64 {
        self.applied.map_or(0, |position| position.index)
    }
}

/// Told of everything applied, in order, after the state is published and before any reply is sent. So
/// whoever holds a reply finds the state and the events there.
///
/// Called on the task that applies: must not block, and must take far less than a millisecond.
pub trait Observer: Send + Sync + 'static {
    /// A batch has been applied. `events` and `leases` are in the order of their entries; both may be empty.
    fn applied(&self, published: &Arc<Published>, events: &[Arc<RevisionEvents>], leases: &[LeaseChange]);
    /// The state was replaced by a snapshot: nothing is known of what led to it.
    fn reset(&self, published: &Arc<Published>);
}

/// The deadline passed before the state was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state was not reached in time")]
pub struct Elapsed;

/// Holds the newest [`Published`]. Written by the state machine alone.
#[derive(Debug)]
pub(crate) struct Board {
    newest: ArcSwap<Published>,
    applied: watch::Sender<Progress>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    applied_index: u64,
    revision: u64,
}

impl Board {
    pub(crate) fn new(state: State) -> Self {
        let published = Arc::new(Published { state, applied: None, hash_marks: Arc::default() });
        Self { newest: ArcSwap::new(published), applied: watch::Sender::new(Progress::default()) }
    }

    pub(crate) fn load(&self) -> Arc<Published> {
        self.newest.load_full()
    }

    pub(crate) fn publish(&self, published: Arc<Published>) {
        let progress =
            Progress { applied_index: published.applied_index(), revision: published.state.revision() };
        self.newest.store(published);
        self.applied.send_replace(progress);
    }

    pub(crate) async fn wait_applied(
        &self,
        index: u64,
        deadline: Instant,
    ) -> Result<Arc<Published>, Elapsed> {
        self.wait(deadline, |progress| progress.applied_index >= index).await
    }

    pub(crate) async fn wait_revision(
        &self,
        revision: u64,
        deadline: Instant,
    ) -> Result<Arc<Published>, Elapsed> {
        self.wait(deadline, |progress| progress.revision >= revision).await
    }

    async fn wait(
        &self,
        deadline: Instant,
        reached: impl Fn(&Progress) -> bool,
    ) -> Result<Arc<Published>, Elapsed> {
        if reached(&self.applied.borrow()) {
            return Ok(self.load());
        }
        let mut progress = self.applied.subscribe();
        match timeout_at(deadline, progress.wait_for(|progress| reached(progress))).await {
            Ok(Ok(_)) => Ok(self.load()),
            // The sender lives in self, so only the deadline can end the wait.
            Ok(Err(_)) | Err(_) => Err(Elapsed),
        }
    }
}
