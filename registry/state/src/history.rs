//! The history of changes, from which watches are resumed. It is replicated state (P/V3): evicted in
//! `apply` by replicated bounds and kept in snapshots, so that every node has the same floor.

use std::sync::Arc;

use imbl::Vector;
use registry_bug::bug;

use crate::event::RevisionEvents;
use crate::ids::Revision;
use crate::settings::HistorySettings;

/// Why the changes after a revision cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryGap {
    /// They are gone.
    #[error("the changes are gone; the oldest revision to resume from is {oldest}")]
    Compacted {
        /// The oldest revision from which a resume works.
        oldest: Revision,
    },
    /// The revision has not happened here.
    #[error("revision {newest} is the newest here")]
    Future {
        /// The newest revision.
        newest: Revision,
    },
}

/// The last revisions without a gap, the newest one always among them.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    revisions: Vector<Arc<RevisionEvents>>,
    events: u64,
    bytes: u64,
}

/// What a revision without events counts as: it takes a place too.
const EMPTY_REVISION_EVENTS: u64 = 1;

impl History {
    /// Adds the newest revision.
    pub(crate) fn push(&mut self, revision: Arc<RevisionEvents>) {
        self.events += weight(&revision);
        self.bytes += revision.size_bytes;
        self.revisions.push_back(revision);
    }

    /// Takes the oldest revision out while a bound is exceeded; `None` when all is within.
    pub(crate) fn evict(&mut self, bounds: &HistorySettings) -> Option<Arc<RevisionEvents>> {
        let exceeded = self.events > bounds.max_events || self.bytes > bounds.max_bytes;
        if !exceeded || self.revisions.len() <= 1 {
            return None;
        }
        let evicted = self.revisions.pop_front()?;
        self.events = self.events.saturating_sub(weight(&evicted));
        self.bytes = self.bytes.saturating_sub(evicted.size_bytes);
        Some(evicted)
    }

    pub(crate) fn floor(&self, newest: Revision) -> Revision {
        self.revisions.front().map_or(newest, |first| first.revision.saturating_sub(1))
    }

    pub(crate) fn since(
        &self,
        revision: Revision,
        newest: Revision,
    ) -> Result<impl Iterator<Item = &Arc<RevisionEvents>>, HistoryGap> {
        let floor = self.floor(newest);
        if revision > newest {
            return Err(HistoryGap::Future { newest });
        }
        if revision + u64::from(bug("compaction-off-by-one")) < floor {
            return Err(HistoryGap::Compacted { oldest: floor });
        }
        // Revisions follow each other without a gap, so the distance from the floor is the position.
        let skip =
            usize::try_from(revision.saturating_sub(floor)).unwrap_or(usize::MAX).min(self.revisions.len());
        let mut focus = skip;
        Ok(std::iter::from_fn(move || {
            let next = self.revisions.get(focus);
            focus += 1;
            next
        }))
    }

    /// The newest revision.
    pub(crate) fn newest(&self) -> Option<Revision> {
        self.revisions.back().map(|newest| newest.revision)
    }

    /// A revision by its position, the oldest having 0.
    pub(crate) fn get(&self, position: usize) -> Option<&Arc<RevisionEvents>> {
        self.revisions.get(position)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<RevisionEvents>> {
        self.revisions.iter()
    }

    /// Events and bytes held.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.events, self.bytes)
    }
}

fn weight(revision: &RevisionEvents) -> u64 {
    (revision.events.len() as u64).max(EMPTY_REVISION_EVENTS)
}
