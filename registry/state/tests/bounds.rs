//! Bounds that scripts are too small for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, and reads its files")]

use registry_state::limits::*;
use registry_state::*;

fn founded() -> State {
    let mut state = State::default();
    let init = InitCluster {
        cluster_id: "00000000-0000-4000-8000-000000000001".into(),
        epoch: 1,
        settings: None,
        members: vec![],
        next_raft_id: 1,
    };
    apply(&mut state, None, Operation::InitCluster(init));
    state
}

fn apply(state: &mut State, key: Option<(&str, u64)>, operation: Operation) -> Applied {
    let hash = operation.request_hash();
    let request =
        key.map(|(client, serial)| RequestKey { client: client.into(), serial, done_below: serial, hash });
    state.apply(&Command { proposed_at_unix_ms: 0, request, operation })
}

fn registration(id: usize) -> Registration {
    Registration {
        namespace: "default".into(),
        service_name: "web".into(),
        instance_id: format!("i-{id}"),
        host: "10.0.0.1".into(),
        port: 80,
        ..Registration::default()
    }
}

fn register(id: usize, lease_id: u64, new_lease_id: u64) -> Operation {
    let registration = Some(Registration { lease_id, ..registration(id) });
    Operation::Register(Register { registration, new_lease_id })
}

fn batch(ids: std::ops::Range<usize>, lease_id: u64, new_lease_id: u64) -> Operation {
    let registrations = ids.map(registration).collect();
    Operation::BatchRegister(BatchRegister { registrations, lease_id, ttl_ms: None, new_lease_id })
}

fn deregister(id: usize) -> Operation {
    let Registration { namespace, service_name, instance_id, .. } = registration(id);
    let target = Some(Target { namespace, service_name, instance_id, incarnation: 0, lease_id: 0 });
    Operation::Deregister(Deregister { target, by_operator: false })
}

fn named(leases: impl IntoIterator<Item = (u64, u64)>) -> Vec<LeaseVersion> {
    leases
        .into_iter()
        .map(|(lease_id, version)| LeaseVersion { lease_id, version, silent_for_ms: 1 })
        .collect()
}

#[test]
fn a_lease_keeps_at_most_1024_instances() {
    let mut state = founded();
    apply(&mut state, None, batch(0..1_024, 0, 1));
    let full = Reason::QuotaExceeded { quota: Quota::InstancesPerLease, limit: 1_024 };
    for refused in [register(5_000, 1, 2), batch(1_020..1_030, 1, 2)] {
        assert_eq!(apply(&mut state, None, refused).reply, Reply::Rejected(full.clone().into()));
    }
    // Those that are in it already need no room.
    assert!(matches!(apply(&mut state, None, register(7, 1, 2)).reply, Reply::Registered { .. }));
    assert!(matches!(apply(&mut state, None, batch(0..1_024, 1, 2)).reply, Reply::BatchRegistered { .. }));
    assert_eq!(state.lease(1).unwrap().instances, LEASE_INSTANCES_MAX);
    state.check_invariants().unwrap();
}

#[test]
fn an_entry_of_the_leader_changes_at_most_1024_instances() {
    let mut state = founded();
    apply(&mut state, None, batch(0..1_000, 0, 1));
    apply(&mut state, None, batch(1_000..1_020, 0, 2));
    apply(&mut state, None, batch(1_020..1_030, 0, 3));
    apply(&mut state, None, batch(1_030..1_034, 0, 4));
    let all = || named([(1, 1), (2, 1), (3, 1), (4, 1)]);

    // 1,000 and 20 fit, 10 more do not, 4 more do.
    let protect = Operation::Protect(Protect { hold_ms: 1, leases: all() });
    assert_eq!(apply(&mut state, None, protect).reply, Reply::Protected { leases: 3, instances: 1_024 });
    let unprotect = Operation::Unprotect(Unprotect { leases: all() });
    assert_eq!(apply(&mut state, None, unprotect).reply, Reply::Unprotected { leases: 3, instances: 1_024 });
    let versions = || named([(1, 2), (2, 2), (3, 1), (4, 2)]);
    let expire = || Operation::Expire(Expire { leases: versions() });
    let expired = Reply::Expired { leases: 3, instances: 1_024, skipped: 1 };
    assert_eq!(apply(&mut state, None, expire()).reply, expired);
    let rest = Reply::Expired { leases: 1, instances: 10, skipped: 3 };
    assert_eq!(apply(&mut state, None, expire()).reply, rest);
    state.check_invariants().unwrap();

    let many = Operation::Expire(Expire { leases: named((1..=257).map(|id| (id, 1))) });
    assert!(matches!(apply(&mut state, None, many).reply, Reply::Rejected(_)));
}

/// P/R3: clients without instances leave oldest first beyond 65,536, those with instances stay.
#[test]
fn idle_clients_are_forgotten_oldest_first_and_owners_stay() {
    let mut state = founded();
    apply(&mut state, Some(("owner", 1)), register(0, 0, 1));
    apply(&mut state, Some(("late", 1)), register(1, 0, 2));
    for client in 0..IDLE_CLIENTS_MAX {
        apply(&mut state, Some((&format!("c{client}"), 1)), deregister(99));
    }
    let known = |state: &State, client: &str| {
        let again = apply(&mut state.clone(), Some((client, 2)), deregister(99));
        again.reply != Reply::Rejected(Reason::SessionUnknown.into())
    };
    assert!(known(&state, "owner") && known(&state, "late") && known(&state, "c0"));

    // The first owner without instances has written longest ago: it is the one that is too many.
    apply(&mut state, None, deregister(1));
    assert!(!known(&state, "late") && known(&state, "c0"));
    apply(&mut state, Some(("c0", 2)), deregister(99));
    apply(&mut state, Some(("one-more", 1)), deregister(99));
    assert!(known(&state, "c0") && !known(&state, "c1") && known(&state, "c2") && known(&state, "owner"));
    state.check_invariants().unwrap();
    let mut decoder = StateDecoder::new();
    state.records().for_each(|record| decoder.push(&record).unwrap());
    let loaded = decoder.finish().unwrap();
    loaded.check_invariants().unwrap();
    assert_eq!(loaded.state_hash(), state.state_hash());
}

#[test]
fn the_sixteenth_write_back_is_remembered_and_the_seventeenth_is_not() {
    let mut state = founded();
    let write = |state: &mut State, serial: u64| {
        let operation = deregister(serial as usize);
        let request =
            Some(RequestKey { client: "a".into(), serial, done_below: 1, hash: operation.request_hash() });
        state.apply(&Command { proposed_at_unix_ms: 0, request, operation })
    };
    (1..=16).for_each(|serial| assert!(!write(&mut state, serial).replayed));
    assert!(write(&mut state, 1).replayed);
    let operation = deregister(17);
    let request =
        Some(RequestKey { client: "a".into(), serial: 17, done_below: 2, hash: operation.request_hash() });
    state.apply(&Command { proposed_at_unix_ms: 0, request, operation });
    assert_eq!(write(&mut state, 1).reply, Reply::Rejected(Reason::RequestSuperseded { floor: 2 }.into()));
    assert!(write(&mut state, 2).replayed && write(&mut state, 16).replayed);
}

/// A lease id that is open belongs to somebody else: the proposer's draw is not trusted (P/L5).
#[test]
fn a_new_lease_never_takes_an_id_that_is_open() {
    let mut state = founded();
    for (id, drawn) in [(1, u64::MAX), (2, u64::MAX), (3, 0), (4, 1)] {
        apply(&mut state, None, register(id, 0, drawn));
    }
    assert_eq!(state.leases().map(|lease| lease.id).collect::<Vec<_>>(), [1, 2, 3, u64::MAX]);
}

#[test]
fn snapshot_records_of_large_items_stay_within_their_bound() {
    let mut state = founded();
    let large = |id: usize| {
        let text = |len: usize, at: usize| format!("{at:03}{}", "x".repeat(len - 3));
        let pair = |at: usize| Pair { key: text(64, at), value: text(64, at) };
        Registration {
            service_name: "s".repeat(NAME_BYTES_MAX),
            namespace: "n".repeat(NAME_BYTES_MAX),
            instance_id: format!("{id}{}", "i".repeat(INSTANCE_ID_BYTES_MAX - 3)),
            host: "h".repeat(HOST_BYTES_MAX),
            zone: "z".repeat(NAME_BYTES_MAX),
            metadata: (0..METADATA_PAIRS_MAX).map(pair).collect(),
            tags: (0..TAGS_MAX).map(|at| text(TAG_BYTES_MAX, at)).collect(),
            ports: (0..PORTS_MAX)
                .map(|at| NamedPort { name: text(NAME_BYTES_MAX, at), port: 65_535 })
                .collect(),
            ..registration(id)
        }
    };
    for (id, weight) in [(10, 1), (10, 2), (11, 1), (12, 1), (12, 3)] {
        let registration = Some(Registration { weight: Some(weight), ..large(id) });
        let applied =
            apply(&mut state, None, Operation::Register(Register { registration, new_lease_id: 1 }));
        assert!(matches!(applied.reply, Reply::Registered { .. }), "{:?}", applied.reply);
    }
    let records: Vec<_> = state.records().collect();
    assert!(records.len() > 3);
    for record in &records {
        assert!(record.len() <= SNAPSHOT_RECORD_BYTES, "{} bytes", record.len());
    }
}

#[test]
fn a_frozen_copy_stays_as_it_was() {
    let mut state = founded();
    apply(&mut state, None, batch(0..1_000, 0, 1));
    let frozen = state.clone();
    let hash = frozen.state_hash();
    apply(&mut state, None, Operation::Expire(Expire { leases: named([(1, 1)]) }));
    assert_eq!((frozen.counts().total, state.counts().total), (1_000, 0));
    assert_eq!(frozen.state_hash(), hash);
    frozen.check_invariants().unwrap();
}
