//! A view of a service, kept up to date by a watch.

mod view;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use registry_proto::v1::{Consistency, Position, RevisionChanges, WatchRequest};
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, timeout};

use crate::client::Client;
use crate::error::Error;
use crate::watch::{MAX_AGE, Watch, WatchEvent};

pub use view::View;

/// Events that a slow reader of a cache may be behind before it is given the whole view instead.
const MAX_EVENTS_BEHIND: usize = 1024;

/// What a [`ServiceCache`] holds. Made by [`CacheOptions::new`].
#[derive(Debug, Clone)]
pub struct CacheOptions {
    service_name: String,
    namespace: String,
    max_age: Duration,
    bookmark_interval: Duration,
}

impl CacheOptions {
    /// One service of the namespace `default`.
    pub fn new(service_name: impl Into<String>) -> Self {
        Self {
            service_name: service_name.into(),
            namespace: String::new(),
            max_age: MAX_AGE,
            bookmark_interval: Duration::from_secs(5),
        }
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

    /// Time between two words of a node that nothing changed, 1 s to 5 min. Default: 5 s. The view's
    /// [`age`](ServiceCache::age) grows between them.
    pub fn bookmark_interval(mut self, interval: Duration) -> Self {
        self.bookmark_interval = interval;
        self
    }
}

/// A change of a cache.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CacheEvent {
    /// The view was replaced as a whole: at the start, and where the changes in between cannot be told
    /// (the history is gone, the epoch changed, or this reader was more than 1,024 revisions behind).
    Reset(Arc<View>),
    /// All changes of one revision. Each revision is told once.
    Changes {
        /// The changes.
        changes: Arc<RevisionChanges>,
        /// The view after them.
        view: Arc<View>,
    },
}

/// How fresh the view is, and whether more will come.
#[derive(Debug, Clone)]
struct Health {
    /// When the node last told the age of its data, and that age.
    told: Option<(Instant, Option<Duration>)>,
    connected: bool,
    /// The watch has ended for good.
    ended: Option<Error>,
}

struct Shared {
    view: ArcSwap<View>,
    /// Raised with every view and every change of health; holds the number of views.
    version: watch::Sender<u64>,
    health: Mutex<Health>,
    events: broadcast::Sender<CacheEvent>,
    zone: Option<String>,
    /// Held while view and event change together.
    publishing: Mutex<()>,
}

impl Shared {
    fn health(&self) -> MutexGuard<'_, Health> {
        // Only fields are read and set under the lock.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publishing(&self) -> MutexGuard<'_, ()> {
        self.publishing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new view, and the event that tells it; `None` = it shows the same instances.
    fn publish(&self, view: View, event: impl FnOnce(Arc<View>) -> Option<CacheEvent>) {
        let view = Arc::new(view);
        let _together = self.publishing();
        self.view.store(view.clone());
        if let Some(event) = event(view) {
            // Without readers there is nobody to tell.
            let _ = self.events.send(event);
        }
        self.version.send_modify(|version| *version += 1);
    }
}

struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A view of one service, kept up to date by a watch. Cheap to clone; the watch ends with the last clone.
///
/// It answers from memory, and goes on answering with the last view when the registry is away; its
/// [`age`](Self::age) tells.
#[derive(Clone)]
pub struct ServiceCache {
    shared: Arc<Shared>,
    _task: Arc<Task>,
}

impl fmt::Debug for ServiceCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let view = self.view();
        f.debug_struct("ServiceCache")
            .field("instances", &view.len())
            .field("position", &view.position())
            .field("connected", &self.is_connected())
            .finish()
    }
}

impl ServiceCache {
    pub(crate) fn start(client: Client, options: CacheOptions) -> Self {
        let shared = Arc::new(Shared {
            view: ArcSwap::default(),
            version: watch::channel(0).0,
            health: Mutex::new(Health { told: None, connected: false, ended: None }),
            events: broadcast::channel(MAX_EVENTS_BEHIND).0,
            zone: client.core.zone.clone(),
            publishing: Mutex::default(),
        });
        let request = WatchRequest {
            service_name: options.service_name,
            namespace: options.namespace,
            // Without a leader an old view, which tells its age, is better than none.
            consistency: Consistency::LinearizableOrStale.into(),
            bookmark_interval: options.bookmark_interval.try_into().ok(),
            ..Default::default()
        };
        let watch = Watch::new(client, request, options.max_age);
        let task = tokio::spawn(follow(watch, shared.clone())).abort_handle();
        Self { shared, _task: Arc::new(Task(task)) }
    }

    /// The view at this moment. Empty, without position, before the first snapshot.
    pub fn view(&self) -> Arc<View> {
        self.shared.view.load_full()
    }

    /// Upper bound of the age of the view; `None` = not known (never synced, or the node does not know).
    pub fn age(&self) -> Option<Duration> {
        let (told_at, age) = self.shared.health().told?;
        Some(told_at.elapsed() + age?)
    }

    /// True once a snapshot is there.
    pub fn is_synced(&self) -> bool {
        self.view().position().is_some()
    }

    /// True while a watch stream is open.
    pub fn is_connected(&self) -> bool {
        self.shared.health().connected
    }

    /// Why the watch ended for good, if it did.
    pub fn error(&self) -> Option<Error> {
        self.shared.health().ended.clone()
    }

    /// Waits until a snapshot is there. There is no time limit: the registry may be away.
    ///
    /// # Errors
    /// If the watch ended for good; the error says why.
    pub async fn synced(&self) -> Result<Arc<View>, Error> {
        self.until(|view| view.position().is_some()).await
    }

    /// Waits for the next view after the one that [`view`](Self::view) gives when this is called. To
    /// miss nothing in between, read [`events`](Self::events).
    ///
    /// # Errors
    /// If the watch ended for good.
    pub async fn changed(&self) -> Result<Arc<View>, Error> {
        let now = self.view();
        self.until(move |view| !view.shows_same(&now)).await
    }

    /// Waits until the view shows `position`, of a write's answer: reads your own writes.
    ///
    /// A change of this service shows at once; a position that does not concern it shows with the next
    /// bookmark.
    ///
    /// # Errors
    /// If it does not within `timeout`, or the watch ended for good.
    pub async fn at_least(&self, position: Position, limit: Duration) -> Result<Arc<View>, Error> {
        let reached = |view: &View| {
            view.position().is_some_and(|at| at.epoch == position.epoch && at.revision >= position.revision)
        };
        timeout(limit, self.until(reached)).await.unwrap_or_else(|_| Err(Error::no_answer(limit)))
    }

    async fn until(&self, reached: impl Fn(&View) -> bool) -> Result<Arc<View>, Error> {
        let mut version = self.shared.version.subscribe();
        loop {
            version.borrow_and_update();
            let view = self.view();
            if reached(&view) {
                return Ok(view);
            }
            if let Some(error) = self.error() {
                return Err(error);
            }
            if version.changed().await.is_err() {
                return Err(Error::usage("the cache has ended"));
            }
        }
    }

    /// Its events, beginning with [`CacheEvent::Reset`] of the view now, or of the first one.
    pub fn events(&self) -> CacheEvents {
        let _together = self.shared.publishing();
        let receiver = self.shared.events.subscribe();
        let view = self.view();
        let first = view.position().is_some().then_some(CacheEvent::Reset(view));
        CacheEvents { cache: self.clone(), receiver, first }
    }

    /// An instance to send a request to; see [`View::pick`]. The zone is the client's.
    pub fn pick(&self) -> Option<Arc<registry_proto::v1::Instance>> {
        self.view().pick(self.shared.zone.as_deref())
    }
}

/// The events of a cache from a certain view on. Made by [`ServiceCache::events`].
#[derive(Debug)]
pub struct CacheEvents {
    cache: ServiceCache,
    receiver: broadcast::Receiver<CacheEvent>,
    first: Option<CacheEvent>,
}

impl CacheEvents {
    /// The next event; `None` when the watch has ended for good. Cancel-safe.
    pub async fn next(&mut self) -> Option<CacheEvent> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let mut version = self.cache.shared.version.subscribe();
        loop {
            version.borrow_and_update();
            match self.receiver.try_recv() {
                Ok(event) => return Some(event),
                Err(broadcast::error::TryRecvError::Lagged(_)) => {
                    // What was missed cannot be told any more: begin anew from the view now.
                    let events = self.cache.events();
                    self.receiver = events.receiver;
                    if events.first.is_some() {
                        return events.first;
                    }
                }
                Err(broadcast::error::TryRecvError::Closed) => return None,
                Err(broadcast::error::TryRecvError::Empty) => {
                    if self.cache.error().is_some() {
                        return None;
                    }
                    version.changed().await.ok()?;
                }
            }
        }
    }
}

async fn follow(mut watch: Watch, shared: Arc<Shared>) {
    loop {
        match watch.next().await {
            Ok(event) => {
                apply(&shared, event);
                // One message holds thousands of revisions after a pause: without this, a reader that only
                // waits for its turn on this thread would fall out of its 1,024 events.
                consume_budget().await;
            }
            Err(error) => {
                tracing::warn!(%error, "the watch of a cache ended for good");
                let mut health = shared.health();
                health.connected = false;
                health.ended = Some(error);
                drop(health);
                shared.version.send_modify(|version| *version += 1);
                return;
            }
        }
    }
}

fn apply(shared: &Shared, event: WatchEvent) {
    match event {
        WatchEvent::Connected { .. } => shared.health().connected = true,
        WatchEvent::Disconnected { .. } => shared.health().connected = false,
        WatchEvent::Snapshot { instances, position, staleness } => {
            shared.health().told = Some((Instant::now(), staleness));
            shared.publish(View::new(instances, position), |view| Some(CacheEvent::Reset(view)));
        }
        WatchEvent::Changes { changes, position } => {
            let view = shared.view.load().after(&changes.events, position);
            shared.publish(view, |view| Some(CacheEvent::Changes { changes: Arc::new(changes), view }));
        }
        WatchEvent::Bookmark { position, staleness } => {
            shared.health().told = Some((Instant::now(), staleness));
            shared.publish(shared.view.load().at(position), |_| None);
        }
        WatchEvent::Resumed { position, staleness } => {
            shared.health().told = Some((Instant::now(), staleness));
            shared.publish(shared.view.load().at(position), |_| None);
        }
        // A snapshot follows; until then the old view serves.
        WatchEvent::Compacted { .. } | WatchEvent::EpochChanged => {}
    }
}
