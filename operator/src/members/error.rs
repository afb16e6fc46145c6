//! Why a call to a node failed, and what that means for the next look.

use std::time::Duration;

use registry_client::transport::TransportError;
use registry_proto::INTERNAL_ERROR_DOMAIN;
use registry_proto::internal::PeerErrorReason;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    kind: Kind,
    message: String,
    leader_raft_id: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The node answered with a reason.
    Refused(PeerErrorReason),
    /// Certainly not sent.
    Unreachable,
    /// Sent, perhaps; no answer.
    Lost,
    /// Something else answered, or the node without a reason.
    Other,
}

impl CallError {
    /// From what tonic returned.
    pub fn of(status: &Status) -> Self {
        let info = status.get_details_error_info().filter(|info| info.domain == INTERNAL_ERROR_DOMAIN);
        let reason = info
            .as_ref()
            .and_then(|info| PeerErrorReason::from_str_name(&format!("PEER_ERROR_REASON_{}", info.reason)));
        let kind = match (reason, TransportError::of(status)) {
            (Some(reason), _) => Kind::Refused(reason),
            (None, Some(TransportError::NotSent)) => Kind::Unreachable,
            (None, Some(TransportError::Lost)) => Kind::Lost,
            (None, None) if matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled) => Kind::Lost,
            (None, None) => Kind::Other,
        };
        let leader = info.as_ref().and_then(|info| info.metadata.get("leader_raft_id")?.parse().ok());
        let message = match status.message() {
            "" => status.code().description().to_owned(),
            message => message.to_owned(),
        };
        Self { kind, message, leader_raft_id: leader.filter(|id| *id != 0) }
    }

    /// No answer within the deadline.
    pub fn late(after: Duration) -> Self {
        Self {
            kind: Kind::Lost,
            message: format!("no answer within {} s", after.as_secs()),
            leader_raft_id: None,
        }
    }

    /// An answer that breaks the protocol.
    pub fn unexpected(message: &str) -> Self {
        Self { kind: Kind::Other, message: message.to_owned(), leader_raft_id: None }
    }

    /// The reason that the node gave.
    pub fn refusal(&self) -> Option<PeerErrorReason> {
        match self.kind {
            Kind::Refused(reason) => Some(reason),
            _ => None,
        }
    }

    /// Who leads, if the node does not and knows it.
    pub fn leader(&self) -> Option<u64> {
        self.leader_raft_id.filter(|_| self.refusal() == Some(PeerErrorReason::NotLeader))
    }

    /// True if the cluster has only moved on since it was looked at, or is electing: look again, nothing is
    /// wrong.
    pub fn is_passing(&self) -> bool {
        use PeerErrorReason as R;
        matches!(
            self.refusal(),
            Some(
                R::NotLeader
                    | R::MembershipChanged
                    | R::SettingsChanged
                    | R::NotCaughtUp
                    | R::TransferFailed
                    | R::NotReady
                    | R::NoQuorum
                    | R::Overloaded
                    | R::PeerUnreachable
                    | R::OutcomeUnknown
            )
        )
    }

    /// Stable word for metrics.
    pub fn reason(&self) -> &'static str {
        match self.kind {
            Kind::Refused(reason) => reason.as_str_name().trim_start_matches("PEER_ERROR_REASON_"),
            Kind::Unreachable => "UNREACHABLE",
            Kind::Lost => "NO_ANSWER",
            Kind::Other => "OTHER",
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn refused(reason: &str, metadata: &[(&str, &str)]) -> CallError {
        let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let details = ErrorDetails::with_error_info(
            reason,
            INTERNAL_ERROR_DOMAIN,
            metadata.collect::<std::collections::HashMap<_, _>>(),
        );
        CallError::of(&Status::with_error_details(Code::Unavailable, "it says no", details))
    }

    #[test]
    fn a_node_that_does_not_lead_names_the_leader() {
        let error = refused("NOT_LEADER", &[("leader_raft_id", "7")]);
        assert_eq!(error.leader(), Some(7));
        assert!(error.is_passing());
        assert_eq!(refused("NOT_LEADER", &[("leader_raft_id", "0")]).leader(), None);
        assert_eq!(refused("NO_QUORUM", &[("leader_raft_id", "7")]).leader(), None);
    }

    #[test]
    fn a_refusal_keeps_its_reason_and_silence_has_one_too() {
        assert_eq!(refused("WOULD_LOSE_QUORUM", &[]).reason(), "WOULD_LOSE_QUORUM");
        assert!(!refused("WOULD_LOSE_QUORUM", &[]).is_passing());
        assert_eq!(CallError::late(Duration::from_secs(2)).reason(), "NO_ANSWER");
        assert_eq!(CallError::of(&Status::deadline_exceeded("late")).reason(), "NO_ANSWER");
        assert_eq!(CallError::of(&Status::unimplemented("")).reason(), "OTHER");
    }
}
