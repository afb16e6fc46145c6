//! Why a call failed and what may be done about it.

use std::fmt;
use std::time::Duration;

use registry_proto::v1::{ErrorReason, RetryClass};
use registry_proto::{ERROR_DOMAIN, INTERNAL_ERROR_DOMAIN};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::transport::TransportError;

/// A call that did not succeed, after all repetitions that its time allowed.
///
/// The closed set of reasons and what each means is in `ErrorReason` of `registry/v1/types.proto`.
#[derive(Clone)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Clone)]
struct Inner {
    code: Code,
    reason: Option<ErrorReason>,
    retry: RetryClass,
    transport: Option<TransportError>,
    outcome_unknown: bool,
    leader: Option<String>,
    retry_after: Option<Duration>,
    fields: Vec<BadField>,
    metadata: Vec<(String, String)>,
    endpoint: Option<String>,
    message: String,
}

/// A field that the registry refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadField {
    /// Its path, as in `ports[grpc].port`.
    pub field: String,
    /// The rule that it breaks.
    pub description: String,
}

impl Error {
    /// Reads a status, as it came from a node or from the transport.
    pub fn from_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details
            .error_info()
            .filter(|info| info.domain == ERROR_DOMAIN || info.domain == INTERNAL_ERROR_DOMAIN);
        let reason =
            info.and_then(|info| ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason)));
        let transport = TransportError::of(status).or_else(|| {
            // A server's answer has no source: this status was made on our side, after sending.
            std::error::Error::source(status).map(|_| TransportError::Lost)
        });
        let given = info
            .and_then(|info| info.metadata.get("retry"))
            .and_then(|class| RetryClass::from_str_name(&format!("RETRY_CLASS_{class}")));
        let retry = given.unwrap_or_else(|| match (reason, transport) {
            (Some(reason), _) => class_of(reason),
            (None, Some(_)) => RetryClass::Elsewhere,
            (None, None) => class_of_code(status.code()),
        });
        let metadata: Vec<_> = info
            .map(|info| info.metadata.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
            .unwrap_or_default();
        let leader = metadata
            .iter()
            .find(|(key, value)| key == "leader_endpoint" && !value.is_empty())
            .map(|(_, value)| value.clone());
        let fields = details
            .bad_request()
            .map(|bad| {
                let field = |violation: &tonic_types::FieldViolation| BadField {
                    field: violation.field.clone(),
                    description: violation.description.clone(),
                };
                bad.field_violations.iter().map(field).collect()
            })
            .unwrap_or_default();
        Self {
            inner: Box::new(Inner {
                code: status.code(),
                reason,
                retry,
                transport,
                outcome_unknown: reason == Some(ErrorReason::OutcomeUnknown),
                leader,
                retry_after: details.retry_info().and_then(|info| info.retry_delay),
                fields,
                metadata,
                endpoint: None,
                message: status.message().to_owned(),
            }),
        }
    }

    fn local(code: Code, retry: RetryClass, transport: Option<TransportError>, message: String) -> Self {
        Self {
            inner: Box::new(Inner {
                code,
                reason: None,
                retry,
                transport,
                outcome_unknown: false,
                leader: None,
                retry_after: None,
                fields: Vec::new(),
                metadata: Vec::new(),
                endpoint: None,
                message,
            }),
        }
    }

    /// No node could be reached in time; nothing was sent.
    pub(crate) fn unreachable(message: String) -> Self {
        Self::local(Code::Unavailable, RetryClass::Later, Some(TransportError::NotSent), message)
    }

    /// The node did not answer in time.
    pub(crate) fn no_answer(after: Duration) -> Self {
        let message = format!("no answer within {} ms", after.as_millis());
        Self::local(Code::DeadlineExceeded, RetryClass::Elsewhere, Some(TransportError::Lost), message)
    }

    /// The caller's use of the library was wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::local(Code::InvalidArgument, RetryClass::Never, None, message.into())
    }

    /// The stream broke a rule of the protocol; another node may do better.
    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::local(Code::Internal, RetryClass::Elsewhere, None, message.into())
    }

    /// A stream said itself why it ends.
    pub(crate) fn ended(reason: ErrorReason, message: &str) -> Self {
        let mut error = Self::local(Code::Unavailable, class_of(reason), None, message.to_owned());
        error.inner.reason = Some(reason);
        error
    }

    pub(crate) fn at(mut self, endpoint: &str) -> Self {
        self.inner.endpoint = Some(endpoint.to_owned());
        self
    }

    pub(crate) fn with_outcome_unknown(mut self, unknown: bool) -> Self {
        self.inner.outcome_unknown |= unknown;
        self
    }

    /// The registry's reason; `None` if it gave none or one that this library does not know.
    pub fn reason(&self) -> Option<ErrorReason> {
        self.inner.reason
    }

    /// True if the registry gave this reason.
    pub fn is(&self, reason: ErrorReason) -> bool {
        self.inner.reason == Some(reason)
    }

    /// What a caller may do. The library has done it already, as far as time allowed.
    pub fn retry_class(&self) -> RetryClass {
        self.inner.retry
    }

    /// The gRPC code.
    pub fn code(&self) -> Code {
        self.inner.code
    }

    /// True if the call is a write that may have taken effect, may do so later, or not at all. Read
    /// before deciding anything.
    pub fn is_outcome_unknown(&self) -> bool {
        self.inner.outcome_unknown
    }

    /// True if no node answered: the network or all nodes are down, or the time was too short.
    pub fn is_unreachable(&self) -> bool {
        self.inner.transport.is_some()
    }

    /// True if nothing of the last attempt was sent.
    pub fn is_not_sent(&self) -> bool {
        self.inner.transport == Some(TransportError::NotSent)
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.inner.transport == Some(TransportError::Lost)
    }

    /// HOST:PORT of the leader, if the node that refused knew it.
    pub fn leader_endpoint(&self) -> Option<&str> {
        self.inner.leader.as_deref()
    }

    /// Time to wait before another try, if the registry gave one.
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after
    }

    /// The fields that the registry refused.
    pub fn bad_fields(&self) -> &[BadField] {
        &self.inner.fields
    }

    /// A detail of the reason, such as `current_incarnation`, `oldest_revision` or `quota`.
    pub fn detail(&self, key: &str) -> Option<&str> {
        self.inner.metadata.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// HOST:PORT of the node that gave the last answer.
    pub fn endpoint(&self) -> Option<&str> {
        self.inner.endpoint.as_deref()
    }

    /// The message, for people.
    pub fn message(&self) -> &str {
        &self.inner.message
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::from_status(&status)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.inner.reason {
            Some(reason) => write!(f, "{}", reason.as_str_name().trim_start_matches("ERROR_REASON_"))?,
            None => write!(f, "{:?}", self.inner.code)?,
        }
        write!(f, ": {}", self.inner.message)?;
        for bad in &self.inner.fields {
            if !self.inner.message.contains(&bad.field) {
                write!(f, "; {}: {}", bad.field, bad.description)?;
            }
        }
        if let Some(endpoint) = &self.inner.endpoint {
            write!(f, " (asked {endpoint})")?;
        }
        if self.inner.outcome_unknown {
            write!(f, " (the write may have taken effect: read before repeating it)")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({self}; retry {:?})", self.inner.retry)
    }
}

impl std::error::Error for Error {}

/// The retry class of each reason (API.md, table of errors), for answers that do not name it.
fn class_of(reason: ErrorReason) -> RetryClass {
    use ErrorReason as R;
    match reason {
        R::SessionUnknown
        | R::RegistrationGone
        | R::LeaseExpired
        | R::RevisionCompacted
        | R::EpochChanged
        | R::WatchResync => RetryClass::Restart,
        R::NotLeader | R::TooStale | R::NotReady | R::ShuttingDown => RetryClass::Elsewhere,
        R::NoQuorum | R::NotInitialized | R::Overloaded | R::RateLimited => RetryClass::Later,
        R::OutcomeUnknown => RetryClass::SameRequest,
        R::Unspecified
        | R::InvalidField
        | R::RequestIdReused
        | R::RequestSuperseded
        | R::InstanceNotFound
        | R::StaleIncarnation
        | R::FutureRevision
        | R::QuotaExceeded
        | R::Internal => RetryClass::Never,
    }
}

/// What a status without a reason means: a proxy or the HTTP/2 server itself spoke.
fn class_of_code(code: Code) -> RetryClass {
    match code {
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Aborted => RetryClass::Elsewhere,
        Code::ResourceExhausted => RetryClass::Later,
        _ => RetryClass::Never,
    }
}
