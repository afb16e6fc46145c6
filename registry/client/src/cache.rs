//! A view of services, kept up to date by a watch.

use std::sync::Arc;
use std::time::Duration;

use registry_proto::v1::{Instance, Position, RevisionChanges};

use crate::client::Client;
use crate::error::Error;

/// What a [`ServiceCache`] holds. Made by [`CacheOptions::new`].
#[derive(Debug, Clone)]
pub struct CacheOptions {
    service_name: String,
    namespace: String,
    max_age: Duration,
}

impl CacheOptions {
    /// One service of the namespace `default`.
    pub fn new(service_name: impl Into<String>) -> Self {
        // P/V6: a node that is this far behind, or does not know how far, is left for another.
        Self { service_name: service_name.into(), namespace: String::new(), max_age: Duration::from_secs(10) }
    }

    /// Another namespace.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Age of a node's data at which the cache moves to another node. Default: 10 s.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }
}

/// What a cache knows at one revision. Never changes: a new revision makes a new view.
#[derive(Debug, Clone)]
pub struct View {
    instances: Vec<Arc<Instance>>,
    position: Option<Position>,
}

impl View {
    /// The instances, sorted by namespace, service and id.
    pub fn instances(&self) -> &[Arc<Instance>] {
        &self.instances
    }

    /// Where it stands; `None` before the first snapshot.
    pub fn position(&self) -> Option<Position> {
        self.position
    }
}

/// A change of a cache.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CacheEvent {
    /// The view was replaced as a whole: at the start, and where the changes in between cannot be told.
    Reset(Arc<View>),
    /// All changes of one revision. Each revision is told once.
    Changes {
        /// The changes.
        changes: Arc<RevisionChanges>,
        /// The view after them.
        view: Arc<View>,
    },
}

/// The events of a cache from a certain view on. Made by [`ServiceCache::events`].
#[derive(Debug)]
pub struct CacheEvents {}

impl CacheEvents {
    /// The next event; `None` when the cache has ended.
    pub async fn next(&mut self) -> Option<CacheEvent> {
        todo!()
    }
}

/// A view of one service, kept up to date by a watch. Cheap to clone; the watch ends with the last clone.
///
/// It answers from memory, and goes on answering with the last view when the registry is away; its
/// [`age`](Self::age) tells.
#[derive(Debug, Clone)]
pub struct ServiceCache {
    _shared: Arc<()>,
}

impl ServiceCache {
    pub(crate) fn start(client: Client, options: CacheOptions) -> Self {
        let _ = (client, options);
        todo!()
    }

    /// The view at this moment.
    pub fn view(&self) -> Arc<View> {
        todo!()
    }

    /// Upper bound of the age of the view; `None` = not known (never synced, or the node does not know).
    pub fn age(&self) -> Option<Duration> {
        todo!()
    }

    /// True once a snapshot is there.
    pub fn is_synced(&self) -> bool {
        todo!()
    }

    /// True while a watch stream is open.
    pub fn is_connected(&self) -> bool {
        todo!()
    }

    /// Waits until a snapshot is there.
    ///
    /// # Errors
    /// If the watch ended for good; the error says why.
    pub async fn synced(&self) -> Result<Arc<View>, Error> {
        todo!()
    }

    /// Waits for the next view after the one that [`view`](Self::view) gives now.
    ///
    /// # Errors
    /// If the watch ended for good.
    pub async fn changed(&self) -> Result<Arc<View>, Error> {
        todo!()
    }

    /// Waits until the view shows `position`, of a write's answer: reads your own writes.
    ///
    /// # Errors
    /// If it does not within `timeout`, or `position` is of another epoch.
    pub async fn at_least(&self, position: Position, timeout: Duration) -> Result<Arc<View>, Error> {
        let _ = (position, timeout);
        todo!()
    }

    /// Its events, beginning with [`CacheEvent::Reset`] of the view now.
    pub fn events(&self) -> CacheEvents {
        todo!()
    }

    /// An instance to send a request to: UP, not kept by the mass-expiry guard alone unless there is no
    /// other, in the client's zone if there is one, drawn by weight. `None` if nobody is UP.
    pub fn pick(&self) -> Option<Arc<Instance>> {
        todo!()
    }
}
