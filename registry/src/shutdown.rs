//! An orderly stop, in the order of P/N9.
//!
//! Peers hear of it first, so that nobody hands leadership to a node that leaves. Leadership moves while
//! everything still works. Clients are told next and have time to go. Peers hear the end of it before Raft
//! stops, so that they know it from a crash, and the peer listener goes last: as long as it is there, Raft is.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::config::ShutdownConfig;

#[cfg(test)]
mod shutdown_test;

/// Longest time for handing over leadership, both tries together.
const TRANSFER_LIMIT: Duration = Duration::from_secs(1);
/// A second target may be healthy where the first was not; a third would cost more than an election.
const TRANSFER_TRIES: u32 = 2;
/// Longest wait until the peers have heard something: one is as good as all, and each may be dead.
const NOTICE_LIMIT: Duration = Duration::from_millis(500);
/// Longest wait for a port to close once nobody is to be waited for.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// Longest wait for Raft to end.
const RAFT_LIMIT: Duration = Duration::from_secs(5);

/// The parts of a node that take part in its stop.
pub trait Parts {
    /// Tells the peers that this node is stopping and must not be given leadership.
    fn say_stopping(&self) -> impl Future<Output = ()> + Send;
    /// Tries once to hand leadership to the best voter that is not stopping; true if this node does not
    /// lead (any more) or nobody else could.
    fn transfer_leadership(&self, deadline: Instant) -> impl Future<Output = bool> + Send;
    /// Closes the client port: GOAWAY, CLOSING to watches; calls under way may end within `limit`.
    fn close_clients(&self, limit: Duration) -> impl Future<Output = ()> + Send;
    /// Tells the peers that this node is gone.
    fn say_goodbye(&self) -> impl Future<Output = ()> + Send;
    /// Ends Raft.
    fn stop_raft(&self) -> impl Future<Output = ()> + Send;
    /// Closes the peer listener.
    fn close_peers(&self) -> impl Future<Output = ()> + Send;
}

/// Runs the stop to its end. Dropping it in between (a second signal) is safe: it is a crash, no more.
pub async fn stop(parts: &impl Parts, times: ShutdownConfig) {
    let begun = Instant::now();
    tracing::info!("stopping: telling the other nodes");
    let _ = timeout(NOTICE_LIMIT, parts.say_stopping()).await;

    let deadline = Instant::now() + TRANSFER_LIMIT;
    for attempt in 1..=TRANSFER_TRIES {
        // The first try leaves time for the second.
        let limit = deadline - TRANSFER_LIMIT * (TRANSFER_TRIES - attempt) / TRANSFER_TRIES;
        if parts.transfer_leadership(limit).await {
            break;
        }
    }

    sleep(times.linger).await;
    tracing::info!("stopping: closing the client port");
    if timeout(times.drain + CLOSE_LIMIT, parts.close_clients(times.drain)).await.is_err() {
        tracing::warn!("the client port does not close; going on");
    }

    let _ = timeout(NOTICE_LIMIT, parts.say_goodbye()).await;
    if timeout(RAFT_LIMIT, parts.stop_raft()).await.is_err() {
        tracing::warn!(waited = ?RAFT_LIMIT, "Raft does not end; leaving anyway");
    }
    let _ = timeout(CLOSE_LIMIT, parts.close_peers()).await;
    tracing::info!(took = ?begun.elapsed(), "stopped");
}
