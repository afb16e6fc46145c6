//! Programs that use the registry in every way that the checkers know, and record what they did and got.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use registry_client::Client;
use registry_proto::v1::{self, Consistency, InstanceState};
use registry_tests::api::{Api, duration, leased, reason, registration};
use registry_tests::check::recorder::outcome_of_library;
use registry_tests::check::{Answer, Call, Outcome, Recorder};
use tokio::task::JoinSet;
use tonic::{Code, Status};

/// Services and instances of each that the writers fight for.
const SERVICES: u32 = 3;
const INSTANCES: u32 = 5;
/// How long a caller waits: long enough for an election, so that most calls are answered in spite of it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Pause between two calls of a client.
const PAUSE: Duration = Duration::from_millis(25);
/// Time to live of the leases of owners.
pub const TTL: Duration = Duration::from_secs(2);

/// How many programs of each kind run.
const WRITERS: u64 = 6;
const SESSIONS: u64 = 2;
/// Fewer than the guard against mass expiry needs to take hold of them.
const OWNERS: u64 = 4;

/// Programs at work.
pub struct Clients {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Clients {
    /// Starts them all.
    pub async fn start(recorder: &Recorder, endpoints: Vec<String>, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        // Marks each registration, so that no two calls ask for the same.
        let marks = Arc::new(AtomicU64::new(1));
        let mut tasks = JoinSet::new();
        for number in 0..WRITERS + SESSIONS + OWNERS {
            let program = Program {
                name: String::new(),
                recorder: recorder.clone(),
                apis: endpoints.iter().map(|endpoint| Api::new(endpoint)).collect(),
                dice: StdRng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(number)),
                marks: marks.clone(),
                stop: stop.clone(),
                incarnations: BTreeMap::new(),
            };
            if number < WRITERS {
                tasks.spawn(Program { name: format!("writer-{number}"), ..program }.write());
            } else if number < WRITERS + SESSIONS {
                let client = Client::connect(endpoints.clone()).await.expect("the nodes run");
                let session = u32::try_from(number).expect("few");
                let program = Program { name: format!("session-{number}"), ..program };
                tasks.spawn(program.keep_session(client, session));
            } else {
                tasks.spawn(Program { name: format!("owner-{number}"), ..program }.own());
            }
        }
        Self { stop, tasks }
    }

    /// Ends them, after the calls that are open.
    pub async fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no program panics");
        }
    }
}

struct Program {
    name: String,
    recorder: Recorder,
    apis: Vec<Api>,
    dice: StdRng,
    marks: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    /// Incarnations that this program was told of, by instance.
    incarnations: BTreeMap<(String, String), u64>,
}

/// Gives a call up after [`PATIENCE`].
async fn patient<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let timeout = Err(Status::new(Code::DeadlineExceeded, "given up"));
    tokio::time::timeout(PATIENCE, call).await.unwrap_or(timeout)
}

impl Program {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn node(&mut self) -> Api {
        let at = self.dice.random_range(0..self.apis.len());
        self.apis[at].clone()
    }

    fn instance(&mut self) -> (String, String) {
        let service = format!("service-{}", self.dice.random_range(0..SERVICES));
        (service, format!("instance-{}", self.dice.random_range(0..INSTANCES)))
    }

    fn mark(&self) -> BTreeMap<String, String> {
        let mark = self.marks.fetch_add(1, Ordering::Relaxed);
        [("mark".to_owned(), mark.to_string())].into()
    }

    /// A registration for good, with content that no other has.
    fn registration(&mut self) -> v1::ServiceRegisterRequest {
        let (service, instance_id) = self.instance();
        let known = self.incarnations.get(&(service.clone(), instance_id.clone())).copied();
        let fenced = self.dice.random_bool(0.2);
        v1::ServiceRegisterRequest {
            instance_id,
            ttl: Some(duration(Duration::ZERO)),
            metadata: self.mark(),
            incarnation: known.filter(|_| fenced).unwrap_or(0),
            ..registration(&service, "10.0.0.1", 80)
        }
    }

    fn removal(&mut self) -> v1::ServiceDeregisterRequest {
        let (service_name, instance_id) = self.instance();
        let known = self.incarnations.get(&(service_name.clone(), instance_id.clone())).copied();
        let fenced = self.dice.random_bool(0.3);
        let incarnation = known.filter(|_| fenced).unwrap_or(0);
        let by_operator = self.dice.random_bool(0.2);
        v1::ServiceDeregisterRequest {
            service_name,
            instance_id,
            incarnation,
            by_operator,
            ..Default::default()
        }
    }

    fn read(&mut self) -> v1::ServiceDiscoveryRequest {
        let (service_name, _) = self.instance();
        let (consistency, max_staleness) = match self.dice.random_range(0..10) {
            0..5 => (Consistency::Linearizable, None),
            5..7 => (Consistency::Stale, None),
            7 => (Consistency::Stale, Some(duration(Duration::from_secs(2)))),
            _ => (Consistency::LinearizableOrStale, None),
        };
        let consistency = consistency.into();
        v1::ServiceDiscoveryRequest { service_name, consistency, max_staleness, ..Default::default() }
    }

    /// Bare calls at any node, without request ids: a lost answer stays unknown.
    async fn write(mut self) {
        while self.goes_on() {
            let api = self.node();
            match self.dice.random_range(0..20) {
                0..8 => self.register(&api).await,
                8..10 => self.batch(&api).await,
                10..13 => {
                    let request = self.removal();
                    let call = patient(api.deregister(request.clone()));
                    let _ = self.recorder.call(&self.name, None, Call::Deregister(request), call).await;
                }
                13 => self.report(&api).await,
                _ => {
                    let request = self.read();
                    let call = patient(api.discover(request.clone()));
                    let _ = self.recorder.call(&self.name, None, Call::Discover(request), call).await;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn register(&mut self, api: &Api) {
        let request = self.registration();
        let instance = (request.service_name.clone(), request.instance_id.clone());
        let call = patient(api.register(request.clone()));
        match self.recorder.call(&self.name, None, Call::Register(request), call).await {
            Ok(answer) => drop(self.incarnations.insert(instance, answer.incarnation)),
            Err(status) if reason(&status) == "STALE_INCARNATION" => {
                self.incarnations.remove(&instance);
            }
            Err(_) => {}
        }
    }

    async fn batch(&mut self, api: &Api) {
        let service = format!("service-{}", self.dice.random_range(0..SERVICES));
        let first = self.dice.random_range(0..INSTANCES);
        let registrations = (first..INSTANCES).map(|number| v1::ServiceRegisterRequest {
            instance_id: format!("instance-{number}"),
            metadata: self.mark(),
            ..registration(&service, "10.0.0.2", 80)
        });
        let request = v1::BatchRegisterRequest {
            registrations: registrations.collect(),
            ttl: Some(duration(Duration::ZERO)),
            ..Default::default()
        };
        let mut client = api.registry.clone();
        let sent = request.clone();
        let call =
            patient(async move { client.batch_register(sent).await.map(|answer| answer.into_inner()) });
        let _ = self.recorder.call(&self.name, None, Call::BatchRegister(request), call).await;
    }

    async fn report(&mut self, api: &Api) {
        let (service_name, instance_id) = self.instance();
        let states = [InstanceState::Up, InstanceState::Draining, InstanceState::Down];
        let state = states[self.dice.random_range(0..states.len())].into();
        let request = v1::SetInstanceStateRequest { service_name, instance_id, state, ..Default::default() };
        let mut client = api.registry.clone();
        let sent = request.clone();
        let call =
            patient(async move { client.set_instance_state(sent).await.map(|answer| answer.into_inner()) });
        let _ = self.recorder.call(&self.name, None, Call::SetState(request), call).await;
    }

    /// The client library: it repeats what is safe to repeat, and never goes back.
    async fn keep_session(mut self, client: Client, session: u32) {
        while self.goes_on() {
            match self.dice.random_range(0..10) {
                0..4 => {
                    let request = self.registration();
                    let open =
                        self.recorder.begin(&self.name, Some(session), Call::Register(request.clone()));
                    let answer = client.register(request).await;
                    self.recorder.end(open, outcome(answer));
                }
                4 => {
                    let request = self.removal();
                    let open =
                        self.recorder.begin(&self.name, Some(session), Call::Deregister(request.clone()));
                    let answer = client.deregister(request).await;
                    self.recorder.end(open, outcome(answer));
                }
                _ => {
                    let request = self.read();
                    let open =
                        self.recorder.begin(&self.name, Some(session), Call::Discover(request.clone()));
                    let answer = client.discover(request).await;
                    self.recorder.end(open, outcome(answer));
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Registers with a lease, renews it for a while, falls silent until it must have expired.
    async fn own(mut self) {
        let mut life = 0_u64;
        while self.goes_on() {
            life += 1;
            let instance_id = format!("{}-{life}", self.name);
            let request = v1::ServiceRegisterRequest {
                instance_id,
                metadata: self.mark(),
                ..leased("owned", "10.0.0.3", 80, TTL)
            };
            let api = self.node();
            let call = patient(api.register(request.clone()));
            let answer = self.recorder.call(&self.name, None, Call::Register(request), call).await;
            let renewals = self.dice.random_range(0..12);
            if let Ok(answer) = answer {
                self.renew(answer.lease_id, renewals).await;
                tokio::time::sleep(TTL).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn renew(&mut self, lease_id: u64, renewals: u32) {
        for _ in 0..renewals {
            let pause = self.dice.random_range(TTL / 8..TTL / 2);
            tokio::time::sleep(pause).await;
            let api = self.node();
            let request = v1::HeartbeatRequest { lease_id, ..Default::default() };
            let call = patient(api.heartbeat(request.clone()));
            let answer = self.recorder.call(&self.name, None, Call::Renew(request), call).await;
            if answer.is_err_and(|status| reason(&status) == "LEASE_EXPIRED") {
                return;
            }
        }
    }
}

fn outcome<T: Into<Answer>>(answer: Result<T, registry_client::Error>) -> Outcome {
    match answer {
        Ok(answer) => Outcome::Answered(answer.into()),
        Err(error) => outcome_of_library(&error),
    }
}
