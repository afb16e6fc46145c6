//! When the leader was last heard.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::codec;
use super::status::Leadership;
use super::types::RaftVote;

/// Notes the last sign of life of a leader. Raft itself keeps naming a dead leader until there is another
/// vote, which a node that is cut off never sees.
#[derive(Debug, Clone)]
pub(crate) struct Contact {
    last: Arc<Mutex<Option<(Leadership, Instant)>>>,
    begun: Instant,
}

impl Contact {
    pub(crate) fn new() -> Self {
        Self { last: Arc::default(), begun: Instant::now() }
    }

    /// This node led at that time: a majority answered it.
    pub(crate) fn led(&self, leadership: Leadership, at: Instant) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|(_, known)| known < at) {
            *last = Some((leadership, at));
        }
    }

    /// When any leader was last known, or the start.
    pub(crate) fn last_known(&self) -> Instant {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.map_or(self.begun, |(_, at)| at)
    }

    /// A leader of this vote sent something.
    pub(crate) fn heard(&self, vote: &RaftVote) {
        let leadership = codec::leadership_from_raft(&vote.leader_id);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // A deposed leader goes on sending for a while: it must not hide the silence of its successor.
        if last.is_none_or(|(known, _)| known <= leadership) {
            *last = Some((leadership, Instant::now()));
        }
    }

    /// When this leader was last heard.
    pub(crate) fn last_heard(&self, leadership: Leadership) -> Option<Instant> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|(known, _)| *known == leadership).map(|(_, at)| at)
    }
}
