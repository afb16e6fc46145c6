//! What is asked of the API server only when something is not as it should be.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ListParams;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::super::subject::Subject;
use super::claims;
use crate::error::{Error, status_code};
use crate::observed::{PodSeen, Presence, SetSeen, Volume, since};

/// Events that are older tell of something else.
const LATELY_SECONDS: u64 = 600;

/// Events that are read; the newest are told.
const EVENTS_MAX: u32 = 100;

/// Messages that are told.
const MESSAGES_MAX: usize = 5;

/// Why pods of the set could not be created lately, newest first; empty while none is missing.
pub(super) async fn failed_creates(
    subject: &Subject<'_>,
    set: &Presence<SetSeen>,
    pods: &[PodSeen],
    now: Timestamp,
) -> Result<Vec<String>, Error> {
    let Presence::Ours(set) = set else { return Ok(Vec::new()) };
    let missing = (0..set.replicas).any(|ordinal| !pods.iter().any(|pod| pod.ordinal == ordinal));
    if !missing {
        return Ok(Vec::new());
    }
    let selector = format!(
        "involvedObject.kind=StatefulSet,involvedObject.name={},reason=FailedCreate",
        subject.owner.name
    );
    let params = ListParams::default().fields(&selector).limit(EVENTS_MAX);
    let events = subject.api::<Event>().list(&params).await;
    let events =
        events.map_err(Error::kube(format!("list events of the StatefulSet {}", subject.owner.name)))?;
    let mut told: Vec<(Timestamp, String)> = events
        .into_iter()
        .filter(|event| event.involved_object.uid.as_deref() == Some(&set.uid))
        .filter_map(|event| Some((time_of(&event)?, event.message?)))
        .filter(|(time, _)| since(now, *time).as_secs() <= LATELY_SECONDS)
        .collect();
    told.sort_by(|one, other| other.cmp(one));
    Ok(told.into_iter().map(|(_, message)| message).take(MESSAGES_MAX).collect())
}

fn time_of(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    series.map(|time| time.0).or(last).or_else(|| event.event_time.as_ref().map(|time| time.0))
}

/// What became of the volume. It is looked at only while its pod finds no host.
pub(super) async fn volume(
    subject: &Subject<'_>,
    claim: &PersistentVolumeClaim,
    pod: Option<&PodSeen>,
) -> Result<Volume, Error> {
    if let Some(volume) = claims::volume(claim) {
        return Ok(volume);
    }
    let homeless = pod.is_some_and(|pod| pod.unschedulable.is_some());
    let (Some(name), Some(nodes), true) =
        (claims::volume_name(claim), subject.context.stores.nodes.as_ref(), homeless)
    else {
        return Ok(Volume::Bound);
    };
    let exists = |host: &str| nodes.get(&ObjectRef::new(host)).is_some();
    match cluster_wide::<PersistentVolume>(subject, name).await? {
        Found::Object(volume) => Ok(claims::reachable(Some(&volume), exists)),
        Found::Nothing => Ok(Volume::Lost),
        Found::MayNotLook => Ok(Volume::Bound),
    }
}

/// Whether the class of the claim allows volumes to grow; `None` = nobody can tell.
pub(super) async fn can_grow(
    subject: &Subject<'_>,
    claim: &PersistentVolumeClaim,
) -> Result<Option<bool>, Error> {
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    let Some(class) = class.filter(|class| !class.is_empty()) else { return Ok(None) };
    Ok(match cluster_wide::<StorageClass>(subject, class).await? {
        Found::Object(class) => Some(class.allow_volume_expansion.unwrap_or_default()),
        Found::Nothing | Found::MayNotLook => None,
    })
}

enum Found<K> {
    Object(Box<K>),
    Nothing,
    MayNotLook,
}

async fn cluster_wide<K>(subject: &Subject<'_>, name: &str) -> Result<Found<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(subject.context.client.clone());
    match api.get_opt(name).await {
        Ok(Some(object)) => Ok(Found::Object(Box::new(object))),
        Ok(None) => Ok(Found::Nothing),
        // An operator with rights in single namespaces.
        Err(error) if status_code(&error) == Some(403) => Ok(Found::MayNotLook),
        Err(error) => Err(Error::kube(format!("read the {} {name}", K::kind(&())))(error)),
    }
}
