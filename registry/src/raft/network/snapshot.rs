//! Sending a snapshot file in chunks.

use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use bytes::Bytes;
use openraft::raft::SnapshotResponse;
use registry_proto::internal as pb;
use registry_proto::internal::install_snapshot_request::Part;
use registry_proto::internal::install_snapshot_response::Result as Answer;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::super::codec;
use super::super::snapshot::{FORMAT, SnapshotFile};
use super::super::state_machine::blocking;
use super::super::types::{RaftVote, Snapshot, TypeConfig as C};
use super::{Connection, Rpc, late, malformed, rpc_error, unreachable, within};
use crate::peers::Purpose;

/// Small enough that heartbeats on the same link wait less than 3 ms at 100 MB/s.
const CHUNK_BYTES: u64 = 256 << 10;
/// Chunks under way before the sender waits for an answer: fills the link at a few ms of round trip.
const WINDOW: u64 = 4;
/// Longest wait for the answer to one chunk.
const CHUNK_LIMIT: Duration = Duration::from_secs(5);

/// Sends the whole file and waits until it is installed.
pub(super) async fn send(
    connection: &Connection,
    vote: RaftVote,
    snapshot: Snapshot,
    install_limit: Duration,
) -> Rpc<SnapshotResponse<C>> {
    let file = snapshot.snapshot;
    let (requests, outgoing) = mpsc::channel(1);
    let begin = pb::InstallSnapshotRequest {
        header: Some(connection.header()),
        part: Some(Part::Begin(begin(&vote, &file))),
    };
    requests.try_send(begin).map_err(unreachable)?;
    let mut client = connection.client(Purpose::Snapshot)?;
    let call = client.install_snapshot(ReceiverStream::new(outgoing));
    let mut replies = within(CHUNK_LIMIT, "snapshot", call).await?;
    let mut stored = match answer(&mut replies, CHUNK_LIMIT).await? {
        Answer::NextOffset(offset) if offset <= file.size_bytes => offset,
        other => return finished(other),
    };
    tracing::info!(target = connection.target, bytes = file.size_bytes, from = stored, "sending a snapshot");
    let transfer = connection.links.transfers.begin(connection.target);
    let mut sent = stored;
    while stored < file.size_bytes {
        while sent < file.size_bytes && sent < stored + WINDOW * CHUNK_BYTES {
            let chunk = read_chunk(&file, sent).await.map_err(unreachable)?;
            sent += chunk.data.len() as u64;
            let request = pb::InstallSnapshotRequest { header: None, part: Some(Part::Chunk(chunk)) };
            let room = timeout(CHUNK_LIMIT, requests.send(request)).await;
            room.map_err(|_| late("snapshot chunk", CHUNK_LIMIT))?.map_err(unreachable)?;
        }
        stored = match answer(&mut replies, CHUNK_LIMIT).await? {
            Answer::NextOffset(offset) if offset > stored && offset <= sent => offset,
            other => return finished(other),
        };
        transfer.stored(stored, file.size_bytes);
    }
    drop(requests);
    finished(answer(&mut replies, install_limit).await?)
}

fn begin(vote: &RaftVote, file: &SnapshotFile) -> pb::SnapshotBegin {
    let membership = &file.meta.last_membership;
    pb::SnapshotBegin {
        vote: Some(codec::vote_to_proto(vote)),
        last_log_id: file.meta.last_log_id.as_ref().map(codec::log_id_to_proto),
        membership: Some(codec::membership_to_proto(membership.membership())),
        membership_log_id: membership.log_id().as_ref().map(codec::log_id_to_proto),
        format: FORMAT,
        size_bytes: file.size_bytes,
        digest: Bytes::copy_from_slice(&file.digest),
    }
}

async fn answer(replies: &mut Streaming<pb::InstallSnapshotResponse>, limit: Duration) -> Rpc<Answer> {
    let reply = timeout(limit, replies.message()).await.map_err(|_| late("snapshot", limit))?;
    let reply = reply.map_err(rpc_error)?.and_then(|reply| reply.result);
    reply.ok_or_else(|| unreachable("snapshot: the receiver ended without an answer"))
}

fn finished(answer: Answer) -> Rpc<SnapshotResponse<C>> {
    match answer {
        Answer::Installed(vote) | Answer::HigherVote(vote) => {
            Ok(SnapshotResponse::new(codec::vote_from_proto(Some(vote)).map_err(malformed)?))
        }
        Answer::NextOffset(offset) => Err(unreachable(format!("snapshot: unexpected offset {offset}"))),
    }
}

async fn read_chunk(file: &SnapshotFile, offset: u64) -> io::Result<pb::SnapshotChunk> {
    let length = CHUNK_BYTES.min(file.size_bytes - offset);
    let file = file.file.clone();
    blocking(move || {
        let mut data = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact_at(&mut data, offset)?;
        let crc32c = crc32c::crc32c(&data);
        Ok(pb::SnapshotChunk { offset, data: data.into(), crc32c })
    })
    .await
}
