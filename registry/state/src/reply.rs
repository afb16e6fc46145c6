//! What a command answers: one variant per operation, or a rejection.

use std::sync::Arc;

use smol_str::SmolStr;

use crate::ids::{LeaseId, RaftId, Revision, ServiceKey};
use crate::instance::InstanceRecord;
use crate::overrides::Override;
use crate::validate::Violation;

/// What Register did. The numbers are those of `registry.v1.RegisterOutcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum RegisterOutcome {
    /// Not known; never made.
    Unspecified = 0,
    /// The instance was not there and is now.
    Created = 1,
    /// Same owner, other content.
    Updated = 2,
    /// Same owner, same content.
    Renewed = 3,
    /// Another owner held the instance and has been fenced off.
    Replaced = 4,
}

/// What became of one registration of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchEntry {
    /// Its id.
    pub instance_id: SmolStr,
    /// Its fencing token.
    pub incarnation: u64,
    /// What the call did to it.
    pub outcome: RegisterOutcome,
}

/// The answer of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// InitCluster.
    Initialized {
        /// True if the cluster had been founded before, with the same id.
        already: bool,
    },
    /// Register.
    Registered {
        /// The instance as it stands.
        instance: Arc<InstanceRecord>,
        /// The lease to renew.
        lease_id: LeaseId,
        /// The fencing token.
        incarnation: u64,
        /// What the call did.
        outcome: RegisterOutcome,
    },
    /// BatchRegister.
    BatchRegistered {
        /// One per registration, in the order of the request.
        results: Vec<BatchEntry>,
        /// The lease that keeps them all.
        lease_id: LeaseId,
    },
    /// Deregister.
    Deregistered {
        /// Number of instances removed.
        removed: u32,
    },
    /// SetState.
    StateSet {
        /// Number of instances whose reported state changed.
        changed: u32,
        /// Number of the instances named whose state an override hides.
        overridden: u32,
    },
    /// Drain.
    Drained {
        /// The revision for which watches have to be awaited: that of the change.
        revision: Revision,
        /// Services of the instances, for AwaitWatches; sorted.
        services: Vec<Arc<ServiceKey>>,
    },
    /// SetOverride.
    OverrideSet {
        /// The override as it stands.
        operator_override: Arc<Override>,
        /// True if the instance is registered now.
        registered: bool,
    },
    /// ClearOverride.
    OverrideCleared {
        /// False = there was none.
        cleared: bool,
    },
    /// TickOverrides.
    OverridesTicked {
        /// Number of overrides whose remaining time was taken over.
        updated: u32,
    },
    /// EndOverrides.
    OverridesEnded {
        /// Number of overrides that ended.
        ended: u32,
    },
    /// Protect.
    Protected {
        /// Number of leases that the guard keeps from now on.
        leases: u32,
        /// Number of their instances.
        instances: u32,
    },
    /// Unprotect.
    Unprotected {
        /// Number of leases that the guard no longer keeps.
        leases: u32,
        /// Number of their instances.
        instances: u32,
    },
    /// EndProtection.
    ProtectionEnded {
        /// Number of instances that the guard no longer keeps.
        ended: u32,
    },
    /// GuardTick.
    GuardTicked {
        /// Number of instances that the guard no longer keeps.
        ended: u32,
    },
    /// Expire.
    Expired {
        /// Number of leases that ended.
        leases: u32,
        /// Number of instances removed.
        instances: u32,
        /// Number of leases left alone, because of another version or the bound of one entry.
        skipped: u32,
    },
    /// AddMember.
    MemberAdded {
        /// The id of the member.
        raft_id: RaftId,
        /// True if the disk was known and nothing changed.
        already: bool,
    },
    /// RemoveMembers.
    MembersRemoved {
        /// Ids that were members and are no more.
        removed: Vec<RaftId>,
    },
    /// UpdateSettings.
    SettingsUpdated {
        /// Version of the settings now.
        version: u64,
    },
    /// Nothing was changed.
    Rejected(Rejection),
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Why.
    pub reason: Reason,
    /// Position of the entry of a batch that was refused.
    pub index: Option<u32>,
}

impl From<Reason> for Rejection {
    fn from(reason: Reason) -> Self {
        Self { reason, index: None }
    }
}

/// A quota or fixed bound that is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Quota {
    /// Not known; never made.
    Unspecified = 0,
    /// Instances of the cluster.
    Instances = 1,
    /// Services of the cluster, those not forgotten yet included.
    Services = 2,
    /// Instances of one service.
    InstancesPerService = 3,
    /// Overrides of the cluster.
    Overrides = 4,
    /// Bytes of user data of the cluster.
    UserDataBytes = 5,
    /// Instances of one lease.
    InstancesPerLease = 6,
    /// Members of the cluster.
    Members = 7,
}

impl Quota {
    /// Its name in errors: the key in `ClusterSettings.quotas`, or that of the fixed bound.
    pub fn name(self) -> &'static str {
        match self {
            Quota::Unspecified => "unspecified",
            Quota::Instances => "instances",
            Quota::Services => "services",
            Quota::InstancesPerService => "instances_per_service",
            Quota::Overrides => "overrides",
            Quota::UserDataBytes => "user_data_bytes",
            Quota::InstancesPerLease => "instances_per_lease",
            Quota::Members => "members",
        }
    }
}

/// Why a command was refused. The names are those of `registry.v1.ErrorReason` and
/// `registry.internal.v1.PeerErrorReason`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Fields break a rule.
    #[error("{}", crate::validate::join(.0))]
    InvalidField(Vec<Violation>),
    /// The request id was used before with other content.
    #[error("this request_id was used before with other content; give each new write a new serial")]
    RequestIdReused,
    /// The serial is older than what is remembered of the client.
    #[error(
        "serials below {floor} of this client are forgotten; read what became of the write, then use a new serial"
    )]
    RequestSuperseded {
        /// Lowest serial that can be told.
        floor: u64,
    },
    /// The client is not known and the serial is not 1.
    #[error("this client is not known here and its serial is not 1; begin anew with another client id")]
    SessionUnknown,
    /// The write took effect earlier, and what it registered has gone or been replaced since.
    #[error(
        "the registration took effect earlier but is gone or replaced since; register again with a new serial"
    )]
    RegistrationGone,
    /// No such instance is registered.
    #[error("no such instance is registered")]
    InstanceNotFound,
    /// The lease is not open.
    #[error("the lease is not open; register again")]
    LeaseExpired,
    /// Another owner registered the instance since.
    #[error("another owner registered the instance since, with incarnation {current}; stop acting for it")]
    StaleIncarnation {
        /// Incarnation of the present owner.
        current: u64,
    },
    /// A quota is full.
    #[error("the quota `{}` of {limit} is full; free something or have it raised", .quota.name())]
    QuotaExceeded {
        /// Which.
        quota: Quota,
        /// Its value.
        limit: u64,
    },
    /// The cluster has not been founded.
    #[error("the cluster has not been initialised")]
    NotInitialized,
    /// The cluster was founded under another id.
    #[error("the cluster was initialised before, as {cluster_id}")]
    AlreadyInitialized {
        /// Its id.
        cluster_id: SmolStr,
    },
    /// The settings are not of the version that the caller expected.
    #[error("the settings have version {version}; read them again")]
    SettingsChanged {
        /// Their version.
        version: u64,
    },
    /// Somebody else decides about members.
    #[error("members are managed by {owner:?}")]
    MembershipOwned {
        /// Who.
        owner: crate::settings::MembershipOwner,
    },
    /// The disk was a member and has been removed for good.
    #[error("this disk was member {raft_id} and has been removed; it needs a new disk id")]
    MemberRemoved {
        /// The id that it had.
        raft_id: RaftId,
    },
}
