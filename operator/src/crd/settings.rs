//! How the registry behaves: timing of Raft, which takes effect with a restart, and the replicated settings,
//! which change online. Defaults and bounds are those of the node (`registry/src/config/keys.rs`).

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::values::{Size, Span};

/// Timing of Raft and when snapshots are taken.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("duration(self.electionTimeoutMin) >= duration(self.heartbeatInterval) + duration(self.heartbeatInterval)").message("raft.electionTimeoutMin must be at least twice raft.heartbeatInterval, or a single late heartbeat starts an election").field_path(".electionTimeoutMin"),
    validation = Rule::new("duration(self.electionTimeoutMax) > duration(self.electionTimeoutMin)").message("raft.electionTimeoutMax must be more than raft.electionTimeoutMin, or all nodes ask for votes at the same moment").field_path(".electionTimeoutMax")
)]
pub struct Raft {
    /// How often the leader reports to its followers: a time, 10ms to 10s (default 50ms).
    #[serde(default = "heartbeat_interval")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10ms') && duration(self) <= duration('10s')").message("raft.heartbeatInterval must be between 10ms and 10s"))]
    pub heartbeat_interval: Span,
    /// Shortest silence of the leader before an election: a time, 50ms to 30s (default 150ms).
    #[serde(default = "election_timeout_min")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('50ms') && duration(self) <= duration('30s')").message("raft.electionTimeoutMin must be between 50ms and 30s"))]
    pub election_timeout_min: Span,
    /// Longest silence of the leader before an election: a time, 60ms to 1m (default 300ms).
    #[serde(default = "election_timeout_max")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('60ms') && duration(self) <= duration('1m')").message("raft.electionTimeoutMax must be between 60ms and 1m"))]
    pub election_timeout_max: Span,
    /// When a node writes a snapshot.
    #[serde(default)]
    pub snapshot: Snapshot,
}

/// When a node writes a snapshot, and how much log it keeps behind it.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// After so much log, or the size of the last snapshot if that is more: bytes, 64Ki to 64Gi (default 64Mi).
    #[serde(default = "snapshot_min_size")]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity('64Ki')) >= 0 && quantity(self).compareTo(quantity('64Gi')) <= 0").message("raft.snapshot.minSize must be between 64Ki and 64Gi"))]
    pub min_size: Size,
    /// At least so often: a time, 1s to 24h (default 1h).
    #[serde(default = "snapshot_max_age")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("raft.snapshot.maxAge must be between 1s and 24h"))]
    pub max_age: Span,
    /// Log entries kept behind a snapshot, so that a short absence needs none (default 200000).
    #[serde(default = "log_entries_to_keep")]
    #[schemars(range(min = 0, max = 100_000_000))]
    pub log_entries_to_keep: i64,
}

/// Settings of the running cluster; a change takes effect online, at one moment on all nodes.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RegistrySettings {
    /// Time to live of a registration that names none: a time, 1s to 1h (default 15s).
    #[serde(default = "default_ttl")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('1h')").message("registry.defaultTTL must be between 1s and 1h"))]
    #[serde(rename = "defaultTTL")]
    pub default_ttl: Span,
    /// Keeps the instances of a service when most of its leases run out at once.
    #[serde(default)]
    pub guard: Guard,
    /// Silence after which a member counts as dead, for hints to clients: a time, 1s to 24h (default 1m).
    #[serde(default = "dead_member_after")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("registry.deadMemberAfter must be between 1s and 24h"))]
    pub dead_member_after: Span,
    /// How far back watches can resume.
    #[serde(default)]
    pub history: History,
    /// What clients may fill. Lower quotas concern only what is new.
    #[serde(default)]
    pub quotas: Quotas,
}

/// The mass-expiry guard.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Guard {
    /// Whether there is a guard (default true).
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Overdue leases of a service from which it takes hold (default 5).
    #[serde(default = "guard_min_leases")]
    #[schemars(range(min = 1, max = 100_000))]
    pub min_leases: i32,
    /// Share of the service's leases that must be overdue, in percent (default 50).
    #[serde(default = "guard_percent")]
    #[schemars(range(min = 1, max = 100))]
    pub percent: i32,
    /// How long it holds: a time, 1s to 24h (default 5m).
    #[serde(default = "guard_hold")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("registry.guard.hold must be between 1s and 24h"))]
    pub hold: Span,
}

/// Bounds of the history; whichever is reached first counts.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// Events (default 65536).
    #[serde(default = "history_events")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub events: i64,
    /// Memory for them: bytes, 64Ki to 1Gi (default 64Mi).
    #[serde(default = "history_size")]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity('64Ki')) >= 0 && quantity(self).compareTo(quantity('1Gi')) <= 0").message("registry.history.size must be between 64Ki and 1Gi"))]
    pub size: Size,
}

/// Quotas of the cluster.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.instancesPerService <= self.instances").message("registry.quotas.instancesPerService must not be more than registry.quotas.instances").field_path(".instancesPerService"))]
pub struct Quotas {
    /// Instances (default 1000000).
    #[serde(default = "quota_instances")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub instances: i64,
    /// Services (default 100000).
    #[serde(default = "quota_services")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub services: i64,
    /// Instances of one service (default 100000).
    #[serde(default = "quota_instances_per_service")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub instances_per_service: i64,
    /// Overrides by operators (default 100000).
    #[serde(default = "quota_overrides")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub overrides: i64,
    /// Names, metadata and tags of all instances together: bytes, 1Mi to 64Gi (default 512Mi).
    #[serde(default = "quota_user_data")]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity('1Mi')) >= 0 && quantity(self).compareTo(quantity('64Gi')) <= 0").message("registry.quotas.userData must be between 1Mi and 64Gi"))]
    pub user_data: Size,
}

fn yes() -> bool {
    true
}

fn heartbeat_interval() -> Span {
    Span::from_millis(50)
}

fn election_timeout_min() -> Span {
    Span::from_millis(150)
}

fn election_timeout_max() -> Span {
    Span::from_millis(300)
}

fn snapshot_min_size() -> Size {
    Size::from_bytes(64 << 20)
}

fn snapshot_max_age() -> Span {
    Span::from_millis(3_600_000)
}

fn log_entries_to_keep() -> i64 {
    200_000
}

fn default_ttl() -> Span {
    Span::from_millis(15_000)
}

fn dead_member_after() -> Span {
    Span::from_millis(60_000)
}

fn guard_min_leases() -> i32 {
    5
}

fn guard_percent() -> i32 {
    50
}

fn guard_hold() -> Span {
    Span::from_millis(300_000)
}

fn history_events() -> i64 {
    65_536
}

fn history_size() -> Size {
    Size::from_bytes(64 << 20)
}

fn quota_instances() -> i64 {
    1_000_000
}

fn quota_services() -> i64 {
    100_000
}

fn quota_instances_per_service() -> i64 {
    100_000
}

fn quota_overrides() -> i64 {
    100_000
}

fn quota_user_data() -> Size {
    Size::from_bytes(512 << 20)
}

impl Default for Raft {
    fn default() -> Self {
        Self {
            heartbeat_interval: heartbeat_interval(),
            election_timeout_min: election_timeout_min(),
            election_timeout_max: election_timeout_max(),
            snapshot: Snapshot::default(),
        }
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            min_size: snapshot_min_size(),
            max_age: snapshot_max_age(),
            log_entries_to_keep: log_entries_to_keep(),
        }
    }
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            default_ttl: default_ttl(),
            guard: Guard::default(),
            dead_member_after: dead_member_after(),
            history: History::default(),
            quotas: Quotas::default(),
        }
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self { enabled: yes(), min_leases: guard_min_leases(), percent: guard_percent(), hold: guard_hold() }
    }
}

impl Default for History {
    fn default() -> Self {
        Self { events: history_events(), size: history_size() }
    }
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            instances: quota_instances(),
            services: quota_services(),
            instances_per_service: quota_instances_per_service(),
            overrides: quota_overrides(),
            user_data: quota_user_data(),
        }
    }
}
