//! Admission: a node gets an id for its disk (P/N4, R1), because it asks (Join) or somebody says so
//! (AdmitMember).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use registry_proto::internal::{
    Compatibility, HelloResponse, JoinOutcome, JoinRequest, JoinResponse, NodeIdentity, NodeState,
    PeerErrorReason as R,
};
use registry_state::{AddMember, Member, MemberSpec, MembershipOwner, Operation, Reply, State};
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::{Membership, Reign, target, unknown};
use crate::error::peer::PeerError;
use crate::raft::{Leadership, LogPosition, Membership as RaftMembership};
use crate::server::peer::MembershipCalls;
use crate::server::peer::identity::{FORMAT, PROTOCOL};

/// Longest work on one Join; the caller asks again.
const JOIN_WAIT: Duration = Duration::from_secs(4);

/// A member that was admitted by hand.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// As it stands in the state.
    pub member: Arc<Member>,
    /// The membership afterwards.
    pub membership: Arc<RaftMembership>,
    /// Voters that the cluster works towards now.
    pub voters_target: u32,
}

#[tonic::async_trait]
impl MembershipCalls for Membership {
    async fn join(&self, request: JoinRequest) -> Result<JoinResponse, Status> {
        Ok(Membership::join(self, request).await?)
    }
}

impl Membership {
    /// Answers a node that asks for a place.
    ///
    /// # Errors
    /// See `PeerService.Join`.
    pub async fn join(&self, request: JoinRequest) -> Result<JoinResponse, PeerError> {
        let state = request.state();
        let identity = request.identity.unwrap_or_default();
        check(&identity, request.compatibility.as_ref())?;
        let reign = self.reign(Instant::now() + JOIN_WAIT).await?;
        self.check_cluster(&identity, state)?;
        let (outcome, detail) = self.judge(&reign, &identity, state).await?;
        let cluster_id = self.shared.introducer.cluster_id();
        Ok(JoinResponse { outcome: outcome.into(), retry_after: None, detail, cluster_id })
    }

    async fn judge(
        &self,
        reign: &Reign,
        identity: &NodeIdentity,
        state: NodeState,
    ) -> Result<(JoinOutcome, String), PeerError> {
        let replicated = &reign.published.state;
        let owner = replicated.settings().owner();
        let anew = |why: &str| Ok((JoinOutcome::StartAnew, why.to_owned()));
        let waiting = |why: String| Ok((JoinOutcome::Waiting, why));
        let by_hand = || {
            let who = format!("{owner:?}").to_lowercase();
            format!("members are the business of the {who}: it has to admit this node")
        };
        let is_autopilot = owner == MembershipOwner::Autopilot;
        match state {
            NodeState::Removed | NodeState::DiskLost if !is_autopilot => return waiting(by_hand()),
            NodeState::DiskLost => return anew("the disk was lost: a new one gets a new id"),
            NodeState::Removed if replicated.is_removed(identity.raft_id) => {
                return anew("the member was removed for good");
            }
            NodeState::Removed => {
                return waiting(format!("member {} has not been removed here", identity.raft_id));
            }
            _ => {}
        }
        if replicated.removed_disk(&identity.disk_id).is_some() {
            return anew("the disk belonged to a member that was removed");
        }
        let accepted = || Ok((JoinOutcome::Accepted, "an id is given; waiting for the leader".to_owned()));
        if replicated.members().any(|member| member.disk_id == identity.disk_id) {
            return accepted();
        }
        if !is_autopilot {
            return waiting(by_hand());
        }
        self.give_id(reign, identity, Instant::now() + JOIN_WAIT).await?;
        accepted()
    }

    /// Admits the node at this address: AdmitMember.
    ///
    /// # Errors
    /// See `AdminService.AdmitMember`.
    pub async fn admit(
        &self,
        peer_endpoint: &str,
        node_id: &str,
        expected: Option<LogPosition>,
        owner: Option<MembershipOwner>,
        deadline: Instant,
    ) -> Result<Admitted, PeerError> {
        let reign = self.reign(deadline).await?;
        self.check(&reign, expected, owner)?;
        let mut hello = self.shared.introducer.hello(peer_endpoint).await?;
        let found = hello.identity.clone().unwrap_or_default();
        if found.node_id != node_id {
            let reason = format!("{} answers at {peer_endpoint}, not {node_id}", found.node_id);
            return Err(PeerError::new(R::ConfigMismatch, reason).with("node_id", found.node_id));
        }
        self.check_cluster(&found, hello.state())?;
        let replicated = &reign.published.state;
        let is_known = replicated.members().any(|member| member.disk_id == found.disk_id);
        let is_buried = replicated.removed_disk(&found.disk_id).is_some();
        match hello.state() {
            NodeState::Removed if !replicated.is_removed(found.raft_id) => {
                let reason =
                    format!("{node_id} says that it was removed, but member {} was not", found.raft_id);
                return Err(PeerError::new(R::NotPristine, reason).with("node_id", node_id));
            }
            NodeState::Removed | NodeState::DiskLost => {
                hello = self.shared.introducer.renew(peer_endpoint, &found).await?;
            }
            NodeState::Pristine | NodeState::Prepared if !is_buried => {}
            NodeState::Quarantined => {
                let reason = format!("{node_id} is in quarantine: {}", hello.quarantine);
                return Err(PeerError::new(R::Quarantined, reason).with("node_id", node_id));
            }
            // It has its place already: the call is repeated.
            _ if is_known => {}
            _ => {
                let reason = format!("{node_id} has an identity or data of its own; move its folder away");
                return Err(PeerError::new(R::NotPristine, reason).with("node_id", node_id));
            }
        }
        // In our turn, and once more: another change may have come first.
        let _turn = self.turn(deadline).await?;
        self.check(&reign, expected, owner)?;
        self.admit_as(&reign, hello, deadline).await
    }

    async fn admit_as(
        &self,
        reign: &Reign,
        hello: HelloResponse,
        deadline: Instant,
    ) -> Result<Admitted, PeerError> {
        let identity = hello.identity.unwrap_or_default();
        check(&identity, hello.compatibility.as_ref())?;
        let raft_id = self.give_id(reign, &identity, deadline).await?;
        let voters_target = self.raise_target(reign.leadership).await?;
        let membership = match self.raft_membership() {
            membership if membership.members.contains_key(&raft_id) => membership,
            _ => self.take_up(raft_id).await?,
        };
        let member = self.shared.consensus.published().state.member(raft_id).cloned().ok_or_else(unknown)?;
        tracing::info!(raft_id, node = %member.node_id, voters_target, "a member was admitted by hand");
        Ok(Admitted { member, membership, voters_target })
    }

    /// Gives the disk of a node its id: always the same one. Refused while another node of that name lives.
    async fn give_id(
        &self,
        reign: &Reign,
        identity: &NodeIdentity,
        deadline: Instant,
    ) -> Result<u64, PeerError> {
        let admission = timeout_at(deadline, self.shared.admission.lock()).await;
        let _admission =
            admission.map_err(|_| PeerError::new(R::Overloaded, "others are being admitted; try again"))?;
        let published = self.shared.consensus.published();
        self.check_name(&published.state, identity).await?;
        let spec = MemberSpec {
            raft_id: 0,
            node_id: identity.node_id.clone(),
            disk_id: identity.disk_id.clone(),
            peer_endpoint: identity.peer_endpoint.clone(),
            client_endpoint: identity.client_endpoint.clone(),
        };
        let owner = published.state.settings().membership_owner;
        let command = AddMember { member: Some(spec), owner };
        match self.write(reign.leadership, Operation::AddMember(command)).await? {
            Reply::MemberAdded { raft_id, already } => {
                self.shared.crash.pass("member-added");
                if !already {
                    tracing::info!(raft_id, node = identity.node_id, "a node is admitted");
                }
                Ok(raft_id)
            }
            _ => Err(unknown()),
        }
    }

    /// Two nodes must not have one name. The holder is asked now: probes may be a while old.
    async fn check_name(&self, state: &State, identity: &NodeIdentity) -> Result<(), PeerError> {
        let holders: Vec<&Arc<Member>> = state
            .members()
            .filter(|member| member.node_id == identity.node_id && member.disk_id != identity.disk_id)
            .collect();
        let own = self.shared.consensus.status().raft_id;
        let alive = holders.iter().map(|member| async move {
            member.raft_id == own || self.shared.introducer.is_alive(member).await
        });
        let alive = join_all(alive).await;
        match holders.iter().zip(alive).find(|(_, alive)| *alive) {
            None => Ok(()),
            Some((holder, _)) => {
                let reason = format!(
                    "{} is alive as member {} at {}; give this node another name",
                    holder.node_id, holder.raft_id, holder.peer_endpoint
                );
                Err(PeerError::new(R::AlreadyMember, reason).with("raft_id", holder.raft_id))
            }
        }
    }

    /// A place that was only offered by a founder binds nobody: nothing was voted under it (P/N3).
    fn check_cluster(&self, identity: &NodeIdentity, state: NodeState) -> Result<(), PeerError> {
        let own = self.shared.introducer.cluster_id();
        let is_free = identity.cluster_id.is_empty() || state == NodeState::Prepared;
        if is_free || identity.cluster_id == own {
            return Ok(());
        }
        let reason = format!("{} is of cluster {}, not of {own}", identity.node_id, identity.cluster_id);
        Err(PeerError::new(R::ClusterMismatch, reason))
    }

    /// Makes room for the votes of all names.
    async fn raise_target(&self, leadership: Leadership) -> Result<u32, PeerError> {
        self.aim(leadership, |state, target| {
            let names: BTreeSet<&str> = state.members().map(|member| member.node_id.as_str()).collect();
            target::raised(target, names.len())
        })
        .await
    }
}

/// Names and addresses must be there; the state checks their form.
fn check(identity: &NodeIdentity, theirs: Option<&Compatibility>) -> Result<(), PeerError> {
    if identity.disk_id.is_empty() || identity.node_id.is_empty() || identity.peer_endpoint.is_empty() {
        return Err(PeerError::new(R::InvalidField, "disk_id, node_id and peer_endpoint must be given"));
    }
    let theirs = theirs.cloned().unwrap_or_default();
    let speaks = |min: u32, max: u32, own: u32| (min..=max).contains(&own);
    if speaks(theirs.min_protocol, theirs.max_protocol, PROTOCOL)
        && speaks(theirs.min_format, theirs.max_format, FORMAT)
    {
        return Ok(());
    }
    let reason = format!(
        "{} has version {:?}, which does not speak protocol {PROTOCOL} and format {FORMAT} of this cluster",
        identity.node_id, theirs.version
    );
    Err(PeerError::new(R::VersionUnsupported, reason).with("min", PROTOCOL).with("max", PROTOCOL))
}
