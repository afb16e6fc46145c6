//! Histories for the tests of the checkers: a registry of a few lines that is always right, and the calls of a
//! run against it. A test takes such a history and makes one thing of it wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use registry_proto::v1::{self, Consistency, EventCause, EventKind, RegisterOutcome, WatchKind};

use super::history::{Answer, Call, History, Operation, Outcome, Time, Watch};
use super::names::Key;
use super::timeline::Timeline;
use super::violation::Violation;

/// The service of all examples.
pub const SERVICE: &str = "orders";
/// Time to live of its instances.
pub const TTL: Duration = Duration::from_secs(3);
/// How long a call takes, and how long nothing happens after it.
pub const TICK: Duration = Duration::from_millis(10);

/// A run so far.
#[derive(Debug, Clone, Default)]
pub struct Example {
    /// The present time.
    pub now: Time,
    /// The present revision.
    pub revision: u64,
    instances: BTreeMap<Key, (v1::Instance, u64)>,
    groups: Vec<(Time, v1::RevisionChanges)>,
    operations: Vec<Operation>,
}

/// A registration of this instance, with content of its own.
pub fn register(id: &str, mark: &str) -> Call {
    Call::Register(v1::ServiceRegisterRequest {
        service_name: SERVICE.into(),
        host: "10.0.0.1".into(),
        port: 80,
        instance_id: id.into(),
        ttl: TTL.try_into().ok(),
        metadata: [("mark".to_owned(), mark.to_owned())].into(),
        ..Default::default()
    })
}

/// A removal of this instance, of any incarnation (0) or of one.
pub fn deregister(id: &str, incarnation: u64) -> Call {
    let (service_name, instance_id) = (SERVICE.into(), id.into());
    Call::Deregister(v1::ServiceDeregisterRequest {
        service_name,
        instance_id,
        incarnation,
        ..Default::default()
    })
}

/// A linearizable read.
pub fn discover() -> Call {
    Call::Discover(v1::ServiceDiscoveryRequest { service_name: SERVICE.into(), ..Default::default() })
}

impl Example {
    /// Makes a call that takes effect half-way. Its place in the history.
    pub fn call(&mut self, call: Call) -> usize {
        let invoked = self.now;
        self.now += TICK / 2;
        let outcome = Outcome::Answered(self.take(&call));
        self.now += TICK / 2;
        let ended = Some(self.now);
        self.now += TICK;
        let client = "a".into();
        self.operations.push(Operation { client, session: None, invoked, ended, call, outcome });
        self.operations.len() - 1
    }

    /// Renews the lease of an instance.
    pub fn renew(&mut self, id: &str) -> usize {
        let lease_id = self.instances[&key(id)].1;
        self.call(Call::Renew(v1::HeartbeatRequest { lease_id, ..Default::default() }))
    }

    /// A stale read that shows an earlier state, kept from [`read`](Self::read), and is this old.
    pub fn stale(&mut self, shown: v1::ServiceDiscoveryResponse, age: Duration) -> usize {
        let mut answer = shown;
        let header = answer.header.as_mut().expect("it has one");
        header.staleness = age.try_into().ok();
        let call = Call::Discover(v1::ServiceDiscoveryRequest {
            service_name: SERVICE.into(),
            consistency: Consistency::Stale.into(),
            ..Default::default()
        });
        let at = self.call(call);
        self.operations[at].outcome = Outcome::Answered(Answer::Found(answer));
        at
    }

    /// What a read shows now.
    pub fn read(&self) -> v1::ServiceDiscoveryResponse {
        let instances: Vec<v1::Instance> = self.instances.values().map(|(found, _)| found.clone()).collect();
        let status =
            if instances.is_empty() { v1::ServiceStatus::Empty } else { v1::ServiceStatus::Available };
        let total = u32::try_from(instances.len()).expect("few");
        let counts = Some(v1::InstanceCounts { total, up: total, ..Default::default() });
        v1::ServiceDiscoveryResponse {
            header: self.header(),
            instances,
            status: status.into(),
            counts,
            ..Default::default()
        }
    }

    /// The lease of an instance runs out.
    pub fn expire(&mut self, id: &str) {
        let (instance, _) = self.instances.remove(&key(id)).expect("it is there");
        self.change(EventKind::Removed, EventCause::Expired, vec![(instance, None)]);
        self.now += TICK;
    }

    /// Lets time pass.
    pub fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    /// A call takes effect now.
    pub fn take(&mut self, call: &Call) -> Answer {
        match call {
            Call::Register(request) => self.register(request),
            Call::Deregister(request) => {
                let present = self.instances.get(&key(&request.instance_id));
                let fits = present
                    .is_some_and(|(present, _)| [0, present.incarnation].contains(&request.incarnation));
                if fits && let Some((instance, _)) = self.instances.remove(&key(&request.instance_id)) {
                    self.change(EventKind::Removed, EventCause::Deregistered, vec![(instance, None)]);
                }
                let header = self.header();
                Answer::Deregistered(v1::ServiceDeregisterResponse { header, removed: fits.into() })
            }
            Call::Renew(request) => Answer::Renewed(v1::HeartbeatResponse {
                header: self.header(),
                lease_id: request.lease_id,
                ..Default::default()
            }),
            Call::Discover(_) => Answer::Found(self.read()),
            other => unreachable!("no example makes {other:?}"),
        }
    }

    fn register(&mut self, request: &v1::ServiceRegisterRequest) -> Answer {
        let key = key(&request.instance_id);
        let present = self.instances.get(&key).cloned();
        let (outcome, incarnation, lease_id) = match &present {
            Some((found, lease)) if found.metadata == request.metadata => {
                (RegisterOutcome::Renewed, found.incarnation, *lease)
            }
            Some((found, lease)) => (RegisterOutcome::Updated, found.incarnation, *lease),
            None => (RegisterOutcome::Created, self.revision + 1, 1_000 + self.revision),
        };
        let mut instance = v1::Instance {
            instance_id: key.instance_id.clone(),
            host: request.host.clone(),
            port: request.port,
            state: v1::InstanceState::Up.into(),
            weight: Some(100),
            metadata: request.metadata.clone(),
            namespace: key.namespace.clone(),
            service_name: key.service.clone(),
            revision: self.revision + 1,
            incarnation,
            ttl: request.ttl,
            ..Default::default()
        };
        if outcome == RegisterOutcome::Renewed {
            instance = present.expect("it is there").0;
        } else {
            self.instances.insert(key, (instance.clone(), lease_id));
            let kind = if present.is_some() { EventKind::Updated } else { EventKind::Added };
            let before = present.map(|(before, _)| before);
            self.change(kind, EventCause::Registered, vec![(instance.clone(), before)]);
        }
        let instance = Some(instance);
        let (header, outcome) = (self.header(), outcome.into());
        Answer::Registered(v1::ServiceRegisterResponse { header, instance, lease_id, incarnation, outcome })
    }

    /// One revision with these changes: the instance and what it was before an update.
    pub fn change(
        &mut self,
        kind: EventKind,
        cause: EventCause,
        changes: Vec<(v1::Instance, Option<v1::Instance>)>,
    ) {
        self.revision += 1;
        let events = changes.into_iter().map(|(instance, previous)| {
            let (kind, cause) = (kind.into(), cause.into());
            v1::InstanceEvent { kind, instance: Some(instance), previous, cause }
        });
        let (revision, events) = (self.revision, events.collect());
        self.groups.push((self.now, v1::RevisionChanges { revision, events, more: false }));
    }

    /// The header of an answer of now.
    pub fn header(&self) -> Option<v1::ResponseHeader> {
        let (revision, epoch, node_id) = (self.revision, 7, "registry-node-1".to_owned());
        Some(v1::ResponseHeader { revision, epoch, node_id, ..Default::default() })
    }

    /// The history: with a watch of everything from the beginning, and one of the service that is resumed at
    /// this revision.
    pub fn history(&self, resumed: u64) -> History {
        let everything = v1::WatchRequest { all_namespaces: true, ..Default::default() };
        let resume = Some(v1::Position { epoch: 7, revision: resumed });
        let service = v1::WatchRequest { service_name: SERVICE.into(), resume, ..Default::default() };
        let watches = vec![self.watch(everything, 0), self.watch(service, resumed)];
        let operations = self.operations.clone();
        History { operations, watches, end: self.now, ..Default::default() }
    }

    /// What a watch is told that begins after this revision.
    fn watch(&self, request: v1::WatchRequest, after: u64) -> Watch {
        let first = self.groups.iter().find(|(_, group)| group.revision > after);
        let opened = first.map_or(self.now, |(at, _)| *at - Duration::from_millis(1));
        let header = Some(v1::ResponseHeader { revision: after, epoch: 7, ..Default::default() });
        let synced = v1::WatchResponse { header, revision: after, ..message(WatchKind::Synced) };
        let mut messages = vec![(opened, synced)];
        for (at, group) in self.groups.iter().filter(|(_, group)| group.revision > after) {
            let (changes, revision) = (vec![group.clone()], group.revision);
            messages.push((
                *at + TICK / 4,
                v1::WatchResponse { changes, revision, ..message(WatchKind::Changes) },
            ));
        }
        let (watcher, node) = ("w".into(), "registry-node-1".into());
        Watch { watcher, node, request, opened, messages, closed: None }
    }
}

/// A message of this kind.
pub fn message(kind: WatchKind) -> v1::WatchResponse {
    v1::WatchResponse { kind: kind.into(), ..Default::default() }
}

/// The key of an instance of the service.
pub fn key(id: &str) -> Key {
    Key::named("", SERVICE, id, "", 0)
}

/// The timeline of a history that tells one.
pub fn timeline(history: &History) -> Timeline {
    Timeline::of(history).expect("its watches agree")
}

/// Fails unless there is exactly one violation, of this invariant, and says so in these words.
pub fn assert_one(violations: &[Violation], invariant: &str, words: &str) {
    let [violation] = violations else { panic!("one violation, not {violations:#?}") };
    assert_eq!(violation.invariant, invariant, "{violation}");
    assert!(violation.what.contains(words), "{violation}");
}
