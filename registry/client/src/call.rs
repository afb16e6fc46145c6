//! One call: attempts, repetitions, what is learnt from answers.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::Stream;
use registry_proto::v1::discovery_service_client::DiscoveryServiceClient;
use registry_proto::v1::registry_service_client::RegistryServiceClient;
use registry_proto::v1::{self, Consistency, ErrorReason, ResponseHeader};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Response, Status, Streaming};

use crate::backoff::{Backoff, jittered};
use crate::builder::ClientBuilder;
use crate::error::Error;
use crate::keep_alive::Keeper;
use crate::metrics::{Hooks, Metrics, NoHooks, count};
use crate::options::CallOptions;
use crate::pool::{Picked, Pool};
use crate::retry::{Attempted, Step, frees_serial, next_step};
use crate::rpc::{Kind, MAX_ANSWER_BYTES, Unary};
use crate::serial::{End, Serials, Ticket};
use crate::session::Session;
use crate::transport::{Channel, ConnectionOptions, Dial};

/// Waits between two passes over all nodes. Short, since a failover takes half a second.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_millis(250);
/// Time left below which another attempt is pointless.
const TOO_LATE: Duration = Duration::from_millis(1);
/// Sessions begun anew within one call; a second one means that the registry forgets at once.
const MAX_NEW_SESSIONS: u32 = 2;
/// Endpoints that calls were pinned to whose channels are kept.
const MAX_PINNED: usize = 32;

/// What all handles of a client share.
pub(crate) struct Core {
    pub(crate) pool: Pool,
    pub(crate) serials: Serials,
    pub(crate) session: Session,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) hooks: Arc<dyn Hooks>,
    pub(crate) keeper: Keeper,
    pub(crate) zone: Option<String>,
    deadline: Duration,
    attempt_timeout: Duration,
    dial: Arc<dyn Dial>,
    connection: ConnectionOptions,
    pinned: Mutex<BTreeMap<String, Channel>>,
}

impl Core {
    pub(crate) fn start(builder: ClientBuilder) -> Result<Arc<Self>, Error> {
        if builder.seeds.is_empty() {
            return Err(Error::usage("no seed is given: name a node of the registry as HOST:PORT"));
        }
        if let Some(seed) = builder.seeds.iter().find(|seed| !is_endpoint(seed)) {
            return Err(Error::usage(format!("seed \"{seed}\" is not HOST:PORT, such as 127.0.0.1:8080")));
        }
        let metrics = Arc::new(Metrics::default());
        let hooks = builder.hooks.clone().unwrap_or_else(|| Arc::new(NoHooks));
        Ok(Arc::new_cyclic(|core| Self {
            pool: Pool::start(&builder, metrics.clone(), hooks.clone()),
            serials: Serials::new(builder.client_id),
            session: Session::default(),
            metrics,
            hooks,
            keeper: Keeper::new(core.clone()),
            zone: builder.zone,
            deadline: builder.deadline,
            attempt_timeout: builder.attempt_timeout,
            dial: builder.dial,
            connection: builder.connection,
            pinned: Mutex::default(),
        }))
    }

    pub(crate) async fn connected(&self, options: &CallOptions) -> Result<(), Error> {
        let deadline = Instant::now() + options.deadline.unwrap_or(self.deadline);
        if self.pool.connected(deadline).await {
            return Ok(());
        }
        Err(Error::unreachable(self.pool.why_unreachable()))
    }

    /// Makes a call with all its repetitions.
    pub(crate) async fn call<R: Unary>(&self, options: &CallOptions, request: R) -> Result<R::Answer, Error> {
        let started = Instant::now();
        let mut attempts = Attempts::new(self, options, R::KIND, request.waits());
        // Boxed: the futures of all calls together would make every caller's future large.
        let result = Box::pin(self.repeat(&mut attempts, request)).await;
        let made = attempts.made;
        count(&self.metrics.calls);
        self.metrics.retries.fetch_add(u64::from(made.saturating_sub(1)), Relaxed);
        if let Err(error) = &result {
            count(&self.metrics.calls_failed);
            if error.is_outcome_unknown() {
                count(&self.metrics.outcomes_unknown);
            }
            tracing::debug!(method = R::METHOD, %error, attempts = made, "call failed");
        }
        self.hooks.call_ended(R::METHOD, started.elapsed(), made, result.as_ref().err());
        result
    }

    async fn repeat<R: Unary>(
        &self,
        attempts: &mut Attempts<'_>,
        mut request: R,
    ) -> Result<R::Answer, Error> {
        attempts.own_floor = self.set_freshness(attempts.options, &mut request);
        attempts.own_id = request.request_id().is_some_and(|id| id.is_none());
        let mut ticket: Option<Ticket> = None;
        loop {
            if attempts.own_id {
                if ticket.is_none() {
                    ticket = Some(self.serials.acquire(attempts.deadline).await.ok_or_else(queued_too_long)?);
                }
                if let (Some(id), Some(ticket)) = (request.request_id(), &ticket) {
                    *id = Some(ticket.request_id());
                }
            }
            let node = match attempts.node().await {
                Ok(node) => node,
                Err(error) => {
                    settle(ticket, attempts.uncertain, &error);
                    return Err(error);
                }
            };
            let timeout = attempts.attempt_timeout();
            let error = match attempts
                .send(&node, timeout, request.clone().send(node.connection.clone(), timeout))
                .await
            {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    if attempts.learn(&node, R::header(&answer)) {
                        if let Some(ticket) = ticket {
                            ticket.end(End::Consumed);
                        }
                        return Ok(answer);
                    }
                    Error::protocol("the node belongs to another cluster").at(&node.endpoint)
                }
                Err(error) => error,
            };
            match attempts.failed(&node, error).await {
                Ok(Retry::Same) => {}
                Ok(Retry::NewSession) => {
                    if let Some(ticket) = ticket.take()
                        && self.serials.restart(&ticket)
                    {
                        count(&self.metrics.sessions_restarted);
                    }
                }
                Ok(Retry::WithoutFloor) => {
                    self.session.forget();
                    if let Some(fresh) = request.freshness() {
                        (*fresh.min_revision, *fresh.min_revision_epoch) = (0, 0);
                    }
                }
                Err(error) => {
                    settle(ticket, attempts.uncertain, &error);
                    return Err(error);
                }
            }
        }
    }

    /// Fills in how fresh a read has to be. True if the library added a revision of its own.
    fn set_freshness(&self, options: &CallOptions, request: &mut impl Unary) -> bool {
        let Some(fresh) = request.freshness() else { return false };
        if *fresh.consistency == 0
            && let Some(consistency) = options.consistency
        {
            *fresh.consistency = consistency.into();
        }
        let linearizable = [Consistency::Unspecified as i32, Consistency::Linearizable as i32];
        let stale = !linearizable.contains(fresh.consistency);
        if stale && fresh.max_staleness.is_none() {
            *fresh.max_staleness = options.max_staleness.and_then(|age| age.try_into().ok());
        }
        if *fresh.min_revision != 0 {
            return false;
        }
        let own = stale && !options.any_revision && options.endpoint.is_none();
        let floor = options.min_revision.or_else(|| self.session.position().filter(|_| own));
        if let Some(position) = floor {
            *fresh.min_revision = position.revision;
            *fresh.min_revision_epoch = position.epoch;
        }
        options.min_revision.is_none() && floor.is_some()
    }

    /// Opens a watch stream at a node that is not in `avoid`, if there is another.
    pub(crate) async fn open_watch(
        &self,
        options: &CallOptions,
        mut request: v1::WatchRequest,
        avoid: &[String],
    ) -> Result<(Streaming<v1::WatchResponse>, String), Error> {
        if request.consistency == 0
            && let Some(consistency) = options.consistency
        {
            request.consistency = consistency.into();
        }
        let mut attempts = Attempts::new(self, options, Kind::Read, Duration::ZERO);
        let open = |node: &Picked| {
            let mut client = DiscoveryServiceClient::new(node.connection.clone())
                .max_decoding_message_size(MAX_ANSWER_BYTES);
            let request = request.clone();
            async move { client.watch(request).await }
        };
        let opened = Box::pin(attempts.open(avoid, open)).await?;
        count(&self.metrics.watches_opened);
        self.hooks.watch_opened(&opened.1, request.resume.is_some());
        Ok(opened)
    }

    /// Opens a KeepAlive stream at a node that is not in `avoid`, if there is another. One attempt.
    pub(crate) async fn open_keep_alive(
        &self,
        options: &CallOptions,
        requests: impl Stream<Item = v1::KeepAliveRequest> + Send + 'static,
        avoid: &[String],
    ) -> Result<(Streaming<v1::KeepAliveResponse>, String), Error> {
        let mut attempts = Attempts::new(self, options, Kind::Renewal, Duration::ZERO);
        attempts.no_retry = true;
        let mut requests = Some(requests);
        let open = |node: &Picked| {
            let mut client = RegistryServiceClient::new(node.connection.clone())
                .max_decoding_message_size(MAX_ANSWER_BYTES);
            let requests = requests.take();
            async move {
                let requests = requests.ok_or_else(|| Status::internal("a stream is opened once"))?;
                client.keep_alive(requests).await
            }
        };
        let opened = Box::pin(attempts.open(avoid, open)).await?;
        count(&self.metrics.keep_alive_streams);
        Ok(opened)
    }

    fn pinned(&self, endpoint: &str) -> Channel {
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        if pinned.len() >= MAX_PINNED && !pinned.contains_key(endpoint) {
            pinned.clear();
        }
        pinned
            .entry(endpoint.to_owned())
            .or_insert_with(|| Channel::new(self.dial.clone(), endpoint, self.connection))
            .clone()
    }
}

fn is_endpoint(text: &str) -> bool {
    let port = text.rsplit_once(':').map(|(host, port)| (host.is_empty(), port.parse::<u16>()));
    matches!(port, Some((false, Ok(1..)))) && text.parse::<http::uri::Authority>().is_ok()
}

fn queued_too_long() -> Error {
    Error::unreachable(
        "the write had to wait too long for earlier writes of this client; it was not sent".into(),
    )
}

/// Ends the serial of a write that failed.
fn settle(ticket: Option<Ticket>, uncertain: bool, error: &Error) {
    if let Some(ticket) = ticket {
        ticket.end(if !uncertain && frees_serial(error) { End::NotConsumed } else { End::Consumed });
    }
}

/// What is to be changed before the next attempt.
enum Retry {
    Same,
    NewSession,
    WithoutFloor,
}

/// The attempts of one call: whom it asked, what it knows, how long it may go on.
struct Attempts<'a> {
    core: &'a Core,
    options: &'a CallOptions,
    kind: Kind,
    deadline: Instant,
    timeout: Duration,
    no_retry: bool,
    own_id: bool,
    own_floor: bool,
    /// A write may have taken effect.
    uncertain: bool,
    /// The leader is wanted.
    leader: bool,
    /// Nodes asked in this pass.
    tried: Vec<String>,
    backoff: Backoff,
    made: u32,
    new_sessions: u32,
    last: Option<Error>,
}

impl<'a> Attempts<'a> {
    fn new(core: &'a Core, options: &'a CallOptions, kind: Kind, waits: Duration) -> Self {
        Self {
            core,
            options,
            kind,
            deadline: Instant::now() + options.deadline.unwrap_or(core.deadline) + waits,
            timeout: options.attempt_timeout.unwrap_or(core.attempt_timeout) + waits,
            no_retry: options.no_retry,
            own_id: false,
            own_floor: false,
            uncertain: false,
            leader: kind == Kind::Write,
            tried: Vec::new(),
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            made: 0,
            new_sessions: 0,
            last: None,
        }
    }

    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn attempt_timeout(&self) -> Duration {
        self.timeout.min(self.remaining()).max(TOO_LATE)
    }

    /// The node to ask next. Begins another pass over the nodes when all were asked.
    async fn node(&mut self) -> Result<Picked, Error> {
        if let Some(endpoint) = &self.options.endpoint {
            return match self.core.pinned(endpoint).connection().await {
                Ok(connection) => Ok(Picked::outside(endpoint.clone(), connection)),
                Err(status) => {
                    let error = Error::from_status(&status).at(endpoint);
                    Err(error.with_outcome_unknown(self.uncertain))
                }
            };
        }
        loop {
            if let Some(picked) = self.core.pool.ready(self.leader, &self.tried, self.deadline).await {
                return Ok(picked);
            }
            if self.tried.is_empty() || !self.rest(Duration::ZERO).await {
                let last = self.last.take();
                let error = last.unwrap_or_else(|| Error::unreachable(self.core.pool.why_unreachable()));
                return Err(error.with_outcome_unknown(self.uncertain));
            }
            self.tried.clear();
        }
    }

    /// Waits before another pass. False if the time does not allow one.
    async fn rest(&mut self, at_least: Duration) -> bool {
        let wait = self.backoff.next().max(at_least + jittered(at_least / 2));
        if wait + TOO_LATE >= self.remaining() {
            return false;
        }
        sleep(wait).await;
        true
    }

    async fn send<T>(
        &mut self,
        node: &Picked,
        limit: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Response<T>, Error> {
        self.made += 1;
        match timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(status)) => Err(Error::from_status(&status).at(&node.endpoint)),
            Err(_) => Err(Error::no_answer(limit).at(&node.endpoint)),
        }
    }

    /// Learns from the header of an answer. False if it is another cluster's.
    fn learn(&self, node: &Picked, header: Option<&ResponseHeader>) -> bool {
        let Some(header) = header else { return true };
        if self.options.endpoint.is_none() && !self.core.pool.observe(&node.endpoint, header) {
            return false;
        }
        self.core.session.observe(header);
        true
    }

    /// Decides after a failed attempt.
    async fn failed(&mut self, node: &Picked, error: Error) -> Result<Retry, Error> {
        self.note(node, &error);
        let attempted = Attempted {
            kind: self.kind,
            uncertain: self.uncertain,
            own_id: self.own_id,
            own_floor: self.own_floor,
        };
        let (step, uncertain) = next_step(attempted, &error);
        self.uncertain = uncertain;
        let error = error.with_outcome_unknown(uncertain);
        let late = self.remaining() <= TOO_LATE;
        if step == Step::Return || self.no_retry || late {
            return Err(error);
        }
        match step {
            Step::Return => Err(error),
            Step::NewSession => {
                self.new_sessions += 1;
                if self.new_sessions > MAX_NEW_SESSIONS {
                    return Err(error);
                }
                Ok(Retry::NewSession)
            }
            Step::ForgetPosition => {
                self.own_floor = false;
                Ok(Retry::WithoutFloor)
            }
            Step::Elsewhere if self.options.endpoint.is_none() => {
                self.tried.push(node.endpoint.clone());
                self.last = Some(error);
                Ok(Retry::Same)
            }
            Step::Elsewhere | Step::Later(_) => {
                let wait = if let Step::Later(wait) = step { wait } else { Duration::ZERO };
                if !self.rest(wait).await {
                    return Err(error);
                }
                self.tried.clear();
                self.last = Some(error);
                Ok(Retry::Same)
            }
        }
    }

    /// Tells the pool what the error says about the node.
    fn note(&mut self, node: &Picked, error: &Error) {
        let pool = &self.core.pool;
        if self.options.endpoint.is_some() {
            return;
        }
        if error.is_not_sent() {
            pool.lost(node);
            return;
        }
        match error.reason() {
            Some(ErrorReason::NotLeader) => {
                self.leader = true;
                let term = error.detail("term").and_then(|term| term.parse().ok());
                pool.not_leader(&node.endpoint, error.leader_endpoint(), term);
            }
            Some(ErrorReason::TooStale) => self.leader = true,
            Some(ErrorReason::ShuttingDown | ErrorReason::NotReady | ErrorReason::NoQuorum) => {
                pool.penalize(&node.endpoint);
            }
            None if error.is_lost() => pool.penalize(&node.endpoint),
            _ => {}
        }
    }

    /// Opens a stream.
    async fn open<T, F>(
        &mut self,
        avoid: &[String],
        mut open: impl FnMut(&Picked) -> F,
    ) -> Result<(Streaming<T>, String), Error>
    where
        F: Future<Output = Result<Response<Streaming<T>>, Status>>,
    {
        let other = self.core.pool.pick(self.leader, avoid).is_some();
        if other && self.options.endpoint.is_none() {
            self.tried = avoid.to_vec();
        }
        loop {
            let node = self.node().await?;
            let limit = self.attempt_timeout();
            let opening = open(&node);
            match self.send(&node, limit, opening).await {
                Ok(response) => return Ok((response.into_inner(), node.endpoint)),
                Err(error) => {
                    self.failed(&node, error).await?;
                }
            }
        }
    }
}
