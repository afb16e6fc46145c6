//! How long the guard has kept instances of a service, by this node's steady clock. Every node watches what
//! is applied, so every node can tell.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use registry_state::{Event, EventKind, RevisionEvents, ServiceKey, State};
use tokio::time::Instant;

/// Services of which the guard keeps instances, and since when as seen here: a lower bound after a restart.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    since: HashMap<Arc<ServiceKey>, Instant>,
}

impl Kept {
    /// These changes led to `state`.
    pub(crate) fn applied(&mut self, state: &State, events: &[Arc<RevisionEvents>], now: Instant) {
        for event in events.iter().flat_map(|revision| &revision.events) {
            let (before, after) = protection(event);
            if before == after {
                continue;
            }
            let key = &event.instance.service;
            if !keeps(state, key) {
                self.since.remove(key);
            } else if after {
                self.since.entry(key.clone()).or_insert(now);
            }
        }
    }

    /// The state was replaced.
    pub(crate) fn reset(&mut self, state: &State, now: Instant) {
        self.since.retain(|key, _| keeps(state, key));
        if state.counts().protected > 0 {
            for service in state.services_from(None).filter(|service| service.counts().protected > 0) {
                self.since.entry(service.key().clone()).or_insert(now);
            }
        }
    }

    /// How long the first instance of a service has been kept.
    pub(crate) fn held_for(&self, service: &ServiceKey, now: Instant) -> Option<Duration> {
        self.since.get(service).map(|since| now.saturating_duration_since(*since))
    }
}

fn keeps(state: &State, key: &ServiceKey) -> bool {
    state.service(&key.namespace, &key.name).is_some_and(|service| service.counts().protected > 0)
}

/// Whether the guard kept the instance before the event, and keeps it after.
fn protection(event: &Event) -> (bool, bool) {
    let shown = event.instance.is_protected();
    match event.kind {
        EventKind::Removed => (shown, false),
        _ => (event.previous.as_ref().is_some_and(|previous| previous.is_protected()), shown),
    }
}
