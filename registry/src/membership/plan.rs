//! What to do next about the members: a pure function of what the leader sees (P/N4, N6).
//!
//! Nothing is remembered from step to step, so any new leader goes on where the last one stopped. The plan
//! names one step at a time and none that could leave the cluster without a majority that is heard.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

#[cfg(test)]
mod plan_test;

/// Doublings of the time that a flapping member has to prove itself: 10 s become 10 min at most.
const MAX_DOUBLINGS: u32 = 6;

/// The cluster as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Raft id of the leader, which makes the plan.
    pub own: u64,
    /// True if the leader itself decides about members (P/N7).
    pub is_autopilot: bool,
    /// Voters to work towards: 1, 3, 5 or 7.
    pub voters_target: usize,
    /// Time that a learner must be caught up before it votes.
    pub promote_after: Duration,
    /// Time after which an id whose node does not come is buried.
    pub admission_timeout: Duration,
    /// One set of voters, or two while the membership changes.
    pub configs: Vec<BTreeSet<u64>>,
    /// True if that membership is committed.
    pub is_committed: bool,
    /// All that are members of the state, of Raft, or both.
    pub members: BTreeMap<u64, MemberView>,
}

/// One member as the leader sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberView {
    /// Configured name.
    pub name: String,
    /// Has an id in the state that is not buried.
    pub is_admitted: bool,
    /// Takes part in Raft, with or without a vote.
    pub is_in_raft: bool,
    /// Answers at the moment, under its id and with its disk.
    pub is_heard: bool,
    /// Has been silent for `dead_member_after` (P/N6).
    pub is_dead: bool,
    /// Its node says that the disk is lost, or that it was removed.
    pub has_lost_disk: bool,
    /// Time without an answer; zero while it answers.
    pub silent_for: Duration,
    /// For how long it has been caught up and well, without a break.
    pub caught_up_for: Option<Duration>,
    /// Admitted, but not in Raft: for how long this leader has seen it so.
    pub waiting_for: Duration,
    /// Taking it up failed a moment ago: others first.
    pub is_resting: bool,
    /// How often a member of this name was given up in this reign.
    pub setbacks: u32,
}

impl MemberView {
    fn is_gone(&self) -> bool {
        self.is_dead || self.has_lost_disk
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Leave the joint configuration that a former leader left behind.
    Flatten,
    /// Let a voter lead: this leader has lost its vote, in a change that a former one began. Raft lets a
    /// leader without a vote lead on for as long as it is a learner.
    HandOver,
    /// Give a node its identity and make it a learner (P/N4, R2 and R3).
    TakeUp {
        /// Its id.
        raft_id: u64,
    },
    /// Bury ids that do not vote: they are never used again (R5).
    Bury {
        /// The ids.
        raft_ids: BTreeSet<u64>,
        /// Why.
        why: Why,
    },
    /// Take buried ids out of Raft.
    Drop {
        /// The ids.
        raft_ids: BTreeSet<u64>,
    },
    /// Change the voters in one joint change, then bury those that leave.
    Vote {
        /// All that vote afterwards.
        voters: BTreeSet<u64>,
        /// Members that leave for good.
        leaving: BTreeSet<u64>,
        /// Why.
        why: Why,
    },
}

/// Why a step is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The voter of that name is gone, and its successor is caught up.
    Replaced,
    /// They are gone, and the rest is stronger without them.
    Gone,
    /// Fewer vote than shall.
    TooFew,
    /// More vote than shall.
    TooMany,
    /// The node did not come within the admission timeout.
    NeverCame,
    /// The node has a newer id.
    Superseded,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replaced => "a voter is gone and its successor of the same name is caught up",
            Self::Gone => "they are gone, and fewer voters need fewer answers",
            Self::TooFew => "fewer members vote than voters_target",
            Self::TooMany => "more members vote than voters_target",
            Self::NeverCame => "the node did not come within admission_timeout",
            Self::Superseded => "the node is gone and its name has a newer member",
        })
    }
}

impl Step {
    /// A word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Flatten => "flatten",
            Self::HandOver => "hand_over",
            Self::TakeUp { .. } => "take_up",
            Self::Bury { .. } => "bury",
            Self::Drop { .. } => "drop",
            Self::Vote { why: Why::Replaced, .. } => "replace",
            Self::Vote { why: Why::TooFew, .. } => "promote",
            Self::Vote { why: Why::TooMany, .. } => "demote",
            Self::Vote { .. } => "remove_dead",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flatten => write!(f, "leave the joint configuration"),
            Self::HandOver => write!(f, "let a voter lead: this node votes no more"),
            Self::TakeUp { raft_id } => write!(f, "take up member {raft_id} as a learner"),
            Self::Bury { raft_ids, why } => write!(f, "remove {raft_ids:?} for good: {why}"),
            Self::Drop { raft_ids } => write!(f, "take the removed {raft_ids:?} out of Raft"),
            Self::Vote { voters, leaving, why } if leaving.is_empty() => {
                write!(f, "let {voters:?} vote: {why}")
            }
            Self::Vote { voters, leaving, why } => {
                write!(f, "let {voters:?} vote and remove {leaving:?} for good: {why}")
            }
        }
    }
}

/// Voters that a majority of `count` needs.
pub(super) fn quorum(count: usize) -> usize {
    count / 2 + 1
}

/// The next step, if there is one.
pub(super) fn plan(view: &View) -> Option<Step> {
    if !view.is_committed || view.configs.is_empty() {
        return None;
    }
    if view.configs.len() > 1 {
        return Some(Step::Flatten);
    }
    let voters = view.voters();
    if !voters.contains(&view.own) {
        return Some(Step::HandOver);
    }
    let housekeeping = drop_buried(view, &voters).or_else(|| take_up(view)).or_else(|| never_came(view));
    if housekeeping.is_some() || !view.is_autopilot {
        return housekeeping;
    }
    replace(view, &voters)
        .or_else(|| remove_gone(view, &voters))
        .or_else(|| promote(view, &voters))
        .or_else(|| demote(view, &voters))
        .or_else(|| superseded(view, &voters))
}

impl View {
    /// The voters of the newest set.
    pub fn voters(&self) -> BTreeSet<u64> {
        self.configs.last().cloned().unwrap_or_default()
    }

    /// Whether a majority of these members answers.
    pub fn hears_majority(&self, voters: &BTreeSet<u64>) -> bool {
        let heard = voters.iter().filter(|id| self.is_heard(**id)).count();
        heard >= quorum(voters.len())
    }

    /// Whether a change of the voters to `to` keeps a majority that answers, before, during and after it,
    /// and this leader.
    pub fn may_become(&self, to: &BTreeSet<u64>) -> bool {
        to.contains(&self.own) && self.configs.iter().chain([to]).all(|voters| self.hears_majority(voters))
    }

    fn is_heard(&self, id: u64) -> bool {
        id == self.own || self.members.get(&id).is_some_and(|member| member.is_heard && !member.is_gone())
    }

    fn is_gone(&self, id: u64) -> bool {
        id != self.own && self.members.get(&id).is_none_or(|member| member.is_gone() || !member.is_admitted)
    }

    fn name(&self, id: u64) -> &str {
        self.members.get(&id).map_or("", |member| &member.name)
    }

    /// Learners that may vote, in the order of their ids.
    fn candidates<'a>(&'a self, voters: &'a BTreeSet<u64>) -> impl Iterator<Item = u64> + 'a {
        let learners = self.members.iter().filter(|(id, member)| {
            member.is_in_raft && member.is_admitted && member.is_heard && !voters.contains(id)
        });
        let proven = learners.filter(|(_, member)| {
            let needed = self.promote_after * 2_u32.pow(member.setbacks.min(MAX_DOUBLINGS));
            !member.is_gone() && member.caught_up_for.is_some_and(|time| time >= needed)
        });
        proven.map(|(id, _)| *id)
    }

    fn vote(&self, voters: BTreeSet<u64>, leaving: BTreeSet<u64>, why: Why) -> Option<Step> {
        self.may_become(&voters).then_some(Step::Vote { voters, leaving, why })
    }
}

/// Members of Raft that are buried.
fn drop_buried(view: &View, voters: &BTreeSet<u64>) -> Option<Step> {
    let buried = view.members.iter().filter(|(id, member)| {
        member.is_in_raft && !member.is_admitted && !voters.contains(id) && **id != view.own
    });
    let raft_ids: BTreeSet<u64> = buried.map(|(id, _)| *id).collect();
    (!raft_ids.is_empty()).then_some(Step::Drop { raft_ids })
}

fn take_up(view: &View) -> Option<Step> {
    let (raft_id, _) = view.members.iter().find(|(_, member)| {
        member.is_admitted
            && !member.is_in_raft
            && !member.is_resting
            && member.waiting_for < view.admission_timeout
    })?;
    Some(Step::TakeUp { raft_id: *raft_id })
}

fn never_came(view: &View) -> Option<Step> {
    let late = view.members.iter().filter(|(_, member)| {
        member.is_admitted && !member.is_in_raft && member.waiting_for >= view.admission_timeout
    });
    let raft_ids: BTreeSet<u64> = late.map(|(id, _)| *id).collect();
    (!raft_ids.is_empty()).then_some(Step::Bury { raft_ids, why: Why::NeverCame })
}

/// A learner takes the place of the voter of its name, if that one is gone: one joint change (R4).
fn replace(view: &View, voters: &BTreeSet<u64>) -> Option<Step> {
    view.candidates(voters).find_map(|heir| {
        let named = |id: &&u64| view.name(**id) == view.name(heir);
        let same: Vec<u64> = voters.iter().filter(named).copied().collect();
        let is_free = !same.is_empty() && same.iter().all(|id| view.is_gone(*id));
        is_free.then(|| {
            let leaving: BTreeSet<u64> = same.into_iter().collect();
            let to = voters.difference(&leaving).copied().chain([heir]).collect();
            view.vote(to, leaving, Why::Replaced)
        })?
    })
}

/// Voters that are gone leave together, if fewer answers are needed then and three voters stay (P/N6).
fn remove_gone(view: &View, voters: &BTreeSet<u64>) -> Option<Step> {
    let is_dead = |id: &u64| *id != view.own && view.members.get(id).is_none_or(|member| member.is_dead);
    // One that lost its disk comes back soon: it is replaced.
    let gone: Vec<u64> = voters.iter().copied().filter(is_dead).collect();
    let stay = |count: usize| voters.len() - count;
    // An even number of voters needs as many answers as the next odd one, and survives no more.
    let count = (1..=gone.len()).rev().find(|count| {
        let left = stay(*count);
        left >= 3 && left % 2 == 1 && quorum(left) < quorum(voters.len())
    })?;
    let leaving: BTreeSet<u64> = gone.into_iter().take(count).collect();
    view.vote(voters.difference(&leaving).copied().collect(), leaving, Why::Gone)
}

/// Learners get votes while there are too few voters, odd to odd: no stage of two (P/N4).
fn promote(view: &View, voters: &BTreeSet<u64>) -> Option<Step> {
    let room = view.voters_target.checked_sub(voters.len())?;
    let mut names: BTreeSet<&str> = voters.iter().map(|id| view.name(*id)).collect();
    // Of two learners with one name the newer: the other lost its disk, and does not know it yet.
    let mut candidates: Vec<u64> = view.candidates(voters).collect();
    candidates.reverse();
    candidates.retain(|id| names.insert(view.name(*id)));
    let count = (1..=room.min(candidates.len())).rev().find(|count| (voters.len() + count) % 2 == 1)?;
    // Long-standing members first.
    candidates.sort_unstable();
    let to = voters.iter().copied().chain(candidates.into_iter().take(count)).collect();
    view.vote(to, BTreeSet::new(), Why::TooFew)
}

/// Voters become learners while there are too many: the gone first, then the silent, then the newest.
fn demote(view: &View, voters: &BTreeSet<u64>) -> Option<Step> {
    let excess = voters.len().checked_sub(view.voters_target.max(1)).filter(|excess| *excess > 0)?;
    let mut order: Vec<u64> = voters.iter().copied().filter(|id| *id != view.own).collect();
    order.sort_by_key(|id| (!view.is_gone(*id), view.is_heard(*id), std::cmp::Reverse(*id)));
    let less: BTreeSet<u64> = order.into_iter().take(excess).collect();
    view.vote(voters.difference(&less).copied().collect(), BTreeSet::new(), Why::TooMany)
}

/// Learners that are gone and whose place is taken, or that stay away: room for others.
fn superseded(view: &View, voters: &BTreeSet<u64>) -> Option<Step> {
    let gone = view.members.iter().filter(|(id, member)| {
        let has_heir = || {
            let mut others = view.members.iter().filter(|(other, _)| other != id);
            others.any(|(other, heir)| heir.is_admitted && heir.name == member.name && !view.is_gone(*other))
        };
        member.is_admitted
            && member.is_in_raft
            && member.is_gone()
            && !voters.contains(id)
            && **id != view.own
            && (has_heir() || member.silent_for >= view.admission_timeout)
    });
    let raft_ids: BTreeSet<u64> = gone.map(|(id, _)| *id).collect();
    (!raft_ids.is_empty()).then_some(Step::Bury { raft_ids, why: Why::Superseded })
}
