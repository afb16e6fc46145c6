//! The table of settings: path, kind with bounds, default and meaning.

use std::time::Duration;

/// One setting of the file.
#[derive(Debug)]
pub(super) struct Key {
    /// Where it stands in the file, joined by dots.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    /// As written in a file; empty = none.
    pub(super) default: &'static str,
    pub(super) help: &'static str,
}

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Milliseconds as a number, or text with a unit (`ms`, `s`, `m`, `h`). Bounds in milliseconds.
    Time { min: u64, max: u64 },
    /// Bytes as a number, or text with a unit (`KiB`, `MiB`, `GiB`).
    Size { min: u64, max: u64 },
    /// A plain number.
    Count { min: u64, max: u64 },
    /// `true` or `false`.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any text that is not empty.
    Text,
}

impl Key {
    /// The environment variable that overrides it (P/S4).
    pub(super) fn variable(&self) -> String {
        format!("REGISTRY_{}", self.path.to_ascii_uppercase().replace('.', "__"))
    }
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const fn key(path: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key { path, kind, default, help }
}

const fn time(min: u64, max: u64) -> Kind {
    Kind::Time { min, max }
}

const fn size(min: u64, max: u64) -> Kind {
    Kind::Size { min, max }
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max }
}

/// The list of nodes: not a scalar, so it has no environment variable and is read by `nodes.rs`.
pub(super) const NODES: &str = "cluster.nodes";

pub(super) static LISTEN: Key =
    key("listen", Kind::Text, "", "Host that the listeners bind. Default: the node's host.");
pub(super) static HTTP_PORT: Key = key(
    "http_port",
    count(1, 65_535),
    "",
    "Port of /livez, /readyz and /metrics. Default: that of the node in cluster.nodes, else 9180 + number of earlier nodes with the same host.",
);
pub(super) static DATA_DIR: Key =
    key("data_dir", Kind::Text, "", "Folder of the node's data. Default: ./data/NODE_ID.");
pub(super) static ADMIN_TOKEN_FILE: Key = key(
    "admin_token_file",
    Kind::Text,
    "",
    "File with the token for administration. Default: none, then only loopback is answered.",
);
pub(super) static JOIN: Key = key(
    "join",
    Kind::Text,
    "",
    "Peer addresses of a running cluster, HOST:PORT[,HOST:PORT...]: this node founds none and asks them for a place. \
     cluster.nodes then needs this node only. Default: none.",
);

pub(super) static HOST_PATTERN: Key = key(
    "host_pattern",
    Kind::Text,
    "",
    "Host of a node that cluster.nodes does not list, with {node_id} for its name. Such a node has the ports of the \
     first listed one, founds nothing and waits to be admitted. Default: none, every node must be listed.",
);

pub(super) static HEARTBEAT_INTERVAL: Key = key(
    "raft.heartbeat_interval",
    time(10, 10 * SECOND),
    "50",
    "How often the leader reports to its followers, in ms.",
);
pub(super) static ELECTION_TIMEOUT_MIN: Key = key(
    "raft.election_timeout_min",
    time(50, 30 * SECOND),
    "150",
    "Shortest silence of the leader before an election, in ms.",
);
pub(super) static ELECTION_TIMEOUT_MAX: Key = key(
    "raft.election_timeout_max",
    time(60, MINUTE),
    "300",
    "Longest silence of the leader before an election, in ms. Equal at all nodes.",
);
pub(super) static LOG_TO_KEEP: Key = key(
    "raft.max_in_snapshot_log_to_keep",
    count(0, 100_000_000),
    "200000",
    "Log entries kept behind a snapshot: a minute of writes, so that a short absence needs no snapshot.",
);
pub(super) static SEGMENT_BYTES: Key =
    key("log.segment_bytes", size(MIB, 4 * GIB), "64MiB", "Size of one file of the log.");
pub(super) static RESERVE_BYTES: Key = key(
    "log.reserve_bytes",
    size(MIB, 64 * GIB),
    "64MiB",
    "Space kept allocated for the time when the disk is full, or twice the last snapshot if that is more.",
);
pub(super) static CACHE_BYTES: Key =
    key("log.cache_bytes", size(MIB, 64 * GIB), "64MiB", "Recent log entries kept in memory.");
pub(super) static SNAPSHOT_BYTES: Key = key(
    "snapshot.min_bytes",
    size(64 << 10, 64 * GIB),
    "64MiB",
    "Take a snapshot after so much log, or after the size of the last one if that is more.",
);
pub(super) static SNAPSHOT_AGE: Key =
    key("snapshot.max_age", time(SECOND, 24 * HOUR), "1h", "Take a snapshot at least so often.");
pub(super) static WATCHES: Key =
    key("watch.max_watches", count(1, 1_000_000), "20000", "Open watches at this node.");
pub(super) static WATCH_BYTES: Key =
    key("watch.max_queue_bytes", size(MIB, 64 * GIB), "256MiB", "Events queued for all watches together.");
pub(super) static LINGER: Key = key(
    "shutdown.linger",
    time(0, MINUTE),
    "1s",
    "How long the node stays ready after SIGTERM, for connections still on their way.",
);
pub(super) static DRAIN: Key =
    key("shutdown.drain", time(0, 10 * MINUTE), "10s", "Longest wait for calls under way at a stop.");

pub(super) static DEFAULT_TTL: Key = key(
    "cluster_settings.default_ttl",
    time(SECOND, HOUR),
    "15s",
    "Time to live of a registration that names none.",
);
pub(super) static GUARD_ENABLED: Key =
    key("cluster_settings.guard.enabled", Kind::Switch, "true", "Whether the mass-expiry guard is on.");
pub(super) static GUARD_MIN_LEASES: Key = key(
    "cluster_settings.guard.min_leases",
    count(1, 100_000),
    "5",
    "Overdue leases of a service that arm the guard.",
);
pub(super) static GUARD_PERCENT: Key = key(
    "cluster_settings.guard.percent",
    count(1, 100),
    "50",
    "Share of overdue leases that arms the guard.",
);
pub(super) static GUARD_HOLD: Key = key(
    "cluster_settings.guard.hold",
    time(SECOND, 24 * HOUR),
    "5m",
    "How long the guard keeps overdue instances.",
);
pub(super) static DEAD_MEMBER_AFTER: Key = key(
    "cluster_settings.dead_member_after",
    time(SECOND, 24 * HOUR),
    "60s",
    "Silence after which a member counts as dead.",
);
pub(super) static PROMOTE_AFTER: Key = key(
    "cluster_settings.promote_after",
    time(0, HOUR),
    "10s",
    "How long a new member must have kept up before it votes.",
);
pub(super) static ADMISSION_TIMEOUT: Key = key(
    "cluster_settings.admission_timeout",
    time(SECOND, 24 * HOUR),
    "10m",
    "How long an admission may stay unfinished.",
);
pub(super) static HISTORY_EVENTS: Key = key(
    "cluster_settings.history.events",
    count(1, 1_000_000),
    "65536",
    "Events kept for watches that resume.",
);
pub(super) static HISTORY_BYTES: Key = key(
    "cluster_settings.history.bytes",
    size(64 << 10, GIB),
    "64MiB",
    "Encoded events kept for watches that resume.",
);
pub(super) static QUOTA_INSTANCES: Key =
    key("cluster_settings.quotas.instances", count(1, 10_000_000), "1000000", "Instances of the cluster.");
pub(super) static QUOTA_SERVICES: Key =
    key("cluster_settings.quotas.services", count(1, 1_000_000), "100000", "Services of the cluster.");
pub(super) static QUOTA_PER_SERVICE: Key = key(
    "cluster_settings.quotas.instances_per_service",
    count(1, 1_000_000),
    "100000",
    "Instances of one service.",
);
pub(super) static QUOTA_OVERRIDES: Key =
    key("cluster_settings.quotas.overrides", count(0, 1_000_000), "100000", "Operator overrides.");
pub(super) static QUOTA_USER_DATA: Key = key(
    "cluster_settings.quotas.user_data_bytes",
    size(MIB, 64 * GIB),
    "512MiB",
    "Names, metadata and tags of all instances together.",
);
pub(super) static MEMBERSHIP_OWNER: Key = key(
    "cluster_settings.membership_owner",
    Kind::Choice(&["autopilot", "operator", "manual"]),
    "autopilot",
    "Who changes the membership.",
);
pub(super) static VOTERS_TARGET: Key = key(
    "cluster_settings.voters_target",
    count(1, 7),
    "",
    "Voters that autopilot aims at. Default: the number of nodes in the file.",
);

/// All of them, in the order in which a reader wants them.
pub(super) static KEYS: [&Key; 36] = [
    &LISTEN,
    &HTTP_PORT,
    &DATA_DIR,
    &ADMIN_TOKEN_FILE,
    &JOIN,
    &HOST_PATTERN,
    &HEARTBEAT_INTERVAL,
    &ELECTION_TIMEOUT_MIN,
    &ELECTION_TIMEOUT_MAX,
    &LOG_TO_KEEP,
    &SEGMENT_BYTES,
    &RESERVE_BYTES,
    &CACHE_BYTES,
    &SNAPSHOT_BYTES,
    &SNAPSHOT_AGE,
    &WATCHES,
    &WATCH_BYTES,
    &LINGER,
    &DRAIN,
    &DEFAULT_TTL,
    &GUARD_ENABLED,
    &GUARD_MIN_LEASES,
    &GUARD_PERCENT,
    &GUARD_HOLD,
    &DEAD_MEMBER_AFTER,
    &PROMOTE_AFTER,
    &ADMISSION_TIMEOUT,
    &HISTORY_EVENTS,
    &HISTORY_BYTES,
    &QUOTA_INSTANCES,
    &QUOTA_SERVICES,
    &QUOTA_PER_SERVICE,
    &QUOTA_OVERRIDES,
    &QUOTA_USER_DATA,
    &MEMBERSHIP_OWNER,
    &VOTERS_TARGET,
];

/// The number with its unit, for people.
pub(super) fn show(kind: Kind, value: u64) -> String {
    match kind {
        Kind::Time { .. } => format!("{:?}", Duration::from_millis(value)),
        Kind::Size { .. } => {
            let units = [(GIB, "GiB"), (MIB, "MiB"), (1 << 10, "KiB")];
            match units.iter().find(|(unit, _)| value >= *unit && value.is_multiple_of(*unit)) {
                Some((unit, name)) => format!("{}{name}", value / unit),
                None => format!("{value} bytes"),
            }
        }
        _ => value.to_string(),
    }
}
