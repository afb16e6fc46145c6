//! The mass-expiry guard (P/L6). The leader decides when it takes hold and when its time is over; here is
//! what follows from it, the same on every node.
//!
//! Held leases and guards agree: all services of a held lease have a holding guard. So when the guard of a
//! service ends, every lease that touches the service is let go, and none is kept without end.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::effects::Step;
use super::expire::fits;
use crate::command::{EndProtection, GuardAction, GuardDecision, GuardTick, Protect, Unprotect};
use crate::event::EventCause;
use crate::ids::{LeaseId, ServiceKey};
use crate::instance::{InstanceRecord, Protection};
use crate::lease::{LeaseChange, LeaseHold};
use crate::reply::Reply;
use crate::service::GuardState;
use crate::state::State;

impl State {
    pub(super) fn protect(&mut self, step: &mut Step, command: &Protect) -> Reply {
        let (mut leases, mut instances) = (0, 0);
        for named in &command.leases {
            let overdue = self.leases.get(&named.lease_id).filter(|lease| {
                lease.version == named.version && lease.ttl_ms != 0 && lease.hold == LeaseHold::None
            });
            if !overdue.is_some_and(|lease| fits(instances, lease.instances)) {
                continue;
            }
            self.change_lease(named.lease_id, |lease| lease.hold = LeaseHold::Held);
            step.lease(LeaseChange::Held { id: named.lease_id, version: named.version });
            let protection =
                Arc::new(Protection { silent_for_ms: named.silent_for_ms, since_unix_ms: step.now_unix_ms });
            for record in self.records_of(named.lease_id) {
                self.hold_service(&record.service, command.hold_ms);
                let kept = InstanceRecord { protection: Some(protection.clone()), ..(*record).clone() };
                self.revise(step, record, kept, EventCause::Protected);
                instances += 1;
            }
            leases += 1;
        }
        Reply::Protected { leases, instances }
    }

    fn hold_service(&mut self, key: &ServiceKey, hold_ms: u64) {
        let guard = self.services.get(key).map(|service| service.guard);
        if !matches!(guard, Some(GuardState::Holding { .. })) {
            self.set_guard(key, GuardState::Holding { remaining_ms: hold_ms });
        }
    }

    pub(super) fn unprotect(&mut self, step: &mut Step, command: &Unprotect) -> Reply {
        let (mut leases, mut instances) = (0, 0);
        for named in &command.leases {
            let kept = self
                .leases
                .get(&named.lease_id)
                .filter(|lease| lease.version == named.version && lease.hold != LeaseHold::None)
                .filter(|lease| fits(instances, lease.instances))
                .copied();
            if let Some(lease) = kept {
                self.touch_lease(step, named.lease_id);
                leases += 1;
                instances += lease.instances;
            }
        }
        Reply::Unprotected { leases, instances }
    }

    /// An operator ends the guard of a service, a namespace or everywhere.
    pub(super) fn end_protection(&mut self, step: &mut Step, command: &EndProtection) -> Reply {
        let namespace = command.namespace.as_str();
        let services: Vec<Arc<ServiceKey>> = if command.all_namespaces {
            self.services_from(None).map(|view| view.key().clone()).collect()
        } else if command.service_name.is_empty() {
            self.services_in(namespace, "", "").map(|view| view.key().clone()).collect()
        } else {
            self.service(namespace, &command.service_name)
                .map(|view| view.key().clone())
                .into_iter()
                .collect()
        };
        let ended = services.iter().map(|key| self.end_guard(step, key)).sum();
        Reply::ProtectionEnded { ended }
    }

    pub(super) fn guard_tick(&mut self, step: &mut Step, command: &GuardTick) -> Reply {
        let ended = command.services.iter().map(|decision| self.decide(step, decision)).sum();
        Reply::GuardTicked { ended }
    }

    /// Does what the leader decided about one service; returns the number of instances let go.
    fn decide(&mut self, step: &mut Step, decision: &GuardDecision) -> u32 {
        let (Some(name), Some(action)) = (&decision.service, decision.action) else { return 0 };
        let key = ServiceKey::new(&name.namespace, &name.service_name);
        let Some(service) = self.services.get(&key) else { return 0 };
        match (action, service.guard) {
            (GuardAction::Hold(left), GuardState::Holding { remaining_ms }) => {
                self.set_guard(&key, GuardState::Holding { remaining_ms: left.min(remaining_ms) });
                0
            }
            (GuardAction::Arm(_), GuardState::Disarmed) => {
                self.set_guard(&key, GuardState::Armed);
                0
            }
            (GuardAction::End(_), _) => self.end_guard(step, &key),
            (GuardAction::Hold(_) | GuardAction::Arm(_), _) => 0,
        }
    }

    /// Ends the guard of a service if it holds: its leases are due now, and it is disarmed. Protection
    /// stays shown until they expire or are renewed. Returns the number of instances let go.
    fn end_guard(&mut self, step: &mut Step, key: &ServiceKey) -> u32 {
        let Some(service) = self.services.get(key).copied() else { return 0 };
        if !matches!(service.guard, GuardState::Holding { .. }) {
            return 0;
        }
        self.set_guard(key, GuardState::Disarmed);
        let kept: BTreeSet<LeaseId> = self
            .instances_of(service.number, "")
            .filter(|record| record.is_protected())
            .map(|record| record.lease_id)
            .collect();
        kept.into_iter().map(|id| self.release(step, id)).sum()
    }

    fn release(&mut self, step: &mut Step, id: LeaseId) -> u32 {
        if self.leases.get(&id).is_none_or(|lease| lease.hold != LeaseHold::Held) {
            return 0;
        }
        let released = self.change_lease(id, |lease| lease.hold = LeaseHold::Released);
        released.map_or(0, |lease| {
            step.lease(LeaseChange::Released { id, version: lease.version });
            lease.instances
        })
    }
}
