//! Nodes in memory, one in each pod: they take changes of the membership as real ones do, and are caught up at
//! once. A node is known by the UID of its pod's claim, which stands for its disk.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use registry_client::transport::{ByteStream, Dial};
use registry_proto::internal as api;
use registry_proto::internal::admin_service_server::{AdminService, AdminServiceServer};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::fake_api::FakeApi;

/// All nodes of one cluster.
#[derive(Clone)]
pub(crate) struct FakeNodes {
    api: FakeApi,
    raft: Arc<Mutex<Raft>>,
}

#[derive(Default)]
struct Raft {
    cluster_id: String,
    members: BTreeMap<u64, Member>,
    next_id: u64,
    leader: u64,
    index: u64,
    settings: api::ClusterSettings,
    calls: Vec<String>,
}

#[derive(Clone)]
struct Member {
    name: String,
    disk: String,
    votes: bool,
}

/// The node that a call reached.
struct Node {
    all: FakeNodes,
    name: String,
}

impl FakeNodes {
    pub(crate) fn new(api: FakeApi) -> Self {
        Self { api, raft: Arc::default() }
    }

    /// Changes that were asked for since the last call.
    pub(crate) fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.raft.lock().unwrap().calls)
    }

    /// Names of the voters.
    pub(crate) fn voters(&self) -> Vec<String> {
        let raft = self.raft.lock().unwrap();
        raft.members.values().filter(|member| member.votes).map(|member| member.name.clone()).collect()
    }

    /// Lets this member lead.
    pub(crate) fn elect(&self, name: &str) {
        let mut raft = self.raft.lock().unwrap();
        let found = raft.members.iter().find(|(_, member)| member.name == name).map(|(id, _)| *id);
        raft.leader = found.unwrap();
    }

    fn disk(&self, name: &str) -> String {
        let claim = self.api.get("persistentvolumeclaims", &format!("data-{name}")).unwrap();
        claim["metadata"]["uid"].as_str().unwrap().to_owned()
    }
}

impl std::fmt::Debug for FakeNodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FakeNodes")
    }
}

impl Dial for FakeNodes {
    fn dial(&self, endpoint: &str) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
        let ip = endpoint.strip_suffix(":9080").map(str::to_owned);
        let pod =
            self.api.all("pods").into_iter().find(|pod| pod["status"]["podIP"].as_str() == ip.as_deref());
        let all = self.clone();
        Box::pin(async move {
            let pod = pod.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            let (near, far) = tokio::io::duplex(64 * 1024);
            let service = AdminServiceServer::new(Node { all, name });
            let streams = tokio_stream::once(Ok::<_, io::Error>(far));
            tokio::spawn(
                tonic::transport::Server::builder().add_service(service).serve_with_incoming(streams),
            );
            Ok(Box::new(near) as Box<dyn ByteStream>)
        })
    }
}

fn refused(code: Code, reason: &str, leader: u64) -> Status {
    let metadata = [("leader_raft_id".to_owned(), leader.to_string())];
    let details = ErrorDetails::with_error_info(reason, registry_proto::INTERNAL_ERROR_DOMAIN, metadata);
    Status::with_error_details(code, reason, details)
}

fn identity(raft: &Raft, id: u64, name: &str, disk: &str) -> api::NodeIdentity {
    api::NodeIdentity {
        cluster_id: if id == 0 { String::new() } else { raft.cluster_id.clone() },
        raft_id: id,
        disk_id: disk.to_owned(),
        node_id: name.to_owned(),
        peer_endpoint: format!("{name}:9080"),
        client_endpoint: format!("{name}:8080"),
    }
}

fn log_id(raft: &Raft) -> api::LogId {
    api::LogId { term: 1, raft_id: raft.leader, index: raft.index }
}

fn membership(raft: &Raft) -> api::MembershipView {
    let voters = raft.members.iter().filter(|(_, member)| member.votes).map(|(id, _)| *id).collect();
    let members = raft.members.iter().map(|(id, member)| identity(raft, *id, &member.name, &member.disk));
    api::MembershipView {
        log_id: Some(log_id(raft)),
        committed: true,
        membership: Some(api::Membership {
            configs: vec![api::VoterSet { raft_ids: voters }],
            members: members.collect(),
        }),
    }
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

impl Node {
    /// The id under which this node's disk is a member.
    fn raft_id(&self, raft: &Raft) -> u64 {
        let disk = self.all.disk(&self.name);
        raft.members.iter().find(|(_, member)| member.disk == disk).map(|(id, _)| *id).unwrap_or_default()
    }

    /// Makes a change, if this node leads and the membership is the expected one.
    fn change<T>(
        &self,
        call: String,
        expected: Option<api::LogId>,
        make: impl FnOnce(&mut Raft) -> T,
    ) -> Result<Response<T>, Status> {
        let own = self.raft_id(&self.all.raft.lock().unwrap());
        let mut raft = self.all.raft.lock().unwrap();
        raft.calls.push(format!("{}: {call}", self.name));
        if own != raft.leader || own == 0 {
            return Err(refused(Code::Unavailable, "NOT_LEADER", raft.leader));
        }
        if expected.is_some_and(|expected| expected != log_id(&raft)) {
            return Err(refused(Code::Aborted, "MEMBERSHIP_CHANGED", raft.leader));
        }
        raft.index += 1;
        Ok(Response::new(make(&mut raft)))
    }

    fn members_seen(&self, raft: &Raft) -> Vec<api::MemberStatus> {
        let seen = raft.members.iter().map(|(id, member)| {
            let lives = self.all.disk(&member.name) == member.disk
                && self.all.api.get("pods", &member.name).is_some();
            let (place, state) = match member.votes {
                true => (api::MemberPlace::Voter, api::NodeState::Voter),
                false => (api::MemberPlace::Learner, api::NodeState::Learner),
            };
            api::MemberStatus {
                identity: Some(identity(raft, *id, &member.name, &member.disk)),
                place: place as i32,
                state: state as i32,
                last_answer: if lives { seconds(0) } else { seconds(3600) },
                lag_entries: lives.then_some(0),
                caught_up_for: seconds(3600).filter(|_| lives),
                dead: !lives,
                version: "0.1.0".to_owned(),
                ..Default::default()
            }
        });
        seen.collect()
    }
}

#[tonic::async_trait]
impl AdminService for Node {
    async fn initialize(
        &self,
        request: Request<api::InitializeRequest>,
    ) -> Result<Response<api::InitializeResponse>, Status> {
        let request = request.into_inner();
        let disks: Vec<String> = request.members.iter().map(|it| self.all.disk(&it.node_id)).collect();
        let mut raft = self.all.raft.lock().unwrap();
        raft.calls.push(format!("{}: initialize {}", self.name, request.cluster_id));
        let already = !raft.cluster_id.is_empty();
        if already && raft.cluster_id != request.cluster_id {
            return Err(refused(Code::AlreadyExists, "ALREADY_INITIALIZED", raft.leader));
        }
        if !already {
            raft.cluster_id.clone_from(&request.cluster_id);
            for (id, (member, disk)) in (1..).zip(request.members.iter().zip(disks)) {
                let member = Member { name: member.node_id.clone(), disk, votes: true };
                raft.members.insert(id, member);
            }
            (raft.leader, raft.next_id) = (1, 100);
            raft.settings.version = 1;
        }
        let (cluster_id, membership) = (raft.cluster_id.clone(), Some(membership(&raft)));
        Ok(Response::new(api::InitializeResponse { cluster_id, already, membership }))
    }

    async fn admit_member(
        &self,
        request: Request<api::AdmitMemberRequest>,
    ) -> Result<Response<api::AdmitMemberResponse>, Status> {
        let request = request.into_inner();
        let disk = self.all.disk(&request.node_id);
        let call = format!("admit {} at {}", request.node_id, request.peer_endpoint);
        self.change(call, request.expected_membership, |raft| {
            raft.next_id += 1;
            let member = Member { name: request.node_id, disk, votes: false };
            raft.members.insert(raft.next_id, member);
            api::AdmitMemberResponse::default()
        })
    }

    async fn promote_member(
        &self,
        request: Request<api::PromoteMemberRequest>,
    ) -> Result<Response<api::PromoteMemberResponse>, Status> {
        let request = request.into_inner();
        let call = format!("promote {:?} for {:?}", request.raft_ids, request.replaced_raft_ids);
        self.change(call, request.expected_membership, |raft| {
            for id in &request.raft_ids {
                raft.members.get_mut(id).unwrap().votes = true;
            }
            raft.members.retain(|id, _| !request.replaced_raft_ids.contains(id));
            api::PromoteMemberResponse::default()
        })
    }

    async fn remove_member(
        &self,
        request: Request<api::RemoveMemberRequest>,
    ) -> Result<Response<api::RemoveMemberResponse>, Status> {
        let request = request.into_inner();
        let call = format!("remove {:?}", request.raft_ids);
        self.change(call, request.expected_membership, |raft| {
            raft.members.retain(|id, _| !request.raft_ids.contains(id));
            api::RemoveMemberResponse::default()
        })
    }

    async fn transfer_leadership(
        &self,
        request: Request<api::TransferLeadershipRequest>,
    ) -> Result<Response<api::TransferLeadershipResponse>, Status> {
        let request = request.into_inner();
        let call = format!("transfer to {}", request.raft_id);
        self.change(call, request.expected_membership, |raft| {
            raft.leader = request.raft_id;
            api::TransferLeadershipResponse::default()
        })
    }

    async fn status(
        &self,
        request: Request<api::StatusRequest>,
    ) -> Result<Response<api::StatusResponse>, Status> {
        if request.metadata().get("authorization").is_none() {
            return Err(refused(Code::Unauthenticated, "UNAUTHORIZED", 0));
        }
        let disk = self.all.disk(&self.name);
        let raft = self.all.raft.lock().unwrap();
        let own = self.raft_id(&raft);
        let state = match raft.members.get(&own) {
            None => api::NodeState::Pristine,
            Some(member) if member.votes => api::NodeState::Voter,
            Some(_) => api::NodeState::Learner,
        };
        let leads = own != 0 && own == raft.leader;
        let heard = if leads { (seconds(0), None) } else { (None, seconds(0)) };
        Ok(Response::new(api::StatusResponse {
            identity: Some(identity(&raft, own, &self.name, &disk)),
            state: state as i32,
            compatibility: Some(api::Compatibility { version: "0.1.0".to_owned(), ..Default::default() }),
            raft: (own != 0).then(|| api::RaftStatus {
                vote: Some(api::Vote { term: 1, raft_id: raft.leader, committed: true }),
                leader_raft_id: raft.leader,
                quorum_age: heard.0,
                leader_contact: heard.1,
                ..Default::default()
            }),
            membership: (own != 0).then(|| membership(&raft)),
            ready: own != 0,
            members: if leads { self.members_seen(&raft) } else { Vec::new() },
            membership_owner: api::MembershipOwner::Operator as i32,
            ..Default::default()
        }))
    }

    async fn trigger_snapshot(
        &self,
        _: Request<api::TriggerSnapshotRequest>,
    ) -> Result<Response<api::TriggerSnapshotResponse>, Status> {
        Err(Status::unimplemented("not asked for by the operator"))
    }

    async fn get_settings(
        &self,
        _: Request<api::GetSettingsRequest>,
    ) -> Result<Response<api::GetSettingsResponse>, Status> {
        let settings = Some(self.all.raft.lock().unwrap().settings);
        Ok(Response::new(api::GetSettingsResponse { settings }))
    }

    async fn update_settings(
        &self,
        request: Request<api::UpdateSettingsRequest>,
    ) -> Result<Response<api::UpdateSettingsResponse>, Status> {
        let api::UpdateSettingsRequest { expected_version, settings } = request.into_inner();
        let settings = settings.unwrap_or_default();
        let raft = self.all.raft.lock().unwrap();
        if raft.settings.version != expected_version {
            return Err(refused(Code::Aborted, "SETTINGS_CHANGED", raft.leader));
        }
        drop(raft);
        self.change("update settings".to_owned(), None, |raft| {
            let version = raft.settings.version + 1;
            raft.settings = api::ClusterSettings { version, ..settings };
            api::UpdateSettingsResponse { settings: Some(raft.settings) }
        })
    }
}
