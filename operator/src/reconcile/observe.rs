//! Everything that a plan needs to know about one cluster: from the watches, and from the nodes themselves.
//!
//! At rest this asks the API server for nothing. Only an object that is missing, a disk that cannot be reached
//! and a pod that is not created cost a request.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::objects::label;
use super::subject::Subject;
use crate::crd::values::quantity_bytes;
use crate::crd::{DEFAULT_IMAGE, RESTARTED_AT, SPEC_HASH};
use crate::desired::{self, Objects, Shape};
use crate::error::Error;
use crate::members::Token;
use crate::observed::{Answer, ClaimSeen, ObjectSeen, Observed, PodSeen, Presence, SetSeen, SettingsSeen};

mod budgets;
mod claims;
mod node_report;
mod pods;
mod token;
mod trouble;
mod wish;

/// What was seen, and what acting on it needs beside.
pub(super) struct View {
    /// For the plan.
    pub observed: Observed,
    /// The administrator's token, once it exists.
    pub token: Option<Token>,
    /// Addresses of pods by name.
    pub addresses: BTreeMap<String, String>,
    /// Image for a spec that names none.
    pub default_image: String,
}

/// Looks at everything.
pub(super) async fn observe(subject: &Subject<'_>) -> Result<View, Error> {
    let now = Timestamp::now();
    let stores = &subject.context.stores;
    let set = subject.find(&stores.sets, &subject.owner.name).await?;
    let default_image = default_image(subject, &set);
    let (token_seen, token) = token::look(subject).await?;
    // On the heap: the objects of a cluster side by side are too large for the frames of all callers.
    let mut objects = Box::pin(look_at_objects(subject, &set, &default_image)).await?;
    objects.push(token_seen);
    let members: Vec<_> = pods_of(subject);
    let addresses: BTreeMap<String, String> = members
        .iter()
        .filter_map(|(_, pod)| Some((pod.name_any(), pods::address(pod)?.to_owned())))
        .collect();
    let pods = look_at_pods(subject, &members, token.as_ref(), now).await;
    let set = set_seen(set);
    let wish = wish::of(subject, &default_image);
    let claims = look_at_claims(subject, &pods, wish.volume_bytes).await?;
    let failed_creates = trouble::failed_creates(subject, &set, &pods, now).await?;
    let observed = Observed {
        now,
        spec: wish,
        budget: budgets::of(subject, &members),
        set,
        pods,
        claims,
        objects,
        failed_creates,
        before: wish::before(&subject.status),
        new_cluster_id: uuid::Uuid::new_v4().to_string(),
    };
    Ok(View { observed, token, addresses, default_image })
}

/// That of the set that exists, so that a newer operator rolls nothing; else ours.
fn default_image(subject: &Subject<'_>, set: &Presence<StatefulSet>) -> String {
    let recorded = match set {
        Presence::Ours(set) => set.annotations().get(DEFAULT_IMAGE).cloned(),
        _ => None,
    };
    // While the set is made anew, the status remembers.
    let remembered = || subject.status.image.clone().filter(|_| subject.cluster.spec.image.is_none());
    recorded.or_else(remembered).unwrap_or_else(|| subject.context.defaults.node_image.clone())
}

/// The set is compared in the shape that it has: number of pods and size have steps of their own.
async fn look_at_objects(
    subject: &Subject<'_>,
    set: &Presence<StatefulSet>,
    default_image: &str,
) -> Result<Vec<ObjectSeen>, Error> {
    let stores = &subject.context.stores;
    let spec = &subject.cluster.spec;
    let shape = shape_of(set, subject, default_image);
    let desired = desired::objects(&subject.owner, spec, &subject.context.defaults, &shape);
    let Objects { service_account, config_map, peers, clients, network_policy, stateful_set } = &desired;
    let mut objects = vec![
        subject.look(&stores.accounts, service_account).await?,
        subject.look(&stores.config_maps, config_map).await?,
        subject.look(&stores.services, peers).await?,
        subject.look(&stores.services, clients).await?,
        ObjectSeen {
            label: label::<StatefulSet>(&subject.owner.name),
            presence: subject.compare(set.clone(), stateful_set).await?,
        },
    ];
    match network_policy {
        Some(policy) => objects.push(subject.look(&stores.policies, policy).await?),
        // One that is not wanted any more differs from what shall be: nothing.
        None => objects.extend(unwanted_policy(subject)),
    }
    Ok(objects)
}

fn unwanted_policy(subject: &Subject<'_>) -> Option<ObjectSeen> {
    let policies = &subject.context.stores.policies;
    let policy = policies.get(&subject.owner.namespace, &subject.owner.name)?;
    match subject.presence((*policy).clone()) {
        Presence::Ours(policy) => {
            let label = label::<k8s_openapi::api::networking::v1::NetworkPolicy>(&policy.name_any());
            Some(ObjectSeen { label, presence: Presence::Ours(false) })
        }
        _ => None,
    }
}

fn shape_of(set: &Presence<StatefulSet>, subject: &Subject<'_>, default_image: &str) -> Shape {
    let spec = match set {
        Presence::Ours(set) => set.spec.as_ref(),
        _ => None,
    };
    Shape {
        replicas: spec.and_then(|spec| u32::try_from(spec.replicas?).ok()).unwrap_or_default(),
        volume_size: spec
            .and_then(volume_size)
            .unwrap_or_else(|| subject.cluster.spec.storage.size.to_string()),
        default_image: default_image.to_owned(),
        restarted_at: None,
    }
}

fn volume_size(spec: &k8s_openapi::api::apps::v1::StatefulSetSpec) -> Option<String> {
    let claim = spec.volume_claim_templates.as_ref()?.first()?;
    Some(claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")?.0.clone())
}

fn set_seen(set: Presence<StatefulSet>) -> Presence<SetSeen> {
    match set {
        Presence::Absent => Presence::Absent,
        Presence::Foreign(owner) => Presence::Foreign(owner),
        Presence::Deleting => Presence::Deleting,
        Presence::Ours(set) => {
            let spec = set.spec.clone().unwrap_or_default();
            let status = set.status.as_ref();
            let current = status.filter(|status| status.observed_generation == set.metadata.generation);
            let annotations = spec.template.metadata.as_ref().and_then(|meta| meta.annotations.as_ref());
            let annotation = |key: &str| annotations.and_then(|all| all.get(key)).cloned();
            let volume_size = volume_size(&spec).unwrap_or_default();
            Presence::Ours(SetSeen {
                uid: set.uid().unwrap_or_default(),
                replicas: spec.replicas.and_then(|count| u32::try_from(count).ok()).unwrap_or_default(),
                update_revision: current.and_then(|status| status.update_revision.clone()),
                spec_hash: annotation(SPEC_HASH),
                restarted_at: annotation(RESTARTED_AT),
                volume_bytes: quantity_bytes(&volume_size).unwrap_or_default(),
                volume_size,
            })
        }
    }
}

/// Pods that carry the names of our set's, with their ordinals. One that somebody else owns is none of ours.
fn pods_of(subject: &Subject<'_>) -> Vec<(u32, Arc<Pod>)> {
    let mut pods: Vec<_> = subject
        .context
        .stores
        .pods
        .filter(&subject.owner.namespace, |pod| is_of_a_set(pod, &subject.owner.name))
        .into_iter()
        .filter_map(|pod| Some((subject.owner.ordinal(&pod.name_any())?, pod)))
        .collect();
    pods.sort_by_key(|(ordinal, _)| *ordinal);
    pods
}

/// Owned by a set of that name, or by nobody while the set is made anew.
fn is_of_a_set(pod: &Pod, name: &str) -> bool {
    let controller = pod.owner_references().iter().find(|reference| reference.controller == Some(true));
    controller.is_none_or(|owner| owner.kind == "StatefulSet" && owner.name == name)
}

/// All nodes are asked at the same time, so that one that is silent costs no more than all that are.
async fn look_at_pods(
    subject: &Subject<'_>,
    pods: &[(u32, Arc<Pod>)],
    token: Option<&Token>,
    now: Timestamp,
) -> Vec<PodSeen> {
    let mut looks = Vec::new();
    for (ordinal, pod) in pods {
        looks.push(look_at_pod(subject, *ordinal, pod, token, now));
    }
    join_all(looks).await
}

async fn look_at_pod(
    subject: &Subject<'_>,
    ordinal: u32,
    pod: &Pod,
    token: Option<&Token>,
    now: Timestamp,
) -> PodSeen {
    let nodes = subject.context.stores.nodes.as_ref();
    let host = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let node = nodes.zip(host).and_then(|(nodes, host)| nodes.get(&ObjectRef::new(host)));
    let health = pods::host_health(pod, nodes.is_some(), node.as_deref());
    let mut seen = pods::of(pod, ordinal, health, now);
    if let (Some(address), Some(token)) = (pods::address(pod), token) {
        seen.answer = ask(subject, address, token).await;
    }
    seen
}

async fn ask(subject: &Subject<'_>, address: &str, token: &Token) -> Answer {
    let members = &subject.context.members;
    let status = match members.status(address, token).await {
        Ok(status) => status,
        Err(error) => {
            tracing::debug!(address, %error, "a node does not tell its status");
            return Answer::Silent(error.to_string());
        }
    };
    let mut settings = None;
    if node_report::leads(&status) {
        match members.settings(address, token).await {
            Ok(now) => {
                let wanted = desired::settings(&subject.cluster.spec, &now);
                settings = Some(SettingsSeen { now, wanted });
            }
            Err(error) => tracing::debug!(address, %error, "the leader does not tell its settings"),
        }
    }
    Answer::Told(Box::new(node_report::of(&status, settings)))
}

async fn look_at_claims(
    subject: &Subject<'_>,
    pods: &[PodSeen],
    wanted_bytes: u64,
) -> Result<Vec<ClaimSeen>, Error> {
    let mut seen = Vec::new();
    for (ordinal, claim) in claims_of(subject) {
        let pod = pods.iter().find(|pod| pod.ordinal == ordinal);
        let volume = trouble::volume(subject, &claim, pod).await?;
        let mut claim_seen = claims::of(&claim, ordinal, volume, None);
        if claim_seen.asked_bytes < wanted_bytes {
            claim_seen.can_grow = trouble::can_grow(subject, &claim).await?;
        }
        let refused = subject.memory.refused_growth(&claim_seen.uid);
        claim_seen.resize_trouble = claim_seen.resize_trouble.or(refused);
        seen.push(claim_seen);
    }
    Ok(seen)
}

fn claims_of(subject: &Subject<'_>) -> Vec<(u32, Arc<PersistentVolumeClaim>)> {
    let prefix = format!("{}-", desired::names::DATA);
    let mut claims: Vec<_> = subject
        .context
        .stores
        .claims
        .filter(&subject.owner.namespace, |_| true)
        .into_iter()
        .filter_map(|claim| {
            let name = claim.name_any();
            let ordinal = subject.owner.ordinal(name.strip_prefix(&prefix)?)?;
            Some((ordinal, claim))
        })
        .collect();
    claims.sort_by_key(|(ordinal, _)| *ordinal);
    claims
}
