//! What is said about each failure.

use std::collections::HashMap;
use std::time::Duration;

use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;

fn refused(code: Code, reason: &str, message: &str, metadata: &[(&str, &str)]) -> registry_client::Error {
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let details = ErrorDetails::with_error_info(reason, "registry.dev", metadata);
    registry_client::Error::from_status(&Status::with_error_details(code, message, details))
}

/// Code, reason, metadata, and the hint expected.
type Case = (Code, &'static str, &'static [(&'static str, &'static str)], &'static str);

/// One line per reason: what people read. A change here is a change of what they see.
#[test]
fn every_reason_says_what_to_do_next() {
    use Code::*;
    let cases: [Case; 23] = [
        (InvalidArgument, "INVALID_FIELD", &[], ""),
        (InvalidArgument, "REQUEST_ID_REUSED", &[], "run the command again"),
        (FailedPrecondition, "REQUEST_SUPERSEDED", &[], "run the command again"),
        (FailedPrecondition, "SESSION_UNKNOWN", &[], "run the command again"),
        (FailedPrecondition, "REGISTRATION_GONE", &[], "run the command again"),
        (NotFound, "INSTANCE_NOT_FOUND", &[], "register it first, or check name and --namespace"),
        (NotFound, "LEASE_EXPIRED", &[], "`register` begins a new lease"),
        (
            FailedPrecondition,
            "STALE_INCARNATION",
            &[("current_incarnation", "14")],
            "without --incarnation, `register` takes it over",
        ),
        (
            OutOfRange,
            "REVISION_COMPACTED",
            &[("oldest_revision", "9")],
            "begin at revision 9 or later, or without --from",
        ),
        (
            OutOfRange,
            "FUTURE_REVISION",
            &[],
            "the revision is from elsewhere: leave --min-revision or --from out",
        ),
        (OutOfRange, "EPOCH_CHANGED", &[], "the revision is of another history: begin without it"),
        (Aborted, "WATCH_RESYNC", &[], "resume from the last revision and read faster"),
        (Unavailable, "NOT_LEADER", &[("leader_endpoint", "h:8081")], "ask the leader: --endpoints h:8081"),
        (Unavailable, "NO_QUORUM", &[], "try again later, or read what this node knows with --stale"),
        (Unknown, "OUTCOME_UNKNOWN", &[], "it may have taken effect: look with `discover` before repeating"),
        (
            Unavailable,
            "TOO_STALE",
            &[],
            "ask another node with --endpoints, or allow older data with --max-staleness",
        ),
        (
            Unavailable,
            "NOT_INITIALIZED",
            &[],
            "wait until the cluster is founded; `status` shows its members",
        ),
        (Unavailable, "NOT_READY", &[], "ask another node with --endpoints, or try again"),
        (Unavailable, "SHUTTING_DOWN", &[], "ask another node with --endpoints, or try again"),
        (ResourceExhausted, "QUOTA_EXCEEDED", &[], "remove something, or have the quota raised"),
        (ResourceExhausted, "OVERLOADED", &[], "try again later"),
        (ResourceExhausted, "RATE_LIMITED", &[], "try again later"),
        (Internal, "INTERNAL", &[], "please report it; the log of the node tells more"),
    ];
    for (code, reason, metadata, hint) in cases {
        let error = Error::of_call("try", &refused(code, reason, "the words of the registry", metadata));
        let tail = if hint.is_empty() { String::new() } else { format!("; {hint}") };
        assert_eq!(error.to_string(), format!("cannot try: the words of the registry ({reason}){tail}"));
        assert_eq!(error.code, code_name(code));
        let known = ErrorReason::from_str_name(&format!("ERROR_REASON_{reason}")).unwrap();
        assert_eq!(error.exit, Exit::of_reason(known), "{reason}");
    }
}

#[test]
fn a_time_to_wait_is_named() {
    let mut details =
        ErrorDetails::with_error_info("OVERLOADED", "registry.dev", HashMap::<String, String>::new());
    details.set_retry_info(Some(Duration::from_millis(250)));
    let status = Status::with_error_details(Code::ResourceExhausted, "too much to do", details);
    let error = Error::of_call("try", &registry_client::Error::from_status(&status));
    assert_eq!(error.to_string(), "cannot try: too much to do (OVERLOADED); try again in 250 ms");
}

#[test]
fn every_bad_field_is_named_on_one_line_and_in_the_object() {
    let mut details =
        ErrorDetails::with_error_info("INVALID_FIELD", "registry.dev", HashMap::<String, String>::new());
    details.add_bad_request_violation("port", "must be 1 to 65535");
    details.add_bad_request_violation("ports[grpc].port", "must not be 0");
    let status = Status::with_error_details(Code::InvalidArgument, "2 fields are not valid", details);
    let error = Error::of_call("register orders/h:0", &registry_client::Error::from_status(&status));
    assert_eq!(
        error.to_string(),
        "cannot register orders/h:0: 2 fields are not valid: port: must be 1 to 65535, ports[grpc].port: \
         must not be 0 (INVALID_FIELD)"
    );
    assert_eq!(error.exit.code(), 2);
    let object: serde_json::Value = serde_json::from_str(&error.json()).unwrap();
    let expected = serde_json::json!({"error": {
        "action": "register orders/h:0",
        "code": "INVALID_ARGUMENT",
        "reason": "INVALID_FIELD",
        "message": "2 fields are not valid",
        "fields": {"port": "must be 1 to 65535", "ports[grpc].port": "must not be 0"},
        "exitCode": 2
    }});
    assert_eq!(object, expected);
}

#[test]
fn a_server_that_does_not_know_a_call_is_named_old() {
    let error =
        Error::of_call("try", &registry_client::Error::from_status(&Status::unimplemented("no such call")));
    assert_eq!(
        error.to_string(),
        "cannot try: no such call; the registry does not offer this; is it of an older version?"
    );
    assert_eq!(error.exit.code(), 1);
}

#[test]
fn the_words_of_a_server_cannot_move_the_cursor() {
    let status = Status::internal("a\nb\x1b[2Jc");
    let error = Error::of_call("try", &registry_client::Error::from_status(&status));
    assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
}

#[test]
fn a_reader_that_has_gone_away_is_no_failure() {
    let gone = Error::output(&io::Error::from(io::ErrorKind::BrokenPipe));
    assert_eq!(gone.exit.code(), 0);
    let full = Error::output(&io::Error::from(io::ErrorKind::StorageFull));
    assert_eq!(full.exit.code(), 1);
}
