//! Between the messages of AdminService and what the node works with.

use std::time::Duration;

use registry_proto::internal as pb;
use registry_proto::internal::PeerErrorReason as R;
use registry_state::validate::{Violation, Violations};
use registry_state::{
    ClusterSettings, GuardSettings, HistorySettings, Member, MembershipOwner, QuotaSettings,
};

use crate::error::peer::PeerError;
use crate::raft::{Leadership, LogPosition, Membership};
use crate::server::convert::duration_ms;

pub(super) fn position(id: pb::LogId) -> LogPosition {
    LogPosition { leadership: Leadership { term: id.term, node: id.raft_id }, index: id.index }
}

pub(super) fn log_id(position: LogPosition) -> pb::LogId {
    let Leadership { term, node } = position.leadership;
    pb::LogId { term, raft_id: node, index: position.index }
}

pub(super) fn duration(length: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(length).ok()
}

/// The owner that a caller names, if it names one.
pub(super) fn owner(field: &'static str, number: i32) -> Result<Option<MembershipOwner>, PeerError> {
    match MembershipOwner::try_from(number) {
        Ok(MembershipOwner::Unspecified) => Ok(None),
        Ok(owner) => Ok(Some(owner)),
        Err(_) => Err(PeerError::bad_field(field, format!("{number} is not known"))),
    }
}

pub(super) fn identity(member: &Member, cluster_id: &str) -> pb::NodeIdentity {
    pb::NodeIdentity {
        cluster_id: cluster_id.to_owned(),
        raft_id: member.raft_id,
        disk_id: member.disk_id.to_string(),
        node_id: member.node_id.to_string(),
        peer_endpoint: member.peer_endpoint.to_string(),
        client_endpoint: member.client_endpoint.to_string(),
    }
}

pub(super) fn membership(membership: &Membership) -> pb::MembershipView {
    let sets = membership.configs.iter();
    let members = membership.members.iter().map(|(raft_id, member)| pb::NodeIdentity {
        cluster_id: String::new(),
        raft_id: *raft_id,
        disk_id: member.disk_id.clone(),
        node_id: member.name.clone(),
        peer_endpoint: member.peer_endpoint.clone(),
        client_endpoint: member.client_endpoint.clone(),
    });
    pb::MembershipView {
        log_id: membership.position.map(log_id),
        committed: membership.committed,
        membership: Some(pb::Membership {
            configs: sets.map(|set| pb::VoterSet { raft_ids: set.iter().copied().collect() }).collect(),
            members: members.collect(),
        }),
    }
}

pub(super) fn settings_to_proto(settings: &ClusterSettings) -> pb::ClusterSettings {
    let time = |ms: u64| duration(Duration::from_millis(ms));
    pb::ClusterSettings {
        version: settings.version,
        default_ttl: time(settings.default_ttl_ms),
        guard: Some(pb::GuardSettings {
            enabled: settings.guard.enabled,
            min_leases: settings.guard.min_leases,
            percent: settings.guard.percent,
            hold: time(settings.guard.hold_ms),
        }),
        dead_member_after: time(settings.dead_member_after_ms),
        promote_after: time(settings.promote_after_ms),
        admission_timeout: time(settings.admission_timeout_ms),
        history: Some(pb::HistorySettings {
            max_events: settings.history.max_events,
            max_bytes: settings.history.max_bytes,
        }),
        quotas: Some(pb::QuotaSettings {
            instances: settings.quotas.instances,
            services: settings.quotas.services,
            instances_per_service: settings.quotas.instances_per_service,
            overrides: settings.quotas.overrides,
            user_data_bytes: settings.quotas.user_data_bytes,
        }),
        // The numbers of the state and of the interface are the same; see the test.
        membership_owner: settings.membership_owner,
        voters_target: settings.voters_target,
    }
}

/// Settings as a caller wants them, every field checked.
pub(super) fn settings_from_proto(settings: &pb::ClusterSettings) -> Result<ClusterSettings, PeerError> {
    let mut violations = Violations::new();
    let mut time = |field: &str, given: Option<prost_types::Duration>| {
        let ms = given.and_then(duration_ms);
        violations.require(ms.is_some(), field, || "must be given, in whole milliseconds".to_owned());
        ms.unwrap_or(0)
    };
    let guard = settings.guard.unwrap_or_default();
    let default_ttl_ms = time("settings.default_ttl", settings.default_ttl);
    let hold_ms = time("settings.guard.hold", guard.hold);
    let dead_member_after_ms = time("settings.dead_member_after", settings.dead_member_after);
    let promote_after_ms = time("settings.promote_after", settings.promote_after);
    let admission_timeout_ms = time("settings.admission_timeout", settings.admission_timeout);
    let (history, quotas) = (settings.history.unwrap_or_default(), settings.quotas.unwrap_or_default());
    let wanted = ClusterSettings {
        version: 0,
        default_ttl_ms,
        guard: GuardSettings {
            enabled: guard.enabled,
            min_leases: guard.min_leases,
            percent: guard.percent,
            hold_ms,
        },
        dead_member_after_ms,
        promote_after_ms,
        admission_timeout_ms,
        history: HistorySettings { max_events: history.max_events, max_bytes: history.max_bytes },
        quotas: QuotaSettings {
            instances: quotas.instances,
            services: quotas.services,
            instances_per_service: quotas.instances_per_service,
            overrides: quotas.overrides,
            user_data_bytes: quotas.user_data_bytes,
        },
        membership_owner: settings.membership_owner,
        voters_target: settings.voters_target,
    };
    let missing = violations.into_result().err().unwrap_or_default();
    let mut broken = Violations::new();
    wanted.check(&mut broken);
    let mut broken = broken.into_result().err().unwrap_or_default();
    // What is not given counted as 0, which says nothing.
    let is_missing = |field: &str| missing.iter().any(|violation| violation.field == public_name(field));
    broken.retain(|violation| !is_missing(&violation.field));
    if missing.is_empty() && broken.is_empty() {
        return Ok(wanted);
    }
    let error = PeerError::new(R::InvalidField, "the settings break rules");
    Err(missing
        .iter()
        .chain(&broken)
        .fold(error, |error, violation| error.field(public_name(&violation.field), with_unit(violation))))
}

/// Without its name a number of milliseconds would say nothing.
fn with_unit(violation: &Violation) -> String {
    let unit = if violation.field.ends_with("_ms") { " (milliseconds)" } else { "" };
    format!("{}{unit}", violation.description)
}

/// The state counts in milliseconds and says so in its names; the interface has durations.
fn public_name(field: &str) -> &str {
    field.strip_suffix("_ms").unwrap_or(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_survive_the_way_out_and_back() {
        let other = ClusterSettings {
            default_ttl_ms: 20_500,
            membership_owner: MembershipOwner::Manual.into(),
            voters_target: 5,
            ..ClusterSettings::DEFAULT
        };
        for settings in [ClusterSettings::DEFAULT, other] {
            let back = settings_from_proto(&settings_to_proto(&settings)).unwrap();
            assert_eq!(back, ClusterSettings { version: 0, ..settings });
        }
    }

    #[test]
    fn all_bad_settings_are_named_at_once() {
        let mut settings = settings_to_proto(&ClusterSettings::DEFAULT);
        settings.voters_target = 4;
        settings.promote_after = Some(prost_types::Duration { seconds: 1_000_000, nanos: 0 });
        settings.membership_owner = 9;
        let error = settings_from_proto(&settings).unwrap_err().to_string();
        for field in ["settings.voters_target", "settings.promote_after:", "settings.membership_owner"] {
            assert!(error.contains(field), "{error}");
        }
        settings.default_ttl = None;
        let error = settings_from_proto(&settings).unwrap_err().to_string();
        for field in
            ["settings.default_ttl: must be given", "settings.voters_target", "settings.membership_owner"]
        {
            assert!(error.contains(field), "{error}");
        }
        assert_eq!(error.matches("settings.default_ttl").count(), 1, "once: {error}");
    }

    #[test]
    fn owners_have_the_same_numbers_inside_and_outside() {
        let pairs = [
            (MembershipOwner::Unspecified, pb::MembershipOwner::Unspecified),
            (MembershipOwner::Autopilot, pb::MembershipOwner::Autopilot),
            (MembershipOwner::Operator, pb::MembershipOwner::Operator),
            (MembershipOwner::Manual, pb::MembershipOwner::Manual),
        ];
        assert!(pairs.iter().all(|(inside, outside)| *inside as i32 == *outside as i32));
        assert!(owner("owner", 4).is_err());
    }
}
