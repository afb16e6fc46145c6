//! The mass-expiry guard as the leader decides it (P/L6): when most owners of a service fall silent at once, a
//! network or a deployment is more likely broken than they all are dead, so their leases are kept for a while.
//!
//! Counted in leases: one owner of 200 instances is one death. This file is pure. [`examine`] looks at the
//! services of leases that are due, [`hold`] is the guard's time, [`kept`] tells every reader how long it has
//! held; [`super::expiry`] puts what they decide into the log.

pub(crate) mod examine;
pub mod hold;
pub(crate) mod kept;
pub(crate) mod tend;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use registry_state::{GuardSettings, ServiceKey};

/// Share of a service, in percent, below which its overdue leases must fall before its guard may take hold
/// again (P/L6).
const CALM_PERCENT: u64 = 25;

/// Expired leases that are remembered for counting, at most: about as many as a cluster has instances. Beyond
/// it those that count for the shortest time are forgotten, so the guard may take hold later, never earlier.
const REMEMBERED_MAX: usize = 1_000_000;

/// True if an owner has been silent for more than two thirds of its time to live (P/L6): it renews every
/// third of it, so it has missed one renewal at least.
pub fn is_overdue(silent: Duration, ttl: Duration) -> bool {
    silent * 3 > ttl * 2
}

/// What the leader knows of a lease that can run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vitals {
    /// The lease.
    pub id: u64,
    /// Its version.
    pub version: u64,
    /// Its time to live.
    pub ttl: Duration,
    /// How long its owner has been silent. Not meant for one that the guard has.
    pub silent: Duration,
    /// The guard has it, or has let it go and nobody renewed it.
    pub kept: bool,
    /// It counts as overdue.
    pub overdue: bool,
}

/// The leases of a service, counted. Those that expired within their last time to live are among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// All.
    pub leases: u64,
    /// Those whose owners are silent, or were until they expired.
    pub overdue: u64,
}

impl Census {
    /// True if the guard is to take hold: too many died at once.
    pub fn is_mass(&self, guard: &GuardSettings) -> bool {
        guard.enabled
            && self.overdue >= u64::from(guard.min_leases)
            && self.overdue * 100 > self.leases * u64::from(guard.percent)
    }

    /// True if a guard that has ended may be armed again.
    pub fn is_calm(&self) -> bool {
        self.overdue == 0 || self.overdue * 100 < self.leases * CALM_PERCENT
    }

    /// True if so many leases are alive that it cannot become a mass, were all `others` overdue.
    fn cannot_be_mass(&self, others: u64, guard: &GuardSettings) -> bool {
        let worst = Self { leases: self.leases + others, overdue: self.overdue + others };
        !worst.is_mass(guard)
    }
}

/// Leases that expired in this reign, each remembered for one of its times to live.
#[derive(Debug, Default)]
pub struct Recent {
    until: BinaryHeap<Reverse<(Duration, Arc<ServiceKey>)>>,
    counts: HashMap<Arc<ServiceKey>, u64>,
}

impl Recent {
    /// A lease that touched `service` expired at `now`.
    pub fn expired(&mut self, service: &Arc<ServiceKey>, now: Duration, ttl: Duration) {
        if self.until.len() >= REMEMBERED_MAX {
            self.forget_first();
        }
        self.until.push(Reverse((now + ttl, service.clone())));
        *self.counts.entry(service.clone()).or_default() += 1;
    }

    /// How many leases of `service` expired within one of their times to live.
    pub fn count(&mut self, service: &ServiceKey, now: Duration) -> u64 {
        while self.until.peek().is_some_and(|Reverse((until, _))| *until <= now) {
            self.forget_first();
        }
        self.counts.get(service).copied().unwrap_or(0)
    }

    fn forget_first(&mut self) {
        let Some(Reverse((_, service))) = self.until.pop() else { return };
        if let Some(count) = self.counts.get_mut(&service) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&service);
            }
        }
    }
}

#[cfg(test)]
#[path = "guard/guard_test.rs"]
mod tests;

#[cfg(test)]
mod life_test;
