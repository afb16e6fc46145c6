//! One HTTP/2 connection to one endpoint, and a channel that dials again when it is gone.
//!
//! Clients and nodes use these instead of tonic's `Channel`, which calls an endpoint ready before anybody
//! has tried it, hides the end of a connection, and cannot be given another network. Here the end of a
//! connection is known at once, a request that was certainly not sent is told from one whose fate is
//! open, and bytes come from whatever [`Dial`] opens: TCP, or the network of a simulation.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::uri::{Authority, Scheme, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;

mod dial;

pub use dial::{ByteStream, Dial, Resolve, SystemResolver, TcpDial};

/// How to connect and how to notice that the other side is gone.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionOptions {
    /// Longest time for resolving, connecting and the HTTP/2 handshake.
    pub connect_timeout: Duration,
    /// Time without a sign of life after which a PING is sent, also while no call is open.
    pub keep_alive_interval: Duration,
    /// Time to wait for the answer to that PING before the connection is given up.
    pub keep_alive_timeout: Duration,
    /// Flow-control window of the connection and of each stream, in bytes.
    pub window_bytes: u32,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            // A Service of Kubernetes routes to a dead node for up to 55 s: try another address soon.
            connect_timeout: Duration::from_secs(1),
            keep_alive_interval: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(5),
            // HTTP/2's own 64 KiB stalls a 4 MiB answer 64 times.
            window_bytes: 1 << 20,
        }
    }
}

/// Why a call did not get an answer from the transport. Found as the source of the [`Status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Nothing of the request has left: it is safe to send it elsewhere, whatever it is.
    #[error("the request was not sent")]
    NotSent,
    /// The request may have arrived.
    #[error("the connection was lost before the answer")]
    Lost,
}

impl TransportError {
    /// What the transport knows about a failed call; `None` if the server itself answered.
    pub fn of(status: &Status) -> Option<Self> {
        std::error::Error::source(status).and_then(|source| source.downcast_ref::<Self>()).copied()
    }

    fn status(self, message: String) -> Status {
        let mut status = Status::unavailable(message);
        status.set_source(Arc::new(self));
        status
    }
}

/// One HTTP/2 connection. A clone shares it.
#[derive(Clone)]
pub struct Connection {
    endpoint: Arc<str>,
    authority: Authority,
    sender: SendRequest<Body>,
    ended: watch::Receiver<bool>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("endpoint", &self.endpoint).field("open", &self.is_open()).finish()
    }
}

impl Connection {
    /// Dials `HOST:PORT` and completes the HTTP/2 handshake.
    ///
    /// # Errors
    /// UNAVAILABLE with [`TransportError::NotSent`] as source, naming the endpoint and the reason.
    pub async fn open(dial: &dyn Dial, endpoint: &str, options: ConnectionOptions) -> Result<Self, Status> {
        let failed = |reason: String| {
            TransportError::NotSent.status(format!("cannot connect to {endpoint}: {reason}"))
        };
        let authority = endpoint.parse::<Authority>().map_err(|error| failed(error.to_string()))?;
        let handshake = async {
            let stream = dial.dial(endpoint).await.map_err(|error| failed(error.to_string()))?;
            Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_connection_window_size(options.window_bytes)
                .initial_stream_window_size(options.window_bytes)
                .keep_alive_interval(options.keep_alive_interval)
                .keep_alive_timeout(options.keep_alive_timeout)
                .keep_alive_while_idle(true)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|error| failed(error.to_string()))
        };
        let (sender, connection) = timeout(options.connect_timeout, handshake)
            .await
            .map_err(|_| failed(format!("no answer within {} ms", options.connect_timeout.as_millis())))??;
        let (end, ended) = watch::channel(false);
        let endpoint: Arc<str> = endpoint.into();
        tokio::spawn({
            let endpoint = endpoint.clone();
            async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%endpoint, %error, "connection ended");
                }
                end.send_replace(true);
            }
        });
        Ok(Self { endpoint, authority, sender, ended })
    }

    /// `HOST:PORT` as dialled.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// True if both are handles of one connection.
    pub fn is_same(&self, other: &Self) -> bool {
        self.ended.same_channel(&other.ended)
    }

    /// False once the connection has ended or the other side said GOAWAY.
    pub fn is_open(&self) -> bool {
        !*self.ended.borrow() && !self.sender.is_closed()
    }

    /// Waits until the connection has ended.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // An error means that the driving task is gone, which ends the connection too.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    async fn send(mut self, mut request: http::Request<Body>) -> Result<http::Response<Incoming>, Status> {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        *request.uri_mut() =
            Uri::from_parts(parts).map_err(|error| Status::internal(format!("bad request path: {error}")))?;
        if self.sender.ready().await.is_err() {
            return Err(
                TransportError::NotSent.status(format!("the connection to {} has ended", self.endpoint))
            );
        }
        self.sender.try_send_request(request).await.map_err(|mut error| {
            let kind =
                if error.take_message().is_some() { TransportError::NotSent } else { TransportError::Lost };
            kind.status(format!("call to {} failed: {}", self.endpoint, error.error()))
        })
    }
}

impl tower::Service<http::Request<Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

/// Calls to one endpoint over one connection at a time, dialled when a call needs it. A clone shares it.
///
/// It never repeats a call and never waits longer than [`ConnectionOptions::connect_timeout`] to connect;
/// callers that arrive while it dials share the result.
#[derive(Clone)]
pub struct Channel {
    shared: Arc<ChannelShared>,
}

struct ChannelShared {
    dial: Arc<dyn Dial>,
    endpoint: String,
    options: ConnectionOptions,
    connection: tokio::sync::Mutex<Option<Connection>>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("endpoint", &self.shared.endpoint).finish()
    }
}

impl Channel {
    /// A channel to `HOST:PORT`. Does not connect yet.
    pub fn new(dial: Arc<dyn Dial>, endpoint: impl Into<String>, options: ConnectionOptions) -> Self {
        let endpoint = endpoint.into();
        Self { shared: Arc::new(ChannelShared { dial, endpoint, options, connection: Default::default() }) }
    }

    /// `HOST:PORT` that it dials.
    pub fn endpoint(&self) -> &str {
        &self.shared.endpoint
    }

    /// The open connection, dialled now if there is none.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub async fn connection(&self) -> Result<Connection, Status> {
        let mut slot = self.shared.connection.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| connection.is_open()) {
            return Ok(connection.clone());
        }
        *slot = None;
        let connection =
            Connection::open(self.shared.dial.as_ref(), &self.shared.endpoint, self.shared.options).await?;
        Ok(slot.insert(connection).clone())
    }

    /// Forgets the connection: the next call dials anew. Calls under way on it go on.
    pub async fn reset(&self) {
        self.shared.connection.lock().await.take();
    }
}

impl tower::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let channel = self.clone();
        Box::pin(async move { channel.connection().await?.send(request).await })
    }
}
