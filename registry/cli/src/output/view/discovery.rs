//! Answers to discover and services.

use registry_proto::v1;

use super::{View, staleness};
use crate::output::Rendering;
use crate::output::human::{self, Round};
use crate::output::table::{Cell, Table};
use crate::output::text::{clean, count};

/// The id of an instance; `HOST:PORT` unless its owner chose another.
pub(crate) fn name_of(instance: &v1::Instance) -> String {
    clean(&instance.instance_id)
}

/// A table for [`instance_row`]s.
pub(crate) fn instance_table(wide: bool) -> Table {
    let narrow = ["INSTANCE", "ADDRESS", "STATE", "WEIGHT", "ZONE", "TTL", "AGE"];
    let more = ["INCARNATION", "REVISION", "TAGS", "PORTS", "METADATA", "NOTES"];
    Table::new(narrow.into_iter().chain(more.into_iter().filter(|_| wide)))
}

/// A line about an instance.
pub(crate) fn instance_row(instance: &v1::Instance, rendering: Rendering, wide: bool) -> Vec<Cell> {
    let (state, tone) = human::state(instance.state);
    let mark = match (&instance.operator_override, &instance.protection) {
        (Some(_), Some(_)) => " (override, protected)",
        (Some(_), None) => " (override)",
        (None, Some(_)) => " (protected)",
        (None, None) => "",
    };
    let mut row = vec![
        Cell::from(&instance.instance_id),
        Cell::from(crate::args::instance::instance_id(&instance.host, instance.port)),
        Cell::toned(format!("{state}{mark}"), tone),
        Cell::from(instance.weight.unwrap_or(100).to_string()),
        Cell::from(&instance.zone),
        Cell::from(human::ttl(instance.ttl.as_ref())),
        Cell::from(human::age(instance.registered_at.as_ref(), rendering.now_unix_s)),
    ];
    if wide {
        let ports = instance.ports.iter().map(|(name, port)| format!("{name}={}", port.port));
        let metadata = instance.metadata.iter().map(|(key, value)| format!("{key}={value}"));
        row.extend([
            Cell::from(instance.incarnation.to_string()),
            Cell::from(instance.revision.to_string()),
            Cell::from(instance.tags.join(",")),
            Cell::from(ports.collect::<Vec<_>>().join(",")),
            Cell::from(metadata.collect::<Vec<_>>().join(",")),
            Cell::from(notes(instance, rendering.now_unix_s).join("; ")),
        ]);
    }
    row
}

/// What an operator or the guard has done to an instance.
fn notes(instance: &v1::Instance, now_unix_s: i64) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(set) = &instance.operator_override {
        let mut note = "override".to_owned();
        if !set.actor.is_empty() {
            note.push_str(&format!(" by {}", set.actor));
        }
        if !set.comment.is_empty() {
            note.push_str(&format!(": {}", set.comment));
        }
        if let Some(reported) = &instance.reported {
            let weight = reported.weight.map(|weight| format!(" weight {weight}")).unwrap_or_default();
            note.push_str(&format!(" (owner reports {}{weight})", human::state(reported.state).0));
        }
        notes.push(note);
    }
    if let Some(protection) = &instance.protection {
        let before = protection.silent_for.as_ref().map(human::std_duration).unwrap_or_default();
        let since = protection.since.as_ref().map_or(0, |since| now_unix_s.saturating_sub(since.seconds));
        let silent = before.saturating_add(std::time::Duration::from_secs(u64::try_from(since).unwrap_or(0)));
        notes.push(format!("protected, silent for {}", human::duration(silent, Round::Coarse)));
    }
    notes
}

impl View for v1::ServiceDiscoveryResponse {
    type Message = Self;
    const NAME: &'static str = "registry.v1.ServiceDiscoveryResponse";

    fn message(&self) -> &Self {
        self
    }

    fn table(&self, rendering: Rendering, wide: bool) -> String {
        if self.instances.is_empty() {
            return String::new();
        }
        let mut table = instance_table(wide);
        for instance in &self.instances {
            table.row(instance_row(instance, rendering, wide));
        }
        table.render(rendering.style)
    }

    fn names(&self) -> Vec<String> {
        self.instances.iter().map(name_of).collect()
    }

    fn remarks(&self, _: Rendering) -> Vec<String> {
        let counts = self.counts.unwrap_or_default();
        let known = counts.total;
        let mut remarks = Vec::new();
        match v1::ServiceStatus::try_from(self.status).unwrap_or(v1::ServiceStatus::Available) {
            v1::ServiceStatus::Unknown => remarks.push("nobody has registered this service".to_owned()),
            v1::ServiceStatus::Empty => remarks.push("the service has no instance at present".to_owned()),
            v1::ServiceStatus::NoneUp => remarks.push("no instance of the service is UP".to_owned()),
            v1::ServiceStatus::Protected => {
                let protection = self.protection.unwrap_or_default();
                let held =
                    protection.held_for.as_ref().map(|time| human::proto_duration(time, Round::Coarse));
                remarks.push(format!(
                    "protected for {}: {} may be dead, as many fell silent at once",
                    held.as_deref().unwrap_or("a while"),
                    count(protection.instances, "instance", "instances"),
                ));
            }
            v1::ServiceStatus::Available | v1::ServiceStatus::Unspecified => {}
        }
        if known > 0 && self.instances.is_empty() {
            remarks.push(format!("none of its {} matches", count(known, "instance", "instances")));
        }
        remarks.extend(staleness(self.header.as_ref()));
        remarks
    }
}

impl View for v1::ListServicesResponse {
    type Message = Self;
    const NAME: &'static str = "registry.v1.ListServicesResponse";

    fn message(&self) -> &Self {
        self
    }

    fn table(&self, rendering: Rendering, wide: bool) -> String {
        if self.services.is_empty() {
            return String::new();
        }
        let mut table = Table::new(
            ["NAMESPACE", "SERVICE", "STATUS", "INSTANCES", "UP", "STARTING", "DRAINING", "DOWN"]
                .into_iter()
                .chain(["PROTECTED", "REVISION"].into_iter().filter(|_| wide)),
        );
        for service in &self.services {
            let counts = service.counts.unwrap_or_default();
            let (status, tone) = human::service_status(service.status);
            let mut row = vec![
                Cell::from(&service.namespace),
                Cell::from(&service.service_name),
                Cell::toned(status, tone),
            ];
            let mut numbers = vec![counts.total, counts.up, counts.starting, counts.draining, counts.down];
            numbers.extend([counts.protected].into_iter().filter(|_| wide));
            row.extend(numbers.iter().map(|number| Cell::from(number.to_string())));
            if wide {
                row.push(Cell::from(service.revision.to_string()));
            }
            table.row(row);
        }
        table.render(rendering.style)
    }

    /// `NAMESPACE/SERVICE`.
    fn names(&self) -> Vec<String> {
        let name = |service: &v1::ServiceSummary| {
            format!("{}/{}", clean(&service.namespace), clean(&service.service_name))
        };
        self.services.iter().map(name).collect()
    }

    fn remarks(&self, _: Rendering) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.services.is_empty() {
            remarks.push("no service found".to_owned());
        }
        remarks.extend(staleness(self.header.as_ref()));
        remarks
    }
}
