use std::sync::Arc;

use registry_state::{Protection, ServiceKey};

use super::*;
use crate::error::Error;

fn instance(id: &str, state: InstanceState) -> InstanceRecord {
    let content = Content {
        host: "h".into(),
        port: 1,
        weight: 100,
        zone: "z1".into(),
        metadata: Box::new([("env".into(), "prod".into()), ("version".into(), "2".into())]),
        tags: Box::new(["blue".into(), "edge".into()]),
        ports: Box::new([]),
    };
    InstanceRecord {
        service: Arc::new(ServiceKey::new("default", "s")),
        instance_id: id.into(),
        content: Arc::new(content),
        reported_state: state,
        ttl_ms: 15_000,
        revision: 1,
        incarnation: 1,
        lease_id: 1,
        registered_at_unix_s: 0,
        client: "".into(),
        operator_override: None,
        protection: None,
    }
}

fn filter(filter: v1::InstanceFilter) -> Filter {
    let mut check = Checker::default();
    let filter = Filter::new(&mut check, Some(filter));
    check.finish(filter).unwrap()
}

fn paths(filter: v1::InstanceFilter) -> Vec<String> {
    let mut check = Checker::default();
    let filter = Filter::new(&mut check, Some(filter));
    match check.finish(filter) {
        Err(Error::InvalidField(bad)) => bad.into_iter().map(|field| field.path).collect(),
        Ok(_) => Vec::new(),
        Err(other) => panic!("{other}"),
    }
}

fn rule(key: &str, op: v1::MetadataOperator, values: &[&str]) -> v1::InstanceFilter {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    let rule = v1::MetadataRule { key: key.into(), op: op as i32, values };
    v1::InstanceFilter { metadata_rules: vec![rule], ..Default::default() }
}

#[test]
fn an_empty_filter_lets_every_state_through() {
    let all = filter(v1::InstanceFilter::default());
    assert!(all.is_empty() && Filter::default().is_empty());
    for state in [InstanceState::Starting, InstanceState::Up, InstanceState::Draining, InstanceState::Down] {
        assert!(all.matches(&instance("a", state)));
    }
}

#[test]
fn each_condition_is_looked_at() {
    let up = instance("a", InstanceState::Up);
    let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let of = |condition: v1::InstanceFilter| filter(condition).matches(&up);

    assert!(of(v1::InstanceFilter { states: vec![2, 3], ..Default::default() }));
    assert!(!of(v1::InstanceFilter { states: vec![3, 4], ..Default::default() }));
    assert!(of(v1::InstanceFilter { zones: strings(&["z0", "z1"]), ..Default::default() }));
    assert!(!of(v1::InstanceFilter { zones: strings(&["z0"]), ..Default::default() }));
    assert!(of(v1::InstanceFilter { tags: strings(&["edge", "blue"]), ..Default::default() }));
    assert!(!of(v1::InstanceFilter { tags: strings(&["edge", "red"]), ..Default::default() }));
    assert!(of(v1::InstanceFilter { instance_ids: strings(&["z", "a", "b"]), ..Default::default() }));
    assert!(!of(v1::InstanceFilter { instance_ids: strings(&["aa"]), ..Default::default() }));
    let pair = |value: &str| [("env".to_owned(), value.to_owned())].into();
    assert!(of(v1::InstanceFilter { metadata: pair("prod"), ..Default::default() }));
    assert!(!of(v1::InstanceFilter { metadata: pair("test"), ..Default::default() }));
}

#[test]
fn metadata_rules_do_as_they_say() {
    use v1::MetadataOperator::{Exists, In, NotExists, NotIn};
    let up = instance("a", InstanceState::Up);
    let of = |condition: v1::InstanceFilter| filter(condition).matches(&up);
    assert!(of(rule("env", In, &["test", "prod"])));
    assert!(!of(rule("env", In, &["test"])));
    assert!(!of(rule("absent", In, &["test"])));
    assert!(!of(rule("env", NotIn, &["prod"])));
    assert!(of(rule("absent", NotIn, &["prod"])));
    assert!(of(rule("env", Exists, &[])) && !of(rule("absent", Exists, &[])));
    assert!(of(rule("absent", NotExists, &[])) && !of(rule("env", NotExists, &[])));
}

#[test]
fn all_conditions_must_hold() {
    let mut condition = v1::InstanceFilter { states: vec![2], ..Default::default() };
    condition.zones = vec!["elsewhere".into()];
    assert!(!filter(condition).matches(&instance("a", InstanceState::Up)));
}

#[test]
fn what_only_the_guard_keeps_can_be_left_out() {
    let mut kept = instance("a", InstanceState::Up);
    kept.protection = Some(Arc::new(Protection { silent_for_ms: 1, since_unix_ms: 1 }));
    let out = filter(v1::InstanceFilter { exclude_protected: true, ..Default::default() });
    assert!(!out.matches(&kept));
    assert!(out.matches(&instance("a", InstanceState::Up)));
    assert!(Filter::default().matches(&kept));
}

#[test]
fn a_filter_is_bounded() {
    use v1::MetadataOperator::{Exists, In, Unspecified};
    let many = |count: usize| (0..count).map(|number| format!("v{number}")).collect::<Vec<_>>();
    assert_eq!(paths(v1::InstanceFilter { states: vec![2; 5], ..Default::default() }), ["filter.states"]);
    assert_eq!(paths(v1::InstanceFilter { zones: many(17), ..Default::default() }), ["filter.zones"]);
    assert_eq!(paths(v1::InstanceFilter { tags: many(17), ..Default::default() }), ["filter.tags"]);
    let ids = v1::InstanceFilter { instance_ids: many(1_025), ..Default::default() };
    assert_eq!(paths(ids), ["filter.instance_ids"]);
    assert_eq!(paths(v1::InstanceFilter { states: vec![0], ..Default::default() }), ["filter.states[0]"]);
    assert_eq!(paths(v1::InstanceFilter { states: vec![7], ..Default::default() }), ["filter.states[0]"]);

    assert_eq!(paths(rule("k", In, &[])), ["filter.metadata_rules[0].values"]);
    assert_eq!(paths(rule("k", In, &["v"; 17])), ["filter.metadata_rules[0].values"]);
    assert_eq!(paths(rule("k", Exists, &["v"])), ["filter.metadata_rules[0].values"]);
    assert_eq!(paths(rule("k", Unspecified, &[])), ["filter.metadata_rules[0].op"]);
    assert_eq!(paths(rule("", Exists, &[])), ["filter.metadata_rules[0].key"]);
    let mut unknown = rule("k", Exists, &[]);
    unknown.metadata_rules[0].op = 99;
    assert_eq!(paths(unknown), ["filter.metadata_rules[0].op"]);
}
