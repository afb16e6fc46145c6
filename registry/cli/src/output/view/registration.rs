//! Answers to register, heartbeat, deregister.

use registry_proto::v1;

use super::View;
use crate::args::value::LeaseId;
use crate::output::Rendering;
use crate::output::human::{self, Round};
use crate::output::text::{clean, count};

impl View for v1::ServiceRegisterResponse {
    type Message = Self;
    const NAME: &'static str = "registry.v1.ServiceRegisterResponse";

    fn message(&self) -> &Self {
        self
    }

    fn table(&self, rendering: Rendering, wide: bool) -> String {
        let instance = self.instance.clone().unwrap_or_default();
        let done = match v1::RegisterOutcome::try_from(self.outcome).unwrap_or(v1::RegisterOutcome::Updated) {
            v1::RegisterOutcome::Renewed => "renewed",
            v1::RegisterOutcome::Updated => "updated",
            v1::RegisterOutcome::Replaced => "took over",
            v1::RegisterOutcome::Created | v1::RegisterOutcome::Unspecified => "registered",
        };
        let ends = match human::ttl(instance.ttl.as_ref()).as_str() {
            "permanent" | "-" => "never expires".to_owned(),
            ttl => format!("expires in {ttl}"),
        };
        let mut text = format!(
            "{done} {}/{}, incarnation {}, lease {}, {ends}\n",
            clean(&instance.service_name),
            clean(&instance.instance_id),
            self.incarnation,
            LeaseId(self.lease_id),
        );
        if wide {
            let mut table = super::discovery::instance_table(true);
            table.row(super::instance_row(&instance, rendering, true));
            text.push_str(&table.render(rendering.style));
        }
        text
    }

    fn names(&self) -> Vec<String> {
        self.instance.iter().map(super::name_of).collect()
    }
}

impl View for v1::HeartbeatResponse {
    type Message = Self;
    const NAME: &'static str = "registry.v1.HeartbeatResponse";

    fn message(&self) -> &Self {
        self
    }

    fn table(&self, rendering: Rendering, wide: bool) -> String {
        let ends = match &self.remaining_ttl {
            None => "never expires".to_owned(),
            Some(time) => format!("expires in {}", human::proto_duration(time, Round::Fine)),
        };
        let mut text = format!("renewed lease {}, {ends}", LeaseId(self.lease_id));
        if self.incarnation != 0 {
            let (state, tone) = human::state(self.state);
            text.push_str(&format!(
                ", incarnation {}, state {}",
                self.incarnation,
                rendering.style.tone(tone, state)
            ));
        }
        if wide && let Some(header) = &self.header {
            text.push_str(&format!(", told by {}", clean(&header.node_id)));
        }
        text.push('\n');
        text
    }

    fn names(&self) -> Vec<String> {
        vec![LeaseId(self.lease_id).to_string()]
    }
}

impl View for v1::ServiceDeregisterResponse {
    type Message = Self;
    const NAME: &'static str = "registry.v1.ServiceDeregisterResponse";

    fn message(&self) -> &Self {
        self
    }

    fn table(&self, _: Rendering, wide: bool) -> String {
        let mut text = match self.removed {
            0 => "nothing was registered there, nothing changed".to_owned(),
            number => format!("deregistered {}", count(number, "instance", "instances")),
        };
        if wide && let Some(header) = &self.header {
            text.push_str(&format!(", revision {}, told by {}", header.revision, clean(&header.node_id)));
        }
        text.push('\n');
        text
    }

    /// Nothing: the answer names none.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}
