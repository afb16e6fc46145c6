//! A claim and its volume, from the words of Kubernetes into those of the plan. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::crd::values::quantity_bytes;
use crate::observed::{ClaimSeen, Volume};

/// Label of nodes by which local volumes name theirs.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// The claim of this ordinal; `can_grow` as its class says.
pub(super) fn of(
    claim: &PersistentVolumeClaim,
    ordinal: u32,
    volume: Volume,
    can_grow: Option<bool>,
) -> ClaimSeen {
    let meta = &claim.metadata;
    let asked = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    let actual = claim.status.as_ref().and_then(|status| status.capacity.as_ref());
    ClaimSeen {
        name: meta.name.clone().unwrap_or_default(),
        ordinal,
        uid: meta.uid.clone().unwrap_or_default(),
        deleting: meta.deletion_timestamp.is_some(),
        volume,
        asked_bytes: storage(asked),
        actual_bytes: storage(actual),
        can_grow,
        resize_trouble: resize_trouble(claim),
    }
}

fn storage(sizes: Option<&BTreeMap<String, Quantity>>) -> u64 {
    sizes.and_then(|sizes| quantity_bytes(&sizes.get("storage")?.0)).unwrap_or_default()
}

/// What the claim itself says about its volume; `None` = bound, and only the volume can tell more.
pub(super) fn volume(claim: &PersistentVolumeClaim) -> Option<Volume> {
    match claim.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Bound") => None,
        Some("Lost") => Some(Volume::Lost),
        _ => Some(Volume::Unbound),
    }
}

/// Name of the volume, once bound.
pub(super) fn volume_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

/// Where the volume can be used. Only an affinity to hosts by name is judged: other topologies (a zone) have
/// other machines.
pub(super) fn reachable(volume: Option<&PersistentVolume>, host_exists: impl Fn(&str) -> bool) -> Volume {
    let Some(volume) = volume else { return Volume::Lost };
    let hosts = hosts(volume);
    match hosts.is_empty() || hosts.iter().any(|host| host_exists(host)) {
        true => Volume::Bound,
        false => Volume::HostGone,
    }
}

fn hosts(volume: &PersistentVolume) -> Vec<&str> {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let terms = affinity.and_then(|affinity| affinity.required.as_ref()).map(|it| &it.node_selector_terms);
    let expressions = terms.into_iter().flatten().flat_map(|term| term.match_expressions.iter().flatten());
    expressions
        .filter(|expression| expression.key == HOSTNAME && expression.operator == "In")
        .flat_map(|expression| expression.values.iter().flatten().map(String::as_str))
        .collect()
}

fn resize_trouble(claim: &PersistentVolumeClaim) -> Option<String> {
    let status = claim.status.as_ref()?;
    let error = status.conditions.iter().flatten().find(|condition| {
        matches!(condition.type_.as_str(), "ControllerResizeError" | "NodeResizeError")
            && condition.status == "True"
    });
    if let Some(error) = error {
        return Some(error.message.clone().unwrap_or_else(|| error.type_.clone()));
    }
    let resize = status.allocated_resource_statuses.as_ref()?.get("storage")?;
    resize.ends_with("Infeasible").then(|| resize.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claim(phase: &str) -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": { "name": "data-demo-1", "uid": "u" },
            "spec": { "volumeName": "pv-1", "resources": { "requests": { "storage": "2Gi" } } },
            "status": { "phase": phase, "capacity": { "storage": "1Gi" } },
        }))
        .unwrap()
    }

    fn local_volume(host: &str) -> PersistentVolume {
        serde_json::from_value(json!({
            "metadata": { "name": "pv-1" },
            "spec": { "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
                { "key": "kubernetes.io/hostname", "operator": "In", "values": [host] },
            ]}]}}},
        }))
        .unwrap()
    }

    #[test]
    fn sizes_are_bytes_and_phases_are_told() {
        let seen = of(&claim("Bound"), 1, Volume::Bound, Some(true));
        assert_eq!((seen.asked_bytes, seen.actual_bytes), (2 << 30, 1 << 30));
        assert_eq!(volume(&claim("Bound")), None);
        assert_eq!(volume(&claim("Pending")), Some(Volume::Unbound));
        assert_eq!(volume(&claim("Lost")), Some(Volume::Lost));
        assert_eq!(volume_name(&claim("Bound")), Some("pv-1"));
    }

    #[test]
    fn a_local_volume_is_out_of_reach_when_its_host_is_gone() {
        let local = local_volume("a");
        assert_eq!(reachable(Some(&local), |host| host == "a"), Volume::Bound);
        assert_eq!(reachable(Some(&local), |_| false), Volume::HostGone);
        assert_eq!(reachable(Some(&PersistentVolume::default()), |_| false), Volume::Bound);
        assert_eq!(reachable(None, |_| true), Volume::Lost);
    }

    #[test]
    fn a_failed_expansion_is_told() {
        let mut failed = claim("Bound");
        assert_eq!(of(&failed, 1, Volume::Bound, None).resize_trouble, None);
        failed.status.as_mut().unwrap().allocated_resource_statuses =
            Some([("storage".to_owned(), "ControllerResizeInfeasible".to_owned())].into());
        let trouble = of(&failed, 1, Volume::Bound, None).resize_trouble;
        assert_eq!(trouble.as_deref(), Some("ControllerResizeInfeasible"));
    }
}
