//! What leases need of Raft.

use std::sync::Arc;
use std::time::Duration;

use registry_state::{Command, Operation, Reply};
use tokio::time::{Instant, sleep};

use crate::environment::Clock;
use crate::error::Error;
use crate::raft::{Consensus, Leadership, ProposeError, Published};
use crate::read_index::{Confirmed, ReadIndexer};

/// Agreement with the other nodes, as leases use it. The tests have one without a network.
#[tonic::async_trait]
pub trait Agreement: Send + Sync + 'static {
    /// The reign of this node, while it believes to lead.
    fn leadership(&self) -> Option<Leadership>;

    /// The newest state.
    fn published(&self) -> Arc<Published>;

    /// Confirms by a quorum round begun after this call that this node leads.
    ///
    /// # Errors
    /// `NotLeader` or `NoQuorum`.
    async fn confirm(&self, deadline: Instant) -> Result<Confirmed, Error>;

    /// Proposes once, as `leadership` only (P/L4).
    ///
    /// # Errors
    /// See [`ProposeError`].
    async fn propose(
        &self,
        leadership: Leadership,
        operation: Operation,
        deadline: Instant,
    ) -> Result<Reply, ProposeError>;
}

/// Pause before a full queue of rounds is tried again: about a round.
const FULL_PAUSE: Duration = Duration::from_millis(2);

/// Agreement by Raft, with the quorum rounds that linearizable reads share.
#[derive(Debug, Clone)]
pub struct RaftAgreement {
    /// Raft.
    pub consensus: Consensus,
    /// The shared rounds.
    pub rounds: ReadIndexer,
    /// For the label of proposals.
    pub clock: Arc<dyn Clock>,
}

#[tonic::async_trait]
impl Agreement for RaftAgreement {
    fn leadership(&self) -> Option<Leadership> {
        self.consensus.leadership()
    }

    fn published(&self) -> Arc<Published> {
        self.consensus.published()
    }

    async fn confirm(&self, deadline: Instant) -> Result<Confirmed, Error> {
        loop {
            match self.rounds.confirm(deadline).await {
                // Reads fill the queue: they may be shed, a renewal stands in line (P/O1).
                Err(Error::Overloaded { .. }) if Instant::now() + FULL_PAUSE < deadline => {
                    sleep(FULL_PAUSE).await;
                }
                Err(Error::Overloaded { .. } | Error::TooStale { .. }) => return Err(Error::NoQuorum),
                result => return result,
            }
        }
    }

    async fn propose(
        &self,
        leadership: Leadership,
        operation: Operation,
        deadline: Instant,
    ) -> Result<Reply, ProposeError> {
        let command = Command { proposed_at_unix_ms: self.clock.unix_ms(), request: None, operation };
        let outcome = self.consensus.propose_as(leadership, &command, deadline).await?;
        Ok(outcome.applied.reply.clone())
    }
}
