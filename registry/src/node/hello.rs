//! Asking the listed nodes who they are, and offering them places.

use std::sync::Arc;
use std::time::Duration;

use registry_client::transport::{Channel, ConnectionOptions, Dial};
use registry_proto::internal::peer_service_client::PeerServiceClient;
use registry_proto::internal::{Compatibility, HelloRequest, HelloResponse, PeerHeader, PrepareRequest};
use tokio::time::timeout;

use crate::config::{Node, RaftConfig};
use crate::environment::Environment;
use crate::server::peer::identity::{IdentityService, compatibility};
use crate::standing::Standing;

/// Longest wait for one answer: a node that is there answers in a millisecond, one that stores an offer
/// after a few syncs of its disk.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// Talks to the listed nodes before, and beside, Raft.
#[derive(Debug, Clone)]
pub(super) struct Introductions {
    pub(super) others: Vec<(Node, PeerServiceClient<Channel>)>,
    pub(super) service: IdentityService,
    standing: Standing,
    raft: RaftConfig,
    dial: Arc<dyn Dial>,
}

impl Introductions {
    pub(super) fn new(
        nodes: &[Node],
        raft: RaftConfig,
        environment: &Environment,
        standing: Standing,
        service: IdentityService,
    ) -> Self {
        let own = service.identity().node_id;
        let dial = environment.dial.clone();
        let others = nodes
            .iter()
            .filter(|node| node.node_id != own)
            .map(|node| (node.clone(), connect(&dial, &node.peer_endpoint())))
            .collect();
        Self { others, service, standing, raft, dial }
    }

    /// A client of any node, over a connection of its own.
    pub(super) fn client(&self, peer_endpoint: &str) -> PeerServiceClient<Channel> {
        connect(&self.dial, peer_endpoint)
    }

    /// The name of this node.
    pub(super) fn own_name(&self) -> String {
        self.service.identity().node_id
    }

    /// What this node speaks.
    pub(super) fn compatibility(&self) -> Compatibility {
        compatibility(&self.raft)
    }

    /// What a call begins with that is for whoever is there.
    pub(super) fn header(&self) -> PeerHeader {
        let identity = self.service.identity();
        PeerHeader {
            cluster_id: identity.cluster_id,
            from_raft_id: identity.raft_id,
            to_raft_id: 0,
            process_nonce: self.standing.process_nonce(),
        }
    }

    /// Asks one node who it is; `None` if it does not answer.
    pub(super) async fn hello(&self, client: &PeerServiceClient<Channel>) -> Option<HelloResponse> {
        let request = HelloRequest {
            header: Some(self.header()),
            identity: Some(self.service.identity()),
            compatibility: Some(compatibility(&self.raft)),
        };
        match timeout(ANSWER_WAIT, client.clone().hello(request)).await {
            Ok(Ok(answer)) => Some(answer.into_inner()),
            Ok(Err(status)) => {
                tracing::debug!(%status, "no answer to hello");
                None
            }
            Err(_) => None,
        }
    }

    /// Offers a place to one node.
    ///
    /// # Errors
    /// Why it was not taken, for people.
    pub(super) async fn offer(
        &self,
        client: &PeerServiceClient<Channel>,
        offer: PrepareRequest,
    ) -> Result<(), String> {
        let request = PrepareRequest { header: Some(self.header()), ..offer };
        match timeout(ANSWER_WAIT, client.clone().prepare(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_) => Err("no answer".to_owned()),
        }
    }
}

fn connect(dial: &Arc<dyn Dial>, peer_endpoint: &str) -> PeerServiceClient<Channel> {
    let options = ConnectionOptions { connect_timeout: Duration::from_millis(500), ..Default::default() };
    PeerServiceClient::new(Channel::new(dial.clone(), peer_endpoint, options))
}
