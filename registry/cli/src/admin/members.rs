//! Members by name or id, and how far one has come.

use registry_proto::internal::{self as api, MemberPlace, MemberStatus, MembershipOwner, NodeState};

use crate::output::text::{clean, count};

/// The configured name of a member.
pub(crate) fn name(member: &MemberStatus) -> &str {
    member.identity.as_ref().map_or("", |identity| &identity.node_id)
}

/// The Raft id of a member.
pub(crate) fn id(member: &MemberStatus) -> u64 {
    member.identity.as_ref().map_or(0, |identity| identity.raft_id)
}

/// The ids of the members given by name or id; tells everything that is wrong at once.
///
/// A name wins over an id. Two members have one name while one replaces the other: then only ids will do.
pub(crate) fn resolve(members: &[MemberStatus], given: &[String]) -> Result<Vec<u64>, Vec<String>> {
    let mut ids = Vec::new();
    let mut problems = Vec::new();
    for wanted in given {
        let named: Vec<u64> = members.iter().filter(|member| name(member) == wanted).map(id).collect();
        let numbered =
            wanted.parse().ok().filter(|wanted| members.iter().any(|member| id(member) == *wanted));
        match (named.as_slice(), numbered) {
            ([one], _) => ids.push(*one),
            ([], Some(one)) => ids.push(one),
            ([], None) => problems.push(format!("{} is no member", clean(wanted))),
            (several, _) => {
                let list: Vec<String> = several.iter().map(u64::to_string).collect();
                problems.push(format!(
                    "{} is the name of the ids {}: give the id",
                    clean(wanted),
                    list.join(" and ")
                ));
            }
        }
    }
    let mut unique = Vec::new();
    for id in ids {
        if !unique.contains(&id) {
            unique.push(id);
        }
    }
    if problems.is_empty() { Ok(unique) } else { Err(problems) }
}

/// Whether the member votes, also while the membership changes.
fn votes(member: &MemberStatus) -> bool {
    member.place() == MemberPlace::Voter
}

/// "voter", "learner", …
pub(crate) fn place(member: &MemberStatus) -> &'static str {
    match member.place() {
        MemberPlace::Admitted => "admitted",
        MemberPlace::Learner => "learner",
        MemberPlace::Voter => "voter",
        MemberPlace::Leaving => "leaving",
        MemberPlace::Unspecified => "-",
    }
}

/// How the member is, in a word or two.
pub(crate) fn condition(member: &MemberStatus) -> &'static str {
    match member.state() {
        NodeState::Quarantined => "quarantined",
        NodeState::DiskLost => "disk lost",
        NodeState::Removed => "removed",
        _ if member.dead => "dead",
        _ if member.stopping => "stopping",
        _ if member.failing_for.is_some() => "unreachable",
        NodeState::Unspecified => "unknown",
        _ => "alive",
    }
}

/// What a removal will do, one line each, for people who are to confirm it.
pub(crate) fn removal(status: &api::StatusResponse, ids: &[u64]) -> Vec<String> {
    let goes = |member: &&MemberStatus| ids.contains(&id(member));
    let mut lines: Vec<String> = status
        .members
        .iter()
        .filter(goes)
        .map(|member| {
            let leads = status.raft.as_ref().is_some_and(|raft| raft.leader_raft_id == id(member));
            let leads = if leads { ", leads now and hands over first" } else { "" };
            format!(
                "{} (id {}) is removed for good: {}, {}{leads}",
                clean(name(member)),
                id(member),
                place(member),
                condition(member)
            )
        })
        .collect();
    let before = status.members.iter().filter(|member| votes(member)).count() as u64;
    let after = status.members.iter().filter(|member| votes(member) && !goes(member)).count() as u64;
    if before == after {
        lines.push(format!("{} stay", count(before, "voter", "voters")));
    } else {
        lines.push(format!(
            "{before} voters become {after}: {} must be alive from then on",
            count(after / 2 + 1, "voter", "voters")
        ));
    }
    if status.membership_owner() == MembershipOwner::Autopilot {
        lines.push(
            "a removed node that runs asks to join again: end it first if it is to stay away".to_owned(),
        );
    }
    lines
}

/// How far a node that was admitted has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its id is no member any more.
    Gone,
    /// It has an id and must take it.
    Admitted,
    /// It receives the log.
    Learner {
        /// Entries that it is behind, if known.
        behind: Option<u64>,
    },
    /// It receives a snapshot.
    Snapshot {
        /// How much of it has arrived, if known.
        percent: Option<u32>,
    },
    /// It has all, and its vote will follow by itself.
    CaughtUp,
    /// It has all, and stays as it is until something else happens.
    Waits(&'static str),
    /// It votes.
    Voter,
}

impl Phase {
    /// The phase of a member, as the leader tells it.
    pub(crate) fn of(status: &api::StatusResponse, raft_id: u64) -> Self {
        let Some(member) = status.members.iter().find(|member| id(member) == raft_id) else {
            return Self::Gone;
        };
        match member.place() {
            MemberPlace::Voter => Self::Voter,
            MemberPlace::Leaving => Self::Gone,
            MemberPlace::Learner if member.caught_up_for.is_some() => {
                waits_for(status, member).map_or(Self::CaughtUp, Self::Waits)
            }
            MemberPlace::Learner => {
                let replication = status.replication.iter().find(|one| one.raft_id == raft_id);
                if replication.is_some_and(|one| one.installing_snapshot) {
                    Self::Snapshot { percent: None }
                } else {
                    Self::Learner { behind: member.lag_entries }
                }
            }
            MemberPlace::Admitted | MemberPlace::Unspecified => Self::Admitted,
        }
    }

    /// True if nothing more happens by itself.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Gone | Self::Waits(_) | Self::Voter)
    }

    /// True if both are told in the same words but for a number.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// In words that follow the name of the member.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Gone => "is no member any more".to_owned(),
            Self::Admitted => "is admitted, and must take its id".to_owned(),
            Self::Snapshot { percent: None } => "is a learner and receives a snapshot".to_owned(),
            Self::Snapshot { percent: Some(percent) } => {
                format!("is a learner and receives a snapshot: {percent} % are there")
            }
            Self::Learner { behind: Some(entries) } => {
                format!("is a learner, {} behind", count(*entries, "entry", "entries"))
            }
            Self::Learner { behind: None } => "is a learner".to_owned(),
            Self::CaughtUp => "is a learner and has caught up; its vote follows".to_owned(),
            Self::Waits(why) => format!("is a learner and has caught up; {why}"),
            Self::Voter => "votes".to_owned(),
        }
    }
}

/// Why a learner that has caught up gets no vote by itself; `None` if it will.
fn waits_for(status: &api::StatusResponse, learner: &MemberStatus) -> Option<&'static str> {
    if status.membership_owner() != MembershipOwner::Autopilot {
        return Some("`member promote` gives it a vote");
    }
    let voters = status.members.iter().filter(|member| votes(member));
    if voters.clone().any(|voter| name(voter) == name(learner)) {
        return None;
    }
    let voters = voters.count();
    let target = usize::try_from(status.voters_target).unwrap_or(usize::MAX);
    if voters >= target {
        return Some("all votes are given: it stands by");
    }
    let candidates = status.members.iter().filter(|member| {
        matches!(member.place(), MemberPlace::Learner | MemberPlace::Admitted) && !member.dead
    });
    // An even number of voters survives no more failures than one less, so votes come in twos.
    let missing = if voters.is_multiple_of(2) { 1 } else { 2 };
    (candidates.count() < missing).then_some("it gets its vote together with one more node: add that too")
}

#[cfg(test)]
#[path = "members_test.rs"]
mod tests;
