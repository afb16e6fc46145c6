//! Founding a cluster, once, from the list of nodes in the file (P/N3).
//!
//! This is the decision alone: from what the node itself is and what the listed nodes answered, what to do
//! next. `node/found.rs` asks the others and carries it out. The bytewise smallest node founds; all
//! others wait for its offer. Nobody who sees a node with data starts anything: a wiped node can never
//! found a second cluster beside the one that lost it.

use std::collections::BTreeMap;

use registry_proto::internal::{HelloResponse, NodeState};

#[cfg(test)]
mod founding_test;

/// What a listed node said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing, so far.
    Silent,
    /// Its list of nodes is another one.
    OtherList,
    /// Another node answers at its address.
    OtherNode {
        /// The name that answered.
        node_id: String,
    },
    /// It has neither log nor vote: no place yet, or one that was only offered.
    Empty {
        /// Its disk.
        disk_id: String,
        /// The cluster that was offered to it, if any.
        offered: Option<String>,
    },
    /// It has joined a cluster but knows of no membership: it is starting, or founding was cut short.
    Adopted {
        /// Its disk.
        disk_id: String,
        /// The cluster it belongs to.
        cluster_id: String,
    },
    /// It has a log, a vote or a snapshot, or has lost them.
    Settled {
        /// The cluster it belongs to.
        cluster_id: String,
    },
}

impl Answer {
    /// Reads an answer to Hello. `node_id` and `digest` are what it should say.
    pub fn of(response: &HelloResponse, node_id: &str, digest: &[u8; 32]) -> Self {
        let identity = response.identity.clone().unwrap_or_default();
        if identity.node_id != node_id {
            return Self::OtherNode { node_id: identity.node_id };
        }
        let offered = (!identity.cluster_id.is_empty()).then_some(identity.cluster_id);
        match response.state() {
            // A node that has data ends founding, whatever its list says by now.
            NodeState::Pristine | NodeState::Prepared if response.nodes_digest != digest.as_slice() => {
                Self::OtherList
            }
            NodeState::Pristine | NodeState::Prepared => Self::Empty { disk_id: identity.disk_id, offered },
            NodeState::Adopted => {
                Self::Adopted { disk_id: identity.disk_id, cluster_id: offered.unwrap_or_default() }
            }
            _ => Self::Settled { cluster_id: offered.unwrap_or_default() },
        }
    }
}

/// What this node is, as far as founding goes. Its log and vote are empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Its name.
    pub node_id: String,
    /// The cluster that its folder names: one that it began to found, or that it was offered.
    pub cluster_id: Option<String>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask again later; what is missing, for people.
    Wait(String),
    /// There is a cluster already, and this node is not in it: it founds none, and asks for a place.
    StandAside {
        /// The node that knows it.
        node_id: String,
        /// The cluster.
        cluster_id: String,
    },
    /// The cluster that this node founded runs already, yet its own log is empty: it was lost.
    DiskLost {
        /// The node that takes part in it.
        node_id: String,
    },
    /// Offer a place to every listed node, under this cluster id or, if it is `None`, a new one.
    Offer {
        /// The cluster id of an earlier attempt.
        cluster_id: Option<String>,
    },
}

/// Decides the next step. `answers` has every other listed node by name.
pub fn decide(own: &Own, answers: &BTreeMap<String, Answer>) -> Step {
    for (name, answer) in answers {
        match answer {
            Answer::Settled { cluster_id } | Answer::Adopted { cluster_id, .. }
                if own.cluster_id.as_ref() != Some(cluster_id) =>
            {
                return Step::StandAside { node_id: name.clone(), cluster_id: cluster_id.clone() };
            }
            _ => {}
        }
    }
    let founder = answers.keys().map(String::as_str).chain([own.node_id.as_str()]).min().unwrap_or_default();
    if founder != own.node_id {
        return match (&own.cluster_id, answers.get(founder)) {
            (Some(_), _) => Step::Wait(format!("waiting for {founder} to start the cluster")),
            (None, Some(Answer::Silent) | None) => {
                Step::Wait(format!("waiting for {founder}, which founds the cluster"))
            }
            (None, Some(answer)) => Step::Wait(match complaint(founder, answer) {
                Some(complaint) => complaint,
                None => format!("waiting for {founder} to found the cluster"),
            }),
        };
    }
    if let Some(name) = answers.iter().find_map(|(name, answer)| {
        // Others take part only after the founder's first entry was durable.
        matches!(answer, Answer::Settled { .. }).then(|| name.clone())
    }) {
        return Step::DiskLost { node_id: name };
    }
    let complaints: Vec<String> =
        answers.iter().filter_map(|(name, answer)| complaint(name, answer)).collect();
    if !complaints.is_empty() {
        return Step::Wait(complaints.join("; "));
    }
    let silent: Vec<&str> = answers
        .iter()
        .filter(|(_, answer)| **answer == Answer::Silent)
        .map(|(name, _)| name.as_str())
        .collect();
    if !silent.is_empty() {
        return Step::Wait(format!("founding the cluster; waiting for {}", silent.join(", ")));
    }
    Step::Offer { cluster_id: own.cluster_id.clone() }
}

fn complaint(name: &str, answer: &Answer) -> Option<String> {
    match answer {
        Answer::OtherList => Some(format!(
            "the list of nodes of {name} differs from this node's: give all nodes the same cluster.nodes and restart them"
        )),
        Answer::OtherNode { node_id } => Some(format!(
            "{node_id} answers at the address of {name}: correct host or raft_port in cluster.nodes"
        )),
        Answer::Silent | Answer::Empty { .. } | Answer::Adopted { .. } | Answer::Settled { .. } => None,
    }
}

/// Whether a node takes an offered place (the receiving side of Prepare).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// Store it, then answer.
    Take,
    /// It is stored already: answer.
    Known,
    /// Refuse: the list of nodes is another one.
    OtherList,
    /// Refuse: meant for another disk.
    OtherDisk,
    /// Refuse: there is a log, a vote, or a place that was joined or given by a leader.
    NotEmpty,
}

/// Decides about an offer. `is_empty` = neither log nor vote; `same_place` = exactly this place is stored;
/// `is_bound` = the place stored was joined, or given by a leader.
pub fn judge_offer(
    same_list: bool,
    same_disk: bool,
    is_empty: bool,
    same_place: bool,
    is_bound: bool,
) -> Offer {
    if !same_list {
        Offer::OtherList
    } else if !same_disk {
        Offer::OtherDisk
    } else if !is_empty {
        Offer::NotEmpty
    } else if same_place {
        Offer::Known
    } else if is_bound {
        Offer::NotEmpty
    } else {
        Offer::Take
    }
}
