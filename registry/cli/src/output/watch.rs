//! Messages of a watch, one or a few lines each.

use std::time::Duration;

use registry_proto::v1;

use super::human::{self, Round};
use super::style::Tone;
use super::text::clean;
use super::{Format, Rendering, message};
use crate::error::Error;

/// Full name of the message.
const NAME: &str = "registry.v1.WatchResponse";

/// The lines about one message; empty if people need not see it.
pub(crate) fn render(answer: &v1::WatchResponse, rendering: Rendering) -> Result<String, Error> {
    match rendering.format {
        Format::Json => message::json_line(NAME, answer),
        Format::Yaml => Ok(format!("---\n{}", message::yaml(NAME, answer)?)),
        Format::Name => Ok(names(answer)),
        Format::Table => Ok(lines(answer, rendering, false)),
        Format::Wide => Ok(lines(answer, rendering, true)),
    }
}

fn kind(answer: &v1::WatchResponse) -> v1::WatchKind {
    v1::WatchKind::try_from(answer.kind).unwrap_or(v1::WatchKind::Unspecified)
}

/// `NAMESPACE/SERVICE/INSTANCE`.
fn path(instance: &v1::Instance) -> String {
    clean(&format!("{}/{}/{}", instance.namespace, instance.service_name, instance.instance_id))
}

fn events(answer: &v1::WatchResponse) -> impl Iterator<Item = (u64, &v1::InstanceEvent)> {
    answer.changes.iter().flat_map(|change| change.events.iter().map(|event| (change.revision, event)))
}

/// The instances that are there or have changed.
fn names(answer: &v1::WatchResponse) -> String {
    let changed = events(answer).filter_map(|(_, event)| event.instance.as_ref());
    super::text::lines(answer.instances.iter().chain(changed).map(path))
}

fn lines(answer: &v1::WatchResponse, rendering: Rendering, wide: bool) -> String {
    let revision = answer.revision;
    let remark = |word: &str, text: String| format!("{word:<9} {text}\n");
    match kind(answer) {
        v1::WatchKind::Snapshot => {
            answer.instances.iter().map(|instance| present(instance, rendering, wide)).collect()
        }
        v1::WatchKind::Synced => remark("SYNCED", format!("up to revision {revision}{}", age(answer, wide))),
        v1::WatchKind::Changes => {
            events(answer).map(|(revision, event)| changed(revision, event, rendering, wide)).collect()
        }
        v1::WatchKind::Bookmark if wide => {
            remark("BOOKMARK", format!("nothing new up to revision {revision}{}", age(answer, wide)))
        }
        v1::WatchKind::Bookmark => String::new(),
        v1::WatchKind::Compacted => {
            let oldest = answer.oldest_revision;
            remark("COMPACTED", format!("changes before revision {oldest} are gone; everything follows anew"))
        }
        v1::WatchKind::EpochChanged => {
            remark("EPOCH", "the history is a new one; everything follows anew".to_owned())
        }
        v1::WatchKind::Resync => {
            remark("RESYNC", format!("read too slowly; resuming at revision {revision}"))
        }
        v1::WatchKind::Closing => {
            remark("CLOSING", format!("the node shuts down; resuming elsewhere at revision {revision}"))
        }
        v1::WatchKind::Unspecified => String::new(),
    }
}

/// Nodes refresh what they know of its age once a second: below this nothing is out of order.
const NORMAL_AGE: Duration = Duration::from_secs(2);

/// The age of the data behind a message, where it is worth a word.
fn age(answer: &v1::WatchResponse, wide: bool) -> String {
    let Some(header) = &answer.header else { return String::new() };
    let age = header.staleness.as_ref().map(human::std_duration);
    match (header.staleness_unknown, age) {
        (false, Some(age)) if wide || age >= NORMAL_AGE => {
            format!(", at most {} old", human::duration(age, Round::Fine))
        }
        (true, Some(age)) => format!(", no leader heard for {} or more", human::duration(age, Round::Fine)),
        (true, None) => ", of unknown age".to_owned(),
        (false, _) => String::new(),
    }
}

fn present(instance: &v1::Instance, rendering: Rendering, wide: bool) -> String {
    let word = rendering.style.tone(Tone::Plain, &format!("{:<9}", "PRESENT"));
    format!("{word} {}  {}\n", path(instance), shown(instance, rendering, wide))
}

fn changed(revision: u64, event: &v1::InstanceEvent, rendering: Rendering, wide: bool) -> String {
    let (word, tone) = match v1::EventKind::try_from(event.kind).unwrap_or(v1::EventKind::Updated) {
        v1::EventKind::Added => ("ADDED", Tone::Good),
        v1::EventKind::Removed => ("REMOVED", Tone::Bad),
        v1::EventKind::Updated | v1::EventKind::Unspecified => ("UPDATED", Tone::Attention),
    };
    let word = rendering.style.tone(tone, &format!("{word:<9}"));
    let instance = event.instance.clone().unwrap_or_default();
    let before = match &event.previous {
        Some(previous) if previous.state != instance.state => {
            format!("{} -> ", human::state(previous.state).0)
        }
        _ => String::new(),
    };
    let cause = human::cause(event.cause);
    let shown = shown(&instance, rendering, wide);
    format!("{word} {}  {before}{shown}  revision {revision}, {cause}\n", path(&instance))
}

/// State and what else matters to whom sends requests.
fn shown(instance: &v1::Instance, rendering: Rendering, wide: bool) -> String {
    let (state, tone) = human::state(instance.state);
    let mut text = rendering.style.tone(tone, state);
    let weight = instance.weight.unwrap_or(100);
    if wide || weight != 100 {
        text.push_str(&format!(" weight={weight}"));
    }
    if instance.instance_id != crate::args::instance::instance_id(&instance.host, instance.port) {
        let address = crate::args::instance::instance_id(&instance.host, instance.port);
        text.push_str(&format!(" at={}", clean(&address)));
    }
    if wide {
        if !instance.zone.is_empty() {
            text.push_str(&format!(" zone={}", clean(&instance.zone)));
        }
        if !instance.tags.is_empty() {
            text.push_str(&format!(" tags={}", clean(&instance.tags.join(","))));
        }
        text.push_str(&format!(" incarnation={}", instance.incarnation));
    }
    if instance.operator_override.is_some() {
        text.push_str(" (override)");
    }
    if instance.protection.is_some() {
        text.push_str(" (protected)");
    }
    text
}
