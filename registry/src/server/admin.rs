//! Administration on the peer port (P/S3): who may call, and what each call asks of the node.
//!
//! The work is done elsewhere: members by [`Membership`], settings through the log, status from what the
//! node knows. A change that was begun goes on when its caller hangs up.

mod convert;
mod found;
mod slots;
mod status;
mod token;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use registry_proto::internal as pb;
use registry_proto::internal::PeerErrorReason as R;
use registry_proto::internal::admin_service_server::{AdminService as Rpc, AdminServiceServer};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

pub use self::found::Word;
use self::slots::Slots;
pub use self::token::{Caller, Token};
use super::limits;
use super::peer::{IdentityCalls, time_left};
use crate::config::ValidConfig;
use crate::error::peer::PeerError;
use crate::membership::{Membership, Promotion, TransferWish};
use crate::standing::Standing;

/// Longest time of a change, whatever its caller allows: no sensible one takes longer.
const LONGEST: Duration = Duration::from_secs(60);
/// Time for a transfer of leadership whose caller gives none.
const TRANSFER_WAIT: Duration = Duration::from_secs(5);
/// Most ids in one call: more than voters and their successors.
const MOST_IDS: usize = 16;

/// Answers administrators. A clone is the same.
#[derive(Clone)]
pub struct AdminService {
    parts: Arc<AdminParts>,
    slots: Slots,
}

/// What the service needs of the node.
pub struct AdminParts {
    /// Who may call.
    pub token: Token,
    /// Who this node is.
    pub identity: Arc<dyn IdentityCalls>,
    /// How far it has come.
    pub standing: Standing,
    /// The leader's business with members, once Raft runs.
    pub membership: Arc<OnceLock<Membership>>,
    /// The configuration of the node.
    pub config: ValidConfig,
    /// What the node speaks.
    pub compatibility: pb::Compatibility,
    /// Where the word to found is left.
    pub word: Word,
    /// When the node started.
    pub begun: Instant,
}

type Answer<T> = Result<Response<T>, Status>;

impl AdminService {
    /// Answers for a node.
    pub fn new(parts: AdminParts) -> Self {
        Self { parts: Arc::new(parts), slots: Slots::default() }
    }

    /// The service for the peer listener.
    pub fn into_server(self) -> AdminServiceServer<Self> {
        AdminServiceServer::new(self)
            .max_decoding_message_size(limits::REQUEST_BYTES)
            .max_encoding_message_size(limits::ANSWER_BYTES)
    }

    /// The message, and when to give up.
    fn admit<T>(&self, request: Request<T>) -> Result<(T, Instant), Status> {
        self.parts.token.check(&request)?;
        let deadline = Instant::now() + time_left(&request).min(LONGEST);
        Ok((request.into_inner(), deadline))
    }

    fn membership(&self) -> Result<Membership, PeerError> {
        self.parts.membership.get().cloned().ok_or_else(|| {
            let why = self.parts.standing.readiness().err().unwrap_or_default();
            let is_pristine = self.parts.standing.member().is_none();
            let reason = if is_pristine { R::NotInitialized } else { R::NotReady };
            PeerError::new(reason, format!("Raft does not run on this node: {why}"))
        })
    }
}

/// The ids of a request: some, not too many, none of them 0.
fn ids(field: &'static str, raft_ids: &[u64], least: usize) -> Result<BTreeSet<u64>, PeerError> {
    if raft_ids.len() < least || raft_ids.len() > MOST_IDS || raft_ids.contains(&0) {
        let rule = format!("must have {least} to {MOST_IDS} ids of members");
        return Err(PeerError::bad_field(field, rule));
    }
    Ok(raft_ids.iter().copied().collect())
}

#[tonic::async_trait]
impl Rpc for AdminService {
    async fn initialize(&self, request: Request<pb::InitializeRequest>) -> Answer<pb::InitializeResponse> {
        let (message, deadline) = self.admit(request)?;
        let service = self.clone();
        self.slots.change(async move { service.found(message, deadline).await }).await.map(Response::new)
    }

    async fn admit_member(
        &self,
        request: Request<pb::AdmitMemberRequest>,
    ) -> Answer<pb::AdmitMemberResponse> {
        let (message, deadline) = self.admit(request)?;
        let membership = self.membership()?;
        let owner = convert::owner("owner", message.owner)?;
        let expected = message.expected_membership.map(convert::position);
        let cluster_id = self.parts.standing.identity().member.map(|member| member.cluster_id);
        let admitted = self.slots.change(async move {
            membership.admit(&message.peer_endpoint, &message.node_id, expected, owner, deadline).await
        });
        let admitted = admitted.await?;
        Ok(Response::new(pb::AdmitMemberResponse {
            identity: Some(convert::identity(&admitted.member, &cluster_id.unwrap_or_default())),
            membership: Some(convert::membership(&admitted.membership)),
            voters_target: admitted.voters_target,
        }))
    }

    async fn promote_member(
        &self,
        request: Request<pb::PromoteMemberRequest>,
    ) -> Answer<pb::PromoteMemberResponse> {
        let (message, deadline) = self.admit(request)?;
        let membership = self.membership()?;
        let promotion = Promotion {
            raft_ids: ids("raft_ids", &message.raft_ids, 1)?,
            replaced: ids("replaced_raft_ids", &message.replaced_raft_ids, 0)?,
            max_lag_entries: (message.max_lag_entries > 0).then_some(message.max_lag_entries),
            expected: message.expected_membership.map(convert::position),
            owner: convert::owner("owner", message.owner)?,
        };
        let changed = self.slots.change(async move { membership.promote(promotion, deadline).await }).await?;
        Ok(Response::new(pb::PromoteMemberResponse {
            membership: Some(convert::membership(&changed.membership)),
        }))
    }

    async fn remove_member(
        &self,
        request: Request<pb::RemoveMemberRequest>,
    ) -> Answer<pb::RemoveMemberResponse> {
        let (message, deadline) = self.admit(request)?;
        let membership = self.membership()?;
        let raft_ids = ids("raft_ids", &message.raft_ids, 1)?;
        let owner = convert::owner("owner", message.owner)?;
        let expected = message.expected_membership.map(convert::position);
        let changed = self
            .slots
            .change(async move { membership.remove(&raft_ids, expected, owner, deadline).await })
            .await?;
        Ok(Response::new(pb::RemoveMemberResponse {
            removed: changed.is_new,
            membership: Some(convert::membership(&changed.membership)),
            voters_target: changed.voters_target,
        }))
    }

    async fn transfer_leadership(
        &self,
        request: Request<pb::TransferLeadershipRequest>,
    ) -> Answer<pb::TransferLeadershipResponse> {
        let (message, _) = self.admit(request)?;
        let membership = self.membership()?;
        let wait = match message.timeout {
            None => TRANSFER_WAIT,
            Some(timeout) => Duration::try_from(timeout)
                .ok()
                .filter(|timeout| (Duration::from_millis(1)..=LONGEST).contains(timeout))
                .ok_or_else(|| PeerError::bad_field("timeout", "must be more than 0 and at most 60 s"))?,
        };
        let wish = TransferWish {
            target: (message.raft_id > 0).then_some(message.raft_id),
            expected: message.expected_membership.map(convert::position),
            deadline: Instant::now() + wait,
        };
        let leadership = self.slots.change(async move { membership.transfer(wish).await }).await?;
        Ok(Response::new(pb::TransferLeadershipResponse {
            leader_raft_id: leadership.node,
            term: leadership.term,
        }))
    }

    async fn status(&self, request: Request<pb::StatusRequest>) -> Answer<pb::StatusResponse> {
        let (message, _) = self.admit(request)?;
        let _slot = self.slots.question().await?;
        self.tell(message.state_hash).await.map(Response::new)
    }

    async fn trigger_snapshot(
        &self,
        request: Request<pb::TriggerSnapshotRequest>,
    ) -> Answer<pb::TriggerSnapshotResponse> {
        let (_, deadline) = self.admit(request)?;
        let membership = self.membership()?;
        let begun = Instant::now();
        let made = self.slots.change(async move {
            let made = membership.consensus().make_snapshot(deadline).await;
            made.map_err(|error| PeerError::new(R::NotReady, format!("no snapshot: {error}")))
        });
        let made = made.await?;
        Ok(Response::new(pb::TriggerSnapshotResponse {
            last_log_id: made.position.map(convert::log_id),
            size_bytes: made.size_bytes,
            took: prost_types::Duration::try_from(begun.elapsed()).ok(),
        }))
    }

    async fn get_settings(
        &self,
        request: Request<pb::GetSettingsRequest>,
    ) -> Answer<pb::GetSettingsResponse> {
        self.admit(request)?;
        let _slot = self.slots.question().await?;
        let published = self.membership()?.consensus().published();
        if published.state.cluster_id().is_none() {
            return Err(PeerError::new(R::NotInitialized, "the cluster is being founded; try again").into());
        }
        let settings = Some(convert::settings_to_proto(published.state.settings()));
        Ok(Response::new(pb::GetSettingsResponse { settings }))
    }

    async fn update_settings(
        &self,
        request: Request<pb::UpdateSettingsRequest>,
    ) -> Answer<pb::UpdateSettingsResponse> {
        let (message, deadline) = self.admit(request)?;
        if message.expected_version == 0 {
            return Err(PeerError::bad_field("expected_version", "must be given: read the settings").into());
        }
        let settings = message.settings.ok_or_else(|| PeerError::bad_field("settings", "must be given"))?;
        let settings = convert::settings_from_proto(&settings)?;
        let membership = self.membership()?;
        let updated = self.slots.change(async move {
            membership.update_settings(message.expected_version, settings, deadline).await
        });
        let settings = Some(convert::settings_to_proto(&updated.await?));
        Ok(Response::new(pb::UpdateSettingsResponse { settings }))
    }
}
