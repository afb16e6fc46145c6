//! Register and BatchRegister: enter instances, renew or replace them (API/R1 to R9, B1 to B3).

use std::sync::Arc;

use smol_str::SmolStr;

use super::effects::Step;
use super::registration::{Entry, Growth};
use crate::command::{BatchRegister, Register};
use crate::event::EventCause;
use crate::ids::{InstanceKey, LeaseId};
use crate::instance::{InstanceRecord, InstanceState};
use crate::lease::Lease;
use crate::limits::LEASE_INSTANCES_MAX;
use crate::reply::{BatchEntry, Quota, Reason, RegisterOutcome, Rejection, Reply};
use crate::state::State;
use crate::validate::Violation;

/// Which lease a registration comes under.
enum Choice {
    /// An open one.
    Join(LeaseId, u32),
    /// The one that it alone has, which gets another time to live.
    Retime(LeaseId, u32),
    /// A new one.
    Open(u32),
}

impl State {
    pub(super) fn register(&mut self, step: &mut Step, command: &Register) -> Result<Reply, Rejection> {
        let Some(registration) = &command.registration else {
            return Err(Reason::InvalidField(Vec::new()).into());
        };
        let entry = self.look(registration, registration.lease_id, &step.client, &mut Growth::default())?;
        let choice = self.choose_lease(&entry)?;
        let (lease_id, ttl_ms) = self.take_lease(step, choice, command.new_lease_id);
        let (instance, outcome) = self.enter(step, &entry, lease_id, ttl_ms);
        let incarnation = instance.incarnation;
        Ok(Reply::Registered { instance, lease_id, incarnation, outcome })
    }

    pub(super) fn batch_register(
        &mut self,
        step: &mut Step,
        command: &BatchRegister,
    ) -> Result<Reply, Rejection> {
        let ttl_ms = short(command.ttl_ms);
        let choice = match command.lease_id {
            0 => Choice::Open(self.ttl_or_default(ttl_ms)),
            id => Choice::Join(id, self.open_with_ttl(id, ttl_ms)?.ttl_ms),
        };
        let mut growth = Growth::default();
        let mut entries = Vec::with_capacity(command.registrations.len());
        for (registration, index) in command.registrations.iter().zip(0..) {
            let entry = self.look(registration, command.lease_id, &step.client, &mut growth);
            entries.push(entry.map_err(|reason| Rejection { reason, index: Some(index) })?);
        }
        let joining = entries.iter().filter(|entry| !entry.is_in(command.lease_id)).count() as u32;
        self.check_room(command.lease_id, joining)?;

        let (lease_id, ttl_ms) = self.take_lease(step, choice, command.new_lease_id);
        let mut results = Vec::with_capacity(entries.len());
        for entry in &entries {
            let (instance, outcome) = self.enter(step, entry, lease_id, ttl_ms);
            let (instance_id, incarnation) = (instance.instance_id.clone(), instance.incarnation);
            results.push(BatchEntry { instance_id, incarnation, outcome });
        }
        Ok(Reply::BatchRegistered { results, lease_id })
    }

    fn choose_lease(&self, entry: &Entry<'_>) -> Result<Choice, Reason> {
        let named = entry.registration.lease_id;
        let ttl_ms = short(entry.registration.ttl_ms);
        if named != 0 {
            let lease = self.open_with_ttl(named, ttl_ms)?;
            self.check_room(named, u32::from(!entry.is_in(named)))?;
            return Ok(Choice::Join(named, lease.ttl_ms));
        }
        let own = entry.previous.as_ref().filter(|_| entry.same_owner).map(|record| record.lease_id);
        let Some((id, lease)) = own.and_then(|id| Some((id, self.leases.get(&id)?))) else {
            return Ok(Choice::Open(self.ttl_or_default(ttl_ms)));
        };
        match ttl_ms {
            Some(ttl_ms) if ttl_ms != lease.ttl_ms && lease.instances == 1 => Ok(Choice::Retime(id, ttl_ms)),
            // The others of the lease keep their time to live; this one leaves them.
            Some(ttl_ms) if ttl_ms != lease.ttl_ms => Ok(Choice::Open(ttl_ms)),
            _ => Ok(Choice::Join(id, lease.ttl_ms)),
        }
    }

    /// An open lease; a time to live that is given must be its own.
    fn open_with_ttl(&self, id: LeaseId, ttl_ms: Option<u32>) -> Result<Lease, Reason> {
        let lease = self.leases.get(&id).copied().ok_or(Reason::LeaseExpired)?;
        if ttl_ms.is_none_or(|ttl_ms| ttl_ms == lease.ttl_ms) {
            return Ok(lease);
        }
        let description = format!("the lease has {} ms; leave it unset or give the same", lease.ttl_ms);
        Err(Reason::InvalidField(vec![Violation { field: "ttl".into(), description }]))
    }

    fn check_room(&self, id: LeaseId, joining: u32) -> Result<(), Reason> {
        let present = self.leases.get(&id).map_or(0, |lease| lease.instances);
        if joining == 0 || present.saturating_add(joining) <= LEASE_INSTANCES_MAX {
            return Ok(());
        }
        Err(Reason::QuotaExceeded { quota: Quota::InstancesPerLease, limit: LEASE_INSTANCES_MAX.into() })
    }

    fn ttl_or_default(&self, ttl_ms: Option<u32>) -> u32 {
        ttl_ms.unwrap_or_else(|| u32::try_from(self.settings.default_ttl_ms).unwrap_or(u32::MAX))
    }

    fn take_lease(&mut self, step: &mut Step, choice: Choice, drawn: LeaseId) -> (LeaseId, u32) {
        match choice {
            Choice::Open(ttl_ms) => (self.open_lease(step, drawn, ttl_ms), ttl_ms),
            Choice::Join(id, ttl_ms) => {
                self.touch_lease(step, id);
                (id, ttl_ms)
            }
            Choice::Retime(id, ttl_ms) => {
                self.change_lease(id, |lease| lease.ttl_ms = ttl_ms);
                self.touch_lease(step, id);
                (id, ttl_ms)
            }
        }
    }

    /// Enters an instance under a lease that was opened or touched in this step.
    fn enter(
        &mut self,
        step: &mut Step,
        entry: &Entry<'_>,
        lease_id: LeaseId,
        ttl_ms: u32,
    ) -> (Arc<InstanceRecord>, RegisterOutcome) {
        let id = &entry.registration.instance_id;
        // An entry before it in the batch may have made the service known.
        let (service, number) = match entry.service {
            Some(service) => (entry.key.clone(), service.number),
            None => self.known_service(&entry.key),
        };
        // Touching its lease may have changed the record that was looked at.
        let previous = match step.may_repeat() {
            true => self.instance(&service.namespace, &service.name, id).cloned(),
            false => entry.previous.clone(),
        };
        let owner = previous.as_deref().filter(|_| entry.same_owner);
        let asked = InstanceState::try_from(entry.registration.state).unwrap_or(InstanceState::Unspecified);
        let reported_state = match asked {
            InstanceState::Unspecified => owner.map_or(InstanceState::Up, |owner| owner.reported_state),
            given => given,
        };
        let record = InstanceRecord {
            operator_override: match &previous {
                Some(previous) => previous.operator_override.clone(),
                None => self.override_for(&service, id),
            },
            service,
            instance_id: previous.as_ref().map_or_else(|| SmolStr::new(id), |p| p.instance_id.clone()),
            content: entry.content.clone(),
            reported_state,
            ttl_ms,
            revision: step.revision,
            incarnation: owner.map_or(step.revision, |owner| owner.incarnation),
            lease_id,
            registered_at_unix_s: owner.map_or(step.now_unix_ms / 1_000, |owner| owner.registered_at_unix_s),
            client: match owner {
                Some(owner) if step.client.is_empty() => owner.client.clone(),
                _ => step.client.clone(),
            },
            protection: None,
        };
        let (outcome, cause) = judge(previous.as_deref(), owner, &record);
        (self.put(step, number, previous, record, cause), outcome)
    }

    fn override_for(&self, service: &Arc<crate::ServiceKey>, id: &str) -> Option<Arc<crate::Override>> {
        if self.overrides.is_empty() {
            return None;
        }
        let key = InstanceKey { service: service.clone(), instance_id: SmolStr::new(id) };
        self.overrides.get(&key).map(|entry| entry.shared.clone())
    }
}

impl Entry<'_> {
    fn is_in(&self, lease_id: LeaseId) -> bool {
        self.previous.as_ref().is_some_and(|record| record.lease_id == lease_id)
    }
}

/// What the call did, and why watchers see a change, should they see one. That only a hold of the guard
/// ends is a renewal to the owner and a recovery to watchers (API/P2).
fn judge(
    previous: Option<&InstanceRecord>,
    owner: Option<&InstanceRecord>,
    record: &InstanceRecord,
) -> (RegisterOutcome, EventCause) {
    match (previous, owner) {
        (None, _) => (RegisterOutcome::Created, EventCause::Registered),
        (Some(_), None) => (RegisterOutcome::Replaced, EventCause::Replaced),
        (Some(_), Some(owner)) => {
            let same = owner.content == record.content
                && owner.reported_state == record.reported_state
                && owner.ttl_ms == record.ttl_ms;
            if same {
                (RegisterOutcome::Renewed, EventCause::Recovered)
            } else {
                (RegisterOutcome::Updated, EventCause::Registered)
            }
        }
    }
}

/// A time to live that was checked fits into 32 bits.
fn short(ttl_ms: Option<u64>) -> Option<u32> {
    ttl_ms.map(|ttl| u32::try_from(ttl).unwrap_or(u32::MAX))
}
