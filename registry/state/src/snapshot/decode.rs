//! From items to the state. Everything derived comes to be by the same effects as in `apply`.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;
use smol_str::SmolStr;

use super::wire::{self, Kind};
use super::{FORMAT, SnapshotError};
use crate::FEATURE_LEVEL;
use crate::client::{Client, Record, Remembered};
use crate::digest;
use crate::event::{Event, EventCause, EventKind, RevisionEvents};
use crate::ids::{InstanceKey, ServiceKey};
use crate::instance::{Content, InstanceRecord, InstanceState, Protection};
use crate::lease::{Lease, LeaseHold};
use crate::limits::REQUEST_WINDOW;
use crate::member;
use crate::overrides::{Override, OverrideEntry};
use crate::reply::{Quota, Reason, RegisterOutcome, Rejection};
use crate::service::GuardState;
use crate::state::{Identity, State};
use crate::validate::Violation;

/// Builds a state from its records.
#[derive(Debug, Default)]
pub struct StateDecoder {
    state: State,
    records: u64,
    items: u64,
    progress: Progress,
    /// The revision whose events are being read, and how many are missing.
    open: Option<(RevisionEvents, u32)>,
    /// The last value of each instance in the history so far: the previous one of the next event, which
    /// shares it again as it did before.
    latest: BTreeMap<(Arc<ServiceKey>, SmolStr), Arc<InstanceRecord>>,
}

/// Highest counter that a sound snapshot can have: it leaves room to go on counting for ever.
const COUNTER_MAX: u64 = 1 << 62;

#[derive(Debug, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    Nothing,
    Begun,
    Ended,
}

/// What is wrong with an item.
enum Fault {
    Final(SnapshotError),
    Unknown,
    Malformed(&'static str),
}

impl From<&'static str> for Fault {
    fn from(detail: &'static str) -> Self {
        Fault::Malformed(detail)
    }
}

impl StateDecoder {
    /// Waits for the first record.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next record.
    pub fn push(&mut self, record: &[u8]) -> Result<(), SnapshotError> {
        let at = self.records;
        self.records += 1;
        let malformed = |detail: String| SnapshotError::Malformed { record: at, detail };
        let decoded = wire::Record::decode(record).map_err(|error| malformed(error.to_string()))?;
        for item in decoded.items {
            self.items += 1;
            self.take(item).map_err(|fault| match fault {
                Fault::Final(error) => error,
                Fault::Unknown => SnapshotError::UnknownRecord { record: at },
                Fault::Malformed(detail) => malformed(detail.to_owned()),
            })?;
        }
        Ok(())
    }

    /// The state, if all its records were there and it has the hash that it had.
    pub fn finish(self) -> Result<State, SnapshotError> {
        if self.progress == Progress::Ended {
            return Ok(self.state);
        }
        Err(SnapshotError::Malformed { record: self.records, detail: "the last record is missing".into() })
    }

    fn take(&mut self, item: wire::Item) -> Result<(), Fault> {
        let kind = item.kind.ok_or(Fault::Unknown)?;
        match (&self.progress, &kind) {
            (Progress::Nothing, Kind::Head(_)) | (Progress::Begun, _) => {}
            (Progress::Nothing, _) => return Err("the first item is not the head".into()),
            (Progress::Ended, _) => return Err("items after the end".into()),
        }
        if self.open.is_some() && !matches!(kind, Kind::Event(_)) {
            return Err("events of a revision are missing".into());
        }
        match kind {
            Kind::Head(head) => self.head(&head),
            Kind::Settings(settings) => {
                self.state.settings = Arc::new(settings);
                Ok(())
            }
            Kind::Member(member) => {
                self.state.insert_member(member.raft_id, &member);
                Ok(())
            }
            Kind::Tombstone(tombstone) => {
                let disk_id = SmolStr::new(&tombstone.disk_id);
                self.state.bury(member::Tombstone { raft_id: tombstone.raft_id, disk_id });
                Ok(())
            }
            Kind::Service(service) => self.service(&service),
            Kind::Client(client) => self.client(client),
            Kind::Lease(lease) => self.lease(&lease),
            Kind::Override(entry) => self.override_entry(&entry),
            Kind::Instance(instance) => self.instance(&instance),
            Kind::Revision(revision) => self.revision(revision),
            Kind::Event(event) => self.event(event),
            Kind::End(end) => self.end(end),
        }
    }

    fn head(&mut self, head: &wire::Head) -> Result<(), Fault> {
        if self.progress == Progress::Begun {
            return Err("a second head".into());
        }
        if head.format == 0 {
            return Err("it has no format number".into());
        }
        if head.format > FORMAT {
            return Err(Fault::Final(SnapshotError::HigherFormat { found: head.format }));
        }
        if head.feature_level > FEATURE_LEVEL {
            return Err(Fault::Final(SnapshotError::HigherFeatureLevel { found: head.feature_level }));
        }
        if head.revision.max(head.tick).max(head.next_raft_id) > COUNTER_MAX {
            return Err("a counter is higher than any cluster has counted".into());
        }
        let state = &mut self.state;
        state.feature_level = head.feature_level;
        state.revision = head.revision;
        state.next_raft_id = head.next_raft_id;
        state.clients.restore_tick(head.tick);
        if !head.cluster_id.is_empty() {
            let cluster_id = SmolStr::new(&head.cluster_id);
            state.identity = Some(Arc::new(Identity { cluster_id, epoch: head.epoch }));
        }
        self.progress = Progress::Begun;
        Ok(())
    }

    fn service(&mut self, service: &wire::Service) -> Result<(), Fault> {
        let key = Arc::new(ServiceKey::new(&service.namespace, &service.name));
        if self.state.services.contains_key(&*key) {
            return Err("a service is there twice".into());
        }
        let guard = match service.guard_remaining_ms {
            Some(remaining_ms) => GuardState::Holding { remaining_ms },
            None if service.guard_disarmed => GuardState::Disarmed,
            None => GuardState::Armed,
        };
        self.state.restore_service(key, service.revision, guard);
        Ok(())
    }

    fn client(&mut self, client: wire::Client) -> Result<(), Fault> {
        let name = SmolStr::new(&client.name);
        if name.is_empty() || client.used == 0 || self.state.clients.get(&name).is_some() {
            return Err("a client has no name or no write, or is there twice".into());
        }
        if client.used > self.state.clients.tick() {
            return Err("a client wrote later than anybody".into());
        }
        if client.writes.len() as u64 > REQUEST_WINDOW {
            return Err("a client has too many writes".into());
        }
        let records = client.writes.into_iter().map(write).collect::<Result<_, Fault>>()?;
        let (used, highest, done_below) = (client.used, client.highest, client.done_below);
        let client = Client { used, highest, done_below, owned: 0, records };
        self.state.clients.restore(name, client, &mut self.state.digest);
        Ok(())
    }

    fn lease(&mut self, lease: &wire::Lease) -> Result<(), Fault> {
        if lease.id == 0 || self.state.leases.contains_key(&lease.id) {
            return Err("a lease has no id or is there twice".into());
        }
        let hold = match (lease.held, lease.released) {
            (true, _) => LeaseHold::Held,
            (false, true) => LeaseHold::Released,
            (false, false) => LeaseHold::None,
        };
        let restored = Lease { version: lease.version, ttl_ms: lease.ttl_ms, instances: 0, hold };
        self.state.digest.add(digest::of_lease(lease.id, &restored));
        self.state.leases.insert(lease.id, restored);
        Ok(())
    }

    fn override_entry(&mut self, entry: &wire::OverrideEntry) -> Result<(), Fault> {
        let shared = entry.shared.as_ref().ok_or("an override is empty")?;
        let service = self.state.shared_key(ServiceKey::new(&entry.namespace, &entry.service_name));
        let key = InstanceKey { service, instance_id: SmolStr::new(&entry.instance_id) };
        let shared = Arc::new(override_of(shared)?);
        self.state.store_override(&key, Some(OverrideEntry { shared, remaining_ms: entry.remaining_ms }));
        Ok(())
    }

    fn instance(&mut self, wire: &wire::Instance) -> Result<(), Fault> {
        let mut record = self.record(wire)?;
        let service = self.state.services.get(&record.service).ok_or("an instance has no service")?;
        let number = service.number;
        if !self.state.overrides.is_empty() {
            let (service, instance_id) = (record.service.clone(), record.instance_id.clone());
            let entry = self.state.overrides.get(&InstanceKey { service, instance_id });
            record.operator_override = entry.map(|entry| entry.shared.clone());
        }
        Ok(self.state.restore_instance(number, Arc::new(record))?)
    }

    fn revision(&mut self, revision: wire::Revision) -> Result<(), Fault> {
        let made = RevisionEvents { revision: revision.revision, events: Vec::new(), size_bytes: 0 };
        let next =
            self.state.history.newest().is_none_or(|newest| newest.checked_add(1) == Some(revision.revision));
        if !next || revision.revision > self.state.revision {
            return Err("the history has a gap".into());
        }
        self.open = Some((made, revision.events));
        self.close_revision();
        Ok(())
    }

    fn event(&mut self, event: wire::Event) -> Result<(), Fault> {
        let instance = event.instance.as_ref().ok_or("an event has no instance")?;
        let previous = event.previous.as_ref().map(|previous| self.shared_record(previous)).transpose()?;
        let instance = self.shared_record(instance)?;
        let kind = EventKind::try_from(event.kind).map_err(|_| "an event of an unknown kind")?;
        let cause = EventCause::try_from(event.cause).map_err(|_| "an event of an unknown cause")?;
        let (made, missing) = self.open.as_mut().ok_or("an event without its revision")?;
        made.events.push(Event { kind, cause, instance, previous });
        *missing = missing.saturating_sub(1);
        self.close_revision();
        Ok(())
    }

    /// Puts the open revision into the history once it has all its events.
    fn close_revision(&mut self) {
        if let Some((mut made, _)) = self.open.take_if(|(_, missing)| *missing == 0) {
            made.size_bytes = made.events.iter().map(Event::size_bytes).sum();
            self.state.history.push(Arc::new(made));
        }
    }

    fn end(&mut self, end: wire::End) -> Result<(), Fault> {
        if end.items != self.items {
            return Err("items are missing".into());
        }
        if self.state.history.newest().is_some_and(|newest| newest != self.state.revision) {
            return Err("the newest revision is missing".into());
        }
        if end.hash_version == digest::VERSION && end.state_hash != self.state.state_hash() {
            return Err("the state has another hash than it had".into());
        }
        self.progress = Progress::Ended;
        Ok(())
    }

    /// A record of an event, shared with the state or an earlier event where they are the same.
    fn shared_record(&mut self, wire: &wire::Instance) -> Result<Arc<InstanceRecord>, Fault> {
        let mut record = self.record(wire)?;
        record.operator_override =
            wire.operator_override.as_ref().map(override_of).transpose()?.map(Arc::new);
        let present = self.state.instance(&wire.namespace, &wire.service_name, &wire.instance_id);
        if let Some(present) = present.filter(|present| ***present == record) {
            return Ok(present.clone());
        }
        let key = (record.service.clone(), record.instance_id.clone());
        if let Some(latest) = self.latest.get(&key) {
            if **latest == record {
                return Ok(latest.clone());
            }
            if latest.content == record.content {
                record.content = latest.content.clone();
            }
        }
        let record = Arc::new(record);
        self.latest.insert(key, record.clone());
        Ok(record)
    }

    /// The record without its override.
    fn record(&self, wire: &wire::Instance) -> Result<InstanceRecord, Fault> {
        let state = InstanceState::try_from(wire.reported_state).map_err(|_| "an unknown state")?;
        let service = self.state.shared_key(ServiceKey::new(&wire.namespace, &wire.service_name));
        let protection = wire.protection.map(|protection| {
            let wire::Protection { silent_for_ms, since_unix_ms } = protection;
            Arc::new(Protection { silent_for_ms, since_unix_ms })
        });
        Ok(InstanceRecord {
            service,
            instance_id: SmolStr::new(&wire.instance_id),
            content: Arc::new(content(wire)?),
            reported_state: state,
            ttl_ms: wire.ttl_ms,
            revision: wire.revision,
            incarnation: wire.incarnation,
            lease_id: wire.lease_id,
            registered_at_unix_s: wire.registered_at_unix_s,
            client: self.state.shared_client(&wire.client),
            operator_override: None,
            protection,
        })
    }
}

fn number(value: u32) -> Result<u16, Fault> {
    u16::try_from(value).map_err(|_| Fault::Malformed("a port or weight is above 65535"))
}

fn content(wire: &wire::Instance) -> Result<Content, Fault> {
    let metadata = wire.metadata.iter().map(|pair| (SmolStr::new(&pair.key), SmolStr::new(&pair.value)));
    let ports = wire.ports.iter().map(|named| Ok((SmolStr::new(&named.name), number(named.port)?)));
    Ok(Content {
        host: SmolStr::new(&wire.host),
        port: number(wire.port)?,
        weight: number(wire.weight)?,
        zone: SmolStr::new(&wire.zone),
        metadata: metadata.collect(),
        tags: wire.tags.iter().map(SmolStr::new).collect(),
        ports: ports.collect::<Result<_, Fault>>()?,
    })
}

fn override_of(wire: &wire::Override) -> Result<Override, Fault> {
    let state = InstanceState::try_from(wire.state).map_err(|_| "an override with an unknown state")?;
    Ok(Override {
        state: Some(state).filter(|state| *state != InstanceState::Unspecified),
        weight: wire.weight.map(number).transpose()?,
        comment: wire.comment.as_str().into(),
        actor: wire.actor.as_str().into(),
        set_at_unix_ms: wire.set_at_unix_ms,
        expires_at_unix_ms: wire.expires_at_unix_ms,
        revision: wire.revision,
    })
}

fn write(wire: wire::Write) -> Result<Record, Fault> {
    let outcome = match wire.outcome.ok_or(Fault::Unknown)? {
        wire::Outcome::Registered(registered) => Remembered::Registered {
            outcome: RegisterOutcome::try_from(registered.outcome).map_err(|_| "an unknown outcome")?,
            incarnation: registered.incarnation,
            lease_id: registered.lease_id,
        },
        wire::Outcome::Batch(batch) => {
            Remembered::Batch { lease_id: batch.lease_id, outcomes: batch.outcomes.into() }
        }
        wire::Outcome::Deregistered(removed) => Remembered::Deregistered { removed },
        wire::Outcome::StateSet(wire::StateSet { changed, overridden }) => {
            Remembered::StateSet { changed, overridden }
        }
        wire::Outcome::Drained(revision) => Remembered::Drained { revision },
        wire::Outcome::OverrideSet(wire::OverrideSet { revision, registered }) => {
            Remembered::OverrideSet { revision, registered }
        }
        wire::Outcome::OverrideCleared(cleared) => Remembered::OverrideCleared { cleared },
        wire::Outcome::ProtectionEnded(ended) => Remembered::ProtectionEnded { ended },
        wire::Outcome::Rejected(rejected) => Remembered::Rejected(Arc::new(rejection(rejected)?)),
    };
    Ok(Record { serial: wire.serial, hash: wire.hash, revision: wire.revision, outcome })
}

fn rejection(wire: wire::Rejected) -> Result<Rejection, Fault> {
    let reason = match wire.reason.ok_or(Fault::Unknown)? {
        wire::Reason::InvalidField(invalid) => Reason::InvalidField(
            invalid
                .fields
                .into_iter()
                .zip(invalid.descriptions)
                .map(|(field, description)| Violation { field, description })
                .collect(),
        ),
        wire::Reason::InstanceNotFound(_) => Reason::InstanceNotFound,
        wire::Reason::LeaseExpired(_) => Reason::LeaseExpired,
        wire::Reason::StaleIncarnation(current) => Reason::StaleIncarnation { current },
        wire::Reason::QuotaExceeded(full) => Reason::QuotaExceeded {
            quota: Quota::try_from(full.quota).map_err(|_| "an unknown quota")?,
            limit: full.limit,
        },
    };
    Ok(Rejection { reason, index: wire.index })
}
