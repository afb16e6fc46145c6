//! Leases: who is alive, as the leader remembers it (P/L1 to L5).
//!
//! A renewal never enters the log. It is a linearizable read with a side effect in the leader's memory:
//! the deadline moves when it arrives, the answer leaves after a quorum round begun after that, so that a
//! deposed or suspended leader acknowledges nothing. [`Leases`] holds the deadlines of the reign of this
//! node, if it leads; [`renewals`] answers owners; [`forward`] brings renewals from followers to the
//! leader; [`expiry`] ends what nobody renewed, through the log.

pub mod agreement;
pub mod expiry;
pub mod forward;
pub mod guard;
mod lateness;
pub mod overrides;
mod own;
pub(crate) mod pass;
pub mod renewals;
pub mod table;
pub mod wheel;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use registry_state::{LeaseChange, LeaseHold, LeaseView, RevisionEvents, ServiceKey};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::guard::kept::Kept;
use self::lateness::Lateness;
use self::table::{Renewal, Table};
use crate::metrics::Metrics;
use crate::raft::{Leadership, Observer, Published};
use crate::request::write::Deadlines;

/// Leases taken into a new table between two pauses, so that a million of them do not hold up others.
const ESTABLISH_CHUNK: usize = 4_096;

/// The deadlines of this node's reign. A clone shares them.
#[derive(Debug, Clone)]
pub struct Leases {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Steady time 0 of the tables.
    origin: Instant,
    reign: Mutex<Reign>,
    /// On every node: of which services the guard keeps instances.
    kept: Mutex<Kept>,
    /// Woken when an `Expire` has an outcome, a lease ends, or the reign is over.
    settled: Notify,
    metrics: Metrics,
    lateness: Mutex<Lateness>,
}

#[derive(Debug)]
enum Reign {
    /// This node does not lead, or not yet surely.
    None,
    /// The table is being filled; what is applied or renewed meanwhile waits. As short as a quorum round
    /// or two, so what waits is bounded by what may be unanswered.
    Begins { leadership: Leadership, changes: Vec<LeaseChange>, renewed: Vec<(u64, Duration)> },
    /// This node leads.
    Table { leadership: Leadership, table: Box<Table>, quorum_at: Instant },
}

/// What a tick found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticked {
    /// Some leases seem overdue, or have recovered under the guard.
    pub(crate) overdue: bool,
    /// Begin of the last successful quorum round.
    pub(crate) quorum_at: Instant,
    /// Lease time.
    pub(crate) lease_now: Duration,
}

/// Lease time of a reign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaseTime {
    /// As of the last tick: it is over.
    pub(crate) now: Duration,
    /// Not over before this moment, however the clock went on since the last tick.
    pub(crate) latest: Duration,
}

impl Leases {
    /// No reign yet. Make it before Raft, which tells it what is applied.
    pub fn new(metrics: Metrics) -> Self {
        let shared = Shared {
            origin: Instant::now(),
            reign: Mutex::new(Reign::None),
            kept: Mutex::default(),
            settled: Notify::new(),
            metrics,
            lateness: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// What the node counts.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Moves the deadline of a lease whose renewal, or whose suppressed registration (P/R2), was decoded
    /// at `arrived`. It must not be acknowledged before a quorum round begun after that has confirmed
    /// this node's leadership; `Expiring` must not be acknowledged at all before [`Leases::settled`].
    ///
    /// On a node that does not lead it does nothing and says `Unknown`.
    pub fn renewed_by_write(&self, id: u64, arrived: Instant) -> Renewal {
        let at = self.steady(arrived);
        match &mut *self.reign() {
            Reign::Table { table, .. } => table.renew(id, at),
            Reign::Begins { renewed, .. } => {
                renewed.push((id, at));
                Renewal::Unknown
            }
            Reign::None => Renewal::Unknown,
        }
    }

    /// Moves deadlines, each from its own arrival. Returns the leases that are `Expiring`.
    pub(crate) fn touch(&self, leases: impl Iterator<Item = (u64, Instant)>) -> Vec<u64> {
        let mut reign = self.reign();
        let table = match &mut *reign {
            Reign::Table { table, .. } => table,
            Reign::Begins { renewed, .. } => {
                renewed.extend(leases.map(|(id, arrived)| (id, self.steady(arrived))));
                return Vec::new();
            }
            Reign::None => return Vec::new(),
        };
        leases
            .filter(|(id, arrived)| table.renew(*id, self.steady(*arrived)) == Renewal::Expiring)
            .map(|(id, _)| id)
            .collect()
    }

    /// Waits until none of these leases, found `Expiring`, is in an `Expire` of `leadership` any more.
    /// False if the deadline passed or the reign ended before: nothing is known then.
    pub async fn settled(
        &self,
        leadership: Leadership,
        ids: &[u64],
        arrived: Instant,
        deadline: Instant,
    ) -> bool {
        loop {
            let woken = self.shared.settled.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            if self.leadership() != Some(leadership) {
                return false;
            }
            if self.touch(ids.iter().map(|id| (*id, arrived))).is_empty() {
                return true;
            }
            if tokio::time::timeout_at(deadline, woken).await.is_err() {
                return false;
            }
        }
    }

    /// The reign whose deadlines are kept.
    pub fn leadership(&self) -> Option<Leadership> {
        match &*self.reign() {
            Reign::Table { leadership, .. } => Some(*leadership),
            Reign::None | Reign::Begins { .. } => None,
        }
    }

    /// This node does not lead: forgets the deadlines, which belong to one leadership (P/L3).
    pub(crate) fn depose(&self) {
        let mut reign = self.reign();
        if matches!(*reign, Reign::None) {
            return;
        }
        *reign = Reign::None;
        drop(reign);
        self.shared.settled.notify_waiters();
    }

    /// A reign has begun and its own no-op is applied: gives every lease a full time to live (P/L3).
    /// `newest` loads the published state. `quorum_at`: when the round that confirmed it began.
    pub(crate) async fn establish(
        &self,
        leadership: Leadership,
        quorum_at: Instant,
        newest: impl Fn() -> Arc<Published>,
    ) {
        // First collect what is applied from now on, then load the state: what is in both is told twice,
        // which does no harm, and nothing is missed.
        *self.reign() = Reign::Begins { leadership, changes: Vec::new(), renewed: Vec::new() };
        let published = newest();
        let at = self.steady(Instant::now());
        let mut table = Box::new(Table::new(at));
        for (count, lease) in published.state.leases().enumerate() {
            if count % ESTABLISH_CHUNK == ESTABLISH_CHUNK - 1 {
                tokio::task::yield_now().await;
            }
            adopt(&mut table, lease, at);
        }
        let mut reign = self.reign();
        let Reign::Begins { leadership: begun, changes, renewed } = &mut *reign else { return };
        if *begun != leadership {
            return;
        }
        let at = self.steady(Instant::now());
        for change in std::mem::take(changes) {
            follow(&mut table, change, at);
        }
        // Acknowledged by a quorum round of this reign although the table was not there yet (P/L1).
        for (id, at) in std::mem::take(renewed) {
            table.renew(id, at);
        }
        *reign = Reign::Table { leadership, table, quorum_at };
    }

    /// A quorum round of `leadership` that began at `began` succeeded.
    pub(crate) fn quorum_seen(&self, leadership: Leadership, began: Instant) {
        if let Reign::Table { leadership: own, quorum_at, .. } = &mut *self.reign()
            && *own == leadership
        {
            *quorum_at = (*quorum_at).max(began);
        }
    }

    /// Moves lease time on. `None` if there are no deadlines of `leadership`.
    pub(crate) fn tick(&self, leadership: Leadership, now: Instant) -> Option<Ticked> {
        let at = self.steady(now);
        match &mut *self.reign() {
            Reign::Table { leadership: own, table, quorum_at } if *own == leadership => {
                let overdue = table.tick(at, quorum_at.saturating_duration_since(self.shared.origin));
                let overdue = overdue || table.has_recovered();
                Some(Ticked { overdue, quorum_at: *quorum_at, lease_now: table.clock().now() })
            }
            _ => None,
        }
    }

    /// A tick due at `due` came at `now`.
    pub(crate) fn ticked(&self, due: Instant, now: Instant) {
        let mut lateness = self.shared.lateness.lock().unwrap_or_else(PoisonError::into_inner);
        let (late, latest) = lateness.ticked(due, now);
        self.shared.metrics.lease_tick(late, latest);
    }

    /// How long the guard has kept instances of a service, by this node's steady clock: at least that long
    /// after a restart. Nothing if it keeps none.
    pub fn held_for(&self, service: &ServiceKey) -> Option<Duration> {
        self.kept().held_for(service, Instant::now())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn steady(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.shared.origin)
    }

    fn reign(&self) -> MutexGuard<'_, Reign> {
        self.shared.reign.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Leases {
    fn applied(&self, published: &Arc<Published>, events: &[Arc<RevisionEvents>], changes: &[LeaseChange]) {
        self.kept().applied(&published.state, events, Instant::now());
        if changes.is_empty() {
            return;
        }
        let at = self.steady(Instant::now());
        match &mut *self.reign() {
            Reign::None => return,
            Reign::Begins { changes: waiting, .. } => waiting.extend_from_slice(changes),
            Reign::Table { table, .. } => changes.iter().for_each(|change| follow(table, *change, at)),
        }
        self.shared.settled.notify_waiters();
    }

    /// Only a follower installs a snapshot.
    fn reset(&self, published: &Arc<Published>) {
        self.kept().reset(&published.state, Instant::now());
        self.depose();
    }
}

impl Deadlines for Leases {
    fn leadership(&self) -> Option<Leadership> {
        self.leadership()
    }

    fn renewed_by_write(&self, lease_id: u64, arrived: Instant) -> bool {
        self.renewed_by_write(lease_id, arrived) == Renewal::Moved
    }
}

fn adopt(table: &mut Table, lease: LeaseView, at: Duration) {
    let ttl = Duration::from_millis(lease.ttl_ms.into());
    match lease.hold {
        LeaseHold::None => table.opened(lease.id, lease.version, ttl, at),
        LeaseHold::Held => table.held(lease.id, lease.version, ttl),
        LeaseHold::Released => table.released(lease.id, lease.version, ttl),
    }
}

fn follow(table: &mut Table, change: LeaseChange, at: Duration) {
    match change {
        LeaseChange::Opened { id, version, ttl_ms } | LeaseChange::Touched { id, version, ttl_ms } => {
            table.opened(id, version, Duration::from_millis(ttl_ms.into()), at);
        }
        LeaseChange::Held { id, version } => table.held(id, version, Duration::ZERO),
        LeaseChange::Released { id, version } => table.released(id, version, Duration::ZERO),
        LeaseChange::Closed { id } => table.closed(id),
    }
}

#[cfg(test)]
#[path = "lease/lease_test.rs"]
mod tests;
