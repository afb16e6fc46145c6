//! What people read: the status, written only when it changes, and events.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::core::error_boundary::InvalidObject;
use kube::runtime::events::{Event as KubeEvent, EventType};
use kube::{Api, Resource as _};
use serde_json::json;

use super::observe::View;
use super::subject::Subject;
use crate::context::Context;
use crate::crd::conditions::cut;
use crate::crd::status::Operation;
use crate::crd::{RegistryCluster, RegistryClusterStatus, STATUS_MANAGER};
use crate::error::Error;
use crate::plan::{Event, Plan, Step};
use crate::stores::Guarded;

/// Longest note of an event, in bytes; longer ones are refused by the API server.
const NOTE_MAX: usize = 1024;

/// Longest word for what the operator was doing, in bytes.
const ACTION_MAX: usize = 128;

/// Writes the status if it is another one, then tells what has changed.
pub(super) async fn report(subject: &Subject<'_>, view: &View, plan: &Plan) -> Result<(), Error> {
    let generation = subject.cluster.metadata.generation.unwrap_or_default();
    let status = status(subject, view, plan, generation);
    if subject.cluster.status.is_none() || status != subject.status {
        write(subject, &status).await?;
        subject.context.crash.pass("status");
    }
    let action = plan.step.as_ref().map_or("observe", Step::kind);
    for event in &plan.events {
        publish(subject, event, action).await;
    }
    Ok(())
}

fn status(subject: &Subject<'_>, view: &View, plan: &Plan, generation: i64) -> RegistryClusterStatus {
    let (before, report) = (&subject.status, &plan.report);
    let (recorded, founders) = match &plan.step {
        Some(Step::RecordBootstrap { cluster_id, pods }) => (Some(cluster_id.clone()), pods.clone()),
        _ => (None, before.founding_members.clone()),
    };
    RegistryClusterStatus {
        observed_generation: Some(generation),
        replicas: number(report.replicas),
        ready_replicas: number(report.ready_replicas),
        selector: Some(subject.owner.selector_text()),
        // Both are set once: the schema refuses another word, and the members know better anyway.
        bootstrapped: before.bootstrapped || report.bootstrapped,
        cluster_id: before.cluster_id.clone().or(recorded).or_else(|| report.cluster_id.clone()),
        founding_members: founders,
        leader: report.leader.clone(),
        term: report.term.and_then(|term| i64::try_from(term).ok()),
        quorum: report.quorum.clone(),
        operation: report.operation.as_ref().map(|operation| Operation {
            kind: operation.kind.clone(),
            target: operation.target.clone(),
            step: operation.step.clone(),
            started_at: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(operation.started_at),
        }),
        current_version: report.current_version.clone(),
        image: Some(subject.cluster.spec.image.clone().unwrap_or_else(|| view.default_image.clone())),
        members: report.members.clone(),
        conditions: report.conditions.merge(&before.conditions, generation, view.observed.now),
    }
}

fn number(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

async fn write(subject: &Subject<'_>, status: &RegistryClusterStatus) -> Result<(), Error> {
    let api: Api<RegistryCluster> = subject.api();
    let name = &subject.owner.name;
    let patch = json!({
        "apiVersion": RegistryCluster::api_version(&()),
        "kind": RegistryCluster::kind(&()),
        "metadata": { "name": name },
        "status": status,
    });
    let params = PatchParams::apply(STATUS_MANAGER).force();
    let written = api.patch_status(name, &params, &Patch::Apply(&patch)).await;
    let written = written.map_err(Error::kube(format!("write the status of {name}")))?;
    let over = subject.cluster.metadata.resource_version.clone().unwrap_or_default();
    if written.metadata.resource_version.as_ref() != Some(&over) {
        subject.memory.keep_status(over, written.status.unwrap_or_default());
    }
    Ok(())
}

/// An event that cannot be written is no reason to stop: the status says the same.
async fn publish(subject: &Subject<'_>, event: &Event, action: &str) {
    let namespace = &subject.owner.namespace;
    let secondary = event.pod.as_ref().map(|pod| ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod.clone()),
        namespace: Some(namespace.clone()),
        ..ObjectReference::default()
    });
    let published = KubeEvent {
        type_: if event.is_warning { EventType::Warning } else { EventType::Normal },
        reason: event.reason.to_owned(),
        note: Some(cut(&event.note, NOTE_MAX).to_owned()),
        action: cut(action, ACTION_MAX).to_owned(),
        secondary,
    };
    subject.context.metrics.event(event.reason);
    let about = subject.cluster.object_ref(&());
    if let Err(error) = subject.context.recorder.publish(&published, &about).await {
        tracing::warn!(reason = event.reason, %error, "cannot publish an event");
    }
}

/// An object that cannot be read is told about and left alone; all others go on.
pub(super) async fn unreadable(guarded: &Guarded, invalid: &InvalidObject, context: &Context) -> Error {
    let event = KubeEvent {
        type_: EventType::Warning,
        reason: "InvalidObject".to_owned(),
        note: Some(
            cut(&format!("this operator cannot read the object: {}", invalid.error), NOTE_MAX).to_owned(),
        ),
        action: "observe".to_owned(),
        secondary: None,
    };
    if let Err(error) = context.recorder.publish(&event, &guarded.object_ref(&())).await {
        tracing::warn!(%error, "cannot publish an event");
    }
    Error::InvalidObject(invalid.error.clone())
}
