//! The leader's side of reads and writes that other nodes pass on. Nothing is ever passed on again.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::unfold;
use prost::Message;
use registry_proto::internal::{
    ClusterViewResponse, ForwardWritesRequest, ForwardWritesResponse, ForwardedReply, ForwardedWrite, LogId,
    PeerErrorReason, ReadIndexResponse, Vote,
};
use tokio::sync::{Semaphore, mpsc};
use tonic::Status;

use super::{ForwardCalls, Incoming};
use crate::error::Error;
use crate::error::peer::PeerError;
use crate::request::Caller;
use crate::request::forward::write_reply;
use crate::server::cluster::ClusterService;
use crate::server::convert::duration_ms;
use crate::server::core::Core;
use crate::server::front::Front;
use crate::server::limits;

/// Longest time for the round of another node: it asks again after half a second.
const ROUND_TIMEOUT: Duration = Duration::from_millis(500);

/// Answers other nodes by what is behind the door.
#[derive(Clone)]
pub struct ForwardService {
    front: Front,
    cluster: ClusterService,
}

impl ForwardService {
    /// A service behind this door.
    pub fn new(front: Front) -> Self {
        Self { cluster: ClusterService::new(front.clone()), front }
    }

    /// The parts that answer, on the leader alone.
    fn leader(&self) -> Result<&Core, Status> {
        let starting = || PeerError::new(PeerErrorReason::NotReady, "this node is starting");
        let core = self.front.core_if_any().ok_or_else(starting)?;
        match core.consensus.leadership() {
            Some(_) => Ok(core),
            None => Err(not_leader(core).into()),
        }
    }
}

fn not_leader(core: &Core) -> PeerError {
    let leader = core.consensus.status().leader;
    let endpoint = leader.and_then(|leader| core.peers.endpoint(leader));
    PeerError::not_leader(leader.zip(endpoint.as_deref()))
}

#[tonic::async_trait]
impl ForwardCalls for ForwardService {
    async fn read_index(&self) -> Result<ReadIndexResponse, Status> {
        let core = self.leader()?;
        let caller = Caller::within(ROUND_TIMEOUT);
        let round = core.rounds.round(caller.deadline).await.map_err(|error| match error {
            Error::NoQuorum => PeerError::new(PeerErrorReason::NoQuorum, "no majority confirmed the round"),
            Error::Overloaded { .. } => PeerError::new(PeerErrorReason::Overloaded, "too many reads wait"),
            _ => PeerError::new(PeerErrorReason::NotReady, "this node is stopping"),
        })?;
        if round.leadership.node != core.peers.raft_id() {
            return Err(not_leader(core).into());
        }
        let position = round.position;
        Ok(ReadIndexResponse {
            read_log_id: Some(LogId {
                term: position.leadership.term,
                raft_id: position.leadership.node,
                index: position.index,
            }),
            vote: Some(Vote { term: round.leadership.term, raft_id: round.leadership.node, committed: true }),
            revision: round.revision,
        })
    }

    async fn forward_writes(
        &self,
        _from: u64,
        requests: Incoming<ForwardWritesRequest>,
    ) -> Result<Incoming<ForwardWritesResponse>, Status> {
        // Whether this node leads is asked of each write: leadership comes and goes under a kept stream.
        let starting = || PeerError::new(PeerErrorReason::NotReady, "this node is starting");
        let core = self.front.core_if_any().ok_or_else(starting)?.clone();
        let (replies, ready) = mpsc::channel(limits::FORWARD_QUEUE);
        tokio::spawn(take_all(core, requests, replies));
        Ok(unfold(ready, next_message).boxed())
    }

    async fn cluster_view(&self) -> Result<ClusterViewResponse, Status> {
        self.leader()?;
        Ok(ClusterViewResponse { status: self.cluster.own_view().encode_to_vec().into() })
    }
}

/// Takes the writes of a stream as they come, a bounded number at a time.
async fn take_all(
    core: Core,
    mut requests: Incoming<ForwardWritesRequest>,
    replies: mpsc::Sender<ForwardedReply>,
) {
    let core = Arc::new(core);
    let slots = Arc::new(Semaphore::new(limits::FORWARD_QUEUE));
    while let Some(Ok(message)) = requests.next().await {
        for write in message.writes {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let (core, replies) = (core.clone(), replies.clone());
            tokio::spawn(async move {
                let reply = take(&core, write).await;
                // The stream may have ended: then its sender calls the outcome unknown.
                let _ = replies.send(reply).await;
                drop(slot);
            });
        }
    }
}

async fn take(core: &Core, write: ForwardedWrite) -> ForwardedReply {
    let left = write.timeout.and_then(duration_ms).map_or(limits::UNARY_DEADLINE, Duration::from_millis);
    let caller = Caller::within(left.min(limits::UNARY_DEADLINE));
    let answer = core.writer.take(write.method, write.request, &caller).await;
    write_reply(write.sequence, answer.map_err(|error| core.head.status(error)))
}

/// A message of the answers that are ready.
async fn next_message(
    mut ready: mpsc::Receiver<ForwardedReply>,
) -> Option<(Result<ForwardWritesResponse, Status>, mpsc::Receiver<ForwardedReply>)> {
    let mut replies = Vec::new();
    let mut bytes = 0;
    let mut next = ready.recv().await;
    while let Some(reply) = next {
        bytes += reply.encoded_len();
        replies.push(reply);
        if replies.len() >= limits::FORWARD_BATCH || bytes >= limits::FORWARD_BATCH_BYTES {
            break;
        }
        next = ready.try_recv().ok();
    }
    (!replies.is_empty()).then(|| (Ok(ForwardWritesResponse { replies }), ready))
}
