//! What can go wrong in a reconcile. Each error has a stable reason for metrics, and a weight for the log.

use crate::members::CallError;

/// Why a reconcile did not come to its end. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request to the API server failed.
    #[error("cannot {action}: {source}")]
    Kube {
        /// What was tried, such as `apply the StatefulSet demo`.
        action: String,
        /// What the API server or the way to it said.
        source: Box<kube::Error>,
    },
    /// A call to a node failed.
    #[error("cannot {action}: {source}")]
    Member {
        /// What was tried, such as `promote demo-1`.
        action: String,
        /// What the node or the way to it said.
        source: CallError,
    },
    /// An object that the operator made lacks what it must have.
    #[error("{0}")]
    BrokenObject(String),
    /// The first lists of the watches have not arrived.
    #[error("the watches have not delivered their first lists yet")]
    NotSynced,
    /// The reconcile took too long.
    #[error("not done within {} s", .0.as_secs())]
    Late(std::time::Duration),
    /// The object does not fit the type: it is older than a rule, or newer than this operator.
    #[error("the RegistryCluster cannot be read: {0}")]
    InvalidObject(String),
}

/// How an error is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The world has moved on since it was looked at: look again.
    Passing,
    /// Something is away; it comes back by itself or somebody is at work on it.
    Away,
    /// Somebody must act, or it stays.
    Wrong,
}

impl Error {
    /// A request to the API server that failed while it was tried to `action`.
    pub fn kube(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let action = action.into();
        move |source| Self::Kube { action, source: Box::new(source) }
    }

    /// A call to a node that failed while it was tried to `action`.
    pub fn member(action: impl Into<String>) -> impl FnOnce(CallError) -> Self {
        let action = action.into();
        move |source| Self::Member { action, source }
    }

    /// Stable word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Kube { source, .. } => match status_code(source) {
                Some(409) => "kube_conflict",
                Some(404) => "kube_not_found",
                Some(401 | 403) => "kube_forbidden",
                Some(400 | 422) => "kube_invalid",
                Some(_) => "kube_refused",
                None => "kube_unreachable",
            },
            Self::Member { source, .. } => source.reason(),
            Self::BrokenObject(_) => "broken_object",
            Self::NotSynced => "not_synced",
            Self::Late(_) => "late",
            Self::InvalidObject(_) => "invalid_object",
        }
    }

    /// How it is logged.
    pub fn weight(&self) -> Weight {
        match self {
            Self::Kube { source, .. } if is_going(source) => Weight::Passing,
            Self::Kube { source, .. } => match status_code(source) {
                Some(404 | 409) => Weight::Passing,
                Some(400 | 401 | 403 | 422) => Weight::Wrong,
                Some(_) | None => Weight::Away,
            },
            Self::Member { source, .. } if source.is_passing() => Weight::Passing,
            Self::Member { .. } | Self::NotSynced | Self::Late(_) => Weight::Away,
            Self::BrokenObject(_) | Self::InvalidObject(_) => Weight::Wrong,
        }
    }
}

/// HTTP status of a refusal; `None` if the API server did not answer.
pub fn status_code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// The namespace is being deleted: nothing can be made in it any more, and that is well.
fn is_going(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status)
        if status.code == 403 && status.message.contains("because it is being terminated"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::core::Status;

    use super::*;

    fn refused(code: u16, message: &str) -> Error {
        let status = Status::failure(message, "Reason").with_code(code);
        Error::kube("apply the Service demo")(kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn reasons_are_stable_words() {
        assert_eq!(refused(409, "").reason(), "kube_conflict");
        assert_eq!(refused(403, "").reason(), "kube_forbidden");
        assert_eq!(refused(422, "").reason(), "kube_invalid");
        assert_eq!(refused(503, "").reason(), "kube_refused");
        let late = Error::member("admit demo-3")(CallError::late(Duration::from_secs(2)));
        assert_eq!(late.reason(), "NO_ANSWER");
        assert_eq!(late.to_string(), "cannot admit demo-3: no answer within 2 s");
    }

    #[test]
    fn a_conflict_is_no_error_line_and_a_refusal_by_the_rules_is_one() {
        assert_eq!(refused(409, "").weight(), Weight::Passing);
        assert_eq!(refused(503, "").weight(), Weight::Away);
        assert_eq!(refused(403, "").weight(), Weight::Wrong);
        assert_eq!(refused(403, "in namespace x because it is being terminated").weight(), Weight::Passing);
        assert_eq!(Error::NotSynced.weight(), Weight::Away);
    }
}
