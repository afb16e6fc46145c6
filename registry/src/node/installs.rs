//! Counts the snapshots that a leader sent and this node installed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use registry_state::{LeaseChange, RevisionEvents};

use crate::metrics::Metrics;
use crate::raft::{Observer, Published};

pub(super) struct InstallCounter {
    metrics: Metrics,
    /// The state is also replaced once while a node recovers, by its own snapshot.
    recovered: AtomicBool,
}

impl InstallCounter {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { metrics, recovered: AtomicBool::new(false) }
    }

    /// Counts from now on.
    pub(super) fn begin(&self) {
        self.recovered.store(true, Ordering::Release);
    }
}

impl Observer for InstallCounter {
    fn applied(&self, _: &Arc<Published>, _: &[Arc<RevisionEvents>], _: &[LeaseChange]) {}

    fn reset(&self, _: &Arc<Published>) {
        if self.recovered.load(Ordering::Acquire) {
            self.metrics.snapshot_installed();
        }
    }
}
