//! Exit codes: what scripts may rely on.

use std::process::ExitCode;

use registry_proto::v1::ErrorReason;
use tonic::Code;

/// How the program ends. Documented in `--help` and `docs/registryctl.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Success,
    /// The call failed for a reason without a code of its own.
    Failure,
    /// The command line or a value in it is wrong.
    Usage,
    /// The instance, lease, service or member is not there.
    NotFound,
    /// Nobody can answer now; later or elsewhere the same call may succeed.
    Unavailable,
    /// The registry has decided against it.
    Refused,
    /// A write may or may not have taken effect.
    Unknown,
    /// Done, but not everybody is known to have heard of it.
    Incomplete,
    /// No answer within `--timeout`.
    Timeout,
    /// What the program that `run` started returned.
    Child(u8),
}

/// The table of `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done
  1    the call failed for another reason
  2    wrong usage: a flag or value is not accepted, here or by the registry
  3    not found: the instance, lease, service or member is not there
  4    unavailable: no connection, no quorum, overloaded; try again
  5    refused: another owner, a quota, a token, a revision or version that does not fit
  6    outcome unknown: the write may have taken effect; look before repeating
  7    incomplete: the drain is set, but not every watcher is known to have been told
  124  no answer within --timeout
`run` returns the code of the program it ran; see `run --help`.";

/// The table of `run --help`.
pub(crate) const RUN_HELP: &str = "\
On SIGTERM or SIGINT: the instance drains (watchers leave), the program gets the same signal, and after
its end the instance is deregistered. A second signal kills the program at once.

Exit codes:
  that of the program once it has ended; 128 + N if signal N ended it
  126, 127   the program cannot be executed, is not there
  124        the program did not accept connections within --start-timeout
  1 to 6     the registration was refused; the program was not started";

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Unavailable => 4,
            Self::Refused => 5,
            Self::Unknown => 6,
            Self::Incomplete => 7,
            Self::Timeout => 124,
            Self::Child(code) => code,
        }
    }

    /// For an error that names its reason.
    pub(crate) fn of_reason(reason: ErrorReason) -> Self {
        use ErrorReason::*;
        match reason {
            InvalidField => Self::Usage,
            InstanceNotFound | LeaseExpired => Self::NotFound,
            NotLeader | NoQuorum | TooStale | NotInitialized | NotReady | ShuttingDown | Overloaded
            | RateLimited => Self::Unavailable,
            RequestIdReused | RequestSuperseded | SessionUnknown | RegistrationGone | StaleIncarnation
            | RevisionCompacted | FutureRevision | EpochChanged | WatchResync | QuotaExceeded => {
                Self::Refused
            }
            OutcomeUnknown => Self::Unknown,
            Internal | Unspecified => Self::Failure,
        }
    }

    /// For an error without a reason that is known here.
    pub(crate) fn of_code(code: Code) -> Self {
        match code {
            Code::Ok => Self::Success,
            Code::InvalidArgument => Self::Usage,
            Code::NotFound => Self::NotFound,
            Code::Unavailable | Code::ResourceExhausted => Self::Unavailable,
            Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Aborted
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated => Self::Refused,
            Code::Unknown => Self::Unknown,
            Code::DeadlineExceeded => Self::Timeout,
            Code::Cancelled | Code::Internal | Code::Unimplemented | Code::DataLoss => Self::Failure,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_exit_code() {
        let expected = [
            ("INVALID_FIELD", 2),
            ("REQUEST_ID_REUSED", 5),
            ("REQUEST_SUPERSEDED", 5),
            ("SESSION_UNKNOWN", 5),
            ("REGISTRATION_GONE", 5),
            ("INSTANCE_NOT_FOUND", 3),
            ("LEASE_EXPIRED", 3),
            ("STALE_INCARNATION", 5),
            ("REVISION_COMPACTED", 5),
            ("FUTURE_REVISION", 5),
            ("EPOCH_CHANGED", 5),
            ("WATCH_RESYNC", 5),
            ("NOT_LEADER", 4),
            ("NO_QUORUM", 4),
            ("OUTCOME_UNKNOWN", 6),
            ("TOO_STALE", 4),
            ("NOT_INITIALIZED", 4),
            ("NOT_READY", 4),
            ("SHUTTING_DOWN", 4),
            ("QUOTA_EXCEEDED", 5),
            ("OVERLOADED", 4),
            ("RATE_LIMITED", 4),
            ("INTERNAL", 1),
        ];
        for (name, code) in expected {
            let reason = ErrorReason::from_str_name(&format!("ERROR_REASON_{name}")).unwrap();
            assert_eq!(Exit::of_reason(reason).code(), code, "{name}");
        }
        let known = (1..=100).filter(|number| ErrorReason::try_from(*number).is_ok()).count();
        assert_eq!(expected.len(), known, "a reason is missing above");
    }

    #[test]
    fn codes_without_a_reason_are_told_apart_too() {
        let expected = [
            (Code::Ok, 0),
            (Code::Internal, 1),
            (Code::Unimplemented, 1),
            (Code::InvalidArgument, 2),
            (Code::NotFound, 3),
            (Code::Unavailable, 4),
            (Code::ResourceExhausted, 4),
            (Code::FailedPrecondition, 5),
            (Code::PermissionDenied, 5),
            (Code::Unknown, 6),
            (Code::DeadlineExceeded, 124),
        ];
        for (code, exit) in expected {
            assert_eq!(Exit::of_code(code).code(), exit, "{code:?}");
        }
    }

    #[test]
    fn the_child_speaks_for_itself() {
        assert_eq!(Exit::Child(143).code(), 143);
    }
}
