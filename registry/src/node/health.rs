//! What `/readyz` and `/metrics` tell of this node.

use registry_state::{GuardState, State};

use crate::http::Health;
use crate::metrics::load::LoadView;
use crate::metrics::{Metrics, View};
use crate::raft::{Consensus, LogPosition, Role};
use crate::request::admit::Admission;
use crate::standing::Standing;
use crate::watch::Hub;

/// Reads the parts at the moment of a scrape.
pub(super) struct NodeHealth {
    standing: Standing,
    metrics: Metrics,
    hub: Hub,
    admission: Admission,
}

impl NodeHealth {
    pub(super) fn new(standing: Standing, metrics: Metrics, hub: Hub, admission: Admission) -> Self {
        Self { standing, metrics, hub, admission }
    }

    fn view(&self) -> View {
        let view = View {
            role: "none",
            ready: self.standing.readiness().is_ok(),
            quarantined: self.standing.quarantined().is_some(),
            stopping: self.standing.is_stopping(),
            watchers: self.hub.open_watches() as u64,
            watch_queue_bytes: self.hub.queue_bytes() as u64,
            load: LoadView {
                under_way: self
                    .admission
                    .under_way()
                    .map(|(class, count)| (class.label(), count as u64))
                    .collect(),
                delay: self.admission.delay(),
                ..LoadView::default()
            },
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
        load: room(consensus, state, view.load),
        ..view
    }
}

/// What there is room for: quotas and disk.
fn room(consensus: &Consensus, state: &State, load: LoadView) -> LoadView {
    let storage = consensus.storage();
    let quotas = &state.settings().quotas;
    LoadView {
        quotas: vec![
            ("instances", state.counts().total.into(), quotas.instances),
            ("services", state.service_count() as u64, quotas.services),
            ("overrides", state.override_count() as u64, quotas.overrides),
            ("user_data_bytes", state.user_data_bytes(), quotas.user_data_bytes),
        ],
        disk_full: storage.headroom.full,
        log_stalled: storage.headroom.stalled,
        log_spare_segments: storage.headroom.spare_segments as u64,
        log_reserve_bytes: storage.headroom.reserve_bytes,
        log_bytes: storage.segment_bytes,
        log_queued_bytes: storage.queued_bytes,
        disk_free_bytes: consensus.free_bytes().unwrap_or(0),
        ..load
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
