//! Raft calls between nodes, and the header check of all calls (P/N2).

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use registry_proto::internal::{PeerErrorReason, PeerHeader};
use tokio::time::{Duration, timeout};
use tonic::{Request, Status, Streaming};

use super::{IdentityCalls, Incoming, Own};
use crate::error::peer::PeerError;
use crate::server::admin::Caller;

/// Longest wait for the first message of a stream, which has the header.
const FIRST_MESSAGE_LIMIT: Duration = Duration::from_secs(5);

/// Messages that begin with a [`PeerHeader`].
pub(super) trait HasHeader {
    /// The header, if it is there.
    fn header(&self) -> Option<&PeerHeader>;
}

macro_rules! has_header {
    ($($message:ident),* $(,)?) => {
        $(impl HasHeader for registry_proto::internal::$message {
            fn header(&self) -> Option<&PeerHeader> {
                self.header.as_ref()
            }
        })*
    };
}

has_header!(
    AppendRequest,
    AwaitWatchesRequest,
    ClusterViewRequest,
    ForwardRenewalsRequest,
    ForwardWritesRequest,
    GoodbyeRequest,
    InstallSnapshotRequest,
    PreVoteRequest,
    ProbeRequest,
    ReadIndexRequest,
    TimeoutNowRequest,
    VoteRequest,
);

/// Refuses a call that is not from our cluster or not meant for us. A node without identity takes none,
/// and never takes an identity from one. Returns the sender's Raft id.
pub(super) fn check_header(own: &Own, message: &impl HasHeader) -> Result<u64, Status> {
    let header = message.header().ok_or_else(|| Status::invalid_argument("the header is missing"))?;
    if own.cluster_id.is_empty() || header.cluster_id != own.cluster_id {
        let reason =
            format!("the call is for cluster {:?}, this node is of {:?}", header.cluster_id, own.cluster_id);
        return Err(PeerError::new(PeerErrorReason::ClusterMismatch, reason).into());
    }
    if own.raft_id == 0 || header.to_raft_id != own.raft_id {
        let reason = format!("the call is for node {}, this is node {}", header.to_raft_id, own.raft_id);
        return Err(PeerError::new(PeerErrorReason::TargetMismatch, reason).into());
    }
    if header.from_raft_id == 0 || header.from_raft_id == own.raft_id {
        let reason = format!("the call says that it comes from node {}", header.from_raft_id);
        return Err(PeerError::new(PeerErrorReason::TargetMismatch, reason).into());
    }
    Ok(header.from_raft_id)
}

/// As [`check_header`], and tells a member that was removed of it, which is final (P/N5). Remembers where
/// the call of a member came from.
pub(super) fn check_caller(
    identity: &dyn IdentityCalls,
    message: &impl HasHeader,
    caller: Option<Caller>,
) -> Result<u64, Status> {
    let from = check_header(&identity.own(), message)?;
    check_place(identity, from)?;
    if let Some(Caller(address)) = caller {
        identity.heard(from, address.ip());
    }
    Ok(from)
}

/// REMOVED to a member that was.
fn check_place(identity: &dyn IdentityCalls, from: u64) -> Result<(), Status> {
    let Some(index) = identity.removed_at(from) else { return Ok(()) };
    let reason = format!("member {from} was removed from the cluster for good");
    Err(PeerError::new(PeerErrorReason::Removed, reason).with("index", index).into())
}

/// Checks the header in the first message and gives the stream back whole. It ends when its sender is removed:
/// whoever opens it again is told.
pub(super) async fn open_stream<T: HasHeader + Send + 'static>(
    identity: &Arc<dyn IdentityCalls>,
    request: Request<Streaming<T>>,
) -> Result<(u64, Incoming<T>), Status> {
    let caller = request.extensions().get::<Caller>().copied();
    let mut messages = request.into_inner();
    let first = timeout(FIRST_MESSAGE_LIMIT, messages.message())
        .await
        .map_err(|_| Status::deadline_exceeded("the first message of the stream did not come"))??
        .ok_or_else(|| Status::invalid_argument("the stream has no message"))?;
    let from = check_caller(identity.as_ref(), &first, caller)?;
    let identity = identity.clone();
    let rest = messages.map(move |message| check_place(identity.as_ref(), from).and(message));
    let whole: BoxStream<'static, Result<T, Status>> = futures::stream::iter([Ok(first)]).chain(rest).boxed();
    Ok((from, whole))
}

#[cfg(test)]
mod tests {
    use registry_proto::internal::ProbeRequest;

    use super::*;

    fn call(cluster: &str, from: u64, to: u64) -> ProbeRequest {
        let header =
            PeerHeader { cluster_id: cluster.into(), from_raft_id: from, to_raft_id: to, process_nonce: 1 };
        ProbeRequest { header: Some(header) }
    }

    fn reason(own: &Own, message: &ProbeRequest) -> Option<PeerErrorReason> {
        PeerError::reason_of(&check_header(own, message).unwrap_err())
    }

    #[test]
    fn a_call_for_us_from_our_cluster_passes() {
        let own = Own { cluster_id: "a".into(), raft_id: 2 };
        assert_eq!(check_header(&own, &call("a", 1, 2)).unwrap(), 1);
    }

    #[test]
    fn calls_of_another_cluster_or_for_another_node_are_refused() {
        let own = Own { cluster_id: "a".into(), raft_id: 2 };
        assert_eq!(reason(&own, &call("b", 1, 2)), Some(PeerErrorReason::ClusterMismatch));
        assert_eq!(reason(&own, &call("", 1, 2)), Some(PeerErrorReason::ClusterMismatch));
        assert_eq!(reason(&own, &call("a", 1, 3)), Some(PeerErrorReason::TargetMismatch));
        assert_eq!(reason(&own, &call("a", 2, 2)), Some(PeerErrorReason::TargetMismatch));
        assert_eq!(reason(&own, &call("a", 0, 2)), Some(PeerErrorReason::TargetMismatch));
        let without = check_header(&own, &ProbeRequest::default()).unwrap_err();
        assert_eq!(without.code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn a_node_without_identity_takes_no_call() {
        let own = Own { cluster_id: String::new(), raft_id: 0 };
        assert_eq!(reason(&own, &call("", 1, 0)), Some(PeerErrorReason::ClusterMismatch));
        assert_eq!(reason(&own, &call("a", 1, 2)), Some(PeerErrorReason::ClusterMismatch));
    }
}
