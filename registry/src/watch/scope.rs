//! What a watch covers, and who covers an instance.

use std::collections::HashMap;
use std::sync::Arc;

use crate::server::convert::Scope;

/// True if a service is covered.
pub fn covers(scope: &Scope, namespace: &str, service: &str) -> bool {
    match scope {
        Scope::All => true,
        Scope::Namespace(own) => own == namespace,
        Scope::Service { namespace: own, service_name } => own == namespace && service_name == service,
    }
}

/// Watches by number.
pub type Watches<W> = HashMap<u64, Arc<W>>;

/// Finds the watches that cover a service without looking at the others.
#[derive(Debug)]
pub struct Index<W> {
    next: u64,
    len: usize,
    all: Watches<W>,
    namespaces: HashMap<String, Watches<W>>,
    /// By namespace, then by service: looked up without building a key.
    services: HashMap<String, HashMap<String, Watches<W>>>,
}

impl<W> Default for Index<W> {
    fn default() -> Self {
        Self { next: 0, len: 0, all: HashMap::new(), namespaces: HashMap::new(), services: HashMap::new() }
    }
}

impl<W> Index<W> {
    /// Number of watches.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if nobody watches.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True if nobody watches anything smaller than everything.
    pub fn only_all(&self) -> bool {
        self.namespaces.is_empty() && self.services.is_empty()
    }

    /// Adds a watch and returns its number.
    pub fn insert(&mut self, scope: &Scope, watch: Arc<W>) -> u64 {
        let id = self.next;
        self.next += 1;
        self.len += 1;
        let watches = match scope {
            Scope::All => &mut self.all,
            Scope::Namespace(namespace) => self.namespaces.entry(namespace.clone()).or_default(),
            Scope::Service { namespace, service_name } => {
                let services = self.services.entry(namespace.clone()).or_default();
                services.entry(service_name.clone()).or_default()
            }
        };
        watches.insert(id, watch);
        id
    }

    /// Removes a watch.
    pub fn remove(&mut self, scope: &Scope, id: u64) {
        let removed = match scope {
            Scope::All => self.all.remove(&id),
            Scope::Namespace(namespace) => {
                let Some(watches) = self.namespaces.get_mut(namespace) else { return };
                let removed = watches.remove(&id);
                if watches.is_empty() {
                    self.namespaces.remove(namespace);
                }
                removed
            }
            Scope::Service { namespace, service_name } => {
                let Some(services) = self.services.get_mut(namespace) else { return };
                let Some(watches) = services.get_mut(service_name) else { return };
                let removed = watches.remove(&id);
                if watches.is_empty() {
                    services.remove(service_name);
                }
                if services.is_empty() {
                    self.services.remove(namespace);
                }
                removed
            }
        };
        self.len -= usize::from(removed.is_some());
    }

    /// Watches of everything.
    pub fn all(&self) -> &Watches<W> {
        &self.all
    }

    /// Watches of a namespace.
    pub fn namespace(&self, namespace: &str) -> Option<&Watches<W>> {
        self.namespaces.get(namespace)
    }

    /// Watches of a service.
    pub fn service(&self, namespace: &str, service: &str) -> Option<&Watches<W>> {
        self.services.get(namespace)?.get(service)
    }

    /// Watches that cover a service, of every scope.
    pub fn covering(&self, namespace: &str, service: &str) -> impl Iterator<Item = (u64, &Arc<W>)> {
        [Some(&self.all), self.namespace(namespace), self.service(namespace, service)]
            .into_iter()
            .flatten()
            .flatten()
            .map(|(id, watch)| (*id, watch))
    }

    /// Every watch.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<W>> {
        let services = self.services.values().flat_map(HashMap::values);
        std::iter::once(&self.all).chain(self.namespaces.values()).chain(services).flat_map(HashMap::values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(namespace: &str, service: &str) -> Scope {
        Scope::Service { namespace: namespace.into(), service_name: service.into() }
    }

    #[test]
    fn a_service_is_covered_by_its_own_watches_those_of_its_namespace_and_those_of_everything() {
        let scopes = [
            Scope::All,
            Scope::Namespace("a".into()),
            Scope::Namespace("b".into()),
            service("a", "x"),
            service("a", "y"),
            service("b", "x"),
        ];
        let mut index = Index::default();
        let ids: Vec<u64> = scopes.iter().map(|scope| index.insert(scope, Arc::new(scope.clone()))).collect();
        for (namespace, name) in [("a", "x"), ("a", "z"), ("b", "x"), ("c", "x")] {
            let mut found: Vec<u64> = index.covering(namespace, name).map(|(id, _)| id).collect();
            found.sort_unstable();
            let expected: Vec<u64> =
                (0..6).filter(|i| covers(&scopes[usize::try_from(*i).unwrap()], namespace, name)).collect();
            assert_eq!(found, expected, "{namespace}/{name}");
        }
        assert_eq!((index.len(), index.iter().count()), (6, 6));
        for (scope, id) in scopes.iter().zip(ids) {
            index.remove(scope, id);
            index.remove(scope, id);
        }
        assert!(index.is_empty() && index.only_all());
    }
}
