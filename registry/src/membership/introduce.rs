//! What the leader says to a node that is not in Raft: who are you, here is your place, start anew.

use std::time::Duration;

use registry_proto::internal::{
    AdoptRequest, Compatibility, HelloRequest, HelloResponse, NodeIdentity, NodeState, PeerErrorReason,
    PeerHeader, RenewRequest,
};
use registry_state::Member;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use crate::error::peer::PeerError;
use crate::peers::Peers;
use crate::server::peer::identity::IdentityService;

/// Longest wait for one answer: a node that is there answers in a millisecond, one that stores a place
/// after a few syncs of its disk.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// Longest wait for a node that moves its data aside and comes back.
const RENEW_WAIT: Duration = Duration::from_secs(20);
/// Between two looks at it.
const RENEW_PAUSE: Duration = Duration::from_millis(100);

/// Calls nodes by their address. A clone does the same.
#[derive(Debug, Clone)]
pub struct Introducer {
    peers: Peers,
    identity: IdentityService,
    compatibility: Compatibility,
}

impl Introducer {
    /// Calls in the name of this node.
    pub fn new(peers: Peers, identity: IdentityService, compatibility: Compatibility) -> Self {
        Self { peers, identity, compatibility }
    }

    /// UUID of the own cluster.
    pub fn cluster_id(&self) -> String {
        self.peers.header(0).cluster_id
    }

    fn header(&self) -> PeerHeader {
        self.peers.header(0)
    }

    /// Asks who is there.
    ///
    /// # Errors
    /// PEER_UNREACHABLE.
    pub async fn hello(&self, endpoint: &str) -> Result<HelloResponse, PeerError> {
        let request = HelloRequest {
            header: Some(self.header()),
            identity: Some(self.identity.identity()),
            compatibility: Some(self.compatibility.clone()),
        };
        let mut client = self.peers.stranger(endpoint);
        answered(endpoint, timeout(ANSWER_WAIT, client.hello(request)).await)
    }

    /// Whether the node at the address of this member is it, with its disk and in its place.
    pub async fn is_alive(&self, member: &Member) -> bool {
        let Ok(answer) = self.hello(&member.peer_endpoint).await else { return false };
        let state = answer.state();
        let identity = answer.identity.unwrap_or_default();
        identity.disk_id == member.disk_id
            && identity.raft_id == member.raft_id
            && !matches!(state, NodeState::DiskLost | NodeState::Removed | NodeState::Pristine)
    }

    /// Gives a node its identity, durably (P/N4, R2).
    ///
    /// # Errors
    /// PEER_UNREACHABLE, or why the node does not take it.
    pub async fn adopt(&self, member: &Member) -> Result<(), PeerError> {
        let request = AdoptRequest {
            header: Some(self.header()),
            cluster_id: self.cluster_id(),
            raft_id: member.raft_id,
            disk_id: member.disk_id.to_string(),
        };
        let mut client = self.peers.stranger(&member.peer_endpoint);
        answered(&member.peer_endpoint, timeout(ANSWER_WAIT, client.adopt(request)).await).map(drop)
    }

    /// Makes a node whose place is gone move its data aside, and waits until it is as new (P/N5).
    ///
    /// # Errors
    /// PEER_UNREACHABLE if it does not come back in time, or why it does not give its data up.
    pub async fn renew(&self, endpoint: &str, known: &NodeIdentity) -> Result<HelloResponse, PeerError> {
        let request = RenewRequest {
            header: Some(self.header()),
            cluster_id: self.cluster_id(),
            raft_id: known.raft_id,
            disk_id: known.disk_id.clone(),
        };
        let mut client = self.peers.stranger(endpoint);
        answered(endpoint, timeout(ANSWER_WAIT, client.renew(request)).await)?;
        let deadline = Instant::now() + RENEW_WAIT;
        loop {
            sleep(RENEW_PAUSE).await;
            if let Ok(answer) = self.hello(endpoint).await
                && answer.state() == NodeState::Pristine
            {
                return Ok(answer);
            }
            if Instant::now() >= deadline {
                return Err(unreachable(endpoint, "it does not come back with a new disk id"));
            }
        }
    }
}

fn answered<T>(
    endpoint: &str,
    result: Result<Result<tonic::Response<T>, Status>, tokio::time::error::Elapsed>,
) -> Result<T, PeerError> {
    match result {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => match PeerError::reason_of(&status) {
            Some(reason) => Err(PeerError::new(reason, format!("{endpoint}: {}", status.message()))),
            None => Err(unreachable(endpoint, status.message())),
        },
        Err(_) => Err(unreachable(endpoint, "no answer")),
    }
}

fn unreachable(endpoint: &str, why: &str) -> PeerError {
    let message = format!("the node at {endpoint} does not answer: {why}; start it, or correct the address");
    PeerError::new(PeerErrorReason::PeerUnreachable, message).with("peer_endpoint", endpoint)
}
