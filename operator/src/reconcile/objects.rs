//! Objects by name: whose they are, whether they are as they shall be, and how they are written.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::subject::Subject;
use crate::context::{Applied, SEEN_TIMEOUT, version_of};
use crate::crd::MANAGER;
use crate::error::Error;
use crate::observed::{ObjectSeen, Presence};
use crate::stores::Seen;

/// A kind of which each cluster has objects in its namespace.
pub(super) trait Owned:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
}

impl Owned for ConfigMap {}
impl Owned for NetworkPolicy {}
impl Owned for PersistentVolumeClaim {}
impl Owned for Pod {}
impl Owned for PodDisruptionBudget {}
impl Owned for Secret {}
impl Owned for Service {}
impl Owned for ServiceAccount {}
impl Owned for StatefulSet {}

/// Kind and name, for people and as a key.
pub(super) fn label<K: Owned>(name: &str) -> String {
    format!("{} {name}", K::kind(&()))
}

impl Subject<'_> {
    /// The object of this name, from the watch, or asked for if the watch does not have it: one without our label
    /// would be foreign.
    pub(super) async fn find<K: Owned>(&self, seen: &Seen<K>, name: &str) -> Result<Presence<K>, Error> {
        let found = match seen.get(&self.owner.namespace, name) {
            Some(object) => Some((*object).clone()),
            None => {
                let asked = self.api::<K>().get_opt(name).await;
                asked.map_err(Error::kube(format!("read the {}", label::<K>(name))))?
            }
        };
        Ok(match found {
            None => Presence::Absent,
            Some(object) => self.presence(object),
        })
    }

    /// Whose the object is.
    pub(super) fn presence<K: Owned>(&self, object: K) -> Presence<K> {
        if !self.owner.owns(object.meta()) {
            Presence::Foreign(owner_of(object.meta()))
        } else if object.meta().deletion_timestamp.is_some() {
            Presence::Deleting
        } else {
            Presence::Ours(object)
        }
    }

    /// Whether the object is as it shall be.
    pub(super) async fn look<K: Owned>(&self, seen: &Seen<K>, desired: &K) -> Result<ObjectSeen, Error> {
        let name = desired.name_any();
        let presence = self.find(seen, &name).await?;
        Ok(ObjectSeen { label: label::<K>(&name), presence: self.compare(presence, desired).await? })
    }

    /// True = applying `desired` would change nothing.
    pub(super) async fn compare<K: Owned>(
        &self,
        presence: Presence<K>,
        desired: &K,
    ) -> Result<Presence<bool>, Error> {
        Ok(match presence {
            Presence::Absent => Presence::Absent,
            Presence::Foreign(owner) => Presence::Foreign(owner),
            Presence::Deleting => Presence::Deleting,
            // On the heap: two large objects wait in it, and it is part of most that a reconcile does.
            Presence::Ours(object) => Presence::Ours(Box::pin(self.is_as(&object, desired)).await?),
        })
    }

    /// An object that nobody has changed since it was found to be so needs no question. Else the API server is
    /// asked what applying would make of it (a dry run), because only it knows defaults and other managers.
    /// If it refuses to say, the step that applies is left to find out: a look must not fail for that.
    async fn is_as<K: Owned>(&self, object: &K, desired: &K) -> Result<bool, Error> {
        let label = label::<K>(&object.name_any());
        let now = Applied { content: content_of(desired), version: version_of(object) };
        // Nothing would be done about a difference.
        let idle = self.cluster.spec.paused || self.cluster.metadata.deletion_timestamp.is_some();
        if idle || self.memory.applied(&label).as_ref() == Some(&now) {
            return Ok(true);
        }
        let params = PatchParams::apply(MANAGER).force().dry_run();
        let would_be = match self.api::<K>().patch(&object.name_any(), &params, &Patch::Apply(desired)).await
        {
            Ok(would_be) => would_be,
            Err(kube::Error::Api(_)) => return Ok(false),
            Err(error) => return Err(Error::kube(format!("compare the {label}"))(error)),
        };
        let same = essence_of(&would_be) == essence_of(object);
        if same {
            self.memory.keep_applied(&label, now);
        }
        Ok(same)
    }

    /// Applies what is missing or differs; never over an object that is not ours, or one that is going.
    pub(super) async fn ensure<K: Owned>(&self, seen: &Seen<K>, desired: &K) -> Result<(), Error> {
        match self.look(seen, desired).await?.presence {
            Presence::Ours(true) | Presence::Foreign(_) | Presence::Deleting => Ok(()),
            Presence::Absent | Presence::Ours(false) => self.apply(seen, desired).await.map(|_| ()),
        }
    }

    /// Applies the object by force and waits until the watch has it.
    pub(super) async fn apply<K: Owned>(&self, seen: &Seen<K>, desired: &K) -> Result<K, Error> {
        let name = desired.name_any();
        let label = label::<K>(&name);
        let params = PatchParams::apply(MANAGER).force();
        let applied = self.api::<K>().patch(&name, &params, &Patch::Apply(desired)).await;
        let applied = applied.map_err(Error::kube(format!("apply the {label}")))?;
        let version = version_of(&applied);
        self.memory.keep_applied(&label, Applied { content: content_of(desired), version: version.clone() });
        let there = |object: Option<&K>| object.is_some_and(|object| version_of(object) == version);
        self.until_seen(seen, &name, there).await;
        Ok(applied)
    }

    /// Waits until the watch shows what was just done: the next look must not decide from what was before.
    pub(super) async fn until_seen<K: Owned>(
        &self,
        seen: &Seen<K>,
        name: &str,
        expected: impl Fn(Option<&K>) -> bool,
    ) {
        if !seen.wait_for(&self.owner.namespace, name, SEEN_TIMEOUT, expected).await {
            tracing::warn!(object = label::<K>(name), "the watch is slow to show what was done");
        }
    }
}

/// The object without what each write changes, and without what others report.
fn essence_of<K: Serialize>(object: &K) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "resourceVersion", "generation"] {
            meta.remove(field);
        }
    }
    value
}

/// Hash of an object as it is applied.
fn content_of<K: Serialize>(object: &K) -> String {
    // Objects of Kubernetes can always be written; an empty text would only cause one needless apply.
    blake3::hash(&serde_json::to_vec(object).unwrap_or_default()).to_hex().to_string()
}

/// Who owns an object, for people.
fn owner_of(meta: &ObjectMeta) -> String {
    let references = meta.owner_references.as_deref().unwrap_or_default();
    match references.iter().find(|reference| reference.controller == Some(true)) {
        Some(owner) => format!("{} {}", owner.kind, owner.name),
        None => "nobody".to_owned(),
    }
}
