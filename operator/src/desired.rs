//! All objects of a cluster, as pure functions of its spec and of little else: nothing here asks anybody.
//!
//! They are applied with force by one field manager, but never over an object that the cluster does not own.

pub mod access;
pub mod budget;
pub mod config_map;
pub mod names;
mod pod;
pub mod services;
pub mod settings;
pub mod spec_hash;
pub mod stateful_set;
#[cfg(test)]
mod testing;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;

pub use names::Owner;
pub use settings::settings;
pub use stateful_set::Shape;

use crate::crd::RegistryClusterSpec;

/// What the operator was started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// DNS domain of the Kubernetes cluster, such as `cluster.local`.
    pub cluster_domain: String,
    /// Image for clusters that name none.
    pub node_image: String,
    /// Namespace of the operator: only it may reach the peer port from outside.
    pub operator_namespace: String,
}

/// The objects that are applied whenever they differ. Not among them: the disruption budget, which follows the
/// voters ([`budget::budget`]), and the Secret, which is made once ([`access::admin_token`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Objects {
    /// Account of the pods.
    pub service_account: ServiceAccount,
    /// Configuration of the nodes.
    pub config_map: ConfigMap,
    /// A DNS name for each pod.
    pub peers: Service,
    /// For clients.
    pub clients: Service,
    /// Who may reach the pods; `None`: there must be none.
    pub network_policy: Option<NetworkPolicy>,
    /// The pods.
    pub stateful_set: StatefulSet,
}

/// All objects that follow from the spec.
pub fn objects(owner: &Owner, spec: &RegistryClusterSpec, defaults: &Defaults, shape: &Shape) -> Objects {
    Objects {
        service_account: access::service_account(owner),
        config_map: config_map::config_map(owner, spec, &defaults.cluster_domain),
        peers: services::peers(owner),
        clients: services::clients(owner),
        network_policy: access::network_policy(owner, spec, &defaults.operator_namespace),
        stateful_set: stateful_set::stateful_set(owner, spec, shape),
    }
}

#[cfg(test)]
mod tests;
