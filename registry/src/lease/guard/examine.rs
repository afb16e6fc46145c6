//! Which of the leases that are due the guard is to keep (P/L6). Looks only at services of due leases, and at
//! the others of such a service no further than it takes to know that they are not a mass.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use registry_state::{GuardState, LeaseHold, ServiceKey, ServiceView, State};

use super::{Census, Recent, Vitals};
use crate::lease::Leases;
use crate::lease::table::Overdue;
use crate::raft::Leadership;

/// Instances looked at between two pauses, so that a service of 100,000 does not hold up renewals.
const CHUNK: usize = 4_096;

/// Judges the services of due leases, each once.
pub(crate) struct Examiner<'a> {
    leases: &'a Leases,
    leadership: Leadership,
    recent: &'a mut Recent,
    /// Lease time.
    now: Duration,
    /// Whether what is due of a service is to be kept.
    verdicts: HashMap<Arc<ServiceKey>, bool>,
}

/// What becomes of leases that are due.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    /// They end.
    pub(crate) expire: Vec<Overdue>,
    /// They do not.
    pub(crate) spare: Vec<Overdue>,
    /// What the guard is to take: those spared, and with them all that are overdue of a service that it
    /// takes hold of.
    pub(crate) protect: BTreeMap<u64, Vitals>,
    /// The services that it takes hold of, with what it has seen.
    pub(crate) struck: Vec<(Arc<ServiceKey>, Census)>,
}

impl<'a> Examiner<'a> {
    pub(crate) fn new(
        leases: &'a Leases,
        leadership: Leadership,
        recent: &'a mut Recent,
        now: Duration,
    ) -> Self {
        Self { leases, leadership, recent, now, verdicts: HashMap::new() }
    }

    /// Sorts leases that are due.
    pub(crate) async fn sort(&mut self, state: &State, due: Vec<Overdue>) -> Sorted {
        let mut sorted = Sorted::default();
        for lease in due {
            // An earlier `Expire` of it may be on its way: it must not be answered as if it lived (P/L4).
            if !lease.again && self.is_kept(state, lease.id, &mut sorted).await {
                let vitals = self.leases.vitals(self.leadership, &[lease.id]);
                sorted.protect.extend(vitals.into_iter().flatten().map(|vitals| (vitals.id, vitals)));
                sorted.spare.push(lease);
            } else {
                sorted.expire.push(lease);
            }
        }
        sorted
    }

    /// A lease that touches one guarded service is kept whole. One that a guard has let go is not kept by
    /// another.
    async fn is_kept(&mut self, state: &State, id: u64, sorted: &mut Sorted) -> bool {
        let may_be_kept = state.lease(id).is_some_and(|lease| lease.hold == LeaseHold::None);
        if !may_be_kept || !state.settings().guard.enabled {
            return false;
        }
        for key in services_of(state, id) {
            let kept = match self.verdicts.get(&key) {
                Some(kept) => *kept,
                None => {
                    let kept = self.judge(state, &key, sorted).await;
                    self.verdicts.insert(key, kept);
                    kept
                }
            };
            if kept {
                return true;
            }
        }
        false
    }

    async fn judge(&mut self, state: &State, key: &Arc<ServiceKey>, sorted: &mut Sorted) -> bool {
        let Some(service) = state.service(&key.namespace, &key.name) else { return false };
        match service.guard() {
            GuardState::Holding { .. } => return true,
            GuardState::Disarmed => return false,
            GuardState::Armed => {}
        }
        let guard = &state.settings().guard;
        let (census, overdue) = self.count(&service, |census, rest| census.cannot_be_mass(rest, guard)).await;
        let is_mass = census.is_mass(guard);
        if is_mass {
            sorted.protect.extend(overdue.into_iter().map(|vitals| (vitals.id, vitals)));
            sorted.struck.push((key.clone(), census));
        }
        is_mass
    }

    /// Leases were to be expired, which led from one state to the other: those that did count for a while.
    pub(crate) fn expired(&mut self, before: &State, after: &State, leases: &[Overdue]) {
        for lease in leases.iter().filter(|lease| after.lease(lease.id).is_none()) {
            let ttl = before.lease(lease.id).map_or(0, |lease| lease.ttl_ms);
            for service in services_of(before, lease.id) {
                self.recent.expired(&service, self.now, Duration::from_millis(ttl.into()));
            }
        }
    }

    /// Whether so few leases of a service are overdue that its guard may be armed again.
    pub(crate) async fn is_calm(&mut self, service: &ServiceView<'_>) -> bool {
        self.count(service, |_, _| false).await.0.is_calm()
    }

    /// Counts the leases of a service, or fewer if `enough` says so of the count and the number of instances
    /// that were not looked at. Returns also those overdue that the guard does not have.
    async fn count(
        &mut self,
        service: &ServiceView<'_>,
        enough: impl Fn(&Census, u64) -> bool,
    ) -> (Census, Vec<Vitals>) {
        let expired = self.recent.count(service.key(), self.now);
        let mut census = Census { leases: expired, overdue: expired };
        let mut overdue = Vec::new();
        let mut rest = u64::from(service.counts().total);
        let (mut seen, mut instances) = (HashSet::new(), service.instances());
        while rest > 0 && !enough(&census, rest) {
            let mut ids = Vec::new();
            for record in instances.by_ref().take(CHUNK) {
                rest = rest.saturating_sub(1);
                if seen.insert(record.lease_id) {
                    ids.push(record.lease_id);
                }
            }
            for vitals in self.leases.vitals(self.leadership, &ids) {
                census.leases += 1;
                let Some(vitals) = vitals.filter(|vitals| vitals.overdue) else { continue };
                census.overdue += 1;
                if !vitals.kept {
                    overdue.push(vitals);
                }
            }
            if rest > 0 {
                tokio::task::yield_now().await;
            }
        }
        (census, overdue)
    }
}

/// The services that a lease touches, each once.
fn services_of(state: &State, id: u64) -> HashSet<Arc<ServiceKey>> {
    state.lease_instances(id).map(|record| record.service.clone()).collect()
}

#[cfg(test)]
#[path = "examine_test.rs"]
mod tests;
