//! What a client has seen: no later read of it may show less (DESIGN §9, I3).

use std::sync::{Mutex, MutexGuard, PoisonError};

use registry_proto::v1::{Position, ResponseHeader};

/// The highest position in any answer.
#[derive(Debug, Default)]
pub(crate) struct Session {
    seen: Mutex<Option<Position>>,
}

impl Session {
    fn seen(&self) -> MutexGuard<'_, Option<Position>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn position(&self) -> Option<Position> {
        *self.seen()
    }

    /// Learns from an answer. Epochs can only be compared for equality, so the latest answer names the
    /// present one.
    pub(crate) fn observe(&self, header: &ResponseHeader) {
        if header.epoch == 0 {
            return;
        }
        let position = Position { epoch: header.epoch, revision: header.revision };
        let mut seen = self.seen();
        match &mut *seen {
            Some(old) if old.epoch == position.epoch => old.revision = old.revision.max(position.revision),
            other => *other = Some(position),
        }
    }

    /// The registry says that the position is of another history.
    pub(crate) fn forget(&self) {
        *self.seen() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_rises_within_an_epoch_and_follows_a_new_one() {
        let session = Session::default();
        let header = |epoch, revision| ResponseHeader { epoch, revision, ..Default::default() };
        for (seen, expected) in [((7, 5), (7, 5)), ((7, 3), (7, 5)), ((9, 1), (9, 1)), ((0, 8), (9, 1))] {
            session.observe(&header(seen.0, seen.1));
            let position = session.position().unwrap();
            assert_eq!((position.epoch, position.revision), expected);
        }
    }
}
