//! From the state to items.

use crate::client::{self, Remembered};
use crate::command::{MemberSpec, NamedPort, Pair};
use crate::event;
use crate::ids::{InstanceKey, LeaseId, ServiceKey};
use crate::instance::{self, InstanceRecord, InstanceState};
use crate::lease::{self, LeaseHold};
use crate::member;
use crate::overrides;
use crate::reply::{self, Rejection};
use crate::service::{self, GuardState};
use crate::snapshot::wire::{self, Kind};
use crate::state::State;

pub(super) fn head(state: &State) -> Kind {
    Kind::Head(wire::Head {
        format: super::FORMAT,
        feature_level: state.feature_level,
        cluster_id: state.cluster_id().unwrap_or_default().to_owned(),
        epoch: state.epoch(),
        revision: state.revision,
        next_raft_id: state.next_raft_id,
        tick: state.clients.tick(),
    })
}

pub(super) fn member(member: &member::Member) -> Kind {
    Kind::Member(MemberSpec {
        raft_id: member.raft_id,
        node_id: member.node_id.to_string(),
        disk_id: member.disk_id.to_string(),
        peer_endpoint: member.peer_endpoint.to_string(),
        client_endpoint: member.client_endpoint.to_string(),
    })
}

pub(super) fn tombstone(tombstone: &member::Tombstone) -> Kind {
    Kind::Tombstone(wire::Tombstone { raft_id: tombstone.raft_id, disk_id: tombstone.disk_id.to_string() })
}

pub(super) fn service(key: &ServiceKey, service: &service::Service) -> Kind {
    let guard_remaining_ms = match service.guard {
        GuardState::Holding { remaining_ms } => Some(remaining_ms),
        GuardState::Armed | GuardState::Disarmed => None,
    };
    Kind::Service(wire::Service {
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        revision: service.revision,
        guard_remaining_ms,
        guard_disarmed: service.guard == GuardState::Disarmed,
    })
}

pub(super) fn lease(id: LeaseId, lease: &lease::Lease) -> Kind {
    Kind::Lease(wire::Lease {
        id,
        version: lease.version,
        ttl_ms: lease.ttl_ms,
        held: lease.hold == LeaseHold::Held,
        released: lease.hold == LeaseHold::Released,
    })
}

pub(super) fn client(name: &str, client: &client::Client) -> Kind {
    Kind::Client(wire::Client {
        name: name.to_owned(),
        used: client.used,
        highest: client.highest,
        done_below: client.done_below,
        writes: client.records.iter().map(write).collect(),
    })
}

fn write(record: &client::Record) -> wire::Write {
    let outcome = match &record.outcome {
        Remembered::Registered { outcome, incarnation, lease_id } => {
            wire::Outcome::Registered(wire::Registered {
                outcome: *outcome as i32,
                incarnation: *incarnation,
                lease_id: *lease_id,
            })
        }
        Remembered::Batch { lease_id, outcomes } => {
            wire::Outcome::Batch(wire::Batch { lease_id: *lease_id, outcomes: outcomes.to_vec() })
        }
        Remembered::Deregistered { removed } => wire::Outcome::Deregistered(*removed),
        Remembered::StateSet { changed, overridden } => {
            wire::Outcome::StateSet(wire::StateSet { changed: *changed, overridden: *overridden })
        }
        Remembered::Drained { revision } => wire::Outcome::Drained(*revision),
        Remembered::OverrideSet { revision, registered } => {
            wire::Outcome::OverrideSet(wire::OverrideSet { revision: *revision, registered: *registered })
        }
        Remembered::OverrideCleared { cleared } => wire::Outcome::OverrideCleared(*cleared),
        Remembered::ProtectionEnded { ended } => wire::Outcome::ProtectionEnded(*ended),
        Remembered::Rejected(rejection) => wire::Outcome::Rejected(rejected(rejection)),
    };
    wire::Write {
        serial: record.serial,
        hash: record.hash,
        revision: record.revision,
        outcome: Some(outcome),
    }
}

fn rejected(rejection: &Rejection) -> wire::Rejected {
    use reply::Reason;
    let reason = match &rejection.reason {
        Reason::InvalidField(violations) => Some(wire::Reason::InvalidField(wire::InvalidField {
            fields: violations.iter().map(|violation| violation.field.clone()).collect(),
            descriptions: violations.iter().map(|violation| violation.description.clone()).collect(),
        })),
        Reason::InstanceNotFound => Some(wire::Reason::InstanceNotFound(true)),
        Reason::LeaseExpired => Some(wire::Reason::LeaseExpired(true)),
        Reason::StaleIncarnation { current } => Some(wire::Reason::StaleIncarnation(*current)),
        Reason::QuotaExceeded { quota, limit } => {
            Some(wire::Reason::QuotaExceeded(wire::QuotaExceeded { quota: *quota as i32, limit: *limit }))
        }
        // Never recorded: refused before the operation, or of commands without a request id.
        Reason::RequestIdReused
        | Reason::RequestSuperseded { .. }
        | Reason::SessionUnknown
        | Reason::RegistrationGone
        | Reason::NotInitialized
        | Reason::AlreadyInitialized { .. }
        | Reason::SettingsChanged { .. }
        | Reason::MembershipOwned { .. }
        | Reason::MemberRemoved { .. } => None,
    };
    wire::Rejected { index: rejection.index, reason }
}

pub(super) fn override_entry(key: &InstanceKey, entry: &overrides::OverrideEntry) -> Kind {
    Kind::Override(wire::OverrideEntry {
        namespace: key.service.namespace.to_string(),
        service_name: key.service.name.to_string(),
        instance_id: key.instance_id.to_string(),
        shared: Some(shared_override(&entry.shared)),
        remaining_ms: entry.remaining_ms,
    })
}

fn shared_override(shared: &overrides::Override) -> wire::Override {
    wire::Override {
        state: shared.state.unwrap_or(InstanceState::Unspecified) as i32,
        weight: shared.weight.map(u32::from),
        comment: shared.comment.to_string(),
        actor: shared.actor.to_string(),
        set_at_unix_ms: shared.set_at_unix_ms,
        expires_at_unix_ms: shared.expires_at_unix_ms,
        revision: shared.revision,
    }
}

pub(super) fn instance(record: &InstanceRecord) -> wire::Instance {
    let content = &record.content;
    let pair = |(key, value): &(smol_str::SmolStr, smol_str::SmolStr)| Pair {
        key: key.to_string(),
        value: value.to_string(),
    };
    wire::Instance {
        namespace: record.service.namespace.to_string(),
        service_name: record.service.name.to_string(),
        instance_id: record.instance_id.to_string(),
        host: content.host.to_string(),
        port: content.port.into(),
        weight: content.weight.into(),
        zone: content.zone.to_string(),
        metadata: content.metadata.iter().map(pair).collect(),
        tags: content.tags.iter().map(ToString::to_string).collect(),
        ports: content
            .ports
            .iter()
            .map(|(name, port)| NamedPort { name: name.to_string(), port: (*port).into() })
            .collect(),
        reported_state: record.reported_state as i32,
        ttl_ms: record.ttl_ms,
        revision: record.revision,
        incarnation: record.incarnation,
        lease_id: record.lease_id,
        registered_at_unix_s: record.registered_at_unix_s,
        client: record.client.to_string(),
        protection: record.protection.as_deref().map(protection),
        operator_override: None,
    }
}

fn protection(protection: &instance::Protection) -> wire::Protection {
    wire::Protection { silent_for_ms: protection.silent_for_ms, since_unix_ms: protection.since_unix_ms }
}

pub(super) fn event(event: &event::Event) -> Kind {
    // An event shows the override of its time, which may be gone.
    let whole = |record: &InstanceRecord| wire::Instance {
        operator_override: record.operator_override.as_deref().map(shared_override),
        ..instance(record)
    };
    Kind::Event(wire::Event {
        kind: event.kind as i32,
        cause: event.cause as i32,
        instance: Some(whole(&event.instance)),
        previous: event.previous.as_deref().map(whole),
    })
}
