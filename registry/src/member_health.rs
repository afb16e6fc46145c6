//! How the other members are, as the leader finds by asking them (P/N6).
//!
//! The leader probes every member: voters, learners, and those of the state that are not in Raft yet.
//! What it finds is read by the plan of the membership, by ClusterStatus and by the metrics. Nothing here
//! changes anything: that is the plan's business.

mod agreement;
mod probe;
mod stall;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::verdict::{MemberAnswer, MemberReport};
use crate::environment::Clock;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::raft::{Consensus, Leadership};

/// What the leader knows of the other members. A clone shares it.
#[derive(Clone)]
pub struct MemberHealth {
    shared: Arc<Shared>,
}

struct Shared {
    consensus: Consensus,
    peers: Peers,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    board: Mutex<Board>,
}

/// What was found in one reign.
#[derive(Default)]
struct Board {
    leadership: Option<Leadership>,
    reports: BTreeMap<u64, MemberReport>,
    /// Members whose state differs from that of the leader after the same entries.
    differing: BTreeSet<u64>,
}

impl fmt::Debug for MemberHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemberHealth").field("reports", &self.board().reports).finish_non_exhaustive()
    }
}

impl MemberHealth {
    /// Nothing is known yet; [`run`](Self::run) probes.
    pub fn new(consensus: Consensus, peers: Peers, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let board = Mutex::default();
        Self { shared: Arc::new(Shared { consensus, peers, clock, metrics, board }) }
    }

    /// What is known of another member; `None` before its first probe has ended, and while this node does
    /// not lead.
    pub fn report(&self, raft_id: u64) -> Option<MemberReport> {
        self.reports().remove(&raft_id)
    }

    /// All reports by Raft id; empty while this node does not lead.
    pub fn reports(&self) -> BTreeMap<u64, MemberReport> {
        let leadership = self.shared.consensus.leadership();
        let board = self.board();
        if leadership.is_none() || board.leadership != leadership {
            BTreeMap::new()
        } else {
            board.reports.clone()
        }
    }

    /// The members that are DEAD (P/N6). Empty without a quorum: then it is this node, perhaps, that is cut off.
    pub fn dead(&self) -> BTreeSet<u64> {
        let status = self.shared.consensus.status();
        let lease = self.shared.consensus.lease();
        let acked = status.last_quorum_acked.is_some_and(|at| at.elapsed() <= 2 * lease);
        if !acked {
            return BTreeSet::new();
        }
        self.reports().into_iter().filter(|(_, report)| report.is_dead).map(|(id, _)| id).collect()
    }

    /// Members whose state is not what it should be after the entries that they have applied (P/O4).
    pub fn differing(&self) -> BTreeSet<u64> {
        self.board().differing.clone()
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        // Nothing panics while it holds the lock.
        self.shared.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
