//! Where members were last heard from, for the time in which DNS still gives an old address (P/N2).
//!
//! A pod comes back with another IP under its old name, and a DNS that caches gives the old one for up to
//! 30 s. The pod itself reaches the others at once, so they know its new address: it is where its calls come
//! from. A hint is dialled beside the addresses of the name, never instead of them, and never trusted: each
//! call names cluster and member, and whoever else answers refuses it.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use registry_client::transport::{ByteStream, Dial};
use tokio::time::{Instant, timeout};

use crate::config::endpoint;

#[cfg(test)]
#[path = "hints_test.rs"]
mod tests;

/// Time in which the first way may connect before the other is tried beside it: in one network a name is
/// resolved and a connection made within a few milliseconds, and a dial may last half a second.
const HEAD_START: Duration = Duration::from_millis(100);
/// A member that somebody else answers for is dialled anew at most so often.
const REDIAL_AFTER: Duration = Duration::from_secs(1);
/// Members that are remembered at most: far more than a cluster has.
const MOST: usize = 64;

/// Where members were last heard from, by Raft id. A clone shares it.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    table: Arc<Mutex<BTreeMap<u64, IpAddr>>>,
}

impl Hints {
    /// A call of a member has come from this address.
    pub fn heard(&self, raft_id: u64, from: IpAddr) {
        let mut table = self.table();
        let from = from.to_canonical();
        if table.contains_key(&raft_id) || table.len() < MOST {
            let known = table.insert(raft_id, from);
            if known != Some(from) {
                tracing::debug!(node = raft_id, %from, "a member is heard from another address");
            }
        }
    }

    /// Forgets all but these members.
    pub fn retain(&self, keep: impl Fn(u64) -> bool) {
        self.table().retain(|raft_id, _| keep(*raft_id));
    }

    fn of(&self, raft_id: u64) -> Option<IpAddr> {
        self.table().get(&raft_id).copied()
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<u64, IpAddr>> {
        // Nothing panics while it holds the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which way a channel goes first. A clone shares it.
#[derive(Debug, Clone, Default)]
pub(super) struct Way {
    mistaken: Arc<Mutex<Mistakes>>,
}

#[derive(Debug, Default)]
struct Mistakes {
    hint_first: bool,
    last: Option<Instant>,
}

impl Way {
    /// Somebody else answered: the other way is tried first from now on. True if the connection should be
    /// given up; not more often than once a second.
    pub(super) fn mistaken(&self) -> bool {
        let mut mistakes = self.lock();
        if mistakes.last.is_some_and(|at| at.elapsed() < REDIAL_AFTER) {
            return false;
        }
        mistakes.last = Some(Instant::now());
        mistakes.hint_first = !mistakes.hint_first;
        true
    }

    fn is_hint_first(&self) -> bool {
        self.lock().hint_first
    }

    fn lock(&self) -> MutexGuard<'_, Mistakes> {
        self.mistaken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dials one member: by its name, and where it was last heard from.
#[derive(Debug)]
pub(super) struct HintedDial {
    pub(super) inner: Arc<dyn Dial>,
    pub(super) hints: Hints,
    pub(super) way: Way,
    pub(super) raft_id: u64,
}

impl Dial for HintedDial {
    fn dial(&self, by_name: &str) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
        let hint = self.hints.of(self.raft_id).and_then(|address| hinted(by_name, address));
        let Some(hint) = hint else { return self.inner.dial(by_name) };
        let (one, other) =
            if self.way.is_hint_first() { (hint.as_str(), by_name) } else { (by_name, hint.as_str()) };
        Box::pin(either(self.inner.dial(one), self.inner.clone(), other.to_owned()))
    }
}

/// The endpoint with the address in place of its name; `None` if it has no name: an address is exact.
fn hinted(by_name: &str, address: IpAddr) -> Option<String> {
    let (host, port) = by_name.rsplit_once(':')?;
    let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let port = port.parse().ok().filter(|_| !is_address)?;
    Some(endpoint(&address.to_string(), port))
}

/// The first of two ways that connects; the second begins when the first has failed or had its head start.
async fn either(
    mut one: BoxFuture<'static, io::Result<Box<dyn ByteStream>>>,
    dial: Arc<dyn Dial>,
    other: String,
) -> io::Result<Box<dyn ByteStream>> {
    let early = timeout(HEAD_START, &mut one).await;
    if let Ok(Ok(stream)) = early {
        return Ok(stream);
    }
    let mut other = dial.dial(&other);
    if let Ok(Err(failed)) = early {
        // What the name led to is what people want to know.
        return other.await.map_err(|error| io::Error::new(failed.kind(), format!("{failed}; {error}")));
    }
    tokio::select! {
        first = &mut one => match first {
            Ok(stream) => Ok(stream),
            Err(_) => other.await,
        },
        second = &mut other => match second {
            Ok(stream) => Ok(stream),
            Err(_) => one.await,
        },
    }
}
