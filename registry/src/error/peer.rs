//! Why a call between nodes failed.

use std::fmt;

use registry_proto::INTERNAL_ERROR_DOMAIN;
use registry_proto::internal::PeerErrorReason;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Why a call between nodes or of an administrator failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerError {
    reason: PeerErrorReason,
    message: String,
    metadata: Vec<(&'static str, String)>,
    /// Fields that break a rule, and the rules.
    fields: Vec<(String, String)>,
}

impl PeerError {
    /// An error with its reason and a message for people that says what to do next.
    pub fn new(reason: PeerErrorReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), metadata: Vec::new(), fields: Vec::new() }
    }

    /// The same error with what `PeerErrorReason` names beside it.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }

    /// INVALID_FIELD for one field.
    pub fn bad_field(field: &str, rule: impl Into<String>) -> Self {
        Self::new(PeerErrorReason::InvalidField, "a field breaks a rule").field(field, rule)
    }

    /// The same error with one more field that breaks a rule.
    #[must_use]
    pub fn field(mut self, field: &str, rule: impl Into<String>) -> Self {
        let rule = rule.into();
        self.message.push_str(&format!("; {field}: {rule}"));
        self.fields.push((field.to_owned(), rule));
        self
    }

    /// This node does not lead. Names the leader if it is known.
    pub fn not_leader(leader: Option<(u64, &str)>) -> Self {
        let error = Self::new(PeerErrorReason::NotLeader, "this node does not lead");
        match leader {
            Some((raft_id, endpoint)) => {
                error.with("leader_raft_id", raft_id).with("leader_peer_endpoint", endpoint)
            }
            None => error,
        }
    }

    /// The reason.
    pub fn reason(&self) -> PeerErrorReason {
        self.reason
    }

    /// The peer endpoint of the leader that a status of another node names.
    pub fn leader_in(status: &Status) -> Option<String> {
        let mut info = status.get_details_error_info()?;
        info.metadata.remove("leader_peer_endpoint").filter(|endpoint| !endpoint.is_empty())
    }

    /// The index of the entry that removed this node, if a status of another node says that one did.
    pub fn removal_in(status: &Status) -> Option<u64> {
        let info = status.get_details_error_info()?;
        let is_removed = Self::reason_of(status) == Some(PeerErrorReason::Removed);
        is_removed.then(|| info.metadata.get("index").and_then(|index| index.parse().ok()).unwrap_or(0))
    }

    /// The reason in a status of another node; `None` if it has none or an unknown one.
    pub fn reason_of(status: &Status) -> Option<PeerErrorReason> {
        let info = status.get_details_error_info()?;
        if info.domain != INTERNAL_ERROR_DOMAIN {
            return None;
        }
        PeerErrorReason::from_str_name(&format!("PEER_ERROR_REASON_{}", info.reason))
    }
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, reason_name(self.reason))
    }
}

impl std::error::Error for PeerError {}

impl From<PeerError> for Status {
    fn from(error: PeerError) -> Self {
        let metadata: std::collections::HashMap<String, String> =
            error.metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let mut details =
            ErrorDetails::with_error_info(reason_name(error.reason), INTERNAL_ERROR_DOMAIN, metadata);
        for (field, rule) in error.fields {
            details.add_bad_request_violation(field, rule);
        }
        Self::with_error_details(code(error.reason), error.message, details)
    }
}

fn reason_name(reason: PeerErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("PEER_ERROR_REASON_").unwrap_or(name)
}

/// The gRPC code of a reason, as the comments of `PeerErrorReason` say.
fn code(reason: PeerErrorReason) -> Code {
    use PeerErrorReason as R;
    match reason {
        R::Unspecified => Code::Internal,
        R::ClusterMismatch
        | R::TargetMismatch
        | R::NotInitialized
        | R::NotPristine
        | R::NotCaughtUp
        | R::WouldLoseQuorum
        | R::VersionUnsupported
        | R::Removed
        | R::DiskLost
        | R::MembershipOwned
        | R::ConfigMismatch => Code::FailedPrecondition,
        R::NotLeader | R::NoQuorum | R::PeerUnreachable | R::Quarantined | R::NotReady => Code::Unavailable,
        R::AlreadyInitialized | R::AlreadyMember => Code::AlreadyExists,
        R::MembershipChanged | R::SettingsChanged | R::TransferFailed => Code::Aborted,
        R::MemberUnknown => Code::NotFound,
        R::SnapshotRefused => Code::DataLoss,
        R::OutcomeUnknown => Code::Unknown,
        R::InvalidField => Code::InvalidArgument,
        R::Overloaded => Code::ResourceExhausted,
        R::Unauthorized => Code::Unauthenticated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_survives_the_way_through_a_status() {
        for number in 1..=27 {
            let reason = PeerErrorReason::try_from(number).unwrap();
            let status = Status::from(PeerError::new(reason, "try again").with("node_id", "a"));
            assert_eq!(PeerError::reason_of(&status), Some(reason));
            assert_eq!(status.get_details_error_info().unwrap().metadata["node_id"], "a");
        }
    }

    #[test]
    fn a_status_of_another_domain_has_no_peer_reason() {
        let details =
            ErrorDetails::with_error_info("NOT_LEADER", "registry.dev", [("a".to_owned(), "b".to_owned())]);
        let status = Status::with_error_details(Code::Unavailable, "", details);
        assert_eq!(PeerError::reason_of(&status), None);
        assert_eq!(PeerError::reason_of(&Status::internal("x")), None);
    }
}
