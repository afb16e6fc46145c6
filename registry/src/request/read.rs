//! Reads: finds the state that an answer may be made from (P/V1, V2, V4).

use std::sync::Arc;

use tokio::time::Instant;

use super::Caller;
use super::admit::{Admission, Permit};
use crate::error::Error;
use crate::raft::{Consensus, Published};
use crate::read_index::{Age, ReadIndexer};
use crate::server::convert::{Consistency, Freshness};
use crate::server::limits;

/// Finds states to read from. A clone shares the rounds.
#[derive(Debug, Clone)]
pub struct Reader {
    consensus: Consensus,
    rounds: ReadIndexer,
    admission: Admission,
}

/// A state that an answer may be made from.
#[derive(Debug)]
pub struct View {
    /// The state.
    pub published: Arc<Published>,
    /// Its age, if the answer may miss acknowledged writes.
    pub staleness: Option<Age>,
    _permit: Option<Permit>,
}

impl Reader {
    /// Reads from the states of `consensus`.
    pub fn new(consensus: Consensus, rounds: ReadIndexer, admission: Admission) -> Self {
        Self { consensus, rounds, admission }
    }

    /// A state as fresh as asked for.
    ///
    /// # Errors
    /// NO_QUORUM, TOO_STALE, FUTURE_REVISION, EPOCH_CHANGED, NOT_READY, OVERLOADED.
    pub async fn view(&self, freshness: &Freshness, caller: &Caller) -> Result<View, Error> {
        let permit = self.admission.read(freshness.consistency == Consistency::Stale)?;
        let mut view = match freshness.consistency {
            Consistency::Linearizable => self.linearizable(freshness, caller.deadline).await?,
            Consistency::Stale => self.stale(freshness, caller.deadline).await?,
            Consistency::LinearizableOrStale => self.linearizable_or_stale(freshness, caller).await?,
        };
        view._permit = Some(permit);
        Ok(view)
    }

    async fn linearizable(&self, freshness: &Freshness, deadline: Instant) -> Result<View, Error> {
        let (round, published) = self.rounds.linearize(deadline).await?;
        check_epoch(freshness, &published)?;
        if published.state.revision() >= freshness.min_revision {
            return Ok(View::fresh(published));
        }
        if round.revision < freshness.min_revision {
            return Err(Error::FutureRevision { asked: freshness.min_revision, newest: round.revision });
        }
        let deadline = deadline.min(Instant::now() + limits::READ_WAIT);
        let reached = self.consensus.wait_revision(freshness.min_revision, deadline).await;
        reached.map(View::fresh).map_err(|_| self.rounds.too_stale())
    }

    async fn linearizable_or_stale(&self, freshness: &Freshness, caller: &Caller) -> Result<View, Error> {
        if self.consensus.status().leader.is_some() {
            let deadline = caller.deadline.min(Instant::now() + limits::STALE_FALLBACK);
            match self.linearizable(freshness, deadline).await {
                Err(Error::NoQuorum | Error::NotLeader | Error::TooStale { .. }) => {}
                answer => return answer,
            }
        }
        self.stale(freshness, caller.deadline).await
    }

    async fn stale(&self, freshness: &Freshness, deadline: Instant) -> Result<View, Error> {
        self.rounds.stale_allowed(deadline).await?;
        let mut published = self.consensus.published();
        check_epoch(freshness, &published)?;
        if published.state.revision() < freshness.min_revision {
            published = self.reach(freshness.min_revision, deadline).await?;
            check_epoch(freshness, &published)?;
        }
        // The age before the state: an age that shrinks in between would belong to a newer state.
        if !self.young_enough(freshness, self.rounds.age()) {
            let fresh = self.rounds.linearize(deadline).await.map_err(|_| self.rounds.too_stale())?;
            published = fresh.1;
            check_epoch(freshness, &published)?;
        }
        let age = self.rounds.age();
        if !self.young_enough(freshness, age) {
            return Err(self.rounds.too_stale());
        }
        Ok(View {
            published: newest(published, self.consensus.published()),
            staleness: Some(age),
            _permit: None,
        })
    }

    fn young_enough(&self, freshness: &Freshness, age: Age) -> bool {
        freshness.max_staleness.is_none_or(|most| !age.unknown && age.bound <= most)
    }

    /// Waits for a revision that has not arrived here, asking the leader whether it exists at all.
    async fn reach(&self, revision: u64, deadline: Instant) -> Result<Arc<Published>, Error> {
        let deadline = deadline.min(Instant::now() + limits::READ_WAIT);
        let arrives = self.consensus.wait_revision(revision, deadline);
        let is_of_the_future = async {
            match self.rounds.round(deadline).await {
                Ok(round) if round.revision < revision => round.revision,
                // It exists, or nobody can tell: the wait decides.
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            arrived = arrives => arrived.map_err(|_| self.rounds.too_stale()),
            newest = is_of_the_future => Err(Error::FutureRevision { asked: revision, newest }),
        }
    }
}

impl View {
    fn fresh(published: Arc<Published>) -> Self {
        Self { published, staleness: None, _permit: None }
    }
}

fn newest(one: Arc<Published>, other: Arc<Published>) -> Arc<Published> {
    if other.applied_index() >= one.applied_index() { other } else { one }
}

fn check_epoch(freshness: &Freshness, published: &Published) -> Result<(), Error> {
    let current = published.state.epoch();
    if freshness.epoch != 0 && freshness.epoch != current {
        return Err(Error::EpochChanged { current });
    }
    Ok(())
}
