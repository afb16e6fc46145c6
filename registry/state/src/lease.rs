//! Leases as the log knows them. Deadlines are the leader's own business (P/L3).

use crate::ids::LeaseId;

/// What the mass-expiry guard does with a lease (P/L6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LeaseHold {
    /// Nothing: it has a deadline, if its time to live is not 0.
    #[default]
    None,
    /// The guard keeps it. It has no deadline and gets none from a new leader.
    Held,
    /// The guard let it go and nobody has renewed it since: it is due at once, also under a new leader.
    /// A renewal of it is answered only after its Unprotect is applied.
    Released,
}

/// An open lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// Its id.
    pub id: LeaseId,
    /// Raised by every write of the owner that touches it (P/L4); named by Expire and Unprotect.
    pub version: u64,
    /// Time to live in milliseconds; 0 = permanent.
    pub ttl_ms: u32,
    /// What the guard does with it.
    pub hold: LeaseHold,
    /// Number of its instances, at least 1.
    pub instances: u32,
}

/// What a command did to a lease, for the leader's table of deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// A new lease; its time begins.
    Opened {
        /// The lease.
        id: LeaseId,
        /// Its version.
        version: u64,
        /// Its time to live in milliseconds; 0 = permanent.
        ttl_ms: u32,
    },
    /// The owner was heard through the log: the time begins anew, any hold of the guard is over.
    Touched {
        /// The lease.
        id: LeaseId,
        /// Its version now.
        version: u64,
        /// Its time to live in milliseconds; 0 = permanent.
        ttl_ms: u32,
    },
    /// The guard keeps it: it has no deadline any more.
    Held {
        /// The lease.
        id: LeaseId,
        /// Its version.
        version: u64,
    },
    /// The guard let it go: it is due now unless renewed.
    Released {
        /// The lease.
        id: LeaseId,
        /// Its version.
        version: u64,
    },
    /// It has ended.
    Closed {
        /// The lease.
        id: LeaseId,
    },
}

/// What the state keeps of a lease; its instances are in an index of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) version: u64,
    pub(crate) ttl_ms: u32,
    pub(crate) instances: u32,
    pub(crate) hold: LeaseHold,
}
