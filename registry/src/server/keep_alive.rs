//! Heartbeat and KeepAlive: owners renew their leases (API/H1 to H5, K1 to K4).

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, Stream, StreamExt, unfold};
use registry_proto::v1;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tonic::Status;

use super::convert;
use super::limits::{KEEP_ALIVES, UNARY_DEADLINE};
use crate::error::Error;
use crate::lease::renewals::{Received, Renewals};
use crate::request::Caller;

/// Requests of one stream that may be unanswered; with more the server reads no further.
const UNANSWERED: usize = 64;

/// Leases in one request.
const LEASES: usize = 4_096;

/// Leases of all requests of a node that are unanswered: 8 MiB of ids. When all are taken no request is
/// read until others have been answered.
const PENDING_LEASES: usize = 1 << 20;

/// A request counts as so many leases at least, which bounds the requests.
const REQUEST_LEASES: usize = PENDING_LEASES / KEEP_ALIVES;

/// Time after which renewals that failed for a common reason are to be sent again.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// What a service needs to head its answers.
pub trait Heads: Send + Sync + 'static {
    /// A header of now with this revision; 0 = that of the published state.
    fn header(&self, revision: u64) -> v1::ResponseHeader;

    /// The status that tells a client of an error.
    fn status(&self, error: Error) -> Status;
}

/// Answers Heartbeat and KeepAlive.
#[derive(Clone)]
pub struct KeepAlive {
    renewals: Renewals,
    heads: Arc<dyn Heads>,
    closing: watch::Receiver<bool>,
    room: Arc<Semaphore>,
}

impl KeepAlive {
    /// Answers by `renewals`, until `closing` is true.
    pub fn new(renewals: Renewals, heads: Arc<dyn Heads>, closing: watch::Receiver<bool>) -> Self {
        Self { renewals, heads, closing, room: Arc::new(Semaphore::new(PENDING_LEASES)) }
    }

    /// Answers Heartbeat.
    ///
    /// # Errors
    /// INVALID_FIELD, LEASE_EXPIRED, STALE_INCARNATION, NOT_LEADER, NO_QUORUM.
    pub async fn heartbeat(
        &self,
        request: v1::HeartbeatRequest,
        caller: &Caller,
    ) -> Result<v1::HeartbeatResponse, Error> {
        let beat = self.renewals.heartbeat(request, caller.arrived, caller.deadline).await?;
        let header = v1::ResponseHeader { forwarded: beat.forwarded, ..self.heads.header(beat.revision) };
        Ok(v1::HeartbeatResponse { header: Some(header), ..beat.response })
    }

    /// Answers KeepAlive: one answer per request, in order. Up to 64 requests are worked on at once, so
    /// that they share quorum rounds.
    pub fn keep_alive(
        &self,
        requests: impl Stream<Item = Result<v1::KeepAliveRequest, Status>> + Send + 'static,
    ) -> BoxStream<'static, Result<v1::KeepAliveResponse, Status>> {
        let (reading, answering) = (self.clone(), self.clone());
        let answers = until(requests.boxed(), self.closing.clone())
            .then(move |request| {
                let service = reading.clone();
                // Not in the future: the deadline moves as soon as the request has been decoded.
                let taken =
                    request.map_err(|end| service.told(end)).and_then(|request| service.take(request));
                async move { service.stand_in_line(taken?).await }
            })
            .map(move |taken| {
                let service = answering.clone();
                async move { Ok(service.answer(taken?).await) }
            })
            .buffered(UNANSWERED);
        let heads = self.heads.clone();
        let mut told = None;
        answers.map(move |answer| answer.map(|answer| with_header(answer, heads.as_ref(), &mut told))).boxed()
    }

    /// Takes a request the moment it was decoded: the deadlines of its leases move now, the answer follows.
    fn take(&self, request: v1::KeepAliveRequest) -> Result<Taken, Status> {
        let count = request.lease_ids.len();
        if !(1..=LEASES).contains(&count) {
            let error = Error::field("lease_ids", format!("must be 1 to {LEASES} leases, not {count}"));
            return Err(self.heads.status(error));
        }
        let received = self.renewals.receive(&request.lease_ids);
        Ok(Taken { request, received, _room: None })
    }

    /// Waits until the node has room for the leases of a request.
    async fn stand_in_line(&self, taken: Taken) -> Result<Taken, Status> {
        let count = taken.request.lease_ids.len().max(REQUEST_LEASES);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(count).await;
        // Never closed; and without the count the request would still be answered.
        Ok(Taken { _room: room.ok(), ..taken })
    }

    /// The status with which a stream ends.
    fn told(&self, end: End) -> Status {
        match end {
            End::Closing => self.heads.status(Error::ShuttingDown),
            End::Broken(status) => status,
        }
    }

    async fn answer(&self, taken: Taken) -> v1::KeepAliveResponse {
        let Taken { request, received, _room } = taken;
        let deadline = Instant::now() + UNARY_DEADLINE;
        let mut ids = request.lease_ids;
        ids.sort_unstable();
        ids.dedup();
        let sequence = request.sequence;
        match self.renewals.renew(&ids, received, deadline).await {
            Ok(expired) => v1::KeepAliveResponse {
                sequence,
                renewed: u32::try_from(ids.len() - expired.len().min(ids.len())).unwrap_or(u32::MAX),
                failures: expired.into_iter().map(failure).collect(),
                ..v1::KeepAliveResponse::default()
            },
            Err(error) => v1::KeepAliveResponse {
                sequence,
                error: error.reason().unwrap_or(v1::ErrorReason::Internal) as i32,
                retry_after: Some(convert::duration(RETRY_AFTER)),
                ..v1::KeepAliveResponse::default()
            },
        }
    }
}

/// A request that is worked on.
struct Taken {
    request: v1::KeepAliveRequest,
    received: Received,
    _room: Option<OwnedSemaphorePermit>,
}

/// Why no further request is read.
enum End {
    Closing,
    Broken(Status),
}

/// Passes requests on until the stream ends or breaks, or the node closes.
fn until(
    requests: BoxStream<'static, Result<v1::KeepAliveRequest, Status>>,
    closing: watch::Receiver<bool>,
) -> impl Stream<Item = Result<v1::KeepAliveRequest, End>> + Send {
    unfold(Some((requests, closing)), |state| async move {
        let (mut requests, mut closing) = state?;
        let next = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => None,
            request = requests.next() => Some(request?),
        };
        match next {
            None => Some((Err(End::Closing), None)),
            Some(Ok(request)) => Some((Ok(request), Some((requests, closing)))),
            Some(Err(status)) => Some((Err(End::Broken(status)), None)),
        }
    })
}

fn failure(lease_id: u64) -> v1::KeepAliveFailure {
    v1::KeepAliveFailure { lease_id, reason: v1::ErrorReason::LeaseExpired as i32 }
}

/// Adds the header to the first answer, and wherever role, term, leader or epoch changed (API/G3).
fn with_header(
    mut answer: v1::KeepAliveResponse,
    heads: &dyn Heads,
    told: &mut Option<(i32, u64, String, u64)>,
) -> v1::KeepAliveResponse {
    let header = heads.header(0);
    let now = (header.role, header.term, header.leader_endpoint.clone(), header.epoch);
    if told.as_ref() != Some(&now) {
        *told = Some(now);
        answer.header = Some(header);
    }
    answer
}

#[cfg(test)]
#[path = "keep_alive_test.rs"]
mod tests;
