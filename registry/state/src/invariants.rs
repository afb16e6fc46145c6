//! Checks that the parts of a state agree. For tests: it looks at everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::digest::{self, Digest};
use crate::ids::LeaseId;
use crate::lease::LeaseHold;
use crate::limits::{IDLE_CLIENTS_MAX, LEASE_INSTANCES_MAX, REQUEST_WINDOW, TOMBSTONES_MAX};
use crate::service::{Counts, GuardState, Namespace};
use crate::state::{Slot, State};

/// Fails with a sentence unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err(format!($($text)+));
        }
    };
}

impl State {
    /// Checks everything that is kept twice, and every relation between the parts. For tests: takes time in
    /// proportion to the state.
    ///
    /// # Errors
    ///
    /// A sentence about the first thing that does not fit.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.check_instances()?;
        self.check_counts()?;
        self.check_leases()?;
        self.check_clients()?;
        self.check_overrides()?;
        self.check_history()?;
        self.check_members()?;
        self.check_digest()
    }

    fn check_instances(&self) -> Result<(), String> {
        let numbers: BTreeMap<u64, _> = self.services.iter().map(|(key, s)| (s.number, key)).collect();
        ensure!(numbers.len() == self.services.len(), "two services have one number");
        let unarmed = self.services.iter().filter(|(_, service)| service.guard != GuardState::Armed);
        ensure!(unarmed.map(|(key, _)| key).eq(self.unarmed.iter()), "the guards are not those indexed");
        let mut bytes = 0;
        for (slot, record) in &self.instances {
            let name = format!("{}/{}", record.service, record.instance_id);
            let Some(key) = numbers.get(&slot.service) else { return Err(format!("{name} has no service")) };
            ensure!(Arc::ptr_eq(key, &record.service), "{name}: its service's name is stored twice");
            ensure!(slot.instance_id == record.instance_id, "{name} stands under {slot:?}");
            let ordered = record.incarnation <= record.revision && record.revision <= self.revision;
            ensure!(ordered && record.incarnation > 0, "{name}: incarnation, revision, state out of order");
            bytes += record.user_data_bytes();
        }
        ensure!(bytes == self.user_data_bytes, "user data: {bytes}, counted {}", self.user_data_bytes);
        Ok(())
    }

    fn check_counts(&self) -> Result<(), String> {
        let mut totals = Counts::default();
        let mut namespaces: BTreeMap<_, Namespace> = BTreeMap::new();
        for (key, service) in &self.services {
            let mut counts = Counts::default();
            let namespace = namespaces.entry(key.namespace.clone()).or_default();
            namespace.services += 1;
            let mut newest = 0;
            for record in self.instances_of(service.number, "") {
                counts.add(record);
                namespace.counts.add(record);
                totals.add(record);
                newest = newest.max(record.revision);
            }
            ensure!(counts == service.counts, "{key}: {counts:?}, counted {:?}", service.counts);
            ensure!(newest <= service.revision, "{key} is older than one of its instances");
            let remembered = counts.total > 0 || service.revision > self.history_floor();
            ensure!(remembered, "{key} is empty, its last change left the history, and it is not forgotten");
        }
        ensure!(totals == self.totals, "totals: {totals:?}, counted {:?}", self.totals);
        let counted: BTreeMap<_, _> =
            self.namespaces.iter().map(|(n, totals)| (n.clone(), *totals)).collect();
        ensure!(namespaces == counted, "namespaces: {namespaces:?}, counted {counted:?}");
        Ok(())
    }

    fn check_leases(&self) -> Result<(), String> {
        let mut slots: BTreeSet<(LeaseId, Slot)> = BTreeSet::new();
        for (slot, record) in &self.instances {
            let id = record.lease_id;
            let Some(lease) = self.leases.get(&id) else { return Err(format!("lease {id} is not open")) };
            ensure!(lease.ttl_ms == record.ttl_ms, "lease {id} has another ttl than an instance");
            let protected = lease.hold != LeaseHold::None;
            ensure!(
                protected == record.is_protected(),
                "lease {id} and an instance disagree about the guard"
            );
            if lease.hold == LeaseHold::Held {
                let guard = self.services.get(&record.service).map(|service| service.guard);
                let holding = matches!(guard, Some(GuardState::Holding { .. }));
                ensure!(holding, "lease {id} is held, but the guard of {} does not hold", record.service);
            }
            slots.insert((id, slot.clone()));
        }
        ensure!(slots.iter().eq(self.lease_slots.iter()), "the index of leases is wrong");
        for (id, lease) in &self.leases {
            let count = self.slots_of(*id).count() as u32;
            ensure!(
                count == lease.instances,
                "lease {id} has {count} instances, counted {}",
                lease.instances
            );
            ensure!((1..=LEASE_INSTANCES_MAX).contains(&count), "lease {id} has {count} instances");
            ensure!(*id != 0, "a lease has id 0");
        }
        Ok(())
    }

    fn check_clients(&self) -> Result<(), String> {
        let mut owned: BTreeMap<&str, u64> = BTreeMap::new();
        for record in self.instances.values().filter(|record| !record.client.is_empty()) {
            *owned.entry(&record.client).or_default() += 1;
        }
        let mut idle = BTreeMap::new();
        for (name, client) in self.clients.after(None) {
            let count = owned.remove(name.as_str()).unwrap_or(0);
            ensure!(count == client.owned, "client {name} owns {count}, counted {}", client.owned);
            ensure!(client.used > 0 && client.used <= self.clients.tick(), "client {name}: tick");
            if count == 0 {
                idle.insert(client.used, name.clone());
            }
            ensure!(client.records.len() as u64 <= REQUEST_WINDOW, "client {name} has too many records");
            let sorted = client.records.is_sorted_by(|a, b| a.serial < b.serial);
            ensure!(sorted, "client {name}: records out of order");
            let within = client.records.iter().all(|record| record.serial <= client.highest);
            ensure!(within, "client {name}: a record above the highest serial");
        }
        ensure!(owned.is_empty(), "clients that own instances are not remembered: {owned:?}");
        let kept: BTreeMap<_, _> = self.clients.idle().iter().map(|(at, name)| (*at, name.clone())).collect();
        ensure!(idle == kept, "the index of idle clients is wrong");
        ensure!(idle.len() <= IDLE_CLIENTS_MAX, "{} idle clients", idle.len());
        Ok(())
    }

    fn check_overrides(&self) -> Result<(), String> {
        for (key, entry) in &self.overrides {
            let ends = entry.shared.expires_at_unix_ms.is_some();
            ensure!(ends == entry.remaining_ms.is_some(), "override {key}: end and remaining time disagree");
            ensure!(entry.shared.revision <= self.revision, "override {key} is of the future");
            let shown =
                self.registered(key).map(|record| record.operator_override.as_ref() == Some(&entry.shared));
            ensure!(shown != Some(false), "override {key} is not shown");
        }
        let shown = self.instances.values().filter(|record| record.operator_override.is_some()).count();
        let registered = self.overrides.keys().filter(|key| self.registered(key).is_some()).count();
        ensure!(shown == registered, "{shown} instances show overrides, {registered} have one");
        let timed = self.overrides.iter().filter(|(_, entry)| entry.remaining_ms.is_some());
        let timed: BTreeSet<_> = timed.map(|(key, entry)| (entry.shared.revision, key.clone())).collect();
        ensure!(timed.iter().eq(self.timed_overrides.iter()), "the overrides that end are not those indexed");
        Ok(())
    }

    fn check_history(&self) -> Result<(), String> {
        let (mut events, mut bytes, mut next) = (0, 0, self.history_floor() + 1);
        for made in self.history.iter() {
            ensure!(made.revision == next, "history: {} stands where {next} should", made.revision);
            next += 1;
            events += (made.events.len() as u64).max(1);
            bytes += made.size_bytes;
            let mut keys: Vec<_> =
                made.events.iter().map(|e| (&e.instance.service, &e.instance.instance_id)).collect();
            keys.sort();
            ensure!(
                keys.windows(2).all(|pair| pair[0] != pair[1]),
                "two events of one instance at {}",
                made.revision
            );
        }
        ensure!(next == self.revision + 1, "history ends before {}", self.revision);
        ensure!((events, bytes) == self.history.size(), "size of the history: {events}, {bytes}");
        Ok(())
    }

    fn check_members(&self) -> Result<(), String> {
        let disks: BTreeSet<_> = self.members.values().map(|member| member.disk_id.clone()).collect();
        ensure!(disks.len() == self.members.len(), "two members have one disk");
        let given = self.members.keys().all(|id| (1..self.next_raft_id).contains(id));
        ensure!(given, "a member has an id that was never given");
        let buried = self.tombstones.iter().all(|tombstone| !self.members.contains_key(&tombstone.raft_id));
        ensure!(buried, "a removed member is a member");
        ensure!(self.tombstones.len() <= TOMBSTONES_MAX, "too many tombstones");
        Ok(())
    }

    fn check_digest(&self) -> Result<(), String> {
        let mut sum = Digest::default();
        self.instances.values().for_each(|record| sum.add(digest::of_instance(record)));
        self.services.iter().for_each(|(key, service)| sum.add(digest::of_service(key, service)));
        self.leases.iter().for_each(|(id, lease)| sum.add(digest::of_lease(*id, lease)));
        self.clients.after(None).for_each(|(name, client)| sum.add(digest::of_client(name, client)));
        self.overrides.iter().for_each(|(key, entry)| sum.add(digest::of_override(key, entry)));
        self.members.values().for_each(|member| sum.add(digest::of_member(member)));
        self.tombstones.iter().for_each(|tombstone| sum.add(digest::of_tombstone(tombstone)));
        ensure!(sum == self.digest, "the hash is wrong");
        Ok(())
    }
}
