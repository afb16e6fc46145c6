//! Each CEL rule of the schema refuses what it is for, and nothing else does.
//!
//! The evaluator is kube's, in this process; `tests/kube` asks a real API server the same.

use std::collections::BTreeSet;

use kube::CustomResourceExt as _;
use kube::core::cel::Validator;
use serde_json::{Value, json};

use super::RegistryCluster;

pub(super) fn schema() -> Value {
    let crd = serde_json::to_value(RegistryCluster::crd()).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// A cluster with this spec and status.
fn cluster(spec: Value, status: Value) -> Value {
    json!({
        "apiVersion": "registry.dev/v1alpha1", "kind": "RegistryCluster",
        "metadata": { "name": "orders", "namespace": "shop" }, "spec": spec, "status": status,
    })
}

fn named(name: &str) -> Value {
    let mut cluster = cluster(json!({}), json!({}));
    cluster["metadata"]["name"] = name.into();
    cluster
}

/// What the API server would say, sorted.
fn refusals(new: &Value, old: Option<&Value>) -> BTreeSet<String> {
    match Validator::new().validate(&schema(), new, old) {
        Ok(()) => BTreeSet::new(),
        Err(errors) => errors.into_vec().into_iter().map(|error| error.message).collect(),
    }
}

fn created(spec: Value) -> BTreeSet<String> {
    refusals(&cluster(spec, json!({})), None)
}

/// An update of a cluster that has been founded.
fn updated(old: Value, new: Value) -> BTreeSet<String> {
    let status = || json!({ "bootstrapped": true });
    refusals(&cluster(new, status()), Some(&cluster(old, status())))
}

fn one(message: &str) -> BTreeSet<String> {
    BTreeSet::from([message.to_owned()])
}

/// `{"a": {"b": value}}` of `a.b`.
fn nested(path: &str, value: &Value) -> Value {
    path.rsplit('.').fold(value.clone(), |inner, key| json!({ key: inner }))
}

#[test]
fn an_empty_spec_is_filled_with_defaults_that_keep_all_rules() {
    assert_eq!(created(json!({})), BTreeSet::new());
    assert_eq!(updated(json!({}), json!({})), BTreeSet::new());
}

#[test]
fn replicas_are_odd() {
    let message =
        "replicas must be 1, 3, 5 or 7: an even number of voters tolerates no more failures than one fewer";
    for replicas in [1, 3, 5, 7] {
        assert_eq!(created(json!({ "replicas": replicas })), BTreeSet::new());
    }
    for replicas in [2, 4, 6] {
        assert_eq!(created(json!({ "replicas": replicas })), one(message));
        assert_eq!(updated(json!({ "replicas": 3 }), json!({ "replicas": replicas })), one(message));
    }
}

#[test]
fn replicas_change_only_after_the_cluster_has_been_founded() {
    let message = "replicas cannot change before the cluster has been founded; wait for condition Available, or delete and create it anew";
    for status in [json!(null), json!({}), json!({ "bootstrapped": false })] {
        let (old, new) = (cluster(json!({}), status.clone()), cluster(json!({ "replicas": 5 }), status));
        let without = |mut cluster: Value| {
            if cluster["status"].is_null() {
                cluster.as_object_mut().unwrap().remove("status");
            }
            cluster
        };
        let (old, new) = (without(old), without(new));
        assert_eq!(refusals(&new, Some(&old)), one(message));
        // Anything else may change, also with a manifest that names the number that holds.
        let mut same = old.clone();
        same["spec"] = json!({ "replicas": 3, "image": "registry:2" });
        assert_eq!(refusals(&same, Some(&old)), BTreeSet::new());
    }
    assert_eq!(updated(json!({ "replicas": 3 }), json!({ "replicas": 5 })), BTreeSet::new());
    assert_eq!(updated(json!({ "replicas": 5 }), json!({ "replicas": 1 })), BTreeSet::new());
}

#[test]
fn names_are_short_enough_and_begin_with_a_letter() {
    let long = "metadata.name may have at most 40 characters, because names of pods and services are derived from it";
    let letters = "metadata.name must start with a letter and hold only a-z, 0-9 and '-', because services are named after it";
    for name in ["a", "orders", "orders-2", "a-b-c", &"a".repeat(40)] {
        assert_eq!(refusals(&named(name), None), BTreeSet::new(), "{name}");
    }
    assert_eq!(refusals(&named(&"a".repeat(41)), None), one(long));
    for name in ["1a", "a.b", "-a", "a-"] {
        assert_eq!(refusals(&named(name), None), one(letters), "{name}");
    }
}

#[test]
fn volumes_only_grow() {
    let size = |text: &str| json!({ "storage": { "size": text } });
    for (old, new) in [("10Gi", "20Gi"), ("20Gi", "20480Mi"), ("1Gi", "1Gi"), ("1G", "1Gi")] {
        assert_eq!(updated(size(old), size(new)), BTreeSet::new(), "{old} -> {new}");
    }
    assert_eq!(
        updated(size("20Gi"), size("10Gi")),
        one("storage.size may only grow: 10Gi is less than 20Gi")
    );
    // Taking the field away brings the default back.
    assert_eq!(updated(size("20Gi"), json!({})), one("storage.size may only grow: 10Gi is less than 20Gi"));
}

#[test]
fn volumes_have_room_for_a_log() {
    let message = "storage.size must be at least 256Mi: the log is allocated in segments of 64Mi beside a reserve and snapshots";
    assert_eq!(created(json!({ "storage": { "size": "256Mi" } })), BTreeSet::new());
    for size in ["255Mi", "1k", "1"] {
        assert_eq!(created(json!({ "storage": { "size": size } })), one(message));
    }
}

#[test]
fn the_storage_class_never_changes() {
    let class = |name: &str| json!({ "storage": { "storageClassName": name } });
    assert_eq!(updated(class("a"), class("a")), BTreeSet::new());
    assert_eq!(
        updated(class("a"), class("b")),
        one("storage.storageClassName cannot be changed: volumes do not move between classes")
    );
    let message =
        "storage.storageClassName cannot be added or removed later: volumes do not move between classes";
    assert_eq!(updated(class("a"), json!({ "storage": {} })), one(message));
    assert_eq!(updated(class("a"), json!({})), one(message));
    assert_eq!(updated(json!({}), class("a")), one(message));
}

#[test]
fn requests_are_not_more_than_limits() {
    let cpu = "resources.requests.cpu must not be more than resources.limits.cpu";
    let memory = "resources.requests.memory must not be more than resources.limits.memory";
    let resources =
        |requests: Value, limits: Value| json!({ "resources": { "requests": requests, "limits": limits } });
    for sound in [
        resources(json!({ "cpu": "500m", "memory": "1Gi" }), json!({ "cpu": 1, "memory": "1Gi" })),
        // Numbers are stored as numbers: a rule must not fail on them for ever.
        resources(json!({ "cpu": 1 }), json!({ "cpu": "1" })),
        resources(json!({ "cpu": 2 }), json!({ "memory": 1_073_741_824 })),
        json!({ "resources": { "requests": { "cpu": 2 } } }),
        json!({ "resources": { "limits": { "cpu": 2 } } }),
    ] {
        assert_eq!(created(sound.clone()), BTreeSet::new(), "{sound}");
        assert_eq!(updated(sound.clone(), sound.clone()), BTreeSet::new(), "{sound}");
    }
    assert_eq!(created(resources(json!({ "cpu": 2 }), json!({ "cpu": "1500m" }))), one(cpu));
    assert_eq!(created(resources(json!({ "memory": "2Gi" }), json!({ "memory": "1Gi" }))), one(memory));
}

#[test]
fn labels_of_others_are_refused() {
    let message = "podTemplate.labels: those of registry.dev/, app.kubernetes.io/ and statefulset.kubernetes.io/ belong to the operator and to Kubernetes";
    let labels = |key: &str| json!({ "podTemplate": { "labels": { key: "x" } } });
    for key in ["team", "example.com/registry.dev", "registry.developer/x"] {
        assert_eq!(created(labels(key)), BTreeSet::new(), "{key}");
    }
    for key in [
        "registry.dev/role",
        "app.kubernetes.io/name",
        "statefulset.kubernetes.io/pod-name",
        "controller-revision-hash",
    ] {
        assert_eq!(created(labels(key)), one(message), "{key}");
    }
}

#[test]
fn annotations_of_others_are_refused() {
    let message = "podTemplate.annotations: those of registry.dev/ and kubectl.kubernetes.io/ belong to the operator and to kubectl";
    let annotations = |key: &str| json!({ "podTemplate": { "annotations": { key: "x" } } });
    assert_eq!(created(annotations("prometheus.io/scrape")), BTreeSet::new());
    for key in ["registry.dev/spec-hash", "kubectl.kubernetes.io/restartedAt"] {
        assert_eq!(created(annotations(key)), one(message), "{key}");
    }
}

#[test]
fn variables_that_configure_the_node_are_refused() {
    let message = "podTemplate.env: variables of REGISTRY_ would override what the operator configures; only REGISTRY_LOG and REGISTRY_WATCH__ may be given";
    let env = |name: &str| json!({ "podTemplate": { "env": [{ "name": name, "value": "x" }] } });
    for name in ["TZ", "REGISTRY_LOG", "REGISTRY_LOG_FORMAT", "REGISTRY_WATCH__MAX_WATCHES"] {
        assert_eq!(created(env(name)), BTreeSet::new(), "{name}");
    }
    for name in ["REGISTRY_NODE_ID", "REGISTRY_DATA_DIR", "REGISTRY_RAFT__HEARTBEAT_INTERVAL"] {
        assert_eq!(created(env(name)), one(message), "{name}");
    }
}

#[test]
fn timings_of_raft_go_together() {
    let raft = |heartbeat: &str, min: &str, max: &str| json!({ "raft": { "heartbeatInterval": heartbeat, "electionTimeoutMin": min, "electionTimeoutMax": max } });
    assert_eq!(created(raft("1s", "2s", "2001ms")), BTreeSet::new());
    let twice = "raft.electionTimeoutMin must be at least twice raft.heartbeatInterval, or a single late heartbeat starts an election";
    assert_eq!(created(raft("1s", "1999ms", "3s")), one(twice));
    let more = "raft.electionTimeoutMax must be more than raft.electionTimeoutMin, or all nodes ask for votes at the same moment";
    assert_eq!(created(raft("50ms", "1s", "1000ms")), one(more));
    // One given, the others by default.
    assert_eq!(created(json!({ "raft": { "heartbeatInterval": "100ms" } })), one(twice));
}

/// Every time and size with its bounds: path, least, most, below, above, message.
const BOUNDS: [(&str, [&str; 2], [&str; 2], &str); 9] = [
    ("raft.snapshot.minSize", ["64Ki", "64Gi"], ["65535", "65Gi"], "must be between 64Ki and 64Gi"),
    ("raft.snapshot.maxAge", ["1s", "24h"], ["999ms", "25h"], "must be between 1s and 24h"),
    ("registry.defaultTTL", ["1s", "1h"], ["999ms", "61m"], "must be between 1s and 1h"),
    ("registry.deadMemberAfter", ["1s", "24h"], ["0s", "1441m"], "must be between 1s and 24h"),
    ("registry.guard.hold", ["1s", "24h"], ["999ms", "86401s"], "must be between 1s and 24h"),
    ("registry.history.size", ["64Ki", "1Gi"], ["1", "2Gi"], "must be between 64Ki and 1Gi"),
    ("registry.quotas.userData", ["1Mi", "64Gi"], ["1M", "65Gi"], "must be between 1Mi and 64Gi"),
    // The rest of the timings are bound to each other: see below.
    ("raft.electionTimeoutMax", ["151ms", "1m"], ["151ms", "61s"], "must be between 60ms and 1m"),
    ("raft.heartbeatInterval", ["10ms", "75ms"], ["9ms", "9ms"], "must be between 10ms and 10s"),
];

#[test]
fn times_and_sizes_keep_the_bounds_of_the_node() {
    for (path, [least, most], [below, above], message) in BOUNDS {
        for sound in [least, most] {
            assert_eq!(created(nested(path, &sound.into())), BTreeSet::new(), "{path} = {sound}");
        }
        for bad in [below, above].into_iter().filter(|bad| ![least, most].contains(bad)) {
            assert_eq!(
                created(nested(path, &bad.into())),
                one(&format!("{path} {message}")),
                "{path} = {bad}"
            );
        }
    }
}

#[test]
fn timings_of_raft_keep_the_bounds_of_the_node() {
    let raft = |heartbeat: &str, min: &str, max: &str| {
        created(
            json!({ "raft": { "heartbeatInterval": heartbeat, "electionTimeoutMin": min, "electionTimeoutMax": max } }),
        )
    };
    assert_eq!(raft("10ms", "50ms", "60ms"), BTreeSet::new());
    assert_eq!(raft("10s", "30s", "1m"), BTreeSet::new());
    assert_eq!(raft("11s", "30s", "1m"), one("raft.heartbeatInterval must be between 10ms and 10s"));
    assert_eq!(raft("10ms", "49ms", "60ms"), one("raft.electionTimeoutMin must be between 50ms and 30s"));
    assert_eq!(raft("10ms", "31s", "1m"), one("raft.electionTimeoutMin must be between 50ms and 30s"));
    let both = raft("10ms", "49ms", "59ms");
    assert!(both.contains("raft.electionTimeoutMax must be between 60ms and 1m"), "{both:?}");
}

#[test]
fn a_service_cannot_have_more_instances_than_the_cluster() {
    let quotas = |instances: i64, per_service: i64| json!({ "registry": { "quotas": { "instances": instances, "instancesPerService": per_service } } });
    assert_eq!(created(quotas(10, 10)), BTreeSet::new());
    let message = "registry.quotas.instancesPerService must not be more than registry.quotas.instances";
    assert_eq!(created(quotas(10, 11)), one(message));
}

#[test]
fn the_status_never_takes_back_what_was_founded() {
    let status = |old: Value, new: Value| refusals(&cluster(json!({}), new), Some(&cluster(json!({}), old)));
    let founded = || json!({ "bootstrapped": true, "clusterID": "a" });
    assert_eq!(status(json!({}), founded()), BTreeSet::new());
    assert_eq!(status(founded(), founded()), BTreeSet::new());
    let stays = "a bootstrapped cluster stays bootstrapped";
    assert_eq!(status(founded(), json!({ "bootstrapped": false, "clusterID": "a" })), one(stays));
    let once = "clusterID is set once";
    assert_eq!(status(founded(), json!({ "bootstrapped": true, "clusterID": "b" })), one(once));
    assert_eq!(status(founded(), json!({ "bootstrapped": true })), one(once));
}

/// Every rule that the schema has.
fn rules(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                if key == "x-kubernetes-validations" {
                    let list = value.as_array().unwrap();
                    found.extend(list.iter().map(|rule| rule["rule"].as_str().unwrap().to_owned()));
                } else {
                    rules(value, found);
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| rules(value, found)),
        _ => {}
    }
}

#[test]
fn every_rule_compiles_and_the_tests_above_know_how_many_there_are() {
    let mut found = Vec::new();
    rules(&schema(), &mut found);
    // A new rule needs a test here and one in tests/kube.
    assert_eq!(found.len(), 28, "{found:#?}");
    let errors = Validator::new().validate(&schema(), &named("orders"), Some(&named("orders")));
    assert!(errors.is_ok(), "{errors:?}");
}
