//! From a line of a script to a command or query.
//!
//! Registrations draw lease ids 1, 2, 3, ... in the order of the script. The clock stands at 1,000 s.

use registry_state::*;

use super::words::{Words, number, time};

/// What a line asks for.
pub(crate) enum Line {
    Command(Box<Command>),
    Query(Query),
    /// Go on with the state as it comes back from its snapshot.
    Reload,
}

/// A question to the state.
pub(crate) enum Query {
    Service { namespace: String, name: String },
    Services { namespace: Option<String>, prefix: String, after: String },
    Overrides,
    Leases,
    Guards,
    Members,
    Status,
    History { since: u64 },
    WouldRenew { registration: Box<Registration>, request: Option<RequestKey> },
}

const NOW_UNIX_MS: u64 = 1_000_000;

pub(crate) fn parse(text: &str, drawn: &mut u64) -> Result<Line, String> {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    if verb == "reload" {
        return Ok(Line::Reload);
    }
    let mut words = Words::of(rest.split(':').next().filter(|_| verb == "batch").unwrap_or(rest));
    if let Some(query) = query(verb, &mut words)? {
        words.done()?;
        return Ok(Line::Query(query));
    }
    let request = request(&mut words)?;
    let operation =
        if verb == "batch" { batch(rest, &mut words, drawn)? } else { operation(verb, &mut words, drawn)? };
    words.done()?;
    let hash = operation.request_hash();
    let request = request.map(|request| RequestKey { hash, ..request });
    Ok(Line::Command(Box::new(Command { proposed_at_unix_ms: NOW_UNIX_MS, request, operation })))
}

/// `req=CLIENT/SERIAL` and `done=N`.
fn request(words: &mut Words<'_>) -> Result<Option<RequestKey>, String> {
    let Some(text) = words.value("req") else { return Ok(None) };
    let (client, serial) = text.split_once('/').ok_or("req is CLIENT/SERIAL")?;
    let done_below = words.number("done")?.unwrap_or(1);
    Ok(Some(RequestKey { client: client.into(), serial: number(serial)?, done_below, hash: 0 }))
}

fn query(verb: &str, words: &mut Words<'_>) -> Result<Option<Query>, String> {
    let namespace = |words: &mut Words<'_>| words.value("ns").unwrap_or("default").to_owned();
    Ok(Some(match verb {
        "service" => Query::Service { namespace: namespace(words), name: words.need("SERVICE")?.into() },
        "services" => Query::Services {
            namespace: words.value("ns").map(str::to_owned),
            prefix: words.value("prefix").unwrap_or("").into(),
            after: words.value("after").unwrap_or("").into(),
        },
        "overrides" => Query::Overrides,
        "leases" => Query::Leases,
        "guards" => Query::Guards,
        "members" => Query::Members,
        "status" => Query::Status,
        "history" => Query::History { since: words.number("since")?.unwrap_or(0) },
        "would-renew" => {
            let request = request(words)?;
            let registration = Box::new(registration(words)?);
            let hash = Operation::Register(Register {
                registration: Some((*registration).clone()),
                new_lease_id: 0,
            })
            .request_hash();
            Query::WouldRenew { registration, request: request.map(|r| RequestKey { hash, ..r }) }
        }
        _ => return Ok(None),
    }))
}

fn operation(verb: &str, words: &mut Words<'_>, drawn: &mut u64) -> Result<Operation, String> {
    Ok(match verb {
        "init" => Operation::InitCluster(init(words)?),
        "register" => {
            *drawn += 1;
            Operation::Register(Register { registration: Some(registration(words)?), new_lease_id: *drawn })
        }
        "deregister" => {
            let by_operator = words.flag("operator");
            Operation::Deregister(Deregister { target: Some(target(words)?), by_operator })
        }
        "state" => {
            let target = Some(target(words)?);
            Operation::SetState(SetState { target, state: state(words.need("STATE")?)? })
        }
        "drain" => {
            let by_operator = words.flag("operator");
            Operation::Drain(Drain { target: Some(target(words)?), by_operator })
        }
        "override" => Operation::SetOverride(SetOverride {
            target: Some(target(words)?),
            state: words.value("state").map_or(Ok(0), state)?,
            weight: words.number("weight")?.map(|w| w as u32),
            comment: words.value("comment").unwrap_or("").into(),
            actor: words.value("actor").unwrap_or("").into(),
            ttl_ms: words.time("ttl")?,
        }),
        "clear" => Operation::ClearOverride(ClearOverride { target: Some(target(words)?) }),
        "tick-override" => {
            let remaining_ms = words.time("left")?.ok_or("left is missing")?;
            let target = Some(override_version(words)?);
            Operation::TickOverrides(TickOverrides { overrides: vec![OverrideTick { target, remaining_ms }] })
        }
        "end-override" => Operation::EndOverrides(EndOverrides { overrides: vec![override_version(words)?] }),
        "add-member" => Operation::AddMember(AddMember {
            owner: owner(words.value("owner").unwrap_or("autopilot"))?,
            member: Some(member(0, words.need("NAME")?, words.value("disk"))),
        }),
        "remove-members" => Operation::RemoveMembers(RemoveMembers {
            owner: owner(words.value("owner").unwrap_or("autopilot"))?,
            raft_ids: words.need("IDS")?.split(',').map(number).collect::<Result<_, _>>()?,
        }),
        "settings" => {
            let expected_version = words.number("expected")?.ok_or("expected is missing")?;
            Operation::UpdateSettings(UpdateSettings { expected_version, settings: Some(settings(words)?) })
        }
        _ => lease_operation(verb, words)?,
    })
}

/// What the leader proposes about leases and the guard.
fn lease_operation(verb: &str, words: &mut Words<'_>) -> Result<Operation, String> {
    Ok(match verb {
        "expire" => Operation::Expire(Expire { leases: leases(words.need("LEASES")?, 0)? }),
        "protect" => {
            let silent = words.time("silent")?.unwrap_or(0);
            let hold_ms = words.time("hold")?.unwrap_or(300_000);
            Operation::Protect(Protect { hold_ms, leases: leases(words.need("LEASES")?, silent)? })
        }
        "unprotect" => Operation::Unprotect(Unprotect { leases: leases(words.need("LEASES")?, 0)? }),
        "end-protection" => {
            let all_namespaces = words.flag("everywhere");
            let namespace = if all_namespaces { "" } else { words.value("ns").unwrap_or("default") };
            Operation::EndProtection(EndProtection {
                service_name: words.next().unwrap_or("").into(),
                namespace: namespace.into(),
                all_namespaces,
            })
        }
        "guard" => {
            let action = if let Some(left) = words.time("hold")? {
                GuardAction::Hold(left)
            } else if words.flag("end") {
                GuardAction::End(true)
            } else if words.flag("arm") {
                GuardAction::Arm(true)
            } else {
                return Err("guard wants hold=TIME, end or arm".into());
            };
            let namespace = words.value("ns").unwrap_or("default").into();
            let service = Some(ServiceName { namespace, service_name: words.need("SERVICE")?.into() });
            Operation::GuardTick(GuardTick {
                services: vec![GuardDecision { service, action: Some(action) }],
            })
        }
        _ => return Err(format!("{verb} is no command")),
    })
}

/// `batch lease=N ttl=T : SERVICE HOST:PORT ... ; SERVICE HOST:PORT ...`
fn batch(rest: &str, words: &mut Words<'_>, drawn: &mut u64) -> Result<Operation, String> {
    *drawn += 1;
    let list = rest.split_once(':').map_or("", |(_, list)| list);
    let mut registrations = Vec::new();
    for entry in list.split(';') {
        let mut words = Words::of(entry);
        registrations.push(registration(&mut words)?);
        words.done()?;
    }
    Ok(Operation::BatchRegister(BatchRegister {
        registrations,
        lease_id: words.number("lease")?.unwrap_or(0),
        ttl_ms: words.time("ttl")?,
        new_lease_id: *drawn,
    }))
}

fn registration(words: &mut Words<'_>) -> Result<Registration, String> {
    let service_name = words.need("SERVICE")?.to_owned();
    let address = words.need("HOST:PORT")?;
    let (host, port) = address.rsplit_once(':').ok_or("HOST:PORT has no port")?;
    let host = host.trim_matches(['[', ']']);
    let port = number(port)? as u32;
    let pairs = |text: &str| -> Vec<(String, String)> {
        let split = |item: &str| item.split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned()));
        text.split(',').filter_map(split).collect()
    };
    let metadata = words.value("meta").map_or_else(Vec::new, pairs);
    let ports = words.value("ports").map_or_else(Vec::new, pairs);
    let mut registration = Registration {
        namespace: words.value("ns").unwrap_or("default").into(),
        service_name,
        instance_id: words.value("id").map_or_else(|| instance_id_of(host, port), str::to_owned),
        host: host.into(),
        port,
        incarnation: words.number("inc")?.unwrap_or(0),
        lease_id: words.number("lease")?.unwrap_or(0),
        ttl_ms: words.time("ttl")?,
        state: words.value("state").map_or(Ok(0), state)?,
        weight: words.number("weight")?.map(|weight| weight as u32),
        zone: words.value("zone").unwrap_or("").into(),
        metadata: metadata.into_iter().map(|(key, value)| Pair { key, value }).collect(),
        tags: words.value("tags").map_or_else(Vec::new, |t| t.split(',').map(str::to_owned).collect()),
        ports: ports
            .into_iter()
            .map(|(name, port)| Ok(NamedPort { name, port: number(&port)? as u32 }))
            .collect::<Result<_, String>>()?,
    };
    registration.canonicalize();
    Ok(registration)
}

/// `SERVICE ID` with `ns` and `inc`, or `lease=N`.
fn target(words: &mut Words<'_>) -> Result<Target, String> {
    if let Some(lease_id) = words.number("lease")? {
        return Ok(Target { lease_id, ..Target::default() });
    }
    Ok(Target {
        namespace: words.value("ns").unwrap_or("default").into(),
        service_name: words.need("SERVICE")?.into(),
        instance_id: words.need("ID")?.into(),
        incarnation: words.number("inc")?.unwrap_or(0),
        lease_id: 0,
    })
}

fn override_version(words: &mut Words<'_>) -> Result<OverrideVersion, String> {
    Ok(OverrideVersion {
        namespace: words.value("ns").unwrap_or("default").into(),
        service_name: words.need("SERVICE")?.into(),
        instance_id: words.need("ID")?.into(),
        version: words.number("version")?.ok_or("version is missing")?,
    })
}

/// `LEASE@VERSION,LEASE@VERSION`
fn leases(text: &str, silent_for_ms: u64) -> Result<Vec<LeaseVersion>, String> {
    let lease = |item: &str| {
        let (id, version) = item.split_once('@').ok_or("a lease is ID@VERSION")?;
        Ok(LeaseVersion { lease_id: number(id)?, version: number(version)?, silent_for_ms })
    };
    text.split(',').map(lease).collect()
}

fn state(text: &str) -> Result<i32, String> {
    Ok(match text {
        "starting" => InstanceState::Starting,
        "up" => InstanceState::Up,
        "draining" => InstanceState::Draining,
        "down" => InstanceState::Down,
        other => return Err(format!("{other} is no state")),
    } as i32)
}

fn owner(text: &str) -> Result<i32, String> {
    Ok(match text {
        "autopilot" => MembershipOwner::Autopilot,
        "operator" => MembershipOwner::Operator,
        "manual" => MembershipOwner::Manual,
        other => return Err(format!("{other} is no owner")),
    } as i32)
}

fn member(raft_id: u64, name: &str, disk: Option<&str>) -> MemberSpec {
    MemberSpec {
        raft_id,
        node_id: name.into(),
        disk_id: disk.map_or_else(|| format!("disk-of-{name}"), str::to_owned),
        peer_endpoint: format!("{name}:9080"),
        client_endpoint: format!("{name}:8080"),
    }
}

/// `init` with settings; `members=a,b,c` and `cluster=ID` if they matter.
fn init(words: &mut Words<'_>) -> Result<InitCluster, String> {
    let cluster_id = words.value("cluster").unwrap_or("00000000-0000-4000-8000-000000000001").into();
    let names: Vec<&str> = words.value("members").map_or_else(Vec::new, |names| names.split(',').collect());
    let members: Vec<_> = (1..).zip(&names).map(|(raft_id, name)| member(raft_id, name, None)).collect();
    let next_raft_id = members.len() as u64 + 1;
    Ok(InitCluster { cluster_id, epoch: 7, settings: Some(settings(words)?), members, next_raft_id })
}

/// The defaults with the settings that are given.
fn settings(words: &mut Words<'_>) -> Result<ClusterSettings, String> {
    let mut settings = ClusterSettings::DEFAULT;
    for (key, value) in words.pairs() {
        match key {
            "default_ttl" => settings.default_ttl_ms = time(value)?,
            "history.max_events" => settings.history.max_events = number(value)?,
            "history.max_bytes" => settings.history.max_bytes = number(value)?,
            "quotas.instances" => settings.quotas.instances = number(value)?,
            "quotas.services" => settings.quotas.services = number(value)?,
            "quotas.instances_per_service" => settings.quotas.instances_per_service = number(value)?,
            "quotas.overrides" => settings.quotas.overrides = number(value)?,
            "quotas.user_data_bytes" => settings.quotas.user_data_bytes = number(value)?,
            "guard.percent" => settings.guard.percent = number(value)? as u32,
            "voters_target" => settings.voters_target = number(value)? as u32,
            "membership_owner" => settings.membership_owner = owner(value)?,
            other => return Err(format!("{other} is no setting of this language")),
        }
    }
    Ok(settings)
}
