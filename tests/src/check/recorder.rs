//! Writes a history while a run goes on, from many tasks at once.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use registry_proto::v1;
use tonic::Status;

use super::history::{Answer, Call, History, Operation, Outcome, StateHash, Time, Watch};
use crate::api::reason;

/// A clone writes to the same history.
#[derive(Clone)]
pub struct Recorder {
    history: Arc<Mutex<History>>,
    now: Arc<dyn Fn() -> Time + Send + Sync>,
}

/// A call that has begun. Nobody has to end it: a caller that is dropped leaves an unknown outcome.
#[derive(Debug)]
#[must_use = "the end of the call is recorded with it"]
pub struct Open(usize);

/// A stream of a watch that was opened.
#[derive(Debug, Clone, Copy)]
pub struct OpenWatch(usize);

/// Reasons that say that a write has taken no effect and never will (API/G1). The others, and every error
/// without a reason, leave it open.
const WITHOUT_EFFECT: &[&str] = &[
    "INVALID_FIELD",
    "INSTANCE_NOT_FOUND",
    "LEASE_EXPIRED",
    "STALE_INCARNATION",
    "NOT_LEADER",
    "NO_QUORUM",
    "NOT_INITIALIZED",
    "NOT_READY",
    "SHUTTING_DOWN",
    "QUOTA_EXCEEDED",
    "OVERLOADED",
    "RATE_LIMITED",
];

impl Recorder {
    /// A recorder whose times are those of `now`: the time since the beginning of the run, real or virtual.
    pub fn new(now: impl Fn() -> Time + Send + Sync + 'static) -> Self {
        Self { history: Arc::default(), now: Arc::new(now) }
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("no panic inside")
    }

    /// The present time of the run.
    pub fn now(&self) -> Time {
        (self.now)()
    }

    /// Makes a call and records it. `session` as in [`Operation::session`].
    ///
    /// # Errors
    /// Those of the call.
    pub async fn call<T: Clone + Into<Answer>>(
        &self,
        client: &str,
        session: Option<u32>,
        call: Call,
        answer: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let open = self.begin(client, session, call);
        let answer = answer.await;
        match &answer {
            Ok(answer) => self.end(open, Outcome::Answered(answer.clone().into())),
            Err(status) => self.end(open, outcome_of(status)),
        }
        answer
    }

    /// Records the beginning of a call, to be called just before it.
    pub fn begin(&self, client: &str, session: Option<u32>, call: Call) -> Open {
        let mut history = self.lock();
        history.operations.push(Operation {
            client: client.to_owned(),
            session,
            invoked: self.now(),
            ended: None,
            call,
            outcome: Outcome::Unknown("never ended".into()),
        });
        Open(history.operations.len() - 1)
    }

    /// Records the end of a call, to be called just after it.
    pub fn end(&self, open: Open, outcome: Outcome) {
        let ended = self.now();
        let mut history = self.lock();
        let operation = &mut history.operations[open.0];
        operation.ended = Some(ended);
        operation.outcome = outcome;
    }

    /// Records a stream of a watch, to be called just before it is asked for.
    pub fn open_watch(&self, watcher: &str, node: &str, request: v1::WatchRequest) -> OpenWatch {
        let opened = self.now();
        let mut history = self.lock();
        let (watcher, node) = (watcher.to_owned(), node.to_owned());
        history.watches.push(Watch { watcher, node, request, opened, messages: Vec::new(), closed: None });
        OpenWatch(history.watches.len() - 1)
    }

    /// Records a message of a watch.
    pub fn told(&self, watch: OpenWatch, message: v1::WatchResponse) {
        let now = self.now();
        self.lock().watches[watch.0].messages.push((now, message));
    }

    /// Records that the stream of a watch has ended or is given up.
    pub fn closed(&self, watch: OpenWatch) {
        let now = self.now();
        self.lock().watches[watch.0].closed = Some(now);
    }

    /// Records that the process of a node begins, to be called just before.
    pub fn starts(&self, node: &str) {
        let now = self.now();
        self.lock().starts.entry(node.to_owned()).or_default().push(now);
    }

    /// Records the hash of the state of a node.
    pub fn hash(&self, node: &str, index: u64, hash: Vec<u8>) {
        let told = self.now();
        self.lock().hashes.push(StateHash { node: node.to_owned(), told, index, hash });
    }

    /// Records that from now on all nodes run and reach each other, with a leader.
    pub fn calm(&self) {
        let now = self.now();
        self.lock().calm_from = Some(now);
    }

    /// Records that the calm is over: another fault begins.
    pub fn disturbed(&self) {
        self.lock().calm_from = None;
    }

    /// The history so far.
    pub fn history(&self) -> History {
        let end = self.now();
        History { end, ..self.lock().clone() }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("operations", &self.lock().operations.len()).finish_non_exhaustive()
    }
}

/// What a failed call leaves.
pub fn outcome_of(status: &Status) -> Outcome {
    let reason = reason(status);
    if WITHOUT_EFFECT.contains(&reason.as_str()) {
        Outcome::Refused(reason)
    } else if reason.is_empty() {
        Outcome::Unknown(format!("{:?}: {}", status.code(), status.message()))
    } else {
        Outcome::Unknown(reason)
    }
}

/// What a failed call of the client library leaves.
pub fn outcome_of_library(error: &registry_client::Error) -> Outcome {
    let reason = error.reason().map_or("", |reason| reason.as_str_name());
    let reason = reason.trim_start_matches("ERROR_REASON_");
    if WITHOUT_EFFECT.contains(&reason) && !error.is_outcome_unknown() {
        Outcome::Refused(reason.to_owned())
    } else {
        Outcome::Unknown(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_call_that_nobody_ends_has_an_unknown_outcome() {
        let recorder = Recorder::new(|| Time::from_secs(1));
        drop(recorder.begin("a", None, Call::Discover(v1::ServiceDiscoveryRequest::default())));
        let history = recorder.history();
        assert_eq!(history.operations[0].ended, None);
        assert!(matches!(history.operations[0].outcome, Outcome::Unknown(_)));
    }

    #[test]
    fn an_error_without_a_reason_leaves_the_outcome_open() {
        let outcome = outcome_of(&Status::new(Code::Unavailable, "connection reset"));
        assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
    }
}
