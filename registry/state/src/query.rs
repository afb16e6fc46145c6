//! Lookups on a state.

use std::collections::BTreeSet;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::RevisionEvents;
use crate::history::HistoryGap;
use crate::ids::{Epoch, InstanceKey, LeaseId, RaftId, Revision, ServiceKey};
use crate::instance::InstanceRecord;
use crate::lease::{Lease, LeaseHold, LeaseView};
use crate::member::Member;
use crate::overrides::OverrideView;
use crate::service::{Counts, GuardState, Service, ServiceStatus};
use crate::settings::ClusterSettings;
use crate::state::{Slot, State};

/// A known service in a state.
#[derive(Clone, Copy, Debug)]
pub struct ServiceView<'a> {
    state: &'a State,
    key: &'a Arc<ServiceKey>,
    service: &'a Service,
}

impl<'a> ServiceView<'a> {
    /// Its name.
    pub fn key(&self) -> &'a Arc<ServiceKey> {
        self.key
    }

    /// What it is like.
    pub fn status(&self) -> ServiceStatus {
        ServiceStatus::of(&self.service.counts)
    }

    /// Its instances by state.
    pub fn counts(&self) -> &'a Counts {
        &self.service.counts
    }

    /// Revision of the last change of the service or one of its instances.
    pub fn revision(&self) -> Revision {
        self.service.revision
    }

    /// Its mass-expiry guard.
    pub fn guard(&self) -> GuardState {
        self.service.guard
    }

    /// Its instances, sorted by id.
    pub fn instances(&self) -> impl Iterator<Item = &'a Arc<InstanceRecord>> + use<'a> {
        self.state.instances_of(self.service.number, "")
    }

    /// Its instances after the id `after`, sorted by id; for pages.
    pub fn instances_after(&self, after: &'a str) -> impl Iterator<Item = &'a Arc<InstanceRecord>> + use<'a> {
        self.state
            .instances_of(self.service.number, after)
            .skip_while(move |i| i.instance_id.as_str() <= after)
    }

    /// One of its instances.
    pub fn instance(&self, instance_id: &str) -> Option<&'a Arc<InstanceRecord>> {
        self.state
            .instances
            .get(&Slot { service: self.service.number, instance_id: SmolStr::new(instance_id) })
    }
}

impl State {
    /// UUID of the cluster; `None` before it is founded.
    pub fn cluster_id(&self) -> Option<&str> {
        self.identity.as_ref().map(|identity| identity.cluster_id.as_str())
    }

    /// Name of this history of the cluster; 0 before it is founded.
    pub fn epoch(&self) -> Epoch {
        self.identity.as_ref().map_or(0, |identity| identity.epoch)
    }

    /// Revision of the last visible change.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Feature level that the state needs (P/O3).
    pub fn feature_level(&self) -> u32 {
        self.feature_level
    }

    /// The settings.
    pub fn settings(&self) -> &Arc<ClusterSettings> {
        &self.settings
    }

    /// The members, by id.
    pub fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.values()
    }

    /// A member.
    pub fn member(&self, raft_id: RaftId) -> Option<&Arc<Member>> {
        self.members.get(&raft_id)
    }

    /// True if the id was given out and its member has been removed since, which is final (P/N5).
    pub fn is_removed(&self, raft_id: RaftId) -> bool {
        self.identity.is_some()
            && raft_id > 0
            && raft_id < self.next_raft_id
            && !self.members.contains_key(&raft_id)
    }

    /// The id that a disk had before it was removed; only the last 1,024 are remembered.
    pub fn removed_disk(&self, disk_id: &str) -> Option<RaftId> {
        self.tombstones
            .iter()
            .find(|tombstone| tombstone.disk_id == disk_id)
            .map(|tombstone| tombstone.raft_id)
    }

    /// A service; `None` if nobody knows it.
    pub fn service(&self, namespace: &str, name: &str) -> Option<ServiceView<'_>> {
        let (key, service) = self.services.get_key_value(&ServiceKey::new(namespace, name))?;
        Some(ServiceView { state: self, key, service })
    }

    /// The known services in order, from `from` on (itself included); `None` = from the first.
    pub fn services_from<'a>(
        &'a self,
        from: Option<&ServiceKey>,
    ) -> impl Iterator<Item = ServiceView<'a>> + use<'a> {
        let first = ServiceKey::new("", "");
        self.services.range::<_, ServiceKey>(from.unwrap_or(&first)..).map(|(key, service)| ServiceView {
            state: self,
            key,
            service,
        })
    }

    /// The known services of a namespace whose name begins with `prefix`, sorted by name, after the name
    /// `after` (empty = from the first).
    pub fn services_in<'a>(
        &'a self,
        namespace: &'a str,
        prefix: &'a str,
        after: &'a str,
    ) -> impl Iterator<Item = ServiceView<'a>> {
        let from = ServiceKey::new(namespace, prefix.max(after));
        self.services
            .range(from..)
            .map(|(key, service)| ServiceView { state: self, key, service })
            .take_while(move |view| view.key.namespace == namespace && view.key.name.starts_with(prefix))
            .filter(move |view| view.key.name.as_str() > after || after.is_empty())
    }

    /// Number of known services, empty ones included.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// Instances of the cluster by state.
    pub fn counts(&self) -> &Counts {
        &self.totals
    }

    /// Instances of a namespace by state.
    pub fn namespace_counts(&self, namespace: &str) -> Counts {
        self.namespaces.get(namespace).map_or_else(Counts::default, |totals| totals.counts)
    }

    /// Bytes of user data, as counted by the quota.
    pub fn user_data_bytes(&self) -> u64 {
        self.user_data_bytes
    }

    /// An instance; `None` if it is not registered.
    pub fn instance(
        &self,
        namespace: &str,
        service: &str,
        instance_id: &str,
    ) -> Option<&Arc<InstanceRecord>> {
        self.service(namespace, service)?.instance(instance_id)
    }

    /// An open lease.
    pub fn lease(&self, id: LeaseId) -> Option<LeaseView> {
        self.leases.get(&id).map(|lease| lease.view(id))
    }

    /// All open leases, by id; for the deadlines of a new leader (P/L3).
    pub fn leases(&self) -> impl Iterator<Item = LeaseView> {
        self.leases.iter().map(|(id, lease)| lease.view(*id))
    }

    /// Number of open leases.
    pub fn lease_count(&self) -> usize {
        self.leases.len()
    }

    /// The instances of a lease, in no particular order; none if it is not open.
    pub fn lease_instances(&self, id: LeaseId) -> impl Iterator<Item = &Arc<InstanceRecord>> {
        self.slots_of(id).filter_map(|slot| self.instances.get(slot))
    }

    /// An override, for a registered instance or not.
    pub fn override_of(&self, namespace: &str, service: &str, instance_id: &str) -> Option<OverrideView<'_>> {
        let key = InstanceKey::new(namespace, service, instance_id);
        self.overrides.get_key_value(&key).map(|(key, entry)| self.view_override(key, entry))
    }

    /// The overrides in order of namespace, service and instance, from `from` on (itself included);
    /// `None` = from the first.
    pub fn overrides_from<'a>(
        &'a self,
        from: Option<&InstanceKey>,
    ) -> impl Iterator<Item = OverrideView<'a>> + use<'a> {
        let first = InstanceKey::new("", "", "");
        self.overrides
            .range::<_, InstanceKey>(from.unwrap_or(&first)..)
            .map(|(key, entry)| self.view_override(key, entry))
    }

    /// Number of overrides, for registered instances or not.
    pub fn override_count(&self) -> usize {
        self.overrides.len()
    }

    /// The overrides that end by themselves and were set after `revision`, in the order of their versions;
    /// for the timers of a leader (P/L7).
    pub fn timed_overrides_after(&self, revision: Revision) -> impl Iterator<Item = OverrideView<'_>> {
        let first = (revision.saturating_add(1), InstanceKey::new("", "", ""));
        self.timed_overrides.range(first..).filter_map(|(_, key)| self.timed_override(key))
    }

    /// The override with this version, if it is there and ends by itself.
    pub fn timed_override_of(&self, version: Revision) -> Option<OverrideView<'_>> {
        self.timed_overrides_after(version.checked_sub(1)?)
            .next()
            .filter(|view| view.operator_override.revision == version)
    }

    fn timed_override(&self, key: &InstanceKey) -> Option<OverrideView<'_>> {
        self.overrides.get_key_value(key).map(|(key, entry)| self.view_override(key, entry))
    }

    /// Services whose guard is not armed, with what it does; for the leader (P/L6).
    pub fn guards(&self) -> impl Iterator<Item = (&Arc<ServiceKey>, GuardState)> {
        self.unarmed.iter().filter_map(|key| Some((key, self.services.get(key)?.guard)))
    }

    /// Number of leases that the guard keeps or has let go. Looks at the services that it has, no others.
    pub fn kept_leases(&self) -> usize {
        let services = self.unarmed.iter().filter_map(|key| self.services.get(key));
        let records = services.flat_map(|service| self.instances_of(service.number, ""));
        let kept: BTreeSet<LeaseId> =
            records.filter(|record| record.is_protected()).map(|record| record.lease_id).collect();
        kept.len()
    }

    /// The changes after `revision`, in order.
    pub fn history_since(
        &self,
        revision: Revision,
    ) -> Result<impl Iterator<Item = &Arc<RevisionEvents>>, HistoryGap> {
        self.history.since(revision, self.revision)
    }

    /// The oldest revision from which a watch can be resumed: its changes are gone, those after it are
    /// all there.
    pub fn history_floor(&self) -> Revision {
        self.history.floor(self.revision)
    }

    /// Hash of everything that the log decided, independent of how the state came about: equal on all
    /// nodes that applied the same commands. An alert, no proof (P/O4).
    pub fn state_hash(&self) -> u64 {
        self.digest_of_whole()
    }

    pub(crate) fn slots_of(&self, id: LeaseId) -> impl Iterator<Item = &Slot> {
        let first = (id, Slot { service: 0, instance_id: SmolStr::default() });
        self.lease_slots.range(first..).take_while(move |(lease, _)| *lease == id).map(|(_, slot)| slot)
    }

    pub(crate) fn instances_of<'a>(
        &'a self,
        service: u64,
        from: &str,
    ) -> impl Iterator<Item = &'a Arc<InstanceRecord>> + use<'a> {
        let first = Slot { service, instance_id: SmolStr::new(from) };
        self.instances.range(first..).take_while(move |(slot, _)| slot.service == service).map(|(_, i)| i)
    }

    fn view_override<'a>(
        &'a self,
        key: &'a InstanceKey,
        entry: &'a crate::overrides::OverrideEntry,
    ) -> OverrideView<'a> {
        let registered = self.instance(&key.service.namespace, &key.service.name, &key.instance_id).is_some();
        OverrideView { key, operator_override: &entry.shared, remaining_ms: entry.remaining_ms, registered }
    }
}

impl Lease {
    pub(crate) fn view(&self, id: LeaseId) -> LeaseView {
        LeaseView {
            id,
            version: self.version,
            ttl_ms: self.ttl_ms,
            hold: self.hold,
            instances: self.instances,
        }
    }
}

impl LeaseView {
    /// True while the mass-expiry guard keeps it: it has no deadline.
    pub fn is_held(&self) -> bool {
        self.hold == LeaseHold::Held
    }
}
