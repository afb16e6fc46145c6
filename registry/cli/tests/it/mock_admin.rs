//! AdminService of one node that keeps settings and plays through what a test tells it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use registry_proto::INTERNAL_ERROR_DOMAIN;
use registry_proto::internal::admin_service_server::{AdminService, AdminServiceServer};
use registry_proto::internal::{self as api, MemberPlace};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::mock::serve;

/// The administered side of a node in a test.
#[derive(Clone, Default)]
pub(crate) struct MockAdmin {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    script: Mutex<Script>,
    calls: Mutex<Vec<String>>,
}

/// What a node answers.
#[derive(Default)]
pub(crate) struct Script {
    /// The token that it asks for.
    pub(crate) token: Option<String>,
    /// It does not lead; the peer endpoint of who does, or nothing if it does not know.
    pub(crate) follows: Option<String>,
    /// Statuses, one after the other; the last one stays.
    pub(crate) statuses: VecDeque<api::StatusResponse>,
    /// The settings.
    pub(crate) settings: api::ClusterSettings,
    /// Whoever is asked to lead, this one does.
    pub(crate) elects: Option<u64>,
    /// Changes are refused so.
    pub(crate) refuse: Option<&'static str>,
}

impl MockAdmin {
    /// Serves on a port of its own and gives its `HOST:PORT`.
    pub(crate) async fn start(script: Script) -> (Self, String) {
        let mock = Self { shared: Arc::new(Shared { script: Mutex::new(script), calls: Mutex::default() }) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        tokio::spawn(serve(listener, Routes::new(AdminServiceServer::new(mock.clone()))));
        (mock, endpoint)
    }

    /// The changes that it was asked for.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// The settings as they are now.
    pub(crate) fn settings(&self) -> api::ClusterSettings {
        self.shared.script.lock().unwrap().settings
    }

    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let script = self.shared.script.lock().unwrap();
        let given = request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        match &script.token {
            Some(token) if given != Some(format!("Bearer {token}")) => {
                Err(refused("UNAUTHORIZED", Code::Unauthenticated, []))
            }
            _ => Ok(()),
        }
    }

    /// Notes a change, unless it is refused.
    fn change<T>(&self, request: &Request<T>, call: String) -> Result<(), Status> {
        self.admit(request)?;
        let script = self.shared.script.lock().unwrap();
        if let Some(leader) = &script.follows {
            let hint = [("leader_peer_endpoint".to_owned(), leader.clone())];
            return Err(refused("NOT_LEADER", Code::Unavailable, hint));
        }
        if let Some(reason) = script.refuse {
            return Err(refused(reason, Code::FailedPrecondition, []));
        }
        self.shared.calls.lock().unwrap().push(call);
        Ok(())
    }
}

fn refused<const N: usize>(reason: &str, code: Code, metadata: [(String, String); N]) -> Status {
    let details = ErrorDetails::with_error_info(reason, INTERNAL_ERROR_DOMAIN, metadata);
    Status::with_error_details(code, "the mock says no", details)
}

/// A member as a leader tells it.
pub(crate) fn member(raft_id: u64, node_id: &str, place: MemberPlace) -> api::MemberStatus {
    api::MemberStatus {
        identity: Some(api::NodeIdentity { raft_id, node_id: node_id.into(), ..Default::default() }),
        place: place.into(),
        state: api::NodeState::Voter.into(),
        ..Default::default()
    }
}

/// What a leader with these members tells.
pub(crate) fn status(members: Vec<api::MemberStatus>) -> api::StatusResponse {
    let log_id = Some(api::LogId { index: 41, ..Default::default() });
    api::StatusResponse {
        membership: Some(api::MembershipView { log_id, committed: true, membership: None }),
        raft: Some(api::RaftStatus { leader_raft_id: 1, ..Default::default() }),
        members,
        membership_owner: api::MembershipOwner::Autopilot.into(),
        voters_target: 5,
        ..Default::default()
    }
}

fn seen(log_id: Option<api::LogId>) -> String {
    log_id.map_or("any".to_owned(), |log_id| log_id.index.to_string())
}

#[tonic::async_trait]
impl AdminService for MockAdmin {
    async fn initialize(
        &self,
        _: Request<api::InitializeRequest>,
    ) -> Result<Response<api::InitializeResponse>, Status> {
        Err(Status::unimplemented("initialize"))
    }

    async fn admit_member(
        &self,
        request: Request<api::AdmitMemberRequest>,
    ) -> Result<Response<api::AdmitMemberResponse>, Status> {
        let message = request.get_ref().clone();
        let (name, at) = (message.node_id, message.peer_endpoint);
        self.change(&request, format!("admit {name} {at}, seen {}", seen(message.expected_membership)))?;
        let identity = api::NodeIdentity { raft_id: 4, node_id: name, ..Default::default() };
        Ok(Response::new(api::AdmitMemberResponse {
            identity: Some(identity),
            membership: None,
            voters_target: 5,
        }))
    }

    async fn promote_member(
        &self,
        request: Request<api::PromoteMemberRequest>,
    ) -> Result<Response<api::PromoteMemberResponse>, Status> {
        let message = request.get_ref().clone();
        self.change(&request, format!("promote {:?} for {:?}", message.raft_ids, message.replaced_raft_ids))?;
        Ok(Response::new(api::PromoteMemberResponse::default()))
    }

    async fn remove_member(
        &self,
        request: Request<api::RemoveMemberRequest>,
    ) -> Result<Response<api::RemoveMemberResponse>, Status> {
        let message = request.get_ref().clone();
        let call = format!("remove {:?}, seen {}", message.raft_ids, seen(message.expected_membership));
        self.change(&request, call)?;
        Ok(Response::new(api::RemoveMemberResponse { removed: true, ..Default::default() }))
    }

    async fn transfer_leadership(
        &self,
        request: Request<api::TransferLeadershipRequest>,
    ) -> Result<Response<api::TransferLeadershipResponse>, Status> {
        let raft_id = request.get_ref().raft_id;
        self.change(&request, format!("transfer {raft_id}"))?;
        let leader_raft_id = match self.shared.script.lock().unwrap().elects {
            Some(other) => other,
            None if raft_id == 0 => 2,
            None => raft_id,
        };
        Ok(Response::new(api::TransferLeadershipResponse { leader_raft_id, term: 9 }))
    }

    async fn status(
        &self,
        request: Request<api::StatusRequest>,
    ) -> Result<Response<api::StatusResponse>, Status> {
        self.admit(&request)?;
        let statuses = &mut self.shared.script.lock().unwrap().statuses;
        let now = if statuses.len() > 1 { statuses.pop_front() } else { statuses.front().cloned() };
        Ok(Response::new(now.unwrap_or_default()))
    }

    async fn trigger_snapshot(
        &self,
        _: Request<api::TriggerSnapshotRequest>,
    ) -> Result<Response<api::TriggerSnapshotResponse>, Status> {
        Err(Status::unimplemented("trigger_snapshot"))
    }

    async fn get_settings(
        &self,
        request: Request<api::GetSettingsRequest>,
    ) -> Result<Response<api::GetSettingsResponse>, Status> {
        self.admit(&request)?;
        Ok(Response::new(api::GetSettingsResponse { settings: Some(self.settings()) }))
    }

    async fn update_settings(
        &self,
        request: Request<api::UpdateSettingsRequest>,
    ) -> Result<Response<api::UpdateSettingsResponse>, Status> {
        let message = *request.get_ref();
        self.change(&request, format!("update version {}", message.expected_version))?;
        let settings = &mut self.shared.script.lock().unwrap().settings;
        let version = settings.version + 1;
        *settings = api::ClusterSettings { version, ..message.settings.unwrap() };
        Ok(Response::new(api::UpdateSettingsResponse { settings: Some(*settings) }))
    }
}
