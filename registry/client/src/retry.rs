//! What to do after a failed attempt (API.md, table of errors). Pure.

use std::time::Duration;

use registry_proto::v1::{ErrorReason as Reason, RetryClass};
use tonic::Code;

use crate::error::Error;
use crate::rpc::Kind;

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Tell the caller.
    Return,
    /// Ask a node that has not been asked in this pass, at once.
    Elsewhere,
    /// Wait at least so long, then ask any node.
    Later(Duration),
    /// Begin anew with another client name.
    NewSession,
    /// The revision that the client wanted to see is of another history: ask without it.
    ForgetPosition,
}

/// What is known about a call beside its last error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempted {
    /// What repeating it does.
    pub(crate) kind: Kind,
    /// An earlier attempt may have taken effect.
    pub(crate) uncertain: bool,
    /// The request id is the library's own.
    pub(crate) own_id: bool,
    /// The library, not the caller, asked for a revision.
    pub(crate) own_floor: bool,
}

/// What comes next, and whether the call may have taken effect by now.
pub(crate) fn next_step(attempted: Attempted, error: &Error) -> (Step, bool) {
    match attempted.kind {
        Kind::Write => after_write(attempted, error),
        Kind::Read | Kind::Renewal => (after_read(attempted, error), false),
    }
}

fn after_write(attempted: Attempted, error: &Error) -> (Step, bool) {
    let before = attempted.uncertain;
    if error.is_not_sent() {
        return (Step::Elsewhere, before);
    }
    if error.is_lost() {
        return (Step::Elsewhere, true);
    }
    match error.reason() {
        Some(Reason::OutcomeUnknown) => (Step::Elsewhere, true),
        // On a repetition the registry has forgotten what the first attempt did.
        Some(Reason::SessionUnknown) if before || !attempted.own_id => (Step::Return, before),
        Some(Reason::SessionUnknown) => (Step::NewSession, false),
        Some(Reason::RequestSuperseded | Reason::Internal) => (Step::Return, true),
        // Decided before the log: says nothing about an earlier attempt.
        Some(Reason::InvalidField | Reason::QuotaExceeded) if error.retry_class() != RetryClass::Later => {
            (Step::Return, before)
        }
        Some(_) => match by_class(error) {
            // The registry looked the outcome up, or decided in the log: nothing is uncertain any more.
            Step::Return => (Step::Return, false),
            step => (step, before),
        },
        // A proxy or the HTTP/2 server spoke, before or after the registry saw the write.
        None => match error.code() {
            Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Unknown | Code::Aborted => {
                (Step::Elsewhere, true)
            }
            Code::ResourceExhausted => (by_class(error), before),
            Code::Internal | Code::DataLoss => (Step::Return, true),
            _ => (Step::Return, before),
        },
    }
}

fn after_read(attempted: Attempted, error: &Error) -> Step {
    match error.reason() {
        Some(Reason::EpochChanged | Reason::FutureRevision) if attempted.own_floor => Step::ForgetPosition,
        _ => by_class(error),
    }
}

fn by_class(error: &Error) -> Step {
    match error.retry_class() {
        RetryClass::Elsewhere | RetryClass::SameRequest => Step::Elsewhere,
        // The lonely node knows no majority; another may.
        RetryClass::Later if matches!(error.reason(), Some(Reason::NoQuorum | Reason::NotInitialized)) => {
            Step::Elsewhere
        }
        RetryClass::Later => Step::Later(error.retry_after().unwrap_or_default()),
        RetryClass::Never | RetryClass::Restart | RetryClass::Unspecified => Step::Return,
    }
}

/// True if a write with this error certainly did not reach the log, so that its serial is free again
/// (comment of `RequestId.serial`).
pub(crate) fn frees_serial(error: &Error) -> bool {
    if error.is_not_sent() {
        return true;
    }
    // Where waiting helps, a disk is full, which is found before the log; a quota is counted in it.
    if error.is(Reason::QuotaExceeded) {
        return error.retry_class() == RetryClass::Later;
    }
    matches!(
        error.reason(),
        Some(
            Reason::InvalidField
                | Reason::NotLeader
                | Reason::NoQuorum
                | Reason::NotReady
                | Reason::NotInitialized
                | Reason::Overloaded
        )
    )
}

#[cfg(test)]
mod tests {
    use registry_proto::ERROR_DOMAIN;
    use tonic::Status;
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    fn refused(code: Code, reason: &str) -> Error {
        let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, []);
        Error::from_status(&Status::with_error_details(code, "refused", details))
    }

    fn write(uncertain: bool) -> Attempted {
        Attempted { kind: Kind::Write, uncertain, own_id: true, own_floor: false }
    }

    fn read() -> Attempted {
        Attempted { kind: Kind::Read, uncertain: false, own_id: false, own_floor: true }
    }

    #[test]
    fn a_write_whose_answer_is_lost_is_repeated_and_stays_uncertain() {
        let lost = Error::no_answer(Duration::from_secs(1));
        assert_eq!(next_step(write(false), &lost), (Step::Elsewhere, true));
        let no_quorum = refused(Code::Unavailable, "NO_QUORUM");
        assert_eq!(next_step(write(true), &no_quorum), (Step::Elsewhere, true));
        assert_eq!(next_step(write(false), &no_quorum), (Step::Elsewhere, false));
    }

    #[test]
    fn an_unknown_session_is_begun_anew_only_before_anything_may_have_happened() {
        let error = refused(Code::FailedPrecondition, "SESSION_UNKNOWN");
        assert_eq!(next_step(write(false), &error), (Step::NewSession, false));
        assert_eq!(next_step(write(true), &error), (Step::Return, true));
        assert_eq!(next_step(Attempted { own_id: false, ..write(false) }, &error), (Step::Return, false));
    }

    #[test]
    fn a_superseded_write_is_uncertain_and_a_decided_one_is_not() {
        let superseded = refused(Code::FailedPrecondition, "REQUEST_SUPERSEDED");
        assert_eq!(next_step(write(true), &superseded), (Step::Return, true));
        let stale = refused(Code::FailedPrecondition, "STALE_INCARNATION");
        assert_eq!(next_step(write(true), &stale), (Step::Return, false));
        let invalid = refused(Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(next_step(write(true), &invalid), (Step::Return, true));
    }

    #[test]
    fn reads_are_repeated_where_the_table_says_so() {
        for (code, reason, expected) in [
            (Code::Unavailable, "NOT_READY", Step::Elsewhere),
            (Code::Unavailable, "SHUTTING_DOWN", Step::Elsewhere),
            (Code::Unavailable, "TOO_STALE", Step::Elsewhere),
            (Code::ResourceExhausted, "OVERLOADED", Step::Later(Duration::ZERO)),
            (Code::InvalidArgument, "INVALID_FIELD", Step::Return),
            (Code::OutOfRange, "EPOCH_CHANGED", Step::ForgetPosition),
            (Code::Internal, "INTERNAL", Step::Return),
        ] {
            assert_eq!(next_step(read(), &refused(code, reason)).0, expected, "{reason}");
        }
        let epoch = refused(Code::OutOfRange, "EPOCH_CHANGED");
        assert_eq!(next_step(Attempted { own_floor: false, ..read() }, &epoch).0, Step::Return);
    }

    #[test]
    fn overload_and_a_full_disk_are_waited_for_as_long_as_they_say() {
        for (reason, wait) in
            [("OVERLOADED", Duration::from_millis(750)), ("QUOTA_EXCEEDED", Duration::from_secs(30))]
        {
            let mut details = ErrorDetails::with_error_info(
                reason,
                ERROR_DOMAIN,
                [("retry".to_owned(), "LATER".to_owned())],
            );
            details.set_retry_info(Some(wait));
            let status = Status::with_error_details(Code::ResourceExhausted, "refused", details);
            let error = Error::from_status(&status);
            assert_eq!(next_step(write(false), &error), (Step::Later(wait), false), "{reason}");
            assert_eq!(next_step(write(true), &error), (Step::Later(wait), true), "{reason}");
        }
        let quota = refused(Code::ResourceExhausted, "QUOTA_EXCEEDED");
        assert_eq!(next_step(write(false), &quota).0, Step::Return, "a quota is not raised by waiting");
    }

    #[test]
    fn only_refusals_before_the_log_free_a_serial() {
        assert!(frees_serial(&refused(Code::Unavailable, "NO_QUORUM")));
        assert!(!frees_serial(&refused(Code::Unknown, "OUTCOME_UNKNOWN")));
        assert!(!frees_serial(&refused(Code::ResourceExhausted, "QUOTA_EXCEEDED")), "counted in the log");
        assert!(!frees_serial(&refused(Code::FailedPrecondition, "STALE_INCARNATION")));
        assert!(!frees_serial(&Error::no_answer(Duration::from_secs(1))));
    }
}
