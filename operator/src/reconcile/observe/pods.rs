//! A pod and its machine, from the words of Kubernetes into those of the plan. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod, PodCondition};

use crate::crd::{LEARNER, RESTARTED_AT, ROLE_LABEL, SPEC_HASH, VOTER};
use crate::observed::{Answer, HostHealth, PodPhase, PodSeen, Role, Waiting, since};

/// Label of a pod that names the revision of its template.
const REVISION: &str = "controller-revision-hash";

/// Container that the node runs in.
const CONTAINER: &str = "registry";

/// The pod of this ordinal. What the node in it tells is put in by the caller.
pub(super) fn of(pod: &Pod, ordinal: u32, host_health: HostHealth, now: Timestamp) -> PodSeen {
    let meta = &pod.metadata;
    let status = pod.status.as_ref();
    let ready = condition(pod, "Ready").filter(|condition| condition.status == "True");
    let ready_since = ready.and_then(|condition| condition.last_transition_time.as_ref());
    PodSeen {
        name: meta.name.clone().unwrap_or_default(),
        ordinal,
        uid: meta.uid.clone().unwrap_or_default(),
        deleting: meta.deletion_timestamp.is_some(),
        phase: phase(status.and_then(|status| status.phase.as_deref())),
        ready: ready.is_some(),
        ready_for: ready_since.map(|time| since(now, time.0)).unwrap_or_default(),
        host: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        host_health,
        role: word(meta.labels.as_ref(), ROLE_LABEL).and_then(|role| match role.as_str() {
            VOTER => Some(Role::Voter),
            LEARNER => Some(Role::Learner),
            _ => None,
        }),
        revision: word(meta.labels.as_ref(), REVISION),
        spec_hash: word(meta.annotations.as_ref(), SPEC_HASH),
        restarted_at: word(meta.annotations.as_ref(), RESTARTED_AT),
        waiting: container(pod).and_then(waiting),
        unschedulable: unschedulable(pod),
        restarts: container(pod).and_then(|it| u32::try_from(it.restart_count).ok()).unwrap_or_default(),
        age: meta.creation_timestamp.as_ref().map(|time| since(now, time.0)).unwrap_or_default(),
        disruption: condition(pod, "DisruptionTarget")
            .filter(|condition| condition.status == "True")
            .map(|condition| condition.reason.clone().unwrap_or_default()),
        answer: Answer::Silent("it has no address yet".to_owned()),
    }
}

/// Address at which the node in the pod can be asked.
pub(super) fn address(pod: &Pod) -> Option<&str> {
    let running = pod.status.as_ref().filter(|status| status.phase.as_deref() == Some("Running"))?;
    running.pod_ip.as_deref().filter(|ip| !ip.is_empty())
}

/// How the machine of a pod is: `node` as it was seen, if machines may be read at all.
pub(super) fn host_health(pod: &Pod, may_read: bool, node: Option<&Node>) -> HostHealth {
    if pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()).is_none() {
        return HostHealth::None;
    }
    match (may_read, node) {
        (false, _) if is_cut_off(pod) => HostHealth::Unreachable,
        (false, _) => HostHealth::NotKnown,
        (true, None) => HostHealth::Gone,
        (true, Some(node)) if is_ready(node) => HostHealth::Ready,
        (true, Some(_)) => HostHealth::Unreachable,
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// When a machine falls silent, Kubernetes takes back `Ready` of its pods and leaves what the kubelet said last
/// about the containers.
fn is_cut_off(pod: &Pod) -> bool {
    let is = |type_, status| condition(pod, type_).is_some_and(|condition| condition.status == status);
    is("Ready", "False") && is("ContainersReady", "True")
}

fn phase(phase: Option<&str>) -> PodPhase {
    match phase {
        Some("Running") => PodPhase::Running,
        Some("Succeeded" | "Failed") => PodPhase::Ended,
        Some("Unknown") => PodPhase::Unknown,
        _ => PodPhase::Pending,
    }
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

fn unschedulable(pod: &Pod) -> Option<String> {
    let scheduled = condition(pod, "PodScheduled").filter(|condition| condition.status == "False")?;
    Some(scheduled.message.clone().unwrap_or_default())
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.iter().find(|status| status.name == CONTAINER)
}

fn waiting(status: &ContainerStatus) -> Option<Waiting> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    Some(Waiting {
        reason: waiting.reason.clone().unwrap_or_default(),
        message: waiting.message.clone().unwrap_or_default(),
    })
}

fn word(map: Option<&BTreeMap<String, String>>, key: &str) -> Option<String> {
    map?.get(key).cloned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "demo-10", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": { "registry.dev/role": "learner", "controller-revision-hash": "demo-5d" },
                "annotations": { "registry.dev/spec-hash": "abc" },
            },
            "spec": { "containers": [], "nodeName": "machine-1" },
            "status": status,
        }))
        .unwrap()
    }

    fn now() -> Timestamp {
        "2026-01-01T00:01:00Z".parse().unwrap()
    }

    fn node(ready: &str) -> Node {
        let status = json!({ "conditions": [{ "type": "Ready", "status": ready }] });
        serde_json::from_value(json!({ "metadata": { "name": "machine-1" }, "status": status })).unwrap()
    }

    #[test]
    fn a_running_pod_tells_role_revision_hash_and_since_when_it_is_ready() {
        let pod = pod(json!({
            "phase": "Running", "podIP": "10.0.0.7",
            "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:40Z" }],
            "containerStatuses": [{
                "name": "registry", "restartCount": 3, "ready": true, "image": "", "imageID": ""
            }],
        }));
        let seen = of(&pod, 10, HostHealth::Ready, now());
        assert_eq!((seen.role, seen.restarts, seen.ready), (Some(Role::Learner), 3, true));
        assert_eq!((seen.revision.as_deref(), seen.spec_hash.as_deref()), (Some("demo-5d"), Some("abc")));
        assert_eq!((seen.age, seen.ready_for), (Duration::from_secs(60), Duration::from_secs(20)));
        assert_eq!(address(&pod), Some("10.0.0.7"));
    }

    #[test]
    fn a_pod_that_cannot_start_says_why() {
        let pulling = pod(json!({
            "phase": "Pending",
            "containerStatuses": [{
                "name": "registry", "restartCount": 0, "ready": false, "image": "", "imageID": "",
                "state": { "waiting": { "reason": "ErrImagePull", "message": "not found" } },
            }],
        }));
        let seen = of(&pulling, 10, HostHealth::Ready, now());
        assert_eq!(seen.waiting.unwrap().reason, "ErrImagePull");
        assert_eq!(address(&pulling), None);
        let homeless = pod(json!({
            "phase": "Pending",
            "conditions": [{ "type": "PodScheduled", "status": "False", "message": "0/3 nodes" }],
        }));
        assert_eq!(of(&homeless, 10, HostHealth::None, now()).unschedulable.as_deref(), Some("0/3 nodes"));
    }

    #[test]
    fn a_dead_machine_is_told_by_itself_or_by_its_pods() {
        let well = pod(json!({ "conditions": [{ "type": "Ready", "status": "True" }] }));
        assert_eq!(host_health(&well, true, Some(&node("True"))), HostHealth::Ready);
        assert_eq!(host_health(&well, true, Some(&node("Unknown"))), HostHealth::Unreachable);
        assert_eq!(host_health(&well, true, None), HostHealth::Gone);
        assert_eq!(host_health(&well, false, None), HostHealth::NotKnown);
        let cut_off = pod(json!({ "conditions": [
            { "type": "Ready", "status": "False" }, { "type": "ContainersReady", "status": "True" },
        ]}));
        assert_eq!(host_health(&cut_off, false, None), HostHealth::Unreachable);
        let mut homeless = well;
        homeless.spec = None;
        assert_eq!(host_health(&homeless, true, None), HostHealth::None);
    }
}
