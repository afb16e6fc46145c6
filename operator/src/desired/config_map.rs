//! The configuration of the nodes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::names::{CLIENT_PORT, HTTP_PORT, Owner, PEER_PORT};
use crate::crd::RegistryClusterSpec;

/// Key of the config map, and name of the file.
pub const FILE: &str = "registry.yaml";
/// Folder of the configuration in a pod.
pub const CONFIG_DIR: &str = "/etc/registry";
/// The token for administration in a pod.
pub const TOKEN_FILE: &str = "/etc/registry/admin/token";
/// Folder of a node's data in a pod.
pub const DATA_DIR: &str = "/var/lib/registry";

/// The config map. One file for all nodes: which one a process is, its environment says.
pub fn config_map(owner: &Owner, spec: &RegistryClusterSpec, cluster_domain: &str) -> ConfigMap {
    ConfigMap {
        metadata: owner.metadata(owner.config()),
        data: Some(BTreeMap::from([(FILE.to_owned(), file(owner, spec, cluster_domain))])),
        ..ConfigMap::default()
    }
}

const HEADER: &str = "\
# Made by registry-operator from the RegistryCluster; changes made here are overwritten.
# cluster.nodes are seeds once the cluster is founded, and cluster_settings are those that it is founded with.
";

fn file(owner: &Owner, spec: &RegistryClusterSpec, cluster_domain: &str) -> String {
    let nodes: Vec<Value> =
        (0..spec.replicas.unsigned_abs()).map(|ordinal| node(owner, ordinal, cluster_domain)).collect();
    let root = json!({
        "listen": "0.0.0.0",
        "http_port": HTTP_PORT,
        "data_dir": DATA_DIR,
        "admin_token_file": TOKEN_FILE,
        // For a pod that still sees an older list than the one that it was added by.
        "host_pattern": format!("{{node_id}}.{}", owner.domain(cluster_domain)),
        "raft": {
            "heartbeat_interval": spec.raft.heartbeat_interval.to_string(),
            "election_timeout_min": spec.raft.election_timeout_min.to_string(),
            "election_timeout_max": spec.raft.election_timeout_max.to_string(),
            "max_in_snapshot_log_to_keep": spec.raft.snapshot.log_entries_to_keep,
        },
        "snapshot": {
            "min_bytes": spec.raft.snapshot.min_size.bytes(),
            "max_age": spec.raft.snapshot.max_age.to_string(),
        },
        "cluster": { "nodes": nodes },
        "cluster_settings": cluster_settings(spec),
    });
    // A tree of texts and numbers can always be written.
    let yaml = serde_saphyr::to_string(&root).unwrap_or_else(|_| root.to_string());
    format!("{HEADER}{yaml}")
}

fn node(owner: &Owner, ordinal: u32, cluster_domain: &str) -> Value {
    json!({
        "node_id": owner.pod(ordinal),
        "host": owner.host(ordinal, cluster_domain),
        "client_port": CLIENT_PORT,
        "raft_port": PEER_PORT,
        "http_port": HTTP_PORT,
    })
}

fn cluster_settings(spec: &RegistryClusterSpec) -> Value {
    let registry = &spec.registry;
    json!({
        "membership_owner": "operator",
        "voters_target": spec.replicas,
        "default_ttl": registry.default_ttl.to_string(),
        "dead_member_after": registry.dead_member_after.to_string(),
        "guard": {
            "enabled": registry.guard.enabled,
            "min_leases": registry.guard.min_leases,
            "percent": registry.guard.percent,
            "hold": registry.guard.hold.to_string(),
        },
        "history": { "events": registry.history.events, "bytes": registry.history.size.bytes() },
        "quotas": {
            "instances": registry.quotas.instances,
            "services": registry.quotas.services,
            "instances_per_service": registry.quotas.instances_per_service,
            "overrides": registry.quotas.overrides,
            "user_data_bytes": registry.quotas.user_data.bytes(),
        },
    })
}
