//! The messages of snapshot records. Numbers and meanings are for ever; what is added must mean "as before"
//! when absent, or raise the format (P/O3). What can be derived is not written.

use prost::Message;

use crate::command::{MemberSpec, NamedPort, Pair};
use crate::settings::ClusterSettings;

/// One item; a record is a sequence of them, each with tag 1 and its length before it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Item {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12")]
    pub(super) kind: Option<Kind>,
}

/// A record, for reading.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    #[prost(message, repeated, tag = "1")]
    pub(super) items: Vec<Item>,
}

/// In this order.
#[allow(clippy::large_enum_variant, reason = "items live for a moment, and events are most of them")]
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Kind {
    #[prost(message, tag = "1")]
    Head(Head),
    #[prost(message, tag = "2")]
    Settings(ClusterSettings),
    #[prost(message, tag = "3")]
    Member(MemberSpec),
    #[prost(message, tag = "4")]
    Tombstone(Tombstone),
    #[prost(message, tag = "5")]
    Service(Service),
    #[prost(message, tag = "6")]
    Client(Client),
    #[prost(message, tag = "7")]
    Lease(Lease),
    #[prost(message, tag = "8")]
    Override(OverrideEntry),
    #[prost(message, tag = "9")]
    Instance(Instance),
    /// Followed by its events.
    #[prost(message, tag = "10")]
    Revision(Revision),
    #[prost(message, tag = "11")]
    Event(Event),
    #[prost(message, tag = "12")]
    End(End),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Head {
    #[prost(uint32, tag = "1")]
    pub(super) format: u32,
    #[prost(uint32, tag = "2")]
    pub(super) feature_level: u32,
    /// Empty before the cluster is founded.
    #[prost(string, tag = "3")]
    pub(super) cluster_id: String,
    #[prost(fixed64, tag = "4")]
    pub(super) epoch: u64,
    #[prost(uint64, tag = "5")]
    pub(super) revision: u64,
    #[prost(uint64, tag = "6")]
    pub(super) next_raft_id: u64,
    /// Number of recorded writes of clients, ever.
    #[prost(uint64, tag = "7")]
    pub(super) tick: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Tombstone {
    #[prost(uint64, tag = "1")]
    pub(super) raft_id: u64,
    #[prost(string, tag = "2")]
    pub(super) disk_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Service {
    #[prost(string, tag = "1")]
    pub(super) namespace: String,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(uint64, tag = "3")]
    pub(super) revision: u64,
    /// Set while the guard holds.
    #[prost(uint64, optional, tag = "4")]
    pub(super) guard_remaining_ms: Option<u64>,
    #[prost(bool, tag = "5")]
    pub(super) guard_disarmed: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Lease {
    #[prost(fixed64, tag = "1")]
    pub(super) id: u64,
    #[prost(uint64, tag = "2")]
    pub(super) version: u64,
    #[prost(uint32, tag = "3")]
    pub(super) ttl_ms: u32,
    #[prost(bool, tag = "4")]
    pub(super) held: bool,
    #[prost(bool, tag = "5")]
    pub(super) released: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Client {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(uint64, tag = "2")]
    pub(super) used: u64,
    #[prost(uint64, tag = "3")]
    pub(super) highest: u64,
    #[prost(uint64, tag = "4")]
    pub(super) done_below: u64,
    #[prost(message, repeated, tag = "5")]
    pub(super) writes: Vec<Write>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Write {
    #[prost(uint64, tag = "1")]
    pub(super) serial: u64,
    #[prost(fixed64, tag = "2")]
    pub(super) hash: u64,
    #[prost(uint64, tag = "3")]
    pub(super) revision: u64,
    #[prost(oneof = "Outcome", tags = "4, 5, 6, 7, 8, 9, 10, 11, 12")]
    pub(super) outcome: Option<Outcome>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Outcome {
    #[prost(message, tag = "4")]
    Registered(Registered),
    #[prost(message, tag = "5")]
    Batch(Batch),
    /// Number removed.
    #[prost(uint32, tag = "6")]
    Deregistered(u32),
    #[prost(message, tag = "7")]
    StateSet(StateSet),
    /// Revision to await.
    #[prost(uint64, tag = "8")]
    Drained(u64),
    #[prost(message, tag = "9")]
    OverrideSet(OverrideSet),
    /// True if there was one.
    #[prost(bool, tag = "10")]
    OverrideCleared(bool),
    /// Number let go.
    #[prost(uint32, tag = "11")]
    ProtectionEnded(u32),
    #[prost(message, tag = "12")]
    Rejected(Rejected),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Registered {
    #[prost(enumeration = "crate::reply::RegisterOutcome", tag = "1")]
    pub(super) outcome: i32,
    #[prost(uint64, tag = "2")]
    pub(super) incarnation: u64,
    #[prost(fixed64, tag = "3")]
    pub(super) lease_id: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Batch {
    #[prost(fixed64, tag = "1")]
    pub(super) lease_id: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) outcomes: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct StateSet {
    #[prost(uint32, tag = "1")]
    pub(super) changed: u32,
    #[prost(uint32, tag = "2")]
    pub(super) overridden: u32,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct OverrideSet {
    #[prost(uint64, tag = "1")]
    pub(super) revision: u64,
    #[prost(bool, tag = "2")]
    pub(super) registered: bool,
}

/// Why a client's write was refused in `apply`. Only these reasons are recorded.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Rejected {
    #[prost(uint32, optional, tag = "1")]
    pub(super) index: Option<u32>,
    #[prost(oneof = "Reason", tags = "2, 3, 4, 5, 6")]
    pub(super) reason: Option<Reason>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Reason {
    #[prost(message, tag = "2")]
    InvalidField(InvalidField),
    #[prost(bool, tag = "3")]
    InstanceNotFound(bool),
    #[prost(bool, tag = "4")]
    LeaseExpired(bool),
    /// The present incarnation.
    #[prost(uint64, tag = "5")]
    StaleIncarnation(u64),
    #[prost(message, tag = "6")]
    QuotaExceeded(QuotaExceeded),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct InvalidField {
    #[prost(string, repeated, tag = "1")]
    pub(super) fields: Vec<String>,
    /// As many as fields.
    #[prost(string, repeated, tag = "2")]
    pub(super) descriptions: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct QuotaExceeded {
    #[prost(enumeration = "crate::reply::Quota", tag = "1")]
    pub(super) quota: i32,
    #[prost(uint64, tag = "2")]
    pub(super) limit: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OverrideEntry {
    #[prost(string, tag = "1")]
    pub(super) namespace: String,
    #[prost(string, tag = "2")]
    pub(super) service_name: String,
    #[prost(string, tag = "3")]
    pub(super) instance_id: String,
    #[prost(message, optional, tag = "4")]
    pub(super) shared: Option<Override>,
    #[prost(uint64, optional, tag = "5")]
    pub(super) remaining_ms: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Override {
    #[prost(enumeration = "crate::instance::InstanceState", tag = "1")]
    pub(super) state: i32,
    #[prost(uint32, optional, tag = "2")]
    pub(super) weight: Option<u32>,
    #[prost(string, tag = "3")]
    pub(super) comment: String,
    #[prost(string, tag = "4")]
    pub(super) actor: String,
    #[prost(uint64, tag = "5")]
    pub(super) set_at_unix_ms: u64,
    #[prost(uint64, optional, tag = "6")]
    pub(super) expires_at_unix_ms: Option<u64>,
    #[prost(uint64, tag = "7")]
    pub(super) revision: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Instance {
    #[prost(string, tag = "1")]
    pub(super) namespace: String,
    #[prost(string, tag = "2")]
    pub(super) service_name: String,
    #[prost(string, tag = "3")]
    pub(super) instance_id: String,
    #[prost(string, tag = "4")]
    pub(super) host: String,
    #[prost(uint32, tag = "5")]
    pub(super) port: u32,
    #[prost(uint32, tag = "6")]
    pub(super) weight: u32,
    #[prost(string, tag = "7")]
    pub(super) zone: String,
    #[prost(message, repeated, tag = "8")]
    pub(super) metadata: Vec<Pair>,
    #[prost(string, repeated, tag = "9")]
    pub(super) tags: Vec<String>,
    #[prost(message, repeated, tag = "10")]
    pub(super) ports: Vec<NamedPort>,
    #[prost(enumeration = "crate::instance::InstanceState", tag = "11")]
    pub(super) reported_state: i32,
    #[prost(uint32, tag = "12")]
    pub(super) ttl_ms: u32,
    #[prost(uint64, tag = "13")]
    pub(super) revision: u64,
    #[prost(uint64, tag = "14")]
    pub(super) incarnation: u64,
    #[prost(fixed64, tag = "15")]
    pub(super) lease_id: u64,
    #[prost(uint64, tag = "16")]
    pub(super) registered_at_unix_s: u64,
    #[prost(string, tag = "17")]
    pub(super) client: String,
    #[prost(message, optional, tag = "18")]
    pub(super) protection: Option<Protection>,
    /// In events only; of registered instances it stands in its own item.
    #[prost(message, optional, tag = "19")]
    pub(super) operator_override: Option<Override>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Protection {
    #[prost(uint64, tag = "1")]
    pub(super) silent_for_ms: u64,
    #[prost(uint64, tag = "2")]
    pub(super) since_unix_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Revision {
    #[prost(uint64, tag = "1")]
    pub(super) revision: u64,
    /// Number of events that follow.
    #[prost(uint32, tag = "2")]
    pub(super) events: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    #[prost(enumeration = "crate::event::EventKind", tag = "1")]
    pub(super) kind: i32,
    #[prost(enumeration = "crate::event::EventCause", tag = "2")]
    pub(super) cause: i32,
    #[prost(message, optional, tag = "3")]
    pub(super) instance: Option<Instance>,
    #[prost(message, optional, tag = "4")]
    pub(super) previous: Option<Instance>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct End {
    /// Number of items, this one included.
    #[prost(uint64, tag = "1")]
    pub(super) items: u64,
    /// Hash of the state; to be compared only by a program of the same hash version.
    #[prost(fixed64, tag = "2")]
    pub(super) state_hash: u64,
    #[prost(uint32, tag = "3")]
    pub(super) hash_version: u32,
}
