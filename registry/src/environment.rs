//! What a node takes from the world around it: time, network and chance.
//!
//! The composition root is handed an [`Environment`] and passes it on; nothing else asks the system. So
//! whole nodes run in a simulation that owns all three. Timers and deadlines use `tokio::time`, which a
//! simulation moves by itself.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use registry_client::transport::{ByteStream, Dial, Resolve, SystemResolver, TcpDial};

use crate::crash_point::CrashPoint;

/// Time, network and chance as a node sees them. A clone shares them.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Clocks that `tokio::time` does not have.
    pub clock: Arc<dyn Clock>,
    /// Opens streams to other nodes.
    pub dial: Arc<dyn Dial>,
    /// Opens listeners.
    pub bind: Arc<dyn Bind>,
    /// Random numbers that others must not guess.
    pub random: Arc<dyn Random>,
    /// Where a test lets the process die.
    pub crash: CrashPoint,
}

impl Environment {
    /// The real one.
    pub fn system() -> Self {
        Self::with_names(Arc::new(SystemResolver))
    }

    /// The real one, with names that `resolver` knows.
    pub fn with_names(resolver: Arc<dyn Resolve>) -> Self {
        Self {
            clock: Arc::new(SystemClock),
            dial: Arc::new(TcpDial::new(resolver)),
            bind: Arc::new(TcpBind),
            random: Arc::new(SystemRandom),
            crash: CrashPoint::default(),
        }
    }
}

/// Clocks beside the monotonic one of `tokio::time`.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Time since boot, which goes on while the machine is suspended (CLOCK_BOOTTIME).
    fn boot(&self) -> Duration;
    /// Wall clock in milliseconds since 1970. A label for people: nothing may depend on it.
    fn unix_ms(&self) -> u64;
}

/// Opens listeners.
pub trait Bind: fmt::Debug + Send + Sync + 'static {
    /// Binds `HOST:PORT`; port 0 takes a free one.
    fn bind(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;
}

/// Accepts byte streams.
pub trait Listener: Send + 'static {
    /// The next connection and where it comes from.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn ByteStream>, SocketAddr)>>;
    /// Where it listens.
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// Random numbers from a source that cannot be guessed (lease ids, epochs, disk ids).
pub trait Random: fmt::Debug + Send + Sync + 'static {
    /// 64 random bits, never 0.
    fn nonzero_u64(&self) -> u64;
    /// A random UUID in its usual form.
    fn uuid(&self) -> String;
}

#[derive(Debug)]
struct SystemClock;

impl Clock for SystemClock {
    fn boot(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
    }

    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

#[derive(Debug)]
struct TcpBind;

impl Bind for TcpBind {
    fn bind(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let address = address.to_owned();
        Box::pin(async move {
            let listener = tokio::net::TcpListener::bind(address).await?;
            Ok(Box::new(TcpAccept(listener)) as Box<dyn Listener>)
        })
    }
}

struct TcpAccept(tokio::net::TcpListener);

impl Listener for TcpAccept {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn ByteStream>, SocketAddr)>> {
        Box::pin(async {
            let (stream, from) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Box<dyn ByteStream>, from))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[derive(Debug)]
struct SystemRandom;

impl Random for SystemRandom {
    fn nonzero_u64(&self) -> u64 {
        rand::random_range(1..=u64::MAX)
    }

    fn uuid(&self) -> String {
        uuid::Uuid::new_v4().to_string()
    }
}
