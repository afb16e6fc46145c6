//! The administrator's side: calls to the peer port of the leader.
//!
//! [`Admin`] finds the leader and asks it, [`error`] words what it refuses, [`members`] and [`settings`]
//! turn answers into what people type and read. All but `Admin` is pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use registry_client::transport::{Channel, ConnectionOptions, TcpDial, TransportError};
use registry_proto::internal::admin_service_client::AdminServiceClient;
use registry_proto::internal::{self as api, PeerErrorReason};
use registry_proto::v1;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Response, Status};

use crate::args::Global;
use crate::args::admin::Access;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::Screen;
use crate::session::{self, Reach};

pub(crate) mod error;
pub(crate) mod members;
pub(crate) mod settings;

/// The generated client of one node.
pub(crate) type Client = AdminServiceClient<Channel>;

/// Time before another node is asked who leads: an election takes a few of these.
const BETWEEN_NODES: Duration = Duration::from_millis(200);

/// Longest token that is read, in bytes: a file that is larger is another one.
const TOKEN_BYTES_MAX: usize = 4096;

/// Whether a call changes something, and what a lost answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing is changed.
    Reads,
    /// Without an answer nobody knows whether it was made.
    Changes,
}

/// Calls to the node that leads.
#[derive(Debug)]
pub(crate) struct Admin {
    token: Option<MetadataValue<Ascii>>,
    timeout: Duration,
    /// The public interface, for what only that tells.
    public: registry_client::Client,
    /// Peer endpoints; the first one is asked.
    nodes: VecDeque<String>,
}

impl Admin {
    /// Reads the token and finds the peer ports: any node named by `--endpoints` tells them.
    pub(crate) async fn open(access: &Access, global: &Global, screen: &Screen) -> Result<Self, Error> {
        let token = access.admin_token_file.as_deref().map(read_token).transpose()?;
        let client = session::connected(global, Reach::Named, screen).await?;
        let _progress = screen.progress("looking for the leader");
        let status = client
            .cluster_status(v1::ClusterStatusRequest { local: false })
            .await
            .map_err(|error| Error::of_call("ask for the members", &error))?;
        let nodes = peer_endpoints(&status);
        if nodes.is_empty() {
            return Err(Error::new(
                Exit::Unavailable,
                "find the leader",
                "the node asked names no peer port",
                "wait until the cluster is founded, or name another node with --endpoints",
            ));
        }
        Ok(Self { token, timeout: global.timeout, public: client, nodes })
    }

    /// How much of a snapshot a member has stored; `None` if it receives none or nobody tells.
    pub(crate) async fn snapshot_percent(&self, raft_id: u64) -> Option<u32> {
        let status = self.public.cluster_status(v1::ClusterStatusRequest { local: false }).await.ok()?;
        status.members.iter().find(|member| member.raft_id == raft_id)?.snapshot_percent
    }

    /// What the leader knows of the cluster.
    pub(crate) async fn status(&mut self, action: &str) -> Result<api::StatusResponse, Error> {
        let request = api::StatusRequest { state_hash: false };
        let deadline = Instant::now() + self.timeout;
        loop {
            let status =
                self.call(action, Effect::Reads, request, async |client, call| client.status(call).await);
            let status = status.await?;
            // Every node answers this, and only the leader knows the others.
            if !status.members.is_empty() {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(error::no_leader(action));
            }
            self.nodes.rotate_left(1);
            sleep(BETWEEN_NODES).await;
        }
    }

    /// Asks the leader. A node that does not lead names it; one that is gone, or takes no part in the
    /// cluster, is left for the next. At most `--timeout`.
    pub(crate) async fn call<M: Clone, T>(
        &mut self,
        action: &str,
        effect: Effect,
        message: M,
        call: impl AsyncFn(&mut Client, Request<M>) -> Result<Response<T>, Status>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + self.timeout;
        // Each but the last may say that it takes no part: then that is the answer.
        let mut others = self.nodes.len().saturating_sub(1);
        loop {
            let endpoint = self.nodes.front().cloned().unwrap_or_default();
            let mut client = client(&endpoint);
            let request = self.request(message.clone(), deadline);
            let status = match timeout_at(deadline, call(&mut client, request)).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => return Err(error::no_answer(action, effect, &endpoint)),
            };
            if takes_no_part(&status) && others > 0 {
                others -= 1;
                self.nodes.rotate_left(1);
                continue;
            }
            match self.after(&status, &endpoint) {
                Next::Ask => {}
                Next::Pause if Instant::now() + BETWEEN_NODES < deadline => sleep(BETWEEN_NODES).await,
                Next::Pause | Next::GiveUp => return Err(error::of(action, effect, &endpoint, &status)),
            }
        }
    }

    /// Decides what a failure means for the next try, and whom it asks.
    fn after(&mut self, status: &Status, asked: &str) -> Next {
        match error::reason(status) {
            Some(PeerErrorReason::NotLeader) => {}
            None if TransportError::of(status) == Some(TransportError::NotSent) => {}
            _ => return Next::GiveUp,
        }
        match error::leader_endpoint(status) {
            Some(leader) if leader != asked => {
                self.nodes.retain(|node| *node != leader);
                self.nodes.push_front(leader);
                Next::Ask
            }
            _ => {
                self.nodes.rotate_left(1);
                Next::Pause
            }
        }
    }

    fn request<M>(&self, message: M, deadline: Instant) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }
}

/// Whether the node is out of Raft: removed, quarantined, or not admitted yet. It has changed nothing.
fn takes_no_part(status: &Status) -> bool {
    use PeerErrorReason::{NotInitialized, NotReady};
    matches!(error::reason(status), Some(NotReady | NotInitialized))
}

/// What follows a failed try.
enum Next {
    /// Ask the first node.
    Ask,
    /// Ask it after a moment.
    Pause,
    /// Tell the user.
    GiveUp,
}

fn client(endpoint: &str) -> Client {
    let channel = Channel::new(Arc::new(TcpDial::default()), endpoint, ConnectionOptions::default());
    AdminServiceClient::new(channel)
}

/// The peer ports of the members, the leader's first.
fn peer_endpoints(status: &v1::ClusterStatusResponse) -> VecDeque<String> {
    let leads = |member: &&v1::Member| member.node_id == status.leader_id;
    let leader = status.members.iter().filter(leads);
    let others = status.members.iter().filter(|member| !leads(member));
    leader.chain(others).map(|member| member.peer_endpoint.clone()).filter(|host| !host.is_empty()).collect()
}

fn read_token(path: &std::path::Path) -> Result<MetadataValue<Ascii>, Error> {
    let failed = |problem: String| {
        let message = format!("{}: {problem}", path.display());
        Error::new(Exit::Usage, "read the token", message, "give the file with --admin-token-file")
    };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let token = text.trim();
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        return Err(failed(format!("must hold a token of 1 to {TOKEN_BYTES_MAX} bytes")));
    }
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
        .parse()
        .map_err(|_| failed("must hold one line of printable ASCII".to_owned()))?;
    // It is never shown, in no debug output either.
    value.set_sensitive(true);
    Ok(value)
}
