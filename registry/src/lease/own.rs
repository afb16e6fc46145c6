//! The table of deadlines as the leader's own passes use it. On a node that does not lead in the reign named,
//! all of it does nothing.

use tokio::time::Instant;

use super::guard::Vitals;
use super::table::{Outcome, Overdue, Table};
use super::{LeaseTime, Leases, Reign};
use crate::raft::Leadership;

impl Leases {
    /// Takes the leases of the next `Expire`; empty if there is none. See [`Table::take_overdue`].
    pub(crate) fn take_overdue(
        &self,
        leadership: Leadership,
        instances: impl Fn(u64) -> usize,
    ) -> Vec<Overdue> {
        self.of(leadership, |table| table.take_overdue(instances)).unwrap_or_default()
    }

    /// Tells what became of an `Expire`, and those who wait for it.
    pub(crate) fn settle(&self, leadership: Leadership, leases: &[Overdue], outcome: Outcome) {
        self.of(leadership, |table| table.settled(leases, outcome));
        self.shared.settled.notify_waiters();
    }

    /// These are not expired after all: the guard is to keep them. Whoever waits renews them.
    pub(crate) fn spare(&self, leadership: Leadership, leases: &[Overdue]) {
        if !leases.is_empty() {
            self.settle(leadership, leases, Outcome::Certain);
        }
    }

    /// Takes leases for the next `Unprotect`. See [`Table::take_recovered`].
    pub(crate) fn take_recovered(
        &self,
        leadership: Leadership,
        instances: impl Fn(u64) -> usize,
    ) -> Vec<(u64, u64)> {
        self.of(leadership, |table| table.take_recovered(instances)).unwrap_or_default()
    }

    /// Tells that an `Unprotect` has an outcome.
    pub(crate) fn unprotected(&self, leadership: Leadership, leases: &[(u64, u64)]) {
        self.of(leadership, |table| table.unprotected(leases));
    }

    /// A guard is about to end, or has ended or stays. See [`Table::let_go`].
    pub(crate) fn let_go(&self, leadership: Leadership, begins: bool) {
        self.of(leadership, |table| table.let_go(begins));
        self.shared.settled.notify_waiters();
    }

    /// What is known of leases, in their order.
    pub(crate) fn vitals(&self, leadership: Leadership, ids: &[u64]) -> Vec<Option<Vitals>> {
        self.of(leadership, |table| ids.iter().map(|id| table.vitals(*id)).collect()).unwrap_or_default()
    }

    /// Lease time.
    pub(crate) fn time(&self, leadership: Leadership) -> Option<LeaseTime> {
        let at = self.steady(Instant::now());
        self.of(leadership, |table| LeaseTime { now: table.clock().now(), latest: table.clock().at(at) })
    }

    fn of<T>(&self, leadership: Leadership, with: impl FnOnce(&mut Table) -> T) -> Option<T> {
        match &mut *self.reign() {
            Reign::Table { leadership: own, table, .. } if *own == leadership => Some(with(table)),
            _ => None,
        }
    }
}
