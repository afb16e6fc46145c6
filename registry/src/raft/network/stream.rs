//! Entries and heartbeats on a bidirectional stream.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::base::BoxStream;
use openraft::network::RPCOption;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use registry_proto::internal as pb;
use tokio::sync::Notify;
use tokio::time::timeout;
use tonic::Streaming;

use super::super::codec;
use super::super::types::TypeConfig as C;
use super::{Connection, Rpc, late, malformed, rpc_error, unreachable, within};
use crate::peers::Purpose;

/// A log stream without an answer for so long is given up (P/O2). Not shorter: a disk that needs 40 ms
/// for a sync would tear streams down for ever if each answer had the deadline of a heartbeat.
const LOG_ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Why a leader does not send its log (P/N8).
const NO_QUORUM: &str = "no quorum: the log is not sent now";

/// How many requests are under way, and a bell for each that leaves.
#[derive(Default)]
struct InFlight {
    count: AtomicUsize,
    sent: Notify,
}

/// Sends requests and yields one answer for each, in order. The clock runs only while an answer is due.
///
/// A leader without quorum opens log streams only in send phases, and closes them (P/N8).
pub(super) async fn append<'s, S>(
    connection: &'s mut Connection,
    mut input: S,
    option: RPCOption,
) -> Rpc<BoxStream<'s, Rpc<StreamAppendResult<C>>>>
where
    S: Stream<Item = AppendEntriesRequest<C>> + OptionalSend + Unpin + 'static,
{
    let limit = match connection.purpose {
        Purpose::Heartbeat => option.hard_ttl(),
        _ => LOG_ANSWER_LIMIT,
    };
    // openraft sleeps its backoff inside `input`. Without this line a refused connection fails before
    // `input` is polled, and the leader dials in a hot loop.
    let Some(first) = input.next().await else {
        return Ok(Box::pin(futures::stream::empty()));
    };
    let is_log = connection.purpose == Purpose::Append;
    if is_log && !connection.links.quorum.may_open() {
        return Err(unreachable(NO_QUORUM));
    }
    let flight = Arc::new(InFlight::default());
    let mut header = Some(connection.header());
    let outgoing = {
        let flight = flight.clone();
        futures::stream::iter([first]).chain(input).map(move |request| {
            flight.count.fetch_add(1, Ordering::Relaxed);
            flight.sent.notify_one();
            to_proto(request, header.take())
        })
    };
    let mut client = connection.client(connection.purpose)?;
    let (peers, rooms, target) =
        (connection.peers.clone(), connection.links.rooms.clone(), connection.target);
    let quorum = connection.links.quorum.clone();
    // One timer for the life of the stream: not one for each answer.
    let mut lost =
        Box::pin(async move { if is_log { quorum.lost().await } else { std::future::pending().await } });
    let opened = tokio::select! {
        biased;
        opened = within(limit, "append", client.append(outgoing)) => opened,
        () = &mut lost => Err(unreachable(NO_QUORUM)),
    };
    let replies = match opened {
        Ok(replies) => replies,
        Err(error) => {
            // A heartbeat that is late is no news: its limit is short, and the next one follows.
            if is_log {
                peers.failed(target, &error);
            }
            return Err(error);
        }
    };
    peers.answered(target);
    let answers = futures::stream::try_unfold((replies, lost), move |(mut replies, mut lost)| {
        let (flight, rooms) = (flight.clone(), rooms.clone());
        async move {
            let reply = tokio::select! {
                biased;
                reply = next_answer(&mut replies, &flight, limit) => reply?,
                () = &mut lost => return Err(unreachable(NO_QUORUM)),
            };
            let Some(reply) = reply else { return Ok(None) };
            flight.count.fetch_sub(1, Ordering::Relaxed);
            rooms.note(target, reply.disk_full);
            Ok(Some((from_proto(reply)?, (replies, lost))))
        }
    });
    let answers: Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(answers);
    Ok(answers)
}

async fn next_answer(
    replies: &mut Streaming<pb::AppendResponse>,
    flight: &InFlight,
    limit: Duration,
) -> Rpc<Option<pb::AppendResponse>> {
    let next = loop {
        if flight.count.load(Ordering::Relaxed) > 0 {
            break timeout(limit, replies.message()).await.map_err(|_| late("append", limit))?;
        }
        tokio::select! {
            biased;
            reply = replies.message() => break reply,
            () = flight.sent.notified() => {}
        }
    };
    next.map_err(rpc_error)
}

fn to_proto(request: AppendEntriesRequest<C>, header: Option<pb::PeerHeader>) -> pb::AppendRequest {
    pb::AppendRequest {
        header,
        vote: Some(codec::vote_to_proto(&request.vote)),
        prev_log_id: request.prev_log_id.as_ref().map(codec::log_id_to_proto),
        entries: request.entries.iter().map(codec::entry_to_proto).collect(),
        leader_commit: request.leader_commit.as_ref().map(codec::log_id_to_proto),
    }
}

fn from_proto(reply: pb::AppendResponse) -> Rpc<StreamAppendResult<C>> {
    use pb::append_response::Result as Answer;
    Ok(match reply.result {
        Some(Answer::Accepted(accepted)) => Ok(accepted.up_to.map(codec::log_id_from_proto)),
        Some(Answer::Conflict(at)) => Err(StreamAppendError::Conflict(codec::log_id_from_proto(at))),
        Some(Answer::HigherVote(vote)) => {
            Err(StreamAppendError::HigherVote(codec::vote_from_proto(Some(vote)).map_err(malformed)?))
        }
        None => return Err(unreachable("append: an answer without a result")),
    })
}
