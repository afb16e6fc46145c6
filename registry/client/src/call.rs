//! One call from its request to its answer, over as many attempts as it takes.

mod attempts;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::Stream;
use registry_proto::v1::discovery_service_client::DiscoveryServiceClient;
use registry_proto::v1::registry_service_client::RegistryServiceClient;
use registry_proto::v1::{self, Consistency};
use tokio::time::Instant;
use tonic::{Status, Streaming};

use crate::builder::ClientBuilder;
use crate::error::Error;
use crate::keep_alive::Keeper;
use crate::metrics::{Hooks, Metrics, NoHooks, count};
use crate::options::CallOptions;
use crate::pool::{Picked, Pool};
use crate::retry::frees_serial;
use crate::rpc::{Kind, MAX_ANSWER_BYTES, Unary};
use crate::serial::{End, Serials, Ticket};
use crate::session::Session;
use crate::transport::{Channel, ConnectionOptions, Dial};
use attempts::{Attempts, Retry};

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
        if let Some(id) = &builder.client_id
            && !(1..=64).contains(&id.len())
        {
            return Err(Error::usage(format!("client_id has {} bytes; 1 to 64 are allowed", id.len())));
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
