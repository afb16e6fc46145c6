//! What the API server told, kept in memory: one watch per kind, so that a reconcile at rest asks nothing.
//!
//! Each watch has a back-off of its own and is reported to [`Health`]: a watch that fails, for want of a right
//! or of the CRD, neither holds up the others nor goes unnoticed.

use std::fmt::Debug;
use std::future::ready;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Node, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::crd::CLUSTER_LABEL;
use crate::crd::RegistryCluster;
use crate::health::Health;
use crate::metrics::Metrics;

/// A cluster that may not be readable: one bad object must not wedge the watch of all.
pub type Guarded = DeserializeGuard<RegistryCluster>;

/// Which namespaces are looked after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// This one.
    Namespace(String),
}

impl Scope {
    /// The API of a kind within it.
    pub fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match self {
            Self::All => Api::all(client.clone()),
            Self::Namespace(name) => Api::namespaced(client.clone(), name),
        }
    }

    fn describe(&self, kind: &str) -> String {
        match self {
            Self::All => kind.to_owned(),
            Self::Namespace(name) => format!("{kind} in {name}"),
        }
    }
}

/// Objects of one kind, as they were last seen.
#[derive(Debug, Clone)]
pub struct Seen<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: Store<K>,
}

impl<K> Seen<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    /// The object of this name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.store.get(&ObjectRef::new(name).within(namespace))
    }

    /// Objects in the namespace that fit.
    pub fn filter(&self, namespace: &str, fits: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.store
            .state_filter(|object| object.meta().namespace.as_deref() == Some(namespace) && fits(object))
    }

    /// Waits until the object is as `expected` says; false if that takes longer than `limit`. What was just
    /// written must be seen before the next decision.
    pub async fn wait_for(
        &self,
        namespace: &str,
        name: &str,
        limit: Duration,
        expected: impl Fn(Option<&K>) -> bool,
    ) -> bool {
        /// Watches deliver within a few milliseconds.
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        let deadline = Instant::now() + limit;
        loop {
            if expected(self.get(namespace, name).as_deref()) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// All that is watched in one scope. A clone is the same.
#[derive(Debug, Clone)]
pub struct Stores {
    /// StatefulSets that carry our label.
    pub sets: Seen<StatefulSet>,
    /// Pods that carry our label.
    pub pods: Seen<Pod>,
    /// Claims that carry our label.
    pub claims: Seen<PersistentVolumeClaim>,
    /// Services that carry our label.
    pub services: Seen<Service>,
    /// Config maps that carry our label.
    pub config_maps: Seen<ConfigMap>,
    /// Service accounts that carry our label.
    pub accounts: Seen<ServiceAccount>,
    /// Network policies that carry our label.
    pub policies: Seen<NetworkPolicy>,
    /// All disruption budgets: a foreign one over our pods makes evictions fail.
    pub budgets: Seen<PodDisruptionBudget>,
    /// The machines, if the operator may read them.
    pub nodes: Option<Store<Node>>,
}

/// The watches behind [`Stores`]. They run while the controller polls them.
pub struct Watches {
    /// Clusters that were touched, and where they are kept.
    pub clusters: (Store<Guarded>, BoxStream<'static, Result<Guarded, watcher::Error>>),
    /// Clusters whose objects were touched.
    pub touched: BoxStream<'static, ObjectRef<Guarded>>,
}

/// Whom the watches tell.
#[derive(Debug, Clone)]
pub struct Reporting {
    /// Readiness.
    pub health: Health,
    /// Counts.
    pub metrics: Metrics,
}

impl Stores {
    /// Begins to watch; `with_nodes` if the operator may read machines.
    pub fn open(client: &Client, scope: &Scope, with_nodes: bool, to: &Reporting) -> (Self, Watches) {
        let ours = || watcher::Config::default().labels(CLUSTER_LABEL);
        let all = watcher::Config::default;
        let (clusters, cluster_stream) = watch(scope.api(client), all(), scope.describe("clusters"), to);
        let mut touched: Vec<BoxStream<'static, ObjectRef<Guarded>>> = Vec::new();
        macro_rules! watched {
            ($kind:literal, $config:expr) => {{
                let (store, stream) = watch(scope.api(client), $config, scope.describe($kind), to);
                touched.push(stream.filter_map(|object| ready(cluster_of(&object))).boxed());
                Seen { store }
            }};
        }
        let mut stores = Self {
            sets: watched!("StatefulSets", ours()),
            pods: watched!("pods", ours()),
            claims: watched!("claims", ours()),
            services: watched!("Services", ours()),
            config_maps: watched!("ConfigMaps", ours()),
            accounts: watched!("ServiceAccounts", ours()),
            policies: watched!("NetworkPolicies", ours()),
            budgets: watched!("PodDisruptionBudgets", all()),
            nodes: None,
        };
        if with_nodes {
            let (store, stream) = watch(Api::all(client.clone()), all(), "nodes".to_owned(), to);
            // A machine belongs to no cluster: its pods tell of its failure too.
            touched.push(stream.filter_map(|_| ready(None)).boxed());
            stores.nodes = Some(store);
        }
        let cluster_stream = cluster_stream.map(Ok).boxed();
        let touched = futures::stream::select_all(touched).boxed();
        (stores, Watches { clusters: (clusters, cluster_stream), touched })
    }

    /// Waits until every first list is there; false after `limit`.
    pub async fn synced(&self, limit: Duration) -> bool {
        let lists = async {
            let _ = tokio::join!(
                self.sets.store.wait_until_ready(),
                self.pods.store.wait_until_ready(),
                self.claims.store.wait_until_ready(),
                self.services.store.wait_until_ready(),
                self.config_maps.store.wait_until_ready(),
                self.accounts.store.wait_until_ready(),
                self.policies.store.wait_until_ready(),
                self.budgets.store.wait_until_ready(),
            );
            if let Some(nodes) = &self.nodes {
                let _ = nodes.wait_until_ready().await;
            }
        };
        tokio::time::timeout(limit, lists).await.is_ok()
    }
}

/// The cluster that an object belongs to, by its label.
fn cluster_of<K: Resource>(object: &K) -> Option<ObjectRef<Guarded>> {
    let name = object.meta().labels.as_ref()?.get(CLUSTER_LABEL)?;
    Some(ObjectRef::new(name).within(object.meta().namespace.as_deref()?))
}

/// Keeps the objects of one kind and tells which were touched. Failures are reported and tried again.
fn watch<K>(
    api: Api<K>,
    config: watcher::Config,
    name: String,
    to: &Reporting,
) -> (Store<K>, impl Stream<Item = K> + Send + use<K>)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + Send + Sync,
{
    let (reader, writer) = store();
    let to = to.clone();
    to.health.watch_started(&name);
    let stream = watcher(api, config)
        .default_backoff()
        .modify(|object: &mut K| {
            // Half of each object, and nothing looks at it.
            object.managed_fields_mut().clear();
        })
        .reflect(writer)
        .inspect(move |event| report(&to, &name, event))
        .touched_objects()
        .filter_map(|object| ready(object.ok()));
    (reader, stream)
}

fn report<K>(to: &Reporting, name: &str, event: &watcher::Result<watcher::Event<K>>) {
    match event {
        // A new list has begun; whether it succeeds is open.
        Ok(watcher::Event::Init) => {}
        Ok(event) => to.health.watch_delivered(name, matches!(event, watcher::Event::InitDone)),
        Err(error) if is_expired(error) => tracing::debug!(watch = name, "the watch begins anew"),
        Err(error) => {
            tracing::warn!(watch = name, %error, "a watch failed; trying again");
            to.health.watch_failed(name, &error.to_string(), Instant::now());
            to.metrics.watch_failed(name);
        }
    }
}

/// 410 Gone: the API server has forgotten where the watch was. It happens in the best of days.
fn is_expired(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchError(status) => status.code == 410,
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 410,
        _ => false,
    }
}
