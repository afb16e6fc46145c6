//! What `/readyz` and `/metrics` tell of this node.

use registry_state::GuardState;

use crate::http::Health;
use crate::metrics::{Metrics, View};
use crate::raft::{Consensus, LogPosition, Role};
use crate::standing::Standing;
use crate::watch::Hub;

/// Reads the parts at the moment of a scrape.
pub(super) struct NodeHealth {
    standing: Standing,
    metrics: Metrics,
    hub: Hub,
}

impl NodeHealth {
    pub(super) fn new(standing: Standing, metrics: Metrics, hub: Hub) -> Self {
        Self { standing, metrics, hub }
    }

    fn view(&self) -> View {
        let view = View {
            role: "none",
            ready: self.standing.readiness().is_ok(),
            quarantined: self.standing.quarantined().is_some(),
            stopping: self.standing.is_stopping(),
            watchers: self.hub.open_watches() as u64,
            watch_queue_bytes: self.hub.queue_bytes() as u64,
            ..View::default()
        };
        match self.standing.consensus() {
            Some(consensus) => running(consensus, view),
            None => view,
        }
    }
}

fn running(consensus: &Consensus, view: View) -> View {
    let status = consensus.status();
    let published = consensus.published();
    let state = &published.state;
    let counts = state.counts();
    let index = |position: Option<LogPosition>| position.map_or(0, |position| position.index);
    let others = status.followers.keys().filter(|member| **member != status.raft_id);
    let held = state.guards().filter(|(_, guard)| matches!(guard, GuardState::Holding { .. })).count() as u64;
    View {
        role: match status.role {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Learner => "learner",
            Role::Stopped => "none",
        },
        term: status.term,
        leader: status.leader.unwrap_or(0),
        last_log_index: status.last_log_index.unwrap_or(0),
        log_purged_index: index(status.purged),
        snapshot_index: index(status.snapshot),
        commit_index: index(status.committed),
        applied_index: published.applied_index(),
        replication_lag: others.filter_map(|member| Some((*member, status.lag(*member)?))).collect(),
        revision: state.revision(),
        services: state.service_count() as u64,
        instances: vec![
            ("starting", counts.starting.into()),
            ("up", counts.up.into()),
            ("draining", counts.draining.into()),
            ("down", counts.down.into()),
        ],
        leases: state.lease_count() as u64,
        protected_services: held,
        protected_leases: state.kept_leases() as u64,
        protected_instances: counts.protected.into(),
        overrides: state.override_count() as u64,
        ..view
    }
}

impl Health for NodeHealth {
    fn readiness(&self) -> Result<(), String> {
        self.standing.readiness()
    }

    fn metrics(&self) -> String {
        self.metrics.encode(&self.view()).unwrap_or_else(|error| {
            // Writing to memory does not fail; an empty page would look like a node without metrics.
            format!("# the metrics cannot be written: {error}\n# EOF\n")
        })
    }
}
