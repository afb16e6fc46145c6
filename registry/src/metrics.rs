//! What a node counts, for Prometheus at `/metrics`.
//!
//! Parts of the node record what happens through [`Metrics`]; what is merely *so* at the moment (role,
//! indexes, counts) is read once per scrape and passed to [`Metrics::encode`] as [`View`]. Labels have few
//! possible values: methods, codes, states, members. Never a service, an instance or a client.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tonic::Code;

pub use self::view::View;
use self::view::ViewGauges;
use crate::server::observe::ObserveCalls;

pub mod load;
pub mod members;
pub mod membership;
mod view;

#[cfg(test)]
mod metrics_test;

/// What happened at this node since it started. A clone shares it.
#[derive(Clone)]
pub struct Metrics {
    families: Arc<Families>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

struct Families {
    registry: Registry,
    calls: Family<CallLabels, Counter>,
    call_seconds: Family<MethodLabel, Histogram>,
    elections: Counter,
    heartbeat_timeouts: Counter,
    fsync_seconds: Histogram,
    replication_seconds: Histogram,
    snapshots_installed: Counter,
    expired_leases: Counter,
    expired_instances: Counter,
    expiry_lateness_seconds: Histogram,
    renewals: Family<ResultLabel, Counter>,
    lease_tick_lateness_seconds: Gauge<f64, AtomicU64>,
    lease_tick_lateness_max_seconds: Gauge<f64, AtomicU64>,
    forwarded: Family<ForwardLabels, Counter>,
    watch_lag_seconds: Histogram,
    watch_ends: Family<ReasonLabel, Counter>,
    drains: Family<OutcomeLabel, Counter>,
    drain_wait_seconds: Histogram,
    shed: Family<ClassLabel, Counter>,
    guard_events: Family<EventLabel, Counter>,
    overrides_ended: Counter,
    timing_mismatch: Gauge,
    state_divergence: Gauge,
    members: members::MemberMetrics,
    membership: membership::MembershipMetrics,
    view: ViewGauges,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    method: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabel {
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabel {
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ForwardLabels {
    kind: &'static str,
    outcome: ForwardOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabel {
    event: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MemberLabel {
    raft_id: u64,
}

/// What became of a forwarded call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ForwardOutcome {
    /// The leader answered, with a result or a refusal of its own.
    Answered,
    /// It was certainly not taken.
    NotSent,
    /// Nobody knows.
    Unknown,
}

impl EncodeLabelValue for ForwardOutcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        let name = match self {
            Self::Answered => "answered",
            Self::NotSent => "not_sent",
            Self::Unknown => "unknown",
        };
        EncodeLabelValue::encode(&name, encoder)
    }
}

/// 50 µs (one fsync on NVMe) to 10 s (the longest sensible call), about two per octave.
const LATENCY_BUCKETS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0,
];

fn latency() -> Histogram {
    Histogram::new(LATENCY_BUCKETS)
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let mut families = Families {
            registry: Registry::with_prefix("registry"),
            calls: Family::default(),
            call_seconds: Family::new_with_constructor(latency),
            elections: Counter::default(),
            heartbeat_timeouts: Counter::default(),
            fsync_seconds: latency(),
            replication_seconds: latency(),
            snapshots_installed: Counter::default(),
            expired_leases: Counter::default(),
            expired_instances: Counter::default(),
            expiry_lateness_seconds: latency(),
            renewals: Family::default(),
            lease_tick_lateness_seconds: Gauge::default(),
            lease_tick_lateness_max_seconds: Gauge::default(),
            forwarded: Family::default(),
            watch_lag_seconds: latency(),
            watch_ends: Family::default(),
            drains: Family::default(),
            drain_wait_seconds: latency(),
            shed: Family::default(),
            guard_events: Family::default(),
            overrides_ended: Counter::default(),
            timing_mismatch: Gauge::default(),
            state_divergence: Gauge::default(),
            members: members::MemberMetrics::default(),
            membership: membership::MembershipMetrics::default(),
            view: ViewGauges::default(),
        };
        families.register();
        Self { families: Arc::new(families) }
    }

    /// This node asked for votes.
    pub fn election(&self) {
        self.families.elections.inc();
    }

    /// This node heard nothing of its leader for an election timeout.
    pub fn heartbeat_timeout(&self) {
        self.families.heartbeat_timeouts.inc();
    }

    /// One sync of the log took so long.
    pub fn fsync(&self, took: Duration) {
        self.families.fsync_seconds.observe(took.as_secs_f64());
    }

    /// One proposal of this leader took so long from proposal to apply.
    pub fn replication(&self, took: Duration) {
        self.families.replication_seconds.observe(took.as_secs_f64());
    }

    /// A snapshot of the leader was installed.
    pub fn snapshot_installed(&self) {
        self.families.snapshots_installed.inc();
    }

    /// An `Expire` entry of this leader was applied.
    pub fn expired(&self, leases: u64, instances: u64) {
        self.families.expired_leases.inc_by(leases);
        self.families.expired_instances.inc_by(instances);
    }

    /// A lease was expired so long after its deadline.
    pub fn expiry_lateness(&self, late: Duration) {
        self.families.expiry_lateness_seconds.observe(late.as_secs_f64());
    }

    /// So many leases were to be renewed for callers of this node; `result` is `renewed`, `ended` (the
    /// lease is not open) or `failed` (no leader, no quorum).
    pub fn renewals(&self, result: &'static str, leases: u64) {
        self.families.renewals.get_or_create(&ResultLabel { result }).inc_by(leases);
    }

    /// The last tick of leases came so late, and the latest of the last minute: the node's own lateness.
    pub fn lease_tick(&self, late: Duration, latest: Duration) {
        self.families.lease_tick_lateness_seconds.set(late.as_secs_f64());
        self.families.lease_tick_lateness_max_seconds.set(latest.as_secs_f64());
    }

    /// A call was passed to the leader; `kind` is `write`, `renewal`, `read_index` or `status`.
    pub fn forwarded(&self, kind: &'static str, outcome: ForwardOutcome) {
        self.families.forwarded.get_or_create(&ForwardLabels { kind, outcome }).inc();
    }

    /// An event was handed to a watch so long after its commit became known here.
    pub fn watch_lag(&self, lag: Duration) {
        self.families.watch_lag_seconds.observe(lag.as_secs_f64());
    }

    /// A watch ended; `reason` is a word such as `client`, `resync`, `closing`.
    pub fn watch_ended(&self, reason: &'static str) {
        self.families.watch_ends.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// The hand-shake of a Drain ended; `outcome` is `complete`, `pending` (watches had not been sent the
    /// change in time) or `silent` (a node could not be asked).
    pub fn drained(&self, outcome: &'static str, waited: Duration) {
        self.families.drains.get_or_create(&OutcomeLabel { outcome }).inc();
        self.families.drain_wait_seconds.observe(waited.as_secs_f64());
    }

    /// A call of this class was refused for overload.
    pub fn shed(&self, class: &'static str) {
        self.families.shed.get_or_create(&ClassLabel { class }).inc();
    }

    /// The mass-expiry guard did this so often as this node led: `held` and `ended` (services), `armed`
    /// (services), `protected` and `recovered` (leases).
    pub fn guard(&self, event: &'static str, count: u64) {
        self.families.guard_events.get_or_create(&EventLabel { event }).inc_by(count);
    }

    /// So many overrides ended because their time was over, as this node led.
    pub fn overrides_ended(&self, overrides: u64) {
        self.families.overrides_ended.inc_by(overrides);
    }

    /// So many peers have other Raft timings than this node (P/N2).
    pub fn timing_mismatch(&self, peers: u64) {
        self.families.timing_mismatch.set(signed(peers));
    }

    /// So many peers have another state than this node after the same entries (P/O4).
    pub fn state_divergence(&self, peers: u64) {
        self.families.state_divergence.set(signed(peers));
    }

    /// What the leader finds of the other members.
    pub fn members(&self) -> &members::MemberMetrics {
        &self.families.members
    }

    /// What the leader makes of the membership.
    pub fn membership(&self) -> &membership::MembershipMetrics {
        &self.families.membership
    }

    /// The text that Prometheus reads.
    ///
    /// # Errors
    /// Never in practice: the text is written to memory.
    pub fn encode(&self, view: &View) -> Result<String, fmt::Error> {
        self.families.view.set(view);
        let mut text = String::with_capacity(16 << 10);
        encode(&mut text, &self.families.registry)?;
        Ok(text)
    }
}

impl ObserveCalls for Metrics {
    fn ended(&self, method: &'static str, code: Code, took: Duration) {
        let families = &self.families;
        families.calls.get_or_create(&CallLabels { method, code: code_name(code) }).inc();
        families.call_seconds.get_or_create(&MethodLabel { method }).observe(took.as_secs_f64());
    }
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Families {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("calls", "Calls of clients by method and code", self.calls.clone());
        let help = "Time from the arrival of a call to its answer (of a stream: to its end)";
        registry.register_with_unit("call_duration", help, Unit::Seconds, self.call_seconds.clone());
        registry.register("raft_elections", "Elections that this node began", self.elections.clone());
        let help = "Times that the leader was not heard for an election timeout";
        registry.register("raft_heartbeat_timeouts", help, self.heartbeat_timeouts.clone());
        let help = "Time of one sync of the log";
        registry.register_with_unit("log_fsync_duration", help, Unit::Seconds, self.fsync_seconds.clone());
        let help = "Time from a proposal of this leader to its apply";
        let histogram = self.replication_seconds.clone();
        registry.register_with_unit("raft_replication_duration", help, Unit::Seconds, histogram);
        let help = "Snapshots received from the leader and installed";
        registry.register("snapshots_installed", help, self.snapshots_installed.clone());
        registry.register("leases_expired", "Leases expired by this leader", self.expired_leases.clone());
        let help = "Instances expired by this leader";
        registry.register("instances_expired", help, self.expired_instances.clone());
        let help = "Time from the deadline of a lease to its expiry";
        let histogram = self.expiry_lateness_seconds.clone();
        registry.register_with_unit("lease_expiry_lateness", help, Unit::Seconds, histogram);
        registry.register("lease_renewals", "Renewals of callers of this node", self.renewals.clone());
        let help = "How late the last tick of leases was";
        let gauge = self.lease_tick_lateness_seconds.clone();
        registry.register_with_unit("lease_tick_lateness", help, Unit::Seconds, gauge);
        let help = "How late the latest tick of leases of the last 30 to 60 s was";
        let gauge = self.lease_tick_lateness_max_seconds.clone();
        registry.register_with_unit("lease_tick_lateness_max", help, Unit::Seconds, gauge);
        registry.register("forwarded", "Calls passed to the leader", self.forwarded.clone());
        let help = "Time from the commit of an event, as known here, to its delivery to a watch";
        registry.register_with_unit("watch_lag", help, Unit::Seconds, self.watch_lag_seconds.clone());
        registry.register("watches_ended", "Watches that ended, by reason", self.watch_ends.clone());
        registry.register("drains", "Drains at this node, by outcome", self.drains.clone());
        let help = "Time that a Drain waited for the watches of all nodes";
        registry.register_with_unit("drain_wait", help, Unit::Seconds, self.drain_wait_seconds.clone());
        registry.register("calls_shed", "Calls refused for overload, by class", self.shed.clone());
        let help = "What the mass-expiry guard did as this node led, in services or leases";
        registry.register("guard_events", help, self.guard_events.clone());
        let help = "Overrides ended by this leader because their time was over";
        registry.register("overrides_ended", help, self.overrides_ended.clone());
        let help = "Peers whose Raft timings differ from those of this node";
        registry.register("raft_timing_mismatch", help, self.timing_mismatch.clone());
        let help = "Peers whose state differs from that of this node after the same entries: a bug";
        registry.register("state_divergence", help, self.state_divergence.clone());
        self.members.register(registry);
        self.membership.register(registry);
        self.view.register(registry);
    }
}
