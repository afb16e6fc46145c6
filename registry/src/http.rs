//! Plain HTTP for probes and Prometheus: `/livez`, `/readyz` (P/N11) and `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use registry_client::transport::ByteStream;
use tokio::time::{Instant, sleep};

use crate::environment::Listener;

#[cfg(test)]
mod http_test;

/// What the endpoints tell.
pub trait Health: Send + Sync + 'static {
    /// `Ok` if the node should get traffic, else why not.
    ///
    /// # Errors
    /// The reason, for people.
    fn readiness(&self) -> Result<(), String>;
    /// The text for Prometheus.
    fn metrics(&self) -> String;
}

/// Serves until it is dropped.
pub async fn serve(listener: Box<dyn Listener>, health: Arc<dyn Health>) {
    let routes = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health);
    // Never ends by itself: failures to accept are retried below.
    if let Err(error) = axum::serve(Accept(listener), routes).await {
        tracing::error!(%error, "the HTTP port is closed");
    }
}

async fn readyz(State(health): State<Arc<dyn Health>>) -> impl IntoResponse {
    match health.readiness() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics(State(health): State<Arc<dyn Health>>) -> impl IntoResponse {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, TYPE)], health.metrics())
}

struct Accept(Box<dyn Listener>);

impl axum::serve::Listener for Accept {
    type Io = Box<dyn ByteStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let begun = Instant::now();
        loop {
            match self.0.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::debug!(%error, waited = ?begun.elapsed(), "cannot accept on the HTTP port");
                    // Out of descriptors, mostly: give calls under way time to end.
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_address()
    }
}
