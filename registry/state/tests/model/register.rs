//! Register and BatchRegister of the model.

use std::collections::BTreeSet;
use std::sync::Arc;

use registry_state::*;

use crate::naive::{MLease, Model, key_of, reject, service_of, visible};

impl Model {
    /// First match decides (P/R2).
    pub(crate) fn same_owner(
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

    pub(crate) fn register(
        &mut self,
        register: &Register,
        client: &str,
        now: u64,
    ) -> Result<Reply, Rejection> {
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

    pub(crate) fn batch(
        &mut self,
        batch: &BatchRegister,
        client: &str,
        now: u64,
    ) -> Result<Reply, Rejection> {
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
    pub(crate) fn check_quotas(&mut self, registrations: &[&Registration]) -> Result<(), Rejection> {
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

    pub(crate) fn join(&self, id: u64, ttl_ms: Option<u64>) -> Result<u64, Rejection> {
        let Some(lease) = self.leases.get(&id) else { return reject(Reason::LeaseExpired) };
        if ttl_ms.is_some_and(|ttl| ttl != u64::from(lease.ttl_ms)) {
            let description = format!("the lease has {} ms; leave it unset or give the same", lease.ttl_ms);
            return reject(Reason::InvalidField(vec![Violation { field: "ttl".into(), description }]));
        }
        Ok(id)
    }

    /// A new lease, to be touched once: that makes version 1.
    pub(crate) fn open(&mut self, drawn: u64, ttl_ms: Option<u64>) -> u64 {
        let mut id = drawn;
        while id == 0 || self.leases.contains_key(&id) {
            id += 1;
        }
        let ttl_ms = ttl_ms.unwrap_or(self.settings().default_ttl_ms) as u32;
        self.leases.insert(id, MLease { version: 0, ttl_ms, hold: LeaseHold::None });
        id
    }

    pub(crate) fn touch(&mut self, id: u64) {
        let lease = self.leases.get_mut(&id).unwrap();
        lease.version += 1;
        lease.hold = LeaseHold::None;
        for record in self.instances.values_mut().filter(|record| record.lease_id == id) {
            if record.protection.take().is_some() {
                self.causes.insert(key_of(record), EventCause::Recovered);
            }
        }
    }

    pub(crate) fn enter(
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
}
