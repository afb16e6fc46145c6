//! Answers to an administrator: members as the leader knows them, and what was changed.

use registry_proto::internal as api;

use super::View;
use crate::admin::members::{Phase, condition, id, name, place};
use crate::output::Rendering;
use crate::output::human::{self, Round};
use crate::output::style::Tone;
use crate::output::table::{Cell, Table};
use crate::output::text::{clean, count, lines};

mod settings;

pub(crate) use settings::{SettingsChange, SettingsView};

/// `member list`
impl View for api::StatusResponse {
    type Message = Self;
    const NAME: &'static str = "registry.internal.v1.StatusResponse";

    fn message(&self) -> &Self {
        self
    }

    fn table(&self, rendering: Rendering, wide: bool) -> String {
        let head = ["NODE", "ID", "PLACE", "CONDITION", "LAG", "ANSWERED", "DETAIL"];
        let more = ["PEERS", "DISK", "APPLIED", "VERSION"];
        let mut table = Table::new(head.into_iter().chain(more.into_iter().filter(|_| wide)));
        for member in &self.members {
            table.row(self.row(member, wide));
        }
        table.render(rendering.style)
    }

    fn names(&self) -> Vec<String> {
        self.members.iter().map(|member| clean(name(member))).collect()
    }

    fn remarks(&self, _: Rendering) -> Vec<String> {
        let mut remarks = vec![self.owner_words()];
        if !self.membership_step.is_empty() {
            remarks.push(format!("now: {}", clean(&self.membership_step)));
        }
        if !self.membership_trouble.is_empty() {
            remarks.push(format!("last trouble: {}", clean(&self.membership_trouble)));
        }
        remarks
    }
}

/// Parts of `member list`.
trait Words {
    fn row(&self, member: &api::MemberStatus, wide: bool) -> Vec<Cell>;
    fn owner_words(&self) -> String;
}

impl Words for api::StatusResponse {
    fn row(&self, member: &api::MemberStatus, wide: bool) -> Vec<Cell> {
        let identity = member.identity.clone().unwrap_or_default();
        let leads = self.raft.as_ref().is_some_and(|raft| raft.leader_raft_id == id(member));
        let own = self.identity.as_ref().is_some_and(|own| own.raft_id == id(member));
        let word = condition(member);
        let tone = match word {
            "alive" => Tone::Good,
            "stopping" | "unknown" => Tone::Attention,
            _ => Tone::Bad,
        };
        let answered = match &member.last_answer {
            _ if own => "itself".to_owned(),
            None => "never".to_owned(),
            Some(time) => format!("{} ago", human::proto_duration(time, Round::Fine)),
        };
        let number = |value: Option<u64>| Cell::from(value.map_or(String::new(), |value| value.to_string()));
        let mut row = vec![
            Cell::from(name(member)),
            Cell::from(id(member).to_string()),
            Cell::from(if leads { "leader" } else { place(member) }),
            Cell::toned(word, tone),
            number(member.lag_entries),
            Cell::from(answered),
            Cell::from(detail(member)),
        ];
        if wide {
            row.extend([
                Cell::from(&identity.peer_endpoint),
                Cell::from(&identity.disk_id),
                number((member.applied_index > 0).then_some(member.applied_index)),
                Cell::from(&member.version),
            ]);
        }
        row
    }

    fn owner_words(&self) -> String {
        let who = match self.membership_owner() {
            api::MembershipOwner::Autopilot => "the leader decides about members (autopilot)",
            api::MembershipOwner::Operator => "the operator decides about members",
            api::MembershipOwner::Manual => "people decide about members (manual)",
            api::MembershipOwner::Unspecified => "who decides about members is not known",
        };
        format!("{who}; it works towards {}", count(self.voters_target, "voter", "voters"))
    }
}

/// What is the matter with a member beside its condition.
fn detail(member: &api::MemberStatus) -> String {
    let full = "its disk is full: free space, or give it a larger one";
    [member.quarantine.as_str(), if member.disk_full { full } else { "" }]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

/// The membership after a change, in words.
fn membership_words(view: Option<&api::MembershipView>) -> String {
    let membership = view.and_then(|view| view.membership.clone()).unwrap_or_default();
    let configs: Vec<String> = membership
        .configs
        .iter()
        .map(|config| {
            let ids: Vec<String> = config.raft_ids.iter().map(u64::to_string).collect();
            format!("{} ({})", count(config.raft_ids.len() as u64, "voter", "voters"), ids.join(", "))
        })
        .collect();
    match configs.as_slice() {
        [one] => format!("{one} of {}", count(membership.members.len() as u64, "member", "members")),
        _ => format!("changing: {}", configs.join(" and ")),
    }
}

impl View for api::AdmitMemberResponse {
    type Message = Self;
    const NAME: &'static str = "registry.internal.v1.AdmitMemberResponse";

    fn message(&self) -> &Self {
        self
    }

    fn table(&self, _: Rendering, _: bool) -> String {
        let identity = self.identity.clone().unwrap_or_default();
        let target = count(self.voters_target, "voter", "voters");
        lines([format!(
            "{} is admitted with id {}; the cluster works towards {target}",
            clean(&identity.node_id),
            identity.raft_id
        )])
    }

    fn names(&self) -> Vec<String> {
        self.identity.iter().map(|identity| clean(&identity.node_id)).collect()
    }
}

/// `member add` at its end: the status of the leader, and whom it is about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Joined {
    /// What the leader told.
    pub(crate) status: api::StatusResponse,
    /// Id of the node that was added.
    pub(crate) raft_id: u64,
}

impl Joined {
    fn names_of(&self) -> impl Iterator<Item = String> {
        self.status
            .members
            .iter()
            .filter(|member| id(member) == self.raft_id)
            .map(|member| clean(name(member)))
    }
}

impl View for Joined {
    type Message = api::StatusResponse;
    const NAME: &'static str = api::StatusResponse::NAME;

    fn message(&self) -> &Self::Message {
        &self.status
    }

    fn table(&self, _: Rendering, _: bool) -> String {
        let words = Phase::of(&self.status, self.raft_id).words();
        lines(self.names_of().map(|name| format!("{name} (id {}) {words}", self.raft_id)))
    }

    fn names(&self) -> Vec<String> {
        self.names_of().collect()
    }
}

impl View for api::PromoteMemberResponse {
    type Message = Self;
    const NAME: &'static str = "registry.internal.v1.PromoteMemberResponse";

    fn message(&self) -> &Self {
        self
    }

    fn table(&self, _: Rendering, _: bool) -> String {
        lines([format!("the cluster has {}", membership_words(self.membership.as_ref()))])
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

impl View for api::RemoveMemberResponse {
    type Message = Self;
    const NAME: &'static str = "registry.internal.v1.RemoveMemberResponse";

    fn message(&self) -> &Self {
        self
    }

    fn table(&self, _: Rendering, _: bool) -> String {
        let done = if self.removed { "removed" } else { "no member of these, nothing changed" };
        lines([format!("{done}; the cluster has {}", membership_words(self.membership.as_ref()))])
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// `member transfer-leader`: who leads, with the names of the members.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Leads {
    /// What the old leader told.
    pub(crate) answer: api::TransferLeadershipResponse,
    /// The members as seen before.
    pub(crate) members: Vec<api::MemberStatus>,
}

impl View for Leads {
    type Message = api::TransferLeadershipResponse;
    const NAME: &'static str = "registry.internal.v1.TransferLeadershipResponse";

    fn message(&self) -> &Self::Message {
        &self.answer
    }

    fn table(&self, _: Rendering, _: bool) -> String {
        lines(self.names().iter().map(|name| format!("{name} leads (term {})", self.answer.term)))
    }

    fn names(&self) -> Vec<String> {
        let leader = self.answer.leader_raft_id;
        let known = self.members.iter().find(|member| id(member) == leader);
        vec![known.map_or_else(|| format!("id {leader}"), |member| clean(name(member)))]
    }
}
