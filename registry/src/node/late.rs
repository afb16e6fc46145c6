//! A part of the peer port that exists only once Raft runs; the port answers from the first moment.

use std::sync::OnceLock;

use registry_proto::internal::{
    AwaitWatchesRequest, AwaitWatchesResponse, ForwardRenewalsRequest, ForwardRenewalsResponse,
    PeerErrorReason,
};
use tokio::time::Instant;
use tonic::Status;

use crate::error::peer::PeerError;
use crate::server::peer::renewals::RenewalServer;
use crate::server::peer::{Incoming, RenewalCalls};

/// Answers NOT_READY until the real one is handed in.
#[derive(Default)]
pub(super) struct LateRenewals(OnceLock<RenewalServer>);

impl LateRenewals {
    /// From now on this one answers.
    pub(super) fn set(&self, server: RenewalServer) {
        // Raft starts once per process; a second attempt would change nothing.
        let _ = self.0.set(server);
    }

    fn get(&self) -> Result<&RenewalServer, Status> {
        let starting = || PeerError::new(PeerErrorReason::NotReady, "the node is starting; try again");
        self.0.get().ok_or_else(|| starting().into())
    }
}

#[tonic::async_trait]
impl RenewalCalls for LateRenewals {
    async fn forward_renewals(
        &self,
        from: u64,
        requests: Incoming<ForwardRenewalsRequest>,
    ) -> Result<Incoming<ForwardRenewalsResponse>, Status> {
        self.get()?.forward_renewals(from, requests).await
    }

    async fn await_watches(
        &self,
        request: AwaitWatchesRequest,
        deadline: Instant,
    ) -> Result<AwaitWatchesResponse, Status> {
        self.get()?.await_watches(request, deadline).await
    }
}
