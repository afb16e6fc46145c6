//! Follows the list of members.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use registry_proto::v1::{
    ClusterStatusRequest, ClusterStatusResponse, MemberHealth, MemberKind, StatusSource,
};
use tokio::time::{Instant, sleep, timeout};

use super::{PENALTY, Shared, Standing, reconcile};
use crate::backoff::jittered;
use crate::rpc::Unary;

/// The node asked looks for the leader up to 1 s; twice that is a node that hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Looks asked for by events are at least so far apart: a flapping node must not become a load.
const SHORTEST_WAIT: Duration = Duration::from_millis(250);
/// Nodes asked in one look.
const TRIES: usize = 3;

/// Looks at the list when something happened, and every `interval`.
pub(super) async fn follow(pool: Weak<Shared>, interval: Duration) {
    loop {
        let Some(shared) = pool.upgrade() else { return };
        look(&shared).await;
        drop(shared);
        sleep(SHORTEST_WAIT).await;
        let Some(shared) = pool.upgrade() else { return };
        // An elapsed time-out is the ordinary look.
        let _ = timeout(jittered(interval), shared.refresh.notified()).await;
    }
}

async fn look(pool: &Arc<Shared>) {
    let mut tried = Vec::new();
    for _ in 0..TRIES {
        let Some(picked) = pool.pick(false, &tried) else { return };
        let call = ClusterStatusRequest { local: false }.send(picked.connection.clone(), ANSWER_WITHIN);
        match timeout(ANSWER_WITHIN, call).await {
            Ok(Ok(answer)) => {
                if learn(pool, &picked.endpoint, answer.get_ref()) {
                    return;
                }
            }
            Ok(Err(status)) => {
                tracing::debug!(endpoint = picked.endpoint, %status, "cluster status failed");
            }
            Err(_) => {
                tracing::debug!(endpoint = picked.endpoint, "cluster status not answered");
                if let Some(node) = pool.state().nodes.get_mut(&picked.endpoint) {
                    node.penalty_until = Some(Instant::now() + PENALTY);
                }
            }
        }
        tried.push(picked.endpoint);
    }
}

/// Takes a status over. `false` if another node should be asked: this one is alone or a stranger.
fn learn(pool: &Arc<Shared>, endpoint: &str, status: &ClusterStatusResponse) -> bool {
    if let Some(header) = &status.header
        && !pool.observe(endpoint, header)
    {
        return false;
    }
    let available = status.quorum.as_ref().is_some_and(|quorum| quorum.available);
    let by_leader = status.source() == StatusSource::Leader && available;
    let members = standings(status, by_leader);
    if members.is_empty() {
        return false;
    }
    let mut state = pool.state();
    // Who is out of touch may know an old list; it serves until a better one is found.
    if !by_leader && !state.members.is_empty() {
        return false;
    }
    state.members = members;
    if by_leader && let Some(leader) = status.members.iter().find(|member| member.node_id == status.leader_id)
    {
        state.learn_leader(&leader.client_endpoint, status.term);
    }
    reconcile(pool, &mut state);
    by_leader
}

/// The members that may be asked. Without a leader's word nobody is left out.
fn standings(status: &ClusterStatusResponse, by_leader: bool) -> BTreeMap<String, Standing> {
    let mut members = BTreeMap::new();
    for member in &status.members {
        // One that is being admitted has nothing to serve yet.
        if member.kind() == MemberKind::Joining {
            continue;
        }
        let standing = match member.health() {
            _ if !by_leader => Some(Standing::Good),
            MemberHealth::Dead | MemberHealth::Quarantined => None,
            MemberHealth::Unreachable => Some(Standing::Suspect),
            _ => Some(Standing::Good),
        };
        if let Some(standing) = standing.filter(|_| !member.client_endpoint.is_empty()) {
            members.insert(member.client_endpoint.clone(), standing);
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use registry_proto::v1::Member;

    use super::*;

    #[test]
    fn the_leaders_word_leaves_dead_members_out_and_unheard_ones_last() {
        let member = |endpoint: &str, health: MemberHealth| Member {
            client_endpoint: endpoint.into(),
            health: health.into(),
            ..Default::default()
        };
        let status = ClusterStatusResponse {
            members: vec![
                member("a:1", MemberHealth::Healthy),
                member("b:1", MemberHealth::Unreachable),
                member("c:1", MemberHealth::Dead),
                member("d:1", MemberHealth::Quarantined),
                member("e:1", MemberHealth::Lagging),
                Member { kind: MemberKind::Joining.into(), ..member("f:1", MemberHealth::Lagging) },
            ],
            ..Default::default()
        };
        let seen: Vec<_> = standings(&status, true).into_iter().collect();
        let expected = [("a:1", Standing::Good), ("b:1", Standing::Suspect), ("e:1", Standing::Good)];
        assert_eq!(seen, expected.map(|(endpoint, standing)| (endpoint.to_owned(), standing)));
        assert_eq!(standings(&status, false).len(), 5);
    }
}
