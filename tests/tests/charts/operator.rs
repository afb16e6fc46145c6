//! The chart registry-operator.

use registry_tests::charts::{CRD, documents, helm, read};
use serde_json::{Value, json};

use super::{OPERATOR, assert_restricted, of_kind, only, pods};

fn operator(objects: &[Value]) -> &Value {
    &only(objects, "Deployment")["spec"]["template"]["spec"]
}

fn variable<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let all = pod["containers"][0]["env"].as_array().expect("variables");
    let found: Vec<&Value> = all.iter().filter(|variable| variable["name"] == name).collect();
    assert_eq!(found.len(), 1, "{name} is set once");
    found[0]
}

#[test]
fn every_pod_obeys_pod_security_restricted() {
    let Some(helm) = helm() else { return };
    let objects = helm.objects(OPERATOR, "");
    assert_eq!(pods(&objects).len(), 2, "the operator and the test");
    for pod in pods(&objects) {
        assert_restricted(pod);
    }
}

#[test]
fn the_crd_is_the_one_of_crdgen_and_outlives_the_release() {
    let Some(helm) = helm() else { return };
    let objects = helm.objects(OPERATOR, "");
    let mut crd = only(&objects, "CustomResourceDefinition").clone();
    assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    let metadata = crd["metadata"].as_object_mut().expect("a map");
    metadata.remove("annotations");
    metadata.remove("labels");
    assert_eq!(with_whole_numbers(crd), with_whole_numbers(documents(&read(CRD)).remove(0)));
}

/// Helm writes 1.0 as 1.
fn with_whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.into_iter().map(with_whole_numbers).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, field)| (name, with_whole_numbers(field))).collect()
        }
        other => other,
    }
}

#[test]
fn the_crd_can_be_left_to_others_or_to_the_release() {
    let Some(helm) = helm() else { return };
    let without = helm.objects(OPERATOR, "crds: {create: false}");
    assert!(of_kind(&without, "CustomResourceDefinition").is_empty());
    let unkept = helm.objects(OPERATOR, "crds: {keep: false}");
    assert!(only(&unkept, "CustomResourceDefinition")["metadata"]["annotations"].is_null());
}

#[test]
fn the_crd_is_small_enough_for_a_client_side_apply() {
    let Some(helm) = helm() else { return };
    let objects = helm.objects(OPERATOR, "");
    let bytes = only(&objects, "CustomResourceDefinition").to_string().len();
    println!("the CRD has {bytes} bytes as JSON, of 262144 that an annotation may have");
    assert!(bytes < 200_000);
}

#[test]
fn the_image_of_the_operator_is_that_of_data_pods_unless_another_is_named() {
    let Some(helm) = helm() else { return };
    let images = |values: &str| {
        let objects = helm.objects(OPERATOR, values);
        let pod = operator(&objects);
        let node = variable(pod, "REGISTRY_OPERATOR_NODE_IMAGE")["value"].clone();
        (pod["containers"][0]["image"].clone(), node)
    };
    let released = json!("registry.dev/registry:0.1.0");
    assert_eq!(images(""), (released.clone(), released.clone()));
    let tagged = json!("a.example:5000/b:test");
    assert_eq!(images("image: {repository: 'a.example:5000/b', tag: test}"), (tagged.clone(), tagged));
    let digest = format!("sha256:{}", "0a".repeat(32));
    let pinned = json!(format!("registry.dev/registry@{digest}"));
    assert_eq!(images(&format!("image: {{tag: test, digest: '{digest}'}}")), (pinned.clone(), pinned));
    assert_eq!(images("nodeImage: other:1"), (released, json!("other:1")));
}

#[test]
fn the_operator_is_told_where_it_runs_and_what_to_watch() {
    let Some(helm) = helm() else { return };
    let objects = helm.objects(OPERATOR, "watchNamespaces: [a, b]\nclusterDomain: k8s.example\nextraArgs: [--x=1]\nlog: {filter: debug, format: text}\nextraEnv: [{name: A, value: b}]");
    let pod = operator(&objects);
    assert_eq!(pod["containers"][0]["args"], json!(["--watch-namespace=a", "--watch-namespace=b", "--x=1"]));
    assert_eq!(variable(pod, "REGISTRY_OPERATOR_CLUSTER_DOMAIN")["value"], "k8s.example");
    assert_eq!(variable(pod, "REGISTRY_OPERATOR_LOG")["value"], "debug");
    assert_eq!(variable(pod, "A")["value"], "b");
    let identity = variable(pod, "REGISTRY_OPERATOR_IDENTITY");
    assert_eq!(identity["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name");
    assert_eq!(variable(pod, "REGISTRY_OPERATOR_LOG_FORMAT")["value"], "text");
    assert!(operator(&helm.objects(OPERATOR, ""))["containers"][0]["args"].is_null());
}

#[test]
fn the_operator_knows_every_variable_that_the_chart_sets() {
    let Some(helm) = helm() else { return };
    let objects = helm.objects(OPERATOR, "");
    let known = read("operator/src/args.rs");
    let variables = operator(&objects)["containers"][0]["env"].as_array().expect("variables");
    assert!(variables.len() > 3);
    for name in variables.iter().map(|variable| &variable["name"]) {
        assert!(known.contains(&format!("env = {name}")), "{name}");
    }
    assert!(known.contains("long = \"watch-namespace\""));
}

#[test]
fn an_update_never_leaves_the_clusters_without_an_operator() {
    let Some(helm) = helm() else { return };
    let objects = helm.objects(OPERATOR, "");
    let deployment = &only(&objects, "Deployment")["spec"];
    assert_eq!(deployment["replicas"], 1);
    assert_eq!(deployment["strategy"]["rollingUpdate"], json!({ "maxSurge": 1, "maxUnavailable": 0 }));
    let container = &operator(&objects)["containers"][0];
    assert_eq!(container["livenessProbe"]["httpGet"], json!({ "path": "/livez", "port": "http" }));
    assert_eq!(container["readinessProbe"]["httpGet"], json!({ "path": "/readyz", "port": "http" }));
    assert_eq!(container["ports"], json!([{ "name": "http", "containerPort": 8080 }]));
}

#[test]
fn selectors_find_the_pods() {
    let Some(helm) = helm() else { return };
    let values = "podLabels: {x: z}\npodDisruptionBudget: {enabled: true}\nreplicas: 2\nnetworkPolicy: {enabled: true}\nmetrics: {serviceMonitor: {enabled: true}}";
    let objects = helm.objects(OPERATOR, values);
    let pod = &only(&objects, "Deployment")["spec"]["template"]["metadata"]["labels"];
    assert_eq!(pod["x"], "z");
    let service = only(&objects, "Service");
    let selectors = [
        &only(&objects, "Deployment")["spec"]["selector"]["matchLabels"],
        &only(&objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        &only(&objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        &service["spec"]["selector"],
        &operator(&objects)["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ];
    for selector in selectors {
        for (name, value) in selector.as_object().expect("a selector") {
            assert_eq!(&pod[name], value, "{selector}");
        }
    }
    let monitored = &only(&objects, "ServiceMonitor")["spec"]["selector"]["matchLabels"];
    for (name, value) in monitored.as_object().expect("a selector") {
        assert_eq!(&service["metadata"]["labels"][name], value);
    }
}

#[test]
fn what_is_optional_is_there_only_when_asked_for() {
    let Some(helm) = helm() else { return };
    let objects = helm.objects(OPERATOR, "");
    for kind in ["PodDisruptionBudget", "ServiceMonitor", "NetworkPolicy"] {
        assert!(of_kind(&objects, kind).is_empty(), "{kind}");
    }
    assert!(of_kind(&helm.objects(OPERATOR, "metrics: {service: {enabled: false}}"), "Service").is_empty());
}

#[test]
fn placement_reaches_the_pod() {
    let Some(helm) = helm() else { return };
    let values = "priorityClassName: high\nnodeSelector: {a: ''}\ntolerations: [{operator: Exists}]\naffinity: {podAffinity: {}}\nimagePullSecrets: [s]\ntopologySpreadConstraints: [{maxSkew: 2}]";
    let objects = helm.objects(OPERATOR, values);
    let pod = operator(&objects);
    assert_eq!(pod["priorityClassName"], "high");
    assert_eq!(pod["nodeSelector"], json!({ "a": "" }));
    assert_eq!(pod["tolerations"], json!([{ "operator": "Exists" }]));
    assert_eq!(pod["affinity"], json!({ "podAffinity": {} }));
    assert_eq!(pod["imagePullSecrets"], json!([{ "name": "s" }]));
    assert_eq!(pod["topologySpreadConstraints"], json!([{ "maxSkew": 2 }]));
}

#[test]
fn a_value_that_cannot_be_meant_is_refused() {
    let Some(helm) = helm() else { return };
    let cases = [
        ("replica: 2", "replica"),
        ("image: {name: x}", "name"),
        ("image: {digest: 'sha256:12'}", "digest"),
        ("image: {pullPolicy: Sometimes}", "pullPolicy"),
        ("replicas: two", "replicas"),
        ("watchNamespaces: all", "watchNamespaces"),
        ("watchNamespaces: [A_b]", "watchNamespaces"),
        ("watchNamespaces: [a, a]", "watchNamespaces"),
        ("clusterDomain: cluster.local.", "clusterDomain"),
        ("crds: {create: 'yes'}", "create"),
        ("metrics: {service: {port: 0}}", "port"),
        ("networkPolicy: {apiServerPorts: []}", "apiServerPorts"),
        ("podDisruptionBudget: {enabled: true}", "replicas: 2"),
        ("metrics: {service: {enabled: false}, serviceMonitor: {enabled: true}}", "metrics.service.enabled"),
        ("serviceAccount: {create: false}", "serviceAccount.name"),
    ];
    for (values, part) in cases {
        let message = helm.refusal(OPERATOR, values);
        assert!(message.contains(part), "{values}: {message}");
    }
}

#[test]
fn objects_of_a_release_of_any_name_belong_together() {
    let Some(helm) = helm() else { return };
    let objects = helm
        .objects(OPERATOR, "fullnameOverride: other\nserviceAccount: {name: me}\ncommonLabels: {team: a}");
    assert_eq!(operator(&objects)["serviceAccountName"], "me");
    assert_eq!(only(&objects, "ServiceAccount")["metadata"]["name"], "me");
    for object in &objects {
        if object["metadata"]["annotations"]["helm.sh/hook"].is_null() {
            assert_eq!(object["metadata"]["labels"]["team"], "a", "{object}");
        }
        for subject in object["subjects"].as_array().into_iter().flatten() {
            assert_eq!(*subject, json!({ "kind": "ServiceAccount", "name": "me", "namespace": "here" }));
        }
    }
}
