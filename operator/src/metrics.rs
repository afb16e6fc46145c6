//! Numbers about the operator itself, for Prometheus. Those about clusters come from their nodes.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds of the durations of reconciles, in seconds: members are asked for at most 2 s, and an
/// admission waits for the log.
const DURATION_BUCKETS: [f64; 9] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0];

/// All numbers. A clone is the same.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    reconciles: Counter,
    duration: Histogram,
    errors: Family<Reason, Counter>,
    steps: Family<Step, Counter>,
    watch_errors: Family<Watch, Counter>,
    events: Family<Reason, Counter>,
    leading: Gauge,
    crd_missing: Gauge,
    last_success: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Step {
    step: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Watch {
    watch: String,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("registry_operator");
        let mut metrics = Self {
            registry: Arc::default(),
            reconciles: Counter::default(),
            duration: Histogram::new(DURATION_BUCKETS),
            errors: Family::default(),
            steps: Family::default(),
            watch_errors: Family::default(),
            events: Family::default(),
            leading: Gauge::default(),
            crd_missing: Gauge::default(),
            last_success: Gauge::default(),
        };
        registry.register("reconciles", "Reconciles of a cluster", metrics.reconciles.clone());
        registry.register("reconcile_duration_seconds", "Time of one reconcile", metrics.duration.clone());
        registry.register("reconcile_errors", "Reconciles that failed, by reason", metrics.errors.clone());
        registry.register("steps", "Steps carried out, by kind", metrics.steps.clone());
        registry.register("watch_errors", "Failures of watches", metrics.watch_errors.clone());
        registry.register("events", "Events published, by reason", metrics.events.clone());
        registry.register("leading", "1 while this operator holds the lease", metrics.leading.clone());
        registry.register("crd_missing", "1 while the CRD is not there", metrics.crd_missing.clone());
        registry.register(
            "last_success_timestamp_seconds",
            "Time of the last reconcile that did not fail",
            metrics.last_success.clone(),
        );
        metrics.registry = Arc::new(registry);
        metrics
    }
}

impl Metrics {
    /// A reconcile ended; `reason` if it failed.
    pub fn reconciled(&self, took: Duration, failure: Option<&str>) {
        self.reconciles.inc();
        self.duration.observe(took.as_secs_f64());
        match failure {
            Some(reason) => {
                self.errors.get_or_create(&Reason { reason: reason.to_owned() }).inc();
            }
            None => {
                self.last_success.set(jiff::Timestamp::now().as_second());
            }
        }
    }

    /// A step was carried out.
    pub fn stepped(&self, step: &str) {
        self.steps.get_or_create(&Step { step: step.to_owned() }).inc();
    }

    /// A watch failed.
    pub fn watch_failed(&self, watch: &str) {
        self.watch_errors.get_or_create(&Watch { watch: watch.to_owned() }).inc();
    }

    /// An event was published.
    pub fn event(&self, reason: &str) {
        self.events.get_or_create(&Reason { reason: reason.to_owned() }).inc();
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
