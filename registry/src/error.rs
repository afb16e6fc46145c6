//! Why a request failed, and what its caller may do about it.
//!
//! The set of reasons is that of `registry.v1.ErrorReason`, plus answers that another node gave and that
//! are passed on as they are. What a client is told beside the reason (code, retry class, details) is
//! derived in one place, [`Error::into_status`].

use std::collections::HashMap;
use std::time::Duration;

use registry_proto::ERROR_DOMAIN;
use registry_proto::v1::{ErrorReason, RetryClass};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

mod message;
pub mod peer;

#[cfg(test)]
#[path = "error/error_test.rs"]
mod tests;

/// Room for the violations of one answer, in bytes: all details together stay below 1 KiB, because some
/// clients cap trailers at 8 KiB.
const VIOLATION_BYTES: usize = 320;

/// Longest message, in bytes. It is part of the details too.
const MESSAGE_BYTES: usize = 240;

/// Longest name of a leader that is told, in bytes; its endpoint is what matters.
const LEADER_ID_BYTES: usize = 64;

/// A field of a request that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadField {
    /// Path of the field, such as `ports[grpc].port`.
    pub path: String,
    /// The rule, with its limit.
    pub problem: String,
}

impl BadField {
    /// A bad field.
    pub fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }
}

/// Why a request failed. See `registry.v1.ErrorReason` for what each means to a client.
#[derive(Debug, Clone)]
pub enum Error {
    /// Fields break a rule; all of them are named (API/G2).
    InvalidField(Vec<BadField>),
    /// The request id was used before with other content.
    RequestIdReused,
    /// The serial is older than what is remembered; holds the lowest one that is.
    RequestSuperseded {
        /// Lowest serial that would still be answered.
        lowest: u64,
    },
    /// The client is not known and the serial is not 1.
    SessionUnknown,
    /// The write took effect earlier and what it registered is gone or replaced.
    RegistrationGone,
    /// No such instance; holds its name.
    InstanceNotFound(String),
    /// The lease is not open, or the instance to renew is not registered.
    LeaseExpired,
    /// Another owner registered the instance since.
    StaleIncarnation {
        /// The incarnation that holds it now.
        current: u64,
    },
    /// The history after a position is gone.
    RevisionCompacted {
        /// Oldest revision from which a resume works.
        oldest: u64,
    },
    /// The revision is higher than any given out.
    FutureRevision {
        /// The revision asked for.
        asked: u64,
        /// The newest of the cluster.
        newest: u64,
    },
    /// A position of another epoch; holds the present one.
    EpochChanged {
        /// Epoch of the cluster.
        current: u64,
    },
    /// A watch was too slow and was ended; holds the last complete revision.
    WatchResync {
        /// Revision to resume from.
        revision: u64,
    },
    /// This node does not lead and could not pass the call on; nothing took effect.
    NotLeader,
    /// No majority can be reached from here; nothing took effect.
    NoQuorum,
    /// The write may take effect, now or later, or not at all.
    OutcomeUnknown,
    /// The data here is too old or has not reached the revision asked for.
    TooStale {
        /// Revision of this node.
        revision: u64,
        /// Age of its data; `None` if it is not known.
        staleness: Option<Duration>,
    },
    /// The cluster has not been initialised.
    NotInitialized,
    /// The node cannot serve yet; says why, for people.
    NotReady(String),
    /// The node is shutting down.
    ShuttingDown,
    /// A quota is full.
    QuotaExceeded {
        /// Its name, as in `ClusterSettings`.
        quota: String,
        /// Its limit; `None` if it is not a number (disk space).
        limit: Option<u64>,
        /// Time after which it may have room by itself: a disk that is full.
        retry_after: Option<Duration>,
    },
    /// The node sheds load; says which bound was reached.
    Overloaded {
        /// What is full, for people.
        what: &'static str,
        /// Time to wait, before jitter.
        retry_after: Duration,
    },
    /// This caller sends too much.
    RateLimited {
        /// Time to wait, before jitter.
        retry_after: Duration,
    },
    /// A fault of the registry; says what broke, for its developers.
    Internal(String),
    /// An entry of a batch was refused, and with it the batch (API/B2).
    Entry {
        /// Position of the entry, from 0.
        index: usize,
        /// Why it was refused.
        error: Box<Error>,
    },
    /// Not built yet; says what, for people.
    Unimplemented(&'static str),
    /// What the leader answered to a forwarded call; passed on as it is.
    Answered(Box<Status>),
}

/// Who leads, for the details of an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaderHint {
    /// Name of the leader; empty if none is known.
    pub node_id: String,
    /// Its `HOST:PORT` for clients; empty if none is known.
    pub endpoint: String,
    /// Raft term as this node knows it.
    pub term: u64,
    /// Revision of this node.
    pub revision: u64,
}

impl Error {
    /// A single bad field.
    pub fn field(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::InvalidField(vec![BadField::new(path, problem)])
    }

    /// The reason as the API names it; `None` for what is not one of this node's reasons.
    pub fn reason(&self) -> Option<ErrorReason> {
        Some(match self {
            Self::InvalidField(_) => ErrorReason::InvalidField,
            Self::RequestIdReused => ErrorReason::RequestIdReused,
            Self::RequestSuperseded { .. } => ErrorReason::RequestSuperseded,
            Self::SessionUnknown => ErrorReason::SessionUnknown,
            Self::RegistrationGone => ErrorReason::RegistrationGone,
            Self::InstanceNotFound(_) => ErrorReason::InstanceNotFound,
            Self::LeaseExpired => ErrorReason::LeaseExpired,
            Self::StaleIncarnation { .. } => ErrorReason::StaleIncarnation,
            Self::RevisionCompacted { .. } => ErrorReason::RevisionCompacted,
            Self::FutureRevision { .. } => ErrorReason::FutureRevision,
            Self::EpochChanged { .. } => ErrorReason::EpochChanged,
            Self::WatchResync { .. } => ErrorReason::WatchResync,
            Self::NotLeader => ErrorReason::NotLeader,
            Self::NoQuorum => ErrorReason::NoQuorum,
            Self::OutcomeUnknown => ErrorReason::OutcomeUnknown,
            Self::TooStale { .. } => ErrorReason::TooStale,
            Self::NotInitialized => ErrorReason::NotInitialized,
            Self::NotReady(_) => ErrorReason::NotReady,
            Self::ShuttingDown => ErrorReason::ShuttingDown,
            Self::QuotaExceeded { .. } => ErrorReason::QuotaExceeded,
            Self::Overloaded { .. } => ErrorReason::Overloaded,
            Self::RateLimited { .. } => ErrorReason::RateLimited,
            Self::Internal(_) => ErrorReason::Internal,
            Self::Entry { error, .. } => return error.reason(),
            Self::Answered(status) => return reason_of(status),
            Self::Unimplemented(_) => return None,
        })
    }

    /// The status that tells a client all this. `hint` is what this node knows about the leader.
    pub fn into_status(self, hint: &LeaderHint) -> Status {
        let (index, error) = match self {
            Self::Answered(status) => return *status,
            Self::Unimplemented(what) => return Status::unimplemented(what),
            Self::Entry { index, error } => (Some(index), *error),
            error => (None, error),
        };
        let Some(reason) = error.reason() else { return error.into_status(hint) };
        let mut metadata = error.metadata(reason);
        if let Some(index) = index {
            metadata.insert("index".to_owned(), index.to_string());
        }
        hint.add_to(&mut metadata);
        let mut details = ErrorDetails::with_error_info(reason_name(reason), ERROR_DOMAIN, metadata);
        if let Some(delay) = error.retry_after() {
            details.set_retry_info(Some(delay));
        }
        match &error {
            Self::InvalidField(fields) => add_violations(&mut details, fields),
            Self::QuotaExceeded { quota, .. } => {
                details.add_quota_failure_violation(quota.as_str(), error.to_string());
            }
            _ => {}
        }
        let message = match index {
            Some(index) => format!("entry {index} of the batch: {error}"),
            None => error.to_string(),
        };
        Status::with_error_details(code(reason), shortened(message, MESSAGE_BYTES), details)
    }

    /// Time to wait before a repetition makes sense, where it does.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after, .. } | Self::RateLimited { retry_after } => Some(*retry_after),
            Self::QuotaExceeded { retry_after, .. } => *retry_after,
            // An election takes about half a second; founding takes as long as its slowest node.
            Self::NoQuorum => Some(Duration::from_millis(250)),
            Self::NotInitialized => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    fn metadata(&self, reason: ErrorReason) -> HashMap<String, String> {
        let retry = match self {
            Self::QuotaExceeded { retry_after: Some(_), .. } => RetryClass::Later,
            _ => retry_class(reason),
        };
        let mut pairs = vec![("retry", retry_name(retry).to_owned())];
        match self {
            Self::StaleIncarnation { current } => pairs.push(("current_incarnation", current.to_string())),
            Self::RequestSuperseded { lowest } => pairs.push(("lowest_serial", lowest.to_string())),
            Self::RevisionCompacted { oldest } => pairs.push(("oldest_revision", oldest.to_string())),
            Self::EpochChanged { current } => pairs.push(("epoch", current.to_string())),
            Self::FutureRevision { newest, .. } => pairs.push(("newest_revision", newest.to_string())),
            Self::WatchResync { revision } => pairs.push(("resume_revision", revision.to_string())),
            Self::TooStale { revision, staleness } => {
                pairs.push(("revision", revision.to_string()));
                if let Some(age) = staleness {
                    pairs.push(("staleness_ms", age.as_millis().to_string()));
                }
            }
            Self::QuotaExceeded { quota, limit, .. } => {
                pairs.push(("quota", quota.clone()));
                if let Some(limit) = limit {
                    pairs.push(("limit", limit.to_string()));
                }
            }
            _ => {}
        }
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

impl std::error::Error for Error {}

impl LeaderHint {
    fn add_to(&self, metadata: &mut HashMap<String, String>) {
        if !self.endpoint.is_empty() {
            if self.node_id.len() <= LEADER_ID_BYTES {
                metadata.insert("leader_id".to_owned(), self.node_id.clone());
            }
            metadata.insert("leader_endpoint".to_owned(), self.endpoint.clone());
        }
        if self.term > 0 {
            metadata.insert("term".to_owned(), self.term.to_string());
        }
        if self.revision > 0 {
            metadata.entry("revision".to_owned()).or_insert_with(|| self.revision.to_string());
        }
    }
}

/// The gRPC code of a reason (table of API.md).
pub fn code(reason: ErrorReason) -> Code {
    match reason {
        ErrorReason::InvalidField | ErrorReason::RequestIdReused => Code::InvalidArgument,
        ErrorReason::RequestSuperseded
        | ErrorReason::SessionUnknown
        | ErrorReason::RegistrationGone
        | ErrorReason::StaleIncarnation => Code::FailedPrecondition,
        ErrorReason::InstanceNotFound | ErrorReason::LeaseExpired => Code::NotFound,
        ErrorReason::RevisionCompacted | ErrorReason::FutureRevision | ErrorReason::EpochChanged => {
            Code::OutOfRange
        }
        ErrorReason::WatchResync => Code::Aborted,
        ErrorReason::NotLeader
        | ErrorReason::NoQuorum
        | ErrorReason::TooStale
        | ErrorReason::NotInitialized
        | ErrorReason::NotReady
        | ErrorReason::ShuttingDown => Code::Unavailable,
        ErrorReason::OutcomeUnknown => Code::Unknown,
        ErrorReason::QuotaExceeded | ErrorReason::Overloaded | ErrorReason::RateLimited => {
            Code::ResourceExhausted
        }
        ErrorReason::Unspecified | ErrorReason::Internal => Code::Internal,
    }
}

/// What a client may do after an error of this reason (table of API.md).
pub fn retry_class(reason: ErrorReason) -> RetryClass {
    match reason {
        ErrorReason::SessionUnknown
        | ErrorReason::RegistrationGone
        | ErrorReason::LeaseExpired
        | ErrorReason::RevisionCompacted
        | ErrorReason::EpochChanged
        | ErrorReason::WatchResync => RetryClass::Restart,
        ErrorReason::NotLeader
        | ErrorReason::TooStale
        | ErrorReason::NotReady
        | ErrorReason::ShuttingDown => RetryClass::Elsewhere,
        ErrorReason::NoQuorum
        | ErrorReason::NotInitialized
        | ErrorReason::Overloaded
        | ErrorReason::RateLimited => RetryClass::Later,
        ErrorReason::OutcomeUnknown => RetryClass::SameRequest,
        ErrorReason::Unspecified
        | ErrorReason::InvalidField
        | ErrorReason::RequestIdReused
        | ErrorReason::RequestSuperseded
        | ErrorReason::InstanceNotFound
        | ErrorReason::StaleIncarnation
        | ErrorReason::FutureRevision
        | ErrorReason::QuotaExceeded
        | ErrorReason::Internal => RetryClass::Never,
    }
}

/// The name of a reason as it stands in `ErrorInfo.reason`.
pub fn reason_name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

/// The reason in a status of a node; `None` if it has none or an unknown one.
pub fn reason_of(status: &Status) -> Option<ErrorReason> {
    let info = status.get_details_error_info()?;
    if info.domain != ERROR_DOMAIN {
        return None;
    }
    ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason))
}

fn retry_name(class: RetryClass) -> &'static str {
    let name = class.as_str_name();
    name.strip_prefix("RETRY_CLASS_").unwrap_or(name)
}

/// Adds as many violations as fit, and one that counts the rest.
fn add_violations(details: &mut ErrorDetails, fields: &[BadField]) {
    let mut room = VIOLATION_BYTES;
    for (index, field) in fields.iter().enumerate() {
        let path = shortened(field.path.clone(), 96);
        let problem = shortened(field.problem.clone(), 120);
        // Six bytes of tags and lengths each.
        let size = path.len() + problem.len() + 6;
        if size > room {
            let rest = fields.len() - index;
            details.add_bad_request_violation("...", format!("and {rest} more"));
            return;
        }
        room -= size;
        details.add_bad_request_violation(path, problem);
    }
}

/// At most `limit` bytes of a text, with a mark where it was cut.
fn shortened(mut text: String, limit: usize) -> String {
    const MARK: &str = "...";
    if text.len() > limit {
        let mut end = limit - MARK.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(MARK);
    }
    text
}
