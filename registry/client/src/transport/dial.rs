//! Opening byte streams: names are resolved anew at each dial, and every address of a name is tried.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _, Shared};
use futures::stream::FuturesUnordered;
use rand::seq::SliceRandom as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::sleep;

#[cfg(test)]
#[path = "dial_test.rs"]
mod tests;

/// A byte stream to a peer.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Opens byte streams: the network as clients see it.
pub trait Dial: fmt::Debug + Send + Sync + 'static {
    /// Opens a stream to `HOST:PORT`, resolving the name anew. Bounded by the caller.
    fn dial(&self, endpoint: &str) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>>;
}

/// Finds the addresses of a name.
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// All addresses of `HOST:PORT` as they are now: nothing is kept from one call to the next.
    fn resolve(&self, endpoint: &str) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;
}

/// The resolver of the system, asked anew each time, whatever the time to live of the last answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, endpoint: &str) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let endpoint = endpoint.to_owned();
        Box::pin(async move { Ok(tokio::net::lookup_host(&endpoint).await?.collect()) })
    }
}

/// The real network: resolves the name at each dial and tries its addresses in random order, the next one
/// as soon as one fails or is silent for 250 ms. The first that connects wins. A clone shares the lookups.
#[derive(Debug, Clone)]
pub struct TcpDial {
    lookups: Arc<Lookups>,
}

impl Default for TcpDial {
    fn default() -> Self {
        Self::new(Arc::new(SystemResolver))
    }
}

/// Silence after which the next address is tried beside it (RFC 8305 recommends 250 ms).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried in one dial.
const MAX_ADDRESSES: usize = 8;

impl TcpDial {
    /// TCP to the addresses that `resolver` finds.
    pub fn new(resolver: Arc<dyn Resolve>) -> Self {
        Self { lookups: Arc::new(Lookups { resolver, under_way: Arc::default() }) }
    }
}

impl Dial for TcpDial {
    fn dial(&self, endpoint: &str) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
        let addresses = self.lookups.addresses(endpoint);
        Box::pin(async move {
            let mut addresses = addresses.await.map_err(|failure| failure.into_error())?;
            if addresses.len() > 1 {
                // A Service of Kubernetes routes to a dead node for up to 55 s: do not begin there each time.
                addresses.shuffle(&mut rand::rng());
                addresses.truncate(MAX_ADDRESSES);
            }
            let stream = connect_first(addresses).await?;
            // Small messages, answered one by one: waiting to fill a segment would add 40 ms.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }
}

async fn connect_first(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut dials = FuturesUnordered::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = waiting.next() {
            dials.push(TcpStream::connect(address));
        }
        let more = waiting.len() > 0;
        tokio::select! {
            dialled = dials.next() => match dialled {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => failure = error,
                None => return Err(failure),
            },
            () = sleep(NEXT_ADDRESS_AFTER), if more => {}
        }
    }
}

/// One lookup per name at a time; dials that come meanwhile wait for the same answer.
///
/// A lookup occupies a thread until the system gives up, 10 s and more when DNS is silent, while a dial gives
/// up after half a second and comes again: without this every dial would leave a thread behind. And an answer
/// that takes longer than one dial may last (the first name server is dead, the second one answers after
/// 5 s) still reaches the dial that waits when it comes.
#[derive(Debug)]
struct Lookups {
    resolver: Arc<dyn Resolve>,
    under_way: Arc<Mutex<HashMap<String, Lookup>>>,
}

type Lookup = Shared<BoxFuture<'static, Result<Vec<SocketAddr>, Failure>>>;

/// An error that several dials can have.
#[derive(Debug, Clone)]
struct Failure {
    kind: io::ErrorKind,
    reason: String,
}

impl Failure {
    fn into_error(self) -> io::Error {
        io::Error::new(self.kind, self.reason)
    }
}

impl Lookups {
    fn addresses(&self, endpoint: &str) -> Lookup {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lookup) = under_way.get(endpoint) {
            return lookup.clone();
        }
        let (resolver, name, finished) = (self.resolver.clone(), endpoint.to_owned(), self.under_way.clone());
        // A task of its own: it goes on when the dial that began it has given up.
        let task = tokio::spawn(async move {
            let found = resolver.resolve(&name).await;
            finished.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            found.map_err(|error| Failure { kind: error.kind(), reason: error.to_string() })
        });
        let lookup = async move {
            let ended = |error: tokio::task::JoinError| Failure {
                kind: io::ErrorKind::Other,
                reason: format!("the lookup ended: {error}"),
            };
            task.await.unwrap_or_else(|error| Err(ended(error)))
        };
        let lookup = lookup.boxed().shared();
        under_way.insert(endpoint.to_owned(), lookup.clone());
        lookup
    }
}
