//! The name of an instance, as requests and answers give it.

use std::fmt;

use registry_proto::v1;

/// Names an instance in the whole cluster. Sorted as lists are: by namespace, service and id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Namespace, never empty.
    pub namespace: String,
    /// Service.
    pub service: String,
    /// Id within the service.
    pub instance_id: String,
}

impl Key {
    /// Of an instance in an answer.
    pub fn of(instance: &v1::Instance) -> Self {
        Self {
            namespace: instance.namespace.clone(),
            service: instance.service_name.clone(),
            instance_id: instance.instance_id.clone(),
        }
    }

    /// Of the fields that name an instance in every request: an id, or the address that stands for one.
    pub fn named(namespace: &str, service: &str, instance_id: &str, host: &str, port: u32) -> Self {
        let instance_id = if !instance_id.is_empty() {
            instance_id.to_owned()
        } else if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        Self { namespace: namespace_of(namespace).to_owned(), service: service.to_owned(), instance_id }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.service, self.instance_id)
    }
}

/// The namespace that a request means.
pub fn namespace_of(given: &str) -> &str {
    if given.is_empty() { "default" } else { given }
}
