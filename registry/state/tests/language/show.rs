//! From replies, events and answers to text.

use std::fmt::Write as _;

use registry_state::*;

use super::parse::Query;

pub(crate) fn applied(applied: &Applied) -> String {
    let mut out = reply(&applied.reply);
    let replayed = if applied.replayed { ", replayed" } else { "" };
    writeln!(out, "  at revision {}{replayed}", applied.revision).unwrap();
    if let Some(made) = &applied.events {
        if made.events.is_empty() {
            writeln!(out, "  revision {} without events", made.revision).unwrap();
        }
        for event in &made.events {
            out.push_str(&show_event(event));
        }
    }
    for change in &applied.leases {
        writeln!(out, "  {}", lease_change(change)).unwrap();
    }
    out
}

fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Registered { instance: i, lease_id, incarnation, outcome } => {
            format!("{} {} incarnation {incarnation} lease {lease_id}\n", word(outcome), i.instance_id)
        }
        Reply::BatchRegistered { results, lease_id } => {
            let mut out = format!("batch of {} under lease {lease_id}\n", results.len());
            for entry in results {
                let BatchEntry { instance_id, incarnation, outcome } = entry;
                writeln!(out, "  {} {instance_id} incarnation {incarnation}", word(outcome)).unwrap();
            }
            out
        }
        Reply::Deregistered { removed } => format!("removed {removed}\n"),
        Reply::StateSet { changed, overridden } => format!("changed {changed}, overridden {overridden}\n"),
        Reply::Drained { revision, services } => {
            let services: Vec<_> = services.iter().map(ToString::to_string).collect();
            format!("drained, await revision {revision} of {}\n", services.join(" "))
        }
        Reply::OverrideSet { operator_override, registered } => {
            format!(
                "override {}{}\n",
                show_override(operator_override),
                if *registered { "" } else { ", waits" }
            )
        }
        Reply::OverrideCleared { cleared } => {
            format!("{}\n", if *cleared { "cleared" } else { "nothing there" })
        }
        Reply::OverridesTicked { updated } => format!("ticked {updated}\n"),
        Reply::OverridesEnded { ended } => format!("ended {ended}\n"),
        Reply::Protected { leases, instances } => {
            format!("protected {leases} leases, {instances} instances\n")
        }
        Reply::Unprotected { leases, instances } => {
            format!("unprotected {leases} leases, {instances} instances\n")
        }
        Reply::ProtectionEnded { ended } | Reply::GuardTicked { ended } => {
            format!("let go {ended} instances\n")
        }
        Reply::Expired { leases, instances, skipped } => {
            format!("expired {leases} leases, {instances} instances, skipped {skipped}\n")
        }
        Reply::Initialized { already } => format!("initialized{}\n", if *already { " before" } else { "" }),
        Reply::MemberAdded { raft_id, already } => {
            format!("member {raft_id}{}\n", if *already { " as before" } else { "" })
        }
        Reply::MembersRemoved { removed } => format!("removed members {removed:?}\n"),
        Reply::SettingsUpdated { version } => format!("settings version {version}\n"),
        Reply::Rejected(Rejection { reason, index }) => {
            let at = index.map_or_else(String::new, |index| format!(" at {index}"));
            let name = format!("{reason:?}");
            let name = name.split([' ', '(', '{']).next().unwrap_or_default();
            format!("rejected {name}{at}: {reason}\n")
        }
    }
}

fn show_event(event: &Event) -> String {
    let mut out = String::new();
    writeln!(out, "  {} {}: {}", word(&event.kind), word(&event.cause), instance(&event.instance)).unwrap();
    if let Some(previous) = &event.previous {
        writeln!(out, "    was {}", instance(previous)).unwrap();
    }
    out
}

fn instance(i: &InstanceRecord) -> String {
    let mut out = format!("{}/{} {} weight {}", i.service, i.instance_id, word(&i.state()), i.weight());
    if format!("{}:{}", i.content.host, i.content.port) != i.instance_id {
        write!(out, " at {}:{}", i.content.host, i.content.port).unwrap();
    }
    if !i.content.zone.is_empty() {
        write!(out, " zone {}", i.content.zone).unwrap();
    }
    for (key, value) in &i.content.metadata {
        write!(out, " {key}={value}").unwrap();
    }
    for tag in &i.content.tags {
        write!(out, " #{tag}").unwrap();
    }
    for (name, port) in &i.content.ports {
        write!(out, " {name}:{port}").unwrap();
    }
    write!(out, " ttl {} inc {} rev {}", time(i.ttl_ms.into()), i.incarnation, i.revision).unwrap();
    if let Some(o) = &i.operator_override {
        write!(
            out,
            " [override {}; reported {} {}]",
            show_override(o),
            word(&i.reported_state),
            i.content.weight
        )
        .unwrap();
    }
    if let Some(protection) = &i.protection {
        write!(out, " [protected, silent for {}]", time(protection.silent_for_ms)).unwrap();
    }
    out
}

fn show_override(o: &Override) -> String {
    let mut out = String::new();
    if let Some(state) = o.state {
        write!(out, "{} ", word(&state)).unwrap();
    }
    if let Some(weight) = o.weight {
        write!(out, "weight {weight} ").unwrap();
    }
    if !o.comment.is_empty() || !o.actor.is_empty() {
        write!(out, "\"{}\" by \"{}\" ", o.comment, o.actor).unwrap();
    }
    if let Some(at) = o.expires_at_unix_ms {
        write!(out, "until {} ", time(at)).unwrap();
    }
    write!(out, "since {}", o.revision).unwrap();
    out
}

fn lease_change(change: &LeaseChange) -> String {
    match change {
        LeaseChange::Opened { id, version, ttl_ms } => {
            format!("lease {id} opened, version {version}, ttl {}", time((*ttl_ms).into()))
        }
        LeaseChange::Touched { id, version, ttl_ms } => {
            format!("lease {id} touched, version {version}, ttl {}", time((*ttl_ms).into()))
        }
        LeaseChange::Held { id, version } => format!("lease {id} held, version {version}"),
        LeaseChange::Released { id, version } => format!("lease {id} released, version {version}"),
        LeaseChange::Closed { id } => format!("lease {id} closed"),
    }
}

pub(crate) fn answer(state: &State, query: &Query) -> String {
    match query {
        Query::Service { namespace, name } => service(state, namespace, name),
        Query::Services { namespace: Some(namespace), prefix, after } => {
            lines(state.services_in(namespace, prefix, after).map(|view| summary(&view)))
        }
        Query::Services { namespace: None, .. } => {
            lines(state.services_from(None).map(|view| summary(&view)))
        }
        Query::Overrides => lines(state.overrides_from(None).map(|view| {
            let left = view.remaining_ms.map_or_else(String::new, |left| format!(", {} left", time(left)));
            let waits = if view.registered { "" } else { ", waits" };
            format!("{} {}{left}{waits}", view.key, show_override(view.operator_override))
        })),
        Query::Leases => lines(state.leases().map(|lease| {
            let LeaseView { id, version, ttl_ms, hold, instances } = lease;
            let named: Vec<_> = state.lease_instances(id).map(|i| i.instance_id.to_string()).collect();
            assert_eq!(named.len() as u32, instances);
            format!(
                "lease {id} version {version} ttl {} hold {} of {}",
                time(ttl_ms.into()),
                word(&hold),
                named.join(" ")
            )
        })),
        Query::Guards => lines(state.guards().map(|(key, guard)| match guard {
            GuardState::Holding { remaining_ms } => format!("{key} holding, {} left", time(remaining_ms)),
            other => format!("{key} {}", word(&other)),
        })),
        Query::Members => {
            let mut out = lines(state.members().map(|m| {
                format!(
                    "{} {} {} peer {} client {}",
                    m.raft_id, m.node_id, m.disk_id, m.peer_endpoint, m.client_endpoint
                )
            }));
            let removed: Vec<_> = (1..100).filter(|id| state.is_removed(*id)).collect();
            writeln!(out, "removed {removed:?}").unwrap();
            out
        }
        Query::Status => format!(
            "revision {} floor {} services {} {} leases {} user data {} settings {}\n",
            state.revision(),
            state.history_floor(),
            state.service_count(),
            counts(state.counts()),
            state.lease_count(),
            state.user_data_bytes(),
            state.settings().version,
        ),
        Query::History { since } => match state.history_since(*since) {
            Ok(revisions) => lines(revisions.map(|made| {
                let events: Vec<_> = made
                    .events
                    .iter()
                    .map(|e| format!("{} {}", word(&e.kind), e.instance.instance_id))
                    .collect();
                let events = if events.is_empty() { "no events".into() } else { events.join(", ") };
                format!("{}: {events}", made.revision)
            })),
            Err(gap) => format!("{gap}\n"),
        },
        Query::WouldRenew { registration, request } => {
            let lease = state.would_renew(registration, request.as_ref());
            lease.map_or_else(|| "goes through the log\n".into(), |id| format!("renews lease {id}\n"))
        }
    }
}

fn service(state: &State, namespace: &str, name: &str) -> String {
    let Some(view) = state.service(namespace, name) else { return "unknown\n".into() };
    let mut out = format!("{}\n", summary(&view));
    for record in view.instances() {
        writeln!(out, "  {}", instance(record)).unwrap();
    }
    out
}

fn summary(view: &ServiceView<'_>) -> String {
    format!("{} {} rev {}: {}", view.key(), word(&view.status()), view.revision(), counts(view.counts()))
}

fn counts(c: &Counts) -> String {
    let mut out = format!("total {}", c.total);
    let parts = [
        ("starting", c.starting),
        ("up", c.up),
        ("draining", c.draining),
        ("down", c.down),
        ("protected", c.protected),
    ];
    for (name, count) in parts.into_iter().filter(|(_, count)| *count > 0) {
        write!(out, " {name} {count}").unwrap();
    }
    out
}

fn lines(items: impl Iterator<Item = String>) -> String {
    let out = items.fold(String::new(), |out, item| out + &item + "\n");
    if out.is_empty() { "nothing\n".into() } else { out }
}

/// The name of an enum's value in small letters.
fn word(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}

fn time(ms: u64) -> String {
    if ms.is_multiple_of(1_000) { format!("{}s", ms / 1_000) } else { format!("{ms}ms") }
}
