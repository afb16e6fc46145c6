//! What the leader decides about leases and the mass-expiry guard.

use prost::Message;

use crate::ids::LeaseId;

/// Names one version of a lease.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct LeaseVersion {
    /// The lease.
    #[prost(fixed64, tag = "1")]
    pub lease_id: LeaseId,
    /// Its version; another one is left alone.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// In Protect: how long the owner has been silent, in milliseconds.
    #[prost(uint64, tag = "3")]
    pub silent_for_ms: u64,
}

/// Names a service.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ServiceName {
    /// Namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Service.
    #[prost(string, tag = "2")]
    pub service_name: String,
}

/// The guard takes hold of leases (P/L6).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Protect {
    /// How long the guard holds the services of these leases, in milliseconds of leader time. Services
    /// that it holds already keep the time that they have left.
    #[prost(uint64, tag = "1")]
    pub hold_ms: u64,
    /// The leases; at most 256. Each is kept whole, whatever services it touches.
    #[prost(message, repeated, tag = "2")]
    pub leases: Vec<LeaseVersion>,
}

/// The guard lets leases go because they were renewed (P/L6). Counts as their renewal.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Unprotect {
    /// The leases.
    #[prost(message, repeated, tag = "1")]
    pub leases: Vec<LeaseVersion>,
}

/// What the leader decided about the guards of services (P/L6).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct GuardTick {
    /// The services.
    #[prost(message, repeated, tag = "1")]
    pub services: Vec<GuardDecision>,
}

/// What becomes of the guard of one service.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct GuardDecision {
    /// The service.
    #[prost(message, optional, tag = "1")]
    pub service: Option<ServiceName>,
    /// What to do.
    #[prost(oneof = "GuardAction", tags = "2, 3, 4")]
    pub action: Option<GuardAction>,
}

/// What to do with the guard of a service.
#[derive(Clone, Copy, PartialEq, Eq, prost::Oneof)]
pub enum GuardAction {
    /// It goes on holding: so many milliseconds are left. Nothing happens unless it holds.
    #[prost(uint64, tag = "2")]
    Hold(u64),
    /// Its time is over: what it keeps alone is due now, and it is disarmed.
    #[prost(bool, tag = "3")]
    End(bool),
    /// It may take hold again.
    #[prost(bool, tag = "4")]
    Arm(bool),
}

/// Ends leases that ran out (P/L4).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Expire {
    /// The leases; at most 256.
    #[prost(message, repeated, tag = "1")]
    pub leases: Vec<LeaseVersion>,
}
