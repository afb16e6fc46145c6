//! The hash that decides whether a pod must be restarted.
//!
//! Of the spec, never of the rendered template: an operator that renders the same wish in another way must not
//! restart anything. Of the difference to the defaults: a field that a later release adds changes no hash until
//! somebody sets it.

use serde_json::{Map, Value, json};

use crate::crd::RegistryClusterSpec;

/// The hash of everything in the spec that reaches a node only with a restart, and of the image that follows
/// from it. Not of replicas, disks, online settings, budget or network policy.
pub fn spec_hash(spec: &RegistryClusterSpec, image: &str) -> String {
    let wish = differences(&restarting(spec), &restarting(&RegistryClusterSpec::default()));
    // Texts of a JSON tree with sorted keys are equal exactly if the trees are.
    let text = json!({ "image": image, "spec": wish }).to_string();
    let hash = blake3::hash(text.as_bytes()).to_hex();
    // 64 bits: an accident would need two specs of one cluster.
    hash.as_str().chars().take(16).collect()
}

/// What of the spec needs a restart.
fn restarting(spec: &RegistryClusterSpec) -> Value {
    json!({
        "imagePullPolicy": spec.image_pull_policy,
        "imagePullSecrets": spec.image_pull_secrets,
        "resources": spec.resources,
        "podTemplate": spec.pod_template,
        "antiAffinity": spec.anti_affinity,
        "zoneSpread": spec.zone_spread,
        "raft": {
            // As numbers: 60s and 1m are the same wish.
            "heartbeatInterval": spec.raft.heartbeat_interval.millis(),
            "electionTimeoutMin": spec.raft.election_timeout_min.millis(),
            "electionTimeoutMax": spec.raft.election_timeout_max.millis(),
            "snapshot": {
                "minSize": spec.raft.snapshot.min_size.bytes(),
                "maxAge": spec.raft.snapshot.max_age.millis(),
                "logEntriesToKeep": spec.raft.snapshot.log_entries_to_keep,
            },
        },
    })
}

/// The leaves of `wish` that are not the same in `default`.
fn differences(wish: &Value, default: &Value) -> Value {
    let (Value::Object(wish), Value::Object(default)) = (wish, default) else { return wish.clone() };
    let mut different = Map::new();
    for (key, value) in wish {
        let usual = default.get(key).unwrap_or(&Value::Null);
        if value != usual {
            different.insert(key.clone(), differences(value, usual));
        }
    }
    Value::Object(different)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::pod::{Amount, Amounts, EnvironmentVariable, ImagePullPolicy, SecretName};
    use crate::crd::values::{Size, Span};
    use crate::crd::{RetentionPolicy, Strictness};
    use k8s_openapi::api::core::v1::Toleration;

    type Change = (&'static str, fn(&mut RegistryClusterSpec));

    /// One for each leaf that needs a restart.
    const ROLLS: &[Change] = &[
        ("imagePullPolicy", |spec| spec.image_pull_policy = ImagePullPolicy::Always),
        ("imagePullSecrets", |spec| spec.image_pull_secrets.push(SecretName { name: "key".into() })),
        ("resources.requests", |spec| {
            spec.resources.requests = Some(Amounts { cpu: Some(Amount::Number(1)), ..Amounts::default() });
        }),
        ("resources.limits", |spec| {
            let memory = Some(Amount::Text("1Gi".into()));
            spec.resources.limits = Some(Amounts { memory, ..Amounts::default() });
        }),
        ("podTemplate.labels", |spec| {
            spec.pod_template.labels.insert("a".into(), "b".into());
        }),
        ("podTemplate.annotations", |spec| {
            spec.pod_template.annotations.insert("a".into(), "b".into());
        }),
        ("podTemplate.nodeSelector", |spec| {
            spec.pod_template.node_selector.insert("a".into(), "b".into());
        }),
        ("podTemplate.tolerations", |spec| spec.pod_template.tolerations.push(Toleration::default())),
        ("podTemplate.priorityClassName", |spec| spec.pod_template.priority_class_name = Some("high".into())),
        ("podTemplate.env", |spec| {
            spec.pod_template
                .env
                .push(EnvironmentVariable { name: "REGISTRY_LOG".into(), value: "debug".into() });
        }),
        ("antiAffinity", |spec| spec.anti_affinity = Strictness::Required),
        ("zoneSpread", |spec| spec.zone_spread = Strictness::Required),
        ("raft.heartbeatInterval", |spec| spec.raft.heartbeat_interval = Span::from_millis(60)),
        ("raft.electionTimeoutMin", |spec| spec.raft.election_timeout_min = Span::from_millis(160)),
        ("raft.electionTimeoutMax", |spec| spec.raft.election_timeout_max = Span::from_millis(600)),
        ("raft.snapshot.minSize", |spec| spec.raft.snapshot.min_size = Size::from_bytes(1 << 20)),
        ("raft.snapshot.maxAge", |spec| spec.raft.snapshot.max_age = Span::from_millis(60_000)),
        ("raft.snapshot.logEntriesToKeep", |spec| spec.raft.snapshot.log_entries_to_keep = 1),
    ];

    /// Changes that must restart nothing.
    const STAYS: &[Change] = &[
        ("replicas", |spec| spec.replicas = 5),
        ("storage.size", |spec| spec.storage.size = Size::from_bytes(20 << 30)),
        ("storage.retention", |spec| spec.storage.retention.when_scaled = RetentionPolicy::Delete),
        ("podDisruptionBudget", |spec| spec.pod_disruption_budget.enabled = false),
        ("networkPolicy", |spec| spec.network_policy.enabled = false),
        ("registry.defaultTTL", |spec| spec.registry.default_ttl = Span::from_millis(30_000)),
        ("registry.guard", |spec| spec.registry.guard.enabled = false),
        ("registry.history", |spec| spec.registry.history.events = 1),
        ("registry.quotas", |spec| spec.registry.quotas.services = 1),
        ("update", |spec| spec.update.settle_seconds = 0),
        ("paused", |spec| spec.paused = true),
        // The image is hashed as it follows from the spec: naming the default changes nothing.
        ("image, the same", |spec| spec.image = Some("registry:1".into())),
    ];

    fn changed(change: fn(&mut RegistryClusterSpec)) -> String {
        let mut spec = RegistryClusterSpec::default();
        change(&mut spec);
        spec_hash(&spec, "registry:1")
    }

    #[test]
    fn each_change_that_needs_a_restart_gives_another_hash_and_no_other_change_does() {
        let usual = changed(|_| ());
        let mut seen = std::collections::BTreeSet::from([usual.clone()]);
        for (name, change) in ROLLS {
            assert!(seen.insert(changed(*change)), "{name} must roll, and differently from the others");
        }
        for (name, change) in STAYS {
            assert_eq!(changed(*change), usual, "{name} must not roll");
        }
        assert_ne!(spec_hash(&RegistryClusterSpec::default(), "registry:2"), usual);
    }

    #[test]
    fn another_writing_of_the_same_wish_rolls_nothing() {
        let mut spec = RegistryClusterSpec::default();
        spec.raft.snapshot.max_age = Span::try_from("60m".to_owned()).unwrap();
        spec.raft.snapshot.min_size = Size::try_from("65536Ki".to_owned()).unwrap();
        assert_eq!(spec_hash(&spec, "registry:1"), changed(|_| ()));
    }

    /// If this fails, every cluster in the world restarts with the next release of the operator.
    #[test]
    fn hashes_are_the_same_from_release_to_release() {
        assert_eq!(changed(|_| ()), "6277a9e9d3c65297");
        let all = |spec: &mut RegistryClusterSpec| ROLLS.iter().for_each(|(_, change)| change(spec));
        assert_eq!(changed(all), "142abf93a4751973");
    }

    #[test]
    fn a_field_that_is_as_by_default_is_not_part_of_the_hash() {
        let default = json!({ "old": 1, "new": 2, "raft": { "old": 3, "new": 4 } });
        assert_eq!(differences(&default, &default), json!({}));
        let wish = json!({ "old": 1, "new": 2, "raft": { "old": 5, "new": 4 } });
        assert_eq!(differences(&wish, &default), json!({ "raft": { "old": 5 } }));
    }
}
