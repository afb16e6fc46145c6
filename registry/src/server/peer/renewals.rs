//! The leader's side of forwarded renewals, and the watches of this node for Drain (P/L2, P/V7).

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesOrdered, StreamExt};
use prost::Message;
use registry_proto::internal::{
    AwaitWatchesRequest, AwaitWatchesResponse, ForwardRenewalsRequest, ForwardRenewalsResponse,
    ForwardedReply, PeerErrorReason, forwarded_reply,
};
use registry_proto::v1;
use tokio::time::Instant;
use tonic::Status;

use super::{Incoming, RenewalCalls};
use crate::error::Error;
use crate::error::peer::PeerError;
use crate::lease::forward::batch::{BATCH_HEARTBEATS, BATCH_LEASES, LONGEST_WAIT};
use crate::lease::renewals::{Received, Renewals};
use crate::request::forward::encode_status;
use crate::server::convert;
use crate::server::keep_alive::Heads;
use crate::watch::Hub;

/// Messages of one stream that are worked on at once; the sender has two on their way.
const AT_ONCE: usize = 4;

/// Longest wait for the quorum round of a message: then its sender has given up.
const ROUND_TIMEOUT: Duration = Duration::from_secs(2);

/// Time before the caller's deadline at which AwaitWatches answers, so that the answer arrives.
pub(crate) const ANSWER_MARGIN: Duration = Duration::from_millis(50);

/// Services in one AwaitWatches.
const AWAIT_SERVICES: usize = 1_024;

/// Answers ForwardRenewals and AwaitWatches.
#[derive(Clone)]
pub struct RenewalServer {
    renewals: Renewals,
    hub: Hub,
    heads: std::sync::Arc<dyn Heads>,
}

impl RenewalServer {
    /// Answers by the table and the watches of this node.
    pub fn new(renewals: Renewals, hub: Hub, heads: std::sync::Arc<dyn Heads>) -> Self {
        Self { renewals, hub, heads }
    }

    /// Takes a message the moment it was decoded: the deadlines move now, the answer follows.
    fn receive(
        self,
        request: ForwardRenewalsRequest,
    ) -> impl Future<Output = Result<ForwardRenewalsResponse, Status>> + Send {
        let now = Instant::now();
        let received = check(&request).map(|()| self.received(&request, now));
        async move { Ok(self.answer(request, received?, now).await) }
    }

    /// Moves the deadlines of the leases, each from before its wait.
    fn received(&self, request: &ForwardRenewalsRequest, now: Instant) -> Received {
        let waits = request.waited_ms.iter().map(|ms| Duration::from_millis((*ms).into()));
        self.renewals.receive_each(request.lease_ids.iter().copied().zip(waits), now)
    }

    async fn answer(
        &self,
        request: ForwardRenewalsRequest,
        received: Received,
        now: Instant,
    ) -> ForwardRenewalsResponse {
        let deadline = now + ROUND_TIMEOUT;
        let waits = request.waited_ms.iter().skip(request.lease_ids.len());
        // One after the other they would each take a round; together they share one.
        let beats: FuturesOrdered<_> = (request.heartbeats.iter().zip(waits))
            .map(|(heartbeat, waited)| {
                let arrived = now.checked_sub(Duration::from_millis((*waited).into())).unwrap_or(now);
                self.heartbeat(heartbeat.clone(), arrived, deadline)
            })
            .collect();
        let (expired, replies) = tokio::join!(
            self.renewals.renew_here(&request.lease_ids, &received, deadline),
            beats.collect::<Vec<_>>()
        );
        let sequence = request.sequence;
        match expired {
            Ok(expired) => ForwardRenewalsResponse { expired, replies, sequence, ..Default::default() },
            Err(error) => {
                let error = encode_status(&self.heads.status(error));
                ForwardRenewalsResponse { error, sequence, ..Default::default() }
            }
        }
    }

    async fn heartbeat(&self, request: Bytes, arrived: Instant, deadline: Instant) -> ForwardedReply {
        let result = async {
            let request = v1::HeartbeatRequest::decode(request)
                .map_err(|error| Error::Internal(format!("a forwarded heartbeat is malformed: {error}")))?;
            let target = convert::heartbeat(&request)?;
            self.renewals.heartbeat_here(&target, arrived, deadline).await
        };
        match result.await {
            Ok(beat) => ForwardedReply {
                outcome: Some(forwarded_reply::Outcome::Response(beat.response.encode_to_vec().into())),
                revision: beat.revision,
                ..ForwardedReply::default()
            },
            Err(error) => ForwardedReply {
                outcome: Some(forwarded_reply::Outcome::Status(encode_status(&self.heads.status(error)))),
                ..ForwardedReply::default()
            },
        }
    }
}

fn check(request: &ForwardRenewalsRequest) -> Result<(), Status> {
    let (leases, heartbeats) = (request.lease_ids.len(), request.heartbeats.len());
    let longest = u32::try_from(LONGEST_WAIT.as_millis()).unwrap_or(u32::MAX);
    let problem = if leases > BATCH_LEASES {
        format!("lease_ids: at most {BATCH_LEASES}, not {leases}")
    } else if heartbeats > BATCH_HEARTBEATS {
        format!("heartbeats: at most {BATCH_HEARTBEATS}, not {heartbeats}")
    } else if request.waited_ms.len() != leases + heartbeats {
        format!("waited_ms: {} for {leases} leases and {heartbeats} heartbeats", request.waited_ms.len())
    } else if request.waited_ms.iter().any(|waited| *waited > longest) {
        format!("waited_ms: at most {longest}")
    } else {
        return Ok(());
    };
    Err(PeerError::new(PeerErrorReason::InvalidField, problem).into())
}

#[tonic::async_trait]
impl RenewalCalls for RenewalServer {
    async fn forward_renewals(
        &self,
        _from: u64,
        requests: Incoming<ForwardRenewalsRequest>,
    ) -> Result<Incoming<ForwardRenewalsResponse>, Status> {
        let server = self.clone();
        let answers = requests
            .map(move |request| {
                let server = server.clone();
                let begun = request.map(|request| server.receive(request));
                async move { begun?.await }
            })
            .buffered(AT_ONCE);
        Ok(answers.boxed())
    }

    async fn await_watches(
        &self,
        request: AwaitWatchesRequest,
        deadline: Instant,
    ) -> Result<AwaitWatchesResponse, Status> {
        if request.services.len() > AWAIT_SERVICES {
            let problem = format!("services: at most {AWAIT_SERVICES}, not {}", request.services.len());
            return Err(PeerError::new(PeerErrorReason::InvalidField, problem).into());
        }
        let services: Vec<(String, String)> =
            request.services.into_iter().map(|service| (service.namespace, service.service_name)).collect();
        let deadline = deadline.checked_sub(ANSWER_MARGIN).unwrap_or(deadline);
        let sent = self.hub.await_sent(&services, request.revision, deadline).await;
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(AwaitWatchesResponse { watches: count(sent.watches), pending: count(sent.pending) })
    }
}

#[cfg(test)]
#[path = "renewals_test.rs"]
mod tests;
