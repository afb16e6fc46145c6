//! The chart registry-cluster.

use registry_tests::charts::{documents, helm, read, spec_schema};
use serde_json::{Value, json};

use super::{CLUSTER, assert_restricted, only, pods};

fn spec(objects: &[Value]) -> &Value {
    &only(objects, "RegistryCluster")["spec"]
}

#[test]
fn without_values_every_default_is_left_to_the_crd() {
    let Some(helm) = helm() else { return };
    let objects = helm.objects(CLUSTER, "");
    assert_eq!(*spec(&objects), json!({}));
    assert_eq!(only(&objects, "RegistryCluster")["metadata"]["name"], CLUSTER);
    assert_eq!(only(&objects, "RegistryCluster")["metadata"]["namespace"], "here");
}

#[test]
fn replicas_are_rendered_only_if_set() {
    let Some(helm) = helm() else { return };
    assert_eq!(*spec(&helm.objects(CLUSTER, "replicas: 5")), json!({ "replicas": 5 }));
    assert_eq!(*spec(&helm.objects(CLUSTER, "paused: false")), json!({ "paused": false }));
}

#[test]
fn a_value_is_rendered_as_it_was_given() {
    let Some(helm) = helm() else { return };
    let values = "storage: {size: 20Gi, retention: {whenScaled: Delete}}\npodTemplate: {nodeSelector: {a: ''}, tolerations: [{key: k, operator: Exists}], env: [{name: NAME, value: ''}]}\nresources: {requests: {cpu: 1, memory: 1073741824}}\nregistry: {quotas: {instances: 10000000}}";
    assert_eq!(*spec(&helm.objects(CLUSTER, values)), documents(values)[0]);
}

#[test]
fn every_field_of_the_crd_is_a_documented_value_and_the_other_way_round() {
    fn fields(schema: &Value, at: &str, into: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{at}{name}");
            // Amounts by name are told as one value.
            if field["properties"].is_null() || ["requests", "limits"].contains(&name.as_str()) {
                into.push(path);
            } else {
                fields(field, &format!("{path}."), into);
            }
        }
    }
    let mut all = ["annotations", "labels", "name", "test.image"].map(str::to_owned).to_vec();
    fields(&spec_schema(), "", &mut all);
    let readme = read("charts/registry-cluster/README.md");
    let mut told: Vec<String> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | `"))
        .map(|(name, _)| name.to_owned())
        .collect();
    all.sort();
    told.sort();
    assert_eq!(told, all, "values.yaml of registry-cluster, and the fields of the CRD");
}

#[test]
fn names_labels_and_annotations_are_those_of_the_values() {
    let Some(helm) = helm() else { return };
    let objects = helm.objects(CLUSTER, "name: orders\nlabels: {team: a}\nannotations: {x: z}");
    let metadata = &only(&objects, "RegistryCluster")["metadata"];
    assert_eq!(metadata["name"], "orders");
    assert_eq!(metadata["labels"]["team"], "a");
    assert_eq!(metadata["annotations"], json!({ "x": "z" }));
}

#[test]
fn the_test_asks_this_cluster_and_obeys_pod_security_restricted() {
    let Some(helm) = helm() else { return };
    let objects = helm.objects(CLUSTER, "name: orders\nimage: a:1");
    assert_eq!(pods(&objects).len(), 1);
    let pod = pods(&objects)[0];
    assert_restricted(pod);
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["containers"][0]["image"], "a:1");
    let command = pod["containers"][0]["command"].to_string();
    assert!(command.contains("--endpoints=orders.here.svc:8080"), "{command}");
    let image = |values: &str| pods(&helm.objects(CLUSTER, values))[0]["containers"][0]["image"].clone();
    assert_eq!(image("image: a:1\ntest: {image: b:2}"), "b:2");
    assert_eq!(image(""), "registry.dev/registry:0.1.0");
}

#[test]
fn a_value_that_the_api_server_would_refuse_is_refused_by_helm() {
    let Some(helm) = helm() else { return };
    let cases = [
        ("replicas: 4", "replicas"),
        ("replicas: '3'", "replicas"),
        ("replica: 3", "replica"),
        ("name: 1a", "name"),
        ("name: abcdefghijabcdefghijabcdefghijabcdefghijk", "name"),
        ("image: ''", "image"),
        ("storage: {size: 10737418240}", "size"),
        ("storage: {size: 10 Gi}", "size"),
        ("storage: {class: fast}", "class"),
        ("storage: {retention: {whenScaled: Never}}", "whenScaled"),
        ("resources: {requests: {gpu: 1}}", "gpu"),
        ("raft: {heartbeatInterval: 50}", "heartbeatInterval"),
        ("registry: {guard: {percent: 101}}", "percent"),
        ("podTemplate: {env: [{value: x}]}", "name"),
        ("podTemplate: {env: [{name: A, valueFrom: {}}]}", "valueFrom"),
        ("podTemplate: {nodeSelector: {a: 1}}", "nodeSelector"),
        ("antiAffinity: Never", "antiAffinity"),
        ("paused: 'no'", "paused"),
    ];
    for (values, part) in cases {
        let message = helm.refusal(CLUSTER, values);
        assert!(message.contains(part), "{values}: {message}");
    }
}
