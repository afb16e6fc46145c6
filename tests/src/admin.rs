//! Administration of a cluster: bare calls to one node, and changes that find the leader by themselves.

use std::sync::Arc;
use std::time::Duration;

use registry_client::transport::{Channel, ConnectionOptions, TcpDial};
use registry_proto::internal::admin_service_client::AdminServiceClient;
use registry_proto::internal::{self as admin, ClusterSettings, MemberPlace, MemberStatus};
use tonic::{Request, Status};

use crate::api::reason;
use crate::cluster::Cluster;
use crate::wait;

/// Longest time of a bare call: admitting a node writes to its disk.
const CALL_LIMIT: Duration = Duration::from_secs(20);

/// Long enough for a change with a fault in it on a busy machine.
const LONG: Duration = Duration::from_secs(100);

/// Calls of an administrator to one node.
#[derive(Debug, Clone)]
pub struct Admin {
    client: AdminServiceClient<Channel>,
    token: Option<String>,
}

impl Admin {
    /// Calls to the node whose peer port is `HOST:PORT`, without a token: enough on its own machine.
    pub fn new(peer_endpoint: &str) -> Self {
        let channel = Channel::new(Arc::new(TcpDial::default()), peer_endpoint, ConnectionOptions::default());
        Self { client: AdminServiceClient::new(channel), token: None }
    }

    /// The same with a token, for nodes that have an `admin_token_file`.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Founds the cluster; the node gives up after `limit`.
    pub async fn initialize(
        &self,
        request: admin::InitializeRequest,
        limit: Duration,
    ) -> Result<admin::InitializeResponse, Status> {
        let mut request = self.request(request);
        request.set_timeout(limit);
        let mut client = self.client.clone();
        // Its answer is waited for a while longer: why it gave up is of interest.
        limited_by(limit + CALL_LIMIT, async move { client.initialize(request).await }).await
    }

    /// What the node knows.
    pub async fn status(&self) -> Result<admin::StatusResponse, Status> {
        let request = self.request(admin::StatusRequest::default());
        let mut client = self.client.clone();
        limited(async move { client.status(request).await }).await
    }

    /// What the node knows, with the hash of its state.
    pub async fn status_with_hash(&self) -> Result<admin::StatusResponse, Status> {
        let request = self.request(admin::StatusRequest { state_hash: true });
        let mut client = self.client.clone();
        limited(async move { client.status(request).await }).await
    }

    /// The settings as the node has applied them.
    pub async fn settings(&self) -> Result<ClusterSettings, Status> {
        let request = self.request(admin::GetSettingsRequest {});
        let mut client = self.client.clone();
        let answer = limited(async move { client.get_settings(request).await }).await?;
        Ok(answer.settings.expect("settings are always told"))
    }

    /// Replaces the settings, if they have the version expected.
    pub async fn update_settings(
        &self,
        expected_version: u64,
        settings: ClusterSettings,
    ) -> Result<ClusterSettings, Status> {
        let request =
            self.request(admin::UpdateSettingsRequest { expected_version, settings: Some(settings) });
        let mut client = self.client.clone();
        let answer = limited(async move { client.update_settings(request).await }).await?;
        Ok(answer.settings.expect("settings are always told"))
    }

    /// Admits a node.
    pub async fn admit(
        &self,
        request: admin::AdmitMemberRequest,
    ) -> Result<admin::AdmitMemberResponse, Status> {
        let request = self.request(request);
        let mut client = self.client.clone();
        limited(async move { client.admit_member(request).await }).await
    }

    /// Makes learners voters.
    pub async fn promote(
        &self,
        request: admin::PromoteMemberRequest,
    ) -> Result<admin::PromoteMemberResponse, Status> {
        let request = self.request(request);
        let mut client = self.client.clone();
        limited(async move { client.promote_member(request).await }).await
    }

    /// Removes members.
    pub async fn remove(
        &self,
        request: admin::RemoveMemberRequest,
    ) -> Result<admin::RemoveMemberResponse, Status> {
        let request = self.request(request);
        let mut client = self.client.clone();
        limited(async move { client.remove_member(request).await }).await
    }

    /// Hands leadership over; 0 = to whoever is furthest.
    pub async fn transfer(&self, raft_id: u64) -> Result<admin::TransferLeadershipResponse, Status> {
        self.transfer_as(admin::TransferLeadershipRequest { raft_id, ..Default::default() }).await
    }

    /// Hands leadership over as the request says.
    pub async fn transfer_as(
        &self,
        request: admin::TransferLeadershipRequest,
    ) -> Result<admin::TransferLeadershipResponse, Status> {
        let request = self.request(request);
        let mut client = self.client.clone();
        limited(async move { client.transfer_leadership(request).await }).await
    }

    /// Writes a snapshot now.
    pub async fn snapshot(&self) -> Result<admin::TriggerSnapshotResponse, Status> {
        let request = self.request(admin::TriggerSnapshotRequest {});
        let mut client = self.client.clone();
        limited(async move { client.trigger_snapshot(request).await }).await
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            let value = format!("Bearer {token}").parse().expect("a token of plain letters");
            request.metadata_mut().insert("authorization", value);
        }
        request
    }
}

/// What every test does with a cluster.
impl Cluster {
    /// Bare calls of an administrator to a node.
    pub fn admin(&self, index: usize) -> Admin {
        Admin::new(&self.nodes[index].peer_endpoint())
    }

    /// A call to whoever leads, repeated while leadership moves or nobody leads. Only for calls that may
    /// be repeated; all of the administration may.
    pub async fn at_leader<T, F: Future<Output = Result<T, Status>>>(
        &self,
        what: &str,
        call: impl Fn(Admin) -> F,
    ) -> Result<T, Status> {
        wait::until(what, wait::PATIENCE, || async {
            let leader = self.leader().await;
            match call(self.admin(leader)).await {
                Err(status) if is_passing(&status) => Err(status),
                outcome => Ok(outcome),
            }
        })
        .await
    }

    /// Changes settings and waits until every node that runs has applied them.
    pub async fn change_settings(&self, change: impl Fn(&mut ClusterSettings)) -> ClusterSettings {
        let settings = wait::until("the settings to be changed", wait::PATIENCE, || async {
            self.at_leader("a leader that takes settings", |admin| {
                let change = &change;
                async move {
                    let mut settings = admin.settings().await?;
                    change(&mut settings);
                    admin.update_settings(settings.version, settings).await
                }
            })
            .await
            .map_err(|status| match reason(&status).as_str() {
                // Somebody else changed them between the two calls: the autopilot, for example.
                "SETTINGS_CHANGED" => status,
                _ => panic!("the settings are refused: {status:?}"),
            })
        })
        .await;
        for (index, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.is_started()) {
            wait::until(&format!("{} to apply the settings", node.name), wait::PATIENCE, || async {
                let own = self.admin(index).settings().await.map_err(|status| status.to_string())?;
                if own.version >= settings.version { Ok(()) } else { Err(format!("{}", own.version)) }
            })
            .await;
        }
        settings
    }

    /// The word to found a cluster of all nodes.
    pub fn word(&self, cluster_id: &str) -> admin::InitializeRequest {
        let members = self.nodes.iter().map(|node| admin::InitialMember {
            node_id: node.name.clone(),
            peer_endpoint: node.peer_endpoint(),
        });
        admin::InitializeRequest { cluster_id: cluster_id.to_owned(), members: members.collect() }
    }

    /// What it takes to admit a node.
    pub fn admission(&self, index: usize) -> admin::AdmitMemberRequest {
        let node = &self.nodes[index];
        admin::AdmitMemberRequest {
            peer_endpoint: node.peer_endpoint(),
            node_id: node.name.clone(),
            ..Default::default()
        }
    }

    /// Admits a node by hand, as often as it takes.
    pub async fn admit(&self, index: usize) -> admin::AdmitMemberResponse {
        wait::until(&format!("{} to be admitted", self.nodes[index].name), LONG, || async {
            let admitted = self.at_leader("a leader that admits", |admin| {
                let request = self.admission(index);
                async move { admin.admit(request).await }
            });
            match admitted.await {
                Ok(answer) => Ok(answer),
                Err(status) if reason(&status) == "PEER_UNREACHABLE" => Err(status),
                Err(status) => panic!("{status:?}"),
            }
        })
        .await
    }

    /// Makes learners voters, in place of others, as soon as they have caught up.
    pub async fn promote(&self, raft_ids: &[u64], replaced: &[u64]) {
        let request = admin::PromoteMemberRequest {
            raft_ids: raft_ids.to_vec(),
            replaced_raft_ids: replaced.to_vec(),
            ..Default::default()
        };
        wait::until(&format!("{raft_ids:?} to be promoted"), LONG, || async {
            let promoted = self.at_leader("a leader that promotes", |admin| {
                let request = request.clone();
                async move { admin.promote(request).await }
            });
            match promoted.await {
                Ok(_) => Ok(()),
                // On a busy machine a member may not be heard for a moment.
                Err(status) if ["NOT_CAUGHT_UP", "WOULD_LOSE_QUORUM"].contains(&reason(&status).as_str()) => {
                    Err(status)
                }
                Err(status) => panic!("{status:?}"),
            }
        })
        .await;
    }

    /// The members as the leader knows them, by id.
    pub async fn members(&self) -> Vec<MemberStatus> {
        let status = self.at_leader("a leader that tells of its members", |admin| async move {
            let status = admin.status().await?;
            // One that has just been elected may not know that it leads yet.
            if status.members.is_empty() {
                return Err(Status::unavailable("it knows of no members yet"));
            }
            Ok(status)
        });
        status.await.expect("the status of a leader").members
    }

    /// Waits until exactly these nodes vote and no other member is left over.
    pub async fn voters_are(&self, names: &[&str]) {
        let mut wanted: Vec<&str> = names.to_vec();
        wanted.sort_unstable();
        wait::until(&format!("{wanted:?} to be the voters"), wait::PATIENCE, || async {
            let members = self.members().await;
            let mut present: Vec<&str> = members.iter().map(name_of).collect();
            present.sort_unstable();
            let all_vote = members.iter().all(|member| member.place() == MemberPlace::Voter);
            if all_vote && present == wanted { Ok(()) } else { Err(format!("{members:?}")) }
        })
        .await;
    }
}

/// The configured name of a member.
pub fn name_of(member: &MemberStatus) -> &str {
    member.identity.as_ref().map_or("", |identity| &identity.node_id)
}

/// The Raft id of a member.
pub fn id_of(member: &MemberStatus) -> u64 {
    member.identity.as_ref().map_or(0, |identity| identity.raft_id)
}

/// Whether the next try may be answered otherwise.
fn is_passing(status: &Status) -> bool {
    match reason(status).as_str() {
        "NOT_LEADER" | "NO_QUORUM" | "NOT_READY" | "OVERLOADED" | "OUTCOME_UNKNOWN" => true,
        "" => matches!(status.code(), tonic::Code::Unavailable | tonic::Code::DeadlineExceeded),
        _ => false,
    }
}

async fn limited<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Status> {
    limited_by(CALL_LIMIT, call).await
}

async fn limited_by<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!("the call took longer than {limit:?}"))),
    }
}
