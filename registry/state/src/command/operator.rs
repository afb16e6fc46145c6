//! What operators write, and how the leader goes on with it.

use prost::Message;

use super::Target;

/// Sets an override, in place of an earlier one.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SetOverride {
    /// The instance, registered or not; without incarnation and lease.
    #[prost(message, optional, tag = "1")]
    pub target: Option<Target>,
    /// State to show; `Unspecified` = leave it alone.
    #[prost(enumeration = "crate::instance::InstanceState", tag = "2")]
    pub state: i32,
    /// Weight to show; unset = leave it alone.
    #[prost(uint32, optional, tag = "3")]
    pub weight: Option<u32>,
    /// Why.
    #[prost(string, tag = "4")]
    pub comment: String,
    /// Who.
    #[prost(string, tag = "5")]
    pub actor: String,
    /// Time until it ends by itself in milliseconds; unset = never.
    #[prost(uint64, optional, tag = "6")]
    pub ttl_ms: Option<u64>,
}

/// Clears an override.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ClearOverride {
    /// The instance; without incarnation and lease.
    #[prost(message, optional, tag = "1")]
    pub target: Option<Target>,
}

/// Logs the remaining times of overrides again, so that a new leader goes on from there (P/L7).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TickOverrides {
    /// The overrides; those of another version are left alone.
    #[prost(message, repeated, tag = "1")]
    pub overrides: Vec<OverrideTick>,
}

/// An override and the time that it has left.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct OverrideTick {
    /// The override.
    #[prost(message, optional, tag = "1")]
    pub target: Option<OverrideVersion>,
    /// Time left in milliseconds.
    #[prost(uint64, tag = "2")]
    pub remaining_ms: u64,
}

/// Names one version of an override.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct OverrideVersion {
    /// Namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Service.
    #[prost(string, tag = "2")]
    pub service_name: String,
    /// Instance.
    #[prost(string, tag = "3")]
    pub instance_id: String,
    /// [`Override::revision`](crate::Override::revision).
    #[prost(uint64, tag = "4")]
    pub version: u64,
}

/// Ends overrides whose time is over; those of another version are left alone.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct EndOverrides {
    /// The overrides.
    #[prost(message, repeated, tag = "1")]
    pub overrides: Vec<OverrideVersion>,
}

/// An operator ends the guard: what it keeps is due now.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct EndProtection {
    /// Only this service; empty = all of the namespace.
    #[prost(string, tag = "1")]
    pub service_name: String,
    /// Namespace; empty with `all_namespaces`.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// Everywhere.
    #[prost(bool, tag = "3")]
    pub all_namespaces: bool,
}
