//! Events: the only thing that a watcher ever sees of a change.

use std::sync::Arc;

use crate::ids::Revision;
use crate::instance::InstanceRecord;

/// What happened to an instance. The numbers are those of `registry.v1.EventKind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum EventKind {
    /// Not known; never made.
    Unspecified = 0,
    /// It was not there and is now.
    Added = 1,
    /// It was there and is different now.
    Updated = 2,
    /// It is no longer there.
    Removed = 3,
}

/// Why an instance changed. The numbers are those of `registry.v1.EventCause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum EventCause {
    /// Not known; never made.
    Unspecified = 0,
    /// Its owner registered it or changed its registration.
    Registered = 1,
    /// Another owner took it over.
    Replaced = 2,
    /// Its owner reported a state.
    StateReported = 3,
    /// An operator set an override.
    OverrideSet = 4,
    /// An override was cleared.
    OverrideCleared = 5,
    /// The time of an override was over.
    OverrideExpired = 6,
    /// The mass-expiry guard keeps it.
    Protected = 7,
    /// Its owner is back, the guard no longer keeps it.
    Recovered = 8,
    /// Its lease ran out.
    Expired = 20,
    /// Its owner deregistered it.
    Deregistered = 21,
    /// An operator deregistered it.
    Operator = 22,
}

/// A change of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// Why.
    pub cause: EventCause,
    /// The instance after the change; for `Removed` as it was before.
    pub instance: Arc<InstanceRecord>,
    /// For `Updated`: the instance before the change.
    pub previous: Option<Arc<InstanceRecord>>,
}

/// All changes of one revision, at most one per instance. Empty if the revision changed no instance, as
/// an override for an absent one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionEvents {
    /// The revision.
    pub revision: Revision,
    /// The changes.
    pub events: Vec<Event>,
    /// Size as counted by the history (P/V3), in bytes; see [`Event::size_bytes`].
    pub size_bytes: u64,
}

/// Fixed part of the size of an instance in the history: numbers, times and the tags of the encoding.
/// Part of the state machine's rules: changing it moves the floor of the history, so it needs a new
/// feature level.
const INSTANCE_FIXED_BYTES: u64 = 96;
/// Fixed part of the size of an event in the history; see [`INSTANCE_FIXED_BYTES`].
const EVENT_FIXED_BYTES: u64 = 16;

impl Event {
    /// Size that the history counts for this event, in bytes: what its encoding takes, estimated from
    /// the lengths of its texts by a rule that does not change with the encoding.
    pub fn size_bytes(&self) -> u64 {
        EVENT_FIXED_BYTES + instance_size(&self.instance) + self.previous.as_deref().map_or(0, instance_size)
    }
}

fn instance_size(instance: &InstanceRecord) -> u64 {
    let content = &instance.content;
    let items = content.metadata.len() + content.tags.len() + content.ports.len();
    let override_bytes =
        instance.operator_override.as_ref().map_or(0, |o| 32 + o.comment.len() + o.actor.len());
    let names = instance.service.namespace.len() + instance.service.name.len();
    INSTANCE_FIXED_BYTES + instance.user_data_bytes() + (4 * items + override_bytes + names) as u64
}
