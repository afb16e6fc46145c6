//! What the user wants and what the last status said, in the words of the plan.

use std::time::Duration;

use super::super::subject::Subject;
use crate::crd::status::{Available, Reason as _};
use crate::crd::{RegistryClusterStatus, RetentionPolicy};
use crate::observed::{Before, OperationBefore, Wish};

/// The spec, with defaults filled in.
pub(super) fn of(subject: &Subject<'_>, default_image: &str) -> Wish {
    let spec = &subject.cluster.spec;
    let seconds = |number: i32| Duration::from_secs(u64::try_from(number).unwrap_or_default());
    Wish {
        generation: subject.cluster.metadata.generation.unwrap_or_default(),
        name: subject.owner.name.clone(),
        invalid: spec.violation(),
        deleting: subject.cluster.metadata.deletion_timestamp.is_some(),
        paused: spec.paused,
        replicas: u32::try_from(spec.replicas).unwrap_or_default(),
        volume_bytes: spec.storage.size.bytes(),
        volume_size: spec.storage.size.to_string(),
        deletes_claims: spec.storage.retention.when_scaled == RetentionPolicy::Delete,
        wants_budget: spec.pod_disruption_budget.enabled,
        settle: seconds(spec.update.settle_seconds),
        progress_deadline: seconds(spec.update.progress_deadline_seconds),
        election_timeout: Duration::from_millis(spec.raft.election_timeout_max.millis()),
        newer_default_image: spec.image.is_none() && default_image != subject.context.defaults.node_image,
    }
}

/// What the last status said.
pub(super) fn before(status: &RegistryClusterStatus) -> Before {
    let available = status.conditions.iter().find(|condition| condition.type_ == Available::CONDITION);
    Before {
        cluster_id: status.cluster_id.clone(),
        bootstrapped: status.bootstrapped,
        available: available.map(|condition| condition.status == "True"),
        reasons: status
            .conditions
            .iter()
            .map(|condition| (condition.type_.clone(), condition.reason.clone()))
            .collect(),
        operation: status.operation.as_ref().map(|operation| OperationBefore {
            kind: operation.kind.clone(),
            target: operation.target.clone(),
            step: operation.step.clone(),
            started_at: operation.started_at.0,
        }),
    }
}
