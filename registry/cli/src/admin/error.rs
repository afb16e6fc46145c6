//! Refusals of AdminService in the words and exit codes of this program.

use registry_client::transport::TransportError;
use registry_proto::INTERNAL_ERROR_DOMAIN;
use registry_proto::internal::PeerErrorReason;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{Effect, settings};
use crate::error::{Error, Report, code_name};
use crate::exit::Exit;
use crate::output::text::clean;

/// What to do when nobody knows whether a change was made.
const LOOK: &str = "it may have been made: look with `member list` or `settings get` before repeating";

/// The reason that a node gave; `None` if it gave none that is known.
pub(crate) fn reason(status: &Status) -> Option<PeerErrorReason> {
    let info = status.get_details_error_info()?;
    (info.domain == INTERNAL_ERROR_DOMAIN)
        .then(|| PeerErrorReason::from_str_name(&format!("PEER_ERROR_REASON_{}", info.reason)))?
}

/// Peer endpoint of the leader, if the node knows it.
pub(crate) fn leader_endpoint(status: &Status) -> Option<String> {
    let info = status.get_details_error_info()?;
    info.metadata.get("leader_peer_endpoint").filter(|endpoint| !endpoint.is_empty()).cloned()
}

/// A call that failed.
pub(crate) fn of(action: &str, effect: Effect, endpoint: &str, status: &Status) -> Error {
    let reason = reason(status);
    let lost = reason.is_none() && TransportError::of(status) == Some(TransportError::Lost);
    let unknown = reason == Some(PeerErrorReason::OutcomeUnknown)
        || effect == Effect::Changes && (lost || status.code() == Code::DeadlineExceeded);
    let exit =
        if unknown { Exit::Unknown } else { reason.map_or_else(|| Exit::of_code(status.code()), exit_of) };
    let details = status.get_error_details();
    let fields = details.bad_request().into_iter().flat_map(|bad| &bad.field_violations);
    let metadata = details.error_info().into_iter().flat_map(|info| &info.metadata);
    let text = match status.message() {
        "" => status.code().description().to_owned(),
        text => clean(text),
    };
    Error::reported(Report {
        action: action.to_owned(),
        code: code_name(status.code()),
        reason: reason.map(reason_name).unwrap_or_default(),
        message: if text.contains(endpoint) { text } else { format!("{text} (asked {endpoint})") },
        fields: fields.map(|bad| (settings::key_of(&bad.field), clean(&bad.description))).collect(),
        metadata: metadata.map(|(key, value)| (clean(key), clean(value))).collect(),
        hint: if unknown { LOOK.to_owned() } else { hint(reason, status).to_owned() },
        exit,
    })
}

/// A call that was not answered within `--timeout`.
pub(crate) fn no_answer(action: &str, effect: Effect, endpoint: &str) -> Error {
    let message = format!("no answer in time (asked {endpoint})");
    match effect {
        Effect::Reads => Error::new(Exit::Timeout, action, message, "allow more with --timeout"),
        Effect::Changes => Error::new(Exit::Unknown, action, message, LOOK),
    }
}

/// Every node answers, and none leads.
pub(crate) fn no_leader(action: &str) -> Error {
    let hint = "`status` shows whom the cluster misses; nothing can be changed until somebody leads";
    Error::new(Exit::Unavailable, action, "no node leads", hint)
}

fn reason_name(reason: PeerErrorReason) -> &'static str {
    reason.as_str_name().trim_start_matches("PEER_ERROR_REASON_")
}

fn exit_of(reason: PeerErrorReason) -> Exit {
    use PeerErrorReason as R;
    match reason {
        R::InvalidField => Exit::Usage,
        R::MemberUnknown => Exit::NotFound,
        R::NotLeader
        | R::NoQuorum
        | R::NotInitialized
        | R::PeerUnreachable
        | R::Quarantined
        | R::NotReady
        | R::Overloaded => Exit::Unavailable,
        R::OutcomeUnknown => Exit::Unknown,
        R::Unspecified => Exit::Failure,
        R::ClusterMismatch
        | R::TargetMismatch
        | R::AlreadyInitialized
        | R::NotPristine
        | R::MembershipChanged
        | R::NotCaughtUp
        | R::WouldLoseQuorum
        | R::VersionUnsupported
        | R::SnapshotRefused
        | R::TransferFailed
        | R::Removed
        | R::DiskLost
        | R::AlreadyMember
        | R::ConfigMismatch
        | R::MembershipOwned
        | R::SettingsChanged
        | R::Unauthorized => Exit::Refused,
    }
}

/// What to do next, where the message of the node cannot know it.
fn hint(reason: Option<PeerErrorReason>, status: &Status) -> &'static str {
    use PeerErrorReason as R;
    match reason {
        Some(R::Unauthorized) => {
            "give the token of the nodes with --admin-token-file or REGISTRY_ADMIN_TOKEN_FILE"
        }
        Some(R::MembershipChanged) => {
            "somebody else changed the members: look with `member list`, then again"
        }
        Some(R::SettingsChanged) => {
            "somebody else changed the settings: look with `settings get`, then again"
        }
        Some(R::NotLeader | R::NoQuorum | R::NotReady | R::Overloaded) => {
            "try again; `status` shows the cluster"
        }
        Some(R::NotInitialized) => "wait until the cluster is founded; `status` shows its members",
        Some(R::NotCaughtUp) => "wait, or allow more with --max-lag; `member list` shows how far it is",
        Some(R::MemberUnknown) => "`member list` shows names and ids",
        Some(R::PeerUnreachable) => "start the node there, and look at its log",
        Some(R::MembershipOwned) => "`settings get membership_owner` tells who decides",
        Some(_) => "",
        None if TransportError::of(status) == Some(TransportError::NotSent) => {
            "peer ports must be reachable from here; `members -o wide` shows them"
        }
        None if status.code() == Code::Unimplemented => {
            "the node does not offer this; is it of an older version?"
        }
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn refused(code: Code, reason: &str) -> Status {
        let mut details = ErrorDetails::with_error_info(
            reason,
            INTERNAL_ERROR_DOMAIN,
            [("lag".to_owned(), "7".to_owned())],
        );
        details.add_bad_request_violation("settings.history.max_events", "0 is not in 1..=1000000");
        Status::with_error_details(code, "it says no", details)
    }

    #[test]
    fn every_reason_has_an_exit_code_that_fits_its_grpc_code() {
        for number in 1..=27 {
            let reason = PeerErrorReason::try_from(number).unwrap();
            assert_ne!(exit_of(reason), Exit::Success);
            assert_ne!(exit_of(reason), Exit::Failure, "{reason:?}");
        }
        assert!(PeerErrorReason::try_from(28).is_err(), "a reason is missing above");
    }

    #[test]
    fn a_refusal_names_reason_fields_and_what_to_do() {
        let error = of("set", Effect::Changes, "h:1", &refused(Code::InvalidArgument, "INVALID_FIELD"));
        assert_eq!(error.exit, Exit::Usage);
        assert_eq!(error.fields["history.events"], "0 is not in 1..=1000000");
        assert_eq!(error.metadata["lag"], "7");
        let error = of("set", Effect::Changes, "h:1", &refused(Code::Aborted, "SETTINGS_CHANGED"));
        assert_eq!((error.exit, error.reason), (Exit::Refused, "SETTINGS_CHANGED"));
        assert!(error.to_string().contains("settings get"), "{error}");
    }

    #[test]
    fn without_an_answer_a_change_is_of_unknown_outcome_and_a_read_is_late() {
        assert_eq!(no_answer("x", Effect::Changes, "h:1").exit, Exit::Unknown);
        assert_eq!(no_answer("x", Effect::Reads, "h:1").exit, Exit::Timeout);
        let late = Status::deadline_exceeded("late");
        assert_eq!(of("x", Effect::Changes, "h:1", &late).exit, Exit::Unknown);
        assert_eq!(of("x", Effect::Reads, "h:1", &late).exit, Exit::Timeout);
        let unknown = refused(Code::Unknown, "OUTCOME_UNKNOWN");
        assert_eq!(of("x", Effect::Changes, "h:1", &unknown).exit, Exit::Unknown);
    }
}
