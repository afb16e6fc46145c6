//! Commands that have something to do with each other: a small world of names, and numbers that are often
//! those of the model's present state.

use registry_state::*;

use super::dice::Dice;
use super::naive::Model;

pub(crate) fn command(dice: &mut Dice<'_>, model: &Model) -> Command {
    if let Some(repeated) = dice.once_in(8).then(|| model.sent(dice)).flatten() {
        return repeated;
    }
    let operation = if model.founded() || dice.once_in(8) { operation(dice, model) } else { init(dice) };
    let request = request(dice, model, &operation);
    let proposed_at_unix_ms = 1_000_000 + 700 * dice.roll(256) as u64;
    Command { proposed_at_unix_ms, request, operation }
}

fn request(dice: &mut Dice<'_>, model: &Model, operation: &Operation) -> Option<RequestKey> {
    let client = dice.pick(&["", "a", "b", "c", "d"]);
    if client.is_empty() {
        return None;
    }
    let highest = model.highest_serial(client);
    let serial = match dice.roll(8) {
        0 if dice.once_in(3) => highest,
        1 if dice.once_in(3) => highest.saturating_sub(dice.roll(20) as u64),
        2 => highest + 1 + dice.roll(4) as u64,
        _ => highest + 1,
    };
    let done_below = match dice.roll(12) {
        0..4 => serial.saturating_sub(dice.roll(18) as u64),
        4 => serial + 1,
        _ => serial,
    };
    Some(RequestKey { client: client.into(), serial, done_below, hash: operation.request_hash() })
}

fn init(dice: &mut Dice<'_>) -> Operation {
    let mut settings = ClusterSettings::DEFAULT;
    settings.history.max_events = dice.pick(&[4, 1, 12, 65_536]);
    settings.history.max_bytes = dice.pick(&[64 << 20, 1_500]);
    settings.quotas.instances = dice.pick(&[100, 100, 6]);
    settings.quotas.instances_per_service = dice.pick(&[100, 100, 3]);
    settings.quotas.services = dice.pick(&[100, 100, 3]);
    settings.quotas.overrides = dice.pick(&[100, 100, 2, 0]);
    settings.quotas.user_data_bytes = dice.pick(&[100_000, 100_000, 150]);
    Operation::InitCluster(InitCluster {
        cluster_id: format!("00000000-0000-4000-8000-00000000000{}", dice.roll(6) / 5),
        epoch: 7,
        settings: Some(settings),
        members: vec![member(1, "disk-1")],
        next_raft_id: 2,
    })
}

fn member(raft_id: u64, disk: &str) -> MemberSpec {
    MemberSpec {
        raft_id,
        node_id: "node".into(),
        disk_id: disk.into(),
        peer_endpoint: "node:9080".into(),
        client_endpoint: "node:8080".into(),
    }
}

fn operation(dice: &mut Dice<'_>, model: &Model) -> Operation {
    match dice.roll(40) {
        0..14 => Operation::Register(Register {
            registration: Some(registration(dice, model, true)),
            new_lease_id: dice.roll(12) as u64,
        }),
        14..17 => batch(dice, model),
        17..21 => Operation::Deregister(Deregister {
            target: Some(target(dice, model, true)),
            by_operator: dice.once_in(3),
        }),
        21..24 => Operation::SetState(SetState {
            target: Some(target(dice, model, true)),
            state: dice.pick(&[1, 2, 2, 3, 4, 0]),
        }),
        24..26 => {
            Operation::Drain(Drain { target: Some(target(dice, model, true)), by_operator: dice.once_in(3) })
        }
        26..28 => Operation::SetOverride(SetOverride {
            target: Some(target(dice, model, false)),
            state: dice.roll(5) as i32,
            weight: dice.pick(&[None, Some(0), Some(7)]),
            comment: dice.pick(&["", "because"]).into(),
            actor: String::new(),
            ttl_ms: dice.pick(&[None, Some(5_000), Some(6_000), Some(999)]),
        }),
        28..30 => Operation::ClearOverride(ClearOverride { target: Some(target(dice, model, false)) }),
        30 => Operation::TickOverrides(TickOverrides {
            overrides: versions(dice, model)
                .into_iter()
                .map(|target| OverrideTick {
                    target: Some(target),
                    remaining_ms: 1_000 * dice.roll(8) as u64,
                })
                .collect(),
        }),
        31 => Operation::EndOverrides(EndOverrides { overrides: versions(dice, model) }),
        32..34 => Operation::Protect(Protect { hold_ms: 60_000, leases: leases(dice, model) }),
        34 => Operation::Unprotect(Unprotect { leases: leases(dice, model) }),
        35 => Operation::EndProtection(EndProtection {
            service_name: dice.pick(&["", "s", "t"]).into(),
            namespace: dice.pick(&["n", "m", ""]).into(),
            all_namespaces: dice.once_in(3),
        }),
        36 => guard_tick(dice),
        37 => Operation::Expire(Expire { leases: leases(dice, model) }),
        38 => rare(dice, model),
        _ => target_of_override(dice, model),
    }
}

fn rare(dice: &mut Dice<'_>, model: &Model) -> Operation {
    let owner =
        dice.pick(&[MembershipOwner::Autopilot, MembershipOwner::Autopilot, MembershipOwner::Manual]) as i32;
    match dice.roll(4) {
        0 => init(dice),
        1 => {
            let disk = dice.pick(&["disk-1", "disk-2", "disk-3", ""]);
            Operation::AddMember(AddMember { member: Some(member(0, disk)), owner })
        }
        2 => {
            let raft_ids = vec![dice.roll(6) as u64, dice.roll(6) as u64];
            Operation::RemoveMembers(RemoveMembers { raft_ids, owner })
        }
        _ => {
            let mut settings = ClusterSettings::clone(model.settings());
            settings.history.max_events = dice.pick(&[2, 8, 0]);
            settings.quotas.instances = dice.pick(&[4, 50]);
            let expected_version = settings.version + dice.roll(2) as u64;
            Operation::UpdateSettings(UpdateSettings { expected_version, settings: Some(settings) })
        }
    }
}

fn registration(dice: &mut Dice<'_>, model: &Model, single: bool) -> Registration {
    let mut registration = Registration {
        namespace: dice.pick(&["n", "n", "m"]).into(),
        service_name: dice.pick(&["s", "s", "t", "u"]).into(),
        instance_id: dice.pick(&["1", "2", "3", "4", "an-instance-id-that-is-not-inline"]).into(),
        host: "h".into(),
        port: 1,
        ..Registration::default()
    };
    // Mostly the same content, so that much is renewed.
    match dice.roll(12) {
        0 => registration.weight = Some(3),
        1 => registration.zone = "z".into(),
        2 => registration.state = dice.pick(&[1, 2, 3, 4]),
        3 => {
            registration.metadata = vec![Pair { key: "k".into(), value: "v".repeat(dice.roll(60)) }];
            registration.tags = vec!["t".into()];
            registration.ports = vec![NamedPort { name: "p".into(), port: 9 }];
        }
        4 => registration.weight = Some(100),
        5 => registration.port = dice.pick(&[2, 2, 0]),
        _ => {}
    }
    let (incarnation, lease_id) = model.proof(&registration);
    registration.incarnation = dice.pick(&[0, 0, incarnation, incarnation, 1]);
    if single {
        let any = dice.roll(12) as u64;
        registration.lease_id = dice.pick(&[0, 0, 0, lease_id, lease_id, any]);
        registration.ttl_ms = dice.pick(&[None, None, None, None, None, Some(15_000), Some(20_000), Some(0)]);
    } else if dice.once_in(40) {
        registration.lease_id = 1;
    }
    registration
}

fn batch(dice: &mut Dice<'_>, model: &Model) -> Operation {
    let count = 1 + dice.roll(3);
    let any = dice.roll(12) as u64;
    Operation::BatchRegister(BatchRegister {
        lease_id: dice.pick(&[0, 0, any]),
        ttl_ms: dice.pick(&[None, None, Some(15_000), Some(20_000)]),
        new_lease_id: dice.roll(12) as u64,
        registrations: (0..count).map(|_| registration(dice, model, false)).collect(),
    })
}

fn target(dice: &mut Dice<'_>, model: &Model, lease_allowed: bool) -> Target {
    if lease_allowed && dice.once_in(4) {
        return Target { lease_id: dice.roll(12) as u64, ..Target::default() };
    }
    let r = registration(dice, model, false);
    let incarnation = if lease_allowed { r.incarnation } else { 0 };
    let Registration { namespace, service_name, instance_id, .. } = r;
    Target { namespace, service_name, instance_id, incarnation, lease_id: 0 }
}

fn versions(dice: &mut Dice<'_>, model: &Model) -> Vec<OverrideVersion> {
    let mut versions = model.override_versions();
    versions.iter_mut().for_each(|version| version.version += u64::from(dice.once_in(4)));
    versions
}

fn leases(dice: &mut Dice<'_>, model: &Model) -> Vec<LeaseVersion> {
    let present = model.lease_versions();
    if present.is_empty() {
        return Vec::new();
    }
    let lease = |dice: &mut Dice<'_>| {
        let (lease_id, version) = dice.pick(&present);
        let version = version - u64::from(dice.once_in(5));
        LeaseVersion { lease_id, version, silent_for_ms: 30_000 }
    };
    (0..1 + dice.roll(3)).map(|_| lease(dice)).collect()
}

fn guard_tick(dice: &mut Dice<'_>) -> Operation {
    let action = match dice.roll(3) {
        0 => GuardAction::End(true),
        1 => GuardAction::Hold(10_000 * dice.roll(9) as u64),
        _ => GuardAction::Arm(true),
    };
    let service = ServiceName {
        namespace: dice.pick(&["n", "m"]).into(),
        service_name: dice.pick(&["s", "t", "unknown"]).into(),
    };
    let decision = GuardDecision { service: Some(service), action: Some(action) };
    Operation::GuardTick(GuardTick { services: vec![decision] })
}

/// Clears an override that is there.
fn target_of_override(dice: &mut Dice<'_>, model: &Model) -> Operation {
    let target = match model.override_versions().as_slice() {
        [] => target(dice, model, false),
        present => {
            let OverrideVersion { namespace, service_name, instance_id, .. } = dice.pick(present);
            Target { namespace, service_name, instance_id, incarnation: 0, lease_id: 0 }
        }
    };
    Operation::ClearOverride(ClearOverride { target: Some(target) })
}
