//! What of the objects must never change by accident, each with its reason as its name.

use k8s_openapi::api::core::v1::{Container, PodSpec};
use serde_json::{Value, json};

use super::testing::{defaults, owner, shape};
use super::*;
use crate::crd::pod::{Amount, Amounts, EnvironmentVariable, SecretName};
use crate::crd::{RESTARTED_AT, ROLE_LABEL, RetentionPolicy, SPEC_HASH, Strictness};

fn all(spec: &RegistryClusterSpec) -> Objects {
    objects(&owner(), spec, &defaults(), &shape())
}

fn pod(spec: &RegistryClusterSpec) -> PodSpec {
    all(spec).stateful_set.spec.unwrap().template.spec.unwrap()
}

fn container(spec: &RegistryClusterSpec) -> Container {
    pod(spec).containers.remove(0)
}

fn spec() -> RegistryClusterSpec {
    RegistryClusterSpec::default()
}

#[test]
fn every_object_is_owned_and_labelled_and_has_its_contracted_name() {
    let objects = all(&spec());
    let secret = access::admin_token(&owner(), [0; 32]);
    let budget = budget::budget(&owner(), 2, "");
    for (metadata, name) in [
        (&objects.service_account.metadata, "orders"),
        (&objects.config_map.metadata, "orders-config"),
        (&objects.peers.metadata, "orders-peers"),
        (&objects.clients.metadata, "orders"),
        (&objects.network_policy.unwrap().metadata, "orders"),
        (&objects.stateful_set.metadata, "orders"),
        (&secret.metadata, "orders-admin"),
        (&budget.metadata, "orders"),
    ] {
        assert_eq!(metadata.name.as_deref(), Some(name));
        assert_eq!(metadata.namespace.as_deref(), Some("shop"));
        assert!(owner().owns(metadata), "{name}");
        assert_eq!(metadata.labels.as_ref().unwrap()["app.kubernetes.io/managed-by"], "registry-operator");
    }
}

#[test]
fn the_set_starts_all_pods_at_once_and_replaces_none_by_itself() {
    let set = all(&spec()).stateful_set.spec.unwrap();
    assert_eq!(set.pod_management_policy.as_deref(), Some("Parallel"));
    assert_eq!(set.update_strategy.unwrap().type_.as_deref(), Some("OnDelete"));
    assert_eq!(set.service_name.as_deref(), Some("orders-peers"));
    let retention = set.persistent_volume_claim_retention_policy.unwrap();
    assert_eq!(
        (retention.when_deleted.as_deref(), retention.when_scaled.as_deref()),
        (Some("Retain"), Some("Retain"))
    );
}

#[test]
fn claims_of_removed_members_are_never_left_to_the_set() {
    let mut spec = spec();
    spec.storage.retention.when_scaled = RetentionPolicy::Delete;
    spec.storage.retention.when_deleted = RetentionPolicy::Delete;
    let retention = all(&spec).stateful_set.spec.unwrap().persistent_volume_claim_retention_policy.unwrap();
    assert_eq!(retention.when_scaled.as_deref(), Some("Retain"));
    assert_eq!(retention.when_deleted.as_deref(), Some("Delete"));
}

#[test]
fn pods_and_size_are_what_the_plan_says_and_not_what_the_spec_says() {
    let spec = RegistryClusterSpec { replicas: 5, ..spec() };
    let shape = Shape { replicas: 4, volume_size: "1Gi".into(), ..shape() };
    let set = objects(&owner(), &spec, &defaults(), &shape).stateful_set.spec.unwrap();
    assert_eq!(set.replicas, Some(4));
    let claim = set.volume_claim_templates.unwrap().remove(0);
    assert_eq!(claim.metadata.name.as_deref(), Some("data"));
    assert_eq!(claim.spec.unwrap().resources.unwrap().requests.unwrap()["storage"].0, "1Gi");
}

#[test]
fn the_selector_of_the_set_is_what_it_was_at_creation_whatever_the_spec_says() {
    let mut changed = spec();
    changed.pod_template.labels.insert("team".into(), "shop".into());
    let before = all(&spec()).stateful_set.spec.unwrap();
    let after = all(&changed).stateful_set.spec.unwrap();
    // Immutable: a change would be refused for ever.
    assert_eq!(before.selector, after.selector);
    assert_eq!(before.volume_claim_templates, after.volume_claim_templates);
    let labels = after.template.metadata.unwrap().labels.unwrap();
    assert_eq!(labels["team"], "shop");
    for (key, value) in after.selector.match_labels.unwrap() {
        assert_eq!(labels[&key], value);
    }
}

#[test]
fn nothing_of_ours_can_be_overridden_by_the_pod_template() {
    let mut spec = spec();
    for key in [ROLE_LABEL, "registry.dev/cluster", "app.kubernetes.io/instance"] {
        spec.pod_template.labels.insert(key.into(), "mine".into());
    }
    spec.pod_template.annotations.insert(SPEC_HASH.into(), "mine".into());
    let metadata = all(&spec).stateful_set.spec.unwrap().template.metadata.unwrap();
    let labels = metadata.labels.unwrap();
    // Protected by the budget from the first second, and while the operator is away.
    assert_eq!(labels[ROLE_LABEL], "voter");
    assert_eq!(labels["registry.dev/cluster"], "orders");
    assert_eq!(labels["app.kubernetes.io/instance"], "orders");
    assert_ne!(metadata.annotations.unwrap()[SPEC_HASH], "mine");
}

#[test]
fn a_restart_asked_for_is_carried_over_only_if_told() {
    let annotations = |restarted_at: Option<&str>| {
        let shape = Shape { restarted_at: restarted_at.map(str::to_owned), ..shape() };
        let set = objects(&owner(), &spec(), &defaults(), &shape).stateful_set;
        set.spec.unwrap().template.metadata.unwrap().annotations.unwrap()
    };
    assert_eq!(annotations(None).get(RESTARTED_AT), None);
    assert_eq!(annotations(Some("2026-01-01")).get(RESTARTED_AT).map(String::as_str), Some("2026-01-01"));
}

#[test]
fn a_newer_operator_does_not_change_the_image_of_a_cluster_that_names_none() {
    let newer = Defaults { node_image: "registry:2".into(), ..defaults() };
    let set = objects(&owner(), &spec(), &newer, &shape()).stateful_set;
    assert_eq!(set.metadata.annotations.unwrap()["registry.dev/default-image"], "registry:1");
    assert_eq!(set.spec.unwrap().template.spec.unwrap().containers[0].image.as_deref(), Some("registry:1"));
    let named = RegistryClusterSpec { image: Some("mine:3".into()), ..spec() };
    assert_eq!(container(&named).image.as_deref(), Some("mine:3"));
}

#[test]
fn pods_keep_pod_security_restricted_and_hold_no_token_of_kubernetes() {
    let pod = pod(&spec());
    let security = pod.security_context.unwrap();
    assert_eq!(security.run_as_non_root, Some(true));
    assert_eq!(security.seccomp_profile.unwrap().type_, "RuntimeDefault");
    assert_eq!((security.run_as_user, security.fs_group), (Some(65_532), Some(65_532)));
    assert_eq!(security.fs_group_change_policy.as_deref(), Some("OnRootMismatch"));
    let container = pod.containers[0].security_context.clone().unwrap();
    assert_eq!(container.allow_privilege_escalation, Some(false));
    assert_eq!(container.read_only_root_filesystem, Some(true));
    assert_eq!(container.capabilities.unwrap().drop, Some(vec!["ALL".to_owned()]));
    assert_eq!(pod.automount_service_account_token, Some(false));
    assert_eq!(pod.enable_service_links, Some(false));
    assert_eq!(pod.service_account_name.as_deref(), Some("orders"));
}

#[test]
fn probes_need_no_shell_and_the_grace_period_covers_a_stop() {
    let container = container(&spec());
    for (probe, path) in [
        (container.startup_probe.unwrap(), "/livez"),
        (container.liveness_probe.unwrap(), "/livez"),
        (container.readiness_probe.unwrap(), "/readyz"),
    ] {
        let get = probe.http_get.unwrap();
        // Pod Security refuses a host in a probe.
        assert_eq!((get.path.as_deref(), get.host), (Some(path), None));
        assert_eq!(probe.exec, None);
    }
    assert_eq!(container.lifecycle, None);
    assert_eq!(pod(&spec()).termination_grace_period_seconds, Some(30));
}

#[test]
fn the_node_is_told_its_name_first_and_by_the_pod() {
    let mut spec = spec();
    spec.pod_template.env.push(EnvironmentVariable { name: "REGISTRY_LOG".into(), value: "debug".into() });
    let container = container(&spec);
    let env = serde_json::to_value(container.env).unwrap();
    let name =
        json!({ "name": "REGISTRY_NODE_ID", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } });
    assert_eq!(env, json!([name, { "name": "REGISTRY_LOG", "value": "debug" }]));
    assert_eq!(container.command.unwrap(), ["/bin/registry"]);
    assert_eq!(container.args.unwrap(), ["serve", "--config", "/etc/registry/registry.yaml"]);
}

#[test]
fn configuration_and_token_are_readable_by_the_group_alone() {
    let volumes = serde_json::to_value(pod(&spec()).volumes).unwrap();
    assert_eq!(
        volumes[0],
        json!({ "name": "config", "projected": { "defaultMode": 0o440, "sources": [
            { "configMap": { "name": "orders-config", "items": [{ "key": "registry.yaml", "path": "registry.yaml" }] } },
            { "secret": { "name": "orders-admin", "items": [{ "key": "token", "path": "admin/token" }] } },
        ] } })
    );
    assert_eq!(format!("{}/admin/token", config_map::CONFIG_DIR), config_map::TOKEN_FILE);
}

#[test]
fn placement_is_soft_by_default_and_hard_if_asked_for() {
    let soft = serde_json::to_value(pod(&spec())).unwrap();
    assert!(
        soft["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"].is_array()
    );
    assert_eq!(soft["topologySpreadConstraints"][0]["whenUnsatisfiable"], "ScheduleAnyway");
    let strict = RegistryClusterSpec {
        anti_affinity: Strictness::Required,
        zone_spread: Strictness::Required,
        ..spec()
    };
    let hard = serde_json::to_value(pod(&strict)).unwrap();
    let terms = &hard["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    assert_eq!(terms[0]["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(hard["topologySpreadConstraints"][0]["whenUnsatisfiable"], "DoNotSchedule");
}

#[test]
fn what_the_user_gives_reaches_the_pod() {
    let mut spec = spec();
    spec.resources.requests = Some(Amounts {
        cpu: Some(Amount::Number(1)),
        memory: Some(Amount::Text("1Gi".into())),
        ephemeral_storage: None,
    });
    spec.image_pull_secrets.push(SecretName { name: "key".into() });
    spec.pod_template.priority_class_name = Some("high".into());
    spec.pod_template.node_selector.insert("disk".into(), "fast".into());
    let pod = serde_json::to_value(pod(&spec)).unwrap();
    assert_eq!(pod["containers"][0]["resources"], json!({ "requests": { "cpu": "1", "memory": "1Gi" } }));
    assert_eq!(pod["imagePullSecrets"], json!([{ "name": "key" }]));
    assert_eq!(pod["priorityClassName"], "high");
    assert_eq!(pod["nodeSelector"], json!({ "disk": "fast" }));
}

/// `kubectl drain` refuses pods with an emptyDir unless it is told to lose data, which nobody likes to type.
#[test]
fn a_node_is_drained_without_a_word_about_local_data() {
    let pod = serde_json::to_value(pod(&spec())).unwrap();
    let volumes = pod["volumes"].as_array().unwrap();
    assert!(!volumes.is_empty() && volumes.iter().all(|volume| volume["emptyDir"].is_null()), "{volumes:?}");
}

#[test]
fn a_node_that_asks_for_nothing_has_a_share_for_sure_and_no_limit() {
    let share = serde_json::to_value(pod(&spec())).unwrap()["containers"][0]["resources"].clone();
    assert_eq!(share, json!({ "requests": { "cpu": "100m", "memory": "128Mi" } }));
    let mut spec = spec();
    // Requests of the operator's own could be above the user's limits.
    spec.resources.limits = Some(Amounts { cpu: Some(Amount::Text("50m".into())), ..Amounts::default() });
    let limited = serde_json::to_value(pod(&spec)).unwrap()["containers"][0]["resources"].clone();
    assert_eq!(limited, json!({ "limits": { "cpu": "50m" } }));
}

#[test]
fn nodes_find_each_other_before_they_are_ready_and_clients_only_those_that_are() {
    let objects = all(&spec());
    let peers = objects.peers.spec.unwrap();
    assert_eq!(peers.cluster_ip.as_deref(), Some("None"));
    assert_eq!(peers.publish_not_ready_addresses, Some(true));
    let clients = objects.clients.spec.unwrap();
    assert_eq!(clients.cluster_ip, None);
    assert_eq!(clients.publish_not_ready_addresses, None);
    let ports = clients.ports.unwrap();
    // Administration is not for clients.
    assert_eq!(ports.iter().map(|port| port.port).collect::<Vec<_>>(), [8080]);
    assert_eq!(ports[0].app_protocol.as_deref(), Some("kubernetes.io/h2c"));
    // Learners serve too: no role in the selector.
    assert_eq!(clients.selector, Some(owner().pod_labels()));
}

#[test]
fn all_objects_are_the_same_each_time_so_that_applying_them_again_changes_nothing() {
    let once = serde_json::to_string(&all(&spec()).stateful_set).unwrap();
    let again = serde_json::to_string(&all(&spec()).stateful_set).unwrap();
    assert_eq!(once, again);
    assert_eq!(all(&spec()), all(&spec()));
}

#[test]
fn the_replicated_settings_follow_the_spec_and_keep_what_it_does_not_speak_of() {
    let current = registry_proto::internal::ClusterSettings {
        version: 9,
        promote_after: Some(prost_types::Duration { seconds: 7, nanos: 0 }),
        ..Default::default()
    };
    let mut spec = spec();
    spec.registry.guard.percent = 80;
    let wanted = settings(&spec, &current);
    assert_eq!((wanted.version, wanted.promote_after), (9, current.promote_after));
    assert_eq!(wanted.guard.unwrap().percent, 80);
    assert_eq!(wanted.default_ttl, Some(prost_types::Duration { seconds: 15, nanos: 0 }));
    assert_eq!(wanted.voters_target, 3);
    assert_eq!(wanted.membership_owner(), registry_proto::internal::MembershipOwner::Operator);
    assert_eq!(settings(&spec, &wanted), wanted);
}

/// The file as the node reads it.
fn parsed(spec: &RegistryClusterSpec, node: &str) -> registry::config::ValidConfig {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("registry.yaml");
    let text = all(spec).config_map.data.unwrap().remove("registry.yaml").unwrap();
    std::fs::write(&file, &text).unwrap();
    let sources = registry::config::Sources { file, node_id: Some(node.to_owned()), ..Default::default() };
    registry::config::load(&sources).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

#[test]
fn the_node_accepts_the_configuration_for_every_size_and_pod() {
    for replicas in [1, 3, 5, 7] {
        let spec = RegistryClusterSpec { replicas, ..spec() };
        for ordinal in 0..replicas.unsigned_abs() {
            let config = parsed(&spec, &owner().pod(ordinal));
            assert_eq!(config.nodes.len(), replicas as usize);
            let endpoint = config.node.peer_endpoint();
            assert_eq!(endpoint, owner().peer_endpoint(ordinal, "cluster.local"));
            assert_eq!(config.peer_bind(), "0.0.0.0:9080");
            assert_eq!(config.http_bind(), "0.0.0.0:9180");
            assert_eq!(config.cluster_settings.voters_target, replicas.unsigned_abs());
        }
    }
}

#[test]
fn the_defaults_of_the_resource_are_those_of_the_node() {
    let config = parsed(&spec(), "orders-0");
    let lone = tempfile::tempdir().unwrap();
    let file = lone.path().join("lone.yaml");
    let nodes = "cluster: { nodes: [{ node_id: a, host: a, client_port: 1, raft_port: 2 }] }";
    std::fs::write(&file, nodes).unwrap();
    let sources = registry::config::Sources { file, ..Default::default() };
    let usual = registry::config::load(&sources).unwrap();
    assert_eq!(config.raft, usual.raft);
    assert_eq!(config.snapshot, usual.snapshot);
    assert_eq!(
        config.cluster_settings.differences(&usual.cluster_settings),
        ["membership_owner", "voters_target"]
    );
}

#[test]
fn what_the_user_gives_reaches_the_node() {
    let given: Value = json!({
        "raft": { "heartbeatInterval": "100ms", "electionTimeoutMin": "1s", "electionTimeoutMax": "2s",
            "snapshot": { "minSize": "1Gi", "maxAge": "30m", "logEntriesToKeep": 7 } },
        "registry": { "defaultTTL": "1m", "deadMemberAfter": "2m",
            "guard": { "enabled": false, "minLeases": 9, "percent": 70, "hold": "1h" },
            "history": { "events": 5, "size": "1Mi" },
            "quotas": { "instances": 50, "services": 40, "instancesPerService": 30, "overrides": 20, "userData": "10Mi" } },
    });
    let spec: RegistryClusterSpec = serde_json::from_value(given).unwrap();
    let config = parsed(&spec, "orders-2");
    assert_eq!(config.raft.heartbeat_interval.as_millis(), 100);
    assert_eq!(config.raft.election_timeout_min.as_millis(), 1000);
    assert_eq!(config.raft.election_timeout_max.as_millis(), 2000);
    assert_eq!(config.raft.max_in_snapshot_log_to_keep, 7);
    assert_eq!((config.snapshot.min_bytes, config.snapshot.max_age.as_secs()), (1 << 30, 1800));
    let text = format!("{:?}", config.cluster_settings);
    let wanted = settings(&spec, &Default::default());
    for part in [
        "default_ttl_ms: 60000",
        "dead_member_after_ms: 120000",
        "enabled: false",
        "min_leases: 9",
        "percent: 70",
        "hold_ms: 3600000",
        "max_events: 5",
        "max_bytes: 1048576",
        "instances: 50",
        "services: 40",
        "instances_per_service: 30",
        "overrides: 20",
        "user_data_bytes: 10485760",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    // What the cluster is founded with is what it is asked to have later: else each start would change it.
    let quotas = wanted.quotas.unwrap();
    assert_eq!((quotas.instances, quotas.user_data_bytes), (50, 10 << 20));
    assert_eq!(wanted.history.unwrap().max_bytes, 1 << 20);
}
