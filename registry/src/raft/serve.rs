//! The server side of Raft between nodes: messages in, messages out. Who may call is checked before.

use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use openraft::raft::{
    StreamAppendError, StreamAppendResult, TransferLeaderError, TransferLeaderRequest, VoteRequest,
};
use registry_proto::internal as pb;
use registry_proto::internal::PeerErrorReason;
use registry_proto::internal::install_snapshot_request::Part;
use registry_proto::internal::install_snapshot_response::Result as Answer;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};
use tokio::time::{Duration, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::codec::{self, CodecError};
use super::consensus::Consensus;
use super::snapshot::{FORMAT, Receiving, SnapshotError, SnapshotStore};
use super::state_machine::blocking;
use super::types::{RaftVote, Snapshot, TypeConfig as C};
use crate::error::peer::PeerError;

/// Longest wait for the next part of a snapshot: twice what the sender allows for an answer.
const PART_LIMIT: Duration = Duration::from_secs(10);

type AppendRequest = openraft::raft::AppendEntriesRequest<C>;

impl Consensus {
    /// Takes entries and heartbeats; one answer for each, in order. A broken or malformed request ends
    /// the stream.
    pub(crate) fn serve_append(
        &self,
        requests: impl Stream<Item = Result<pb::AppendRequest, Status>> + Send + 'static,
    ) -> BoxStream<'static, Result<pb::AppendResponse, Status>> {
        let contact = self.contact();
        let requests = requests
            .map(|request| request.and_then(|request| Ok(append_from_proto(request)?)))
            .take_while(|request| {
                if let Err(error) = request {
                    tracing::debug!(%error, "a stream of entries ended");
                }
                std::future::ready(request.is_ok())
            })
            .filter_map(move |request| {
                if let Ok(request) = &request {
                    contact.heard(&request.vote);
                }
                std::future::ready(request.ok())
            });
        let wal = self.wal().clone();
        let answers = self.raft().stream_append(requests);
        let encoded = move |answer| append_to_proto(answer, wal.is_full());
        answers.map(move |answer| answer.map(&encoded).map_err(|_| stopped())).boxed()
    }

    /// Votes.
    pub(crate) async fn serve_vote(&self, request: pb::VoteRequest) -> Result<pb::VoteResponse, Status> {
        let mut message = VoteRequest::new(
            codec::vote_from_proto(request.vote)?,
            request.last_log_id.map(codec::log_id_from_proto),
        );
        message.leadership_transfer = request.leadership_transfer;
        let answer = self.raft().vote(message).await.map_err(|_| stopped())?;
        Ok(pb::VoteResponse {
            vote: Some(codec::vote_to_proto(&answer.vote)),
            granted: answer.vote_granted,
            last_log_id: answer.last_log_id.as_ref().map(codec::log_id_to_proto),
        })
    }

    /// Tells whether it would vote.
    pub(crate) async fn serve_pre_vote(
        &self,
        request: pb::PreVoteRequest,
    ) -> Result<pb::PreVoteResponse, Status> {
        let message = VoteRequest::new(
            codec::vote_from_proto(request.vote)?,
            request.last_log_id.map(codec::log_id_from_proto),
        );
        let answer = self.raft().pre_vote(message).await.map_err(|_| stopped())?;
        Ok(pb::PreVoteResponse {
            vote: Some(codec::vote_to_proto(&answer.vote)),
            granted: answer.vote_granted,
            last_log_id: answer.last_log_id.as_ref().map(codec::log_id_to_proto),
        })
    }

    /// Campaigns because the leader asks for it.
    pub(crate) async fn serve_timeout_now(
        &self,
        request: pb::TimeoutNowRequest,
    ) -> Result<pb::TimeoutNowResponse, Status> {
        use pb::timeout_now_response::Refusal;
        let message = TransferLeaderRequest::new(
            codec::vote_from_proto(request.vote)?,
            self.raft_id(),
            request.last_log_id.map(codec::log_id_from_proto),
        );
        let answer = self.raft().handle_transfer_leader(message).await.map_err(|_| stopped())?;
        let refusal = answer.err().map(|error| match error {
            TransferLeaderError::VoteChanged { actual, .. } => {
                Refusal::VoteChanged(codec::vote_to_proto(&actual))
            }
            TransferLeaderError::LogNotFlushed { actual, .. } => {
                Refusal::LogBehind(actual.as_ref().map(codec::log_id_to_proto).unwrap_or_default())
            }
        });
        Ok(pb::TimeoutNowResponse { refusal })
    }

    /// Receives a snapshot, checks all of it, and only then hands it to Raft (P/W6).
    pub(crate) fn serve_install_snapshot(
        &self,
        requests: BoxStream<'static, Result<pb::InstallSnapshotRequest, Status>>,
    ) -> Result<BoxStream<'static, Result<pb::InstallSnapshotResponse, Status>>, Status> {
        let Ok(turn) = self.install_turn().try_lock_owned() else {
            return Err(
                PeerError::new(PeerErrorReason::NotReady, "another snapshot is being received").into()
            );
        };
        // One answer waits at most: the sender reads them before it goes on.
        let (answers, outgoing) = mpsc::channel(4);
        let install = Install { consensus: self.clone(), requests, answers, _turn: turn };
        tokio::spawn(install.run());
        Ok(ReceiverStream::new(outgoing).boxed())
    }
}

fn stopped() -> Status {
    PeerError::new(PeerErrorReason::NotReady, "Raft has ended on this node").into()
}

fn append_from_proto(request: pb::AppendRequest) -> Result<AppendRequest, CodecError> {
    let entries = request.entries.into_iter().map(codec::entry_from_proto).collect::<Result<_, _>>()?;
    Ok(AppendRequest {
        vote: codec::vote_from_proto(request.vote)?,
        prev_log_id: request.prev_log_id.map(codec::log_id_from_proto),
        entries,
        leader_commit: request.leader_commit.map(codec::log_id_from_proto),
    })
}

fn append_to_proto(answer: StreamAppendResult<C>, disk_full: bool) -> pb::AppendResponse {
    use pb::append_response::Result as Answer;
    let result = match answer {
        Ok(up_to) => {
            Answer::Accepted(pb::AppendAccepted { up_to: up_to.as_ref().map(codec::log_id_to_proto) })
        }
        Err(StreamAppendError::Conflict(at)) => Answer::Conflict(codec::log_id_to_proto(&at)),
        Err(StreamAppendError::HigherVote(vote)) => Answer::HigherVote(codec::vote_to_proto(&vote)),
    };
    pb::AppendResponse { result: Some(result), disk_full }
}

/// One snapshot at a time per node.
pub(crate) type InstallTurn = Arc<Mutex<()>>;

/// A snapshot on its way in.
struct Install {
    consensus: Consensus,
    requests: BoxStream<'static, Result<pb::InstallSnapshotRequest, Status>>,
    answers: mpsc::Sender<Result<pb::InstallSnapshotResponse, Status>>,
    _turn: OwnedMutexGuard<()>,
}

impl Install {
    async fn run(mut self) {
        if let Err(status) = self.receive().await {
            tracing::warn!(reason = status.message(), "a snapshot was not installed");
            // The sender may be gone; then nobody is left to tell.
            drop(self.answers.send(Err(status)).await);
        }
    }

    async fn receive(&mut self) -> Result<(), Status> {
        let (vote, receiving) = self.begin().await?;
        let mut receiving = receiving;
        answer(&self.answers, Answer::NextOffset(receiving.next_offset())).await?;
        while !receiving.is_whole() {
            let Some(Part::Chunk(chunk)) = self.next().await? else {
                return Err(Status::invalid_argument("a chunk was expected"));
            };
            let (kept, stored) = blocking(move || {
                let stored = receiving.push(chunk.offset, &chunk.data, chunk.crc32c);
                Ok((receiving, stored))
            })
            .await?;
            receiving = kept;
            stored.map_err(refused)?;
            answer(&self.answers, Answer::NextOffset(receiving.next_offset())).await?;
        }
        let file = blocking(move || Ok(receiving.finish())).await?.map_err(refused)?;
        let bytes = file.size_bytes;
        let snapshot = Snapshot { meta: file.meta.clone(), snapshot: file };
        let installed = self.consensus.raft().install_full_snapshot(vote, snapshot).await;
        let theirs = installed.map_err(|_| stopped())?.vote;
        if theirs > vote {
            return answer(&self.answers, Answer::HigherVote(codec::vote_to_proto(&theirs))).await;
        }
        tracing::info!(bytes, "installed a snapshot of the leader");
        answer(&self.answers, Answer::Installed(codec::vote_to_proto(&theirs))).await
    }

    async fn begin(&mut self) -> Result<(RaftVote, Receiving), Status> {
        let Some(Part::Begin(begin)) = self.next().await? else {
            return Err(Status::invalid_argument("the first part must be the beginning"));
        };
        let refuse = |reason: String| Status::from(PeerError::new(PeerErrorReason::SnapshotRefused, reason));
        if begin.format != FORMAT {
            let reason = format!("this node reads snapshots of format {FORMAT}, not {}", begin.format);
            return Err(refuse(reason));
        }
        let digest = <[u8; 32]>::try_from(begin.digest.as_ref());
        let digest = digest.map_err(|_| Status::invalid_argument("the digest has not 32 bytes"))?;
        let vote = codec::vote_from_proto(begin.vote)?;
        let store: SnapshotStore = self.consensus.snapshots().clone();
        let receiving = blocking(move || Ok(store.receive(digest, begin.size_bytes))).await?;
        Ok((vote, receiving.map_err(refused)?))
    }

    async fn next(&mut self) -> Result<Option<Part>, Status> {
        match timeout(PART_LIMIT, self.requests.next()).await {
            Ok(Some(request)) => Ok(request?.part),
            Ok(None) => Ok(None),
            Err(_) => Err(Status::deadline_exceeded("no further part of the snapshot came")),
        }
    }
}

async fn answer(
    answers: &mpsc::Sender<Result<pb::InstallSnapshotResponse, Status>>,
    result: Answer,
) -> Result<(), Status> {
    let answer = pb::InstallSnapshotResponse { result: Some(result) };
    answers.send(Ok(answer)).await.map_err(|_| Status::cancelled("the sender is gone"))
}

fn refused(error: SnapshotError) -> Status {
    PeerError::new(PeerErrorReason::SnapshotRefused, error.to_string()).into()
}
