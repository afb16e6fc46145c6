//! What a client counts, and whom it tells.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::error::Error;

/// Is told of what a client does, as it happens. Every method has an empty default. They are called from
/// the client's tasks: do not block.
pub trait Hooks: Send + Sync + 'static {
    /// A call ended: its method (`register`), its time with all repetitions, how many attempts it took.
    fn call_ended(&self, method: &'static str, took: Duration, attempts: u32, error: Option<&Error>) {
        let _ = (method, took, attempts, error);
    }

    /// A connection to a node came up or ended.
    fn connection_changed(&self, endpoint: &str, up: bool) {
        let _ = (endpoint, up);
    }

    /// Leases were renewed.
    fn leases_renewed(&self, leases: usize) {
        let _ = leases;
    }

    /// A watch moved to a node, from its start or from where it had been.
    fn watch_opened(&self, endpoint: &str, resumed: bool) {
        let _ = (endpoint, resumed);
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident),+ $(,)?) => {
        /// Counters of a client since its start. Got from [`Client::metrics`](crate::Client::metrics).
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct MetricsSnapshot { $($(#[doc = $doc])+ pub $name: u64),+ }

        #[derive(Default)]
        pub(crate) struct Metrics { $(pub(crate) $name: AtomicU64),+ }

        impl Metrics {
            pub(crate) fn snapshot(&self) -> MetricsSnapshot {
                MetricsSnapshot { $($name: self.$name.load(Relaxed)),+ }
            }
        }
    };
}

counters! {
    /// Calls that ended.
    calls,
    /// Calls that ended with an error.
    calls_failed,
    /// Attempts beyond the first of a call.
    retries,
    /// Writes whose outcome stayed unknown.
    outcomes_unknown,
    /// Request-id sessions begun anew because the registry had forgotten the old one.
    sessions_restarted,
    /// Connections that came up.
    connections_opened,
    /// Connections that ended.
    connections_lost,
    /// Attempts to connect that failed.
    connects_failed,
    /// Leases renewed.
    renewals,
    /// Leases that the registry said had expired.
    leases_lost,
    /// Registrations made again after their lease was lost.
    reregistrations,
    /// KeepAlive streams opened.
    keep_alive_streams,
    /// Watch streams opened.
    watches_opened,
    /// Watch streams that went on where an earlier one ended.
    watches_resumed,
    /// Snapshots taken by watches.
    snapshots,
    /// Revisions received by watches.
    revisions,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// Adds `n`.
pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Relaxed);
}

/// Who is told nothing.
pub(crate) struct NoHooks;

impl Hooks for NoHooks {}
