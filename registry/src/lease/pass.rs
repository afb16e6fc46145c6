//! What the leader does about leases and overrides in one go, and what it remembers until the next.

use std::sync::Arc;
use std::time::Duration;

use registry_state::{Operation, Reply, State};
use tokio::time::Instant;

use super::agreement::Agreement;
use super::guard::Recent;
use super::guard::hold::Holds;
use super::overrides::Timers;
use super::{LeaseTime, Leases};
use crate::raft::{Leadership, ProposeError, Published};

/// Longest wait for an entry. What it is about stays held back if its outcome is not known by then.
const ENTRY_TIMEOUT: Duration = Duration::from_secs(5);

/// How often guards are looked at.
const GUARD_STEP: Duration = Duration::from_secs(1);

/// With whom a pass of one reign has to do.
pub(crate) struct Pass {
    pub(crate) leases: Leases,
    pub(crate) agreement: Arc<dyn Agreement>,
    pub(crate) leadership: Leadership,
}

impl Pass {
    /// Proposes as this leadership only, once.
    pub(crate) async fn propose(&self, operation: Operation) -> Result<Reply, ProposeError> {
        let began = Instant::now();
        let reply = self.agreement.propose(self.leadership, operation, began + ENTRY_TIMEOUT).await?;
        self.leases.quorum_seen(self.leadership, began);
        Ok(reply)
    }

    /// The newest state.
    pub(crate) fn published(&self) -> Arc<Published> {
        self.agreement.published()
    }

    /// Lease time of this reign.
    pub(crate) fn time(&self) -> Option<LeaseTime> {
        self.leases.time(self.leadership)
    }

    /// How many instances a lease has.
    pub(crate) fn instances(state: &State, id: u64) -> usize {
        let instances = state.lease(id).map_or(0, |lease| lease.instances);
        usize::try_from(instances).unwrap_or(usize::MAX)
    }
}

/// What the leader remembers between passes, beside the deadlines. Belongs to one reign.
pub(crate) struct Duty {
    pub(crate) leadership: Leadership,
    /// Leases that expired lately.
    pub(crate) recent: Recent,
    /// The guards that hold.
    pub(crate) holds: Holds,
    /// When they are looked at next, in lease time.
    next_step: Duration,
    /// The overrides that end by themselves.
    pub(crate) timers: Timers,
}

impl Duty {
    pub(crate) fn new(leadership: Leadership) -> Self {
        Self {
            leadership,
            recent: Recent::default(),
            holds: Holds::default(),
            next_step: Duration::ZERO,
            timers: Timers::default(),
        }
    }

    /// Whether there is anything to do beside expiry. `now` is lease time.
    pub(crate) fn is_due(&self, state: &State, now: Duration) -> bool {
        self.guards_are_due(state, now) || self.timers.is_due(state, now)
    }

    pub(crate) fn guards_are_due(&self, state: &State, now: Duration) -> bool {
        now >= self.next_step && (self.holds.wants_step() || state.guards().next().is_some())
    }

    /// Guards are looked at now.
    pub(crate) fn guards_seen(&mut self, now: Duration) {
        self.next_step = now + GUARD_STEP;
    }
}
