use super::*;
use registry_proto::internal::{GuardSettings, HistorySettings, QuotaSettings};

pub(crate) fn defaults() -> ClusterSettings {
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    ClusterSettings {
        version: 1,
        default_ttl: seconds(15),
        guard: Some(GuardSettings { enabled: true, min_leases: 5, percent: 50, hold: seconds(300) }),
        dead_member_after: seconds(60),
        promote_after: seconds(10),
        admission_timeout: seconds(600),
        history: Some(HistorySettings { max_events: 65_536, max_bytes: 64 << 20 }),
        quotas: Some(QuotaSettings {
            instances: 1_000_000,
            services: 100_000,
            instances_per_service: 100_000,
            overrides: 100_000,
            user_data_bytes: 512 << 20,
        }),
        membership_owner: MembershipOwner::Autopilot.into(),
        voters_target: 3,
    }
}

fn changes(text: &str) -> Vec<(String, String)> {
    text.split_whitespace()
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}

#[test]
fn every_value_is_shown_as_it_can_be_typed_and_reaches_its_own_field() {
    let other = "default_ttl=90s guard.enabled=false guard.min_leases=7 guard.percent=60 guard.hold=2h \
        dead_member_after=1500ms promote_after=0s admission_timeout=5min history.events=1000 \
        history.bytes=3KiB quotas.instances=11 quotas.services=12 quotas.instances_per_service=13 \
        quotas.overrides=0 quotas.user_data_bytes=1GiB membership_owner=manual voters_target=5";
    let wanted = changes(other);
    assert_eq!(wanted.len(), KEYS.len(), "a setting is missing above");
    for (number, (name, text)) in wanted.iter().enumerate() {
        let changed = apply(&defaults(), &wanted[number..=number]).unwrap();
        for key in &KEYS {
            let expected = if key.name == name { text.clone() } else { key.show(&defaults()) };
            assert_eq!(key.show(&changed), expected, "{} after {name}={text}", key.name);
        }
    }
    let all = apply(&defaults(), &wanted).unwrap();
    let shown: Vec<_> = KEYS.iter().map(|key| (key.name.to_owned(), key.show(&all))).collect();
    assert_eq!(shown, wanted);
    assert_eq!(apply(&defaults(), &shown).unwrap(), all);
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let wrong = changes(
        "default_ttl=soon quotas.services=many history.bytes=3MB guard.enabled=on membership_owner=me \
         colour=blue voters_target=3 voters_target=5",
    );
    let problems = apply(&defaults(), &wrong).unwrap_err();
    let names: Vec<_> = problems.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "default_ttl",
            "quotas.services",
            "history.bytes",
            "guard.enabled",
            "membership_owner",
            "colour",
            "voters_target"
        ]
    );
    assert!(problems[0].1.contains("5s"), "{problems:?}");
    assert!(problems[5].1.contains("settings get"), "{problems:?}");
}

#[test]
fn a_group_or_a_single_setting_can_be_selected() {
    let names = |beginnings: &[&str]| -> Vec<&str> {
        let beginnings: Vec<String> = beginnings.iter().map(|text| (*text).into()).collect();
        select(&beginnings).unwrap().iter().map(|key| key.name).collect()
    };
    assert_eq!(names(&[]).len(), KEYS.len());
    assert_eq!(names(&["history"]), ["history.events", "history.bytes"]);
    assert_eq!(names(&["voters_target", "default_ttl"]), ["default_ttl", "voters_target"]);
    assert_eq!(select(&["hist".to_owned()]).err().unwrap()[0].0, "hist");
}

#[test]
fn errors_of_the_registry_are_told_by_the_name_that_was_typed() {
    for (path, name) in [
        ("settings.history.max_events", "history.events"),
        ("settings.default_ttl", "default_ttl"),
        ("settings.guard.hold_ms", "guard.hold"),
        ("peer_endpoint", "peer_endpoint"),
    ] {
        assert_eq!(key_of(path), name);
    }
}
