//! What a registration comes to, before anything is changed: whose it is (P/R2), what is in it, and whether
//! there is room.

use std::collections::BTreeMap;
use std::sync::Arc;

use registry_bug::bug;
use smol_str::SmolStr;

use crate::client::Verdict;
use crate::command::{Registration, RequestKey};
use crate::ids::{LeaseId, ServiceKey};
use crate::instance::{Content, InstanceRecord, InstanceState};
use crate::lease::LeaseHold;
use crate::limits::WEIGHT_DEFAULT;
use crate::reply::{Quota, Reason};
use crate::service::Service;
use crate::state::{Slot, State};

/// A registration that was looked at and not refused.
pub(super) struct Entry<'a> {
    pub(super) registration: &'a Registration,
    pub(super) key: Arc<ServiceKey>,
    /// The service, if it is known.
    pub(super) service: Option<Service>,
    pub(super) previous: Option<Arc<InstanceRecord>>,
    pub(super) same_owner: bool,
    pub(super) content: Arc<Content>,
}

/// What the registrations of one command add, so that a batch is measured as a whole.
#[derive(Default)]
pub(super) struct Growth {
    instances: u64,
    new_services: u64,
    per_service: BTreeMap<Arc<ServiceKey>, u64>,
    user_data_bytes: i128,
}

impl State {
    /// Looks at a registration that joins `lease_id` (0 = none named) as `client` (empty = none given).
    pub(super) fn look<'a>(
        &self,
        registration: &'a Registration,
        lease_id: LeaseId,
        client: &str,
        growth: &mut Growth,
    ) -> Result<Entry<'a>, Reason> {
        let name = ServiceKey::new(&registration.namespace, &registration.service_name);
        let (key, service) = match self.services.get_key_value(&name) {
            Some((key, service)) => (key.clone(), Some(*service)),
            None => (Arc::new(name), None),
        };
        let previous = service.and_then(|service| {
            let instance_id = SmolStr::new(&registration.instance_id);
            self.instances.get(&Slot { service: service.number, instance_id }).cloned()
        });
        let same_owner = match &previous {
            Some(record) => is_same_owner(record, registration.incarnation, lease_id, client)?,
            None => false,
        };
        let kept = previous.as_ref().filter(|record| holds(&record.content, registration));
        let content =
            kept.map_or_else(|| Arc::new(content_of(registration)), |record| record.content.clone());
        let entry = Entry { registration, key, service, previous, same_owner, content };
        self.admit(&entry, growth)?;
        Ok(entry)
    }

    /// Quotas, counting what the entries before it add.
    fn admit(&self, entry: &Entry<'_>, growth: &mut Growth) -> Result<(), Reason> {
        let quotas = &self.settings.quotas;
        let full = |quota: Quota, limit: u64| Err(Reason::QuotaExceeded { quota, limit });
        if entry.previous.is_none() {
            growth.instances += 1;
            if self.instances.len() as u64 + growth.instances > quotas.instances {
                return full(Quota::Instances, quotas.instances);
            }
            let known = entry.service;
            let added = growth.per_service.entry(entry.key.clone()).or_insert(0);
            growth.new_services += u64::from(known.is_none() && *added == 0);
            if self.services.len() as u64 + growth.new_services > quotas.services && known.is_none() {
                return full(Quota::Services, quotas.services);
            }
            *added += 1;
            if known.map_or(0, |service| u64::from(service.counts.total)) + *added
                > quotas.instances_per_service
            {
                return full(Quota::InstancesPerService, quotas.instances_per_service);
            }
        }
        let before = entry.previous.as_ref().map_or(0, |record| record.user_data_bytes());
        let after = entry.content.user_data_bytes(&entry.registration.instance_id);
        growth.user_data_bytes += i128::from(after) - i128::from(before);
        let total = i128::from(self.user_data_bytes) + growth.user_data_bytes;
        if after > before && total > i128::from(quotas.user_data_bytes) {
            return full(Quota::UserDataBytes, quotas.user_data_bytes);
        }
        Ok(())
    }

    /// The lease that a registration would renew without changing anything, so that the leader need not
    /// put it into the log (P/R2, API/R2): the owner is the same, a client given equals the recorded
    /// one, the content is equal, no guard holds the instance, and the request id is neither a
    /// repetition nor to be refused. The leader adds what only it knows: a quorum round, and that neither
    /// lease nor instance is in a proposal that is not applied yet.
    pub fn would_renew(&self, registration: &Registration, request: Option<&RequestKey>) -> Option<LeaseId> {
        let r = registration;
        let record = self.instance(&r.namespace, &r.service_name, &r.instance_id)?;
        let client = request.map_or("", |request| request.client.as_str());
        let lease = self.leases.get(&record.lease_id)?;
        let own = is_same_owner(record, r.incarnation, r.lease_id, client) == Ok(true)
            && (client.is_empty() || record.client == client);
        let unchanged = (own || bug("suppression-keeps-the-incarnation"))
            && (r.lease_id == 0 || r.lease_id == record.lease_id)
            && r.ttl_ms.is_none_or(|ttl| ttl == u64::from(record.ttl_ms))
            && (r.state == InstanceState::Unspecified as i32 || r.state == record.reported_state as i32)
            && lease.hold == LeaseHold::None
            && holds(&record.content, r)
            && request.is_none_or(|request| matches!(self.clients.verdict(request), Verdict::Fresh(_)));
        unchanged.then_some(record.lease_id)
    }
}

/// Whether a registration comes from the owner of the instance; the first of the four that is given
/// decides (P/R2).
fn is_same_owner(
    record: &InstanceRecord,
    incarnation: u64,
    lease_id: LeaseId,
    client: &str,
) -> Result<bool, Reason> {
    if incarnation != 0 {
        return if incarnation == record.incarnation {
            Ok(true)
        } else {
            Err(Reason::StaleIncarnation { current: record.incarnation })
        };
    }
    if lease_id != 0 && lease_id == record.lease_id {
        return Ok(true);
    }
    Ok(record.client == client)
}

/// True if the registration says what is there already; state, ttl and lease aside.
fn holds(content: &Content, registration: &Registration) -> bool {
    let metadata = content.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let ports = content.ports.iter().map(|(name, port)| (name.as_str(), u32::from(*port)));
    content.host == registration.host
        && u32::from(content.port) == registration.port
        && u32::from(content.weight) == registration.weight.unwrap_or(WEIGHT_DEFAULT)
        && content.zone == registration.zone
        && metadata.eq(registration.metadata.iter().map(|pair| (pair.key.as_str(), pair.value.as_str())))
        && content.tags.iter().map(SmolStr::as_str).eq(registration.tags.iter().map(String::as_str))
        && ports.eq(registration.ports.iter().map(|named| (named.name.as_str(), named.port)))
}

/// The content of a registration that was checked: all numbers fit.
fn content_of(registration: &Registration) -> Content {
    let number = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
    let metadata =
        registration.metadata.iter().map(|pair| (SmolStr::new(&pair.key), SmolStr::new(&pair.value)));
    Content {
        host: SmolStr::new(&registration.host),
        port: number(registration.port),
        weight: number(registration.weight.unwrap_or(WEIGHT_DEFAULT)),
        zone: SmolStr::new(&registration.zone),
        metadata: metadata.collect(),
        tags: registration.tags.iter().map(SmolStr::new).collect(),
        ports: registration
            .ports
            .iter()
            .map(|named| (SmolStr::new(&named.name), number(named.port)))
            .collect(),
    }
}
