//! Times and enum values in words.

use std::time::Duration;

use registry_proto::v1;

use super::style::Tone;

/// How exact a time is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    /// Whole units that have passed: "3 s", "2 min".
    Coarse,
    /// To the nearest, exact below ten seconds: "250 ms", "1.2 s".
    Fine,
}

/// A time in words: "3 s", "2 min", "5 h", "12 d".
pub(crate) fn duration(time: Duration, round: Round) -> String {
    let ms = time.as_millis();
    let tenths = (ms + 50) / 100;
    match (round, ms) {
        (Round::Fine, 0..1_000) => return format!("{ms} ms"),
        (Round::Fine, _) if tenths < 100 && !tenths.is_multiple_of(10) => {
            return format!("{}.{} s", tenths / 10, tenths % 10);
        }
        _ => {}
    }
    // An age has fully passed; anything else is shown as the nearest second.
    let seconds = if round == Round::Fine { (ms + 500) / 1_000 } else { ms / 1_000 };
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A time of the API in words; a negative one, which the API never sends, counts as 0.
pub(crate) fn proto_duration(time: &prost_types::Duration, round: Round) -> String {
    duration(std_duration(time), round)
}

/// A time of the API.
pub(crate) fn std_duration(time: &prost_types::Duration) -> Duration {
    Duration::try_from(*time).unwrap_or(Duration::ZERO)
}

/// A time to live: exact, as it was given.
pub(crate) fn ttl(time: Option<&prost_types::Duration>) -> String {
    match time.map(std_duration) {
        None => "-".to_owned(),
        Some(Duration::ZERO) => "permanent".to_owned(),
        Some(time) if time.subsec_millis() != 0 => format!("{} ms", time.as_millis()),
        Some(time) if time.as_secs() % 60 == 0 => format!("{} min", time.as_secs() / 60),
        Some(time) => format!("{} s", time.as_secs()),
    }
}

/// Time since a point in time, "-" if it is not known. Clocks differ: a point ahead of ours is "0 s".
pub(crate) fn age(since: Option<&prost_types::Timestamp>, now_unix_s: i64) -> String {
    match since {
        None => "-".to_owned(),
        Some(since) => {
            let seconds = u64::try_from(now_unix_s.saturating_sub(since.seconds)).unwrap_or(0);
            duration(Duration::from_secs(seconds), Round::Coarse)
        }
    }
}

/// The last word of an enum value's name: `INSTANCE_STATE_UP` gives "UP".
fn short(name: &'static str, prefix: &str) -> &'static str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// A state and its tone.
pub(crate) fn state(value: i32) -> (&'static str, Tone) {
    // An unknown value is to be treated as DOWN.
    let state = v1::InstanceState::try_from(value).unwrap_or(v1::InstanceState::Down);
    let tone = match state {
        v1::InstanceState::Up => Tone::Good,
        v1::InstanceState::Starting | v1::InstanceState::Draining => Tone::Attention,
        v1::InstanceState::Down | v1::InstanceState::Unspecified => Tone::Bad,
    };
    (short(state.as_str_name(), "INSTANCE_STATE_"), tone)
}

/// A service's status and its tone.
pub(crate) fn service_status(value: i32) -> (&'static str, Tone) {
    let status = v1::ServiceStatus::try_from(value).unwrap_or(v1::ServiceStatus::Available);
    let tone = match status {
        v1::ServiceStatus::Available => Tone::Good,
        v1::ServiceStatus::Empty | v1::ServiceStatus::Protected => Tone::Attention,
        v1::ServiceStatus::Unknown | v1::ServiceStatus::NoneUp | v1::ServiceStatus::Unspecified => Tone::Bad,
    };
    (short(status.as_str_name(), "SERVICE_STATUS_"), tone)
}

/// A member's health and its tone.
pub(crate) fn health(value: i32) -> (&'static str, Tone) {
    let health = v1::MemberHealth::try_from(value).unwrap_or(v1::MemberHealth::Unknown);
    let (word, tone) = match health {
        v1::MemberHealth::Healthy => ("healthy", Tone::Good),
        v1::MemberHealth::Lagging => ("lagging", Tone::Attention),
        v1::MemberHealth::Unreachable => ("unreachable", Tone::Bad),
        v1::MemberHealth::Dead => ("dead", Tone::Bad),
        v1::MemberHealth::Quarantined => ("quarantined", Tone::Bad),
        v1::MemberHealth::Unknown | v1::MemberHealth::Unspecified => ("unknown", Tone::Attention),
    };
    (word, tone)
}

/// A node's role in Raft.
pub(crate) fn role(value: i32) -> (&'static str, Tone) {
    match v1::NodeRole::try_from(value).unwrap_or(v1::NodeRole::Follower) {
        v1::NodeRole::Leader => ("leader", Tone::Good),
        v1::NodeRole::Follower => ("follower", Tone::Plain),
        v1::NodeRole::Candidate => ("candidate", Tone::Attention),
        v1::NodeRole::Learner => ("learner", Tone::Plain),
        v1::NodeRole::Unspecified => ("-", Tone::Plain),
    }
}

/// Whether a member votes.
pub(crate) fn kind(value: i32) -> &'static str {
    match v1::MemberKind::try_from(value).unwrap_or(v1::MemberKind::Learner) {
        v1::MemberKind::Voter => "voter",
        v1::MemberKind::Learner => "learner",
        v1::MemberKind::Joining => "joining",
        v1::MemberKind::Unspecified => "-",
    }
}

/// Why an instance changed: "lease expired", "deregistered", …
pub(crate) fn cause(value: i32) -> &'static str {
    use v1::EventCause::*;
    match v1::EventCause::try_from(value).unwrap_or(Unspecified) {
        Unspecified => "changed",
        Registered => "registered",
        Replaced => "taken over by another owner",
        StateReported => "state reported",
        OverrideSet => "override set",
        OverrideCleared => "override cleared",
        OverrideExpired => "override expired",
        Protected => "lease ran out, kept by the guard",
        Recovered => "owner is back",
        Expired => "lease expired",
        Deregistered => "deregistered",
        Operator => "removed by an operator",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_the_unit_that_people_use() {
        let cases = [
            (0, "0 ms", "0 s"),
            (250, "250 ms", "0 s"),
            (1_250, "1.3 s", "1 s"),
            (3_000, "3 s", "3 s"),
            (9_960, "10 s", "9 s"),
            (14_998, "15 s", "14 s"),
            (119_499, "119 s", "119 s"),
            (120_000, "2 min", "2 min"),
            (7_199_000, "119 min", "119 min"),
            (7_200_000, "2 h", "2 h"),
            (172_800_000, "2 d", "2 d"),
        ];
        for (ms, fine, coarse) in cases {
            let time = Duration::from_millis(ms);
            assert_eq!(duration(time, Round::Fine), fine);
            assert_eq!(duration(time, Round::Coarse), coarse);
        }
    }

    #[test]
    fn a_ttl_is_shown_as_it_was_given() {
        let proto =
            |ms: i64| prost_types::Duration { seconds: ms / 1_000, nanos: (ms % 1_000) as i32 * 1_000_000 };
        for (ms, text) in
            [(0, "permanent"), (1_500, "1500 ms"), (15_000, "15 s"), (60_000, "1 min"), (90_000, "90 s")]
        {
            assert_eq!(ttl(Some(&proto(ms))), text);
        }
        assert_eq!(ttl(None), "-");
    }

    #[test]
    fn an_age_is_never_negative() {
        let at = prost_types::Timestamp { seconds: 1_000, nanos: 0 };
        assert_eq!(age(Some(&at), 1_003), "3 s");
        assert_eq!(age(Some(&at), 900), "0 s");
        assert_eq!(age(None, 900), "-");
    }
}
