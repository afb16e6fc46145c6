//! Load without mercy: bare calls at a rate that does not fall with the answers.
//!
//! Driven from a thread of its own, so that it does not take the turn of other tasks of the test.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use registry_proto::v1::{self, Consistency};
use tokio::task::LocalSet;
use tokio::time::MissedTickBehavior;
use tonic::{Request, Status};

use crate::api::{Api, reason, registration};

/// Connections, spread over the nodes.
const CONNECTIONS: usize = 24;
/// Calls that may be open at once; what would be more is not sent, but counted.
const MAX_OPEN: usize = 6_000;
/// How long a caller waits.
const PATIENCE: Duration = Duration::from_secs(3);
/// Services, and instances of each, that the calls are about.
const SERVICES: u64 = 100;
const INSTANCES: u64 = 10;
/// How often a batch of calls goes out.
const TICK: Duration = Duration::from_millis(10);

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Discover, STALE: twelve of twenty.
    Stale,
    /// Discover, LINEARIZABLE: five of twenty.
    Linearizable,
    /// Register with other content: three of twenty.
    Register,
}

impl Kind {
    fn of(number: u64) -> Self {
        match number % 20 {
            0..12 => Self::Stale,
            12..17 => Self::Linearizable,
            _ => Self::Register,
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    answered: AtomicU64,
    shed: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    kinds: [Counts; 3],
    open: AtomicUsize,
    unsent: AtomicU64,
    failure: Mutex<Option<String>>,
}

/// Calls under way.
#[derive(Debug)]
pub struct Storm {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    begun: Instant,
}

/// What became of the calls of one kind.
#[derive(Debug, Clone, Copy)]
pub struct Fate {
    /// Sent. What is missing below was open at the end.
    pub sent: u64,
    /// Answered.
    pub answered: u64,
    /// Refused with OVERLOADED.
    pub shed: u64,
    /// Failed in another way, most of them for want of time.
    pub failed: u64,
}

impl Fate {
    /// The part of the calls that came back which was shed. Those that failed otherwise had been let in, or
    /// came back undecided, which happens to all kinds alike: without them a kind that fails more often
    /// would seem to be shed more often.
    pub fn shed_share(&self) -> f64 {
        self.shed as f64 / (self.answered + self.shed + self.failed).max(1) as f64
    }
}

/// What became of all of them.
#[derive(Debug)]
pub struct Tally {
    /// Stale reads, linearizable reads, registrations.
    pub kinds: [Fate; 3],
    /// Calls that were due, but too many were open.
    pub unsent: u64,
    /// Time from the first to the last.
    pub took: Duration,
    /// One of the failures.
    pub failure: Option<String>,
}

impl Tally {
    /// Calls of this kind.
    pub fn of(&self, kind: Kind) -> Fate {
        self.kinds[kind as usize]
    }

    /// Calls answered in a second.
    pub fn answered_per_second(&self) -> f64 {
        self.kinds.iter().map(|fate| fate.answered).sum::<u64>() as f64 / self.took.as_secs_f64()
    }

    /// Calls sent in a second.
    pub fn sent_per_second(&self) -> f64 {
        self.kinds.iter().map(|fate| fate.sent).sum::<u64>() as f64 / self.took.as_secs_f64()
    }
}

impl Storm {
    /// Keeps so many calls open: each answer brings the next call. Tells what the nodes carry.
    pub fn closed(endpoints: Vec<String>, callers: u64) -> Self {
        Self::start(endpoints, move |shared, apis| async move {
            let callers = (0..callers).map(|caller| {
                let (shared, apis) = (shared.clone(), apis.clone());
                async move {
                    let mut number = caller * 1_000_003;
                    while !shared.stop.load(Ordering::Relaxed) {
                        call(&shared, &apis, number).await;
                        number += 1;
                    }
                }
            });
            futures::future::join_all(callers).await;
        })
    }

    /// Sends so many calls a second, whatever becomes of them.
    pub fn open(endpoints: Vec<String>, per_second: f64) -> Self {
        Self::start(endpoints, move |shared, apis| async move {
            let mut ticks = tokio::time::interval(TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (begun, mut number) = (Instant::now(), 0);
            while !shared.stop.load(Ordering::Relaxed) {
                ticks.tick().await;
                let due = (begun.elapsed().as_secs_f64() * per_second) as u64;
                while number < due {
                    number += 1;
                    if shared.open.load(Ordering::Relaxed) >= MAX_OPEN {
                        shared.unsent.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    shared.open.fetch_add(1, Ordering::Relaxed);
                    let (shared, apis) = (shared.clone(), apis.clone());
                    tokio::task::spawn_local(async move {
                        call(&shared, &apis, number).await;
                        shared.open.fetch_sub(1, Ordering::Relaxed);
                    });
                }
            }
        })
    }

    fn start<F: Future<Output = ()>>(
        endpoints: Vec<String>,
        drive: impl FnOnce(Arc<Shared>, Arc<[Api]>) -> F + Send + 'static,
    ) -> Self {
        let shared = Arc::<Shared>::default();
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                LocalSet::new().block_on(&runtime, async {
                    let apis =
                        (0..CONNECTIONS).map(|at| Api::new(&endpoints[at % endpoints.len()])).collect();
                    drive(shared, apis).await;
                });
            }
        });
        Self { shared, thread, begun: Instant::now() }
    }

    /// Ends it. Calls that are open are given up.
    pub fn finish(self) -> Tally {
        let took = self.begun.elapsed();
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the driver does not panic");
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let fate = |counts: &Counts| Fate {
            sent: count(&counts.sent),
            answered: count(&counts.answered),
            shed: count(&counts.shed),
            failed: count(&counts.failed),
        };
        Tally {
            kinds: [fate(&self.shared.kinds[0]), fate(&self.shared.kinds[1]), fate(&self.shared.kinds[2])],
            unsent: count(&self.shared.unsent),
            took,
            failure: self.shared.failure.lock().expect("no panic inside").clone(),
        }
    }
}

async fn call(shared: &Shared, apis: &[Api], number: u64) {
    let api = &apis[(number % apis.len() as u64) as usize];
    let kind = Kind::of(number);
    let counts = &shared.kinds[kind as usize];
    counts.sent.fetch_add(1, Ordering::Relaxed);
    let answer = match kind {
        Kind::Stale => discover(api, number, Consistency::Stale).await,
        Kind::Linearizable => discover(api, number, Consistency::Linearizable).await,
        Kind::Register => api.registry.clone().register(patient(instance(number, number))).await.map(|_| ()),
    };
    let counter = match &answer {
        Ok(()) => &counts.answered,
        Err(status) if reason(status) == "OVERLOADED" => &counts.shed,
        Err(status) => {
            shared
                .failure
                .lock()
                .expect("no panic inside")
                .get_or_insert_with(|| format!("{kind:?}: {status}"));
            &counts.failed
        }
    };
    counter.fetch_add(1, Ordering::Relaxed);
}

async fn discover(api: &Api, number: u64, consistency: Consistency) -> Result<(), Status> {
    let request = v1::ServiceDiscoveryRequest {
        service_name: service(number),
        consistency: consistency.into(),
        ..Default::default()
    };
    api.discovery.clone().discover(patient(request)).await.map(|_| ())
}

fn patient<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

fn service(number: u64) -> String {
    format!("storm-{}", number / 20 % SERVICES)
}

/// A permanent instance, one of few, with this content.
fn instance(number: u64, content: u64) -> v1::ServiceRegisterRequest {
    v1::ServiceRegisterRequest {
        instance_id: format!("instance-{}", number / 7 % INSTANCES),
        ttl: Some(prost_types::Duration::default()),
        metadata: [("content".to_owned(), content.to_string())].into(),
        ..registration(&service(number), "10.0.0.1", 1)
    }
}
