//! Kept channels to the other nodes, one per purpose.
//!
//! One connection per purpose, so that a snapshot or a burst of entries never stands before a heartbeat.
//! Channels are kept and shared: a vote does not pay for a handshake.

mod heed;
mod hints;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use registry_client::transport::{Channel, ConnectionOptions, Dial};
use registry_proto::internal::PeerHeader;
use registry_proto::internal::peer_service_client::PeerServiceClient;
use tokio::sync::watch;

pub use self::heed::Heeding;
pub use self::hints::Hints;
use self::hints::{HintedDial, Way};

/// A client of another node's peer port.
pub type PeerClient = PeerServiceClient<Heeding>;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Entries of the log.
    Append,
    /// Heartbeats.
    Heartbeat,
    /// Snapshots.
    Snapshot,
    /// Votes, hand-over of leadership, probes, read index: small and urgent.
    Control,
    /// Writes of clients.
    Forward,
    /// Renewals of leases.
    Renewals,
    /// The hand-shake of Drain, whose calls wait: many of them must not stand before a vote.
    Watches,
}

/// Largest message between nodes, in bytes (P/O5).
pub const MAX_PEER_MESSAGE_BYTES: usize = 8 << 20;

/// Channels to the other members. A clone shares them.
#[derive(Debug, Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dial: Arc<dyn Dial>,
    cluster_id: String,
    raft_id: u64,
    process_nonce: u64,
    table: Mutex<Table>,
    hints: Hints,
    /// Index of the entry that removed this node, once another one has said so.
    removed_at: watch::Sender<Option<u64>>,
}

#[derive(Debug, Default)]
struct Table {
    endpoints: BTreeMap<u64, String>,
    channels: HashMap<(u64, Purpose), (Channel, Way)>,
    /// Members that did not answer the last time, so that the log tells of changes only.
    silent: BTreeSet<u64>,
}

impl Peers {
    /// No peers yet; their endpoints come with the membership, hints from what they call.
    pub fn new(
        dial: Arc<dyn Dial>,
        cluster_id: String,
        raft_id: u64,
        process_nonce: u64,
        hints: Hints,
    ) -> Self {
        let table = Mutex::default();
        let removed_at = watch::Sender::new(None);
        let shared = Shared { dial, cluster_id, raft_id, process_nonce, table, hints, removed_at };
        Self { shared: Arc::new(shared) }
    }

    /// Another member has applied the removal of this node, by the entry at `index`.
    pub fn heed_removal(&self, index: u64) {
        self.shared.removed_at.send_if_modified(|known| known.replace(index).is_none());
    }

    /// Returns when this node was told that it was removed.
    pub async fn told_of_removal(&self) -> u64 {
        let mut told = self.shared.removed_at.subscribe();
        let index = told.wait_for(Option::is_some).await.ok().and_then(|index| *index);
        match index {
            Some(index) => index,
            None => std::future::pending().await,
        }
    }

    /// Own Raft id.
    pub fn raft_id(&self) -> u64 {
        self.shared.raft_id
    }

    /// What every call to `to` starts with.
    pub fn header(&self, to: u64) -> PeerHeader {
        PeerHeader {
            cluster_id: self.shared.cluster_id.clone(),
            from_raft_id: self.shared.raft_id,
            to_raft_id: to,
            process_nonce: self.shared.process_nonce,
        }
    }

    /// Sets where a member is; another endpoint than before drops its channels.
    pub fn set_endpoint(&self, raft_id: u64, endpoint: &str) {
        let mut table = self.table();
        if table.endpoints.get(&raft_id).is_some_and(|known| known == endpoint) {
            return;
        }
        table.endpoints.insert(raft_id, endpoint.to_owned());
        table.channels.retain(|(member, _), _| *member != raft_id);
    }

    /// Forgets all but these members.
    pub fn retain(&self, keep: impl Fn(u64) -> bool) {
        let mut table = self.table();
        table.endpoints.retain(|member, _| keep(*member));
        table.silent.retain(|member| keep(*member));
        table.channels.retain(|(member, _), _| keep(*member));
        self.shared.hints.retain(keep);
    }

    /// HOST:PORT of a member; `None` if it is unknown.
    pub fn endpoint(&self, raft_id: u64) -> Option<String> {
        self.table().endpoints.get(&raft_id).cloned()
    }

    /// A client over the kept channel to a member; `None` if its endpoint is unknown. Does not connect yet.
    pub fn client(&self, raft_id: u64, purpose: Purpose) -> Option<PeerClient> {
        self.kept(raft_id, purpose).map(over)
    }

    /// Somebody else answers the calls for a member: it is looked for anew.
    pub async fn mistaken(&self, raft_id: u64, purpose: Purpose) {
        if let Some(kept) = self.kept(raft_id, purpose) {
            kept.mistaken().await;
        }
    }

    fn kept(&self, raft_id: u64, purpose: Purpose) -> Option<Heeding> {
        let mut table = self.table();
        let endpoint = table.endpoints.get(&raft_id)?.clone();
        let open = || {
            let (inner, hints, way) = (self.shared.dial.clone(), self.shared.hints.clone(), Way::default());
            let dial = HintedDial { inner, hints, way: way.clone(), raft_id };
            (Channel::new(Arc::new(dial), endpoint, connection_options()), way)
        };
        let (channel, way) = table.channels.entry((raft_id, purpose)).or_insert_with(open).clone();
        Some(Heeding { channel, way, peers: self.clone() })
    }

    /// A client of a node that is not in Raft yet, over a channel that is not kept here.
    pub fn stranger(&self, endpoint: &str) -> PeerClient {
        let channel = Channel::new(self.shared.dial.clone(), endpoint.to_owned(), connection_options());
        over(Heeding { channel, way: Way::default(), peers: self.clone() })
    }

    /// Says once that a member does not answer.
    pub(crate) fn failed(&self, raft_id: u64, reason: &dyn fmt::Display) {
        if self.table().silent.insert(raft_id) {
            tracing::warn!(node = raft_id, %reason, "a member does not answer");
        }
    }

    /// Says once that a member answers again.
    pub(crate) fn answered(&self, raft_id: u64) {
        if self.table().silent.remove(&raft_id) {
            tracing::info!(node = raft_id, "the member answers again");
        }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn over(channel: Heeding) -> PeerClient {
    PeerServiceClient::new(channel)
        .max_decoding_message_size(MAX_PEER_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_PEER_MESSAGE_BYTES)
}

/// A silent peer is noticed within 2 s, on idle connections too (P/O2).
fn connection_options() -> ConnectionOptions {
    ConnectionOptions {
        connect_timeout: Duration::from_millis(500),
        keep_alive_interval: Duration::from_secs(1),
        keep_alive_timeout: Duration::from_secs(1),
        window_bytes: 4 << 20,
    }
}

#[cfg(test)]
mod tests {
    use registry_client::transport::TcpDial;

    use super::*;

    fn peers() -> Peers {
        Peers::new(Arc::new(TcpDial::default()), "c".into(), 1, 7, Hints::default())
    }

    #[test]
    fn a_channel_is_known_only_with_its_endpoint() {
        let peers = peers();
        assert!(peers.client(2, Purpose::Control).is_none());
        peers.set_endpoint(2, "a:1");
        assert_eq!(peers.kept(2, Purpose::Control).unwrap().channel.endpoint(), "a:1");
        peers.retain(|id| id != 2);
        assert!(peers.client(2, Purpose::Control).is_none());
    }

    #[test]
    fn another_endpoint_replaces_the_channels() {
        let peers = peers();
        peers.set_endpoint(2, "a:1");
        peers.client(2, Purpose::Append).unwrap();
        peers.set_endpoint(2, "b:1");
        assert_eq!(peers.kept(2, Purpose::Append).unwrap().channel.endpoint(), "b:1");
        assert_eq!(peers.endpoint(2).as_deref(), Some("b:1"));
    }

    #[test]
    fn a_header_names_both_sides() {
        let header = peers().header(3);
        assert_eq!((header.cluster_id.as_str(), header.from_raft_id, header.to_raft_id), ("c", 1, 3));
        assert_eq!(header.process_nonce, 7);
    }
}
