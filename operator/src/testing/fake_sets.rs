//! What the controllers and kubelets of Kubernetes do: pods and claims for sets, and pods that run.

use serde_json::{Value, json};

use super::fake_api::FakeApi;

/// Brings pods and claims of all sets to where Kubernetes would bring them.
pub(crate) fn settle(api: &FakeApi) {
    for set in api.all("statefulsets") {
        settle_set(api, &set);
    }
}

/// Address of the pod of this ordinal. It is the same after a restart: no test here is about that.
pub(crate) fn address(ordinal: u64) -> String {
    format!("10.0.0.{}", ordinal + 1)
}

fn settle_set(api: &FakeApi, set: &Value) {
    let name = set["metadata"]["name"].as_str().unwrap();
    let replicas = set["spec"]["replicas"].as_u64().unwrap();
    let revision = format!("{name}-{}", hash(&set["spec"]["template"]));
    api.modify("statefulsets", name, |set| {
        set["status"] = json!({
            "observedGeneration": set["metadata"]["generation"],
            "updateRevision": revision,
            "replicas": replicas,
        });
    });
    for ordinal in 0..replicas {
        let claim = format!("data-{name}-{ordinal}");
        if api.get("persistentvolumeclaims", &claim).is_none() {
            api.put("persistentvolumeclaims", claim_of(set, &claim));
        }
        let pod = format!("{name}-{ordinal}");
        if api.get("pods", &pod).is_none() {
            api.put("pods", pod_of(set, &pod, &revision, ordinal));
        }
    }
    for ordinal in replicas..10 {
        api.remove("pods", &format!("{name}-{ordinal}"));
    }
}

fn claim_of(set: &Value, name: &str) -> Value {
    let template = &set["spec"]["volumeClaimTemplates"][0];
    json!({
        "metadata": {
            "name": name,
            "namespace": set["metadata"]["namespace"],
            "labels": template["metadata"]["labels"],
        },
        "spec": { "resources": template["spec"]["resources"], "volumeName": "pv" },
        "status": { "phase": "Bound", "capacity": template["spec"]["resources"]["requests"] },
    })
}

fn pod_of(set: &Value, name: &str, revision: &str, ordinal: u64) -> Value {
    let template = &set["spec"]["template"];
    let mut labels = template["metadata"]["labels"].clone();
    labels["controller-revision-hash"] = json!(revision);
    json!({
        "metadata": {
            "name": name,
            "namespace": set["metadata"]["namespace"],
            "labels": labels,
            "annotations": template["metadata"]["annotations"],
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "StatefulSet", "controller": true,
                "name": set["metadata"]["name"], "uid": set["metadata"]["uid"],
            }],
        },
        "spec": { "containers": [], "nodeName": "machine-1" },
        "status": {
            "phase": "Running",
            "podIP": address(ordinal),
            "conditions": [
                { "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" },
            ],
            "containerStatuses": [{
                "name": "registry", "ready": true, "restartCount": 0, "image": "", "imageID": "",
            }],
        },
    })
}

fn hash(value: &Value) -> String {
    blake3::hash(value.to_string().as_bytes()).to_hex().chars().take(8).collect()
}
