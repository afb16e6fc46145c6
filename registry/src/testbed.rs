//! For tests of leases and watches: a state machine that applies, publishes and tells as Raft does, with a
//! quorum, a leadership and a fate of the leader's own
//! proposals that a test decides.

use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use registry_proto::v1;
use registry_state::command::{Deregister, Register, Registration, Target};
use registry_state::{
    Applied, ClusterSettings, Command, HistorySettings, InitCluster, Operation, Reply, State,
};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use crate::error::{Error, LeaderHint};
use crate::lease::Leases;
use crate::lease::agreement::Agreement;
use crate::metrics::Metrics;
use crate::raft::{Leadership, LogPosition, Observer, ProposeError, Published};
use crate::read_index::Confirmed;
use crate::server::keep_alive::Heads;
use crate::watch::{Hub, HubLimits, Source};

/// What becomes of a proposal of the leader's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is applied.
    Applied,
    /// Not yet decided.
    Open,
    /// It is not known, and it is not applied.
    Unknown,
    /// It is not known, but it is applied.
    UnknownApplied,
}

/// The reign that a testbed begins with.
pub(crate) const REIGN: Leadership = Leadership { term: 1, node: 1 };

pub(crate) struct Testbed {
    pub(crate) hub: Hub,
    pub(crate) leases: Leases,
    pub(crate) quorum: watch::Sender<bool>,
    pub(crate) fate: watch::Sender<Fate>,
    pub(crate) leadership: watch::Sender<Option<Leadership>>,
    /// States by revision, to compare what a watch has built.
    pub(crate) past: Mutex<Vec<State>>,
    published: ArcSwap<Published>,
    applying: Mutex<u64>,
}

impl Testbed {
    /// A founded cluster that remembers so many events.
    pub(crate) fn new(history_events: u64) -> Arc<Self> {
        Self::with(history_events, HubLimits::default())
    }

    pub(crate) fn with(history_events: u64, limits: HubLimits) -> Arc<Self> {
        let metrics = Metrics::new();
        let testbed = Self {
            hub: Hub::new(limits, metrics.clone()),
            leases: Leases::new(metrics),
            quorum: watch::Sender::new(true),
            fate: watch::Sender::new(Fate::Applied),
            leadership: watch::Sender::new(Some(REIGN)),
            past: Mutex::default(),
            published: ArcSwap::from_pointee(Published {
                state: State::default(),
                applied: None,
                hash_marks: Arc::default(),
            }),
            applying: Mutex::new(0),
        };
        testbed.install(founded(42, history_events));
        Arc::new(testbed)
    }

    pub(crate) fn state(&self) -> State {
        self.published.load().state.clone()
    }

    pub(crate) fn apply(&self, operation: Operation) -> Applied {
        let mut index = self.applying.lock().unwrap();
        *index += 1;
        let mut state = self.state();
        let applied = state.apply(&Command { proposed_at_unix_ms: 0, request: None, operation });
        assert!(!matches!(applied.reply, Reply::Rejected(_)), "{:?}", applied.reply);
        let published = self.publish(state, *index);
        let events: Vec<_> = applied.events.clone().into_iter().collect();
        self.hub.applied(&published, &events, &applied.leases);
        self.leases.applied(&published, &events, &applied.leases);
        applied
    }

    /// Replaces the state, as a snapshot does.
    pub(crate) fn install(&self, state: State) {
        let mut index = self.applying.lock().unwrap();
        *index += 1_000;
        let published = self.publish(state, *index);
        self.hub.reset(&published);
        self.leases.reset(&published);
    }

    fn publish(&self, state: State, index: u64) -> Arc<Published> {
        self.past.lock().unwrap().push(state.clone());
        let applied = Some(LogPosition { leadership: REIGN, index });
        let published = Arc::new(Published { state, applied, hash_marks: Arc::default() });
        self.published.store(published.clone());
        published
    }

    /// Registers an instance; returns its lease.
    pub(crate) fn register(&self, service: &str, id: &str, ttl_ms: u64) -> u64 {
        let applied = self.apply(register(service, id, ttl_ms, ""));
        let Reply::Registered { lease_id, .. } = applied.reply else { panic!("{:?}", applied.reply) };
        lease_id
    }

    pub(crate) fn deregister(&self, service: &str, id: &str) {
        let target = Some(target(service, id));
        self.apply(Operation::Deregister(Deregister { target, by_operator: false }));
    }
}

/// A founded cluster without instances.
pub(crate) fn founded(epoch: u64, history_events: u64) -> State {
    let mut state = State::default();
    let history = HistorySettings { max_events: history_events, ..ClusterSettings::DEFAULT.history };
    let operation = Operation::InitCluster(InitCluster {
        cluster_id: "7f2c2f9e-8a4e-4c55-9e5c-0f5a0a7f0001".into(),
        epoch,
        settings: Some(ClusterSettings { history, ..ClusterSettings::DEFAULT }),
        members: vec![],
        next_raft_id: 1,
    });
    let applied = state.apply(&Command { proposed_at_unix_ms: 0, request: None, operation });
    assert_eq!(applied.reply, Reply::Initialized { already: false });
    state
}

/// Registers `NAMESPACE/SERVICE` or a service of the default namespace; `zone` tells contents apart.
pub(crate) fn register(service: &str, id: &str, ttl_ms: u64, zone: &str) -> Operation {
    let (namespace, service_name) = service.split_once('/').unwrap_or(("default", service));
    // A lease id that depends on the instance alone, never 0.
    let new_lease_id = id.bytes().chain(service.bytes()).fold(7, |sum: u64, byte| sum * 31 + u64::from(byte));
    let mut registration = Registration {
        namespace: namespace.into(),
        service_name: service_name.into(),
        instance_id: id.into(),
        host: "h".into(),
        port: 1,
        ttl_ms: Some(ttl_ms),
        weight: Some(100),
        zone: zone.into(),
        ..Registration::default()
    };
    registration.canonicalize();
    Operation::Register(Register { registration: Some(registration), new_lease_id })
}

pub(crate) fn target(service: &str, id: &str) -> Target {
    let (namespace, service_name) = service.split_once('/').unwrap_or(("default", service));
    Target {
        namespace: namespace.into(),
        service_name: service_name.into(),
        instance_id: id.into(),
        ..Target::default()
    }
}

impl Source for Testbed {
    fn published(&self) -> Arc<Published> {
        self.published.load_full()
    }

    fn header(&self, revision: u64) -> v1::ResponseHeader {
        let term = self.leadership.borrow().map_or(0, |leadership| leadership.term);
        v1::ResponseHeader { revision, term, epoch: self.state().epoch(), ..Default::default() }
    }

    fn status(&self, error: Error) -> Status {
        error.into_status(&LeaderHint::default())
    }
}

impl Heads for Testbed {
    fn header(&self, revision: u64) -> v1::ResponseHeader {
        Source::header(self, revision)
    }

    fn status(&self, error: Error) -> Status {
        Source::status(self, error)
    }
}

#[tonic::async_trait]
impl Agreement for Testbed {
    fn leadership(&self) -> Option<Leadership> {
        *self.leadership.borrow()
    }

    fn published(&self) -> Arc<Published> {
        self.published.load_full()
    }

    async fn confirm(&self, deadline: Instant) -> Result<Confirmed, Error> {
        let mut quorum = self.quorum.subscribe();
        if timeout_at(deadline, quorum.wait_for(|quorum| *quorum)).await.is_err() {
            return Err(Error::NoQuorum);
        }
        let leadership = Agreement::leadership(self).ok_or(Error::NotLeader)?;
        Ok(Confirmed { leadership, published: self.published.load_full() })
    }

    async fn propose(
        &self,
        leadership: Leadership,
        operation: Operation,
        _deadline: Instant,
    ) -> Result<Reply, ProposeError> {
        let mut fate = self.fate.subscribe();
        let fate = *fate.wait_for(|fate| *fate != Fate::Open).await.unwrap();
        if Agreement::leadership(self) != Some(leadership) {
            return Err(ProposeError::NotLeader { leader: None });
        }
        if fate == Fate::Unknown {
            return Err(ProposeError::OutcomeUnknown);
        }
        let reply = self.apply(operation).reply;
        if fate == Fate::UnknownApplied {
            return Err(ProposeError::OutcomeUnknown);
        }
        Ok(reply)
    }
}
