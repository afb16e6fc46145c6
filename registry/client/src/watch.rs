//! Watches that outlive the streams that carry them.

use std::fmt;
use std::time::Duration;

use registry_proto::v1::{Instance, Position, RevisionChanges, WatchRequest};

use crate::client::Client;
use crate::error::Error;

/// What a watch tells. Revisions are whole: all changes of one come in one item.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum WatchEvent {
    /// A stream is open at this node.
    Connected {
        /// HOST:PORT of the node.
        endpoint: String,
    },
    /// The complete view: replace whatever was known. Sent first, and again after
    /// [`Compacted`](Self::Compacted) and [`EpochChanged`](Self::EpochChanged).
    Snapshot {
        /// What is there, sorted as the registry sent it.
        instances: Vec<Instance>,
        /// Where the view stands.
        position: Position,
    },
    /// Everything missed while no stream was open has been told.
    Resumed {
        /// Where the view stands.
        position: Position,
    },
    /// All changes of one revision. Revisions rise and none is told twice.
    Changes {
        /// The changes; `more` is always false.
        changes: RevisionChanges,
        /// Where the view stands after them.
        position: Position,
    },
    /// Nothing new up to here, and how old the node's data is.
    Bookmark {
        /// Where the view stands.
        position: Position,
        /// Age of the node's data; `None` = not known.
        staleness: Option<Duration>,
    },
    /// The changes since the last position are gone; a snapshot follows.
    Compacted {
        /// The oldest position that would have worked.
        oldest_revision: u64,
    },
    /// The cluster began a new history; a snapshot follows.
    EpochChanged,
    /// The stream ended; another is being opened.
    Disconnected {
        /// Why.
        error: Error,
    },
}

/// A watch over as many streams as it takes. Made by [`Client::watch`].
pub struct Watch {
    client: Client,
    request: WatchRequest,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("request", &self.request).finish()
    }
}

impl Watch {
    pub(crate) fn new(client: Client, request: WatchRequest) -> Self {
        Self { client, request }
    }

    /// The next event.
    ///
    /// Cancel-safe: dropping the future loses nothing. After an error there is nothing more to come.
    ///
    /// # Errors
    /// What no node can heal: INVALID_FIELD; with `changes_only` also REVISION_COMPACTED and
    /// EPOCH_CHANGED.
    pub async fn next(&mut self) -> Result<WatchEvent, Error> {
        let _ = &self.client;
        todo!()
    }

    /// Where the view stands; `None` before the first snapshot.
    pub fn position(&self) -> Option<Position> {
        todo!()
    }
}
