//! How a client is made.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::client::Client;
use crate::error::Error;
use crate::metrics::Hooks;
use crate::options::CallOptions;
use crate::transport::{ConnectionOptions, Dial, TcpDial};

/// Settings of a [`Client`]. Made by [`Client::builder`].
#[derive(Clone)]
pub struct ClientBuilder {
    pub(crate) seeds: Vec<String>,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) connection: ConnectionOptions,
    pub(crate) discover_members: bool,
    pub(crate) refresh_interval: Duration,
    pub(crate) deadline: Duration,
    pub(crate) attempt_timeout: Duration,
    pub(crate) zone: Option<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) hooks: Option<Arc<dyn Hooks>>,
    pub(crate) defaults: CallOptions,
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("seeds", &self.seeds).field("zone", &self.zone).finish()
    }
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            seeds: Vec::new(),
            dial: Arc::new(TcpDial::default()),
            // A node that fell silent is noticed within 7 s, between calls too; until then it is asked last.
            connection: ConnectionOptions {
                keep_alive_interval: Duration::from_secs(5),
                keep_alive_timeout: Duration::from_secs(2),
                ..ConnectionOptions::default()
            },
            discover_members: true,
            refresh_interval: Duration::from_secs(10),
            deadline: Duration::from_secs(10),
            // Above the 2 s that a node may wait for a revision or a majority (P/R5, P/V4).
            attempt_timeout: Duration::from_secs(3),
            zone: None,
            client_id: None,
            hooks: None,
            defaults: CallOptions::default(),
        }
    }
}

impl ClientBuilder {
    /// Adds a node to begin with, as `HOST:PORT`. A name may stand for several addresses.
    pub fn seed(mut self, endpoint: impl Into<String>) -> Self {
        self.seeds.push(endpoint.into());
        self
    }

    /// Adds several seeds.
    pub fn seeds<I>(mut self, endpoints: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.seeds.extend(endpoints.into_iter().map(Into::into));
        self
    }

    /// Uses another network: TLS, a proxy, a simulation. Default: TCP.
    pub fn dial(mut self, dial: impl Dial) -> Self {
        self.dial = Arc::new(dial);
        self
    }

    /// Connect time-out, keep-alive and windows of every connection.
    pub fn connection(mut self, options: ConnectionOptions) -> Self {
        self.connection = options;
        self
    }

    /// False = talk to the seeds only, instead of to all members that they name. Default: true.
    pub fn discover_members(mut self, discover: bool) -> Self {
        self.discover_members = discover;
        self
    }

    /// Time between two looks at the list of members. Default: 10 s; a lost connection looks at once.
    pub fn refresh_interval(mut self, interval: Duration) -> Self {
        self.refresh_interval = interval;
        self
    }

    /// Longest time for a call with all its repetitions. Default: 10 s.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Longest time to wait for one node's answer before another is tried. Default: 3 s.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// The zone that this program runs in: [`ServiceCache::pick`](crate::ServiceCache::pick) prefers
    /// instances there.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Names this run of this program in request ids; see `RequestId.client`. Default: a random UUID.
    /// Two clients must never use the same name, not even one after the other.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = Some(id.into());
        self
    }

    /// Is told of calls, connections and renewals as they happen.
    pub fn hooks(mut self, hooks: impl Hooks) -> Self {
        self.hooks = Some(Arc::new(hooks));
        self
    }

    /// Options of every call that does not say otherwise.
    pub fn call_options(mut self, options: CallOptions) -> Self {
        self.defaults = options;
        self
    }

    /// Starts the client without waiting for a connection. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// If there is no seed, or one is not `HOST:PORT`.
    pub fn build(self) -> Result<Client, Error> {
        Client::start(self)
    }

    /// Starts the client and waits until one node is connected.
    ///
    /// # Errors
    /// As [`build`](Self::build); or if every seed refused, or none answered within the deadline. The
    /// message names each seed and its reason.
    pub async fn connect(self) -> Result<Client, Error> {
        let client = self.build()?;
        client.connected().await?;
        Ok(client)
    }
}
