//! Who this node is, told to other nodes in every state: Hello, Prepare, Probe, Goodbye; and the gate
//! before Raft.

use std::net::IpAddr;
use std::time::Duration;

use registry_proto::internal::log_entry::Payload;
use registry_proto::internal::{
    AdoptRequest, AdoptResponse, AppendRequest, Compatibility, GoodbyeRequest, HelloRequest, HelloResponse,
    LogEntry, NodeIdentity, NodeState, PeerErrorReason, PrepareRequest, PrepareResponse, ProbeResponse,
    RenewRequest, RenewResponse,
};
use tokio::time::timeout;
use tonic::Status;

use super::{IdentityCalls, Own};
use crate::config::{RaftConfig, ValidConfig};
use crate::crash_point::CrashPoint;
use crate::error::peer::PeerError;
use crate::founding::{Offer, judge_offer};
use crate::identity::{IdentityError, MemberId};
use crate::peers::Hints;
use crate::raft::Consensus;
use crate::standing::{Cause, Stage, Standing};

mod admission;
#[cfg(test)]
mod identity_test;

/// Version of the protocol between nodes that this program speaks.
pub const PROTOCOL: u32 = 1;
/// Format of log entries and snapshots that it reads and writes.
pub const FORMAT: u32 = 1;
/// How long a Raft call waits for a node that starts because of it: shorter than the deadline of a vote.
const START_WAIT: Duration = Duration::from_millis(100);

/// Answers for this node.
#[derive(Debug, Clone)]
pub struct IdentityService {
    standing: Standing,
    node_id: String,
    peer_endpoint: String,
    client_endpoint: String,
    nodes_digest: [u8; 32],
    raft: RaftConfig,
    /// Takes part in a founding.
    founds: bool,
    hints: Hints,
    crash: CrashPoint,
}

/// What this program speaks, with the timings of this node.
pub fn compatibility(raft: &RaftConfig) -> Compatibility {
    let duration = |length: Duration| prost_types::Duration::try_from(length).ok();
    Compatibility {
        min_protocol: PROTOCOL,
        max_protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        heartbeat_interval: duration(raft.heartbeat_interval),
        election_timeout_min: duration(raft.election_timeout_min),
        election_timeout_max: duration(raft.election_timeout_max),
        min_format: FORMAT,
        max_format: FORMAT,
    }
}

/// Whether two nodes have the same Raft timings. A difference is reported, never refused: a rolling change
/// of timings must pass (P/N2).
pub fn same_timings(one: &Compatibility, other: &Compatibility) -> bool {
    one.heartbeat_interval == other.heartbeat_interval
        && one.election_timeout_min == other.election_timeout_min
        && one.election_timeout_max == other.election_timeout_max
}

impl IdentityService {
    /// Answers for the node with this configuration and standing.
    pub fn new(config: &ValidConfig, standing: Standing, hints: Hints, crash: CrashPoint) -> Self {
        Self {
            standing,
            node_id: config.node.node_id.clone(),
            peer_endpoint: config.node.peer_endpoint(),
            client_endpoint: config.node.client_endpoint(),
            nodes_digest: config.nodes_digest,
            raft: config.raft,
            founds: config.founds(),
            hints,
            crash,
        }
    }

    /// Who this node is, as it says in Hello.
    pub fn identity(&self) -> NodeIdentity {
        let identity = self.standing.identity();
        let member = identity.member.unwrap_or(MemberId { cluster_id: String::new(), raft_id: 0 });
        NodeIdentity {
            cluster_id: member.cluster_id,
            raft_id: member.raft_id,
            disk_id: identity.disk_id,
            node_id: self.node_id.clone(),
            peer_endpoint: self.peer_endpoint.clone(),
            client_endpoint: self.client_endpoint.clone(),
        }
    }

    /// How far this node has come.
    pub fn state(&self) -> NodeState {
        let identity = self.standing.identity();
        match (self.standing.stage(), self.standing.consensus()) {
            (Stage::Quarantined(quarantine), _) => match quarantine.cause {
                Cause::DiskLost => NodeState::DiskLost,
                Cause::Removed => NodeState::Removed,
                Cause::Broken => NodeState::Quarantined,
            },
            (_, Some(consensus)) => {
                let status = consensus.status();
                if status.membership.voters().contains(&status.raft_id) {
                    NodeState::Voter
                } else if status.membership.members.contains_key(&status.raft_id) {
                    NodeState::Learner
                } else if self.holds_an_offer_only() {
                    NodeState::Prepared
                } else {
                    NodeState::Adopted
                }
            }
            _ if identity.joined || identity.admitted => NodeState::Adopted,
            _ if identity.member.is_some() => NodeState::Prepared,
            _ => NodeState::Pristine,
        }
    }

    fn quarantine(&self) -> String {
        self.standing.quarantined().map(|quarantine| quarantine.reason).unwrap_or_default()
    }

    /// Neither log nor vote; `Err` while that is not known.
    async fn is_empty(&self) -> Result<bool, PeerError> {
        let not_ready = || PeerError::new(PeerErrorReason::NotReady, "the node is starting; try again");
        match self.standing.stage() {
            Stage::Quarantined(_) => Ok(false),
            Stage::Running => match self.standing.consensus() {
                Some(consensus) => Ok(!consensus.is_initialized()),
                None => Err(not_ready()),
            },
            Stage::Called => Err(not_ready()),
            Stage::Waiting { .. } if self.standing.was_empty() && !self.standing.has_joined() => Ok(true),
            Stage::Waiting { .. } => Err(not_ready()),
        }
    }

    /// Whether its place was only offered by a founder: nothing was voted or acknowledged under it.
    fn holds_an_offer_only(&self) -> bool {
        let identity = self.standing.identity();
        let is_open = !identity.joined && !identity.admitted && identity.member.is_some();
        is_open
            && match self.standing.stage() {
                Stage::Waiting { .. } => self.standing.was_empty(),
                Stage::Running => self.standing.consensus().is_some_and(|raft| !raft.is_initialized()),
                Stage::Called | Stage::Quarantined(_) => false,
            }
    }

    /// A log bears the id of an offer that came to nothing: the node begins anew and can be offered another
    /// place then (P/N3).
    fn give_up_offer(&self) -> PeerError {
        tracing::info!("another place is offered than that of a founding which was given up: starting anew");
        self.standing.renew();
        PeerError::new(
            PeerErrorReason::NotReady,
            "the node gives up the place of another founding; try again",
        )
    }

    /// Index of what removed the caller, as far as this node has applied (P/N5).
    fn removal_of(&self, request: &HelloRequest) -> u64 {
        let Some(header) = &request.header else { return 0 };
        let same = self.standing.member().is_some_and(|own| own.cluster_id == header.cluster_id);
        let removed_at = if same { self.removed_at(header.from_raft_id) } else { None };
        removed_at.map_or(0, |index| index.max(1))
    }

    fn not_running(&self) -> PeerError {
        match self.standing.quarantined() {
            // Never REMOVED: that is the word of a member to one that is none any more.
            Some(quarantine) if quarantine.cause.is_place_gone() => {
                PeerError::new(PeerErrorReason::DiskLost, quarantine.reason)
            }
            Some(quarantine) => PeerError::new(PeerErrorReason::Quarantined, quarantine.reason.clone())
                .with("detail", quarantine.reason),
            None => PeerError::new(PeerErrorReason::NotReady, "the node is starting; try again"),
        }
    }
}

#[tonic::async_trait]
impl IdentityCalls for IdentityService {
    fn own(&self) -> Own {
        match self.standing.member() {
            Some(member) => Own { cluster_id: member.cluster_id, raft_id: member.raft_id },
            None => Own { cluster_id: String::new(), raft_id: 0 },
        }
    }

    async fn raft(&self) -> Result<Consensus, Status> {
        if let Some(consensus) = self.standing.consensus() {
            return Ok(consensus.clone());
        }
        if self.standing.member().is_some() {
            // Only the founder of the cluster, or a leader that it made, knows our place: start.
            self.standing.call();
            let mut stage = self.standing.watch_stage();
            let settled = |stage: &Stage| matches!(stage, Stage::Running | Stage::Quarantined(_));
            let _ = timeout(START_WAIT, stage.wait_for(settled)).await;
        }
        self.standing.consensus().cloned().ok_or_else(|| self.not_running().into())
    }

    fn removed_at(&self, raft_id: u64) -> Option<u64> {
        let published = self.standing.consensus()?.published();
        published.state.is_removed(raft_id).then(|| published.applied_index())
    }

    fn heard(&self, raft_id: u64, from: IpAddr) {
        // Before Raft runs nobody is dialled by Raft id, and 0 is nobody.
        if raft_id != 0 && self.standing.consensus().is_some() {
            self.hints.heard(raft_id, from);
        }
    }

    fn arriving(&self, request: &AppendRequest) {
        let has_two_sets = |entry: &LogEntry| match &entry.payload {
            Some(Payload::Membership(new)) => new.configs.len() == 2,
            _ => false,
        };
        self.crash.pass_if("two-sets-arrived", || request.entries.iter().any(has_two_sets));
    }

    fn seal(&self) -> Result<(), Status> {
        if self.standing.has_joined() || !self.standing.consensus().is_some_and(Consensus::is_initialized) {
            return Ok(());
        }
        self.crash.pass("first-entry");
        self.standing.join().map_err(|error| not_stored(&error))?;
        self.crash.pass("joined-stored");
        Ok(())
    }

    async fn hello(&self, request: HelloRequest) -> Result<HelloResponse, Status> {
        if let Some(header) = request.header.as_ref().filter(|header| header.from_raft_id != 0)
            && self.standing.member().is_some_and(|own| own.cluster_id == header.cluster_id)
        {
            self.standing.note_heard(header.from_raft_id, header.process_nonce);
        }
        let caller_removed_at = self.removal_of(&request);
        let status = self.standing.consensus().map(Consensus::status);
        let leader = status.as_ref().and_then(|status| status.leader).unwrap_or(0);
        let leader_peer_endpoint = status
            .and_then(|status| {
                status.membership.members.get(&leader).map(|member| member.peer_endpoint.clone())
            })
            .unwrap_or_default();
        Ok(HelloResponse {
            identity: Some(self.identity()),
            state: self.state().into(),
            compatibility: Some(compatibility(&self.raft)),
            leader_raft_id: leader,
            leader_peer_endpoint,
            process_nonce: self.standing.process_nonce(),
            nodes_digest: self.nodes_digest.to_vec().into(),
            quarantine: self.quarantine(),
            caller_removed_at,
        })
    }

    async fn prepare(&self, request: PrepareRequest) -> Result<PrepareResponse, Status> {
        use PeerErrorReason as R;
        if uuid::Uuid::try_parse(&request.cluster_id).is_err() || request.raft_id == 0 {
            let rule = "cluster_id must be a UUID, raft_id more than 0";
            return Err(PeerError::new(R::InvalidField, rule).into());
        }
        let identity = self.standing.identity();
        let place = MemberId { cluster_id: request.cluster_id, raft_id: request.raft_id };
        let verdict = judge_offer(
            request.nodes_digest == self.nodes_digest.as_slice(),
            request.disk_id == identity.disk_id,
            self.is_empty().await?,
            identity.member.as_ref() == Some(&place),
            identity.joined || identity.admitted,
        );
        if !self.founds {
            let message = "this node was started with --join, or its list does not name it: it takes no part in a founding";
            return Err(PeerError::new(R::ConfigMismatch, message).with("node_id", &self.node_id).into());
        }
        let refusal = |reason, message: &str| {
            Err(PeerError::new(reason, message).with("node_id", &self.node_id).into())
        };
        match verdict {
            Offer::OtherList => refusal(R::ConfigMismatch, "the list of nodes here is another one"),
            Offer::OtherDisk => refusal(R::TargetMismatch, "the offer is for another disk"),
            Offer::NotEmpty => refusal(R::NotPristine, "this node has a place or data already"),
            Offer::Known => Ok(PrepareResponse { identity: Some(self.identity()) }),
            Offer::Take if self.standing.is_bound() => Err(self.give_up_offer().into()),
            Offer::Take => match self.standing.prepare(place) {
                Ok(()) => {
                    self.crash.pass("offer-stored");
                    Ok(PrepareResponse { identity: Some(self.identity()) })
                }
                Err(error @ IdentityError::Taken { .. }) => refusal(R::NotPristine, &error.to_string()),
                Err(error) => Err(not_stored(&error)),
            },
        }
    }

    async fn adopt(&self, request: AdoptRequest) -> Result<AdoptResponse, Status> {
        self.adopt_place(request)
    }

    async fn renew(&self, request: RenewRequest) -> Result<RenewResponse, Status> {
        self.renew_place(&request)
    }

    async fn probe(&self) -> Result<ProbeResponse, Status> {
        let published = self.standing.consensus().map(Consensus::published);
        let mark = published.as_ref().and_then(|published| published.hash_mark());
        Ok(ProbeResponse {
            identity: Some(self.identity()),
            state: self.state().into(),
            applied_index: published.map_or(0, |published| published.applied_index()),
            state_hash: mark.map_or(Vec::new(), |mark| mark.hash.to_be_bytes().to_vec()).into(),
            state_hash_index: mark.map_or(0, |mark| mark.index),
            stopping: self.standing.is_stopping(),
            quarantine: self.quarantine(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process_nonce: self.standing.process_nonce(),
        })
    }

    async fn goodbye(&self, request: GoodbyeRequest) {
        if let Some(header) = request.header {
            tracing::info!(member = header.from_raft_id, gone = request.leaving_now, "a member stops");
            self.standing.note_leaving(header.from_raft_id, header.process_nonce);
        }
    }
}

fn not_stored(error: &IdentityError) -> Status {
    tracing::error!(%error, "the identity could not be stored");
    Status::internal("the identity could not be stored; see the log of the node")
}
