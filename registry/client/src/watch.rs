//! Watches that outlive the streams that carry them.

mod progress;

use std::fmt;
use std::time::Duration;

use registry_proto::v1::{
    ErrorReason, Instance, Position, RetryClass, RevisionChanges, WatchRequest, WatchResponse,
};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Code, Streaming};

use crate::backoff::Backoff;
use crate::client::Client;
use crate::error::Error;
use crate::metrics::count;
use progress::{Flow, Progress};

/// P/V6: a node whose data is older than this, or of unknown age, is left for another.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(10);
/// Waits after streams that ended without telling anything.
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// A node that was left because of its data is not asked again for so long, while there is another.
const AVOID_FOR: Duration = Duration::from_secs(30);

/// What a watch tells. Revisions are whole: all changes of one come in one item.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum WatchEvent {
    /// A stream is open at this node.
    Connected {
        /// HOST:PORT of the node.
        endpoint: String,
    },
    /// The complete view: replace whatever was known. Told first, and again after
    /// [`Compacted`](Self::Compacted) and [`EpochChanged`](Self::EpochChanged).
    Snapshot {
        /// What is there, sorted as the registry sent it.
        instances: Vec<Instance>,
        /// Where the view stands.
        position: Position,
        /// Age of the node's data; `None` = not known.
        staleness: Option<Duration>,
    },
    /// Everything missed while no stream was open has been told.
    Resumed {
        /// Where the view stands.
        position: Position,
        /// Age of the node's data; `None` = not known.
        staleness: Option<Duration>,
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
    /// The stream ended, or none could be opened; the search goes on.
    Disconnected {
        /// Why.
        error: Error,
    },
}

struct Open {
    stream: Streaming<WatchResponse>,
    endpoint: String,
    /// A message came.
    alive: bool,
}

/// A watch over as many streams as it takes. Made by [`Client::watch`].
pub struct Watch {
    client: Client,
    progress: Progress,
    open: Option<Open>,
    /// Nodes that are left alone until then.
    avoid: Vec<(String, Instant)>,
    backoff: Backoff,
    /// No stream is opened before.
    not_before: Instant,
    ended: Option<Error>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = self.open.as_ref().map(|open| &open.endpoint);
        f.debug_struct("Watch").field("endpoint", &endpoint).field("position", &self.position()).finish()
    }
}

impl Watch {
    pub(crate) fn new(client: Client, request: WatchRequest, max_age: Duration) -> Self {
        Self {
            client,
            progress: Progress::new(request, max_age),
            open: None,
            avoid: Vec::new(),
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            not_before: Instant::now(),
            ended: None,
        }
    }

    /// The next event.
    ///
    /// Cancel-safe: dropping the future loses nothing. After an error there is nothing more to come.
    ///
    /// # Errors
    /// What no node can heal: INVALID_FIELD; with `changes_only` also REVISION_COMPACTED and
    /// EPOCH_CHANGED.
    pub async fn next(&mut self) -> Result<WatchEvent, Error> {
        loop {
            if let Some(event) = self.progress.pop() {
                match &event {
                    WatchEvent::Snapshot { .. } => count(&self.client.core.metrics.snapshots),
                    WatchEvent::Changes { .. } => count(&self.client.core.metrics.revisions),
                    _ => {}
                }
                return Ok(event);
            }
            if let Some(error) = &self.ended {
                return Err(error.clone());
            }
            if self.open.is_some() {
                self.read().await;
            } else {
                self.connect().await;
            }
        }
    }

    /// Where the view stands; `None` before the first snapshot.
    pub fn position(&self) -> Option<Position> {
        self.progress.position()
    }

    /// HOST:PORT of the node that carries it at present.
    pub fn endpoint(&self) -> Option<&str> {
        self.open.as_ref().map(|open| open.endpoint.as_str())
    }

    async fn connect(&mut self) {
        sleep_until(self.not_before).await;
        let now = Instant::now();
        self.avoid.retain(|(_, until)| *until > now);
        let avoid: Vec<String> = self.avoid.iter().map(|(endpoint, _)| endpoint.clone()).collect();
        let request = self.progress.begin();
        let resumed = request.resume.is_some();
        match self.client.core.open_watch(&self.client.options, request, &avoid).await {
            Ok((stream, endpoint)) => {
                if resumed {
                    count(&self.client.core.metrics.watches_resumed);
                }
                self.progress.push(WatchEvent::Connected { endpoint: endpoint.clone() });
                self.open = Some(Open { stream, endpoint, alive: false });
            }
            Err(error) => self.failed(error),
        }
    }

    async fn read(&mut self) {
        let silence = self.progress.longest_silence();
        let Some(open) = &mut self.open else { return };
        match timeout(silence, open.stream.message()).await {
            Ok(Ok(Some(message))) => {
                open.alive = true;
                if let Some(header) = &message.header
                    && self.client.options.endpoint.is_none()
                    && !self.client.core.pool.observe(&open.endpoint, header)
                {
                    let error = Error::protocol("the node belongs to another cluster");
                    self.close(Duration::ZERO, true, error);
                    return;
                }
                match self.progress.receive(message) {
                    Flow::Continue => {}
                    Flow::Reopen { wait, elsewhere, error } => self.close(wait, elsewhere, error),
                }
            }
            Ok(Ok(None)) => {
                self.close(Duration::ZERO, false, Error::protocol("the node ended the stream"));
            }
            Ok(Err(status)) => {
                let error = Error::from_status(&status).at(&open.endpoint);
                self.failed(error);
            }
            Err(_) => {
                let endpoint = open.endpoint.clone();
                self.client.core.pool.penalize(&endpoint);
                self.close(Duration::ZERO, true, Error::no_answer(silence).at(&endpoint));
            }
        }
    }

    /// A stream ended with a status, or could not be opened.
    fn failed(&mut self, error: Error) {
        match error.reason() {
            Some(ErrorReason::FutureRevision) => self.progress.forget(),
            Some(ErrorReason::EpochChanged) if !self.progress.changes_only() => self.progress.forget(),
            Some(ErrorReason::RevisionCompacted) if !self.progress.changes_only() => self.progress.forget(),
            _ if is_final(&error) => {
                self.open = None;
                self.ended = Some(error);
                return;
            }
            _ => {}
        }
        let elsewhere = error.retry_class() == RetryClass::Elsewhere;
        let wait = error.retry_after().unwrap_or_default();
        self.close(wait, elsewhere, error);
    }

    fn close(&mut self, wait: Duration, elsewhere: bool, error: Error) {
        let now = Instant::now();
        let mut wait = wait;
        match self.open.take() {
            Some(open) => {
                if open.alive {
                    self.backoff.reset();
                } else {
                    wait = wait.max(self.backoff.next());
                }
                if elsewhere {
                    self.avoid.push((open.endpoint, now + AVOID_FOR));
                }
            }
            None => wait = wait.max(self.backoff.next()),
        }
        self.not_before = now + wait;
        tracing::debug!(%error, position = ?self.position(), "watch stream ended; resuming");
        self.progress.push(WatchEvent::Disconnected { error });
    }
}

/// True if no node can heal it.
fn is_final(error: &Error) -> bool {
    match error.reason() {
        Some(ErrorReason::Internal) => false,
        Some(ErrorReason::RevisionCompacted | ErrorReason::EpochChanged) => true,
        Some(_) => error.retry_class() == RetryClass::Never,
        None => matches!(
            error.code(),
            Code::InvalidArgument | Code::Unimplemented | Code::PermissionDenied | Code::Unauthenticated
        ),
    }
}
