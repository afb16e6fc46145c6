//! The cluster that a reconcile is about, and what is needed to speak of it.

use std::sync::Arc;

use kube::core::NamespaceResourceScope;
use kube::{Api, Resource};

use crate::context::{ClusterMemory, Context};
use crate::crd::{RegistryCluster, RegistryClusterStatus};
use crate::desired::Owner;
use crate::error::Error;

/// A cluster with its surroundings.
pub(super) struct Subject<'a> {
    /// The object.
    pub cluster: &'a RegistryCluster,
    /// The world.
    pub context: &'a Context,
    /// As owner of its objects.
    pub owner: Owner,
    /// What is remembered of it.
    pub memory: Arc<ClusterMemory>,
    /// Its status: as it was seen, or as we wrote it since.
    pub status: RegistryClusterStatus,
}

impl<'a> Subject<'a> {
    pub(super) fn new(cluster: &'a RegistryCluster, context: &'a Context) -> Result<Self, Error> {
        let owner = Owner::of(cluster).ok_or_else(|| {
            Error::BrokenObject("the RegistryCluster has no name, namespace or UID".to_owned())
        })?;
        let memory = context.memory.of(cluster);
        let seen = cluster.status.clone().unwrap_or_default();
        let version = cluster.metadata.resource_version.as_deref().unwrap_or_default();
        let status = memory.status_written_over(version).unwrap_or(seen);
        Ok(Self { cluster, context, owner, memory, status })
    }

    /// The API of a kind in the cluster's namespace.
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.context.client.clone(), &self.owner.namespace)
    }
}
