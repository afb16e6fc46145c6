//! What the state keeps of a service beside its instances.

use crate::ids::Revision;
use crate::instance::{InstanceRecord, InstanceState};

/// Numbers of instances by the state to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// All.
    pub total: u32,
    /// STARTING.
    pub starting: u32,
    /// UP.
    pub up: u32,
    /// DRAINING.
    pub draining: u32,
    /// DOWN.
    pub down: u32,
    /// Those of all states that only the mass-expiry guard keeps.
    pub protected: u32,
}

impl Counts {
    pub(crate) fn add(&mut self, instance: &InstanceRecord) {
        self.total += 1;
        *self.of(instance.state()) += 1;
        self.protected += u32::from(instance.is_protected());
    }

    pub(crate) fn remove(&mut self, instance: &InstanceRecord) {
        self.total = self.total.saturating_sub(1);
        let count = self.of(instance.state());
        *count = count.saturating_sub(1);
        self.protected = self.protected.saturating_sub(u32::from(instance.is_protected()));
    }

    fn of(&mut self, state: InstanceState) -> &mut u32 {
        match state {
            InstanceState::Starting => &mut self.starting,
            InstanceState::Up => &mut self.up,
            InstanceState::Draining => &mut self.draining,
            InstanceState::Down | InstanceState::Unspecified => &mut self.down,
        }
    }
}

/// What a service is like. The numbers are those of `registry.v1.ServiceStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum ServiceStatus {
    /// Never made.
    Unspecified = 0,
    /// Nobody has registered it, or not for so long that it was forgotten.
    Unknown = 1,
    /// It is known, but has no instance.
    Empty = 2,
    /// The mass-expiry guard keeps some of its instances.
    Protected = 3,
    /// It has instances, but none is UP.
    NoneUp = 4,
    /// At least one instance is UP.
    Available = 5,
}

impl ServiceStatus {
    /// The status of a known service with these instances: the first that holds (API/Q1).
    pub fn of(counts: &Counts) -> Self {
        if counts.total == 0 {
            Self::Empty
        } else if counts.protected > 0 {
            Self::Protected
        } else if counts.up == 0 {
            Self::NoneUp
        } else {
            Self::Available
        }
    }
}

/// The mass-expiry guard of a service (P/L6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum GuardState {
    /// It may take hold.
    #[default]
    Armed,
    /// It keeps overdue leases.
    Holding {
        /// Time left when the leader last logged it, in milliseconds of leader time.
        remaining_ms: u64,
    },
    /// It has ended and may not take hold before it is armed again.
    Disarmed,
}

/// A service. Known as long as it has instances or the removal of the last one is in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// Stands for the service in the keys of instances. Local: not in snapshots, given anew when one is
    /// loaded, and never compared between nodes.
    pub(crate) number: u64,
    pub(crate) counts: Counts,
    /// Last change of the service or one of its instances.
    pub(crate) revision: Revision,
    pub(crate) guard: GuardState,
}

/// Totals of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Namespace {
    pub(crate) counts: Counts,
    pub(crate) services: u32,
}
