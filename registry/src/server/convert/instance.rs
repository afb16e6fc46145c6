//! Instances and their changes as readers see them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use registry_proto::v1;
use registry_state::{Counts, Event, InstanceRecord, Override};

/// The encoded [`v1::Instance`], for answers that are joined from bytes. The same bytes serve Discover and
/// the snapshots of Watch.
pub fn encode_instance(record: &InstanceRecord) -> Bytes {
    instance(record).encode_to_vec().into()
}

/// An instance as readers see it.
pub fn instance(record: &InstanceRecord) -> v1::Instance {
    let content = &record.content;
    let text = |text: &str| text.to_owned();
    v1::Instance {
        instance_id: text(&record.instance_id),
        host: text(&content.host),
        port: content.port.into(),
        state: record.state() as i32,
        weight: Some(record.weight().into()),
        zone: text(&content.zone),
        metadata: content.metadata.iter().map(|(key, value)| (text(key), text(value))).collect(),
        tags: content.tags.iter().map(|tag| text(tag)).collect(),
        ports: ports(record),
        namespace: text(&record.service.namespace),
        service_name: text(&record.service.name),
        revision: record.revision,
        incarnation: record.incarnation,
        protection: record.protection.as_ref().map(|protection| v1::Protection {
            silent_for: Some(duration(Duration::from_millis(protection.silent_for_ms))),
            since: Some(timestamp_ms(protection.since_unix_ms)),
        }),
        ttl: Some(duration(Duration::from_millis(record.ttl_ms.into()))),
        registered_at: Some(timestamp_ms(record.registered_at_unix_s.saturating_mul(1_000))),
        operator_override: record.operator_override.as_deref().map(operator_override),
        reported: record.operator_override.as_ref().map(|_| v1::ReportedStatus {
            state: record.reported_state as i32,
            weight: Some(content.weight.into()),
        }),
    }
}

fn ports(record: &InstanceRecord) -> BTreeMap<String, v1::Port> {
    let ports = record.content.ports.iter();
    ports.map(|(name, port)| (name.to_string(), v1::Port { port: (*port).into() })).collect()
}

/// An override as readers see it.
pub fn operator_override(from: &Override) -> v1::InstanceOverride {
    v1::InstanceOverride {
        state: from.state.map_or(0, |state| state as i32),
        weight: from.weight.map(u32::from),
        comment: from.comment.to_string(),
        actor: from.actor.to_string(),
        set_at: Some(timestamp_ms(from.set_at_unix_ms)),
        expires_at: from.expires_at_unix_ms.map(timestamp_ms),
        revision: from.revision,
    }
}

/// A change of one instance, complete.
pub fn event(event: &Event) -> v1::InstanceEvent {
    v1::InstanceEvent {
        kind: event.kind as i32,
        instance: Some(instance(&event.instance)),
        previous: event.previous.as_deref().map(instance),
        cause: event.cause as i32,
    }
}

/// Counts of a service or a namespace.
pub fn counts(counts: &Counts) -> v1::InstanceCounts {
    v1::InstanceCounts {
        total: counts.total,
        starting: counts.starting,
        up: counts.up,
        draining: counts.draining,
        down: counts.down,
        protected: counts.protected,
    }
}

/// What the mass-expiry guard does for a service; `None` if it keeps nothing.
pub fn protection(counts: &Counts, held_for: impl FnOnce() -> Duration) -> Option<v1::ServiceProtection> {
    (counts.protected > 0)
        .then(|| v1::ServiceProtection { instances: counts.protected, held_for: Some(duration(held_for())) })
}

/// A duration as it is sent.
pub fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// A point in time as it is sent.
pub fn timestamp_ms(unix_ms: u64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(unix_ms / 1_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(unix_ms % 1_000).unwrap_or(0) * 1_000_000,
    }
}
