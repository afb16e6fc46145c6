//! Numbers about the operator itself, for Prometheus. Those about clusters come from their nodes.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// Upper bounds of the durations of reconciles, in seconds: members are asked for at most 2 s, and an
/// admission waits for the log.
const DURATION_BUCKETS: [f64; 9] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0];

/// A counter for each value of one label. All values are words of the program: reasons, steps, kinds.
type Counters = Family<[(&'static str, String); 1], Counter>;

/// All numbers. A clone is the same.
#[derive(Debug, Clone)]
pub struct Metrics {
    reconciles: Counter,
    duration: Histogram,
    errors: Counters,
    steps: Counters,
    watch_errors: Counters,
    events: Counters,
    leading: Gauge,
    crd_missing: Gauge,
    last_success: Gauge,
    registry: Arc<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("registry_operator");
        let to = &mut registry;
        let duration = Histogram::new(DURATION_BUCKETS);
        let last_success = "Time of the last reconcile that did not fail";
        Self {
            reconciles: added(to, "reconciles", "Reconciles of a cluster", Counter::default()),
            duration: added(to, "reconcile_duration_seconds", "Time of one reconcile", duration),
            errors: added(to, "reconcile_errors", "Reconciles that failed, by reason", Counters::default()),
            steps: added(to, "steps", "Steps carried out, by kind", Counters::default()),
            watch_errors: added(to, "watch_errors", "Failures of watches", Counters::default()),
            events: added(to, "events", "Events published, by reason", Counters::default()),
            leading: added(to, "leading", "1 while this operator holds the lease", Gauge::default()),
            crd_missing: added(to, "crd_missing", "1 while the CRD is not there", Gauge::default()),
            last_success: added(to, "last_success_timestamp_seconds", last_success, Gauge::default()),
            registry: Arc::new(registry),
        }
    }
}

/// The metric, once the registry shows it under this name.
fn added<M: Metric + Clone>(to: &mut Registry, name: &str, help: &str, metric: M) -> M {
    to.register(name, help, metric.clone());
    metric
}

fn count(counters: &Counters, label: &'static str, value: &str) {
    counters.get_or_create(&[(label, value.to_owned())]).inc();
}

impl Metrics {
    /// A reconcile ended; `reason` if it failed.
    pub fn reconciled(&self, took: Duration, failure: Option<&str>) {
        self.reconciles.inc();
        self.duration.observe(took.as_secs_f64());
        match failure {
            Some(reason) => count(&self.errors, "reason", reason),
            None => drop(self.last_success.set(jiff::Timestamp::now().as_second())),
        }
    }

    /// A step was carried out.
    pub fn stepped(&self, step: &str) {
        count(&self.steps, "step", step);
    }

    /// A watch failed.
    pub fn watch_failed(&self, watch: &str) {
        count(&self.watch_errors, "watch", watch);
    }

    /// An event was published.
    pub fn event(&self, reason: &str) {
        count(&self.events, "reason", reason);
    }

    /// Whether this process holds the lease.
    pub fn leading(&self, leads: bool) {
        self.leading.set(leads.into());
    }

    /// Whether the custom resource is unknown to the API server.
    pub fn crd_missing(&self, missing: bool) {
        self.crd_missing.set(missing.into());
    }

    /// The text for Prometheus.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Fails only if writing to a String does.
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::warn!(%error, "cannot write the metrics");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_carry_their_reasons() {
        let metrics = Metrics::default();
        metrics.reconciled(Duration::from_millis(20), None);
        metrics.reconciled(Duration::from_secs(2), Some("kube_conflict"));
        metrics.watch_failed("pods");
        metrics.stepped("promote");
        metrics.event("MemberAdmitted");
        let text = metrics.text();
        assert!(text.contains("registry_operator_reconciles_total 2"), "{text}");
        assert!(text.contains(r#"reconcile_errors_total{reason="kube_conflict"} 1"#), "{text}");
        assert!(text.contains(r#"watch_errors_total{watch="pods"} 1"#), "{text}");
        assert!(text.contains(r#"steps_total{step="promote"} 1"#), "{text}");
        assert!(text.contains(r#"events_total{reason="MemberAdmitted"} 1"#), "{text}");
    }
}
