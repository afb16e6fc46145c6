//! What went wrong: one line for people, one object for scripts.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::ops::Deref;

use registry_proto::v1::ErrorReason;
use serde::Serialize;
use tonic::Code;

use crate::exit::Exit;
use crate::output::human;
use crate::output::text::clean;

/// A failed command. Displayed as `cannot register orders/…: no majority … (NO_QUORUM); try again …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Error(Box<Report>);

/// Everything known about a failed command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// What was tried, as in "register orders/127.0.0.1:7001".
    pub(crate) action: String,
    /// gRPC code such as "UNAVAILABLE"; empty if no call was made.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) code: &'static str,
    /// Reason of the API such as "NO_QUORUM"; empty if the registry gave none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) reason: &'static str,
    /// What happened, in words.
    pub(crate) message: String,
    /// Bad fields with what is wrong about each.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) fields: BTreeMap<String, String>,
    /// What the registry added: leader_endpoint, current_incarnation, oldest_revision, …
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: BTreeMap<String, String>,
    /// What to do next.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) hint: String,
    /// How the program ends.
    #[serde(rename = "exitCode", serialize_with = "exit_number")]
    pub(crate) exit: Exit,
}

fn exit_number<S: serde::Serializer>(exit: &Exit, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(exit.code())
}

impl Deref for Error {
    type Target = Report;

    fn deref(&self) -> &Report {
        &self.0
    }
}

impl Error {
    /// A failure that no call had part in.
    pub(crate) fn new(
        exit: Exit,
        action: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self(Box::new(Report {
            action: action.into(),
            code: "",
            reason: "",
            message: message.into(),
            fields: BTreeMap::new(),
            metadata: BTreeMap::new(),
            hint: hint.into(),
            exit,
        }))
    }

    /// A failure of which more is known than a client of the public API can tell.
    pub(crate) fn reported(report: Report) -> Self {
        Self(Box::new(report))
    }

    /// What is known of it.
    pub(crate) fn into_report(self) -> Report {
        *self.0
    }

    /// Output that cannot be written.
    ///
    /// A reader that has gone away (`| head`) has what it wanted: that is no failure.
    pub(crate) fn output(error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::BrokenPipe => Exit::Success,
            _ => Exit::Failure,
        };
        Self::new(exit, "print the result", error.to_string(), "")
    }

    /// A failed call.
    pub(crate) fn of_call(action: impl Into<String>, error: &registry_client::Error) -> Self {
        let reason = error.reason();
        let metadata = DETAILS
            .iter()
            .filter_map(|key| error.detail(key).map(|value| ((*key).to_owned(), clean(value))))
            .collect();
        let fields =
            error.bad_fields().iter().map(|bad| (clean(&bad.field), clean(&bad.description))).collect();
        let exit = if error.is_outcome_unknown() {
            Exit::Unknown
        } else {
            reason.map_or_else(|| Exit::of_code(error.code()), Exit::of_reason)
        };
        Self(Box::new(Report {
            action: action.into(),
            code: code_name(error.code()),
            reason: reason.map(reason_name).unwrap_or_default(),
            message: message(error),
            fields,
            metadata,
            hint: hint(error),
            exit,
        }))
    }

    /// The object for `-o json`.
    pub(crate) fn json(&self) -> String {
        #[derive(Serialize)]
        struct Object<'a> {
            error: &'a Report,
        }
        // Strings and numbers only, so there is nothing that JSON could not hold.
        serde_json::to_string_pretty(&Object { error: &self.0 }).unwrap_or_else(|_| self.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.action, self.message)?;
        let mut separator = ": ";
        for (field, problem) in &self.fields {
            // The registry's message may hold the fields already.
            if !self.message.contains(problem.as_str()) {
                write!(f, "{separator}{field}: {problem}")?;
                separator = ", ";
            }
        }
        if !self.reason.is_empty() {
            write!(f, " ({})", self.reason)?;
        }
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

impl StdError for Error {}

/// What `ErrorInfo.metadata` may hold that helps a caller.
const DETAILS: [&str; 10] = [
    "leader_id",
    "leader_endpoint",
    "term",
    "revision",
    "index",
    "current_incarnation",
    "oldest_revision",
    "staleness_ms",
    "quota",
    "limit",
];

fn reason_name(reason: ErrorReason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}

fn message(error: &registry_client::Error) -> String {
    let text = clean(error.message());
    let text = match (error.code(), text.is_empty()) {
        (_, false) => text,
        (Code::DeadlineExceeded, true) => "no answer in time".to_owned(),
        (code, true) => code.description().to_owned(),
    };
    match error.endpoint() {
        Some(endpoint) if !text.contains(endpoint) => format!("{text} (asked {endpoint})"),
        _ => text,
    }
}

/// What to do about a failed call, after the table of errors of the API.
fn hint(error: &registry_client::Error) -> String {
    use ErrorReason::*;
    if error.is_outcome_unknown() {
        return "it may have taken effect: look with `discover` before repeating".to_owned();
    }
    let later = || match error.retry_after() {
        Some(wait) => format!("try again in {}", human::duration(wait, human::Round::Fine)),
        None => "try again later".to_owned(),
    };
    let Some(reason) = error.reason() else { return hint_by_code(error) };
    match reason {
        NotLeader => match error.leader_endpoint() {
            Some(endpoint) => format!("ask the leader: --endpoints {}", clean(endpoint)),
            None => "try again, or name more nodes with --endpoints".to_owned(),
        },
        NoQuorum => format!("{}, or read what this node knows with --stale", later()),
        TooStale => "ask another node with --endpoints, or allow older data with --max-staleness".to_owned(),
        NotInitialized => "wait until the cluster is founded; `status` shows its members".to_owned(),
        NotReady | ShuttingDown => "ask another node with --endpoints, or try again".to_owned(),
        Overloaded | RateLimited => later(),
        OutcomeUnknown => "it may have taken effect: look with `discover` before repeating".to_owned(),
        InstanceNotFound => "register it first, or check name and --namespace".to_owned(),
        LeaseExpired => "`register` begins a new lease".to_owned(),
        StaleIncarnation => "without --incarnation, `register` takes it over".to_owned(),
        RevisionCompacted => match error.detail("oldest_revision") {
            Some(oldest) => format!("begin at revision {} or later, or without --from", clean(oldest)),
            None => "begin without --from".to_owned(),
        },
        FutureRevision => "the revision is from elsewhere: leave --min-revision or --from out".to_owned(),
        EpochChanged => "the revision is of another history: begin without it".to_owned(),
        WatchResync => "resume from the last revision and read faster".to_owned(),
        QuotaExceeded if error.retry_after().is_some() => later(),
        QuotaExceeded => "remove something, or have the quota raised".to_owned(),
        Internal => "please report it; the log of the node tells more".to_owned(),
        RegistrationGone | SessionUnknown | RequestSuperseded | RequestIdReused => {
            "run the command again".to_owned()
        }
        InvalidField | Unspecified => String::new(),
    }
}

fn hint_by_code(error: &registry_client::Error) -> String {
    let text = match error.code() {
        _ if error.is_not_sent() => "is the registry running there? Name its nodes with --endpoints",
        Code::DeadlineExceeded => "allow more with --timeout, or ask another node with --endpoints",
        Code::Unavailable => "is the registry running there? Name its nodes with --endpoints",
        Code::Unimplemented => "the registry does not offer this; is it of an older version?",
        _ => "",
    };
    text.to_owned()
}

/// The name of a code as the gRPC specification writes it.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod error_test;
