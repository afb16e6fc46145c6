//! The rules of the state machine once more, as plainly as possible: whole copies, searches through
//! everything, events found by comparing before and after. Shape checks are taken from the crate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use registry_state::*;

/// Namespace, service, instance.
type Key = (String, String, String);
type ServiceName = (String, String);

/// What the model expects of `apply`.
pub(crate) struct Expected {
    pub(crate) reply: Reply,
    pub(crate) revision: u64,
    pub(crate) replayed: bool,
    /// Sorted by instance.
    pub(crate) events: Option<Vec<Event>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct MLease {
    version: u64,
    ttl_ms: u32,
    hold: LeaseHold,
}

#[derive(Clone, Debug, Default)]
struct MClient {
    highest: u64,
    done_below: u64,
    writes: BTreeMap<u64, (u64, u64, Reply)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    settings: Option<ClusterSettings>,
    revision: u64,
    instances: BTreeMap<Key, InstanceRecord>,
    leases: BTreeMap<u64, MLease>,
    overrides: BTreeMap<Key, (Override, Option<u64>)>,
    clients: BTreeMap<String, MClient>,
    /// Revision of the last change, and the guard.
    services: BTreeMap<ServiceName, (u64, GuardState)>,
    history: Vec<(u64, Vec<Event>)>,
    members: BTreeMap<u64, String>,
    removed: Vec<(u64, String)>,
    next_raft_id: u64,
    /// Causes of the changes of the command under way.
    causes: BTreeMap<Key, EventCause>,
    touched_overrides: bool,
    /// The last commands of clients, to be repeated.
    sent: Vec<Command>,
    cluster_id: String,
}

fn key_of(record: &InstanceRecord) -> Key {
    (record.service.namespace.to_string(), record.service.name.to_string(), record.instance_id.to_string())
}

fn service_of(key: &Key) -> ServiceName {
    (key.0.clone(), key.1.clone())
}

/// The record without what readers do not see.
fn visible(record: &InstanceRecord) -> InstanceRecord {
    InstanceRecord { revision: 0, lease_id: 0, client: "".into(), ..record.clone() }
}

fn reject<T>(reason: Reason) -> Result<T, Rejection> {
    Err(reason.into())
}

impl Model {
    pub(crate) fn founded(&self) -> bool {
        self.settings.is_some()
    }

    pub(crate) fn settings(&self) -> &ClusterSettings {
        self.settings.as_ref().unwrap_or(&ClusterSettings::DEFAULT)
    }

    pub(crate) fn highest_serial(&self, client: &str) -> u64 {
        self.clients.get(client).map_or(0, |client| client.highest)
    }

    /// Incarnation and lease of an instance, if it is there.
    pub(crate) fn proof(&self, r: &Registration) -> (u64, u64) {
        self.find(r).map_or((0, 0), |record| (record.incarnation, record.lease_id))
    }

    /// One of the last commands with a request id.
    pub(crate) fn sent(&self, dice: &mut crate::dice::Dice<'_>) -> Option<Command> {
        (!self.sent.is_empty()).then(|| dice.pick(&self.sent))
    }

    pub(crate) fn lease_versions(&self) -> Vec<(u64, u64)> {
        self.leases.iter().map(|(id, lease)| (*id, lease.version)).collect()
    }

    pub(crate) fn override_versions(&self) -> Vec<OverrideVersion> {
        let version = |((namespace, service, id), (o, _)): (&Key, &(Override, _))| OverrideVersion {
            namespace: namespace.clone(),
            service_name: service.clone(),
            instance_id: id.clone(),
            version: o.revision,
        };
        self.overrides.iter().map(version).collect()
    }

    pub(crate) fn apply(&mut self, command: &Command) -> Expected {
        let refused = |model: &Self, reason: Reason| Expected {
            reply: Reply::Rejected(reason.into()),
            revision: model.revision,
            replayed: false,
            events: None,
        };
        if !self.founded() && !matches!(command.operation, Operation::InitCluster(_)) {
            return refused(self, Reason::NotInitialized);
        }
        if let Err(violations) = command.operation.check() {
            return refused(self, Reason::InvalidField(violations));
        }
        let request = command.request.clone().filter(|_| command.operation.is_deduplicated());
        let Some(request) = request else { return self.execute(command, "") };
        self.sent.push(command.clone());
        let old = self.sent.len().saturating_sub(12);
        self.sent.drain(..old);

        let client = self.clients.get(&request.client);
        let floor =
            client.map_or(0, |c| c.done_below.max(c.highest.saturating_sub(15))).max(request.done_below);
        if request.serial == 0 || request.serial >= request.done_below + 16 {
            let end = request.done_below + 16;
            let description = match request.serial {
                0 => "begins with 1".into(),
                serial => format!("{serial} is not below done_below + 16 = {end}"),
            };
            let violation = Violation { field: "request_id.serial".into(), description };
            return refused(self, Reason::InvalidField(vec![violation]));
        }
        if client.is_none() && request.serial != 1 {
            return refused(self, Reason::SessionUnknown);
        }
        if request.serial < floor {
            return refused(self, Reason::RequestSuperseded { floor });
        }
        if let Some((hash, revision, reply)) = client.and_then(|client| client.writes.get(&request.serial)) {
            if *hash != request.hash {
                return refused(self, Reason::RequestIdReused);
            }
            let reply = self.again(command, reply.clone());
            return Expected { reply, revision: *revision, replayed: true, events: None };
        }
        let client = self.clients.entry(request.client.clone()).or_default();
        client.highest = client.highest.max(request.serial);
        client.done_below = client.done_below.max(request.done_below);
        let expected = self.execute(command, &request.client);
        let record = (request.hash, expected.revision, expected.reply.clone());
        self.clients.entry(request.client).or_default().writes.insert(request.serial, record);
        expected
    }

    /// A remembered answer with what is there now.
    fn again(&self, command: &Command, reply: Reply) -> Reply {
        let gone = |index| Reply::Rejected(Rejection { reason: Reason::RegistrationGone, index });
        match (&command.operation, reply) {
            (Operation::Register(r), Reply::Registered { lease_id, incarnation, outcome, .. }) => {
                match self.find(r.registration.as_ref().unwrap()) {
                    Some(record) if record.incarnation == incarnation => Reply::Registered {
                        instance: Arc::new(record.clone()),
                        lease_id,
                        incarnation,
                        outcome,
                    },
                    _ => gone(None),
                }
            }
            (Operation::BatchRegister(batch), Reply::BatchRegistered { results, lease_id }) => {
                for (index, (r, result)) in batch.registrations.iter().zip(&results).enumerate() {
                    if self.find(r).is_none_or(|record| record.incarnation != result.incarnation) {
                        return gone(Some(index as u32));
                    }
                }
                Reply::BatchRegistered { results, lease_id }
            }
            (Operation::Drain(drain), Reply::Drained { revision, .. }) => {
                let found = self.targets(drain.target.as_ref().unwrap()).unwrap_or_default();
                Reply::Drained { revision, services: services(&found) }
            }
            (Operation::SetOverride(set), Reply::OverrideSet { operator_override, registered }) => {
                // Labels of an override that is gone are made anew, with the clock of the repetition.
                let key = target_key(set.target.as_ref().unwrap());
                let standing =
                    self.overrides.get(&key).filter(|(o, _)| o.revision == operator_override.revision);
                let mut o = (*operator_override).clone();
                if standing.is_none() {
                    o.set_at_unix_ms = command.proposed_at_unix_ms;
                    o.expires_at_unix_ms = set.ttl_ms.map(|ttl| command.proposed_at_unix_ms + ttl);
                }
                Reply::OverrideSet { operator_override: Arc::new(o), registered }
            }
            (_, reply) => reply,
        }
    }

    fn execute(&mut self, command: &Command, client: &str) -> Expected {
        let mut next = self.clone();
        next.causes.clear();
        next.touched_overrides = false;
        let outcome = next.dispatch(command, client);
        let reply = match outcome {
            Ok(reply) => reply,
            Err(rejection) => {
                return Expected {
                    reply: Reply::Rejected(rejection),
                    revision: self.revision,
                    replayed: false,
                    events: None,
                };
            }
        };
        let (events, reply) = next.close(self, reply);
        *self = next;
        Expected { reply, revision: self.revision, replayed: false, events }
    }

    /// Finds the events by comparing with `before`, makes the revision, forgets history and services, and
    /// ends leases without instances.
    fn close(&mut self, before: &Self, mut reply: Reply) -> (Option<Vec<Event>>, Reply) {
        let revision = before.revision + 1;
        let keys: BTreeSet<Key> = before.instances.keys().chain(self.instances.keys()).cloned().collect();
        let mut events = Vec::new();
        for key in keys {
            let cause = self.causes.get(&key).copied().unwrap_or(EventCause::Unspecified);
            let old = before.instances.get(&key);
            let new = self.instances.get_mut(&key);
            let event = match (old, new) {
                (Some(old), Some(new)) if visible(old) == visible(new) => {
                    new.revision = old.revision;
                    continue;
                }
                (Some(old), Some(new)) => {
                    new.revision = revision;
                    let (instance, previous) = (Arc::new(new.clone()), Some(Arc::new(old.clone())));
                    Event { kind: EventKind::Updated, cause, instance, previous }
                }
                (None, Some(new)) => {
                    new.revision = revision;
                    Event { kind: EventKind::Added, cause, instance: Arc::new(new.clone()), previous: None }
                }
                (Some(old), None) => {
                    Event { kind: EventKind::Removed, cause, instance: Arc::new(old.clone()), previous: None }
                }
                (None, None) => continue,
            };
            self.services.entry(service_of(&key)).or_insert((0, GuardState::Armed)).0 = revision;
            events.push(event);
        }
        if let Reply::Registered { instance, .. } = &mut reply {
            *instance = Arc::new(self.instances[&key_of(instance)].clone());
        }
        let used: BTreeSet<u64> = self.instances.values().map(|record| record.lease_id).collect();
        self.leases.retain(|id, _| used.contains(id));
        if events.is_empty() && !self.touched_overrides {
            return (None, reply);
        }
        self.revision = revision;
        self.history.push((revision, events.clone()));
        self.evict();
        (Some(events), reply)
    }

    fn evict(&mut self) {
        let bounds = self.settings().history;
        loop {
            let events: u64 = self.history.iter().map(|(_, events)| events.len().max(1) as u64).sum();
            let bytes: u64 = self.history.iter().flat_map(|(_, events)| events).map(Event::size_bytes).sum();
            if self.history.len() <= 1 || (events <= bounds.max_events && bytes <= bounds.max_bytes) {
                break;
            }
            self.history.remove(0);
        }
        let floor = self.history.first().map_or(self.revision, |(first, _)| first - 1);
        let filled: BTreeSet<ServiceName> = self.instances.keys().map(service_of).collect();
        self.services.retain(|name, (revision, _)| filled.contains(name) || *revision > floor);
    }

    fn find(&self, r: &Registration) -> Option<&InstanceRecord> {
        self.instances.get(&(r.namespace.clone(), r.service_name.clone(), r.instance_id.clone()))
    }

    fn of_lease(&self, id: u64) -> Vec<InstanceRecord> {
        self.instances.values().filter(|record| record.lease_id == id).cloned().collect()
    }

    fn targets(&self, target: &Target) -> Result<Vec<InstanceRecord>, Rejection> {
        if target.lease_id != 0 {
            return Ok(self.of_lease(target.lease_id));
        }
        match self.instances.get(&target_key(target)) {
            None => Ok(Vec::new()),
            Some(record) if target.incarnation == 0 || target.incarnation == record.incarnation => {
                Ok(vec![record.clone()])
            }
            Some(record) => reject(Reason::StaleIncarnation { current: record.incarnation }),
        }
    }

    fn some_targets(&self, target: &Target) -> Result<Vec<InstanceRecord>, Rejection> {
        let found = self.targets(target)?;
        if found.is_empty() {
            return reject(if target.lease_id == 0 {
                Reason::InstanceNotFound
            } else {
                Reason::LeaseExpired
            });
        }
        Ok(found)
    }

    fn dispatch(&mut self, command: &Command, client: &str) -> Result<Reply, Rejection> {
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
    fn dispatch_registry(&mut self, operation: &Operation, now: u64) -> Result<Reply, Rejection> {
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

    fn add_member(&mut self, add: &AddMember) -> Result<Reply, Rejection> {
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

    fn check_owner(&self, owner: i32) -> Result<(), Rejection> {
        if owner == self.settings().membership_owner {
            return Ok(());
        }
        reject(Reason::MembershipOwned { owner: self.settings().owner() })
    }

    /// First match decides (P/R2).
    fn same_owner(
        record: &InstanceRecord,
        r: &Registration,
        lease: u64,
        client: &str,
    ) -> Result<bool, Reason> {
        if r.incarnation != 0 && r.incarnation != record.incarnation {
            return Err(Reason::StaleIncarnation { current: record.incarnation });
        }
        Ok(r.incarnation != 0 || (lease != 0 && record.lease_id == lease) || record.client == client)
    }

    fn register(&mut self, register: &Register, client: &str, now: u64) -> Result<Reply, Rejection> {
        let r = register.registration.as_ref().unwrap();
        let previous = self.find(r).cloned();
        let same = match &previous {
            Some(record) => Self::same_owner(record, r, r.lease_id, client)?,
            None => false,
        };
        let mut after = self.clone();
        after.check_quotas(&[r])?;
        let own = previous.as_ref().filter(|_| same).map(|record| record.lease_id);
        let lease_id = if r.lease_id != 0 {
            self.join(r.lease_id, r.ttl_ms)?
        } else if let Some(own) = own {
            let others = self.of_lease(own).len() > 1;
            let present = u64::from(self.leases[&own].ttl_ms);
            match r.ttl_ms {
                Some(ttl) if ttl != present && others => self.open(register.new_lease_id, Some(ttl)),
                Some(ttl) => {
                    self.leases.get_mut(&own).unwrap().ttl_ms = ttl as u32;
                    own
                }
                None => own,
            }
        } else {
            self.open(register.new_lease_id, r.ttl_ms)
        };
        self.touch(lease_id);
        let (instance, outcome) = self.enter(r, lease_id, same, client, now);
        let incarnation = instance.incarnation;
        Ok(Reply::Registered { instance: Arc::new(instance), lease_id, incarnation, outcome })
    }

    fn batch(&mut self, batch: &BatchRegister, client: &str, now: u64) -> Result<Reply, Rejection> {
        if batch.lease_id != 0 {
            self.join(batch.lease_id, batch.ttl_ms)?;
        }
        let mut same = Vec::new();
        for (index, r) in batch.registrations.iter().enumerate() {
            let at = |reason| Rejection { reason, index: Some(index as u32) };
            let owner = self.find(r).map(|record| Self::same_owner(record, r, batch.lease_id, client));
            same.push(owner.transpose().map_err(at)?.unwrap_or(false));
            let so_far: Vec<_> = batch.registrations[..=index].iter().collect();
            self.clone().check_quotas(&so_far).map_err(|rejection| at(rejection.reason))?;
        }
        let lease_id = match batch.lease_id {
            0 => self.open(batch.new_lease_id, batch.ttl_ms),
            id => id,
        };
        self.touch(lease_id);
        let mut results = Vec::new();
        for (r, same) in batch.registrations.iter().zip(same) {
            let (record, outcome) = self.enter(r, lease_id, same, client, now);
            let (instance_id, incarnation) = (record.instance_id, record.incarnation);
            results.push(BatchEntry { instance_id, incarnation, outcome });
        }
        Ok(Reply::BatchRegistered { results, lease_id })
    }

    /// Enters all of them with their content alone and looks whether there is room.
    fn check_quotas(&mut self, registrations: &[&Registration]) -> Result<(), Rejection> {
        let quotas = self.settings().quotas;
        let full = |quota, limit| reject(Reason::QuotaExceeded { quota, limit });
        let Some((last, _)) = registrations.split_last() else { return Ok(()) };
        let before = self.find(last).cloned();
        for r in registrations {
            self.enter(r, 0, false, "", 0);
        }
        let key = (last.namespace.clone(), last.service_name.clone(), last.instance_id.clone());
        let name = service_of(&key);
        if before.is_none() {
            if self.instances.len() as u64 > quotas.instances {
                return full(Quota::Instances, quotas.instances);
            }
            let mut names: BTreeSet<_> = self.services.keys().cloned().collect();
            let known = names.contains(&name);
            names.extend(registrations.iter().map(|r| (r.namespace.clone(), r.service_name.clone())));
            if !known && names.len() as u64 > quotas.services {
                return full(Quota::Services, quotas.services);
            }
            let count = self.instances.keys().filter(|key| service_of(key) == name).count() as u64;
            if count > quotas.instances_per_service {
                return full(Quota::InstancesPerService, quotas.instances_per_service);
            }
        }
        let bytes: u64 = self.instances.values().map(InstanceRecord::user_data_bytes).sum();
        let grows = self.instances[&key].user_data_bytes() > before.map_or(0, |b| b.user_data_bytes());
        if grows && bytes > quotas.user_data_bytes {
            return full(Quota::UserDataBytes, quotas.user_data_bytes);
        }
        Ok(())
    }

    fn join(&self, id: u64, ttl_ms: Option<u64>) -> Result<u64, Rejection> {
        let Some(lease) = self.leases.get(&id) else { return reject(Reason::LeaseExpired) };
        if ttl_ms.is_some_and(|ttl| ttl != u64::from(lease.ttl_ms)) {
            let description = format!("the lease has {} ms; leave it unset or give the same", lease.ttl_ms);
            return reject(Reason::InvalidField(vec![Violation { field: "ttl".into(), description }]));
        }
        Ok(id)
    }

    /// A new lease, to be touched once: that makes version 1.
    fn open(&mut self, drawn: u64, ttl_ms: Option<u64>) -> u64 {
        let mut id = drawn;
        while id == 0 || self.leases.contains_key(&id) {
            id += 1;
        }
        let ttl_ms = ttl_ms.unwrap_or(self.settings().default_ttl_ms) as u32;
        self.leases.insert(id, MLease { version: 0, ttl_ms, hold: LeaseHold::None });
        id
    }

    fn touch(&mut self, id: u64) {
        let lease = self.leases.get_mut(&id).unwrap();
        lease.version += 1;
        lease.hold = LeaseHold::None;
        for record in self.instances.values_mut().filter(|record| record.lease_id == id) {
            if record.protection.take().is_some() {
                self.causes.insert(key_of(record), EventCause::Recovered);
            }
        }
    }

    fn enter(
        &mut self,
        r: &Registration,
        lease_id: u64,
        same: bool,
        client: &str,
        now: u64,
    ) -> (InstanceRecord, RegisterOutcome) {
        let key = (r.namespace.clone(), r.service_name.clone(), r.instance_id.clone());
        let previous = self.instances.get(&key).cloned();
        let owner = previous.clone().filter(|_| same);
        let next = self.revision + 1;
        let given = InstanceState::try_from(r.state).unwrap();
        let record = InstanceRecord {
            service: Arc::new(ServiceKey::new(&r.namespace, &r.service_name)),
            instance_id: r.instance_id.as_str().into(),
            content: Arc::new(Content {
                host: r.host.as_str().into(),
                port: r.port as u16,
                weight: r.weight.unwrap_or(100) as u16,
                zone: r.zone.as_str().into(),
                metadata: r
                    .metadata
                    .iter()
                    .map(|p| (p.key.as_str().into(), p.value.as_str().into()))
                    .collect(),
                tags: r.tags.iter().map(|t| t.as_str().into()).collect(),
                ports: r.ports.iter().map(|p| (p.name.as_str().into(), p.port as u16)).collect(),
            }),
            reported_state: match (given, &owner) {
                (InstanceState::Unspecified, Some(owner)) => owner.reported_state,
                (InstanceState::Unspecified, None) => InstanceState::Up,
                (given, _) => given,
            },
            ttl_ms: self.leases.get(&lease_id).map_or(0, |lease| lease.ttl_ms),
            revision: next,
            incarnation: owner.as_ref().map_or(next, |owner| owner.incarnation),
            lease_id,
            registered_at_unix_s: owner.as_ref().map_or(now / 1_000, |owner| owner.registered_at_unix_s),
            client: match &owner {
                Some(owner) if client.is_empty() => owner.client.clone(),
                _ => client.into(),
            },
            operator_override: self.overrides.get(&key).map(|(o, _)| Arc::new(o.clone())),
            protection: None,
        };
        let unprotected = |record: &InstanceRecord| InstanceRecord { protection: None, ..visible(record) };
        let (outcome, cause) = match (&previous, &owner) {
            (None, _) => (RegisterOutcome::Created, EventCause::Registered),
            (Some(_), None) => (RegisterOutcome::Replaced, EventCause::Replaced),
            (_, Some(owner)) if unprotected(owner) == unprotected(&record) => {
                (RegisterOutcome::Renewed, EventCause::Recovered)
            }
            (_, Some(_)) => (RegisterOutcome::Updated, EventCause::Registered),
        };
        self.causes.insert(key.clone(), cause);
        self.instances.insert(key, record.clone());
        (record, outcome)
    }

    fn drop_instance(&mut self, record: &InstanceRecord, cause: EventCause) {
        self.instances.remove(&key_of(record));
        self.causes.insert(key_of(record), cause);
        if self.of_lease(record.lease_id).is_empty() {
            self.leases.remove(&record.lease_id);
        }
    }

    fn report(&mut self, found: &[InstanceRecord], state: InstanceState) -> u32 {
        let mut changed = 0;
        for record in found.iter().filter(|record| record.reported_state != state) {
            self.instances.get_mut(&key_of(record)).unwrap().reported_state = state;
            self.causes.insert(key_of(record), EventCause::StateReported);
            changed += 1;
        }
        changed
    }

    fn drain(&mut self, drain: &Drain, now: u64) -> Result<Reply, Rejection> {
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

    fn set_override(
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
    fn show(&mut self, key: &Key, cause: EventCause) {
        self.touched_overrides = true;
        let shown = self.overrides.get(key).map(|(o, _)| Arc::new(o.clone()));
        if let Some(record) = self.instances.get_mut(key) {
            record.operator_override = shown;
            self.causes.insert(key.clone(), cause);
        }
    }

    fn version_mut(&mut self, named: &OverrideVersion) -> Option<&mut (Override, Option<u64>)> {
        let key = (named.namespace.clone(), named.service_name.clone(), named.instance_id.clone());
        self.overrides.get_mut(&key).filter(|(o, _)| o.revision == named.version)
    }

    fn protect(&mut self, protect: &Protect, now: u64) -> Reply {
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

    fn end_guard(&mut self, name: &ServiceName) -> u32 {
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

    /// Compares everything that can be asked of a state.
    pub(crate) fn compare(&self, state: &State) -> Result<(), String> {
        let same = |what: &str, equal: bool| if equal { Ok(()) } else { Err(format!("{what} differ")) };
        let instances: Vec<InstanceRecord> = state
            .services_from(None)
            .flat_map(|view| view.instances())
            .map(|record| (**record).clone())
            .collect();
        same("instances", self.instances.values().eq(&instances))?;
        let overrides = state.overrides_from(None).map(|view| {
            let InstanceKey { service, instance_id } = view.key;
            let key = (service.namespace.to_string(), service.name.to_string(), instance_id.to_string());
            assert_eq!(view.registered, self.instances.contains_key(&key));
            (key, ((**view.operator_override).clone(), view.remaining_ms))
        });
        same("overrides", self.overrides.clone().into_iter().eq(overrides))?;
        let services = state.services_from(None).map(|view| {
            let name = (view.key().namespace.to_string(), view.key().name.to_string());
            (name, (view.revision(), view.guard()))
        });
        same("services", self.services.clone().into_iter().eq(services))?;
        for (namespace, name) in self.services.keys() {
            self.compare_service(state, namespace, name)?;
        }
        same("members", self.members.keys().eq(state.members().map(|member| &member.raft_id)))?;
        same("removed", self.removed.iter().all(|(id, _)| state.is_removed(*id)))?;
        let floor = self.history.first().map_or(self.revision, |(first, _)| first - 1);
        same("floors", floor == state.history_floor())?;
        if floor > 0 {
            same(
                "gaps",
                state.history_since(floor - 1).err() == Some(HistoryGap::Compacted { oldest: floor }),
            )?;
        }
        for from in floor..=self.revision {
            let kept: Vec<u64> =
                self.history.iter().map(|(revision, _)| *revision).filter(|r| *r > from).collect();
            let given: Vec<u64> = state.history_since(from).unwrap().map(|made| made.revision).collect();
            same("histories", kept == given)?;
        }
        let newest = self.revision;
        same("futures", state.history_since(newest + 1).err() == Some(HistoryGap::Future { newest }))
    }

    fn compare_service(&self, state: &State, namespace: &str, name: &str) -> Result<(), String> {
        let view = state.service(namespace, name).ok_or("a service is unknown")?;
        let of: Vec<_> = self.instances.iter().filter(|(k, _)| k.0 == namespace && k.1 == name).collect();
        let count = |want: InstanceState| of.iter().filter(|(_, r)| r.state() == want).count() as u32;
        let protected = of.iter().filter(|(_, r)| r.protection.is_some()).count() as u32;
        let counts = Counts {
            total: of.len() as u32,
            starting: count(InstanceState::Starting),
            up: count(InstanceState::Up),
            draining: count(InstanceState::Draining),
            down: count(InstanceState::Down),
            protected,
        };
        let status = match () {
            () if counts.total == 0 => ServiceStatus::Empty,
            () if counts.protected > 0 => ServiceStatus::Protected,
            () if counts.up == 0 => ServiceStatus::NoneUp,
            () => ServiceStatus::Available,
        };
        if (*view.counts(), view.status()) != (counts, status) {
            return Err(format!("{namespace}/{name}: {counts:?} {status:?}, not {:?}", view.counts()));
        }
        Ok(())
    }
}

fn target_key(target: &Target) -> Key {
    (target.namespace.clone(), target.service_name.clone(), target.instance_id.clone())
}

fn services(found: &[InstanceRecord]) -> Vec<Arc<ServiceKey>> {
    let names: BTreeSet<_> = found.iter().map(|record| record.service.clone()).collect();
    names.into_iter().collect()
}
