//! Who is a member, decided by the leader: admission, votes, replacement, removal (P/N4–N7).
//!
//! [`plan`] says what to do next, from what is durable alone; [`drive`](Membership::run) does it, one step at
//! a time. What people and the operator ask for goes through the same turn ([`change`], [`admit`]), so that at
//! most one change is under way on this leader, and compare-and-set by Raft keeps other leaders out.
//!
//! A member comes in by four durable steps: an id in the state, the identity on its disk, a learner in Raft,
//! a vote. It leaves by three: its vote, its id in the state, its place in Raft. After each of them any leader
//! can tell from state and Raft alone what comes next.

mod admit;
mod change;
mod drive;
mod introduce;
mod observe;
mod plan;
mod steps;
mod target;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use registry_proto::internal::PeerErrorReason as R;
use registry_state::{Command, MembershipOwner, Operation, Reason, Reply};
use tokio::time::{Instant, timeout_at};

pub use self::admit::Admitted;
pub use self::change::{Changed, Promotion, TransferWish};
pub use self::introduce::Introducer;
use self::observe::{Observations, Sight};
pub use self::plan::{Step, View, Why};
use crate::crash_point::CrashPoint;
use crate::environment::{Clock, Environment};
use crate::error::peer::PeerError;
use crate::member_health::MemberHealth;
use crate::metrics::Metrics;
use crate::raft::{
    ChangeError, Consensus, Leadership, LogPosition, Membership as RaftMembership, ProposeError, Published,
    ReadIndexError,
};

/// Longest time for one change: a joint change is two entries, each a round to a majority.
const CHANGE_WAIT: Duration = Duration::from_secs(10);

/// The leader's business with members. A clone shares it.
#[derive(Clone)]
pub struct Membership {
    shared: Arc<Shared>,
}

struct Shared {
    consensus: Consensus,
    health: MemberHealth,
    introducer: Introducer,
    clock: Arc<dyn Clock>,
    crash: CrashPoint,
    metrics: Metrics,
    /// Held while the membership of Raft is changed.
    turn: tokio::sync::Mutex<()>,
    /// Held while an id is given: names are compared before.
    admission: tokio::sync::Mutex<()>,
    observations: Mutex<Observations>,
    progress: Mutex<Progress>,
}

/// What the leader does about members, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Under way now; empty = nothing.
    pub step: String,
    /// The last thing that failed, and why; empty = nothing since this node leads.
    pub trouble: String,
}

/// A reign that a quorum has just confirmed, and the state that it begins with.
struct Reign {
    leadership: Leadership,
    published: Arc<Published>,
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Membership {
    /// Nothing happens by itself until [`run`](Self::run).
    pub fn new(
        consensus: Consensus,
        health: MemberHealth,
        introducer: Introducer,
        environment: &Environment,
        metrics: Metrics,
    ) -> Self {
        let shared = Shared {
            consensus,
            health,
            introducer,
            clock: environment.clock.clone(),
            crash: environment.crash.clone(),
            metrics,
            turn: tokio::sync::Mutex::default(),
            admission: tokio::sync::Mutex::default(),
            observations: Mutex::default(),
            progress: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// What is being done about members here.
    pub fn progress(&self) -> Progress {
        locked(&self.shared.progress).clone()
    }

    /// For how long a member has been caught up, as this leader has seen it; `None` if it is not.
    pub fn caught_up_for(&self, raft_id: u64) -> Option<Duration> {
        locked(&self.shared.observations).caught_up_for(raft_id)
    }

    /// Agreement.
    pub fn consensus(&self) -> &Consensus {
        &self.shared.consensus
    }

    /// What the probes of this leader find.
    pub fn health(&self) -> &MemberHealth {
        &self.shared.health
    }

    /// Looks at the cluster as its leader.
    fn look(&self, leadership: Leadership) -> View {
        let published = self.shared.consensus.published();
        let sight = Sight {
            status: &self.shared.consensus.status(),
            state: &published.state,
            reports: &self.shared.health.reports(),
            lease: self.shared.consensus.lease(),
            now: Instant::now(),
        };
        locked(&self.shared.observations).look(leadership, sight)
    }

    /// NOT_LEADER with the leader, if one is known.
    fn not_leader(&self) -> PeerError {
        let status = self.shared.consensus.status();
        let leader =
            status.leader.and_then(|id| status.membership.members.get(&id).map(|member| (id, member)));
        PeerError::not_leader(leader.map(|(id, member)| (id, member.peer_endpoint.as_str())))
    }

    /// Confirms that this node leads, and brings its state up to what the cluster has committed.
    async fn reign(&self, deadline: Instant) -> Result<Reign, PeerError> {
        let confirmed = self.shared.consensus.read_index(deadline).await;
        let index = confirmed.map_err(|error| match error {
            ReadIndexError::NotLeader { .. } => self.not_leader(),
            ReadIndexError::NoQuorum => no_quorum(),
            ReadIndexError::Stopped => stopped(),
        })?;
        let published = self.shared.consensus.published();
        if published.state.cluster_id().is_none() {
            return Err(PeerError::new(R::NotInitialized, "the cluster is being founded; try again"));
        }
        Ok(Reign { leadership: index.leadership, published })
    }

    /// Waits for the turn to change the membership.
    async fn turn(&self, deadline: Instant) -> Result<tokio::sync::MutexGuard<'_, ()>, PeerError> {
        let turn = timeout_at(deadline, self.shared.turn.lock()).await;
        turn.map_err(|_| PeerError::new(R::Overloaded, "another change is under way; try again"))
    }

    /// Proposes a command in this reign only.
    async fn write(&self, leadership: Leadership, operation: Operation) -> Result<Reply, PeerError> {
        let proposed_at_unix_ms = self.shared.clock.unix_ms();
        let command = Command { proposed_at_unix_ms, request: None, operation };
        let deadline = Instant::now() + CHANGE_WAIT;
        let outcome = self.shared.consensus.propose_as(leadership, &command, deadline).await;
        let outcome = outcome.map_err(|error| match error {
            ProposeError::NotLeader { .. } => self.not_leader(),
            ProposeError::NoQuorum => no_quorum(),
            ProposeError::Overloaded => PeerError::new(R::Overloaded, "too many proposals wait; try again"),
            ProposeError::OutcomeUnknown => unknown(),
            ProposeError::Stopped => stopped(),
        })?;
        match &outcome.applied.reply {
            Reply::Rejected(rejection) => Err(rejected(&rejection.reason)),
            reply => Ok(reply.clone()),
        }
    }

    fn change_error(&self, error: ChangeError) -> PeerError {
        match error {
            ChangeError::NotLeader { .. } => self.not_leader(),
            ChangeError::Changed { now } => changed(now),
            ChangeError::InProgress => PeerError::new(R::Overloaded, error.to_string()),
            ChangeError::UnknownMember(raft_id) => unknown_member(raft_id),
            ChangeError::Refused(reason) => PeerError::new(R::InvalidField, reason),
            ChangeError::OutcomeUnknown => unknown(),
            ChangeError::Stopped => stopped(),
        }
    }

    /// The newest membership that this node knows.
    fn raft_membership(&self) -> Arc<RaftMembership> {
        self.shared.consensus.status().membership
    }

    /// Refuses a change whose caller has seen another membership, or acts for somebody else than the owner.
    fn check(
        &self,
        reign: &Reign,
        expected: Option<LogPosition>,
        owner: Option<MembershipOwner>,
    ) -> Result<(), PeerError> {
        let present = reign.published.state.settings().owner();
        if owner.is_some_and(|owner| owner != present) {
            return Err(owned(present));
        }
        let now = self.raft_membership().position;
        if expected.is_some() && expected != now { Err(changed(now)) } else { Ok(()) }
    }
}

fn no_quorum() -> PeerError {
    PeerError::new(
        R::NoQuorum,
        "the leader reaches no majority of the voters; start the nodes that are missing",
    )
}

fn unknown() -> PeerError {
    PeerError::new(
        R::OutcomeUnknown,
        "it may take effect, now or later; read the membership and decide again",
    )
}

fn stopped() -> PeerError {
    PeerError::new(R::NotReady, "Raft has ended on this node; ask another one")
}

fn changed(now: Option<LogPosition>) -> PeerError {
    let index = now.map_or(0, |position| position.index);
    PeerError::new(R::MembershipChanged, "the membership is another one by now; read it, decide, try again")
        .with("index", index)
}

fn owned(owner: MembershipOwner) -> PeerError {
    let owner = format!("{owner:?}").to_lowercase();
    PeerError::new(R::MembershipOwned, format!("members are the business of the {owner}"))
        .with("owner", owner)
}

fn unknown_member(raft_id: u64) -> PeerError {
    PeerError::new(R::MemberUnknown, format!("there is no member {raft_id}; read the membership"))
        .with("raft_id", raft_id)
}

fn rejected(reason: &Reason) -> PeerError {
    match reason {
        Reason::MembershipOwned { owner } => owned(*owner),
        Reason::SettingsChanged { version } => {
            PeerError::new(R::SettingsChanged, reason.to_string()).with("version", version)
        }
        Reason::NotInitialized => PeerError::new(R::NotInitialized, reason.to_string()),
        other => PeerError::new(R::InvalidField, other.to_string()),
    }
}

/// Names a set of members in a message.
fn list(raft_ids: &BTreeSet<u64>) -> String {
    let ids: Vec<String> = raft_ids.iter().map(u64::to_string).collect();
    ids.join(", ")
}
