//! What to do next about one cluster: a pure function of what was seen.
//!
//! Nothing is remembered from plan to plan and none depends on the last one, so an operator that was killed
//! between any two steps goes on where it stopped. A plan names one step at most, and none that could cost
//! the cluster its quorum or its data.

use std::time::Duration;

use crate::crd::status::{Conditions, Member, Quorum};
use crate::observed::OperationBefore;

mod step;

pub use step::{SetShape, Step};

/// What to do and what to say.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The one thing to do now; `None` = wait.
    pub step: Option<Step>,
    /// What to report.
    pub report: Report,
    /// What to tell people once, when it becomes so.
    pub events: Vec<Event>,
    /// When to look again, unless something changes before. After a step that was taken: at once.
    pub requeue_after: Duration,
}

/// The status that follows from what was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// All conditions.
    pub conditions: Conditions,
    /// Pods that exist.
    pub replicas: u32,
    /// Voters that are caught up and serve clients.
    pub ready_replicas: u32,
    /// Whether the cluster has been founded, as far as anybody knows.
    pub bootstrapped: bool,
    /// Its id, recorded or told by the members.
    pub cluster_id: Option<String>,
    /// Pod that leads.
    pub leader: Option<String>,
    /// Its term.
    pub term: Option<u64>,
    /// Voters and how many live; `None` = nobody can tell.
    pub quorum: Option<Quorum>,
    /// Members and pods, in the order of their ordinals.
    pub members: Vec<Member>,
    /// Oldest version that members run.
    pub current_version: Option<String>,
    /// What is under way and since when.
    pub operation: Option<OperationBefore>,
}

/// Something that happened, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Warning, or Normal.
    pub is_warning: bool,
    /// A stable word.
    pub reason: &'static str,
    /// A sentence without changing numbers.
    pub note: String,
    /// Pod that it is about, if one.
    pub pod: Option<String>,
}
