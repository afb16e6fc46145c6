//! Keeps one node connected.

use std::sync::{Arc, Weak};
use std::time::Duration;

use registry_proto::v1::ClusterStatusRequest;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::{Node, Shared, Standing, reconcile};
use crate::backoff::Backoff;
use crate::metrics::count;
use crate::rpc::Unary;
use crate::transport::Connection;

/// Waits between two connects: a restarted node is found within a moment, a dead one costs little.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// A connection that lived so long was a good one: the next loss begins with short waits again.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

pub(super) fn start(shared: &Arc<Shared>, endpoint: String, standing: Standing) -> Node {
    let redial = Arc::new(Notify::new());
    let task = tokio::spawn(keep_connected(Arc::downgrade(shared), endpoint, redial.clone()));
    Node {
        standing,
        connection: None,
        failures: 0,
        last_failure: String::new(),
        penalty_until: None,
        open_calls: Arc::default(),
        redial,
        task: task.abort_handle(),
    }
}

async fn keep_connected(shared: Weak<Shared>, endpoint: String, redial: Arc<Notify>) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        let Some(pool) = shared.upgrade() else { return };
        let (dial, options) = (pool.dial.clone(), pool.connection);
        drop(pool);
        let opened = match Connection::open(dial.as_ref(), &endpoint, options).await {
            Ok(connection) => greet(&shared, connection, options.connect_timeout).await,
            Err(status) => Err(status.message().to_owned()),
        };
        match opened {
            Ok(connection) => {
                let since = Instant::now();
                let Some(pool) = shared.upgrade() else { return };
                came_up(&pool, &endpoint, connection.clone());
                drop(pool);
                tokio::select! {
                    () = connection.ended() => {}
                    () = redial.notified() => {}
                }
                let Some(pool) = shared.upgrade() else { return };
                went_down(&pool, &endpoint);
                if since.elapsed() > SETTLED_AFTER {
                    backoff.reset();
                }
            }
            Err(reason) => {
                let Some(pool) = shared.upgrade() else { return };
                failed(&pool, &endpoint, &reason);
            }
        }
        sleep(backoff.next()).await;
    }
}

/// Waits for a first word of the node: the kernel accepts connections for a process that is frozen, and
/// the address may have passed to a node of another cluster.
async fn greet(shared: &Weak<Shared>, connection: Connection, limit: Duration) -> Result<Connection, String> {
    let endpoint = connection.endpoint().to_owned();
    let call = ClusterStatusRequest { local: true }.send(connection.clone(), limit);
    let answer = match timeout(limit, call).await {
        Ok(Ok(answer)) => answer.into_inner(),
        // A refusal is a sign of life too, unless it was made on this side.
        Ok(Err(status)) if std::error::Error::source(&status).is_none() => return Ok(connection),
        Ok(Err(status)) => return Err(format!("{endpoint} ended the connection: {}", status.message())),
        Err(_) => return Err(format!("{endpoint} accepts but does not answer")),
    };
    let (Some(pool), Some(header)) = (shared.upgrade(), &answer.header) else { return Ok(connection) };
    if pool.observe(&endpoint, header) {
        return Ok(connection);
    }
    Err(format!("{endpoint} belongs to the cluster {}", header.cluster_id))
}

fn came_up(pool: &Arc<Shared>, endpoint: &str, connection: Connection) {
    {
        let mut state = pool.state();
        if let Some(node) = state.nodes.get_mut(endpoint) {
            node.connection = Some(connection);
            node.failures = 0;
            node.last_failure.clear();
            node.penalty_until = None;
        }
        // With a member connected, seeds that are none are not needed.
        reconcile(pool, &mut state);
    }
    tracing::debug!(endpoint, "connected");
    pool.connection_changed(endpoint, true);
}

fn went_down(pool: &Arc<Shared>, endpoint: &str) {
    {
        let mut state = pool.state();
        if let Some(node) = state.nodes.get_mut(endpoint) {
            node.connection = None;
        }
        if state.leader.1.as_deref() == Some(endpoint) {
            state.leader.1 = None;
        }
        // Without any member the seeds are needed again.
        reconcile(pool, &mut state);
    }
    tracing::debug!(endpoint, "connection lost");
    pool.connection_changed(endpoint, false);
}

fn failed(pool: &Arc<Shared>, endpoint: &str, message: &str) {
    count(&pool.metrics.connects_failed);
    {
        let mut state = pool.state();
        if let Some(node) = state.nodes.get_mut(endpoint) {
            node.failures = node.failures.saturating_add(1);
            message.clone_into(&mut node.last_failure);
        }
        reconcile(pool, &mut state);
    }
    tracing::debug!(endpoint, message, "cannot connect");
    pool.changed.send_modify(|version| *version += 1);
}
