//! The StatefulSet: it keeps names and disks; when a pod goes and which, the operator decides.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PodTemplateSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::names::{DATA, Owner};
use super::pod::pod_spec;
use super::spec_hash::spec_hash;
use crate::crd::{DEFAULT_IMAGE, RESTARTED_AT, ROLE_LABEL, RegistryClusterSpec, SPEC_HASH, VOTER};

/// What of the set does not follow from the spec alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Pods: lags `spec.replicas` while members are removed or added.
    pub replicas: u32,
    /// Size in the claim template, such as `10Gi`: that of the set that exists, which cannot be changed there.
    pub volume_size: String,
    /// Image for a spec that names none: annotation [`DEFAULT_IMAGE`] of the set that exists, else the
    /// operator's. So a newer operator rolls nothing.
    pub default_image: String,
    /// Annotation [`RESTARTED_AT`] to carry over when the set is made anew; else `None`, since the annotation
    /// belongs to `kubectl rollout restart`.
    pub restarted_at: Option<String>,
}

impl Shape {
    /// The image that pods are to run.
    pub fn image<'a>(&'a self, spec: &'a RegistryClusterSpec) -> &'a str {
        spec.image.as_deref().unwrap_or(&self.default_image)
    }
}

/// Old templates kept for `kubectl rollout history`; nobody rolls back to them here.
const REVISIONS: i32 = 3;

/// The set.
pub fn stateful_set(owner: &Owner, spec: &RegistryClusterSpec, shape: &Shape) -> StatefulSet {
    let mut metadata = owner.metadata(&owner.name);
    metadata.annotations = Some(BTreeMap::from([(DEFAULT_IMAGE.to_owned(), shape.default_image.clone())]));
    StatefulSet {
        metadata,
        spec: Some(StatefulSetSpec {
            replicas: Some(i32::try_from(shape.replicas).unwrap_or(i32::MAX)),
            service_name: Some(owner.peers()),
            selector: owner.selector(),
            // In order, the first pod that does not start would keep a majority from starting.
            pod_management_policy: Some("Parallel".into()),
            // Kubernetes would go by readiness, which says nothing about the quorum.
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".into()),
                ..StatefulSetUpdateStrategy::default()
            }),
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some(spec.storage.retention.when_deleted.as_str().into()),
                // The operator deletes them, after the member has left and its pod is gone.
                when_scaled: Some("Retain".into()),
            }),
            min_ready_seconds: Some(0),
            revision_history_limit: Some(REVISIONS),
            template: template(owner, spec, shape),
            volume_claim_templates: Some(vec![claim(owner, spec, &shape.volume_size)]),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

fn template(owner: &Owner, spec: &RegistryClusterSpec, shape: &Shape) -> PodTemplateSpec {
    // What is ours comes last: it wins over what the user gives.
    let mut labels = spec.pod_template.labels.clone();
    labels.extend(owner.labels());
    labels.insert(ROLE_LABEL.into(), VOTER.into());
    let mut annotations = spec.pod_template.annotations.clone();
    annotations.insert(SPEC_HASH.into(), spec_hash(spec, shape.image(spec)));
    if let Some(restarted_at) = &shape.restarted_at {
        annotations.insert(RESTARTED_AT.into(), restarted_at.clone());
    }
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(pod_spec(owner, spec, shape.image(spec))),
    }
}

fn claim(owner: &Owner, spec: &RegistryClusterSpec, size: &str) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        // Only what never changes: the claim template is immutable.
        metadata: ObjectMeta {
            name: Some(DATA.into()),
            labels: Some(owner.pod_labels()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            storage_class_name: spec.storage.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(size.to_owned()))])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}
