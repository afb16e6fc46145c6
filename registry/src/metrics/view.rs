//! How a node is at the moment of a scrape.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::load::{LoadGauges, LoadView};
use super::{MemberLabel, signed};

/// How the node is at the moment of a scrape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// `leader`, `follower`, `candidate`, `learner` or `none` (no Raft).
    pub role: &'static str,
    /// As `/readyz` says.
    pub ready: bool,
    /// Out of Raft until someone acts.
    pub quarantined: bool,
    /// In an orderly stop.
    pub stopping: bool,
    /// Raft term.
    pub term: u64,
    /// Raft id of the leader that this node follows; 0 = none.
    pub leader: u64,
    /// Last entry of the log.
    pub last_log_index: u64,
    /// Last entry removed from the log.
    pub log_purged_index: u64,
    /// Last entry in the newest snapshot.
    pub snapshot_index: u64,
    /// Last committed entry known.
    pub commit_index: u64,
    /// Last applied entry.
    pub applied_index: u64,
    /// On the leader: entries that each other member is behind, by raft id.
    pub replication_lag: Vec<(u64, u64)>,
    /// Revision of the published state.
    pub revision: u64,
    /// Services known.
    pub services: u64,
    /// Instances by state, the name of the state in lower case.
    pub instances: Vec<(&'static str, u64)>,
    /// Open leases.
    pub leases: u64,
    /// Services under the mass-expiry guard.
    pub protected_services: u64,
    /// Leases that it keeps.
    pub protected_leases: u64,
    /// Instances that it keeps.
    pub protected_instances: u64,
    /// Overrides in force.
    pub overrides: u64,
    /// Open watches at this node.
    pub watchers: u64,
    /// Bytes queued for them.
    pub watch_queue_bytes: u64,
    /// Load, and room for more.
    pub load: LoadView,
}

/// Every role that [`View::role`] can name: one gauge each, so that the old role goes to 0.
const ROLES: [&str; 5] = ["leader", "follower", "candidate", "learner", "none"];

#[derive(Default)]
pub(super) struct ViewGauges {
    role: Family<RoleLabel, Gauge>,
    ready: Gauge,
    quarantined: Gauge,
    stopping: Gauge,
    term: Gauge,
    leader: Gauge,
    last_log_index: Gauge,
    log_purged_index: Gauge,
    snapshot_index: Gauge,
    commit_index: Gauge,
    applied_index: Gauge,
    replication_lag: Family<MemberLabel, Gauge>,
    revision: Gauge,
    services: Gauge,
    instances: Family<StateLabel, Gauge>,
    leases: Gauge,
    protected_services: Gauge,
    protected_leases: Gauge,
    protected_instances: Gauge,
    overrides: Gauge,
    watchers: Gauge,
    watch_queue_bytes: Gauge,
    load: LoadGauges,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabel {
    role: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

impl ViewGauges {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("role", "1 for the role that this node has", self.role.clone());
        registry.register("ready", "1 if /readyz says so", self.ready.clone());
        registry.register("quarantined", "1 if out of Raft until someone acts", self.quarantined.clone());
        registry.register("stopping", "1 during an orderly stop", self.stopping.clone());
        registry.register("term", "Raft term", self.term.clone());
        registry.register("leader", "Raft id of the leader followed, 0 = none", self.leader.clone());
        registry.register("last_log_index", "Last entry of the log", self.last_log_index.clone());
        let help = "Last entry removed from the log because a snapshot covers it";
        registry.register("log_purged_index", help, self.log_purged_index.clone());
        registry.register("snapshot_index", "Last entry in the newest snapshot", self.snapshot_index.clone());
        registry.register("commit_index", "Last entry known to be committed", self.commit_index.clone());
        registry.register("applied_index", "Last entry applied", self.applied_index.clone());
        let help = "Entries that a member is behind this leader";
        registry.register("replication_lag_entries", help, self.replication_lag.clone());
        registry.register("revision", "Revision of the state", self.revision.clone());
        registry.register("services", "Services known, empty ones included", self.services.clone());
        registry.register("instances", "Instances by state", self.instances.clone());
        registry.register("leases", "Open leases", self.leases.clone());
        let help = "Services held by the mass-expiry guard";
        registry.register("protected_services", help, self.protected_services.clone());
        let help = "Leases kept by the mass-expiry guard";
        registry.register("protected_leases", help, self.protected_leases.clone());
        let help = "Instances kept by the mass-expiry guard";
        registry.register("protected_instances", help, self.protected_instances.clone());
        registry.register(
            "overrides",
            "Overrides in force, for absent instances too",
            self.overrides.clone(),
        );
        registry.register("watchers", "Open watches at this node", self.watchers.clone());
        let help = "Events queued for watches of this node";
        registry.register_with_unit("watch_queue", help, Unit::Bytes, self.watch_queue_bytes.clone());
        self.load.register(registry);
    }

    pub(super) fn set(&self, view: &View) {
        for role in ROLES {
            self.role.get_or_create(&RoleLabel { role }).set(i64::from(role == view.role));
        }
        self.ready.set(i64::from(view.ready));
        self.quarantined.set(i64::from(view.quarantined));
        self.stopping.set(i64::from(view.stopping));
        self.term.set(signed(view.term));
        self.leader.set(signed(view.leader));
        self.last_log_index.set(signed(view.last_log_index));
        self.log_purged_index.set(signed(view.log_purged_index));
        self.snapshot_index.set(signed(view.snapshot_index));
        self.commit_index.set(signed(view.commit_index));
        self.applied_index.set(signed(view.applied_index));
        // Members that have left, and the lags of a leadership that has ended, go away.
        self.replication_lag.clear();
        for (raft_id, lag) in &view.replication_lag {
            self.replication_lag.get_or_create(&MemberLabel { raft_id: *raft_id }).set(signed(*lag));
        }
        self.revision.set(signed(view.revision));
        self.services.set(signed(view.services));
        for (state, count) in &view.instances {
            self.instances.get_or_create(&StateLabel { state }).set(signed(*count));
        }
        self.leases.set(signed(view.leases));
        self.protected_services.set(signed(view.protected_services));
        self.protected_leases.set(signed(view.protected_leases));
        self.protected_instances.set(signed(view.protected_instances));
        self.overrides.set(signed(view.overrides));
        self.watchers.set(signed(view.watchers));
        self.watch_queue_bytes.set(signed(view.watch_queue_bytes));
        self.load.set(&view.load);
    }
}
