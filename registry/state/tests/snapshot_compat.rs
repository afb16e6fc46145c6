//! Snapshots that earlier programs wrote must load for ever.
//!
//! `tests/data/state-vN.records` is the sequence of records, each with its length (4 bytes, big endian)
//! before it, of the state that `rich_state` makes. `REWRITE=1` writes the file of the present format if it
//! is missing; a file that is there is never changed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and reads its files"
)]

use std::path::{Path, PathBuf};

use registry_state::*;

fn path(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/state-v{format}.records"))
}

#[test]
fn a_snapshot_of_format_1_loads_with_everything_in_it() {
    if std::env::var_os("REWRITE").is_some() && !path(1).exists() {
        write(&path(1), &rich_state());
    }
    let state = read(&path(1)).unwrap();
    state.check_invariants().unwrap();

    assert_eq!(state.cluster_id(), Some("5d2c0ed1-6a3a-4f0e-8a39-0242ac120002"));
    assert_eq!(state.epoch(), 0x1234_5678_9abc_def0);
    assert_eq!(state.settings().version, 2);
    assert_eq!(state.members().map(|member| member.raft_id).collect::<Vec<_>>(), [1, 2, 4]);
    assert!(state.is_removed(3));
    assert_eq!(state.removed_disk("disk-3"), Some(3));
    assert_eq!((state.service_count(), state.counts().total, state.counts().protected), (4, 4, 2));
    assert_eq!(state.service("default", "gone").unwrap().status(), ServiceStatus::Empty);

    let web = state.instance("default", "web", "10.0.0.1:80").unwrap();
    assert_eq!((web.state(), web.weight(), web.content.weight), (InstanceState::Draining, 7, 50));
    assert_eq!(
        web.content.metadata.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
        ["a=1", "b=zwei"]
    );
    assert_eq!((web.content.tags.len(), web.content.ports[0].1, web.ttl_ms), (2, 9100, 20_000));
    assert_eq!(web.client, "client-1");
    assert_eq!(state.override_of("default", "web", "10.0.0.1:80").unwrap().remaining_ms, Some(3_000));
    assert!(!state.override_of("default", "web", "later").unwrap().registered);
    assert_eq!(state.lease(web.lease_id).unwrap().version, 2);
    assert_eq!(state.lease(71).unwrap().hold, LeaseHold::Held);
    assert_eq!(state.lease(72).unwrap().hold, LeaseHold::Released);
    assert_eq!(state.guards().count(), 2);
    assert_eq!(state.history_floor(), 0);
}

/// The present program makes the same state of the same commands, remembered outcomes included.
#[test]
fn a_snapshot_of_format_1_is_the_state_that_its_commands_make() {
    let loaded = read(&path(1)).unwrap();
    assert_eq!(loaded.state_hash(), rich_state().state_hash());
    assert!(loaded.records().eq(rich_state().records()));
}

#[test]
fn a_snapshot_that_ends_early_or_comes_from_the_future_is_refused() {
    let records: Vec<_> = rich_state().records().collect();
    let mut decoder = StateDecoder::new();
    assert!(matches!(StateDecoder::new().finish(), Err(SnapshotError::Malformed { .. })));
    let mut cut = records[0].clone();
    cut.truncate(cut.len() / 2);
    assert!(decoder.push(&cut).is_err() || decoder.finish().is_err());

    // Field 1 of an item of field 1 is the head; its fields 1 and 2 are format and feature level.
    let head = |format: u8, level: u8| vec![0x0a, 6, 0x0a, 4, 0x08, format, 0x10, level];
    assert_eq!(StateDecoder::new().push(&head(2, 1)), Err(SnapshotError::HigherFormat { found: 2 }));
    assert_eq!(StateDecoder::new().push(&head(1, 2)), Err(SnapshotError::HigherFeatureLevel { found: 2 }));
    let mut decoder = StateDecoder::new();
    decoder.push(&head(1, 1)).unwrap();
    assert!(matches!(decoder.push(&head(1, 1)), Err(SnapshotError::Malformed { record: 1, .. })));
    // An item of a kind with number 99, as a later program may write.
    assert_eq!(decoder.push(&[0x0a, 3, 0x98, 0x06, 1]), Err(SnapshotError::UnknownRecord { record: 2 }));
}

#[test]
fn commands_of_the_future_are_told_from_damaged_ones() {
    // Field 1 is the format, field 99 an operation of a later program.
    assert_eq!(Command::decode(&[0x08, 2]), Err(DecodeError::HigherFormat { found: 2 }));
    assert_eq!(Command::decode(&[0x08, 1, 0x9a, 0x06, 0]), Err(DecodeError::UnknownOperation));
    assert!(matches!(Command::decode(&[]), Err(DecodeError::Malformed(_))));
    assert!(matches!(Command::decode(&[0x08]), Err(DecodeError::Malformed(_))));
}

fn write(path: &Path, state: &State) {
    let mut bytes = Vec::new();
    for record in state.records() {
        bytes.extend_from_slice(&u32::try_from(record.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(&record);
    }
    std::fs::write(path, bytes).unwrap();
}

fn read(path: &Path) -> Result<State, SnapshotError> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut decoder = StateDecoder::new();
    let mut rest = bytes.as_slice();
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (record, tail) = tail.split_at(u32::from_be_bytes(*length) as usize);
        decoder.push(record)?;
        rest = tail;
    }
    decoder.finish()
}

/// A state with something of every kind.
fn rich_state() -> State {
    let mut state = State::default();
    for (at, (key, operation)) in rich_operations().into_iter().enumerate() {
        let hash = operation.request_hash();
        let request =
            key.map(|(client, serial)| RequestKey { client: client.into(), serial, done_below: 1, hash });
        state.apply(&Command { proposed_at_unix_ms: 1_700_000_000_000 + at as u64, request, operation });
    }
    state
}

/// What made the file of format 1. Never change it: add another for another file.
fn rich_operations() -> Vec<(Option<(&'static str, u64)>, Operation)> {
    let mut operations = founding();
    let gone = Some(target("gone", "10.0.0.4:80"));
    let second = Some(target("web", "10.0.0.5:80"));
    let stale = Registration { incarnation: 99, ..registration("web", "10.0.0.1") };
    let closed = Registration { lease_id: 999, ..registration("web", "10.0.0.9") };
    let mismatched = Registration { lease_id: 70, ttl_ms: Some(1_000), ..registration("web", "10.0.0.9") };
    let up = InstanceState::Up as i32;
    let down = InstanceState::Down as i32;
    operations.extend([
        (None, register(registration("api", "10.0.0.2"), 71)),
        (None, register(registration("pay", "10.0.0.3"), 72)),
        (None, Operation::Protect(Protect { hold_ms: 300_000, leases: vec![lease(71)] })),
        (None, Operation::Protect(Protect { hold_ms: 300_000, leases: vec![lease(72)] })),
        (Some(("client-2", 2)), end_protection("pay")),
        (
            Some(("client-2", 3)),
            Operation::BatchRegister(BatchRegister {
                registrations: vec![registration("gone", "10.0.0.4"), registration("web", "10.0.0.5")],
                new_lease_id: 73,
                ..BatchRegister::default()
            }),
        ),
        (
            Some(("client-1", 3)),
            Operation::Deregister(Deregister { target: gone.clone(), by_operator: true }),
        ),
        (Some(("client-1", 4)), Operation::SetState(SetState { target: gone.clone(), state: up })),
        (Some(("client-2", 4)), register(stale, 74)),
        (Some(("client-1", 5)), Operation::SetState(SetState { target: second.clone(), state: down })),
        (Some(("client-2", 5)), Operation::Drain(Drain { target: second, by_operator: false })),
        (Some(("client-2", 6)), Operation::ClearOverride(ClearOverride { target: gone })),
        (Some(("client-2", 7)), register(closed, 75)),
        (Some(("client-2", 8)), register(mismatched, 76)),
    ]);
    operations
}

/// The cluster, its members, and an instance with everything under an override.
fn founding() -> Vec<(Option<(&'static str, u64)>, Operation)> {
    let owner = MembershipOwner::Autopilot as i32;
    let settings = ClusterSettings { default_ttl_ms: 16_000, ..ClusterSettings::DEFAULT };
    let pair = |key: &str, value: &str| Pair { key: key.into(), value: value.into() };
    let web = Registration {
        weight: Some(50),
        zone: "z".into(),
        metadata: vec![pair("a", "1"), pair("b", "zwei")],
        tags: vec!["blue".into(), "fast".into()],
        ports: vec![NamedPort { name: "metrics".into(), port: 9_100 }],
        ttl_ms: Some(20_000),
        ..registration("web", "10.0.0.1")
    };
    let version = OverrideVersion {
        namespace: "default".into(),
        service_name: "web".into(),
        instance_id: "10.0.0.1:80".into(),
        version: 2,
    };
    let tick = OverrideTick { target: Some(version), remaining_ms: 3_000 };
    vec![
        (
            None,
            Operation::InitCluster(InitCluster {
                cluster_id: "5d2c0ed1-6a3a-4f0e-8a39-0242ac120002".into(),
                epoch: 0x1234_5678_9abc_def0,
                settings: Some(ClusterSettings::DEFAULT),
                members: (1..=3).map(member).collect(),
                next_raft_id: 4,
            }),
        ),
        (
            None,
            Operation::AddMember(AddMember { member: Some(MemberSpec { raft_id: 0, ..member(4) }), owner }),
        ),
        (None, Operation::RemoveMembers(RemoveMembers { raft_ids: vec![3], owner })),
        (None, Operation::UpdateSettings(UpdateSettings { expected_version: 1, settings: Some(settings) })),
        (Some(("client-1", 1)), register(web.clone(), 70)),
        (Some(("client-1", 2)), register(web, 77)),
        (
            Some(("client-2", 1)),
            Operation::SetOverride(SetOverride {
                target: Some(target("web", "10.0.0.1:80")),
                state: InstanceState::Draining as i32,
                weight: Some(7),
                comment: "canary".into(),
                actor: "ann".into(),
                ttl_ms: Some(5_000),
            }),
        ),
        (None, Operation::TickOverrides(TickOverrides { overrides: vec![tick] })),
        (
            None,
            Operation::SetOverride(SetOverride {
                target: Some(target("web", "later")),
                state: InstanceState::Down as i32,
                ..SetOverride::default()
            }),
        ),
    ]
}

fn member(raft_id: u64) -> MemberSpec {
    MemberSpec {
        raft_id,
        node_id: format!("node-{raft_id}"),
        disk_id: format!("disk-{raft_id}"),
        peer_endpoint: format!("10.0.1.{raft_id}:9080"),
        client_endpoint: format!("10.0.1.{raft_id}:8080"),
    }
}

fn registration(service: &str, host: &str) -> Registration {
    Registration {
        namespace: "default".into(),
        service_name: service.into(),
        instance_id: instance_id_of(host, 80),
        host: host.into(),
        port: 80,
        ..Registration::default()
    }
}

fn register(registration: Registration, new_lease_id: u64) -> Operation {
    Operation::Register(Register { registration: Some(registration), new_lease_id })
}

fn lease(lease_id: u64) -> LeaseVersion {
    LeaseVersion { lease_id, version: 1, silent_for_ms: 12_000 }
}

fn end_protection(service: &str) -> Operation {
    let (service_name, namespace) = (service.into(), "default".into());
    Operation::EndProtection(EndProtection { service_name, namespace, all_namespaces: false })
}

fn target(service: &str, instance_id: &str) -> Target {
    Target {
        namespace: "default".into(),
        service_name: service.into(),
        instance_id: instance_id.into(),
        ..Target::default()
    }
}
