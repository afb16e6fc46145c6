//! Parts of the peer port that exist only once Raft runs; the port answers from the first moment.

use std::sync::{Arc, OnceLock};

use registry_proto::internal::{
    AwaitWatchesRequest, AwaitWatchesResponse, ForwardRenewalsRequest, ForwardRenewalsResponse, JoinRequest,
    JoinResponse, PeerErrorReason,
};
use tokio::time::Instant;
use tonic::Status;

use crate::error::peer::PeerError;
use crate::membership::Membership;
use crate::server::peer::renewals::RenewalServer;
use crate::server::peer::{Incoming, MembershipCalls, RenewalCalls};

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
        self.0.get().ok_or_else(starting)
    }
}

/// Answers NOT_READY until the real one is handed in.
#[derive(Debug, Clone, Default)]
pub(super) struct LateMembership(pub(super) Arc<OnceLock<Membership>>);

fn starting() -> Status {
    PeerError::new(PeerErrorReason::NotReady, "the node is not a member yet; ask another one").into()
}

#[tonic::async_trait]
impl MembershipCalls for LateMembership {
    async fn join(&self, request: JoinRequest) -> Result<JoinResponse, Status> {
        MembershipCalls::join(self.0.get().ok_or_else(starting)?, request).await
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
