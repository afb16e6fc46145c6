//! How a member learns that it was removed, and what it does then (P/N5).

use std::time::Duration;

use tokio::time::sleep;

use super::Node;
use crate::exit::Fatal;
use crate::raft::Consensus;
use crate::server::core::Core;
use crate::standing::Cause;

/// Between two looks at the own state: a member that applies its own removal is not in a hurry.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl Node {
    /// Returns the index of the entry that removed this member, once it is known: from another node, or
    /// from the own state.
    pub(super) async fn learn_of_removal(&self, core: &Core) -> u64 {
        tokio::select! {
            index = core.peers.told_of_removal() => index,
            index = own_removal(&core.consensus) => index,
        }
    }

    /// Stores that it was removed, which is final, and ends Raft.
    pub(super) async fn leave(&self, core: &Core, index: u64) -> Result<(), Fatal> {
        self.standing.remove(index)?;
        self.environment.crash.pass("removal-stored");
        self.standing.quarantine(Cause::Removed, removed(core.consensus.status().raft_id, index));
        self.health.set_serving(false).await;
        // Watches of a node that hears nothing more would fall silent: clients go to other nodes.
        core.hub.close();
        core.consensus.shutdown().await;
        Ok(())
    }
}

/// What people are told.
pub(super) fn removed(raft_id: u64, index: u64) -> String {
    format!("this node, member {raft_id}, was removed from the cluster (entry {index})")
}

async fn own_removal(consensus: &Consensus) -> u64 {
    let raft_id = consensus.status().raft_id;
    loop {
        let published = consensus.published();
        if published.state.is_removed(raft_id) {
            return published.applied_index();
        }
        sleep(LOOK_EVERY).await;
    }
}
