//! The client side of Raft between nodes.
//!
//! Everything here has a deadline: openraft waits for answers without one. A peer that cannot be used is
//! always `Unreachable`, whatever the reason, because openraft retries everything else at once.

pub(super) mod phase;
mod snapshot;
mod stream;
pub(super) mod transfers;

use std::time::Duration;

use openraft::errors::{RPCError, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory};
use registry_proto::internal as pb;
use tokio::time::timeout;
use tonic::{Response, Status};

use self::phase::Quorum;
use self::transfers::Transfers;
use super::codec;
use super::room::Rooms;
use super::snapshot::SnapshotFile;
use super::status::Member;
use super::types::{RaftVote, Snapshot, TypeConfig as C};
use crate::peers::{PeerClient, Peers, Purpose};

pub(super) type Rpc<T> = Result<T, RPCError<C>>;

/// Makes the connections that openraft asks for; the channels behind them are kept by [`Peers`].
pub(crate) struct Network {
    peers: Peers,
    links: Links,
}

/// What all connections note, and heed.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    /// When a quorum last followed this node.
    pub(crate) quorum: Quorum,
    /// The snapshots on their way.
    pub(crate) transfers: Transfers,
    /// What followers say about their disks.
    pub(crate) rooms: Rooms,
}

impl Network {
    pub(crate) fn new(peers: Peers, links: Links) -> Self {
        Self { peers, links }
    }

    fn connect(&self, target: u64, member: &Member, purpose: Purpose) -> Connection {
        self.peers.set_endpoint(target, &member.peer_endpoint);
        Connection { peers: self.peers.clone(), links: self.links.clone(), target, purpose }
    }
}

impl RaftNetworkFactory<C> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, member: &Member) -> Connection {
        self.connect(target, member, Purpose::Append)
    }

    async fn new_heartbeat_client(&mut self, target: u64, member: &Member) -> Connection {
        self.connect(target, member, Purpose::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, member: &Member) -> Connection {
        self.connect(target, member, Purpose::Snapshot)
    }
}

/// One peer for one purpose. openraft makes a new one for each vote: the channel is shared and warm.
pub(crate) struct Connection {
    peers: Peers,
    links: Links,
    target: u64,
    purpose: Purpose,
}

impl Connection {
    fn client(&self, purpose: Purpose) -> Rpc<PeerClient> {
        self.peers
            .client(self.target, purpose)
            .ok_or_else(|| unreachable(format!("the address of node {} is not known", self.target)))
    }

    fn header(&self) -> pb::PeerHeader {
        self.peers.header(self.target)
    }
}

pub(super) fn unreachable(reason: impl ToString) -> RPCError<C> {
    RPCError::Unreachable(Unreachable::from_string(reason))
}

pub(super) fn rpc_error(status: Status) -> RPCError<C> {
    unreachable(format!("{:?}: {}", status.code(), status.message()))
}

pub(super) fn late(what: &str, limit: Duration) -> RPCError<C> {
    unreachable(format!("{what}: no answer within {} ms", limit.as_millis()))
}

pub(super) fn malformed(error: codec::CodecError) -> RPCError<C> {
    unreachable(error)
}

pub(super) async fn within<T>(
    limit: Duration,
    what: &str,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Rpc<T> {
    match timeout(limit, call).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(rpc_error(status)),
        Err(_) => Err(late(what, limit)),
    }
}

impl NetBackoff<C> for Connection {
    /// As in the configuration of Raft.
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

impl NetStreamAppend<C> for Connection {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> openraft::base::BoxFuture<'s, Rpc<openraft::base::BoxStream<'s, Rpc<StreamAppendResult<C>>>>>
    where
        S: futures::Stream<Item = AppendEntriesRequest<C>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(stream::append(self, input, option))
    }
}

impl NetVote<C> for Connection {
    async fn vote(&mut self, request: VoteRequest<C>, option: RPCOption) -> Rpc<VoteResponse<C>> {
        let message = pb::VoteRequest {
            header: Some(self.header()),
            vote: Some(codec::vote_to_proto(&request.vote)),
            last_log_id: request.last_log_id.as_ref().map(codec::log_id_to_proto),
            leadership_transfer: request.leadership_transfer,
        };
        let mut client = self.client(Purpose::Control)?;
        let reply = within(option.hard_ttl(), "vote", client.vote(message)).await?;
        let vote = codec::vote_from_proto(reply.vote).map_err(malformed)?;
        Ok(VoteResponse::new(vote, reply.last_log_id.map(codec::log_id_from_proto), reply.granted))
    }

    /// The default of the trait grants without asking.
    async fn pre_vote(&mut self, request: VoteRequest<C>, option: RPCOption) -> Rpc<VoteResponse<C>> {
        let message = pb::PreVoteRequest {
            header: Some(self.header()),
            vote: Some(codec::vote_to_proto(&request.vote)),
            last_log_id: request.last_log_id.as_ref().map(codec::log_id_to_proto),
        };
        let mut client = self.client(Purpose::Control)?;
        let reply = within(option.hard_ttl(), "pre-vote", client.pre_vote(message)).await?;
        let vote = codec::vote_from_proto(reply.vote).map_err(malformed)?;
        Ok(VoteResponse::new(vote, reply.last_log_id.map(codec::log_id_from_proto), reply.granted))
    }
}

impl NetTransferLeader<C> for Connection {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<C>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<C>> {
        // Raft tells every voter, so that all let go of the leader. Whoever gets this message campaigns: two that did
        // would take the votes from each other. The vote that the one asks for says that it was handed over, and
        // is granted in spite of the leader's lease.
        if *request.to_node_id() != self.target {
            return Ok(Ok(()));
        }
        let message = pb::TimeoutNowRequest {
            header: Some(self.header()),
            vote: Some(codec::vote_to_proto(request.from_leader())),
            last_log_id: request.last_log_id().map(codec::log_id_to_proto),
        };
        let mut client = self.client(Purpose::Control)?;
        let reply = within(option.hard_ttl(), "hand-over of leadership", client.timeout_now(message)).await?;
        Ok(match reply.refusal {
            None => Ok(()),
            Some(pb::timeout_now_response::Refusal::VoteChanged(actual)) => {
                Err(TransferLeaderError::VoteChanged {
                    expected: *request.from_leader(),
                    actual: codec::vote_from_proto(Some(actual)).map_err(malformed)?,
                })
            }
            Some(pb::timeout_now_response::Refusal::LogBehind(actual)) => {
                Err(TransferLeaderError::LogNotFlushed {
                    expected: request.last_log_id().copied(),
                    actual: Some(codec::log_id_from_proto(actual)),
                })
            }
        })
    }
}

impl NetSnapshot<C> for Connection {
    type SnapshotData = SnapshotFile;

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: Snapshot,
        cancel: impl Future<Output = openraft::errors::ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            result = snapshot::send(self, vote, snapshot, option.hard_ttl()) => {
                result.map_err(StreamingError::from)
            }
        }
    }
}
