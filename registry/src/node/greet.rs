//! Says hello to the other listed nodes while Raft runs: tells them that this process is a new one, and
//! finds differences that Raft would only show as silence (P/N2).

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use registry_client::transport::Channel;
use registry_proto::internal::HelloResponse;
use registry_proto::internal::peer_service_client::PeerServiceClient;
use tokio::time::sleep;

use super::hello::Introductions;
use crate::config::ValidConfig;
use crate::exit::Fatal;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::server::core::Core;
use crate::server::peer::identity::{compatibility, same_timings};

/// Until every node has answered once.
const SEARCH_PAUSE: Duration = Duration::from_secs(1);
/// After that: a peer may be restarted with other timings.
const REPEAT_PAUSE: Duration = Duration::from_secs(30);

/// Goes on for ever, unless the folder turns out to be of another cluster.
pub(super) async fn greet(
    config: &ValidConfig,
    introductions: &Introductions,
    core: &Core,
    cluster_id: &str,
    metrics: &Metrics,
) -> Fatal {
    let own = compatibility(&config.raft);
    let mut warned: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let all = others(introductions, core);
        let hellos = all.iter().map(|(node_id, client)| async move {
            Some((node_id.clone(), introductions.hello(client).await?))
        });
        let answers: Vec<(String, HelloResponse)> = join_all(hellos).await.into_iter().flatten().collect();
        heed_removal(&answers, cluster_id, &core.peers);

        let mut differing = 0;
        for (node_id, answer) in &answers {
            let other = answer.compatibility.clone().unwrap_or_default();
            let complaint = if same_timings(&own, &other) {
                String::new()
            } else {
                differing += 1;
                "its Raft timings differ: give all nodes the same raft section".to_owned()
            };
            let known = warned.insert(node_id.clone(), complaint.clone()).unwrap_or_default();
            if known != complaint && !complaint.is_empty() {
                tracing::warn!(peer = node_id, "{complaint}");
            }
        }
        metrics.timing_mismatch(differing);
        if let Some(other) = foreign_cluster(cluster_id, &answers, config.nodes.len()) {
            return Fatal::config(format!(
                "the data folder {} belongs to cluster {cluster_id}, but the listed nodes form cluster {other}: \
                 give the right --data-dir, or move the folder away",
                config.data_dir.display()
            ));
        }
        // A node without a leader may have been removed while it did not look.
        let is_complete = answers.len() == all.len() && core.consensus.status().leader.is_some();
        sleep(if is_complete { REPEAT_PAUSE } else { SEARCH_PAUSE }).await;
    }
}

/// The listed nodes, and the members that this node knows of: the list may be old.
fn others(introductions: &Introductions, core: &Core) -> Vec<(String, PeerServiceClient<Channel>)> {
    let listed = introductions.others.iter().map(|(node, client)| (node.node_id.clone(), client.clone()));
    let mut all: Vec<_> = listed.collect();
    let own = &introductions.own_name();
    for member in core.consensus.status().membership.members.values() {
        if member.name != *own && all.iter().all(|(name, _)| *name != member.name) {
            all.push((member.name.clone(), introductions.client(&member.peer_endpoint)));
        }
    }
    all
}

/// A member of the own cluster may say that this node was removed from it (P/N5).
fn heed_removal(answers: &[(String, HelloResponse)], cluster_id: &str, peers: &Peers) {
    for (_, answer) in answers {
        let same = answer.identity.as_ref().is_some_and(|identity| identity.cluster_id == cluster_id);
        if same && answer.caller_removed_at > 0 {
            peers.heed_removal(answer.caller_removed_at);
        }
    }
}

/// Another cluster that a majority of the listed nodes belongs to. Less proves nothing: one foreign disk
/// among the others must not end healthy nodes.
fn foreign_cluster(own: &str, answers: &[(String, HelloResponse)], listed: usize) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, answer) in answers {
        if let Some(identity) = answer.identity.as_ref().filter(|identity| !identity.cluster_id.is_empty()) {
            *counts.entry(&identity.cluster_id).or_default() += 1;
        }
    }
    let (cluster, count) =
        counts.into_iter().filter(|(cluster, _)| *cluster != own).max_by_key(|(_, count)| *count)?;
    (count > listed / 2).then(|| cluster.to_owned())
}

#[cfg(test)]
mod tests {
    use registry_proto::internal::NodeIdentity;

    use super::*;

    fn answer(cluster: &str) -> (String, HelloResponse) {
        let identity = NodeIdentity { cluster_id: cluster.into(), ..NodeIdentity::default() };
        (String::new(), HelloResponse { identity: Some(identity), ..HelloResponse::default() })
    }

    #[test]
    fn only_a_majority_of_one_other_cluster_makes_a_folder_foreign() {
        let foreign = |list: &[&str]| {
            foreign_cluster("own", &list.iter().map(|cluster| answer(cluster)).collect::<Vec<_>>(), 3)
        };
        assert_eq!(foreign(&["other", "other"]), Some("other".into()));
        assert_eq!(foreign(&["other"]), None);
        assert_eq!(foreign(&["other", "own"]), None);
        assert_eq!(foreign(&["other", "third"]), None);
        assert_eq!(foreign(&["other", ""]), None);
        assert_eq!(foreign(&["own", "own"]), None);
    }
}
