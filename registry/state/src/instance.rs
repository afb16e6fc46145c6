//! One registered instance as the state keeps it, and what readers see of it.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::ids::{LeaseId, Revision, ServiceKey};
use crate::overrides::Override;

/// What an instance is ready for. The numbers are those of `registry.v1.InstanceState`; records never
/// hold `Unspecified`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum InstanceState {
    /// Not given.
    Unspecified = 0,
    /// Registered but not ready yet.
    Starting = 1,
    /// Ready.
    Up = 2,
    /// Leaving.
    Draining = 3,
    /// Registered but not serving.
    Down = 4,
}

/// What the owner registered. Compared as a whole to tell a renewal from a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Where it listens, without port and brackets.
    pub host: SmolStr,
    /// Main port.
    pub port: u16,
    /// Share of the traffic.
    pub weight: u16,
    /// Zone or rack; empty if none.
    pub zone: SmolStr,
    /// The owner's own data, sorted by key.
    pub metadata: Box<[(SmolStr, SmolStr)]>,
    /// The owner's labels, sorted, without duplicates.
    pub tags: Box<[SmolStr]>,
    /// Further ports, sorted by name.
    pub ports: Box<[(SmolStr, u16)]>,
}

impl Content {
    /// Bytes of the owner's own data, with the instance id; ports count 2 bytes beside their names.
    pub(crate) fn user_data_bytes(&self, instance_id: &str) -> u64 {
        let metadata: usize = self.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        let tags: usize = self.tags.iter().map(|tag| tag.len()).sum();
        let ports: usize = self.ports.iter().map(|(name, _)| name.len() + 2).sum();
        (instance_id.len() + self.host.len() + self.zone.len() + metadata + tags + ports) as u64
    }
}

/// Says that the mass-expiry guard keeps an instance although its lease has run out (P/L6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// How long the owner had been silent when the guard took hold, in milliseconds.
    pub silent_for_ms: u64,
    /// When the guard took hold, in milliseconds since 1970; a label.
    pub since_unix_ms: u64,
}

/// A registered instance. Never changed in place: every change makes a new record, so that events and
/// readers keep what they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceRecord {
    /// Its service.
    pub service: Arc<ServiceKey>,
    /// Its id within the service.
    pub instance_id: SmolStr,
    /// What the owner registered.
    pub content: Arc<Content>,
    /// State that the owner reported last.
    pub reported_state: InstanceState,
    /// Time to live of its lease, in milliseconds; 0 = permanent.
    pub ttl_ms: u32,
    /// Revision of its last visible change.
    pub revision: Revision,
    /// Fencing token: the revision at which the present owner registered.
    pub incarnation: u64,
    /// The lease that keeps it. For the owner alone; not shown to readers.
    pub lease_id: LeaseId,
    /// When the present owner registered, in whole seconds since 1970; a label.
    pub registered_at_unix_s: u64,
    /// `request_id.client` of the owner; empty if it never gave one (P/R2). Not shown to readers.
    pub client: SmolStr,
    /// The operator's override in force.
    pub operator_override: Option<Arc<Override>>,
    /// Set while only the guard keeps it.
    pub protection: Option<Arc<Protection>>,
}

impl InstanceRecord {
    /// The state to act on: the override's if it has one, else the reported one.
    pub fn state(&self) -> InstanceState {
        self.operator_override.as_ref().and_then(|o| o.state).unwrap_or(self.reported_state)
    }

    /// The weight to act on: the override's if it has one, else the registered one.
    pub fn weight(&self) -> u16 {
        self.operator_override.as_ref().and_then(|o| o.weight).unwrap_or(self.content.weight)
    }

    /// True while only the mass-expiry guard keeps it.
    pub fn is_protected(&self) -> bool {
        self.protection.is_some()
    }

    /// Bytes of the owner's own data, as counted by the quota of user data.
    pub fn user_data_bytes(&self) -> u64 {
        self.content.user_data_bytes(&self.instance_id)
    }

    /// True if a reader sees no difference between the two, revisions aside.
    pub(crate) fn looks_like(&self, other: &Self) -> bool {
        self.reported_state == other.reported_state
            && self.ttl_ms == other.ttl_ms
            && self.incarnation == other.incarnation
            && self.registered_at_unix_s == other.registered_at_unix_s
            && self.operator_override == other.operator_override
            && self.protection == other.protection
            && self.content == other.content
    }
}
