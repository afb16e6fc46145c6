//! Being given a place by a leader, and being told that the old one is gone: Adopt and Renew (P/N4, P/N5).

use registry_proto::internal::{AdoptRequest, AdoptResponse, PeerErrorReason, RenewRequest, RenewResponse};
use tonic::Status;

use super::{IdentityService, not_stored};
use crate::error::peer::PeerError;
use crate::identity::{IdentityError, MemberId};
use crate::standing::Stage;

#[cfg(test)]
#[path = "admission_test.rs"]
mod tests;

impl IdentityService {
    /// Stores the place durably before it answers (P/N4 R2). The same place again succeeds, whatever has
    /// become of it since.
    pub(super) fn adopt_place(&self, request: AdoptRequest) -> Result<AdoptResponse, Status> {
        use PeerErrorReason as R;
        if uuid::Uuid::try_parse(&request.cluster_id).is_err() || request.raft_id == 0 {
            let rule = "cluster_id must be a UUID, raft_id more than 0";
            return Err(PeerError::new(R::InvalidField, rule).into());
        }
        let refusal = |reason, message: &str| {
            Err(PeerError::new(reason, message).with("node_id", &self.node_id).into())
        };
        let identity = self.standing.identity();
        if request.disk_id != identity.disk_id {
            return refusal(R::TargetMismatch, "the place is for another disk");
        }
        let place = MemberId { cluster_id: request.cluster_id, raft_id: request.raft_id };
        let known = identity.member.as_ref() == Some(&place);
        match self.standing.stage() {
            Stage::Quarantined(quarantine) => return refusal(R::NotPristine, &quarantine.reason),
            Stage::Waiting { .. } if known || !self.standing.is_bound() => {}
            Stage::Called | Stage::Running if known => {}
            _ if self.holds_an_offer_only() => return Err(self.give_up_offer().into()),
            _ => return refusal(R::NotPristine, "this node has a place or data already"),
        }
        match self.standing.adopt(place) {
            Ok(()) => {}
            Err(error @ IdentityError::Taken { .. }) => return refusal(R::NotPristine, &error.to_string()),
            Err(error) => return Err(not_stored(&error)),
        }
        if !known {
            tracing::info!(
                cluster_id = self.identity().cluster_id,
                raft_id = request.raft_id,
                "given a place"
            );
        }
        self.crash.pass("adopt-stored");
        Ok(AdoptResponse { identity: Some(self.identity()) })
    }

    /// The leader's word counts only if this node itself says that its place is gone, and only for exactly
    /// what it had: a word that comes late must not cost a healthy member its data.
    pub(super) fn renew_place(&self, request: &RenewRequest) -> Result<RenewResponse, Status> {
        use PeerErrorReason as R;
        let refusal = |reason, message: &str| {
            Err(PeerError::new(reason, message).with("node_id", &self.node_id).into())
        };
        let is_gone = self.standing.quarantined().is_some_and(|quarantine| quarantine.cause.is_place_gone());
        if !is_gone {
            return refusal(R::NotPristine, "this node was neither removed nor has it lost its disk");
        }
        let identity = self.standing.identity();
        let same_place = identity
            .member
            .as_ref()
            .is_none_or(|own| own.cluster_id == request.cluster_id && own.raft_id == request.raft_id);
        if !same_place || request.disk_id != identity.disk_id {
            return refusal(R::TargetMismatch, "the word is for another place or disk");
        }
        tracing::info!("the leader says that the place of this node is gone: starting anew");
        let answer = RenewResponse { identity: Some(self.identity()) };
        self.standing.renew();
        Ok(answer)
    }
}
