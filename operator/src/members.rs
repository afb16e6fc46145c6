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

use crate::desired::names::PEER_PORT;

pub mod error;

pub use error::CallError;

/// Longest time for the status of one node, connecting included: answered from memory.
pub const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest time for a change: it waits for the log, an admission also for the node's disk.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest time for founding a cluster: all nodes write, and an election follows.
const FOUNDING_TIMEOUT: Duration = Duration::from_secs(30);

/// A change of the membership or of the settings, as nodes take it.
#[derive(Debug, Clone)]
pub enum Change {
    /// Founds the cluster; the node must have the bytewise smallest name.
    Found(api::InitializeRequest),
    /// Admits a node as a learner.
    Admit(api::AdmitMemberRequest),
    /// Gives learners votes.
    Promote(api::PromoteMemberRequest),
    /// Removes members for good.
    Remove(api::RemoveMemberRequest),
    /// Hands leadership to another voter.
    Transfer(api::TransferLeadershipRequest),
    /// Replaces the settings that were read.
    Settings(api::UpdateSettingsRequest),
}

impl Change {
    fn limit(&self) -> Duration {
        match self {
            Self::Found(_) => FOUNDING_TIMEOUT,
            _ => CHANGE_TIMEOUT,
        }
    }
}

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
        within(STATUS_TIMEOUT, self.client(ip).status(request)).await.map(Response::into_inner)
    }

    /// Has a node make a change.
    ///
    /// # Errors
    /// As of the call that the change stands for.
    pub async fn change(&self, ip: &str, token: &Token, change: Change) -> Result<(), CallError> {
        let mut client = self.client(ip);
        let limit = change.limit();
        let call = async {
            match change {
                Change::Found(request) => client.initialize(token.on(request, limit)).await.map(drop),
                Change::Admit(request) => client.admit_member(token.on(request, limit)).await.map(drop),
                Change::Promote(request) => client.promote_member(token.on(request, limit)).await.map(drop),
                Change::Remove(request) => client.remove_member(token.on(request, limit)).await.map(drop),
                Change::Transfer(request) => {
                    client.transfer_leadership(token.on(request, limit)).await.map(drop)
                }
                Change::Settings(request) => client.update_settings(token.on(request, limit)).await.map(drop),
            }
        };
        within(limit, call).await
    }

    /// Reads the settings of the cluster.
    ///
    /// # Errors
    /// As of `GetSettings`.
    pub async fn settings(&self, ip: &str, token: &Token) -> Result<api::ClusterSettings, CallError> {
        let request = token.on(api::GetSettingsRequest {}, STATUS_TIMEOUT);
        let answer = within(STATUS_TIMEOUT, self.client(ip).get_settings(request)).await?;
        answer.into_inner().settings.ok_or_else(|| CallError::unexpected("the answer has no settings"))
    }

    fn client(&self, ip: &str) -> Client {
        let channel = Channel::new(self.dial.clone(), endpoint(ip), ConnectionOptions::default());
        AdminServiceClient::new(channel)
    }
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Status>>) -> Result<T, CallError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(answer)) => Ok(answer),
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
