//! The state that all nodes of the mock share.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use registry_client::v1::{
    self, ErrorReason, EventCause, EventKind, Instance, InstanceEvent, InstanceState, RegisterOutcome,
    RequestId, RevisionChanges,
};
use tokio::sync::watch;
use tonic::{Code, Status};

use super::refusal;

/// An instance and what only the registry knows of it.
#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) instance: Instance,
    pub(crate) lease: u64,
    client: Option<String>,
}

/// What is remembered of a client's writes (P/R3).
#[derive(Default)]
struct Remembered {
    done_below: u64,
    highest: u64,
    outcomes: BTreeMap<u64, Result<Outcome, Status>>,
}

/// The outcome of a write.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) register: v1::ServiceRegisterResponse,
    pub(crate) count: u32,
    pub(crate) revision: u64,
    pub(crate) replayed: bool,
}

/// Everything that the cluster agrees on.
pub(crate) struct Store {
    pub(crate) endpoints: Vec<String>,
    pub(crate) leader: Option<usize>,
    pub(crate) term: u64,
    pub(crate) epoch: u64,
    pub(crate) revision: u64,
    pub(crate) instances: BTreeMap<String, Record>,
    pub(crate) history: Vec<RevisionChanges>,
    /// Revisions up to this one are gone from the history.
    pub(crate) compacted: u64,
    pub(crate) default_ttl: Duration,
    /// Rules of request ids that a client broke.
    pub(crate) violations: Vec<String>,
    /// Renewals in the order of arrival: lease and index of the node.
    pub(crate) renewals: Vec<(u64, usize)>,
    pub(crate) drain_unimplemented: bool,
    clients: BTreeMap<String, Remembered>,
    next_lease: u64,
    /// Raised with every change.
    pub(crate) changed: watch::Sender<u64>,
}

impl Store {
    pub(crate) fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            leader: Some(0),
            term: 1,
            epoch: 4711,
            revision: 0,
            instances: BTreeMap::new(),
            history: Vec::new(),
            compacted: 0,
            default_ttl: Duration::from_secs(15),
            violations: Vec::new(),
            renewals: Vec::new(),
            drain_unimplemented: false,
            clients: BTreeMap::new(),
            next_lease: 1000,
            changed: watch::channel(0).0,
        }
    }

    pub(crate) fn has_lease(&self, lease: u64) -> bool {
        self.instances.values().any(|record| record.lease == lease)
    }

    pub(crate) fn forget_clients(&mut self) {
        self.clients.clear();
    }

    pub(crate) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Does a write once per request id.
    pub(crate) fn once(
        &mut self,
        id: Option<&RequestId>,
        write: impl FnOnce(&mut Self) -> Result<Outcome, Status>,
    ) -> Result<Outcome, Status> {
        let Some(id) = id else { return write(self) };
        if !self.clients.contains_key(&id.client) && id.serial != 1 {
            return Err(refusal(Code::FailedPrecondition, ErrorReason::SessionUnknown, "RESTART", &[]));
        }
        let known = self.clients.entry(id.client.clone()).or_default();
        known.done_below = known.done_below.max(id.done_below);
        if id.serial < known.done_below.max(known.highest.saturating_sub(15)) {
            self.violations.push(format!("superseded: {id:?}"));
            return Err(refusal(Code::FailedPrecondition, ErrorReason::RequestSuperseded, "NEVER", &[]));
        }
        if id.serial >= known.done_below + 16 {
            self.violations.push(format!("too far ahead: {id:?}"));
            return Err(refusal(Code::InvalidArgument, ErrorReason::InvalidField, "NEVER", &[]));
        }
        known.highest = known.highest.max(id.serial);
        if let Some(outcome) = known.outcomes.get(&id.serial) {
            return outcome.clone().map(|outcome| Outcome { replayed: true, ..outcome });
        }
        let outcome = write(self);
        let known = self.clients.entry(id.client.clone()).or_default();
        known.outcomes.insert(id.serial, outcome.clone());
        outcome
    }

    fn publish(&mut self, events: Vec<InstanceEvent>) {
        self.history.push(RevisionChanges { revision: self.revision, events, more: false });
        self.changed.send_modify(|version| *version += 1);
    }

    pub(crate) fn register(
        &mut self,
        request: &v1::ServiceRegisterRequest,
        client: Option<String>,
    ) -> Result<Outcome, Status> {
        let id = match request.instance_id.as_str() {
            "" => format!("{}:{}", request.host, request.port),
            id => id.to_owned(),
        };
        let old = self.instances.get(&id).cloned();
        let same_owner = match (&old, request.incarnation) {
            (Some(old), given) if given != 0 && given != old.instance.incarnation => {
                return Err(refusal(Code::FailedPrecondition, ErrorReason::StaleIncarnation, "NEVER", &[]));
            }
            (Some(old), given) => given != 0 || old.client == client,
            (None, _) => false,
        };
        let ttl = request.ttl.or_else(|| self.default_ttl.try_into().ok());
        let state = match (request.state(), &old) {
            (InstanceState::Unspecified, Some(old)) if same_owner => old.instance.state,
            (InstanceState::Unspecified, _) => InstanceState::Up.into(),
            (state, _) => state.into(),
        };
        let mut instance = Instance {
            instance_id: id.clone(),
            host: request.host.clone(),
            port: request.port,
            state,
            weight: Some(request.weight.unwrap_or(100)),
            metadata: request.metadata.clone(),
            namespace: "default".into(),
            service_name: request.service_name.clone(),
            ttl,
            ..Default::default()
        };
        let (lease, outcome) = match &old {
            Some(old) if same_owner => {
                instance.incarnation = old.instance.incarnation;
                instance.revision = old.instance.revision;
                (old.lease, RegisterOutcome::Updated)
            }
            old => {
                self.next_lease += 1;
                let outcome =
                    if old.is_some() { RegisterOutcome::Replaced } else { RegisterOutcome::Created };
                (self.next_lease, outcome)
            }
        };
        let unchanged = old.as_ref().is_some_and(|old| same_owner && old.instance == instance);
        if !unchanged {
            self.revision += 1;
            instance.revision = self.revision;
            if !same_owner {
                instance.incarnation = self.revision;
            }
            self.instances.insert(id, Record { instance: instance.clone(), lease, client });
            let kind = if old.is_some() { EventKind::Updated } else { EventKind::Added };
            self.publish(vec![InstanceEvent {
                kind: kind.into(),
                instance: Some(instance.clone()),
                previous: old.map(|old| old.instance),
                cause: EventCause::Registered.into(),
            }]);
        }
        let outcome = if unchanged { RegisterOutcome::Renewed } else { outcome };
        let register = v1::ServiceRegisterResponse {
            header: None,
            lease_id: lease,
            incarnation: instance.incarnation,
            instance: Some(instance),
            outcome: outcome.into(),
        };
        Ok(Outcome { register, count: 1, revision: self.revision, replayed: false })
    }

    /// Removes instances at one revision.
    pub(crate) fn remove(&mut self, ids: &BTreeSet<String>, cause: EventCause) -> Outcome {
        let removed: Vec<_> = ids.iter().filter_map(|id| self.instances.remove(id)).collect();
        let count = u32::try_from(removed.len()).unwrap();
        if count > 0 {
            self.revision += 1;
            let event = |record: Record| InstanceEvent {
                kind: EventKind::Removed.into(),
                instance: Some(record.instance),
                previous: None,
                cause: cause.into(),
            };
            self.publish(removed.into_iter().map(event).collect());
        }
        Outcome { count, revision: self.revision, ..Outcome::default() }
    }

    /// Lets a lease run out.
    pub(crate) fn expire(&mut self, lease: u64) {
        let ids = self
            .instances
            .iter()
            .filter(|(_, record)| record.lease == lease)
            .map(|(id, _)| id.clone())
            .collect();
        self.remove(&ids, EventCause::Expired);
    }

    pub(crate) fn set_state(&mut self, id: &str, incarnation: u64, state: i32) -> Result<Outcome, Status> {
        let Some(record) = self.instances.get(id).cloned() else {
            return Err(refusal(Code::NotFound, ErrorReason::InstanceNotFound, "NEVER", &[]));
        };
        if incarnation != 0 && incarnation != record.instance.incarnation {
            return Err(refusal(Code::FailedPrecondition, ErrorReason::StaleIncarnation, "NEVER", &[]));
        }
        self.revision += 1;
        let instance = Instance { state, revision: self.revision, ..record.instance.clone() };
        self.instances.insert(id.to_owned(), Record { instance: instance.clone(), ..record.clone() });
        self.publish(vec![InstanceEvent {
            kind: EventKind::Updated.into(),
            instance: Some(instance),
            previous: Some(record.instance),
            cause: EventCause::StateReported.into(),
        }]);
        Ok(Outcome { count: 1, revision: self.revision, ..Outcome::default() })
    }

    /// Forgets the history up to now.
    pub(crate) fn compact(&mut self) {
        self.compacted = self.revision;
        self.history.clear();
    }
}
