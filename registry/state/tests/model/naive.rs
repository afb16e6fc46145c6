//! The rules of the state machine once more, as plainly as possible: whole copies, searches through
//! everything, events found by comparing before and after. Shape checks are taken from the crate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use registry_state::*;

/// Namespace, service, instance.
pub(crate) type Key = (String, String, String);
pub(crate) type ServiceName = (String, String);

/// What the model expects of `apply`.
pub(crate) struct Expected {
    pub(crate) reply: Reply,
    pub(crate) revision: u64,
    pub(crate) replayed: bool,
    /// Sorted by instance.
    pub(crate) events: Option<Vec<Event>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MLease {
    pub(crate) version: u64,
    pub(crate) ttl_ms: u32,
    pub(crate) hold: LeaseHold,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct MClient {
    pub(crate) highest: u64,
    pub(crate) done_below: u64,
    pub(crate) writes: BTreeMap<u64, (u64, u64, Reply)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) settings: Option<ClusterSettings>,
    pub(crate) revision: u64,
    pub(crate) instances: BTreeMap<Key, InstanceRecord>,
    pub(crate) leases: BTreeMap<u64, MLease>,
    pub(crate) overrides: BTreeMap<Key, (Override, Option<u64>)>,
    pub(crate) clients: BTreeMap<String, MClient>,
    /// Revision of the last change, and the guard.
    pub(crate) services: BTreeMap<ServiceName, (u64, GuardState)>,
    pub(crate) history: Vec<(u64, Vec<Event>)>,
    pub(crate) members: BTreeMap<u64, String>,
    pub(crate) removed: Vec<(u64, String)>,
    pub(crate) next_raft_id: u64,
    /// Causes of the changes of the command under way.
    pub(crate) causes: BTreeMap<Key, EventCause>,
    pub(crate) touched_overrides: bool,
    /// The last commands of clients, to be repeated.
    pub(crate) sent: Vec<Command>,
    pub(crate) cluster_id: String,
}

pub(crate) fn key_of(record: &InstanceRecord) -> Key {
    (record.service.namespace.to_string(), record.service.name.to_string(), record.instance_id.to_string())
}

pub(crate) fn service_of(key: &Key) -> ServiceName {
    (key.0.clone(), key.1.clone())
}

/// The record without what readers do not see.
pub(crate) fn visible(record: &InstanceRecord) -> InstanceRecord {
    InstanceRecord { revision: 0, lease_id: 0, client: "".into(), ..record.clone() }
}

pub(crate) fn reject<T>(reason: Reason) -> Result<T, Rejection> {
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
    pub(crate) fn again(&self, command: &Command, reply: Reply) -> Reply {
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

    pub(crate) fn execute(&mut self, command: &Command, client: &str) -> Expected {
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
    pub(crate) fn close(&mut self, before: &Self, mut reply: Reply) -> (Option<Vec<Event>>, Reply) {
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

    pub(crate) fn evict(&mut self) {
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

    pub(crate) fn find(&self, r: &Registration) -> Option<&InstanceRecord> {
        self.instances.get(&(r.namespace.clone(), r.service_name.clone(), r.instance_id.clone()))
    }

    pub(crate) fn of_lease(&self, id: u64) -> Vec<InstanceRecord> {
        self.instances.values().filter(|record| record.lease_id == id).cloned().collect()
    }

    pub(crate) fn targets(&self, target: &Target) -> Result<Vec<InstanceRecord>, Rejection> {
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

    pub(crate) fn some_targets(&self, target: &Target) -> Result<Vec<InstanceRecord>, Rejection> {
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
}

pub(crate) fn target_key(target: &Target) -> Key {
    (target.namespace.clone(), target.service_name.clone(), target.instance_id.clone())
}

pub(crate) fn services(found: &[InstanceRecord]) -> Vec<Arc<ServiceKey>> {
    let names: BTreeSet<_> = found.iter().map(|record| record.service.clone()).collect();
    names.into_iter().collect()
}
