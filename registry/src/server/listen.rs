//! Accepts connections, bounds them, and serves gRPC over HTTP/2 on each.
//!
//! An accept loop of our own, because the bounds of P/O5 stand before the handshake: connections per
//! node and per address, time to prove to be HTTP/2. HTTP/1 and TLS get an answer that says what is
//! wrong.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use registry_client::transport::ByteStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tower::ServiceExt;

use super::abortable::AbortableExecutor;
use super::admin::Caller;
use super::limits;
use super::observe::{Call, ObserveCalls};
use crate::environment::Listener;

/// What HTTP/2 begins with; nothing else does.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Answer to HTTP/1, readable for people with curl or a browser.
const HTTP1_REFUSAL: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\n\
    content-type: text/plain\r\nconnection: close\r\ncontent-length: 80\r\n\r\n\
    This port speaks gRPC over HTTP/2 without TLS. Use registryctl, or a gRPC tool.\n";

/// Alert `protocol_version` of TLS: tells a client that offers TLS that nobody here speaks it.
const TLS_REFUSAL: &[u8] = &[0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46];

/// Pause after a failed accept: out of descriptors, which others give back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running listener. Dropping it does not stop it.
#[derive(Debug, Clone)]
pub struct Server {
    address: SocketAddr,
    goaway: CancellationToken,
    close: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Serves `routes` on `listener` until [`Server::go_away`] or [`Server::close`].
    ///
    /// # Errors
    /// If the listener does not know its address.
    pub fn start(
        listener: Box<dyn Listener>,
        routes: Routes,
        calls: Arc<dyn ObserveCalls>,
    ) -> io::Result<Self> {
        let server = Self {
            address: listener.local_address()?,
            goaway: CancellationToken::new(),
            close: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let accept =
            Accept { server: server.clone(), routes: routes.prepare(), calls, addresses: Arc::default() };
        server.tasks.spawn(accept.run(listener));
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting and says GOAWAY on every connection; calls under way go on.
    pub fn go_away(&self) {
        self.goaway.cancel();
        self.tasks.close();
    }

    /// Waits until the last connection has ended, after [`Server::go_away`] or [`Server::close`].
    pub async fn ended(&self) {
        self.tasks.wait().await;
    }

    /// Closes the listener and every connection at once.
    pub fn close(&self) {
        self.close.cancel();
        self.go_away();
    }
}

struct Accept {
    server: Server,
    routes: Routes,
    calls: Arc<dyn ObserveCalls>,
    addresses: Arc<Addresses>,
}

impl Accept {
    async fn run(self, mut listener: Box<dyn Listener>) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.server.goaway.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => self.admit(stream, from),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection; raise the limit of open files");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, stream: Box<dyn ByteStream>, from: SocketAddr) {
        let Some(seat) = self.addresses.take(from.ip()) else {
            tracing::debug!(%from, "refused a connection: too many are open");
            return;
        };
        let routes = self.routes.clone();
        let calls = self.calls.clone();
        let server = self.server.clone();
        self.server.tasks.spawn(async move {
            let served = tokio::select! {
                biased;
                () = server.close.cancelled() => Ok(()),
                served = serve(stream, from, routes, calls, &server.goaway) => served,
            };
            if let Err(error) = served {
                tracing::debug!(%from, %error, "connection ended");
            }
            drop(seat);
        });
    }
}

async fn serve(
    stream: Box<dyn ByteStream>,
    from: SocketAddr,
    routes: Routes,
    calls: Arc<dyn ObserveCalls>,
    goaway: &CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = timeout(limits::HANDSHAKE_TIMEOUT, handshake(stream)).await??;
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Caller(from));
        let call = Call::begin(&request, calls.clone());
        call.watch(routes.clone().oneshot(request))
    });
    let connection = builder().serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        biased;
        ended = connection.as_mut() => return Ok(ended?),
        () = goaway.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

fn builder() -> http2::Builder<AbortableExecutor> {
    let mut builder = http2::Builder::new(AbortableExecutor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
        .max_header_list_size(limits::HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(limits::PENDING_RESETS)
        .max_local_error_reset_streams(limits::LOCAL_RESETS)
        .keep_alive_interval(limits::KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(limits::KEEP_ALIVE_TIMEOUT);
    builder
}

/// Reads the preface of HTTP/2, or says what is wrong with what came instead.
async fn handshake(mut stream: Box<dyn ByteStream>) -> io::Result<Replayed> {
    let mut start = [0; PREFACE.len()];
    let mut read = 0;
    while read < start.len() {
        let count = stream.read(&mut start[read..]).await?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        read += count;
        if start[..read] != PREFACE[..read] {
            let (refusal, what) = if start[0] == 0x16 {
                (TLS_REFUSAL, "TLS, which this port does not speak")
            } else {
                (HTTP1_REFUSAL, "something else than HTTP/2")
            };
            stream.write_all(refusal).await?;
            stream.shutdown().await?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("the client sent {what}")));
        }
    }
    Ok(Replayed { replay: PREFACE, stream })
}

/// A stream whose first bytes were read before and are read once more.
struct Replayed {
    replay: &'static [u8],
    stream: Box<dyn ByteStream>,
}

impl AsyncRead for Replayed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.replay.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let (now, later) = self.replay.split_at(self.replay.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.replay = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replayed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Connections open, by address.
#[derive(Debug, Default)]
struct Addresses {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Addresses {
    /// A seat for one connection, or nothing if a bound is reached.
    fn take(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= limits::CONNECTIONS {
            return None;
        }
        let count = open.by_address.entry(address).or_default();
        if *count >= limits::CONNECTIONS_PER_ADDRESS {
            return None;
        }
        *count += 1;
        open.total += 1;
        Some(Seat { addresses: self.clone(), address })
    }

    fn give_back(&self, address: IpAddr) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(count) = open.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&address);
            }
        }
    }
}

/// Counts one open connection; gives its place back when dropped.
struct Seat {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.addresses.give_back(self.address);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    async fn refusal_of(sent: &[u8]) -> Vec<u8> {
        let (mut client, server) = duplex(4096);
        let served = tokio::spawn(handshake(Box::new(server)));
        client.write_all(sent).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert!(served.await.unwrap().is_err());
        answer
    }

    #[tokio::test]
    async fn http1_is_told_which_protocol_to_speak() {
        let answer = String::from_utf8(refusal_of(b"GET / HTTP/1.1\r\n\r\n").await).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 505 "));
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head} {}", body.len());
        assert!(body.contains("gRPC over HTTP/2"));
    }

    #[tokio::test]
    async fn tls_is_refused_by_an_alert() {
        assert_eq!(refusal_of(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await, TLS_REFUSAL);
    }

    #[tokio::test]
    async fn the_preface_is_read_twice_and_what_follows_once() {
        let (mut client, server) = duplex(4096);
        client.write_all(PREFACE).await.unwrap();
        client.write_all(b"settings").await.unwrap();
        client.shutdown().await.unwrap();
        let mut stream = handshake(Box::new(server)).await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, [PREFACE, b"settings"].concat());
    }

    #[test]
    fn one_address_cannot_take_all_connections() {
        let addresses = Arc::<Addresses>::default();
        let greedy = IpAddr::from([10, 0, 0, 1]);
        let mut seats = Vec::new();
        while let Some(seat) = addresses.take(greedy) {
            seats.push(seat);
        }
        assert_eq!(seats.len(), limits::CONNECTIONS_PER_ADDRESS);
        assert!(addresses.take(IpAddr::from([10, 0, 0, 2])).is_some());
        seats.pop();
        assert!(addresses.take(greedy).is_some());
    }

    #[test]
    fn a_node_has_a_bound_over_all_addresses() {
        let addresses = Arc::<Addresses>::default();
        let mut seats = Vec::new();
        for number in 0_u32.. {
            let Some(seat) = addresses.take(IpAddr::from(number.to_be_bytes())) else { break };
            seats.push(seat);
        }
        assert_eq!(seats.len(), limits::CONNECTIONS);
    }
}
