//! The parts of a node as its orderly stop sees them.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use registry_proto::internal::{GoodbyeRequest, PeerHeader, ProbeRequest};
use tokio::time::{Instant, timeout};
use tonic::Response;

use super::Node;
use crate::peers::{PeerClient, Purpose};
use crate::raft::TransferError;
use crate::shutdown::Parts;

pub(super) struct StopParts<'a> {
    node: &'a Node,
    /// Members that did not take over when asked.
    tried: Mutex<BTreeSet<u64>>,
}

impl<'a> StopParts<'a> {
    pub(super) fn new(node: &'a Node) -> Self {
        Self { node, tried: Mutex::default() }
    }

    /// The other members, each with a client.
    fn others(&self) -> Vec<(PeerHeader, PeerClient)> {
        let Some(core) = self.node.core.get() else { return Vec::new() };
        let own = core.peers.raft_id();
        let membership = core.consensus.status().membership;
        let others = membership.members.keys().copied().filter(|member| *member != own);
        others
            .filter_map(|member| {
                Some((core.peers.header(member), core.peers.client(member, Purpose::Control)?))
            })
            .collect()
    }

    /// Tells every other member; whoever does not answer learns it from the end of the connection.
    async fn tell(&self, leaving_now: bool) {
        let calls = self.others().into_iter().map(|(header, mut client)| async move {
            let member = header.to_raft_id;
            let request = GoodbyeRequest { header: Some(header), leaving_now };
            if let Err(status) = client.goodbye(request).await {
                tracing::debug!(member, %status, "a member was not told of the stop");
            }
        });
        join_all(calls).await;
    }

    /// Asks every other member whether it stops as well: its own word may still be on the way.
    async fn ask_who_stops(&self) {
        let calls = self.others().into_iter().map(|(header, mut client)| async move {
            let member = header.to_raft_id;
            let answer = client.probe(ProbeRequest { header: Some(header) }).await;
            if let Ok(answer) = answer.map(Response::into_inner)
                && answer.stopping
            {
                self.node.standing.note_leaving(member, answer.process_nonce);
            }
        });
        join_all(calls).await;
    }
}

impl Parts for StopParts<'_> {
    async fn say_stopping(&self) {
        self.node.standing.stop();
        self.tell(false).await;
        if self.node.standing.consensus().is_some_and(|consensus| consensus.leadership().is_some()) {
            self.ask_who_stops().await;
        }
    }

    async fn transfer_leadership(&self, deadline: Instant) -> bool {
        let Some(consensus) = self.node.standing.consensus() else { return true };
        if consensus.leadership().is_none() {
            return true;
        }
        let mut exclude = self.tried.lock().unwrap_or_else(PoisonError::into_inner).clone();
        exclude.extend(self.node.standing.leaving());
        match consensus.transfer_leadership(None, &exclude, deadline).await {
            Ok(leadership) => {
                tracing::info!(%leadership, "leadership is handed over");
                true
            }
            Err(TransferError::TimedOut { target }) => {
                tracing::warn!(target, "a member did not take over in time");
                self.tried.lock().unwrap_or_else(PoisonError::into_inner).insert(target);
                false
            }
            Err(TransferError::NotLeader { .. } | TransferError::Stopped) => true,
            Err(error @ TransferError::NoCandidate) => {
                tracing::info!(%error, "leadership is not handed over");
                true
            }
        }
    }

    async fn close_clients(&self, limit: Duration) {
        self.node.standing.close();
        self.node.front.close();
        self.node.health.end().await;
        let server = &self.node.client_server;
        server.go_away();
        if timeout(limit, server.ended()).await.is_err() {
            tracing::warn!(waited = ?limit, "calls of clients are cut off");
            server.close();
        }
    }

    async fn say_goodbye(&self) {
        self.tell(true).await;
    }

    async fn stop_raft(&self) {
        if let Some(core) = self.node.core.get() {
            core.consensus.shutdown().await;
        }
    }

    async fn close_peers(&self) {
        self.node.peer_server.close();
        self.node.peer_server.ended().await;
    }
}
