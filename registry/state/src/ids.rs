//! Names and numbers that identify things.

use std::sync::Arc;

use smol_str::SmolStr;

/// Counter of visible changes: one more per command that changes what readers see (P/R6).
pub type Revision = u64;

/// Random name of a lease, drawn by the proposer (P/L5). Never 0.
pub type LeaseId = u64;

/// Raft id of a member, given out through the log and never used again (P/N2). Never 0.
pub type RaftId = u64;

/// Random name of a history of the cluster, compared for equality only. Never 0.
pub type Epoch = u64;

/// Names a service. Ordered by namespace, then by name, both bytewise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// Namespace, never empty.
    pub namespace: SmolStr,
    /// Name within the namespace.
    pub name: SmolStr,
}

impl ServiceKey {
    /// Makes a key.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: SmolStr::new(namespace), name: SmolStr::new(name) }
    }
}

impl std::fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Names an instance, registered or not. Ordered by service, then by id, bytewise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceKey {
    /// The service.
    pub service: Arc<ServiceKey>,
    /// The id within the service.
    pub instance_id: SmolStr,
}

impl InstanceKey {
    /// Makes a key.
    pub fn new(namespace: &str, service: &str, instance_id: &str) -> Self {
        Self {
            service: Arc::new(ServiceKey::new(namespace, service)),
            instance_id: SmolStr::new(instance_id),
        }
    }
}

impl std::fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.service, self.instance_id)
    }
}
