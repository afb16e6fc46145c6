//! The API server accepts the CRD and enforces each of its rules, with a message that a person understands.
//!
//! The rules are tried on a copy of the installed CRD in a group of its own, which no operator looks at.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::{Api, Error};
use registry_tests::wait::until_true;
use serde_json::{Value, json};

use crate::support::stage::{Kube, Tier, Turn, on_kubernetes};

/// The group of the copy.
const GROUP: &str = "rules.registry.dev";

/// What a rule refuses: an object, or its change from an earlier one.
struct Case {
    /// How the message of the rule begins.
    message: &'static str,
    /// `{"spec": …, "status": …}` to begin with, if the rule is about a change.
    before: Option<Value>,
    /// What is refused.
    refused: Value,
}

fn created(message: &'static str, spec: Value) -> Case {
    Case { message, before: None, refused: json!({"spec": spec}) }
}

fn changed(message: &'static str, before: Value, refused: Value) -> Case {
    Case { message, before: Some(before), refused }
}

/// One for each rule, or more.
fn cases() -> Vec<Case> {
    let mut cases = refused_as_new();
    cases.extend(refused_as_change());
    cases
}

fn refused_as_new() -> Vec<Case> {
    let name = |name: &str| json!({"metadata": {"name": name}, "spec": {}});
    vec![
        Case {
            message: "metadata.name may have at most 40 characters",
            before: None,
            refused: name(&"a".repeat(41)),
        },
        Case { message: "metadata.name must start with a letter", before: None, refused: name("1a") },
        created("replicas must be 1, 3, 5 or 7", json!({"replicas": 4})),
        created("storage.size must be at least 256Mi", json!({"storage": {"size": "255Mi"}})),
        created(
            "resources.requests.cpu must not be more than",
            json!({"resources": {"requests": {"cpu": "1500m"}, "limits": {"cpu": 1}}}),
        ),
        created(
            "resources.requests.memory must not be more than",
            json!({"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "512Mi"}}}),
        ),
        created("podTemplate.labels: ", json!({"podTemplate": {"labels": {"registry.dev/role": "x"}}})),
        created(
            "podTemplate.annotations: ",
            json!({"podTemplate": {"annotations": {"kubectl.kubernetes.io/restartedAt": "x"}}}),
        ),
        created(
            "podTemplate.env: ",
            json!({"podTemplate": {"env": [{"name": "REGISTRY_NODE_ID", "value": "x"}]}}),
        ),
        created("raft.heartbeatInterval must be between", json!({"raft": {"heartbeatInterval": "9ms"}})),
        created("raft.electionTimeoutMin must be between", json!({"raft": {"electionTimeoutMin": "31s"}})),
        created("raft.electionTimeoutMax must be between", json!({"raft": {"electionTimeoutMax": "61s"}})),
        created(
            "raft.electionTimeoutMin must be at least twice raft.heartbeatInterval",
            json!({"raft": {"heartbeatInterval": "80ms"}}),
        ),
        created(
            "raft.electionTimeoutMax must be more than raft.electionTimeoutMin",
            json!({"raft": {"electionTimeoutMin": "300ms"}}),
        ),
        created("raft.snapshot.minSize must be between", json!({"raft": {"snapshot": {"minSize": "63Ki"}}})),
        created("raft.snapshot.maxAge must be between", json!({"raft": {"snapshot": {"maxAge": "25h"}}})),
        created("registry.defaultTTL must be between", json!({"registry": {"defaultTTL": "0s"}})),
        created("registry.deadMemberAfter must be between", json!({"registry": {"deadMemberAfter": "25h"}})),
        created("registry.guard.hold must be between", json!({"registry": {"guard": {"hold": "0s"}}})),
        created("registry.history.size must be between", json!({"registry": {"history": {"size": "2Gi"}}})),
        created(
            "registry.quotas.userData must be between",
            json!({"registry": {"quotas": {"userData": "1Ki"}}}),
        ),
        created(
            "registry.quotas.instancesPerService must not be more",
            json!({"registry": {"quotas": {"instances": 10, "instancesPerService": 11}}}),
        ),
    ]
}

fn refused_as_change() -> Vec<Case> {
    let founded = || json!({"bootstrapped": true, "clusterID": "one"});
    vec![
        changed(
            "replicas cannot change before the cluster has been founded",
            json!({"spec": {"replicas": 1}}),
            json!({"spec": {"replicas": 3}}),
        ),
        changed(
            "storage.size may only grow",
            json!({"spec": {"storage": {"size": "20Gi"}}}),
            json!({"spec": {"storage": {"size": "20479Mi"}}}),
        ),
        changed(
            "storage.size may only grow",
            json!({"spec": {"storage": {"size": "20Gi"}}}),
            json!({"spec": {"storage": {"size": null}}}),
        ),
        changed(
            "storage.storageClassName cannot be changed",
            json!({"spec": {"storage": {"storageClassName": "fast"}}}),
            json!({"spec": {"storage": {"storageClassName": "slow"}}}),
        ),
        changed(
            "storage.storageClassName cannot be added or removed",
            json!({"spec": {}}),
            json!({"spec": {"storage": {"storageClassName": "slow"}}}),
        ),
        changed(
            "storage.storageClassName cannot be added or removed",
            json!({"spec": {"storage": {"storageClassName": "fast"}}}),
            json!({"spec": {"storage": null}}),
        ),
        changed(
            "a bootstrapped cluster stays bootstrapped",
            json!({"spec": {}, "status": founded()}),
            json!({"status": {"bootstrapped": false}}),
        ),
        changed(
            "clusterID is set once",
            json!({"spec": {}, "status": founded()}),
            json!({"status": {"clusterID": "other"}}),
        ),
    ]
}

#[tokio::test]
async fn the_api_server_refuses_what_breaks_a_rule_and_says_why() {
    on_kubernetes("rules", Tier::Quick, Turn::Shared, async |kube| {
        let definitions: Api<CustomResourceDefinition> = Api::all(kube.client.clone());
        let installed = definitions.get("registryclusters.registry.dev").await.expect("the CRD is installed");
        let schema = serde_json::to_value(&installed.spec.versions[0].schema).expect("a schema");
        let copy = copy_of(&installed);
        let name = copy.metadata.name.clone().expect("named below");
        let _ = definitions.delete(&name, &DeleteParams::default()).await;
        until_true("no earlier copy to be there", Duration::from_secs(60), || async {
            matches!(definitions.get_opt(&name).await, Ok(None))
        })
        .await;
        definitions.create(&PostParams::default(), &copy).await.expect("the API server accepts it");

        let objects = objects(kube);
        until_true("the copy to be served", Duration::from_secs(60), || async {
            objects.list(&Default::default()).await.is_ok()
        })
        .await;
        let cases = cases();
        for (index, case) in cases.iter().enumerate() {
            check(&objects, &format!("case-{index}"), case).await;
        }
        println!("{} rules, {} cases", messages(&schema).len(), cases.len());
        for message in messages(&schema) {
            let tried = cases.iter().any(|case| message.contains(case.message));
            assert!(tried, "no case breaks the rule {message:?}");
        }
        definitions.delete(&name, &DeleteParams::default()).await.expect("the copy is there");
    })
    .await;
}

/// The same schema for a kind of another group.
fn copy_of(installed: &CustomResourceDefinition) -> CustomResourceDefinition {
    let mut copy = CustomResourceDefinition { spec: installed.spec.clone(), ..Default::default() };
    copy.spec.group = GROUP.to_owned();
    copy.spec.conversion = None;
    copy.metadata.name = Some(format!("{}.{GROUP}", copy.spec.names.plural));
    copy
}

fn objects(kube: &Kube) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(GROUP, "v1alpha1", "RegistryCluster");
    let resource = ApiResource::from_gvk_with_plural(&kind, "registryclusters");
    Api::namespaced_with(kube.client.clone(), &kube.namespace, &resource)
}

/// The refused object or change is refused with the message of its rule, and nothing else is.
async fn check(objects: &Api<DynamicObject>, name: &str, case: &Case) {
    let Some(before) = &case.before else {
        let refusal = create(objects, name, &case.refused).await.expect_err(case.message);
        return expect(&refusal, case);
    };
    create(objects, name, before).await.unwrap_or_else(|error| panic!("{before} is refused: {error}"));
    if before["status"].is_object() {
        let status = json!({"status": before["status"]});
        objects
            .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap_or_else(|error| panic!("{before} is refused: {error}"));
    }
    let (params, patch) = (PatchParams::default(), Patch::Merge(&case.refused));
    let refusal = if case.refused["status"].is_object() {
        objects.patch_status(name, &params, &patch).await
    } else {
        objects.patch(name, &params, &patch).await
    };
    expect(&refusal.expect_err(case.message), case);
}

async fn create(objects: &Api<DynamicObject>, name: &str, fields: &Value) -> Result<DynamicObject, Error> {
    let mut object = json!({
        "apiVersion": format!("{GROUP}/v1alpha1"),
        "kind": "RegistryCluster",
        "metadata": {"name": name},
        "spec": fields["spec"],
    });
    if let Some(name) = fields["metadata"]["name"].as_str() {
        object["metadata"]["name"] = name.into();
    }
    let object = serde_json::from_value(object).expect("an object");
    objects.create(&PostParams::default(), &object).await
}

fn expect(refusal: &Error, case: &Case) {
    let Error::Api(status) = refusal else { panic!("{}: {refusal}", case.message) };
    assert_eq!(status.code, 422, "{}: {refusal}", case.message);
    assert!(status.message.contains(case.message), "{}: {}", case.message, status.message);
}

/// The messages of all rules of a schema; of one that is computed, its expression.
fn messages(schema: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    match schema {
        Value::Object(fields) => {
            for rule in fields.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten()
            {
                let message = rule["message"].as_str().or(rule["messageExpression"].as_str());
                found.insert(message.expect("every rule says why").to_owned());
            }
            found.extend(fields.values().flat_map(messages));
        }
        Value::Array(items) => found.extend(items.iter().flat_map(messages)),
        _ => {}
    }
    found
}
