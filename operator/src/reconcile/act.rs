//! Carries out one step. Each is safe to repeat: what it starts from is a precondition, by UID or by the
//! membership that was seen.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;

use super::objects::{Owned, label};
use super::observe::View;
use super::subject::Subject;
use crate::crd::{MANAGER, RESTARTED_AT, ROLE_LABEL, ROLE_MANAGER};
use crate::desired::{self, Shape, access, budget};
use crate::error::{Error, status_code};
use crate::observed::{Presence, Role};
use crate::plan::{SetShape, Step};
use crate::stores::Seen;

mod membership;

/// Field manager that writes the restart annotation into a set that is made anew, and nothing else: the
/// operator itself must not own it, or its next apply would take it away.
const RESTART_MANAGER: &str = "registry-operator-restart";

/// Carries out the step.
pub(super) async fn act(subject: &Subject<'_>, view: &View, step: &Step) -> Result<(), Error> {
    match step {
        Step::ApplyObjects { set } => Box::pin(apply_objects(subject, view, set)).await,
        // The report has written it.
        Step::RecordBootstrap { .. } => Ok(()),
        Step::Initialize { .. }
        | Step::Admit { .. }
        | Step::Promote { .. }
        | Step::Remove { .. }
        | Step::Transfer { .. }
        | Step::UpdateSettings { .. } => membership::change(subject, view, step).await,
        Step::RelabelPod { name, uid, role } => relabel(subject, name, uid, *role).await,
        Step::WriteBudget { min_available, learners } => {
            let budgets = &subject.context.stores.budgets;
            let desired = budget::budget(&subject.owner, *min_available, learners);
            Box::pin(write_budget(subject, budgets, &desired)).await
        }
        Step::DeleteBudget => {
            let budgets = &subject.context.stores.budgets;
            let found = subject.find(budgets, &subject.owner.name).await?;
            delete_ours(subject, budgets, found).await
        }
        Step::DeletePod { name, uid } => {
            let pods = &subject.context.stores.pods;
            delete(subject, pods, name, uid, PropagationPolicy::Background).await
        }
        Step::DeleteClaim { name, uid } => {
            let claims = &subject.context.stores.claims;
            delete(subject, claims, name, uid, PropagationPolicy::Background).await
        }
        Step::GrowClaim { name, uid, size } => grow(subject, name, uid, size).await,
        Step::RecreateSet { uid, set } => {
            let sets = &subject.context.stores.sets;
            delete(subject, sets, &subject.owner.name, uid, PropagationPolicy::Orphan).await?;
            subject.until_seen(sets, &subject.owner.name, |set| set.is_none()).await;
            subject.context.crash.pass("orphan-set");
            Box::pin(apply_set(subject, view, set)).await
        }
        Step::Scale { set } => Box::pin(apply_set(subject, view, set)).await,
    }
}

fn shape(view: &View, set: &SetShape) -> Shape {
    Shape {
        replicas: set.replicas,
        volume_size: set.volume_size.clone(),
        default_image: view.default_image.clone(),
        restarted_at: None,
    }
}

/// The Secret first: pods do not start without it. The set last.
async fn apply_objects(subject: &Subject<'_>, view: &View, set: &SetShape) -> Result<(), Error> {
    if view.token.is_none() {
        create_token(subject).await?;
        subject.context.crash.pass("create-token");
    }
    let stores = &subject.context.stores;
    let (spec, defaults) = (&subject.cluster.spec, &subject.context.defaults);
    let desired = desired::objects(&subject.owner, spec, defaults, &shape(view, set));
    subject.ensure(&stores.accounts, &desired.service_account).await?;
    subject.ensure(&stores.config_maps, &desired.config_map).await?;
    subject.ensure(&stores.services, &desired.peers).await?;
    subject.ensure(&stores.services, &desired.clients).await?;
    match &desired.network_policy {
        Some(policy) => subject.ensure(&stores.policies, policy).await?,
        None => delete_policy(subject).await?,
    }
    subject.context.crash.pass("apply-services");
    apply_set(subject, view, set).await
}

/// Made once. Another that was faster is as good: the next look reads it.
async fn create_token(subject: &Subject<'_>) -> Result<(), Error> {
    let name = subject.owner.token();
    let mut random = [0; 32];
    getrandom::fill(&mut random)
        .map_err(|error| Error::BrokenObject(format!("the system gives no random numbers: {error}")))?;
    let secret = access::admin_token(&subject.owner, random);
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match subject.api::<Secret>().create(&params, &secret).await {
        Ok(secret) => {
            subject.memory.keep_token(access::token_of(&secret));
            Ok(())
        }
        Err(error) if status_code(&error) == Some(409) => Ok(()),
        Err(error) => Err(Error::kube(format!("create the {}", label::<Secret>(&name)))(error)),
    }
}

async fn delete_policy(subject: &Subject<'_>) -> Result<(), Error> {
    let policies = &subject.context.stores.policies;
    match policies.get(&subject.owner.namespace, &subject.owner.name) {
        Some(policy) => delete_ours(subject, policies, subject.presence((*policy).clone())).await,
        None => Ok(()),
    }
}

/// The set as it shall be. One that is made anew after `kubectl rollout restart` gets the annotation of the
/// old one in the same moment, or all its pods would look outdated.
async fn apply_set(subject: &Subject<'_>, view: &View, set: &SetShape) -> Result<(), Error> {
    let sets = &subject.context.stores.sets;
    let shape = shape(view, set);
    let desired = desired::stateful_set::stateful_set(&subject.owner, &subject.cluster.spec, &shape);
    let presence = subject.find(sets, &subject.owner.name).await?;
    match (&presence, &set.restarted_at) {
        (Presence::Foreign(_) | Presence::Deleting, _) => return Ok(()),
        (Presence::Absent, Some(restarted_at)) => {
            let carrying = Shape { restarted_at: Some(restarted_at.clone()), ..shape };
            let carrying =
                desired::stateful_set::stateful_set(&subject.owner, &subject.cluster.spec, &carrying);
            apply_as(subject, RESTART_MANAGER, &json!(carrying)).await?;
            subject.context.crash.pass("carry-restart");
            subject.apply(sets, &desired).await?;
            apply_as(subject, RESTART_MANAGER, &restart_alone(subject, restarted_at)).await?;
        }
        (Presence::Ours(_) | Presence::Absent, _) => subject.ensure(sets, &desired).await?,
    }
    Ok(())
}

async fn apply_as(subject: &Subject<'_>, manager: &str, set: &serde_json::Value) -> Result<(), Error> {
    let name = &subject.owner.name;
    let params = PatchParams::apply(manager).force();
    let applied = subject.api::<StatefulSet>().patch(name, &params, &Patch::Apply(set)).await;
    applied.map(|_| ()).map_err(Error::kube(format!("apply the {}", label::<StatefulSet>(name))))
}

fn restart_alone(subject: &Subject<'_>, restarted_at: &str) -> serde_json::Value {
    json!({
        "apiVersion": StatefulSet::api_version(&()),
        "kind": StatefulSet::kind(&()),
        "metadata": { "name": subject.owner.name },
        "spec": { "template": { "metadata": { "annotations": { RESTARTED_AT: restarted_at } } } },
    })
}

/// Always written, even if nothing differs: that makes its controller count anew.
async fn write_budget(
    subject: &Subject<'_>,
    budgets: &Seen<PodDisruptionBudget>,
    desired: &PodDisruptionBudget,
) -> Result<(), Error> {
    match subject.find(budgets, &subject.owner.name).await? {
        Presence::Foreign(_) | Presence::Deleting => Ok(()),
        Presence::Absent | Presence::Ours(_) => subject.apply(budgets, desired).await.map(|_| ()),
    }
}

async fn relabel(subject: &Subject<'_>, name: &str, uid: &str, role: Role) -> Result<(), Error> {
    let patch = json!({ "metadata": { "uid": uid, "labels": { ROLE_LABEL: role.as_str() } } });
    let params = PatchParams { field_manager: Some(ROLE_MANAGER.to_owned()), ..PatchParams::default() };
    let patched = subject.api::<Pod>().patch(name, &params, &Patch::Merge(&patch)).await;
    patched.map_err(Error::kube(format!("label pod {name} as {}", role.as_str())))?;
    let labelled = |pod: Option<&Pod>| {
        pod.is_none_or(|pod| pod.labels().get(ROLE_LABEL).map(String::as_str) == Some(role.as_str()))
    };
    subject.until_seen(&subject.context.stores.pods, name, labelled).await;
    Ok(())
}

/// Deletes what is ours, and nothing else of that name.
async fn delete_ours<K: Owned>(
    subject: &Subject<'_>,
    seen: &Seen<K>,
    found: Presence<K>,
) -> Result<(), Error> {
    let Presence::Ours(object) = found else { return Ok(()) };
    let (name, uid) = (object.name_any(), object.uid().unwrap_or_default());
    delete(subject, seen, &name, &uid, PropagationPolicy::Background).await
}

/// Deletes the object with this UID; another of that name is left alone. Waits until the watch shows it.
async fn delete<K: Owned>(
    subject: &Subject<'_>,
    seen: &Seen<K>,
    name: &str,
    uid: &str,
    propagation: PropagationPolicy,
) -> Result<(), Error> {
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        propagation_policy: Some(propagation),
        ..DeleteParams::default()
    };
    match subject.api::<K>().delete(name, &params).await {
        Ok(_) => {}
        Err(error) if status_code(&error) == Some(404) => return Ok(()),
        Err(error) => return Err(Error::kube(format!("delete the {}", label::<K>(name)))(error)),
    }
    let going = |object: Option<&K>| {
        object.is_none_or(|object| {
            object.meta().deletion_timestamp.is_some() || object.meta().uid.as_deref() != Some(uid)
        })
    };
    subject.until_seen(seen, name, going).await;
    Ok(())
}

/// Asks for a larger volume. A class that refuses is told by a condition, not by trying for ever.
async fn grow(subject: &Subject<'_>, name: &str, uid: &str, size: &str) -> Result<(), Error> {
    let patch = json!({
        "metadata": { "uid": uid },
        "spec": { "resources": { "requests": { "storage": size } } },
    });
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let patched = subject.api::<PersistentVolumeClaim>().patch(name, &params, &Patch::Merge(&patch)).await;
    let grown = match patched {
        Ok(claim) => claim.resource_version().unwrap_or_default(),
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 422) => {
            tracing::warn!(claim = name, refusal = status.message, "the volume may not grow");
            subject.memory.keep_refused_growth(uid, &status.message);
            return Ok(());
        }
        Err(error) => return Err(Error::kube(format!("grow the claim {name}"))(error)),
    };
    let there = |claim: Option<&PersistentVolumeClaim>| {
        claim.is_none_or(|claim| claim.resource_version().as_deref() == Some(&grown))
    };
    subject.until_seen(&subject.context.stores.claims, name, there).await;
    Ok(())
}
