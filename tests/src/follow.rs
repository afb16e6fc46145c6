//! Events of a service as one node's watch tells them, with the time at which they came.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use registry_proto::v1::{self, EventCause, EventKind, WatchKind};
use tokio::task::JoinHandle;

use crate::api::Api;
use crate::wait;

/// An event and when it came.
#[derive(Debug, Clone)]
pub struct Told {
    /// When it came.
    pub at: Instant,
    /// What happened.
    pub kind: EventKind,
    /// Why.
    pub cause: EventCause,
    /// The instance.
    pub instance: v1::Instance,
}

/// Follows one service at one node until dropped or until the node ends.
#[derive(Debug)]
pub struct Follower {
    told: Arc<Mutex<Vec<Told>>>,
    task: JoinHandle<()>,
}

impl Follower {
    /// Watches; returns once the view is complete.
    pub async fn start(api: Api, service: &str) -> Self {
        let request = v1::WatchRequest { service_name: service.into(), ..Default::default() };
        let mut stream = wait::until("a watch", wait::PATIENCE, || api.watch(request.clone())).await;
        while stream.message().await.expect("the watch begins").expect("a message").kind()
            != WatchKind::Synced
        {}
        let told = Arc::new(Mutex::new(Vec::new()));
        let into = told.clone();
        let task = tokio::spawn(async move {
            // It ends with its node.
            while let Ok(Some(message)) = stream.message().await {
                let at = Instant::now();
                let events = message.changes.into_iter().flat_map(|revision| revision.events);
                let events = events.map(|event| Told {
                    at,
                    kind: event.kind(),
                    cause: event.cause(),
                    instance: event.instance.unwrap_or_default(),
                });
                into.lock().expect("no panic inside").extend(events);
            }
        });
        Self { told, task }
    }

    /// What came so far.
    pub fn told(&self) -> Vec<Told> {
        self.told.lock().expect("no panic inside").clone()
    }

    /// Events of this cause so far.
    pub fn of(&self, cause: EventCause) -> Vec<Told> {
        self.told().into_iter().filter(|told| told.cause == cause).collect()
    }

    /// Removals so far.
    pub fn removed(&self) -> Vec<Told> {
        self.told().into_iter().filter(|told| told.kind == EventKind::Removed).collect()
    }

    /// Waits for so many events of a cause and returns when the last of them came.
    pub async fn until(&self, cause: EventCause, count: usize, limit: Duration) -> Instant {
        wait::until(&format!("{count} events {}", cause.as_str_name()), limit, || async {
            let found = self.of(cause);
            match found.get(count.wrapping_sub(1)) {
                Some(last) => Ok(last.at),
                None => Err(format!("{} so far", found.len())),
            }
        })
        .await
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}
