use super::*;

fn hint() -> LeaderHint {
    LeaderHint { node_id: "registry-node-2".into(), endpoint: "10.0.0.2:8080".into(), term: 7, revision: 42 }
}

/// Every error of this node with its line of the table in API.md.
fn table() -> Vec<(Error, &'static str, Code, &'static str)> {
    let second = Duration::from_secs(1);
    let quota = |retry_after| Error::QuotaExceeded { quota: "instances".into(), limit: Some(5), retry_after };
    vec![
        (Error::field("port", "is required"), "INVALID_FIELD", Code::InvalidArgument, "NEVER"),
        (Error::RequestIdReused, "REQUEST_ID_REUSED", Code::InvalidArgument, "NEVER"),
        (Error::RequestSuperseded { lowest: 9 }, "REQUEST_SUPERSEDED", Code::FailedPrecondition, "NEVER"),
        (Error::SessionUnknown, "SESSION_UNKNOWN", Code::FailedPrecondition, "RESTART"),
        (Error::RegistrationGone, "REGISTRATION_GONE", Code::FailedPrecondition, "RESTART"),
        (Error::InstanceNotFound("default/a/b:1".into()), "INSTANCE_NOT_FOUND", Code::NotFound, "NEVER"),
        (Error::LeaseExpired, "LEASE_EXPIRED", Code::NotFound, "RESTART"),
        (Error::StaleIncarnation { current: 3 }, "STALE_INCARNATION", Code::FailedPrecondition, "NEVER"),
        (Error::RevisionCompacted { oldest: 5 }, "REVISION_COMPACTED", Code::OutOfRange, "RESTART"),
        (Error::FutureRevision { asked: 9, newest: 8 }, "FUTURE_REVISION", Code::OutOfRange, "NEVER"),
        (Error::EpochChanged { current: 1 }, "EPOCH_CHANGED", Code::OutOfRange, "RESTART"),
        (Error::WatchResync { revision: 4 }, "WATCH_RESYNC", Code::Aborted, "RESTART"),
        (Error::NotLeader, "NOT_LEADER", Code::Unavailable, "ELSEWHERE"),
        (Error::NoQuorum, "NO_QUORUM", Code::Unavailable, "LATER"),
        (Error::OutcomeUnknown, "OUTCOME_UNKNOWN", Code::Unknown, "SAME_REQUEST"),
        (
            Error::TooStale { revision: 8, staleness: Some(second) },
            "TOO_STALE",
            Code::Unavailable,
            "ELSEWHERE",
        ),
        (Error::NotInitialized, "NOT_INITIALIZED", Code::Unavailable, "LATER"),
        (Error::NotReady("starting".into()), "NOT_READY", Code::Unavailable, "ELSEWHERE"),
        (Error::ShuttingDown, "SHUTTING_DOWN", Code::Unavailable, "ELSEWHERE"),
        (quota(None), "QUOTA_EXCEEDED", Code::ResourceExhausted, "NEVER"),
        (quota(Some(second)), "QUOTA_EXCEEDED", Code::ResourceExhausted, "LATER"),
        (
            Error::Overloaded { what: "writes", retry_after: second },
            "OVERLOADED",
            Code::ResourceExhausted,
            "LATER",
        ),
        (Error::RateLimited { retry_after: second }, "RATE_LIMITED", Code::ResourceExhausted, "LATER"),
        (Error::Internal("x".into()), "INTERNAL", Code::Internal, "NEVER"),
    ]
}

#[test]
fn every_reason_has_the_code_and_retry_class_of_the_table() {
    for (error, reason, code, retry) in table() {
        let status = error.into_status(&hint());
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "registry.dev"));
        assert_eq!(status.code(), code, "{reason}");
        assert_eq!(info.metadata["retry"], retry, "{reason}");
        assert_eq!(info.metadata["leader_endpoint"], "10.0.0.2:8080");
        assert_eq!(info.metadata["leader_id"], "registry-node-2");
        assert_eq!(info.metadata["term"], "7");
    }
}

#[test]
fn the_table_covers_every_reason_of_the_api() {
    let covered: Vec<_> = table().iter().filter_map(|(error, ..)| error.reason()).collect();
    for number in 1..=50 {
        if let Ok(reason) = ErrorReason::try_from(number) {
            assert!(covered.contains(&reason), "{reason:?}");
        }
    }
}

#[test]
fn details_name_what_the_reason_promises() {
    let metadata =
        |error: Error| error.into_status(&hint()).get_details_error_info().unwrap().metadata.clone();
    assert_eq!(metadata(Error::StaleIncarnation { current: 3 })["current_incarnation"], "3");
    assert_eq!(metadata(Error::RevisionCompacted { oldest: 5 })["oldest_revision"], "5");
    let stale = metadata(Error::TooStale { revision: 8, staleness: Some(Duration::from_millis(1500)) });
    assert_eq!((stale["revision"].as_str(), stale["staleness_ms"].as_str()), ("8", "1500"));
    let quota = Error::QuotaExceeded { quota: "services".into(), limit: Some(100), retry_after: None };
    let quota = metadata(quota);
    assert_eq!((quota["quota"].as_str(), quota["limit"].as_str()), ("services", "100"));
}

#[test]
fn waiting_errors_say_how_long() {
    let delay = Duration::from_millis(300);
    let status = Error::Overloaded { what: "writes", retry_after: delay }.into_status(&hint());
    assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(delay));
}

#[test]
fn a_refused_entry_is_named_by_its_index() {
    let error = Error::Entry { index: 12, error: Box::new(Error::StaleIncarnation { current: 3 }) };
    let status = error.into_status(&hint());
    assert_eq!(status.code(), Code::FailedPrecondition);
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.metadata["index"], "12");
    assert_eq!(info.metadata["current_incarnation"], "3");
}

#[test]
fn details_stay_below_one_kibibyte_whatever_is_wrong() {
    let long = "x".repeat(5_000);
    let fields = (0..1_000).map(|index| BadField::new(format!("metadata[{index}{long}]"), long.clone()));
    let hint = LeaderHint { endpoint: format!("{}:8080", "x".repeat(120)), ..hint() };
    let status = Error::InvalidField(fields.collect()).into_status(&hint);
    assert!(status.details().len() < 1_024, "{}", status.details().len());
    assert!(status.message().len() <= MESSAGE_BYTES);
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations.last().unwrap().field, "...");
    assert!(violations.len() >= 2);
}

#[test]
fn several_bad_fields_are_named_at_once() {
    let fields = vec![BadField::new("port", "is required"), BadField::new("host", "is required")];
    let status = Error::InvalidField(fields).into_status(&LeaderHint::default());
    let violations = status.get_details_bad_request().unwrap().field_violations;
    let paths: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(paths, ["port", "host"]);
}

#[test]
fn what_the_leader_answered_is_passed_on_as_it_is() {
    let status = Error::LeaseExpired.into_status(&hint());
    let details = status.details().to_vec();
    let passed = Error::Answered(Box::new(status));
    assert_eq!(passed.reason(), Some(ErrorReason::LeaseExpired));
    assert_eq!(passed.into_status(&LeaderHint::default()).details(), details);
}
