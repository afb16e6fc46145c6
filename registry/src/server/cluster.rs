//! `registry.v1.ClusterService`: how the cluster is, as this node or the leader sees it (API/C1, C2).

mod view;

use std::collections::BTreeSet;

use prost::Message;
use registry_proto::internal::ClusterViewRequest;
use registry_proto::v1;
use tokio::time::timeout;
use tonic::{Request, Response, Status};

use self::view::Seen;
use super::core::Core;
use super::front::Front;
use super::header::header;
use super::limits;
use crate::peers::Purpose;

/// Answers in every condition of the node.
#[derive(Clone)]
pub struct ClusterService {
    front: Front,
}

impl ClusterService {
    /// A service behind this door.
    pub fn new(front: Front) -> Self {
        Self { front }
    }

    /// How this node sees the cluster, without header.
    pub fn own_view(&self) -> v1::ClusterStatusResponse {
        let front = &self.front;
        let quarantine = front.standing().quarantined().map(|quarantine| quarantine.reason);
        match front.core_if_any() {
            Some(core) => {
                let reports = core.member_health.reports();
                let differing = core.member_health.differing();
                let mut view = Seen {
                    raft: &core.consensus.status(),
                    state: &core.consensus.published().state,
                    lease: core.consensus.lease(),
                    now: tokio::time::Instant::now(),
                    quarantine: quarantine.as_deref(),
                    reports: &reports,
                    differing: &differing,
                }
                .status();
                view.watch_count = u32::try_from(core.hub.open_watches()).unwrap_or(u32::MAX);
                tell_full_disks(&mut view.members, &core.consensus.full_disks());
                view
            }
            None => {
                let waits_for = front.standing().readiness().err().unwrap_or_default();
                view::before_raft(front.node(), front.nodes(), quarantine.as_deref(), &waits_for)
            }
        }
    }

    /// How the leader sees the cluster; nothing if it cannot be reached within a second.
    async fn leaders_view(&self, core: &Core) -> Option<v1::ClusterStatusResponse> {
        let leader = core.consensus.status().leader.filter(|leader| *leader != core.peers.raft_id())?;
        let mut client = core.peers.client(leader, Purpose::Control)?;
        let request = ClusterViewRequest { header: Some(core.peers.header(leader)) };
        let answer = timeout(limits::CLUSTER_VIEW_TIMEOUT, client.cluster_view(request)).await.ok()?.ok()?;
        v1::ClusterStatusResponse::decode(answer.into_inner().status).ok()
    }

    /// A node that is out of Raft has no state, and is of a cluster all the same: that one is founded.
    fn cluster_joined(&self) -> String {
        let identity = self.front.standing().identity();
        identity.member.filter(|_| identity.joined).map(|member| member.cluster_id).unwrap_or_default()
    }

    fn header(&self) -> v1::ResponseHeader {
        let node_id = &self.front.node().node_id;
        match self.front.core_if_any() {
            Some(core) => {
                let age = core.rounds.age();
                let published = core.consensus.published();
                let raft = core.consensus.status();
                let leads = raft.leadership().is_some();
                header(node_id, &raft, &published, (!leads).then_some(age))
            }
            None => v1::ResponseHeader {
                node_id: node_id.clone(),
                cluster_id: self
                    .front
                    .standing()
                    .member()
                    .map(|member| member.cluster_id)
                    .unwrap_or_default(),
                ..Default::default()
            },
        }
    }
}

/// Says of members that their disks are full (P/W5), before whatever else there is to say: it is the reason.
fn tell_full_disks(members: &mut [v1::Member], full: &BTreeSet<u64>) {
    for member in members.iter_mut().filter(|member| full.contains(&member.raft_id)) {
        let what = "its disk is full: free space there; it goes on by itself";
        member.detail = match member.detail.len() {
            // The whole has at most 256 bytes.
            1..=190 => format!("{what}; {}", member.detail),
            _ => what.to_owned(),
        };
    }
}

#[tonic::async_trait]
impl v1::cluster_service_server::ClusterService for ClusterService {
    async fn cluster_status(
        &self,
        request: Request<v1::ClusterStatusRequest>,
    ) -> Result<Response<v1::ClusterStatusResponse>, Status> {
        let _permit = match self.front.core_if_any() {
            Some(core) => Some(core.admission.status().map_err(|error| core.head.status(error))?),
            None => None,
        };
        let own = self.own_view();
        let leads = own.source == v1::StatusSource::Leader as i32;
        let local = request.get_ref().local;
        let leaders = match self.front.core_if_any() {
            Some(core) if !local && !leads => self.leaders_view(core).await,
            _ => None,
        };
        let unreachable = leaders.is_none() && !local && !leads;
        let mut status = match leaders {
            Some(leaders) => v1::ClusterStatusResponse { watch_count: own.watch_count, ..leaders },
            None => own,
        };
        if unreachable && let Some(quorum) = &mut status.quorum {
            quorum.available = false;
        }
        if status.cluster_id.is_empty() {
            status.cluster_id = self.cluster_joined();
        }
        status.header = Some(self.header());
        Ok(Response::new(status))
    }
}
