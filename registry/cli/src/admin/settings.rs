//! The settings of a cluster by name: as the configuration file calls them, typed and shown as text.

use std::time::Duration;

use registry_proto::internal::{ClusterSettings, MembershipOwner};

use crate::args::value::duration as parse_duration;
use crate::output::human::std_duration;

/// One setting.
pub(crate) struct Key {
    /// As in `cluster_settings` of the configuration file.
    pub(crate) name: &'static str,
    /// As AdminService names it in its errors.
    path: &'static str,
    /// What it is for.
    pub(crate) meaning: &'static str,
    get: fn(&ClusterSettings) -> Value,
    set: fn(&mut ClusterSettings, &str) -> Result<(), String>,
}

/// A value, by how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Time(Duration),
    Bytes(u64),
    Count(u64),
    Switch(bool),
    Owner(MembershipOwner),
}

/// Declares a setting: how it is written, and where it is in the message.
macro_rules! key {
    ($name:literal, $path:literal, $kind:ident, $($field:ident).+, $meaning:literal) => {
        Key {
            name: $name,
            path: $path,
            meaning: $meaning,
            get: |settings| kinds::$kind::show(&key!(@get settings, $($field).+)),
            set: |settings, text| {
                key!(@set settings, $($field).+, kinds::$kind::parse(text)?);
                Ok(())
            },
        }
    };
    (@get $settings:ident, $field:ident) => { $settings.$field };
    (@get $settings:ident, $group:ident.$field:ident) => {
        $settings.$group.unwrap_or_default().$field
    };
    (@set $settings:ident, $field:ident, $value:expr) => { $settings.$field = $value };
    (@set $settings:ident, $group:ident.$field:ident, $value:expr) => {
        $settings.$group.get_or_insert_default().$field = $value
    };
}

/// All settings, in the order in which they are shown. Their bounds are the business of the registry,
/// which names all that are broken.
#[rustfmt::skip]
pub(crate) const KEYS: [Key; 17] = [
    key!("default_ttl", "default_ttl", time, default_ttl, "time to live of leases whose owner gives none"),
    key!("guard.enabled", "guard.enabled", switch, guard.enabled, "whether there is a mass-expiry guard"),
    key!("guard.min_leases", "guard.min_leases", small, guard.min_leases, "overdue leases from which it takes hold"),
    key!("guard.percent", "guard.percent", small, guard.percent, "share of a service's leases that must be overdue"),
    key!("guard.hold", "guard.hold", time, guard.hold, "how long it holds"),
    key!("dead_member_after", "dead_member_after", time, dead_member_after, "silence after which a member is dead"),
    key!("promote_after", "promote_after", time, promote_after, "time that a learner is caught up before it votes"),
    key!("admission_timeout", "admission_timeout", time, admission_timeout, "time after which an id that nobody took is given up"),
    key!("history.events", "history.max_events", count, history.max_events, "events that a watch can resume over"),
    key!("history.bytes", "history.max_bytes", bytes, history.max_bytes, "and their size; whichever is reached first"),
    key!("quotas.instances", "quotas.instances", count, quotas.instances, "instances of the cluster"),
    key!("quotas.services", "quotas.services", count, quotas.services, "services of the cluster"),
    key!("quotas.instances_per_service", "quotas.instances_per_service", count, quotas.instances_per_service, "instances of one service"),
    key!("quotas.overrides", "quotas.overrides", count, quotas.overrides, "operator overrides"),
    key!("quotas.user_data_bytes", "quotas.user_data_bytes", bytes, quotas.user_data_bytes, "names, metadata and tags together"),
    key!("membership_owner", "membership_owner", owner, membership_owner, "who decides about members"),
    key!("voters_target", "voters_target", small, voters_target, "voters that the cluster works towards"),
];

/// How values are written and read.
mod kinds {
    use super::*;

    pub(super) mod time {
        use super::*;
        pub(crate) fn show(value: &Option<prost_types::Duration>) -> Value {
            Value::Time(value.as_ref().map(std_duration).unwrap_or_default())
        }
        pub(crate) fn parse(text: &str) -> Result<Option<prost_types::Duration>, String> {
            let time = parse_duration(text)?;
            prost_types::Duration::try_from(time).map(Some).map_err(|_| "the time is too long".to_owned())
        }
    }

    pub(super) mod bytes {
        use super::*;
        pub(crate) fn show(value: &u64) -> Value {
            Value::Bytes(*value)
        }
        pub(crate) fn parse(text: &str) -> Result<u64, String> {
            let unit = UNITS.iter().find_map(|(name, bytes)| Some((text.strip_suffix(name)?, *bytes)));
            let (digits, factor) = unit.unwrap_or((text, 1));
            digits
                .trim_end()
                .parse::<u64>()
                .ok()
                .and_then(|number| number.checked_mul(factor))
                .ok_or_else(|| "write a size in bytes, or as 64MiB".to_owned())
        }
    }

    pub(super) mod count {
        use super::*;
        pub(crate) fn show(value: &u64) -> Value {
            Value::Count(*value)
        }
        pub(crate) fn parse(text: &str) -> Result<u64, String> {
            text.parse().map_err(|_| "write a whole number".to_owned())
        }
    }

    pub(super) mod small {
        use super::*;
        pub(crate) fn show(value: &u32) -> Value {
            Value::Count((*value).into())
        }
        pub(crate) fn parse(text: &str) -> Result<u32, String> {
            text.parse().map_err(|_| "write a whole number".to_owned())
        }
    }

    pub(super) mod switch {
        use super::*;
        pub(crate) fn show(value: &bool) -> Value {
            Value::Switch(*value)
        }
        pub(crate) fn parse(text: &str) -> Result<bool, String> {
            text.parse().map_err(|_| "write true or false".to_owned())
        }
    }

    pub(super) mod owner {
        use super::*;
        pub(crate) fn show(value: &i32) -> Value {
            Value::Owner(MembershipOwner::try_from(*value).unwrap_or_default())
        }
        pub(crate) fn parse(text: &str) -> Result<i32, String> {
            let owner = match text {
                "autopilot" => MembershipOwner::Autopilot,
                "operator" => MembershipOwner::Operator,
                "manual" => MembershipOwner::Manual,
                _ => return Err("write autopilot, operator or manual".to_owned()),
            };
            Ok(owner.into())
        }
    }
}

const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl Key {
    /// The value as it can be typed.
    pub(crate) fn show(&self, settings: &ClusterSettings) -> String {
        match (self.get)(settings) {
            Value::Time(time) => exact_time(time),
            Value::Bytes(bytes) => {
                let unit = UNITS.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
                unit.map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
            }
            Value::Count(number) => number.to_string(),
            Value::Switch(on) => on.to_string(),
            Value::Owner(MembershipOwner::Unspecified) => "-".to_owned(),
            Value::Owner(owner) => {
                owner.as_str_name().trim_start_matches("MEMBERSHIP_OWNER_").to_ascii_lowercase()
            }
        }
    }
}

/// Exact, in the largest unit that is: "90s", "5min", "1500ms".
fn exact_time(time: Duration) -> String {
    match (time.as_secs(), time.subsec_nanos()) {
        (0, 0) => "0s".to_owned(),
        (_, nanos) if nanos != 0 => format!("{}ms", time.as_millis()),
        (seconds, _) if seconds.is_multiple_of(3_600) => format!("{}h", seconds / 3_600),
        (seconds, _) if seconds.is_multiple_of(60) => format!("{}min", seconds / 60),
        (seconds, _) => format!("{seconds}s"),
    }
}

/// What goes wrong with `KEY=VALUE`: the key, and why.
pub(crate) type Problem = (String, String);

/// Changes settings as typed; tells everything that is wrong at once.
pub(crate) fn apply(
    settings: &ClusterSettings,
    changes: &[(String, String)],
) -> Result<ClusterSettings, Vec<Problem>> {
    let mut settings = *settings;
    let mut problems = Vec::new();
    for (index, (name, text)) in changes.iter().enumerate() {
        let outcome = match KEYS.iter().find(|key| key.name == name || key.path == name) {
            None => Err("no such setting; `settings get` lists them".to_owned()),
            Some(_) if changes[..index].iter().any(|(earlier, _)| earlier == name) => {
                Err("is given twice".to_owned())
            }
            Some(key) => (key.set)(&mut settings, text).map_err(|problem| format!("{text:?}: {problem}")),
        };
        if let Err(problem) = outcome {
            problems.push((name.clone(), problem));
        }
    }
    if problems.is_empty() { Ok(settings) } else { Err(problems) }
}

/// The settings that begin so; all without a beginning. Tells what fits nothing.
pub(crate) fn select(beginnings: &[String]) -> Result<Vec<&'static Key>, Vec<Problem>> {
    let fits = |key: &Key, beginning: &str| {
        let rest = key.name.strip_prefix(beginning).or_else(|| key.path.strip_prefix(beginning));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || beginning.ends_with('.'))
    };
    let nothing: Vec<Problem> = beginnings
        .iter()
        .filter(|beginning| !KEYS.iter().any(|key| fits(key, beginning)))
        .map(|beginning| (beginning.clone(), "no such setting; `settings get` lists them".to_owned()))
        .collect();
    if !nothing.is_empty() {
        return Err(nothing);
    }
    let wanted =
        |key: &&Key| beginnings.is_empty() || beginnings.iter().any(|beginning| fits(key, beginning));
    Ok(KEYS.iter().filter(wanted).collect())
}

/// The name of a setting that an error of the registry names by its path.
pub(crate) fn key_of(path: &str) -> String {
    let bare = path.strip_prefix("settings.").unwrap_or(path);
    let bare = bare.strip_suffix("_ms").unwrap_or(bare);
    KEYS.iter().find(|key| key.path == bare).map_or_else(|| bare.to_owned(), |key| key.name.to_owned())
}

#[cfg(test)]
#[path = "settings_test.rs"]
pub(crate) mod tests;
