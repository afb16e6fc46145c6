//! Puts the layers together and checks the relations between values.

use std::path::PathBuf;
use std::time::Duration;

use registry_state::{ClusterSettings, GuardSettings, HistorySettings, MembershipOwner, QuotaSettings};

use super::keys::{self, Key, show};
use super::layers::{Layers, Sources};
use super::nodes::{Node, endpoint, is_endpoint, nodes_digest};
use super::{ConfigErrors, LogConfig, RaftConfig, ShutdownConfig, SnapshotConfig, ValidConfig, WatchConfig};

/// First HTTP port; further nodes of the same host count up from it (P/S2).
const HTTP_PORT_BASE: u64 = 9_180;

/// Reads and checks the configuration of one node.
///
/// # Errors
/// Everything that is wrong, one line each.
pub fn load(sources: &Sources) -> Result<ValidConfig, ConfigErrors> {
    let mut layers = Layers::read(sources);
    let listed = layers.nodes();
    let node = layers.choose(&listed, sources.node_id.as_deref());
    let config = layers.config(listed, node);
    match config {
        Some(config) if layers.errors.is_empty() => Ok(config),
        _ => Err(ConfigErrors(layers.errors)),
    }
}

/// Checks the configuration for every node of the file.
///
/// # Errors
/// Everything that is wrong with any of them, each line once.
pub fn check_all(sources: &Sources) -> Result<Vec<ValidConfig>, ConfigErrors> {
    let listed = Layers::read(sources).nodes();
    let mut configs = Vec::new();
    let mut errors: Vec<String> = Vec::new();
    let names = listed.iter().map(|node| Some(node.node_id.clone()));
    // Without a readable list one pass still reports why.
    for node_id in names.chain(listed.is_empty().then_some(None)) {
        match load(&Sources { node_id, ..sources.clone() }) {
            Ok(config) => configs.push(config),
            Err(ConfigErrors(found)) => {
                let new: Vec<_> = found.into_iter().filter(|line| !errors.contains(line)).collect();
                errors.extend(new);
            }
        }
    }
    if errors.is_empty() { Ok(configs) } else { Err(ConfigErrors(errors)) }
}

impl Layers {
    fn choose(&mut self, listed: &[Node], node_id: Option<&str>) -> Option<Node> {
        let names = || listed.iter().map(|node| node.node_id.as_str()).collect::<Vec<_>>().join(", ");
        match node_id {
            None if listed.len() == 1 => listed.first().cloned(),
            None if listed.is_empty() => None,
            None => {
                self.errors.push(format!("which node is this? Give --node with one of: {}", names()));
                None
            }
            Some(node_id) => {
                let found = listed.iter().find(|node| node.node_id == node_id).cloned();
                found.or_else(|| self.unlisted(listed, node_id))
            }
        }
    }

    /// Reads every setting, so that every error is noted; `None` if the node is not known.
    fn config(&mut self, listed: Vec<Node>, node: Option<Node>) -> Option<ValidConfig> {
        let raft = self.raft();
        let log = LogConfig {
            segment_bytes: self.number(&keys::SEGMENT_BYTES),
            reserve_bytes: self.number(&keys::RESERVE_BYTES),
            cache_bytes: self.number(&keys::CACHE_BYTES),
        };
        let snapshot = SnapshotConfig {
            min_bytes: self.number(&keys::SNAPSHOT_BYTES),
            max_age: self.duration(&keys::SNAPSHOT_AGE),
        };
        let watch = WatchConfig {
            max_watches: self.number(&keys::WATCHES),
            max_queue_bytes: self.number(&keys::WATCH_BYTES),
        };
        let shutdown =
            ShutdownConfig { linger: self.duration(&keys::LINGER), drain: self.duration(&keys::DRAIN) };
        let cluster_settings = self.cluster_settings(listed.len());
        let listen = self.text(&keys::LISTEN);
        let data_dir = self.text(&keys::DATA_DIR);
        let admin_token_file = self.text(&keys::ADMIN_TOKEN_FILE).map(PathBuf::from);
        let http_port = self.optional_number(&keys::HTTP_PORT);
        let join = self.join();

        let node = node?;
        let earlier = listed.iter().take_while(|other| other.node_id != node.node_id);
        let same_host = earlier.filter(|other| other.host == node.host).count() as u64;
        let http_port = http_port.or(node.http_port.map(u64::from)).unwrap_or(HTTP_PORT_BASE + same_host);
        let http_port = self.check_http_port(http_port, &listed, &node);
        let mut nodes = listed;
        nodes.sort_by(|a, b| a.node_id.cmp(&b.node_id));
        Some(ValidConfig {
            nodes_digest: nodes_digest(&nodes),
            nodes,
            listen: listen.unwrap_or_else(|| node.host.clone()),
            http_port,
            data_dir: data_dir.map_or_else(|| PathBuf::from("data").join(&node.node_id), PathBuf::from),
            node,
            admin_token_file,
            join,
            raft,
            log,
            snapshot,
            watch,
            shutdown,
            cluster_settings,
        })
    }

    /// The members to ask for a place.
    fn join(&mut self) -> Vec<String> {
        let text = self.text(&keys::JOIN).unwrap_or_default();
        let endpoints: Vec<_> = text.split(',').map(str::trim).filter(|text| !text.is_empty()).collect();
        for endpoint in endpoints.iter().filter(|endpoint| !is_endpoint(endpoint)) {
            self.errors
                .push(format!("{}: {endpoint}: must be HOST:PORT of a node's peer port", keys::JOIN.path));
        }
        endpoints.into_iter().map(str::to_owned).collect()
    }

    fn raft(&mut self) -> RaftConfig {
        let heartbeat = self.number(&keys::HEARTBEAT_INTERVAL);
        let min = self.number(&keys::ELECTION_TIMEOUT_MIN);
        let max = self.number(&keys::ELECTION_TIMEOUT_MAX);
        // A single late heartbeat must not start an election.
        self.relate(
            (&keys::ELECTION_TIMEOUT_MIN, min),
            (&keys::HEARTBEAT_INTERVAL, heartbeat),
            min >= 2 * heartbeat,
            "must be at least twice",
        );
        // Equal bounds would let all followers ask for votes at the same moment.
        self.relate(
            (&keys::ELECTION_TIMEOUT_MAX, max),
            (&keys::ELECTION_TIMEOUT_MIN, min),
            max > min,
            "must be more than",
        );
        RaftConfig {
            heartbeat_interval: Duration::from_millis(heartbeat),
            election_timeout_min: Duration::from_millis(min),
            election_timeout_max: Duration::from_millis(max),
            max_in_snapshot_log_to_keep: self.number(&keys::LOG_TO_KEEP),
        }
    }

    fn cluster_settings(&mut self, nodes: usize) -> ClusterSettings {
        let owner = match self.text(&keys::MEMBERSHIP_OWNER).as_deref() {
            Some("operator") => MembershipOwner::Operator,
            Some("manual") => MembershipOwner::Manual,
            _ => MembershipOwner::Autopilot,
        };
        let instances = self.number(&keys::QUOTA_INSTANCES);
        let per_service = self.number(&keys::QUOTA_PER_SERVICE);
        self.relate(
            (&keys::QUOTA_PER_SERVICE, per_service),
            (&keys::QUOTA_INSTANCES, instances),
            per_service <= instances,
            "must not be more than",
        );
        let voters = self.optional_number(&keys::VOTERS_TARGET).unwrap_or(nodes as u64);
        let founds = !self.given.contains_key(keys::JOIN.path) && nodes > 0;
        if founds && ![1, 3, 5, 7].contains(&voters) {
            self.errors.push(format!("{} = {voters}: must be 1, 3, 5 or 7", keys::VOTERS_TARGET.path));
        }
        ClusterSettings {
            version: 1,
            default_ttl_ms: self.number(&keys::DEFAULT_TTL),
            guard: GuardSettings {
                enabled: self.switch(&keys::GUARD_ENABLED),
                min_leases: self.small(&keys::GUARD_MIN_LEASES),
                percent: self.small(&keys::GUARD_PERCENT),
                hold_ms: self.number(&keys::GUARD_HOLD),
            },
            dead_member_after_ms: self.number(&keys::DEAD_MEMBER_AFTER),
            promote_after_ms: self.number(&keys::PROMOTE_AFTER),
            admission_timeout_ms: self.number(&keys::ADMISSION_TIMEOUT),
            history: HistorySettings {
                max_events: self.number(&keys::HISTORY_EVENTS),
                max_bytes: self.number(&keys::HISTORY_BYTES),
            },
            quotas: QuotaSettings {
                instances,
                services: self.number(&keys::QUOTA_SERVICES),
                instances_per_service: per_service,
                overrides: self.number(&keys::QUOTA_OVERRIDES),
                user_data_bytes: self.number(&keys::QUOTA_USER_DATA),
            },
            membership_owner: owner.into(),
            voters_target: u32::try_from(voters).unwrap_or(u32::MAX),
        }
    }

    /// A number whose upper bound fits 32 bits.
    fn small(&mut self, key: &'static Key) -> u32 {
        u32::try_from(self.number(key)).unwrap_or(u32::MAX)
    }

    fn duration(&mut self, key: &'static Key) -> Duration {
        Duration::from_millis(self.number(key))
    }

    /// Notes a broken relation, with both values. Values that are wrong by themselves were noted before.
    fn relate(&mut self, left: (&Key, u64), right: (&Key, u64), holds: bool, rule: &str) {
        let named = |(key, value): (&Key, u64)| format!("{} = {}", key.path, show(key.kind, value));
        let sound = |key: &Key| !self.wrong.contains(&key.path);
        if !holds && sound(left.0) && sound(right.0) {
            self.errors.push(format!("{}: {rule} {}", named(left), named(right)));
        }
    }

    fn check_http_port(&mut self, port: u64, listed: &[Node], node: &Node) -> u16 {
        let port = u16::try_from(port).unwrap_or(u16::MAX);
        for other in listed.iter().filter(|other| other.host == node.host) {
            for (name, taken) in [("client_port", other.client_port), ("raft_port", other.raft_port)] {
                if taken == port {
                    self.errors.push(format!(
                        "{} = {port}: the {name} of {} is the same; give another one",
                        keys::HTTP_PORT.path,
                        other.node_id
                    ));
                }
            }
        }
        port
    }
}

/// Whether a bind address is reachable from other machines, as far as its text tells.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        || endpoint(host, 0).parse::<std::net::SocketAddr>().is_ok_and(|address| address.ip().is_loopback())
}
