//! Founding on somebody's word (P/N3): the operator gives it once, with the list of nodes.

use std::time::Duration;

use registry_proto::internal as pb;
use registry_proto::internal::PeerErrorReason as R;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::{AdminService, convert};
use crate::error::peer::PeerError;

/// Between two looks at the progress of a founding.
const PAUSE: Duration = Duration::from_millis(50);

/// The word to found a cluster, left for the task that founds. A clone shares it.
#[derive(Debug, Clone)]
pub struct Word {
    said: watch::Sender<Said>,
}

/// What has become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Nothing,
    /// The UUID of the new cluster; empty = draw one.
    Given(String),
    /// A listed node has data of this cluster.
    Refused {
        node_id: String,
        cluster_id: String,
    },
}

impl Default for Word {
    fn default() -> Self {
        Self { said: watch::Sender::new(Said::Nothing) }
    }
}

impl Word {
    /// Gives the word, with the UUID of the new cluster; empty = draw one. The first word counts, until it
    /// is refused.
    pub fn give(&self, cluster_id: &str) {
        self.said.send_if_modified(|said| {
            let is_first = !matches!(said, Said::Given(_));
            if is_first {
                *said = Said::Given(cluster_id.to_owned());
            }
            is_first
        });
    }

    /// Takes the word back: `node_id` has data of a cluster, and none is founded beside it.
    pub fn refuse(&self, node_id: &str, cluster_id: &str) {
        self.said.send_if_modified(|said| {
            let is_given = matches!(said, Said::Given(_));
            if is_given {
                *said = Said::Refused { node_id: node_id.to_owned(), cluster_id: cluster_id.to_owned() };
            }
            is_given
        });
    }

    /// Whether it was given.
    pub fn is_given(&self) -> bool {
        matches!(&*self.said.borrow(), Said::Given(_))
    }

    /// The UUID that came with it, if any.
    pub fn cluster_id(&self) -> Option<String> {
        match &*self.said.borrow() {
            Said::Given(cluster_id) if !cluster_id.is_empty() => Some(cluster_id.clone()),
            _ => None,
        }
    }

    fn refusal(&self) -> Option<PeerError> {
        let Said::Refused { node_id, cluster_id } = &*self.said.borrow() else { return None };
        let reason = format!(
            "{node_id} has data of cluster {cluster_id}: no other is founded beside it. Start the nodes of that \
             cluster with their disks, or empty its folder if it is to be given up"
        );
        let error = PeerError::new(R::AlreadyInitialized, reason).with("cluster_id", cluster_id);
        Some(error.with("node_id", node_id))
    }
}

impl AdminService {
    /// Founds the cluster with the listed nodes, or waits until it is founded.
    pub(super) async fn found(
        &self,
        message: pb::InitializeRequest,
        deadline: Instant,
    ) -> Result<pb::InitializeResponse, PeerError> {
        self.check_list(&message)?;
        let wanted = message.cluster_id;
        if !wanted.is_empty() && uuid::Uuid::try_parse(&wanted).is_err() {
            return Err(PeerError::bad_field("cluster_id", "must be a UUID"));
        }
        let already = self.founded().is_some();
        if !already {
            self.parts.word.give(&wanted);
        }
        loop {
            let place = self.parts.standing.identity().member;
            if let Some(place) = place.filter(|place| !wanted.is_empty() && place.cluster_id != wanted) {
                let reason = format!("this node is of cluster {} already", place.cluster_id);
                return Err(
                    PeerError::new(R::AlreadyInitialized, reason).with("cluster_id", place.cluster_id)
                );
            }
            if let Some(answer) = self.founded() {
                return Ok(pb::InitializeResponse { already, ..answer });
            }
            if let Some(refusal) = self.parts.word.refusal() {
                return Err(refusal);
            }
            if Instant::now() >= deadline {
                let why = self.parts.standing.readiness().err().unwrap_or_default();
                let reason = format!("the founding goes on, but is not done: {why}; ask again");
                return Err(PeerError::new(R::PeerUnreachable, reason));
            }
            sleep(PAUSE).await;
        }
    }

    /// The list must be that of the configuration, which all nodes compare when they are offered a place.
    fn check_list(&self, message: &pb::InitializeRequest) -> Result<(), PeerError> {
        let mut given: Vec<(&str, &str)> = message
            .members
            .iter()
            .map(|member| (member.node_id.as_str(), member.peer_endpoint.as_str()))
            .collect();
        given.sort_unstable();
        let nodes = &self.parts.config.nodes;
        let is_same = given.len() == nodes.len()
            && given.iter().zip(nodes).all(|((node_id, endpoint), node)| {
                *node_id == node.node_id && *endpoint == node.peer_endpoint()
            });
        if !is_same {
            let reason = "the members are not those of cluster.nodes in this node's configuration";
            return Err(PeerError::new(R::ConfigMismatch, reason));
        }
        // Sorted: the bytewise smallest founds.
        match nodes.first() {
            Some(founder) if founder.node_id != self.parts.config.node.node_id => {
                let reason = format!("{} founds the cluster: ask it", founder.node_id);
                Err(PeerError::new(R::TargetMismatch, reason).with("peer_endpoint", founder.peer_endpoint()))
            }
            _ => Ok(()),
        }
    }

    fn founded(&self) -> Option<pb::InitializeResponse> {
        let membership = self.parts.membership.get()?;
        let published = membership.consensus().published();
        let cluster_id = published.state.cluster_id()?.to_owned();
        let view = convert::membership(&membership.consensus().status().membership);
        Some(pb::InitializeResponse { cluster_id, already: false, membership: Some(view) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_counts_until_it_is_refused() {
        let word = Word::default();
        word.refuse("a", "before");
        assert_eq!((word.is_given(), word.refusal().is_some()), (false, false), "there was none to refuse");
        word.give("one");
        word.give("two");
        assert_eq!(word.cluster_id().as_deref(), Some("one"));
        word.refuse("a", "old");
        assert_eq!((word.is_given(), word.cluster_id()), (false, None));
        let refusal = word.refusal().unwrap();
        assert_eq!(refusal.reason(), R::AlreadyInitialized);
        word.give("");
        assert!(word.is_given() && word.cluster_id().is_none() && word.refusal().is_none());
    }
}
