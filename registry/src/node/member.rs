//! The life of a member: it catches up, says that it is ready, and ends with Raft.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{Node, greet, initialize};
use crate::exit::Fatal;
use crate::raft::{Consensus, Failure};
use crate::server::core::Core;
use crate::standing::Cause;

/// Pause before a read is tried again that tells whether the node has caught up.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(100);
/// Longest wait for one such read.
const CATCH_UP_WAIT: Duration = Duration::from_secs(2);

impl Node {
    /// Lives as a member until it is removed from the cluster, or gives up a place that was only offered.
    ///
    /// # Errors
    /// Why Raft ended, or why the node must.
    pub(super) async fn serve(&self, core: Core) -> Result<(), Fatal> {
        let Some(member) = self.standing.member() else {
            return Err(Fatal::bug("a member without a place runs"));
        };
        let settings = self.config.cluster_settings.clone();
        let first_entry = initialize::initialize(
            core.consensus.clone(),
            self.environment.clone(),
            member.cluster_id.clone(),
            settings,
        );
        let health = core.member_health.clone();
        // Ends with this function.
        let mut probing = JoinSet::new();
        probing.spawn_on(async move { match health.run().await {} }, &self.spawners.raft);
        if let Some(membership) = self.membership.0.get() {
            probing.spawn_on(membership.clone().run(), &self.spawners.raft);
        }
        let background = async {
            tokio::join!(first_entry, self.catch_up(&core));
            std::future::pending().await
        };
        let greet = greet::greet(&self.config, &self.introductions, &core, &member.cluster_id, &self.metrics);
        let index = tokio::select! {
            fatal = self.raft_ended(&core.consensus) => return Err(fatal),
            fatal = greet => return Err(fatal),
            fatal = background => return Err(fatal),
            index = self.learn_of_removal(&core) => index,
            () = self.standing.renewed() => return Ok(()),
        };
        self.leave(&core, index).await
    }

    /// Waits until this node has applied what the cluster had committed, then says that it is ready.
    async fn catch_up(&self, core: &Core) {
        loop {
            let read = core.rounds.linearize(Instant::now() + CATCH_UP_WAIT).await;
            if let Ok((_, published)) = read
                && published.state.cluster_id().is_some()
            {
                initialize::warn_of_other_settings(&published.state, &self.config.cluster_settings);
                break;
            }
            sleep(CATCH_UP_PAUSE).await;
        }
        self.standing.set_caught_up();
        self.health.set_serving(true).await;
        tracing::info!("ready");
    }

    /// Returns when Raft has failed in a way that must end the process (P/N10).
    async fn raft_ended(&self, consensus: &Consensus) -> Fatal {
        let mut status = consensus.watch_status();
        let failure = status.wait_for(|status| status.failed.is_some()).await;
        let failure = failure.ok().and_then(|status| status.failed.clone());
        match failure {
            Some(Failure::Storage(reason)) => Fatal::io(format!(
                "log or snapshot failed: {reason}; look at the disk and start the node again, or replace its disk"
            )),
            Some(Failure::Unsupported(reason)) => {
                self.health.set_serving(false).await;
                self.standing.quarantine(Cause::Broken, reason);
                std::future::pending().await
            }
            Some(failure @ (Failure::Panicked(_) | Failure::Stopped)) => Fatal::bug(failure),
            None => Fatal::bug("Raft ended without a word"),
        }
    }
}
