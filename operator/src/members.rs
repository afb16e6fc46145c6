//! Calls to the admin API of nodes, by the address of their pod.
//!
//! Every call has a deadline, carries the cluster's token, and is sent once. Connections are not kept: a
//! pod's address can belong to another pod a second later.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use registry_client::transport::{Channel, ConnectionOptions, Dial};
use registry_proto::internal as api;
use registry_proto::internal::admin_service_client::AdminServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Response, Status};

pub mod error;

pub use error::CallError;

/// Port of the admin API in every pod.
pub const PEER_PORT: u16 = 9080;

/// Longest time for the status of one node, connecting included: answered from memory.
pub const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest time for a change: it waits for the log, an admission also for the node's disk.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest time for founding a cluster: all nodes write, and an election follows.
const FOUNDING_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time that a leader waits for its successor.
const TRANSFER_TIMEOUT_SECONDS: i64 = 5;

/// The administrator's token of one cluster. Never shown, in no debug output either.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    value: MetadataValue<Ascii>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// From the text of the Secret; `None` if it holds nothing that can be sent.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let mut value: MetadataValue<Ascii> =
            (!text.is_empty()).then(|| format!("Bearer {text}").parse().ok())??;
        value.set_sensitive(true);
        Some(Self { value })
    }

    /// A request that carries it, and the time that the node has.
    fn on<M>(&self, message: M, limit: Duration) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(limit);
        request.metadata_mut().insert("authorization", self.value.clone());
        request
    }
}

/// Makes calls. A clone is the same.
#[derive(Debug, Clone)]
pub struct Members {
    dial: Arc<dyn Dial>,
}

type Client = AdminServiceClient<Channel>;

impl Members {
    /// Calls over this network.
    pub fn new(dial: Arc<dyn Dial>) -> Self {
        Self { dial }
    }

    /// What the node at `ip` knows.
    ///
    /// # Errors
    /// No answer in time, or a refusal.
    pub async fn status(&self, ip: &str, token: &Token) -> Result<api::StatusResponse, CallError> {
        let request = token.on(api::StatusRequest { state_hash: false }, STATUS_TIMEOUT);
        within(STATUS_TIMEOUT, self.client(ip).status(request)).await
    }

    /// Founds the cluster; the node must have the bytewise smallest name.
    ///
    /// # Errors
    /// As of `Initialize`.
    pub async fn initialize(
        &self,
        ip: &str,
        token: &Token,
        request: api::InitializeRequest,
    ) -> Result<api::InitializeResponse, CallError> {
        within(FOUNDING_TIMEOUT, self.client(ip).initialize(token.on(request, FOUNDING_TIMEOUT))).await
    }

    /// Admits a node as a learner.
    ///
    /// # Errors
    /// As of `AdmitMember`.
    pub async fn admit(
        &self,
        ip: &str,
        token: &Token,
        request: api::AdmitMemberRequest,
    ) -> Result<api::AdmitMemberResponse, CallError> {
        within(CHANGE_TIMEOUT, self.client(ip).admit_member(token.on(request, CHANGE_TIMEOUT))).await
    }

    /// Gives learners votes.
    ///
    /// # Errors
    /// As of `PromoteMember`.
    pub async fn promote(
        &self,
        ip: &str,
        token: &Token,
        request: api::PromoteMemberRequest,
    ) -> Result<api::PromoteMemberResponse, CallError> {
        within(CHANGE_TIMEOUT, self.client(ip).promote_member(token.on(request, CHANGE_TIMEOUT))).await
    }

    /// Removes members for good.
    ///
    /// # Errors
    /// As of `RemoveMember`.
    pub async fn remove(
        &self,
        ip: &str,
        token: &Token,
        request: api::RemoveMemberRequest,
    ) -> Result<api::RemoveMemberResponse, CallError> {
        within(CHANGE_TIMEOUT, self.client(ip).remove_member(token.on(request, CHANGE_TIMEOUT))).await
    }

    /// Hands leadership to another voter.
    ///
    /// # Errors
    /// As of `TransferLeadership`.
    pub async fn transfer(
        &self,
        ip: &str,
        token: &Token,
        mut request: api::TransferLeadershipRequest,
    ) -> Result<api::TransferLeadershipResponse, CallError> {
        request.timeout = Some(prost_types::Duration { seconds: TRANSFER_TIMEOUT_SECONDS, nanos: 0 });
        within(CHANGE_TIMEOUT, self.client(ip).transfer_leadership(token.on(request, CHANGE_TIMEOUT))).await
    }

    /// Reads the settings of the cluster.
    ///
    /// # Errors
    /// As of `GetSettings`.
    pub async fn settings(&self, ip: &str, token: &Token) -> Result<api::ClusterSettings, CallError> {
        let request = token.on(api::GetSettingsRequest {}, STATUS_TIMEOUT);
        let answer = within(STATUS_TIMEOUT, self.client(ip).get_settings(request)).await?;
        answer.settings.ok_or_else(|| CallError::unexpected("the answer has no settings"))
    }

    /// Replaces the settings that were read.
    ///
    /// # Errors
    /// As of `UpdateSettings`.
    pub async fn update_settings(
        &self,
        ip: &str,
        token: &Token,
        request: api::UpdateSettingsRequest,
    ) -> Result<api::UpdateSettingsResponse, CallError> {
        within(CHANGE_TIMEOUT, self.client(ip).update_settings(token.on(request, CHANGE_TIMEOUT))).await
    }

    fn client(&self, ip: &str) -> Client {
        let channel = Channel::new(self.dial.clone(), endpoint(ip), ConnectionOptions::default());
        AdminServiceClient::new(channel)
    }
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(CallError::of(&status)),
        Err(_) => Err(CallError::late(limit)),
    }
}

/// `HOST:PORT` of the admin API; IPv6 addresses need brackets.
fn endpoint(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{PEER_PORT}") } else { format!("{ip}:{PEER_PORT}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_trimmed_and_never_shown() {
        let token = Token::new(" secret\n").unwrap();
        assert_eq!(token.value.to_str().unwrap(), "Bearer secret");
        assert_eq!(format!("{token:?}"), "Token");
        assert_eq!(Token::new("\n"), None);
        assert_eq!(Token::new("a\u{1}b"), None);
    }

    #[test]
    fn both_families_of_addresses_get_a_port() {
        assert_eq!(endpoint("10.0.0.1"), "10.0.0.1:9080");
        assert_eq!(endpoint("fd00::1"), "[fd00::1]:9080");
    }
}
