//! The handle that programs hold: one method per call of the API.

use std::fmt;
use std::sync::Arc;

use futures::Stream;
use registry_proto::v1::{self, Position};
use tonic::Streaming;

use crate::builder::ClientBuilder;
use crate::cache::{CacheOptions, ServiceCache};
use crate::call::Core;
use crate::error::Error;
use crate::metrics::MetricsSnapshot;
use crate::options::CallOptions;
use crate::registration::{Registration, RegistrationBuilder};
use crate::watch::{MAX_AGE, Watch};

/// A client of the registry. Cheap to clone; all clones share connections, request ids and the
/// keep-alive stream. When the last one (and every [`Registration`], [`Watch`] and [`ServiceCache`] of
/// it) is dropped, its tasks and connections end.
#[derive(Clone)]
pub struct Client {
    pub(crate) core: Arc<Core>,
    pub(crate) options: CallOptions,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("nodes", &self.core.pool).finish()
    }
}

macro_rules! calls {
    ($($(#[doc = $doc:literal])+ $method:ident($request:ident) -> $answer:ident;)+) => {
        $(
            $(#[doc = $doc])+
            ///
            /// # Errors
            #[doc = concat!("See the reasons at `", stringify!($request), "`'s RPC in the proto files, and [`Error`].")]
            pub async fn $method(&self, request: v1::$request) -> Result<v1::$answer, Error> {
                self.core.call(&self.options, request).await
            }
        )+
    };
}

impl Client {
    /// Connects to the cluster that the seeds (`HOST:PORT`) belong to.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub async fn connect<I>(seeds: I) -> Result<Self, Error>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        Self::builder().seeds(seeds).connect().await
    }

    /// A client with settings of its own.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    pub(crate) fn start(builder: ClientBuilder) -> Result<Self, Error> {
        let options = builder.defaults.clone();
        Ok(Self { core: Core::start(builder)?, options })
    }

    /// The same client with other options for its calls.
    ///
    /// ```no_run
    /// # async fn example(client: registry_client::Client) -> Result<(), registry_client::Error> {
    /// use registry_client::{CallOptions, v1};
    /// let stale = client.with(CallOptions::new().stale());
    /// let request = v1::ServiceDiscoveryRequest { service_name: "orders".into(), ..Default::default() };
    /// let answer = stale.discover(request).await?;
    /// # Ok(()) }
    /// ```
    pub fn with(&self, options: CallOptions) -> Self {
        Self { core: self.core.clone(), options }
    }

    /// The options of this handle.
    pub fn options(&self) -> &CallOptions {
        &self.options
    }

    /// Waits until one node is connected.
    ///
    /// # Errors
    /// If every node that the client knows refused, or none answered within the deadline.
    pub async fn connected(&self) -> Result<(), Error> {
        self.core.connected(&self.options).await
    }

    /// The highest position seen in any answer: give it as `min_revision` to another client to read what
    /// this one wrote.
    pub fn position(&self) -> Option<Position> {
        self.core.session.position()
    }

    /// The name of this client in request ids at present.
    pub fn client_id(&self) -> String {
        self.core.serials.client_id()
    }

    /// `HOST:PORT` of the nodes that are connected now.
    pub fn connected_endpoints(&self) -> Vec<String> {
        self.core.pool.connected_endpoints()
    }

    /// `HOST:PORT` of the leader, as far as the client knows.
    pub fn leader_endpoint(&self) -> Option<String> {
        self.core.pool.leader()
    }

    /// What the client has counted so far.
    pub fn metrics(&self) -> MetricsSnapshot {
        self.core.metrics.snapshot()
    }

    calls! {
        /// Registers an instance once; its lease runs out unless renewed. To hold it, see
        /// [`registration`](Self::registration).
        register(ServiceRegisterRequest) -> ServiceRegisterResponse;
        /// Registers up to 1,024 instances at one revision, all or none, under one lease.
        batch_register(BatchRegisterRequest) -> BatchRegisterResponse;
        /// Removes an instance, or all instances of a lease.
        deregister(ServiceDeregisterRequest) -> ServiceDeregisterResponse;
        /// Renews one lease once.
        heartbeat(HeartbeatRequest) -> HeartbeatResponse;
        /// Changes the state that an owner reports.
        set_instance_state(SetInstanceStateRequest) -> SetInstanceStateResponse;
        /// Sets DRAINING and waits until all watches have been sent the change. The time that the
        /// registry waits (10 s unless the request says otherwise) is added to the deadline.
        drain(DrainRequest) -> DrainResponse;
        /// Sets an operator's override.
        set_instance_override(SetInstanceOverrideRequest) -> SetInstanceOverrideResponse;
        /// Clears an operator's override.
        clear_instance_override(ClearInstanceOverrideRequest) -> ClearInstanceOverrideResponse;
        /// Lists overrides.
        list_instance_overrides(ListInstanceOverridesRequest) -> ListInstanceOverridesResponse;
        /// Ends the mass-expiry guard of a service or a namespace.
        end_protection(EndProtectionRequest) -> EndProtectionResponse;
        /// Returns the instances of a service.
        discover(ServiceDiscoveryRequest) -> ServiceDiscoveryResponse;
        /// Lists services with their counts.
        list_services(ListServicesRequest) -> ListServicesResponse;
        /// Tells members, leader and counts.
        cluster_status(ClusterStatusRequest) -> ClusterStatusResponse;
    }

    /// Watches a service, a namespace or everything, over as many streams as it takes.
    ///
    /// The watch connects by itself, resumes at another node when a stream ends, and ends only with an
    /// error that no node can heal.
    pub fn watch(&self, request: v1::WatchRequest) -> Watch {
        Watch::new(self.clone(), request, MAX_AGE)
    }

    /// Opens one watch stream at one node, with nothing done about its end: the messages as they come.
    ///
    /// # Errors
    /// As for reads.
    pub async fn open_watch(&self, request: v1::WatchRequest) -> Result<Streaming<v1::WatchResponse>, Error> {
        self.core.open_watch(&self.options, request, &[]).await.map(|(stream, _)| stream)
    }

    /// Opens one KeepAlive stream at one node, with nothing done about its end. To hold registrations,
    /// see [`registration`](Self::registration).
    ///
    /// # Errors
    /// As for renewals.
    pub async fn open_keep_alive(
        &self,
        requests: impl Stream<Item = v1::KeepAliveRequest> + Send + 'static,
    ) -> Result<Streaming<v1::KeepAliveResponse>, Error> {
        self.core.open_keep_alive(&self.options, requests, &[]).await.map(|(stream, _)| stream)
    }

    /// Prepares to hold a registration: register, keep alive, register again when the lease was lost.
    pub fn registration(&self, request: v1::ServiceRegisterRequest) -> RegistrationBuilder {
        RegistrationBuilder::new(self.clone(), request)
    }

    /// Registers and holds the registration, with the defaults of [`registration`](Self::registration).
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub async fn keep_registered(&self, request: v1::ServiceRegisterRequest) -> Result<Registration, Error> {
        self.registration(request).start().await
    }

    /// A view of one service that is kept up to date by a watch. Returns at once; see
    /// [`ServiceCache::synced`].
    pub fn cache(&self, service_name: impl Into<String>) -> ServiceCache {
        self.cache_with(CacheOptions::new(service_name))
    }

    /// A view with settings of its own.
    pub fn cache_with(&self, options: CacheOptions) -> ServiceCache {
        ServiceCache::start(self.clone(), options)
    }
}
