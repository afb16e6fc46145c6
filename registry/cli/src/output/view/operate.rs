//! Answers to drain, state, override, protection.

use registry_proto::v1;

use super::{View, staleness};
use crate::output::Rendering;
use crate::output::human::{self, Round};
use crate::output::style::Tone;
use crate::output::table::{Cell, Table};
use crate::output::text::{clean, count};

/// ", revision 42, told by registry-node-2" for `-o wide`.
fn told_by(header: Option<&v1::ResponseHeader>, wide: bool) -> String {
    match header {
        Some(header) if wide => {
            format!(", revision {}, told by {}", header.revision, clean(&header.node_id))
        }
        _ => String::new(),
    }
}

impl View for v1::DrainResponse {
    type Message = Self;
    const NAME: &'static str = "registry.v1.DrainResponse";

    fn message(&self) -> &Self {
        self
    }

    fn table(&self, rendering: Rendering, wide: bool) -> String {
        let sent = self.watches.saturating_sub(self.pending_watches);
        let how = match (self.complete, self.watches) {
            (true, 0) => "complete: nobody watches".to_owned(),
            (true, watches) => format!("complete: {} told", count(watches, "watcher", "watchers")),
            (false, watches) => {
                format!("incomplete: {sent} of {} told", count(watches, "watcher", "watchers"))
            }
        };
        let tone = if self.complete { Tone::Good } else { Tone::Attention };
        let mut text =
            format!("DRAINING since revision {}, {}", self.revision, rendering.style.tone(tone, &how));
        if wide && let Some(header) = &self.header {
            text.push_str(&format!(", asked {}", clean(&header.node_id)));
        }
        text.push('\n');
        text
    }

    /// The nodes that could not be asked.
    fn names(&self) -> Vec<String> {
        self.silent_nodes.iter().map(|node| clean(node)).collect()
    }

    fn remarks(&self, _: Rendering) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.pending_watches > 0 {
            let pending = count(self.pending_watches, "watcher has", "watchers have");
            remarks.push(format!("{pending} not read so far: repeat the command to wait on"));
        }
        if !self.silent_nodes.is_empty() {
            let nodes: Vec<_> = self.silent_nodes.iter().map(|node| clean(node)).collect();
            remarks.push(format!(
                "not asked, as they are silent: {}; their watchers are not counted",
                nodes.join(", ")
            ));
        }
        remarks
    }
}

impl View for v1::SetInstanceStateResponse {
    type Message = Self;
    const NAME: &'static str = "registry.v1.SetInstanceStateResponse";

    fn message(&self) -> &Self {
        self
    }

    fn table(&self, _: Rendering, wide: bool) -> String {
        let what = match self.changed {
            0 => "nothing changed: that was its state already".to_owned(),
            number => format!("changed {}", count(number, "instance", "instances")),
        };
        format!("{what}{}\n", told_by(self.header.as_ref(), wide))
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn remarks(&self, _: Rendering) -> Vec<String> {
        let hidden = (self.overridden > 0)
            .then(|| "an override hides the reported state: see `override list`".to_owned());
        hidden.into_iter().collect()
    }
}

/// "DRAINING, weight 0"
fn shown(set: &v1::InstanceOverride) -> String {
    let state = (set.state() != v1::InstanceState::Unspecified).then(|| human::state(set.state).0.to_owned());
    let weight = set.weight.map(|weight| format!("weight {weight}"));
    state.into_iter().chain(weight).collect::<Vec<_>>().join(", ")
}

/// "in 59 min", or when it is cleared. By the clock of whoever asks: it is a label.
fn ends(set: &v1::InstanceOverride, now_unix_s: i64) -> String {
    match &set.expires_at {
        None => "when cleared".to_owned(),
        Some(at) => {
            let left = u64::try_from(at.seconds.saturating_sub(now_unix_s)).unwrap_or(0);
            format!("in {}", human::duration(std::time::Duration::from_secs(left), Round::Coarse))
        }
    }
}

impl View for v1::SetInstanceOverrideResponse {
    type Message = Self;
    const NAME: &'static str = "registry.v1.SetInstanceOverrideResponse";

    fn message(&self) -> &Self {
        self
    }

    fn table(&self, rendering: Rendering, wide: bool) -> String {
        let set = self.operator_override.clone().unwrap_or_default();
        let ends = ends(&set, rendering.now_unix_s);
        format!("override set: {}, ends {ends}{}\n", shown(&set), told_by(self.header.as_ref(), wide))
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn remarks(&self, _: Rendering) -> Vec<String> {
        let waits = (!self.registered)
            .then(|| "the instance is not registered: the override waits for it".to_owned());
        waits.into_iter().collect()
    }
}

impl View for v1::ClearInstanceOverrideResponse {
    type Message = Self;
    const NAME: &'static str = "registry.v1.ClearInstanceOverrideResponse";

    fn message(&self) -> &Self {
        self
    }

    fn table(&self, _: Rendering, wide: bool) -> String {
        let what = if self.cleared { "override cleared" } else { "there was no override, nothing changed" };
        format!("{what}{}\n", told_by(self.header.as_ref(), wide))
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

impl View for v1::ListInstanceOverridesResponse {
    type Message = Self;
    const NAME: &'static str = "registry.v1.ListInstanceOverridesResponse";

    fn message(&self) -> &Self {
        self
    }

    fn table(&self, rendering: Rendering, wide: bool) -> String {
        if self.overrides.is_empty() {
            return String::new();
        }
        let narrow = ["NAMESPACE", "SERVICE", "INSTANCE", "STATE", "WEIGHT", "ENDS", "BY", "COMMENT"];
        let more = ["SINCE", "REVISION", "REGISTERED"];
        let mut table = Table::new(narrow.into_iter().chain(more.into_iter().filter(|_| wide)));
        for entry in &self.overrides {
            let set = entry.operator_override.clone().unwrap_or_default();
            let (state, tone) = match set.state() {
                v1::InstanceState::Unspecified => ("-", Tone::Plain),
                state => human::state(state.into()),
            };
            let mut row = vec![
                Cell::from(&entry.namespace),
                Cell::from(&entry.service_name),
                Cell::from(&entry.instance_id),
                Cell::toned(state, tone),
                Cell::from(set.weight.map_or_else(|| "-".to_owned(), |weight| weight.to_string())),
                Cell::from(ends(&set, rendering.now_unix_s)),
                Cell::from(&set.actor),
                Cell::from(&set.comment),
            ];
            if wide {
                row.extend([
                    Cell::from(human::age(set.set_at.as_ref(), rendering.now_unix_s)),
                    Cell::from(set.revision.to_string()),
                    Cell::from(if entry.registered { "yes" } else { "no" }),
                ]);
            }
            table.row(row);
        }
        table.render(rendering.style)
    }

    /// `NAMESPACE/SERVICE/INSTANCE`.
    fn names(&self) -> Vec<String> {
        let name = |entry: &v1::OverrideEntry| {
            let parts = [&entry.namespace, &entry.service_name, &entry.instance_id];
            parts.map(|part| clean(part)).join("/")
        };
        self.overrides.iter().map(name).collect()
    }

    fn remarks(&self, _: Rendering) -> Vec<String> {
        let none = self.overrides.is_empty().then(|| "no override found".to_owned());
        none.into_iter().chain(staleness(self.header.as_ref())).collect()
    }
}

impl View for v1::EndProtectionResponse {
    type Message = Self;
    const NAME: &'static str = "registry.v1.EndProtectionResponse";

    fn message(&self) -> &Self {
        self
    }

    fn table(&self, _: Rendering, wide: bool) -> String {
        let what = match self.ended {
            0 => "nothing was protected there, nothing changed".to_owned(),
            number => format!("protection ended for {}", count(number, "instance", "instances")),
        };
        format!("{what}{}\n", told_by(self.header.as_ref(), wide))
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn remarks(&self, _: Rendering) -> Vec<String> {
        let leave = (self.ended > 0).then(|| "those not renewed meanwhile leave within 2 s".to_owned());
        leave.into_iter().collect()
    }
}
