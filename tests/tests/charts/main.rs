//! What the Helm charts render. Without a cluster; the helm is named by `REGISTRY_TEST_HELM`.

mod cluster;
mod generated;
mod notes;
mod operator;
mod rights;

use serde_json::Value;

const OPERATOR: &str = "registry-operator";
const CLUSTER: &str = "registry-cluster";

/// The objects of a kind.
fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The only object of a kind.
fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    match of_kind(objects, kind)[..] {
        [object] => object,
        ref others => panic!("{} objects of kind {kind}", others.len()),
    }
}

/// The specs of all pods, those of `helm test` included.
fn pods(objects: &[Value]) -> Vec<&Value> {
    let templates =
        of_kind(objects, "Deployment").into_iter().map(|object| &object["spec"]["template"]["spec"]);
    templates.chain(of_kind(objects, "Pod").into_iter().map(|object| &object["spec"])).collect()
}

/// Fails unless Pod Security `restricted` lets the pod through, with a read-only root besides.
fn assert_restricted(pod: &Value) {
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert!(pod["securityContext"]["runAsUser"].as_i64().expect("a number") > 0);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    for container in pod["containers"].as_array().expect("containers") {
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]));
        assert!(container["resources"]["requests"]["memory"].is_string(), "{container}");
    }
    assert!(pod["volumes"].is_null() && pod["hostNetwork"].is_null());
}
