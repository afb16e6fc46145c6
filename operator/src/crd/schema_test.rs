//! The schema as a whole: what the API server does not check, and what would surprise a user.

use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use super::rules_test::schema;
use super::*;

fn crd() -> Value {
    serde_json::to_value(RegistryCluster::crd()).unwrap()
}

/// The part of the schema at a path of properties; a condition's filter stands for its items.
fn at<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    let plain = path.replace(r#"[?(@.type=="Available")]"#, ".*");
    let plain =
        plain.replace(r#"[?(@.type=="Progressing")]"#, ".*").replace(r#"[?(@.type=="Degraded")]"#, ".*");
    plain.split('.').filter(|key| !key.is_empty()).try_fold(schema, |part, key| match key {
        "*" => part.get("items"),
        key => part.get("properties")?.get(key),
    })
}

#[test]
fn every_column_and_path_exists_because_the_api_server_takes_any() {
    let crd = crd();
    let version = &crd["spec"]["versions"][0];
    let mut paths = vec![".spec.paused".to_owned()];
    for column in version["additionalPrinterColumns"].as_array().unwrap() {
        paths.push(column["jsonPath"].as_str().unwrap().to_owned());
    }
    for path in version["subresources"]["scale"].as_object().unwrap().values() {
        paths.push(path.as_str().unwrap().to_owned());
    }
    assert!(paths.len() > 12);
    for path in paths.iter().filter(|path| !path.starts_with(".metadata")) {
        assert!(at(&schema(), path).is_some(), "{path} is not in the schema");
    }
    assert!(at(&schema(), ".status.quorum.sum").is_none());
}

#[test]
fn it_is_small_enough_for_kubectl_apply() {
    let json = crd().to_string().len();
    // Client-side apply keeps a copy in an annotation, of 262,144 bytes at most.
    assert!(json < 60_000, "{json} bytes");
}

#[test]
fn an_empty_spec_is_the_default_of_the_schema_and_of_the_code() {
    let spec: RegistryClusterSpec = serde_json::from_value(json!({})).unwrap();
    assert_eq!(spec, RegistryClusterSpec::default());
    let written = serde_json::to_value(RegistryClusterSpec::default()).unwrap();
    let properties = schema()["properties"]["spec"]["properties"].clone();
    for (key, value) in written.as_object().unwrap() {
        assert_eq!(properties[key].get("default"), Some(value), "default of spec.{key}");
    }
    assert_eq!(written["raft"]["heartbeatInterval"], "50ms");
    assert_eq!(written["storage"]["size"], "10Gi");
    assert_eq!(written["registry"]["defaultTTL"], "15s");
}

/// Calls `visit` with the path and the schema of every property.
fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (key, part) in schema["properties"].as_object().into_iter().flatten() {
        walk(part, &format!("{path}.{key}"), visit);
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(part) = schema.get(key) {
            walk(part, &format!("{path}{suffix}"), visit);
        }
    }
}

#[test]
fn everything_of_ours_is_bounded_because_the_cost_of_rules_is_estimated_from_bounds() {
    let mut unbounded = Vec::new();
    walk(&schema(), "", &mut |path, part| {
        let has = |key: &str| part.get(key).is_some();
        let bounded = match part["type"].as_str() {
            Some("string") => has("maxLength") || has("enum") || part["format"] == "date-time",
            Some("array") => has("maxItems"),
            Some("object") => !has("additionalProperties") || has("maxProperties"),
            _ => true,
        };
        // Kubernetes bounds its own; tolerations are its type.
        let foreign = path.is_empty() || path.starts_with(".spec.podTemplate.tolerations[]");
        if !bounded && !foreign && ![".apiVersion", ".kind"].contains(&path) {
            unbounded.push(path.to_owned());
        }
    });
    assert_eq!(unbounded, Vec::<String>::new());
}

#[test]
fn every_field_is_described_and_those_with_a_plain_default_name_it() {
    let mut silent = Vec::new();
    walk(&schema()["properties"]["spec"], "spec", &mut |path, part| {
        let text = part["description"].as_str().unwrap_or_default();
        let default = match &part["default"] {
            Value::String(default) => Some(default.clone()),
            Value::Number(default) => Some(default.to_string()),
            Value::Bool(default) => Some(default.to_string()),
            _ => None,
        };
        let names_it = default.is_none_or(|default| default.is_empty() || text.contains(&default));
        let is_item = path.ends_with(']') || path.ends_with('}') || path.contains("tolerations[]");
        if !is_item && (text.is_empty() || !names_it) {
            silent.push(format!("{path}: {text}"));
        }
    });
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn numbers_where_people_write_them_are_read_back() {
    let spec: RegistryClusterSpec =
        serde_json::from_value(json!({ "resources": { "requests": { "cpu": 1, "memory": "1Gi" } } }))
            .unwrap();
    let requests = spec.resources.requests.unwrap();
    assert_eq!(requests.cpu.unwrap().text(), "1");
    assert_eq!(requests.memory.unwrap().text(), "1Gi");
}

#[test]
fn an_unset_status_writes_nothing_and_a_full_one_reads_back() {
    let empty = serde_json::to_value(RegistryClusterStatus::default()).unwrap();
    assert_eq!(empty, json!({ "replicas": 0, "readyReplicas": 0, "bootstrapped": false }));
    let full = json!({
        "replicas": 3, "readyReplicas": 3, "bootstrapped": true, "clusterID": "a", "leader": "orders-1",
        "members": [{ "name": "orders-0", "raftID": 1, "role": "Voter", "leader": false, "healthy": true, "lag": 0 }],
    });
    let status: RegistryClusterStatus = serde_json::from_value(full.clone()).unwrap();
    assert_eq!(serde_json::to_value(status).unwrap(), full);
}

#[test]
fn the_names_that_users_type_are_the_documented_ones() {
    let crd = crd();
    assert_eq!(crd["metadata"]["name"], "registryclusters.registry.dev");
    assert_eq!(crd["spec"]["names"]["shortNames"], json!(["rcl"]));
    assert_eq!(crd["spec"]["names"]["categories"], json!(["registry"]));
    let schema = schema();
    for (list, key) in [(".status.conditions", "type"), (".status.members", "name")] {
        assert_eq!(at(&schema, list).unwrap()["x-kubernetes-list-map-keys"], json!([key]));
    }
}
