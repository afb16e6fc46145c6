use std::collections::BTreeMap;

use super::*;

fn minimal() -> v1::ServiceRegisterRequest {
    v1::ServiceRegisterRequest {
        service_name: "orders".into(),
        host: "127.0.0.1".into(),
        port: 7001,
        ..Default::default()
    }
}

fn paths<T>(result: Result<T, Error>) -> Vec<String> {
    match result {
        Ok(_) => Vec::new(),
        Err(Error::InvalidField(bad)) => bad.into_iter().map(|field| field.path).collect(),
        Err(other) => panic!("{other}"),
    }
}

fn registration_of(request: v1::ServiceRegisterRequest) -> Registration {
    match register(request).unwrap().operation {
        Operation::Register(register) => register.registration.unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Asserts that a request with this change is refused for exactly this field.
fn refused(path: &str, change: impl FnOnce(&mut v1::ServiceRegisterRequest)) {
    let mut request = minimal();
    change(&mut request);
    assert_eq!(paths(register(request)), [path]);
}

/// Asserts that a request with this change is taken.
fn taken(change: impl FnOnce(&mut v1::ServiceRegisterRequest)) {
    let mut request = minimal();
    change(&mut request);
    assert_eq!(paths(register(request)), [""; 0]);
}

fn pairs(count: usize) -> BTreeMap<String, String> {
    (0..count).map(|number| (format!("key{number}"), String::new())).collect()
}

#[test]
fn service_host_and_port_suffice() {
    let registration = registration_of(minimal());
    assert_eq!(registration.namespace, "default");
    assert_eq!(registration.instance_id, "127.0.0.1:7001");
    assert_eq!(registration.weight, Some(100));
    assert_eq!((registration.ttl_ms, registration.state, registration.lease_id), (None, 0, 0));
}

#[test]
fn an_empty_request_names_all_that_is_missing() {
    assert_eq!(paths(register(v1::ServiceRegisterRequest::default())), ["service_name", "host", "port"]);
}

#[test]
fn every_bad_field_is_named_at_once() {
    let request = v1::ServiceRegisterRequest {
        service_name: "a/b".into(),
        host: "h:1".into(),
        port: 70_000,
        namespace: "-".into(),
        instance_id: "a b".into(),
        state: 9,
        weight: Some(65_536),
        zone: "z z".into(),
        metadata: [("a b".into(), "x\0".into())].into(),
        tags: vec![String::new()],
        ports: [("grpc".into(), v1::Port { port: 0 })].into(),
        ttl: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
        request_id: Some(v1::RequestId::default()),
        ..Default::default()
    };
    let expected = [
        "request_id.client",
        "request_id.serial",
        "service_name",
        "host",
        "port",
        "namespace",
        "instance_id",
        "state",
        "weight",
        "zone",
        "metadata[a b]",
        "metadata[a b]",
        "tags[0]",
        "ports[grpc].port",
        "ttl",
    ];
    assert_eq!(paths(register(request)), expected);
}

#[test]
fn names_and_ids_have_their_longest_length() {
    taken(|request| request.service_name = "s".repeat(253));
    refused("service_name", |request| request.service_name = "s".repeat(254));
    refused("service_name", |request| request.service_name = "s".repeat(1 << 20));
    taken(|request| request.instance_id = "i".repeat(260));
    refused("instance_id", |request| request.instance_id = "i".repeat(261));
    refused("instance_id", |request| request.instance_id = "a/b".into());
    refused("instance_id", |request| request.instance_id = "a\u{202e}b".into());
    refused("namespace", |request| request.namespace = "n".repeat(254));
    refused("zone", |request| request.zone = "z".repeat(254));
    refused("host", |request| request.host = format!("{}.a", "h".repeat(252)));
}

#[test]
fn numbers_have_their_range() {
    taken(|request| request.port = 65_535);
    refused("port", |request| request.port = 65_536);
    refused("port", |request| request.port = u32::MAX);
    taken(|request| request.weight = Some(0));
    taken(|request| request.weight = Some(65_535));
    refused("weight", |request| request.weight = Some(65_536));
    refused("state", |request| request.state = 5);
    refused("state", |request| request.state = i32::MIN);
    taken(|request| request.state = 4);
}

#[test]
fn a_time_to_live_is_permanent_or_a_second_to_an_hour() {
    let ttl = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    for (seconds, nanos) in [(1, 0), (3_600, 0), (1, 1_000_000), (0, 0)] {
        taken(|request| request.ttl = ttl(seconds, nanos));
    }
    for (seconds, nanos) in
        [(0, 999_000_000), (3_600, 1_000_000), (-1, 0), (1, 1), (0, -1), (i64::MAX, 0), (i64::MIN, 0)]
    {
        refused("ttl", |request| request.ttl = ttl(seconds, nanos));
    }
    let mut request = minimal();
    request.ttl = ttl(0, 0);
    assert_eq!(registration_of(request).ttl_ms, Some(0));
}

#[test]
fn metadata_is_bounded_in_number_and_in_bytes() {
    taken(|request| request.metadata = pairs(64));
    refused("metadata", |request| request.metadata = pairs(65));
    taken(|request| request.metadata = [("k".into(), "v".repeat(8_191))].into());
    refused("metadata", |request| {
        request.metadata = [("k".into(), "v".repeat(4_096)), ("l".into(), "v".repeat(4_095))].into();
    });
    taken(|request| request.metadata = [("k".repeat(128), String::new())].into());
    let long = format!("metadata[{}...]", "k".repeat(32));
    refused(&long, |request| request.metadata = [("k".repeat(129), String::new())].into());
    refused("metadata[]", |request| request.metadata = [(String::new(), String::new())].into());
    refused("metadata[k]", |request| request.metadata = [("k".into(), "a\u{7}b".into())].into());
    taken(|request| request.metadata = [("k".into(), "Grüße".into())].into());
}

#[test]
fn tags_are_a_bounded_set() {
    taken(|request| request.tags = (0..64).map(|number| number.to_string()).collect());
    refused("tags", |request| request.tags = (0..65).map(|number| number.to_string()).collect());
    taken(|request| request.tags = vec!["same".into(); 200]);
    taken(|request| request.tags = vec!["t".repeat(128)]);
    refused("tags[1]", |request| request.tags = vec!["a".into(), "t".repeat(129)]);
    refused("tags[0]", |request| request.tags = vec!["a\nb".into()]);
}

#[test]
fn ports_are_a_bounded_map_of_names() {
    let ports = |count: u32| (1..=count).map(|port| (format!("p{port}"), v1::Port { port })).collect();
    taken(|request| request.ports = ports(32));
    refused("ports", |request| request.ports = ports(33));
    refused("ports[a b]", |request| request.ports = [("a b".into(), v1::Port { port: 1 })].into());
    refused("ports[m].port", |request| request.ports = [("m".into(), v1::Port { port: 65_536 })].into());
}

#[test]
fn order_and_duplicates_of_tags_do_not_change_the_hash() {
    let hash = |tags: &[&str], serial| {
        let mut request = minimal();
        request.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        request.request_id = Some(v1::RequestId { client: "c".into(), serial, done_below: 0 });
        register(request).unwrap().request.unwrap().hash
    };
    assert_eq!(hash(&["b", "a", "b"], 1), hash(&["a", "b"], 2));
    assert_ne!(hash(&["a"], 1), hash(&["a", "b"], 1));
}

#[test]
fn what_is_left_out_hashes_like_its_default() {
    let hash = |change: fn(&mut v1::ServiceRegisterRequest)| {
        let mut request = minimal();
        request.request_id = Some(v1::RequestId { client: "c".into(), serial: 1, done_below: 0 });
        change(&mut request);
        register(request).unwrap().request.unwrap().hash
    };
    let plain = hash(|_| ());
    assert_eq!(plain, hash(|request| request.namespace = "default".into()));
    assert_eq!(plain, hash(|request| request.instance_id = "127.0.0.1:7001".into()));
    assert_eq!(plain, hash(|request| request.weight = Some(100)));
    assert_ne!(plain, hash(|request| request.weight = Some(99)));
}

fn batch(entries: Vec<v1::ServiceRegisterRequest>) -> v1::BatchRegisterRequest {
    v1::BatchRegisterRequest { registrations: entries, ..Default::default() }
}

#[test]
fn a_batch_has_1_to_1024_entries() {
    let entries = |count: u32| {
        (1..=count).map(|port| v1::ServiceRegisterRequest { port, ..minimal() }).collect::<Vec<_>>()
    };
    assert_eq!(paths(batch_register(batch(entries(0)))), ["registrations"]);
    assert!(batch_register(batch(entries(1_024))).is_ok());
    assert_eq!(paths(batch_register(batch(entries(1_025)))), ["registrations"]);
}

#[test]
fn entries_of_a_batch_are_named_by_their_position() {
    let mut bad = minimal();
    bad.port = 0;
    bad.lease_id = 7;
    bad.ttl = Some(prost_types::Duration::default());
    bad.request_id = Some(v1::RequestId::default());
    let expected = ["lease_id", "request_id", "ttl", "port"].map(|field| format!("registrations[1].{field}"));
    assert_eq!(paths(batch_register(batch(vec![minimal(), bad]))), expected);
}

#[test]
fn the_same_instance_twice_in_a_batch_is_refused() {
    let mut other_namespace = minimal();
    other_namespace.namespace = "other".into();
    assert!(batch_register(batch(vec![minimal(), other_namespace])).is_ok());
    let mut by_id = minimal();
    by_id.instance_id = "127.0.0.1:7001".into();
    assert_eq!(paths(batch_register(batch(vec![minimal(), by_id]))), ["registrations[1].instance_id"]);
}
