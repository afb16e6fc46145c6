//! Replicated settings of the cluster (P/S1): the same on every node, changed through the log.

use prost::Message;

use crate::limits::{TTL_MS_MAX, TTL_MS_MIN};
use crate::validate::Violations;

/// Who decides about members (P/N7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum MembershipOwner {
    /// Not given.
    Unspecified = 0,
    /// The leader itself.
    Autopilot = 1,
    /// The Kubernetes operator.
    Operator = 2,
    /// A person with `registryctl`.
    Manual = 3,
}

/// The settings. Times are in milliseconds.
#[derive(Clone, PartialEq, Message)]
pub struct ClusterSettings {
    /// Rises by one with each change; the first settings have version 1. Ignored in commands.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// Time to live of leases whose owner gives none, 1 s to 1 h.
    #[prost(uint64, tag = "2")]
    pub default_ttl_ms: u64,
    /// The mass-expiry guard (P/L6).
    #[prost(message, required, tag = "3")]
    pub guard: GuardSettings,
    /// Silence after which a member counts as dead (P/N6), 1 s to 24 h.
    #[prost(uint64, tag = "4")]
    pub dead_member_after_ms: u64,
    /// Time that a learner must be caught up before it gets a vote (P/N4), 0 to 1 h.
    #[prost(uint64, tag = "5")]
    pub promote_after_ms: u64,
    /// Time after which an id that never joined is removed (P/N4), 1 s to 24 h.
    #[prost(uint64, tag = "6")]
    pub admission_timeout_ms: u64,
    /// How much history is kept (P/V3).
    #[prost(message, required, tag = "7")]
    pub history: HistorySettings,
    /// What clients may fill.
    #[prost(message, required, tag = "8")]
    pub quotas: QuotaSettings,
    /// Who decides about members (P/N7).
    #[prost(enumeration = "MembershipOwner", tag = "9")]
    pub membership_owner: i32,
    /// Voters that the owner of the membership works towards: 1, 3, 5 or 7.
    #[prost(uint32, tag = "10")]
    pub voters_target: u32,
}

/// When the mass-expiry guard takes hold of a service, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct GuardSettings {
    /// Whether there is a guard at all.
    #[prost(bool, tag = "1")]
    pub enabled: bool,
    /// Overdue leases from which it takes hold, 1 to 100,000.
    #[prost(uint32, tag = "2")]
    pub min_leases: u32,
    /// Share of the service's leases that must be overdue, 1 to 100 percent.
    #[prost(uint32, tag = "3")]
    pub percent: u32,
    /// How long it holds, 1 s to 24 h.
    #[prost(uint64, tag = "4")]
    pub hold_ms: u64,
}

/// Bounds of the history; whichever is reached first counts, and the newest revision always stays.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct HistorySettings {
    /// Events, 1 to 1,000,000.
    #[prost(uint64, tag = "1")]
    pub max_events: u64,
    /// Bytes, 1 to 1 GiB.
    #[prost(uint64, tag = "2")]
    pub max_bytes: u64,
}

/// Quotas of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct QuotaSettings {
    /// Instances, 1 to 10,000,000.
    #[prost(uint64, tag = "1")]
    pub instances: u64,
    /// Services, 1 to 1,000,000.
    #[prost(uint64, tag = "2")]
    pub services: u64,
    /// Instances of one service, 1 to 1,000,000.
    #[prost(uint64, tag = "3")]
    pub instances_per_service: u64,
    /// Overrides, 0 to 1,000,000.
    #[prost(uint64, tag = "4")]
    pub overrides: u64,
    /// Bytes of user data, 1 to 64 GiB; see `InstanceRecord::user_data_bytes`.
    #[prost(uint64, tag = "5")]
    pub user_data_bytes: u64,
}

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;
const GIB: u64 = 1 << 30;

impl ClusterSettings {
    /// The settings of a cluster that is founded without any (P/S1). Not the same as `default()`, which
    /// protobuf wants to be all zeros.
    pub const DEFAULT: Self = Self {
        version: 1,
        default_ttl_ms: 15 * SECOND_MS,
        guard: GuardSettings { enabled: true, min_leases: 5, percent: 50, hold_ms: 5 * MINUTE_MS },
        dead_member_after_ms: MINUTE_MS,
        promote_after_ms: 10 * SECOND_MS,
        admission_timeout_ms: 10 * MINUTE_MS,
        history: HistorySettings { max_events: 65_536, max_bytes: 64 << 20 },
        quotas: QuotaSettings {
            instances: 1_000_000,
            services: 100_000,
            instances_per_service: 100_000,
            overrides: 100_000,
            user_data_bytes: 512 << 20,
        },
        membership_owner: MembershipOwner::Autopilot as i32,
        voters_target: 3,
    };

    /// Checks every field; paths begin with `settings.`.
    pub fn check(&self, violations: &mut Violations) {
        let mut range = |field: &str, value: u64, min: u64, max: u64| {
            violations
                .require(value >= min && value <= max, field, || format!("{value} is not in {min}..={max}"));
        };
        range("settings.default_ttl_ms", self.default_ttl_ms, TTL_MS_MIN, TTL_MS_MAX);
        range("settings.guard.min_leases", self.guard.min_leases.into(), 1, 100_000);
        range("settings.guard.percent", self.guard.percent.into(), 1, 100);
        range("settings.guard.hold_ms", self.guard.hold_ms, SECOND_MS, DAY_MS);
        range("settings.dead_member_after_ms", self.dead_member_after_ms, SECOND_MS, DAY_MS);
        range("settings.promote_after_ms", self.promote_after_ms, 0, 60 * MINUTE_MS);
        range("settings.admission_timeout_ms", self.admission_timeout_ms, SECOND_MS, DAY_MS);
        range("settings.history.max_events", self.history.max_events, 1, 1_000_000);
        range("settings.history.max_bytes", self.history.max_bytes, 1, GIB);
        range("settings.quotas.instances", self.quotas.instances, 1, 10_000_000);
        range("settings.quotas.services", self.quotas.services, 1, 1_000_000);
        range("settings.quotas.instances_per_service", self.quotas.instances_per_service, 1, 1_000_000);
        range("settings.quotas.overrides", self.quotas.overrides, 0, 1_000_000);
        range("settings.quotas.user_data_bytes", self.quotas.user_data_bytes, 1, 64 * GIB);
        violations.require(self.owner() != MembershipOwner::Unspecified, "settings.membership_owner", || {
            "must be autopilot, operator or manual".into()
        });
        violations.require(matches!(self.voters_target, 1 | 3 | 5 | 7), "settings.voters_target", || {
            format!("{} is not 1, 3, 5 or 7", self.voters_target)
        });
    }

    /// The settings that are not the same in `other`, by name; the version is none.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let (guard, history, quotas) = (&self.guard, &self.history, &self.quotas);
        let same = [
            ("default_ttl", self.default_ttl_ms == other.default_ttl_ms),
            ("guard.enabled", guard.enabled == other.guard.enabled),
            ("guard.min_leases", guard.min_leases == other.guard.min_leases),
            ("guard.percent", guard.percent == other.guard.percent),
            ("guard.hold", guard.hold_ms == other.guard.hold_ms),
            ("dead_member_after", self.dead_member_after_ms == other.dead_member_after_ms),
            ("promote_after", self.promote_after_ms == other.promote_after_ms),
            ("admission_timeout", self.admission_timeout_ms == other.admission_timeout_ms),
            ("history.events", history.max_events == other.history.max_events),
            ("history.bytes", history.max_bytes == other.history.max_bytes),
            ("quotas.instances", quotas.instances == other.quotas.instances),
            ("quotas.services", quotas.services == other.quotas.services),
            (
                "quotas.instances_per_service",
                quotas.instances_per_service == other.quotas.instances_per_service,
            ),
            ("quotas.overrides", quotas.overrides == other.quotas.overrides),
            ("quotas.user_data_bytes", quotas.user_data_bytes == other.quotas.user_data_bytes),
            ("membership_owner", self.membership_owner == other.membership_owner),
            ("voters_target", self.voters_target == other.voters_target),
        ];
        same.iter().filter(|(_, same)| !same).map(|(name, _)| *name).collect()
    }

    /// Who decides about members; a number that is not known is `Unspecified`.
    pub fn owner(&self) -> MembershipOwner {
        MembershipOwner::try_from(self.membership_owner).unwrap_or(MembershipOwner::Unspecified)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number with its bounds, its place and its name.
    type Bound = (&'static str, u64, u64, fn(&mut ClusterSettings, u64));

    const BOUNDS: [Bound; 14] = [
        ("default_ttl_ms", 1_000, 3_600_000, |settings, value| settings.default_ttl_ms = value),
        ("guard.min_leases", 1, 100_000, |settings, value| settings.guard.min_leases = value as u32),
        ("guard.percent", 1, 100, |settings, value| settings.guard.percent = value as u32),
        ("guard.hold_ms", 1_000, 86_400_000, |settings, value| settings.guard.hold_ms = value),
        ("dead_member_after_ms", 1_000, 86_400_000, |settings, value| settings.dead_member_after_ms = value),
        ("promote_after_ms", 0, 3_600_000, |settings, value| settings.promote_after_ms = value),
        ("admission_timeout_ms", 1_000, 86_400_000, |settings, value| settings.admission_timeout_ms = value),
        ("history.max_events", 1, 1_000_000, |settings, value| settings.history.max_events = value),
        ("history.max_bytes", 1, 1 << 30, |settings, value| settings.history.max_bytes = value),
        ("quotas.instances", 1, 10_000_000, |settings, value| settings.quotas.instances = value),
        ("quotas.services", 1, 1_000_000, |settings, value| settings.quotas.services = value),
        ("quotas.instances_per_service", 1, 1_000_000, |settings, value| {
            settings.quotas.instances_per_service = value;
        }),
        ("quotas.overrides", 0, 1_000_000, |settings, value| settings.quotas.overrides = value),
        ("quotas.user_data_bytes", 1, 64 << 30, |settings, value| settings.quotas.user_data_bytes = value),
    ];

    fn bad(settings: &ClusterSettings) -> Vec<String> {
        let mut violations = Violations::new();
        settings.check(&mut violations);
        let list = violations.into_result().err().unwrap_or_default();
        list.into_iter().map(|violation| violation.field).collect()
    }

    #[test]
    fn the_defaults_keep_all_bounds() {
        assert_eq!(bad(&ClusterSettings::DEFAULT), Vec::<String>::new());
    }

    #[test]
    fn every_number_is_taken_up_to_its_bounds_and_refused_by_its_name_beyond() {
        for (name, min, max, set) in BOUNDS {
            for (value, is_good) in
                [(min, true), (max, true), (max + 1, false), (min.wrapping_sub(1), min == 0)]
            {
                // Below 0 there is nothing to refuse.
                if min == 0 && value == u64::MAX {
                    continue;
                }
                let mut settings = ClusterSettings::DEFAULT;
                set(&mut settings, value);
                let expected = if is_good { vec![] } else { vec![format!("settings.{name}")] };
                assert_eq!(bad(&settings), expected, "{name} = {value}");
            }
        }
    }

    #[test]
    fn all_that_is_wrong_is_named_at_once() {
        let mut settings =
            ClusterSettings { membership_owner: 0, voters_target: 2, ..ClusterSettings::DEFAULT };
        for (_, _, max, set) in BOUNDS {
            set(&mut settings, max + 1);
        }
        assert_eq!(bad(&settings).len(), BOUNDS.len() + 2);
        for target in 0..10 {
            let settings = ClusterSettings { voters_target: target, ..ClusterSettings::DEFAULT };
            assert_eq!(bad(&settings).is_empty(), [1, 3, 5, 7].contains(&target), "{target}");
        }
    }

    #[test]
    fn a_difference_is_told_for_each_setting_and_not_for_the_version() {
        let own = ClusterSettings { version: 9, ..ClusterSettings::DEFAULT };
        assert_eq!(own.differences(&ClusterSettings::DEFAULT), Vec::<&str>::new());
        let mut other = ClusterSettings {
            guard: GuardSettings { enabled: false, ..own.guard },
            membership_owner: MembershipOwner::Manual.into(),
            voters_target: 7,
            ..own
        };
        for (_, min, max, set) in BOUNDS {
            set(&mut other, if min == 0 { max } else { min });
        }
        assert_eq!(own.differences(&other).len(), BOUNDS.len() + 3);
    }
}
