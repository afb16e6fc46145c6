//! What a caller may say about its calls: how fresh, how long, where.

use std::time::Duration;

use registry_proto::v1::{Consistency, Position};

/// How the calls of one [`Client`](crate::Client) handle are made. See
/// [`Client::with`](crate::Client::with).
///
/// Consistency, staleness and revision concern reads only, and only where the request itself says
/// nothing.
#[derive(Debug, Clone, Default)]
pub struct CallOptions {
    pub(crate) deadline: Option<Duration>,
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) endpoint: Option<String>,
    pub(crate) consistency: Option<Consistency>,
    pub(crate) max_staleness: Option<Duration>,
    pub(crate) min_revision: Option<Position>,
    pub(crate) any_revision: bool,
    pub(crate) no_retry: bool,
}

impl CallOptions {
    /// The client's defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Longest time for a call with all its repetitions. Default: the client's, 10 s. Drain gets the
    /// time it waits on top.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Longest time to wait for one node's answer before another is tried. Default: the client's, 3 s,
    /// which is above the 2 s that a node may wait for a revision or for a majority.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// Asks only the node at `HOST:PORT`, whatever the client knows about it.
    pub fn at(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// How fresh reads have to be. Default: LINEARIZABLE.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = Some(consistency);
        self
    }

    /// Reads what the node asked knows, with its age in the answer's header; works without a leader.
    pub fn stale(self) -> Self {
        self.consistency(Consistency::Stale)
    }

    /// The oldest data acceptable for stale reads.
    pub fn max_staleness(mut self, age: Duration) -> Self {
        self.max_staleness = Some(age);
        self
    }

    /// Reads must show at least this position, of a write's answer or of an earlier read.
    pub fn min_revision(mut self, position: Position) -> Self {
        self.min_revision = Some(position);
        self
    }

    /// Lets a stale read show less than an earlier answer of this client did.
    ///
    /// By default a stale read asks for at least the highest revision that this client has seen, so that
    /// time never runs backwards for its caller; a node that is behind makes it wait, or is left out.
    /// Calls [`at`](Self::at) one node are free of that.
    pub fn any_revision(mut self) -> Self {
        self.any_revision = true;
        self
    }

    /// Makes one attempt only. For tests and for programs that repeat by themselves.
    pub fn no_retry(mut self) -> Self {
        self.no_retry = true;
        self
    }
}
