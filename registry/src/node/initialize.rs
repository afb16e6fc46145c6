//! The first entry of a new cluster, proposed by whoever leads it first (P/N3 step 4).

use std::time::Duration;

use registry_state::{ClusterSettings, Command, InitCluster, MemberSpec, Operation, State};
use tokio::time::{Instant, sleep};

use crate::environment::Environment;
use crate::raft::{Consensus, Membership};

/// Longest wait for the entry to be applied; then it is proposed again, which changes nothing if the
/// first one was applied after all.
const PROPOSE_WAIT: Duration = Duration::from_secs(2);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// Proposes `InitCluster` whenever this node leads a cluster without it; returns once it is applied here.
pub(super) async fn initialize(
    consensus: Consensus,
    environment: Environment,
    cluster_id: String,
    settings: ClusterSettings,
) {
    let mut status = consensus.watch_status();
    loop {
        if consensus.published().state.cluster_id().is_some() {
            return;
        }
        let leadership = consensus.leadership();
        let Some(leadership) = leadership else {
            // Whoever leads proposes it; look again when something changes, and now and then.
            let changed = tokio::time::timeout(Duration::from_secs(1), status.changed()).await;
            if matches!(changed, Ok(Err(_))) {
                return;
            }
            continue;
        };
        // What earlier leaders may have proposed is applied after a round of this reign (F7).
        let deadline = Instant::now() + PROPOSE_WAIT;
        let is_current = consensus.read_index(deadline).await.is_ok();
        if is_current && consensus.published().state.cluster_id().is_none() {
            let membership = consensus.status().membership;
            let command = command(&environment, &cluster_id, &settings, &membership);
            match consensus.propose_as(leadership, &command, Instant::now() + PROPOSE_WAIT).await {
                Ok(_) => tracing::info!(cluster_id, "the cluster is founded"),
                Err(error) => tracing::debug!(%error, "the first entry was not applied; trying again"),
            }
        }
        sleep(PAUSE).await;
    }
}

fn command(
    environment: &Environment,
    cluster_id: &str,
    settings: &ClusterSettings,
    membership: &Membership,
) -> Command {
    let members = membership.members.iter().map(|(raft_id, member)| MemberSpec {
        raft_id: *raft_id,
        node_id: member.name.clone(),
        disk_id: member.disk_id.clone(),
        peer_endpoint: member.peer_endpoint.clone(),
        client_endpoint: member.client_endpoint.clone(),
    });
    Command {
        proposed_at_unix_ms: environment.clock.unix_ms(),
        request: None,
        operation: Operation::InitCluster(InitCluster {
            cluster_id: cluster_id.to_owned(),
            epoch: environment.random.nonzero_u64(),
            settings: Some(settings.clone()),
            members: members.collect(),
            next_raft_id: membership.members.keys().max().copied().unwrap_or(0) + 1,
        }),
    }
}

/// `cluster_settings` of the file are read at founding only (P/S1): whoever edits them later should know.
/// To be called with a state that is up to date.
pub(super) fn warn_of_other_settings(state: &State, own: &ClusterSettings) {
    let mut names = own.differences(state.settings());
    // It moves with the members, and the file seldom gives it.
    names.retain(|name| *name != "voters_target");
    if !names.is_empty() {
        tracing::warn!(
            settings = names.join(", "),
            "cluster_settings of the configuration differ from those of the cluster, which count; \
             the file is read when a cluster is founded only"
        );
    }
}
