//! The replicated settings that the spec asks for.

use std::time::Duration;

use registry_proto::internal::{
    ClusterSettings, GuardSettings, HistorySettings, MembershipOwner, QuotaSettings,
};

use crate::crd::RegistryClusterSpec;
use crate::crd::values::Span;

/// The settings as they shall be, given those that the cluster has: what the spec does not speak of stays.
/// Equal to `current` if there is nothing to do.
pub fn settings(spec: &RegistryClusterSpec, current: &ClusterSettings) -> ClusterSettings {
    let registry = &spec.registry;
    let (guard, history, quotas) = (&registry.guard, &registry.history, &registry.quotas);
    ClusterSettings {
        version: current.version,
        default_ttl: Some(duration(&registry.default_ttl)),
        guard: Some(GuardSettings {
            enabled: guard.enabled,
            min_leases: guard.min_leases.unsigned_abs(),
            percent: guard.percent.unsigned_abs(),
            hold: Some(duration(&guard.hold)),
        }),
        dead_member_after: Some(duration(&registry.dead_member_after)),
        promote_after: current.promote_after,
        admission_timeout: current.admission_timeout,
        history: Some(HistorySettings {
            max_events: history.events.unsigned_abs(),
            max_bytes: history.size.bytes(),
        }),
        quotas: Some(QuotaSettings {
            instances: quotas.instances.unsigned_abs(),
            services: quotas.services.unsigned_abs(),
            instances_per_service: quotas.instances_per_service.unsigned_abs(),
            overrides: quotas.overrides.unsigned_abs(),
            user_data_bytes: quotas.user_data.bytes(),
        }),
        membership_owner: MembershipOwner::Operator.into(),
        voters_target: spec.replicas.unsigned_abs(),
    }
}

fn duration(span: &Span) -> prost_types::Duration {
    // Spans of the schema end at a day.
    prost_types::Duration::try_from(Duration::from_millis(span.millis())).unwrap_or_default()
}
