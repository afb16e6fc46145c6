//! The only ways in which instances, leases and services change. Whatever is derived from them (indexes,
//! counts, sums, the hash) is kept here.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::digest;
use crate::event::{Event, EventCause, EventKind, RevisionEvents};
use crate::ids::{LeaseId, Revision, ServiceKey};
use crate::instance::InstanceRecord;
use crate::lease::{Lease, LeaseChange, LeaseHold};
use crate::service::{Counts, GuardState, Service};
use crate::state::{Slot, State};

/// What one command has done so far.
#[derive(Debug)]
pub(super) struct Step {
    /// The revision that the command makes if it changes something that a reader sees.
    pub(super) revision: Revision,
    /// Wall clock of the proposer; for labels.
    pub(super) now_unix_ms: u64,
    /// `request_id.client` of the command; empty if none was given.
    pub(super) client: SmolStr,
    /// Instances that this client won or lost; counted when its write is recorded.
    pub(super) owned: i64,
    visible: bool,
    /// True if an instance of the step may change a second time, so that its events must be joined.
    may_repeat: bool,
    events: Vec<Event>,
    leases: Vec<LeaseChange>,
}

impl Step {
    pub(super) fn new(before: Revision, now_unix_ms: u64, client: SmolStr) -> Self {
        Self {
            revision: before.saturating_add(1),
            now_unix_ms,
            client,
            owned: 0,
            visible: false,
            may_repeat: false,
            events: Vec::new(),
            leases: Vec::new(),
        }
    }

    /// True if an instance may have changed already in this step.
    pub(super) fn may_repeat(&self) -> bool {
        self.may_repeat
    }

    /// Something that a reader sees has changed, with or without an event.
    pub(super) fn changed(&mut self) {
        self.visible = true;
    }

    pub(super) fn lease(&mut self, change: LeaseChange) {
        self.leases.push(change);
    }

    /// Adds an event; at most one per instance and revision, so a second change joins the first.
    fn event(&mut self, event: Event) {
        self.visible = true;
        match self.earlier(&event.instance) {
            Some(earlier) => {
                earlier.cause = event.cause;
                earlier.instance = event.instance;
            }
            None => self.events.push(event),
        }
    }

    /// An instance changed in a way that no reader sees: an event of it in this step shows the new record.
    fn refresh(&mut self, record: &Arc<InstanceRecord>) {
        if let Some(earlier) = self.earlier(record) {
            earlier.instance = record.clone();
        }
    }

    fn earlier(&mut self, record: &InstanceRecord) -> Option<&mut Event> {
        if !self.may_repeat {
            return None;
        }
        self.events.iter_mut().find(|earlier| is_same(&earlier.instance, record))
    }
}

fn is_same(a: &InstanceRecord, b: &InstanceRecord) -> bool {
    a.instance_id == b.instance_id && a.service == b.service
}

impl State {
    /// Makes the revision of the step, if it has one, and evicts history.
    pub(super) fn close(&mut self, step: Step) -> (Option<Arc<RevisionEvents>>, Vec<LeaseChange>) {
        if !step.visible {
            return (None, step.leases);
        }
        self.revision = step.revision;
        let size_bytes = step.events.iter().map(Event::size_bytes).sum();
        let made = Arc::new(RevisionEvents { revision: step.revision, events: step.events, size_bytes });
        self.history.push(made.clone());
        while let Some(evicted) = self.history.evict(&self.settings.history) {
            self.forget_services(&evicted);
        }
        (Some(made), step.leases)
    }

    /// Forgets services whose last instance was removed at a revision that leaves the history.
    fn forget_services(&mut self, evicted: &RevisionEvents) {
        for event in evicted.events.iter().filter(|event| event.kind == EventKind::Removed) {
            let key = &event.instance.service;
            let Some(service) = self.services.get(key).copied() else { continue };
            if service.counts.total > 0 || service.revision > evicted.revision {
                continue;
            }
            self.digest.remove(digest::of_service(key, &service));
            self.services.remove(key);
            self.unarmed.remove(key);
            let Some(namespace) = self.namespaces.get_mut(&key.namespace) else { continue };
            namespace.services = namespace.services.saturating_sub(1);
            if namespace.services == 0 {
                self.namespaces.remove(&key.namespace);
            }
        }
    }

    /// Changes a registered instance.
    pub(super) fn revise(
        &mut self,
        step: &mut Step,
        previous: Arc<InstanceRecord>,
        record: InstanceRecord,
        cause: EventCause,
    ) {
        if let Some(number) = self.services.get(&previous.service).map(|service| service.number) {
            self.put(step, number, Some(previous), record, cause);
        }
    }

    /// Registers an instance in the service of this number, or changes it. `record` gets its revision
    /// here.
    pub(super) fn put(
        &mut self,
        step: &mut Step,
        number: u64,
        previous: Option<Arc<InstanceRecord>>,
        mut record: InstanceRecord,
        cause: EventCause,
    ) -> Arc<InstanceRecord> {
        let same = previous.as_deref().is_some_and(|previous| previous.looks_like(&record));
        record.revision = match &previous {
            Some(previous) if same => previous.revision,
            _ => step.revision,
        };
        let record = Arc::new(record);
        self.swap(step, number, previous.as_deref(), &record);
        if same {
            step.refresh(&record);
        } else {
            let kind = if previous.is_some() { EventKind::Updated } else { EventKind::Added };
            step.event(Event { kind, cause, instance: record.clone(), previous });
        }
        record
    }

    /// Removes an instance.
    pub(super) fn remove(&mut self, step: &mut Step, record: Arc<InstanceRecord>, cause: EventCause) {
        let Some(slot) = self.slot_of(&record) else { return };
        self.instances.remove(&slot);
        self.digest.remove(digest::of_instance(&record));
        self.user_data_bytes = self.user_data_bytes.saturating_sub(record.user_data_bytes());
        self.own(step, &record.client, -1);
        self.count(&record.service, Some(step.revision), |counts| counts.remove(&record));
        self.detach(step, record.lease_id, slot);
        step.event(Event { kind: EventKind::Removed, cause, instance: record, previous: None });
    }

    /// Puts `record` in the place of `previous`, or where nothing was.
    fn swap(
        &mut self,
        step: &mut Step,
        number: u64,
        previous: Option<&InstanceRecord>,
        record: &Arc<InstanceRecord>,
    ) {
        let slot = Slot { service: number, instance_id: record.instance_id.clone() };
        if let Some(previous) = previous {
            self.digest.remove(digest::of_instance(previous));
            self.user_data_bytes = self.user_data_bytes.saturating_sub(previous.user_data_bytes());
        }
        self.digest.add(digest::of_instance(record));
        self.user_data_bytes = self.user_data_bytes.saturating_add(record.user_data_bytes());
        let revision = (record.revision == step.revision).then_some(step.revision);
        self.count(&record.service, revision, |counts| {
            previous.inspect(|previous| counts.remove(previous));
            counts.add(record);
        });
        let (old_client, old_lease) = previous.map_or((None, 0), |p| (Some(&p.client), p.lease_id));
        if Some(&record.client) != old_client {
            self.own(step, &record.client, 1);
            if let Some(old_client) = old_client {
                self.own(step, old_client, -1);
            }
        }
        self.instances.insert(slot.clone(), record.clone());
        if record.lease_id != old_lease {
            self.attach(record.lease_id, slot.clone());
            if old_lease != 0 {
                self.detach(step, old_lease, slot);
            }
        }
    }

    /// Changes the counts of a service, its namespace and the cluster alike. `revision` is given if a
    /// reader sees a difference.
    fn count(&mut self, key: &Arc<ServiceKey>, revision: Option<Revision>, change: impl Fn(&mut Counts)) {
        change(&mut self.totals);
        if let Some(namespace) = self.namespaces.get_mut(&key.namespace) {
            change(&mut namespace.counts);
        }
        if let Some(service) = self.services.get_mut(key) {
            change(&mut service.counts);
            if let Some(revision) = revision {
                self.digest.remove(digest::of_service(key, service));
                service.revision = revision;
                self.digest.add(digest::of_service(key, service));
            }
        }
    }

    /// Counts instances that a client won or lost. The client of the step is perhaps not known yet.
    fn own(&mut self, step: &mut Step, client: &SmolStr, owned: i64) {
        if client.is_empty() {
            return;
        }
        if *client == step.client {
            step.owned += owned;
        } else {
            self.clients.own(client, owned);
        }
    }

    /// The name of a service as it is kept and its number; it becomes known by this.
    pub(super) fn known_service(&mut self, key: &Arc<ServiceKey>) -> (Arc<ServiceKey>, u64) {
        match self.services.get_key_value(key) {
            Some((key, service)) => (key.clone(), service.number),
            None => (key.clone(), self.insert_service(key.clone(), 0, GuardState::Armed)),
        }
    }

    /// Makes a service known, without instances as yet.
    fn insert_service(&mut self, key: Arc<ServiceKey>, revision: Revision, guard: GuardState) -> u64 {
        let number = self.next_service;
        self.next_service += 1;
        let service = Service { number, counts: Counts::default(), revision, guard };
        self.digest.add(digest::of_service(&key, &service));
        self.namespaces.entry(key.namespace.clone()).or_default().services += 1;
        if guard != GuardState::Armed {
            self.unarmed.insert(key.clone());
        }
        self.services.insert(key, service);
        number
    }

    /// The key of a service as it is kept, so that its name is stored once.
    pub(crate) fn shared_key(&self, key: ServiceKey) -> Arc<ServiceKey> {
        match self.services.get_key_value(&key) {
            Some((shared, _)) => shared.clone(),
            None => Arc::new(key),
        }
    }

    fn slot_of(&self, record: &InstanceRecord) -> Option<Slot> {
        let service = self.services.get(&record.service)?.number;
        Some(Slot { service, instance_id: record.instance_id.clone() })
    }

    pub(super) fn set_guard(&mut self, key: &ServiceKey, guard: GuardState) {
        let Some((shared, mut service)) = self.services.get_key_value(key).map(|(k, s)| (k.clone(), *s))
        else {
            return;
        };
        self.digest.remove(digest::of_service(key, &service));
        service.guard = guard;
        self.digest.add(digest::of_service(key, &service));
        match guard {
            GuardState::Armed => self.unarmed.remove(&shared),
            GuardState::Holding { .. } | GuardState::Disarmed => self.unarmed.insert(shared.clone()),
        };
        self.services.insert(shared, service);
    }

    /// Opens a lease under the random id that the proposer drew, or under the next free one: an id that
    /// is taken belongs to a stranger.
    pub(super) fn open_lease(&mut self, step: &mut Step, drawn: LeaseId, ttl_ms: u32) -> LeaseId {
        let mut id = drawn;
        while id == 0 || self.leases.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        let lease = Lease { version: 1, ttl_ms, instances: 0, hold: LeaseHold::None };
        self.digest.add(digest::of_lease(id, &lease));
        self.leases.insert(id, lease);
        step.lease(LeaseChange::Opened { id, version: 1, ttl_ms });
        id
    }

    /// The owner of the lease was heard: a new version, a new time to live, and no hold of the guard.
    pub(super) fn touch_lease(&mut self, step: &mut Step, id: LeaseId) {
        self.end_hold(step, id);
        let touched = self.change_lease(id, |lease| lease.version = lease.version.saturating_add(1));
        if let Some(Lease { version, ttl_ms, .. }) = touched {
            step.lease(LeaseChange::Touched { id, version, ttl_ms });
        }
    }

    /// Takes a hold of the guard off a lease and its instances, whose owner is back.
    fn end_hold(&mut self, step: &mut Step, id: LeaseId) {
        if self.leases.get(&id).is_none_or(|lease| lease.hold == LeaseHold::None) {
            return;
        }
        step.may_repeat = true;
        self.change_lease(id, |lease| lease.hold = LeaseHold::None);
        for record in self.records_of(id) {
            let free = InstanceRecord { protection: None, ..(*record).clone() };
            self.revise(step, record, free, EventCause::Recovered);
        }
    }

    /// Changes a lease and returns it; `None` if it is not open.
    pub(super) fn change_lease(&mut self, id: LeaseId, change: impl FnOnce(&mut Lease)) -> Option<Lease> {
        let lease = self.leases.get_mut(&id)?;
        self.digest.remove(digest::of_lease(id, lease));
        change(lease);
        self.digest.add(digest::of_lease(id, lease));
        Some(*lease)
    }

    /// The instances of a lease, at most [`LEASE_INSTANCES_MAX`](crate::limits::LEASE_INSTANCES_MAX),
    /// sorted by name: the index has them by numbers of services, which differ between nodes, and events
    /// come in this order.
    pub(super) fn records_of(&self, id: LeaseId) -> Vec<Arc<InstanceRecord>> {
        let mut records: Vec<_> = self.lease_instances(id).cloned().collect();
        records.sort_by(|a, b| (&a.service, &a.instance_id).cmp(&(&b.service, &b.instance_id)));
        records
    }

    fn attach(&mut self, id: LeaseId, slot: Slot) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.instances += 1;
            self.lease_slots.insert((id, slot));
        }
    }

    /// Takes an instance out of a lease, which ends with its last one (P/L5).
    fn detach(&mut self, step: &mut Step, id: LeaseId, slot: Slot) {
        self.lease_slots.remove(&(id, slot));
        let Some(lease) = self.leases.get_mut(&id) else { return };
        lease.instances = lease.instances.saturating_sub(1);
        if lease.instances == 0 {
            self.digest.remove(digest::of_lease(id, lease));
            self.leases.remove(&id);
            step.lease(LeaseChange::Closed { id });
        }
    }

    /// The name of a client as it is kept, or anew.
    pub(crate) fn shared_client(&self, client: &str) -> SmolStr {
        self.clients.name_of(client).unwrap_or_else(|| SmolStr::new(client))
    }

    /// Puts a service back from a snapshot.
    pub(crate) fn restore_service(&mut self, key: Arc<ServiceKey>, revision: Revision, guard: GuardState) {
        self.insert_service(key, revision, guard);
    }

    /// Puts an instance back from a snapshot, into the service of this number. Fails unless its lease and
    /// client are there and the instance is not.
    pub(crate) fn restore_instance(
        &mut self,
        number: u64,
        record: Arc<InstanceRecord>,
    ) -> Result<(), &'static str> {
        let lease = self.leases.get_mut(&record.lease_id).ok_or("an instance has no lease")?;
        lease.instances += 1;
        if !record.client.is_empty() && !self.clients.own(&record.client, 1) {
            return Err("an instance has an unknown client");
        }
        self.digest.add(digest::of_instance(&record));
        self.user_data_bytes = self.user_data_bytes.saturating_add(record.user_data_bytes());
        self.count(&record.service, None, |counts| counts.add(&record));
        let slot = Slot { service: number, instance_id: record.instance_id.clone() };
        self.lease_slots.insert((record.lease_id, slot.clone()));
        match self.instances.insert(slot, record) {
            None => Ok(()),
            Some(_) => Err("an instance is there twice"),
        }
    }
}
