//! The end of one life of a node and what is needed for the next: as if the process had been started again
//! on a fresh folder.

use std::time::Duration;

use tokio::time::timeout;

use super::Node;
use crate::exit::Fatal;

/// Longest wait for calls under way, among them the one that said to start anew.
const CALLS_LIMIT: Duration = Duration::from_millis(500);
/// Longest wait for a port to close once nobody is waited for.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

impl Node {
    /// Ends everything that uses the folder or the ports, and moves the data aside if its place is gone.
    pub(super) async fn end_life(&self) -> Result<(), Fatal> {
        self.standing.close();
        self.front.close();
        self.health.end().await;
        for server in [&self.client_server, &self.peer_server] {
            server.go_away();
            if timeout(CALLS_LIMIT, server.ended()).await.is_err() {
                server.close();
                if timeout(CLOSE_LIMIT, server.ended()).await.is_err() {
                    tracing::warn!(address = %server.address(), "a port does not close; going on");
                }
            }
        }
        self.http_server.abort();
        if let Some(core) = self.core.get() {
            core.consensus.shutdown().await;
            core.end();
        }
        let took_part = self.core.get().is_some_and(|core| core.consensus.is_initialized());
        if took_part && self.standing.quarantined().is_none() {
            // A vote was given in between: the place counts after all, and the next life goes on with it.
            self.standing.hand_on();
            return Ok(());
        }
        let (standing, environment) = (self.standing.clone(), self.environment.clone());
        let moved = move || standing.start_anew(environment.random.as_ref(), &environment.crash);
        let moved = tokio::task::spawn_blocking(moved).await;
        moved.map_err(|error| Fatal::bug(format!("moving the data aside ended: {error}")))??;
        Ok(())
    }
}
