//! Linearizable reads: one confirmation by a quorum for all reads that wait (P/V1).
//!
//! A *round* asks the leader for its read index; the leader confirms with a majority that it still leads.
//! All reads that wait when a round is sent share it; a read that arrives later waits for the next. Each
//! then waits until the index is in the published state of this node. Rounds also measure the age of the
//! data here (P/V2): nothing else proves that a leader's view was current.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use registry_proto::internal::ReadIndexRequest;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval, sleep_until, timeout_at};

use crate::environment::Clock;
use crate::error::Error;
use crate::metrics::{ForwardOutcome, Metrics};
use crate::peers::{Peers, Purpose};
use crate::raft::{Consensus, Leadership, LogPosition, Published, ReadIndexError};
use crate::server::limits;

#[cfg(test)]
#[path = "read_index/age_test.rs"]
mod tests;

/// Longest time for one question to the leader: after it another leader may be known.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(500);

/// Pause before the leader is asked again, unless another one appears.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(25);

/// Confirms reads at any node. A clone shares the rounds.
#[derive(Debug, Clone)]
pub struct ReadIndexer {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Waiter>,
}

#[derive(Debug)]
struct Shared {
    consensus: Consensus,
    peers: Peers,
    age: AgeOfData,
    metrics: Metrics,
}

/// What a round confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Whoever has applied this entry has seen every write answered before the round.
    pub position: LogPosition,
    /// The reign that was confirmed.
    pub leadership: Leadership,
    /// Revision of the leader's state.
    pub revision: u64,
    /// When it was sent, by the boot clock of this node.
    sent: Duration,
}

/// A quorum followed this node at some moment after the call.
#[derive(Debug, Clone)]
pub struct Confirmed {
    /// The reign that was confirmed.
    pub leadership: Leadership,
    /// A state that includes the read index, and with it the reign's own first entry (F7).
    pub published: Arc<Published>,
}

struct Waiter {
    deadline: Instant,
    answer: oneshot::Sender<Result<Round, Error>>,
}

impl ReadIndexer {
    /// Starts the rounds and the measuring of the age on the present runtime. Both end when the last
    /// clone is dropped.
    pub fn start(consensus: Consensus, peers: Peers, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let (queue, waiting) = mpsc::channel(limits::ROUND_QUEUE);
        let shared = Arc::new(Shared { consensus, peers, age: AgeOfData::new(clock), metrics });
        tokio::spawn(run_rounds(shared.clone(), waiting));
        let reads = Self { shared, queue };
        tokio::spawn(refresh(Arc::downgrade(&reads.shared), reads.queue.downgrade()));
        reads
    }

    /// A state that shows every write answered before the call.
    ///
    /// # Errors
    /// NO_QUORUM if none confirmed it within min(deadline, 2 s) (P/R5), TOO_STALE if this node has not
    /// applied it by then.
    pub async fn linearize(&self, deadline: Instant) -> Result<(Round, Arc<Published>), Error> {
        let deadline = deadline.min(Instant::now() + limits::READ_WAIT);
        let round = self.round(deadline).await?;
        let published = self.shared.consensus.wait_applied(round.position.index, deadline).await;
        let published = published.map_err(|_| self.too_stale())?;
        self.shared.age.confirm(round.sent);
        Ok((round, published))
    }

    /// Confirms that this node leads, by a round sent after this call.
    ///
    /// # Errors
    /// NOT_LEADER if it does not, NO_QUORUM if no majority confirmed it in time.
    pub async fn confirm(&self, deadline: Instant) -> Result<Confirmed, Error> {
        let (round, published) = self.linearize(deadline).await?;
        if round.leadership.node != self.shared.peers.raft_id() {
            return Err(Error::NotLeader);
        }
        Ok(Confirmed { leadership: round.leadership, published })
    }

    /// The next round.
    ///
    /// # Errors
    /// NO_QUORUM by the deadline, OVERLOADED if too many wait.
    pub async fn round(&self, deadline: Instant) -> Result<Round, Error> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Waiter { deadline, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Error::Overloaded { what: "linearizable reads", retry_after: limits::SHED_RETRY }
            }
            mpsc::error::TrySendError::Closed(_) => Error::ShuttingDown,
        })?;
        match timeout_at(deadline, answered).await {
            Ok(Ok(result)) => result,
            // The rounds drop whoever's time is up, perhaps a moment before the timer here fires.
            Ok(Err(_)) if Instant::now() < deadline => Err(Error::ShuttingDown),
            Ok(Err(_)) | Err(_) => Err(Error::NoQuorum),
        }
    }

    /// How old the data of this node may be.
    pub fn age(&self) -> Age {
        self.shared.age.now()
    }

    /// Waits until stale data may be served: a read index has been applied here, or no leader has been
    /// known for 2 s (P/V2).
    ///
    /// # Errors
    /// NOT_READY if neither happened within min(deadline, 2 s).
    pub async fn stale_allowed(&self, deadline: Instant) -> Result<(), Error> {
        let give_up = deadline.min(Instant::now() + limits::UNKNOWN_AGE_AFTER + ATTEMPT_PAUSE);
        loop {
            if self.shared.age.is_known() || self.shared.age.leaderless(limits::UNKNOWN_AGE_AFTER) {
                return Ok(());
            }
            let now = Instant::now();
            if now >= give_up {
                return Err(Error::NotReady("it has not caught up since it started".to_owned()));
            }
            sleep_until(give_up.min(now + ATTEMPT_PAUSE)).await;
        }
    }

    /// TOO_STALE with what is known here.
    pub fn too_stale(&self) -> Error {
        let age = self.age();
        Error::TooStale {
            revision: self.shared.consensus.published().state.revision(),
            staleness: (!age.unknown).then_some(age.bound),
        }
    }
}

async fn run_rounds(shared: Arc<Shared>, mut queue: mpsc::Receiver<Waiter>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, limits::ROUND_QUEUE).await > 0 {
        let result = round(&shared, &mut queue, &mut batch).await;
        for waiter in batch.drain(..) {
            // Whoever is gone does not need an answer.
            let _ = waiter.answer.send(result.clone());
        }
    }
}

/// Asks until the leader has answered or nobody waits any more. Those that come meanwhile join the next
/// question, which is sent after they came.
async fn round(
    shared: &Shared,
    queue: &mut mpsc::Receiver<Waiter>,
    batch: &mut Vec<Waiter>,
) -> Result<Round, Error> {
    let mut status = shared.consensus.watch_status();
    loop {
        while batch.len() < limits::ROUND_QUEUE
            && let Ok(waiter) = queue.try_recv()
        {
            batch.push(waiter);
        }
        let now = Instant::now();
        batch.retain(|waiter| waiter.deadline > now && !waiter.answer.is_closed());
        let Some(last) = batch.iter().map(|waiter| waiter.deadline).max() else {
            return Err(Error::NoQuorum);
        };
        let leader = status.borrow_and_update().leader;
        let deadline = last.min(now + ATTEMPT_TIMEOUT);
        let sent = shared.age.clock.boot();
        let asked = async {
            match leader {
                Some(leader) if leader == shared.peers.raft_id() => shared.ask_self(sent, deadline).await,
                Some(leader) => shared.ask(leader, sent, deadline).await,
                None => Ok(None),
            }
        };
        let moved = status.wait_for(|status| status.leader != leader);
        tokio::select! {
            biased;
            round = asked => if let Some(round) = round? { return Ok(round) },
            _ = moved => continue,
        }
        let pause = sleep_until(Instant::now() + ATTEMPT_PAUSE);
        tokio::select! {
            () = pause => {}
            changed = status.wait_for(|status| status.leader != leader) => {
                if changed.is_err() {
                    return Err(Error::ShuttingDown);
                }
            }
        }
    }
}

impl Shared {
    /// A round of this node as leader; nothing if it does not lead or has no quorum at present.
    async fn ask_self(&self, sent: Duration, deadline: Instant) -> Result<Option<Round>, Error> {
        match self.consensus.read_index(deadline).await {
            Ok(read) => Ok(Some(Round {
                position: read.position,
                leadership: read.leadership,
                revision: read.revision,
                sent,
            })),
            Err(ReadIndexError::NotLeader { .. } | ReadIndexError::NoQuorum) => Ok(None),
            Err(ReadIndexError::Stopped) => Err(Error::ShuttingDown),
        }
    }

    /// Asks another node; nothing if it does not lead or cannot be reached.
    async fn ask(&self, leader: u64, sent: Duration, deadline: Instant) -> Result<Option<Round>, Error> {
        let Some(mut client) = self.peers.client(leader, Purpose::Control) else { return Ok(None) };
        let request = ReadIndexRequest { header: Some(self.peers.header(leader)) };
        let answer = match timeout_at(deadline, client.read_index(request)).await {
            Ok(Ok(answer)) => {
                self.metrics.forwarded("read_index", ForwardOutcome::Answered);
                answer.into_inner()
            }
            Ok(Err(status)) => {
                tracing::debug!(leader, %status, "the leader gave no read index");
                self.metrics.forwarded("read_index", ForwardOutcome::Unknown);
                return Ok(None);
            }
            Err(_) => {
                self.metrics.forwarded("read_index", ForwardOutcome::Unknown);
                return Ok(None);
            }
        };
        let (Some(position), Some(vote)) = (answer.read_log_id, answer.vote) else {
            return Err(Error::Internal("a read index without position".to_owned()));
        };
        let reign = |term, node| Leadership { term, node };
        Ok(Some(Round {
            position: LogPosition {
                leadership: reign(position.term, position.raft_id),
                index: position.index,
            },
            leadership: reign(vote.term, vote.raft_id),
            revision: answer.revision,
            sent,
        }))
    }
}

/// Measures the age once a second, and notes since when no leader is known.
async fn refresh(shared: Weak<Shared>, queue: mpsc::WeakSender<Waiter>) {
    let Some(mut status) = shared.upgrade().map(|shared| shared.consensus.watch_status()) else { return };
    let mut ticks = interval(limits::FRESHNESS_INTERVAL);
    loop {
        let tick = tokio::select! {
            _ = ticks.tick() => true,
            changed = status.changed() => {
                if changed.is_err() {
                    return;
                }
                false
            }
        };
        let (Some(shared), Some(queue)) = (shared.upgrade(), queue.upgrade()) else { return };
        let leader = status.borrow_and_update().leader;
        shared.age.leader(leader.is_some());
        if tick && leader.is_some() {
            let reads = ReadIndexer { shared, queue };
            // Not awaited: a round without quorum must not delay what else is noted here.
            tokio::spawn(async move { reads.linearize(Instant::now() + limits::FRESHNESS_INTERVAL).await });
        }
    }
}

/// How old data may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// Upper bound; if `unknown` the time since the process started, a lower bound.
    pub bound: Duration,
    /// True if no read index has been applied since the process started.
    pub unknown: bool,
}

/// The age of the data of this node (P/V2), by the clock that goes on while the machine sleeps.
#[derive(Debug)]
struct AgeOfData {
    clock: Arc<dyn Clock>,
    started: Duration,
    /// When the last round was sent that was confirmed and applied here, in microseconds since
    /// `started`, plus one; 0 = never.
    confirmed: AtomicU64,
    /// Since when no leader is known, in the same way; 0 = one is known.
    leaderless: AtomicU64,
}

impl AgeOfData {
    fn new(clock: Arc<dyn Clock>) -> Self {
        let started = clock.boot();
        Self { clock, started, confirmed: AtomicU64::new(0), leaderless: AtomicU64::new(1) }
    }

    fn confirm(&self, sent: Duration) {
        self.confirmed.fetch_max(self.stamp(sent), Ordering::Relaxed);
    }

    fn leader(&self, known: bool) {
        if known {
            self.leaderless.store(0, Ordering::Relaxed);
        } else {
            let now = self.stamp(self.clock.boot());
            // Keeps the first moment of a time without leader.
            let _ = self.leaderless.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn is_known(&self) -> bool {
        self.confirmed.load(Ordering::Relaxed) > 0
    }

    fn leaderless(&self, so_long: Duration) -> bool {
        let since = self.leaderless.load(Ordering::Relaxed);
        since > 0 && self.since(since) >= so_long
    }

    fn now(&self) -> Age {
        match self.confirmed.load(Ordering::Relaxed) {
            0 => Age { bound: self.clock.boot().saturating_sub(self.started), unknown: true },
            stamp => Age { bound: self.since(stamp), unknown: false },
        }
    }

    fn stamp(&self, at: Duration) -> u64 {
        u64::try_from(at.saturating_sub(self.started).as_micros()).unwrap_or(u64::MAX - 1).saturating_add(1)
    }

    fn since(&self, stamp: u64) -> Duration {
        let at = self.started + Duration::from_micros(stamp - 1);
        self.clock.boot().saturating_sub(at)
    }
}
