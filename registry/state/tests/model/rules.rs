//! What each operation does to the model.

use std::collections::BTreeSet;
use std::sync::Arc;

use registry_state::*;

use crate::naive::{Key, Model, ServiceName, key_of, reject, service_of, services, target_key};

impl Model {
    pub(crate) fn dispatch(&mut self, command: &Command, client: &str) -> Result<Reply, Rejection> {
        let now = command.proposed_at_unix_ms;
        match &command.operation {
            Operation::InitCluster(init) => {
                if self.founded() && init.cluster_id == self.cluster_id {
                    return Ok(Reply::Initialized { already: true });
                }
                if self.founded() {
                    return reject(Reason::AlreadyInitialized {
                        cluster_id: self.cluster_id.as_str().into(),
                    });
                }
                self.cluster_id = init.cluster_id.clone();
                self.settings =
                    init.settings.clone().map(|settings| ClusterSettings { version: 1, ..settings });
                self.members = init.members.iter().map(|m| (m.raft_id, m.disk_id.clone())).collect();
                self.next_raft_id = init.next_raft_id;
                Ok(Reply::Initialized { already: false })
            }
            Operation::Register(register) => self.register(register, client, now),
            Operation::BatchRegister(batch) => self.batch(batch, client, now),
            Operation::Deregister(d) => {
                let found = self.targets(d.target.as_ref().unwrap())?;
                let cause = if d.by_operator { EventCause::Operator } else { EventCause::Deregistered };
                found.iter().for_each(|record| self.drop_instance(record, cause));
                Ok(Reply::Deregistered { removed: found.len() as u32 })
            }
            Operation::SetState(set) => {
                let found = self.some_targets(set.target.as_ref().unwrap())?;
                let hidden =
                    |r: &&InstanceRecord| r.operator_override.as_ref().is_some_and(|o| o.state.is_some());
                let overridden = found.iter().filter(hidden).count() as u32;
                let changed = self.report(&found, InstanceState::try_from(set.state).unwrap());
                Ok(Reply::StateSet { changed, overridden })
            }
            Operation::Drain(drain) => self.drain(drain, now),
            Operation::SetOverride(set) => {
                let key = target_key(set.target.as_ref().unwrap());
                let state =
                    InstanceState::try_from(set.state).ok().filter(|s| *s != InstanceState::Unspecified);
                let weight = set.weight.map(|w| w as u16);
                let wanted = (state, weight, set.comment.clone(), set.actor.clone());
                let registered = self.instances.contains_key(&key);
                let operator_override = Arc::new(self.set_override(key, wanted, set.ttl_ms, now)?);
                Ok(Reply::OverrideSet { operator_override, registered })
            }
            Operation::ClearOverride(clear) => {
                let key = target_key(clear.target.as_ref().unwrap());
                let cleared = self.overrides.remove(&key).is_some();
                if cleared {
                    self.show(&key, EventCause::OverrideCleared);
                }
                Ok(Reply::OverrideCleared { cleared })
            }
            Operation::TickOverrides(tick) => {
                let mut updated = 0;
                for tick in &tick.overrides {
                    if let Some((_, Some(left))) = self.version_mut(tick.target.as_ref().unwrap()) {
                        *left = tick.remaining_ms.min(*left);
                        updated += 1;
                    }
                }
                Ok(Reply::OverridesTicked { updated })
            }
            Operation::EndOverrides(end) => {
                let mut ended = 0;
                for named in &end.overrides {
                    if matches!(self.version_mut(named), Some((_, Some(_)))) {
                        let key =
                            (named.namespace.clone(), named.service_name.clone(), named.instance_id.clone());
                        self.overrides.remove(&key);
                        self.show(&key, EventCause::OverrideExpired);
                        ended += 1;
                    }
                }
                Ok(Reply::OverridesEnded { ended })
            }
            other => self.dispatch_registry(other, now),
        }
    }

    /// What the registry itself proposes.
    pub(crate) fn dispatch_registry(&mut self, operation: &Operation, now: u64) -> Result<Reply, Rejection> {
        match operation {
            Operation::Protect(protect) => Ok(self.protect(protect, now)),
            Operation::Unprotect(unprotect) => {
                let (mut leases, mut instances) = (0, 0);
                for named in &unprotect.leases {
                    let lease =
                        self.leases.get(&named.lease_id).filter(|lease| lease.version == named.version);
                    if lease.is_some_and(|lease| lease.hold != LeaseHold::None) {
                        leases += 1;
                        instances += self.of_lease(named.lease_id).len() as u32;
                        self.touch(named.lease_id);
                    }
                }
                Ok(Reply::Unprotected { leases, instances })
            }
            Operation::EndProtection(end) => {
                let within = |name: &ServiceName| {
                    end.all_namespaces
                        || name.0 == end.namespace
                            && (end.service_name.is_empty() || name.1 == end.service_name)
                };
                let names: Vec<_> = self.services.keys().filter(|name| within(name)).cloned().collect();
                let ended = names.iter().map(|name| self.end_guard(name)).sum();
                Ok(Reply::ProtectionEnded { ended })
            }
            Operation::GuardTick(tick) => {
                let mut ended = 0;
                for decision in &tick.services {
                    let named = decision.service.as_ref().unwrap();
                    let name = (named.namespace.clone(), named.service_name.clone());
                    let Some((_, guard)) = self.services.get_mut(&name) else { continue };
                    match (decision.action.unwrap(), *guard) {
                        (GuardAction::End(_), _) => ended += self.end_guard(&name),
                        (GuardAction::Hold(left), GuardState::Holding { remaining_ms }) => {
                            *guard = GuardState::Holding { remaining_ms: left.min(remaining_ms) };
                        }
                        (GuardAction::Arm(_), GuardState::Disarmed) => *guard = GuardState::Armed,
                        _ => {}
                    }
                }
                Ok(Reply::GuardTicked { ended })
            }
            Operation::Expire(expire) => {
                let (mut leases, mut instances, mut skipped) = (0, 0, 0);
                for named in &expire.leases {
                    let lease = self.leases.get(&named.lease_id);
                    let due = lease.is_some_and(|l| l.version == named.version && l.ttl_ms != 0);
                    let found = self.of_lease(named.lease_id);
                    if due && !found.is_empty() {
                        leases += 1;
                        instances += found.len() as u32;
                        found.iter().for_each(|record| self.drop_instance(record, EventCause::Expired));
                    } else {
                        skipped += 1;
                    }
                }
                Ok(Reply::Expired { leases, instances, skipped })
            }
            Operation::AddMember(add) => self.add_member(add),
            Operation::RemoveMembers(remove) => {
                self.check_owner(remove.owner)?;
                let mut removed = Vec::new();
                for id in &remove.raft_ids {
                    if let Some(disk) = self.members.remove(id) {
                        self.removed.push((*id, disk));
                        removed.push(*id);
                    }
                }
                Ok(Reply::MembersRemoved { removed })
            }
            Operation::UpdateSettings(update) => {
                let present = self.settings().clone();
                if update.expected_version != present.version {
                    return reject(Reason::SettingsChanged { version: present.version });
                }
                let wanted = ClusterSettings { version: present.version, ..update.settings.clone().unwrap() };
                let version = present.version + u64::from(wanted != present);
                self.settings = Some(ClusterSettings { version, ..wanted });
                Ok(Reply::SettingsUpdated { version })
            }
            _ => unreachable!("a client's command"),
        }
    }

    pub(crate) fn add_member(&mut self, add: &AddMember) -> Result<Reply, Rejection> {
        self.check_owner(add.owner)?;
        let disk = add.member.as_ref().unwrap().disk_id.clone();
        if let Some((id, _)) = self.members.iter().find(|(_, known)| **known == disk) {
            return Ok(Reply::MemberAdded { raft_id: *id, already: true });
        }
        if let Some((raft_id, _)) = self.removed.iter().find(|(_, known)| *known == disk) {
            return reject(Reason::MemberRemoved { raft_id: *raft_id });
        }
        let raft_id = self.next_raft_id;
        self.next_raft_id += 1;
        self.members.insert(raft_id, disk);
        Ok(Reply::MemberAdded { raft_id, already: false })
    }

    pub(crate) fn check_owner(&self, owner: i32) -> Result<(), Rejection> {
        if owner == self.settings().membership_owner {
            return Ok(());
        }
        reject(Reason::MembershipOwned { owner: self.settings().owner() })
    }

    pub(crate) fn drop_instance(&mut self, record: &InstanceRecord, cause: EventCause) {
        self.instances.remove(&key_of(record));
        self.causes.insert(key_of(record), cause);
        if self.of_lease(record.lease_id).is_empty() {
            self.leases.remove(&record.lease_id);
        }
    }

    pub(crate) fn report(&mut self, found: &[InstanceRecord], state: InstanceState) -> u32 {
        let mut changed = 0;
        for record in found.iter().filter(|record| record.reported_state != state) {
            self.instances.get_mut(&key_of(record)).unwrap().reported_state = state;
            self.causes.insert(key_of(record), EventCause::StateReported);
            changed += 1;
        }
        changed
    }

    pub(crate) fn drain(&mut self, drain: &Drain, now: u64) -> Result<Reply, Rejection> {
        let found = self.some_targets(drain.target.as_ref().unwrap())?;
        let before = found.iter().map(|record| record.revision).max().unwrap();
        let changed = if drain.by_operator {
            let key = key_of(&found[0]);
            let present = self.overrides.get(&key).map(|(o, _)| o.clone());
            let weight = present.as_ref().and_then(|o| o.weight);
            let comment = present.as_ref().map_or(String::new(), |o| o.comment.to_string());
            let actor = present.as_ref().map_or(String::new(), |o| o.actor.to_string());
            let wanted = (Some(InstanceState::Draining), weight, comment, actor);
            let set = self.set_override(key, wanted, None, now)?;
            present != Some(set)
        } else {
            self.report(&found, InstanceState::Draining) > 0
        };
        let revision = if changed { self.revision + 1 } else { before };
        Ok(Reply::Drained { revision, services: services(&found) })
    }

    pub(crate) fn set_override(
        &mut self,
        key: Key,
        (state, weight, comment, actor): (Option<InstanceState>, Option<u16>, String, String),
        ttl_ms: Option<u64>,
        now: u64,
    ) -> Result<Override, Rejection> {
        let wanted = Override {
            state,
            weight,
            comment: comment.into(),
            actor: actor.into(),
            set_at_unix_ms: now,
            expires_at_unix_ms: ttl_ms.map(|ttl| now + ttl),
            revision: self.revision + 1,
        };
        match self.overrides.get(&key) {
            Some((present, None)) if ttl_ms.is_none() => {
                let Override { set_at_unix_ms, revision, .. } = *present;
                if (Override { set_at_unix_ms, revision, ..wanted.clone() }) == *present {
                    return Ok(present.clone());
                }
            }
            None if self.overrides.len() as u64 >= self.settings().quotas.overrides => {
                let limit = self.settings().quotas.overrides;
                return reject(Reason::QuotaExceeded { quota: Quota::Overrides, limit });
            }
            _ => {}
        }
        self.overrides.insert(key.clone(), (wanted.clone(), ttl_ms));
        self.show(&key, EventCause::OverrideSet);
        Ok(wanted)
    }

    /// Shows on the instance what the list of overrides says.
    pub(crate) fn show(&mut self, key: &Key, cause: EventCause) {
        self.touched_overrides = true;
        let shown = self.overrides.get(key).map(|(o, _)| Arc::new(o.clone()));
        if let Some(record) = self.instances.get_mut(key) {
            record.operator_override = shown;
            self.causes.insert(key.clone(), cause);
        }
    }

    pub(crate) fn version_mut(&mut self, named: &OverrideVersion) -> Option<&mut (Override, Option<u64>)> {
        let key = (named.namespace.clone(), named.service_name.clone(), named.instance_id.clone());
        self.overrides.get_mut(&key).filter(|(o, _)| o.revision == named.version)
    }

    pub(crate) fn protect(&mut self, protect: &Protect, now: u64) -> Reply {
        let (mut leases, mut instances) = (0, 0);
        for named in &protect.leases {
            let Some(lease) = self.leases.get_mut(&named.lease_id) else { continue };
            if lease.version != named.version || lease.ttl_ms == 0 || lease.hold != LeaseHold::None {
                continue;
            }
            lease.hold = LeaseHold::Held;
            leases += 1;
            let protection = Protection { silent_for_ms: named.silent_for_ms, since_unix_ms: now };
            for (key, record) in self.instances.iter_mut().filter(|(_, r)| r.lease_id == named.lease_id) {
                record.protection = Some(Arc::new(protection.clone()));
                self.causes.insert(key.clone(), EventCause::Protected);
                instances += 1;
                let guard = &mut self.services.get_mut(&service_of(key)).unwrap().1;
                if !matches!(guard, GuardState::Holding { .. }) {
                    *guard = GuardState::Holding { remaining_ms: protect.hold_ms };
                }
            }
        }
        Reply::Protected { leases, instances }
    }

    pub(crate) fn end_guard(&mut self, name: &ServiceName) -> u32 {
        let guard = &mut self.services.get_mut(name).unwrap().1;
        if !matches!(guard, GuardState::Holding { .. }) {
            return 0;
        }
        *guard = GuardState::Disarmed;
        let touching: BTreeSet<u64> = self
            .instances
            .iter()
            .filter(|(key, _)| service_of(key) == *name)
            .map(|(_, r)| r.lease_id)
            .collect();
        let mut ended = 0;
        for id in touching {
            let lease = self.leases.get_mut(&id).unwrap();
            if lease.hold == LeaseHold::Held {
                lease.hold = LeaseHold::Released;
                ended += self.of_lease(id).len() as u32;
            }
        }
        ended
    }
}
