//! The replicated state machine of the registry: pure and deterministic.
//!
//! [`State::apply`] takes a [`Command`] from the log and returns what it did: a [`Reply`] for the
//! caller, events for watchers, changes for the leader's table of deadlines. Every node applies the same
//! commands in the same order and so holds the same state. Therefore nothing here reads a clock, draws
//! random numbers, does input or output, or depends on the order of a hash map (`clippy.toml` bans
//! them): times and random ids come inside the command, settings are replicated (P/S1).
//!
//! `apply` is total (P/R1): it checks everything again, and a command that breaks a rule is a
//! [`Rejection`] on every node alike, never a panic.
//!
//! A [`State`] is cloned in constant time, so that readers and snapshots hold a frozen one while the
//! next commands are applied.
//!
//! ```
//! use registry_state::{ClusterSettings, Command, InitCluster, Operation, Reply, State};
//!
//! let mut state = State::default();
//! let found = InitCluster {
//!     cluster_id: "7f2c2f9e-8a4e-4c55-9e5c-0f5a0a7f0001".into(),
//!     epoch: 42,
//!     settings: Some(ClusterSettings::DEFAULT),
//!     members: vec![],
//!     next_raft_id: 1,
//! };
//! let applied = state.apply(&Command {
//!     proposed_at_unix_ms: 0,
//!     request: None,
//!     operation: Operation::InitCluster(found),
//! });
//! assert!(matches!(applied.reply, Reply::Initialized { already: false }));
//! ```

pub mod command;
pub mod event;
pub mod history;
pub mod ids;
pub mod instance;
pub mod lease;
pub mod limits;
pub mod member;
pub mod overrides;
pub mod query;
pub mod reply;
pub mod service;
pub mod settings;
pub mod snapshot;
pub mod state;
pub mod validate;

mod apply;
mod client;
mod digest;
mod invariants;

pub use apply::Applied;
pub use command::*;
pub use event::{Event, EventCause, EventKind, RevisionEvents};
pub use history::HistoryGap;
pub use ids::{Epoch, InstanceKey, LeaseId, RaftId, Revision, ServiceKey};
pub use instance::{Content, InstanceRecord, InstanceState, Protection};
pub use lease::{LeaseChange, LeaseHold, LeaseView};
pub use member::{Member, Tombstone};
pub use overrides::{Override, OverrideView};
pub use query::ServiceView;
pub use reply::{BatchEntry, Quota, Reason, RegisterOutcome, Rejection, Reply};
pub use service::{Counts, GuardState, ServiceStatus};
pub use settings::{ClusterSettings, GuardSettings, HistorySettings, MembershipOwner, QuotaSettings};
pub use snapshot::{SnapshotError, StateDecoder};
pub use state::State;
pub use validate::Violation;

/// What a state needs of the program that holds it (P/O3): stored in every state, raised by a protocol
/// that comes with level 2. A snapshot of a higher level is refused.
pub const FEATURE_LEVEL: u32 = 1;
