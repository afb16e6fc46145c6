//! Whether the operator lives and works: `/livez`, `/readyz` and `/metrics`.
//!
//! Live = the process answers. Ready = the custom resource is known to the API server and no watch is stuck:
//! an operator that no longer sees its objects looks healthy from outside otherwise. Ready does not claim that
//! any cluster is well; that is in the conditions of its object.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// Errors of a watch that are closer together than this belong to one failure: the longest wait of the
/// default back-off (30 s), its jitter, and the time that a try takes.
const SAME_FAILURE: Duration = Duration::from_secs(75);

/// A failure that lasts longer makes the operator unready. A restart of the API server is shorter.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// What is known about the operator's own state. A clone is the same.
#[derive(Debug, Clone, Default)]
pub struct Health {
    state: Arc<Mutex<Checks>>,
}

#[derive(Debug, Default)]
struct Checks {
    crd: Option<bool>,
    watches: BTreeMap<String, Watch>,
}

#[derive(Debug, Default)]
struct Watch {
    synced: bool,
    failure: Option<Failure>,
}

#[derive(Debug, Clone)]
struct Failure {
    first: Instant,
    last: Instant,
    error: String,
}

impl Health {
    /// Whether the API server knows the custom resource.
    pub fn crd_found(&self, found: bool) {
        self.with(|checks| checks.crd = Some(found));
    }

    /// A watch begins; it is not synced yet. `name` says what is watched and where.
    pub fn watch_started(&self, name: &str) {
        self.with(|checks| {
            checks.watches.insert(name.to_owned(), Watch::default());
        });
    }

    /// A watch delivered something.
    pub fn watch_delivered(&self, name: &str, synced: bool) {
        self.with(|checks| {
            if let Some(watch) = checks.watches.get_mut(name) {
                watch.synced |= synced;
                watch.failure = None;
            }
        });
    }

    /// A watch failed and will be tried again.
    pub fn watch_failed(&self, name: &str, error: &str, now: Instant) {
        self.with(|checks| {
            if let Some(watch) = checks.watches.get_mut(name) {
                let first = watch.failure.as_ref().filter(|old| now.duration_since(old.last) < SAME_FAILURE);
                let first = first.map_or(now, |old| old.first);
                watch.failure = Some(Failure { first, last: now, error: error.to_owned() });
            }
        });
    }

    /// `Ok` if the operator can do its work.
    ///
    /// # Errors
    /// Why it cannot, for people.
    pub fn readiness(&self, now: Instant) -> Result<(), String> {
        self.with(|checks| {
            match checks.crd {
                None => return Err("the API server has not answered yet".to_owned()),
                Some(false) => {
                    return Err("the CustomResourceDefinition registryclusters.registry.dev is missing: \
                                install the CRDs"
                        .to_owned());
                }
                Some(true) => {}
            }
            checks.watches.iter().try_for_each(|(name, watch)| watch.readiness(name, now))
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Checks) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Watch {
    fn readiness(&self, name: &str, now: Instant) -> Result<(), String> {
        if let Some(failure) = &self.failure {
            let stuck = failure.last.duration_since(failure.first) >= STUCK_AFTER;
            // No error since, and nothing to deliver: the watch stands again.
            let over = now.duration_since(failure.last) >= SAME_FAILURE;
            if stuck && !over {
                return Err(format!("the watch of {name} is stuck: {}", failure.error));
            }
        }
        if self.synced { Ok(()) } else { Err(format!("the first list of {name} is not there yet")) }
    }
}

#[derive(Clone)]
struct Served {
    health: Health,
    metrics: Metrics,
}

/// Binds the port.
///
/// # Errors
/// The address cannot be bound.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, health: Health, metrics: Metrics) {
    let routes = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(text))
        .with_state(Served { health, metrics });
    // Never ends by itself: axum tries again when a connection cannot be accepted.
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!(%error, "the HTTP port is closed");
    }
}

async fn readyz(State(served): State<Served>) -> impl IntoResponse {
    match served.health.readiness(Instant::now()) {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn text(State(served): State<Served>) -> impl IntoResponse {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, TYPE)], served.metrics.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PODS: &str = "pods in all namespaces";

    fn watching() -> Health {
        let health = Health::default();
        health.crd_found(true);
        health.watch_started(PODS);
        health
    }

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn it_is_ready_once_the_crd_is_there_and_every_watch_has_delivered_its_first_list() {
        let now = Instant::now();
        let health = Health::default();
        assert!(health.readiness(now).unwrap_err().contains("not answered"));
        health.crd_found(false);
        assert!(health.readiness(now).unwrap_err().contains("install the CRDs"));
        let health = watching();
        assert!(health.readiness(now).unwrap_err().contains("first list of pods"));
        health.watch_delivered(PODS, true);
        assert_eq!(health.readiness(now), Ok(()));
    }

    #[test]
    fn a_watch_that_fails_for_a_minute_makes_it_unready_and_one_delivery_mends_it() {
        let start = Instant::now();
        let health = watching();
        health.watch_delivered(PODS, true);
        for second in [0, 30, 59] {
            health.watch_failed(PODS, "403 Forbidden", start + seconds(second));
            assert_eq!(health.readiness(start + seconds(second)), Ok(()), "after {second} s");
        }
        health.watch_failed(PODS, "403 Forbidden", start + seconds(61));
        assert!(health.readiness(start + seconds(61)).unwrap_err().contains("403 Forbidden"));
        health.watch_delivered(PODS, false);
        assert_eq!(health.readiness(start + seconds(62)), Ok(()));
    }

    #[test]
    fn a_watch_that_stands_again_without_news_is_well_after_a_while() {
        let start = Instant::now();
        let health = watching();
        health.watch_delivered(PODS, true);
        health.watch_failed(PODS, "connection refused", start);
        health.watch_failed(PODS, "connection refused", start + seconds(65));
        assert!(health.readiness(start + seconds(66)).is_err());
        assert_eq!(health.readiness(start + seconds(141)), Ok(()));
        // The next failure is another one.
        health.watch_failed(PODS, "connection refused", start + seconds(150));
        assert_eq!(health.readiness(start + seconds(150)), Ok(()));
    }

    #[tokio::test]
    async fn the_port_tells_life_readiness_and_numbers() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let health = Health::default();
        let server = tokio::spawn(serve(listener, health.clone(), Metrics::default()));
        assert!(got(address, "/livez").await.starts_with("HTTP/1.1 200"));
        assert!(got(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        assert!(got(address, "/metrics").await.contains("registry_operator_crd_missing"));
        health.crd_found(true);
        assert!(got(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        server.abort();
    }

    async fn got(address: SocketAddr, path: &str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}
