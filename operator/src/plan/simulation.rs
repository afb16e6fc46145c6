//! A small Kubernetes with a small registry cluster in it, to run plans against until nothing is left to do.
//!
//! Time moves by whole seconds, and only while the plan waits. Every step is checked against what really is,
//! not against what the plan believes.

use std::collections::{BTreeMap, BTreeSet};

use crate::crd::status::{Because, Conditions, Progressing, Reason, Truth};
use crate::observed::Before;
use crate::plan::{Plan, plan};

mod act;
mod check;
mod kubernetes;
mod look;
mod raft;

pub(super) use kubernetes::{Budget, Claim, Pod, Set};
pub(super) use raft::{Disk, DiskState, Raft};

/// Steps and seconds after which a scenario that has not come to rest is stuck.
const PATIENCE: usize = 2_000;

/// `update.settleSeconds`.
pub(super) const SETTLE: u64 = 5;

/// How the operator is disturbed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trouble {
    /// The step of this number is cut short in the middle.
    pub(super) crash_at: Option<usize>,
    /// The status is wiped before each look.
    pub(super) forgets: bool,
}

/// What the user wants.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) replicas: u32,
    pub(super) image: Image,
    pub(super) volume: u64,
    pub(super) deletes_claims: bool,
    pub(super) paused: bool,
}

/// An image: which, and what becomes of its pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Image {
    /// It runs.
    Good(u32),
    /// It cannot be pulled.
    Absent(u32),
    /// It starts, and neither answers nor gets ready.
    Mute(u32),
}

/// A voter whose running pod was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Restart {
    pub(super) pod: String,
    /// Whether it led.
    pub(super) led: bool,
    pub(super) at: u64,
}

/// The world.
#[derive(Debug, Clone)]
pub(super) struct World {
    /// Seconds since it began.
    pub(super) now: u64,
    pub(super) wanted: Wanted,
    /// What the objects but the set and the budget were rendered from.
    pub(super) applied: Option<(u32, String)>,
    pub(super) set: Option<Set>,
    pub(super) pods: BTreeMap<u32, Pod>,
    pub(super) claims: BTreeMap<u32, Claim>,
    /// All disks there ever were.
    pub(super) disks: Vec<Disk>,
    pub(super) raft: Option<Raft>,
    pub(super) budget: Option<Budget>,
    pub(super) before: Before,
    /// Claims whose class lets them grow.
    pub(super) can_grow: bool,
    /// Ordinals of pods whose node is dead.
    pub(super) dead_hosts: BTreeSet<u32>,
    pub(super) next_uid: u64,
    /// Kinds of all steps that were taken.
    pub(super) taken: Vec<String>,
    /// Voters whose running pods were deleted, in order.
    pub(super) restarted: Vec<Restart>,
    /// When leadership was handed over last.
    pub(super) handed_over: u64,
}

impl World {
    pub(super) fn new(replicas: u32) -> Self {
        let wanted =
            Wanted { replicas, image: Image::Good(1), volume: 10, deletes_claims: false, paused: false };
        Self {
            now: 0,
            wanted,
            applied: None,
            set: None,
            pods: BTreeMap::new(),
            claims: BTreeMap::new(),
            disks: Vec::new(),
            raft: None,
            budget: None,
            before: Before::default(),
            can_grow: true,
            dead_hosts: BTreeSet::new(),
            next_uid: 1,
            taken: Vec::new(),
            restarted: Vec::new(),
            handed_over: 0,
        }
    }

    /// A cluster that is founded and at rest.
    pub(super) fn founded(replicas: u32) -> Self {
        let mut world = Self::new(replicas);
        world.settle();
        world.taken.clear();
        world.restarted.clear();
        world
    }

    /// Lets the operator work until nothing is left to do and the world is as it is wanted.
    pub(super) fn settle(&mut self) -> Plan {
        self.settle_with(Trouble::default())
    }

    /// The same, disturbed.
    pub(super) fn settle_with(&mut self, trouble: Trouble) -> Plan {
        let plan = self.run(trouble, Self::is_at_rest);
        plan.unwrap_or_else(|| panic!("stuck after {:?}: {self:#?}\n{:?}", self.taken, self.plan()))
    }

    /// Nothing is left to do, and all is as it shall be.
    pub(super) fn is_at_rest(&self, plan: &Plan) -> bool {
        plan.report.conditions.progressing.reason == Progressing::Idle && self.is_as_wanted()
    }

    /// Runs until the plan says so; `None` = it never did.
    pub(super) fn run(&mut self, trouble: Trouble, until: impl Fn(&Self, &Plan) -> bool) -> Option<Plan> {
        for _ in 0..PATIENCE {
            if trouble.forgets {
                self.before = Before::default();
            }
            let plan = self.turn(trouble);
            if until(self, &plan) {
                return Some(plan);
            }
        }
        None
    }

    /// One look, and the step that follows, or a second.
    pub(super) fn turn(&mut self, trouble: Trouble) -> Plan {
        let plan = self.plan();
        match &plan.step {
            Some(step) => {
                check::step(self, step);
                let is_cut = trouble.crash_at == Some(self.taken.len());
                self.taken.push(step.kind().to_owned());
                self.act(step, is_cut);
            }
            None => self.tick(),
        }
        check::evictions(self);
        let report = &plan.report;
        if report.bootstrapped && self.before.cluster_id.is_none() {
            self.before.cluster_id = report.cluster_id.clone();
        }
        self.before.bootstrapped |= report.bootstrapped;
        self.before.operation = report.operation.clone();
        self.before.available = Some(report.conditions.available.reason.truth() == Truth::True);
        self.before.reasons = words(&report.conditions);
        plan
    }

    /// What the operator would do now.
    pub(super) fn plan(&self) -> Plan {
        plan(&self.look())
    }

    /// Lets time pass without an operator.
    pub(super) fn sleep(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.tick();
        }
    }

    /// Whether everything is as the user wants it.
    pub(super) fn is_as_wanted(&self) -> bool {
        let (Some(set), Some(raft)) = (&self.set, &self.raft) else { return false };
        let wanted: BTreeSet<String> = (0..self.wanted.replicas).map(|n| format!("a-{n}")).collect();
        let voters: BTreeSet<String> = raft.voters.iter().map(|id| raft.members[id].name.clone()).collect();
        let well = |(ordinal, pod): (&u32, &Pod)| {
            *ordinal < set.replicas && pod.image == self.wanted.image && self.is_ready(pod)
        };
        set.replicas == self.wanted.replicas
            && voters == wanted
            && raft.voters.len() == raft.members.len()
            && self.pods.len() == wanted.len()
            && self.pods.iter().all(well)
            && self.live_voters().len() == wanted.len()
    }

    /// Kinds of steps since the world began, or was founded, but those that only keep objects.
    pub(super) fn story(&self) -> Vec<&str> {
        let is_told = |kind: &&str| !matches!(*kind, "apply-objects" | "relabel-pod" | "write-budget");
        self.taken.iter().map(String::as_str).filter(is_told).collect()
    }

    fn uid(&mut self) -> String {
        self.next_uid += 1;
        format!("u{}", self.next_uid)
    }
}

/// The reason of each condition, as the status tells it.
fn words(conditions: &Conditions) -> BTreeMap<String, String> {
    fn word<R: Reason>(because: &Because<R>) -> (String, String) {
        (R::CONDITION.to_owned(), because.reason.as_str().to_owned())
    }
    let Conditions { available, progressing, degraded, upgrade_pending, paused } = conditions;
    let words = [word(available), word(progressing), word(degraded), word(upgrade_pending), word(paused)];
    words.into_iter().collect()
}
