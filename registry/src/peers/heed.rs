//! What every answer of another node may say beside its content: that this node was removed (P/N5), or that
//! somebody else answers there (P/N2).

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use hyper::body::Incoming;
use registry_client::transport::Channel;
use registry_proto::internal::PeerErrorReason;
use tonic::Status;
use tonic::body::Body;

use super::Peers;
use super::hints::Way;
use crate::error::peer::PeerError;

#[cfg(test)]
#[path = "heed_test.rs"]
mod tests;

/// A channel to a member that heeds refusals, whatever the call. A clone shares the connection.
#[derive(Debug, Clone)]
pub struct Heeding {
    pub(super) channel: Channel,
    pub(super) way: Way,
    pub(super) peers: Peers,
}

impl Heeding {
    async fn heed(&self, refusal: &Status) {
        if let Some(index) = PeerError::removal_in(refusal) {
            self.peers.heed_removal(index);
        }
        let reason = PeerError::reason_of(refusal);
        let is_other =
            matches!(reason, Some(PeerErrorReason::ClusterMismatch | PeerErrorReason::TargetMismatch));
        if is_other {
            self.mistaken().await;
        }
    }

    /// Somebody else answers there: finds the member anew, by the other way first.
    pub(super) async fn mistaken(&self) {
        if self.way.mistaken() {
            self.channel.reset().await;
        }
    }
}

impl tower::Service<http::Request<Body>> for Heeding {
    type Response = http::Response<Incoming>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        tower::Service::poll_ready(&mut self.channel, context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let heeding = self.clone();
        Box::pin(async move {
            let answer = heeding.channel.clone().call(request).await?;
            // A refusal before any content has its status among the headers.
            if let Some(refusal) = Status::from_header_map(answer.headers()) {
                heeding.heed(&refusal).await;
            }
            Ok(answer)
        })
    }
}
