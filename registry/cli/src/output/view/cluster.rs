//! The cluster: `status` in words with its members, `members` as a table.

use registry_proto::v1;

use super::View;
use crate::output::Rendering;
use crate::output::human::{self, Round};
use crate::output::style::Tone;
use crate::output::table::{Cell, Table};
use crate::output::text::{clean, count, lines, or_dash};

impl View for v1::ClusterStatusResponse {
    type Message = Self;
    const NAME: &'static str = "registry.v1.ClusterStatusResponse";

    fn message(&self) -> &Self {
        self
    }

    fn table(&self, rendering: Rendering, wide: bool) -> String {
        let mut text = lines([
            format!("Cluster   {}", self.cluster_words(wide)),
            format!("Leader    {}", self.leader_words(rendering)),
            format!("Quorum    {}", self.quorum_words(rendering)),
            format!("Members   {}", self.member_words(rendering)),
            format!("Contents  {}", self.contents_words()),
            format!("Asked     {}", self.source_words()),
        ]);
        text.push('\n');
        text.push_str(&member_table(&self.members, rendering, wide));
        text
    }

    /// The leader's name.
    fn names(&self) -> Vec<String> {
        [&self.leader_id].into_iter().filter(|id| !id.is_empty()).map(|id| clean(id)).collect()
    }
}

/// Sentences of `status`.
trait Words {
    fn cluster_words(&self, wide: bool) -> String;
    fn leader_words(&self, rendering: Rendering) -> String;
    fn quorum_words(&self, rendering: Rendering) -> String;
    fn member_words(&self, rendering: Rendering) -> String;
    fn contents_words(&self) -> String;
    fn source_words(&self) -> String;
}

impl Words for v1::ClusterStatusResponse {
    fn cluster_words(&self, wide: bool) -> String {
        match self.cluster_id.as_str() {
            "" => "not founded yet".to_owned(),
            id if wide => format!("{}, epoch {}, revision {}", clean(id), self.epoch, self.revision),
            id => format!("{}, revision {}", clean(id), self.revision),
        }
    }

    fn leader_words(&self, rendering: Rendering) -> String {
        match self.leader_id.as_str() {
            "" => format!("{} (term {})", rendering.style.tone(Tone::Bad, "none known"), self.term),
            id => format!("{} (term {})", clean(id), self.term),
        }
    }

    fn quorum_words(&self, rendering: Rendering) -> String {
        let quorum = self.quorum.unwrap_or_default();
        if quorum.voters == 0 {
            return "none yet".to_owned();
        }
        let word = if quorum.available {
            rendering.style.tone(Tone::Good, "available")
        } else {
            rendering.style.tone(Tone::Bad, "lost: no writes, only stale reads")
        };
        format!(
            "{word} ({} of {} heard, {} needed)",
            quorum.reachable,
            count(quorum.voters, "voter", "voters"),
            quorum.needed
        )
    }

    fn member_words(&self, rendering: Rendering) -> String {
        let of_kind = |kind| self.members.iter().filter(|member| member.kind() == kind).count();
        let of_health = |health| self.members.iter().filter(|member| member.health() == health).count();
        let some = |count: usize, word: &str| (count > 0).then(|| format!("{count} {word}"));
        let mut parts: Vec<String> = [
            some(of_kind(v1::MemberKind::Voter), "voting"),
            some(of_kind(v1::MemberKind::Learner), "learning"),
            some(of_kind(v1::MemberKind::Joining), "joining"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let differing = self.members.iter().filter(|member| member.state_differs).count();
        let bad = [
            some(of_health(v1::MemberHealth::Dead), "dead"),
            some(of_health(v1::MemberHealth::Quarantined), "quarantined"),
            some(differing, "with another state than the leader"),
        ];
        parts.extend(bad.into_iter().flatten().map(|part| rendering.style.tone(Tone::Bad, &part)));
        if self.voter_sets.len() > 1 {
            let sets: Vec<String> = self.voter_sets.iter().map(|set| format!("{:?}", set.raft_ids)).collect();
            let change = format!("changing: majorities of {}", sets.join(" and "));
            parts.push(rendering.style.tone(Tone::Attention, &change));
        }
        if parts.is_empty() { "none yet".to_owned() } else { parts.join(", ") }
    }

    fn contents_words(&self) -> String {
        let counts = self.instances.unwrap_or_default();
        let mut text = format!(
            "{}, {} ({} up, {} starting, {} draining, {} down",
            count(self.service_count, "service", "services"),
            count(counts.total, "instance", "instances"),
            counts.up,
            counts.starting,
            counts.draining,
            counts.down
        );
        if counts.protected > 0 {
            text.push_str(&format!("; {} protected", counts.protected));
        }
        text.push_str(&format!("), {}", count(self.lease_count, "lease", "leases")));
        text
    }

    fn source_words(&self) -> String {
        let header = self.header.clone().unwrap_or_default();
        let view = match v1::StatusSource::try_from(self.source).unwrap_or(v1::StatusSource::Node) {
            v1::StatusSource::Leader => "the leader's view",
            v1::StatusSource::Node | v1::StatusSource::Unspecified => "its own view",
        };
        let role = match human::role(header.role).0 {
            "-" => String::new(),
            role => format!(" ({role})"),
        };
        format!(
            "{}{role}, {view}; {} open there",
            or_dash(&header.node_id),
            count(self.watch_count, "watch", "watches")
        )
    }
}

/// The members of a cluster. As JSON and YAML it is the status, of which they are a part.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Members(pub(crate) v1::ClusterStatusResponse);

impl View for Members {
    type Message = v1::ClusterStatusResponse;
    const NAME: &'static str = v1::ClusterStatusResponse::NAME;

    fn message(&self) -> &Self::Message {
        &self.0
    }

    fn table(&self, rendering: Rendering, wide: bool) -> String {
        member_table(&self.0.members, rendering, wide)
    }

    fn names(&self) -> Vec<String> {
        self.0.members.iter().map(|member| clean(&member.node_id)).collect()
    }

    fn remarks(&self, _: Rendering) -> Vec<String> {
        match v1::StatusSource::try_from(self.0.source) {
            Ok(v1::StatusSource::Leader) => Vec::new(),
            _ => {
                let node = self.0.header.as_ref().map_or("", |header| header.node_id.as_str());
                vec![format!("as {} alone sees it", or_dash(node))]
            }
        }
    }
}

fn member_table(members: &[v1::Member], rendering: Rendering, wide: bool) -> String {
    let head = ["NODE", "ROLE", "KIND", "HEALTH", "CLIENTS", "LAG", "HEARD", "DETAIL"];
    let more = ["PEERS", "RAFT ID", "APPLIED", "VERSION"];
    let mut table = Table::new(head.into_iter().chain(more.into_iter().filter(|_| wide)));
    for member in members {
        let (role, role_tone) = human::role(member.role);
        let (health, health_tone) = human::health(member.health);
        let number = |value: Option<u64>| Cell::from(value.map_or(String::new(), |value| value.to_string()));
        let heard = match member.last_contact.as_ref().map(human::std_duration) {
            None => "never".to_owned(),
            Some(std::time::Duration::ZERO) => "itself".to_owned(),
            Some(time) => format!("{} ago", human::duration(time, Round::Fine)),
        };
        let mut row = vec![
            Cell::from(&member.node_id),
            Cell::toned(role, role_tone),
            Cell::from(human::kind(member.kind)),
            Cell::toned(health, health_tone),
            Cell::from(&member.client_endpoint),
            number(member.lag_entries),
            Cell::from(heard),
            Cell::from(&member.detail),
        ];
        if wide {
            row.extend([
                Cell::from(&member.peer_endpoint),
                number((member.raft_id != 0).then_some(member.raft_id)),
                number(member.applied_index),
                Cell::from(&member.version),
            ]);
        }
        table.row(row);
    }
    table.render(rendering.style)
}
