//! Commands: exactly what is written to the log.
//!
//! The encoding is protobuf. A field that is added must mean "as before" when absent, and must raise
//! [`FORMAT`] if an older program would do something else without it (P/O3). Lists that stand for maps
//! or sets are sorted, so that equal requests have equal bytes.

use prost::Message;
use prost::encoding;

use crate::ids::{Epoch, LeaseId, RaftId};
use crate::settings::{ClusterSettings, MembershipOwner};

/// Newest format of commands that this program reads, and the one that it writes.
pub const FORMAT: u32 = 1;

/// One entry of the log for the state machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Wall clock of the proposer in milliseconds since 1970. Becomes labels, decides nothing.
    pub proposed_at_unix_ms: u64,
    /// Makes a client's write safe to repeat (P/R3). Ignored for commands of the registry itself.
    pub request: Option<RequestKey>,
    /// What to do.
    pub operation: Operation,
}

/// A client's `request_id`, with the hash of what it asks.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RequestKey {
    /// Names one run of one program.
    #[prost(string, tag = "1")]
    pub client: String,
    /// Number of the write, from 1.
    #[prost(uint64, tag = "2")]
    pub serial: u64,
    /// The client has the answers to all its serials below this one.
    #[prost(uint64, tag = "3")]
    pub done_below: u64,
    /// [`Operation::request_hash`] of the request.
    #[prost(fixed64, tag = "4")]
    pub hash: u64,
}

/// What a command does.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Operation {
    /// Founds the cluster.
    #[prost(message, tag = "10")]
    InitCluster(InitCluster),
    /// Registers an instance.
    #[prost(message, tag = "11")]
    Register(Register),
    /// Registers instances together.
    #[prost(message, tag = "12")]
    BatchRegister(BatchRegister),
    /// Removes an instance or all of a lease.
    #[prost(message, tag = "13")]
    Deregister(Deregister),
    /// Sets the reported state.
    #[prost(message, tag = "14")]
    SetState(SetState),
    /// Sets DRAINING.
    #[prost(message, tag = "15")]
    Drain(Drain),
    /// Sets an override.
    #[prost(message, tag = "16")]
    SetOverride(SetOverride),
    /// Clears an override.
    #[prost(message, tag = "17")]
    ClearOverride(ClearOverride),
    /// Logs the remaining times of overrides again.
    #[prost(message, tag = "18")]
    TickOverrides(TickOverrides),
    /// Ends overrides whose time is over.
    #[prost(message, tag = "19")]
    EndOverrides(EndOverrides),
    /// The mass-expiry guard takes hold of leases.
    #[prost(message, tag = "20")]
    Protect(Protect),
    /// The guard lets leases go because they were renewed.
    #[prost(message, tag = "21")]
    Unprotect(Unprotect),
    /// An operator ends the guard.
    #[prost(message, tag = "22")]
    EndProtection(EndProtection),
    /// Logs the guards of services again, ends or arms them.
    #[prost(message, tag = "23")]
    GuardTick(GuardTick),
    /// Ends leases that ran out.
    #[prost(message, tag = "24")]
    Expire(Expire),
    /// Gives a disk its Raft id.
    #[prost(message, tag = "25")]
    AddMember(AddMember),
    /// Removes members for good.
    #[prost(message, tag = "26")]
    RemoveMembers(RemoveMembers),
    /// Changes the settings.
    #[prost(message, tag = "27")]
    UpdateSettings(UpdateSettings),
}

/// Founds the cluster (P/N3). Repeated with the same cluster id it changes nothing.
#[derive(Clone, PartialEq, Message)]
pub struct InitCluster {
    /// UUID of the cluster.
    #[prost(string, tag = "1")]
    pub cluster_id: String,
    /// Random name of the history, not 0.
    #[prost(fixed64, tag = "2")]
    pub epoch: Epoch,
    /// The settings; unset = the defaults.
    #[prost(message, optional, tag = "3")]
    pub settings: Option<ClusterSettings>,
    /// The founding members.
    #[prost(message, repeated, tag = "4")]
    pub members: Vec<MemberSpec>,
    /// First id for a later member; above those of `members`.
    #[prost(uint64, tag = "5")]
    pub next_raft_id: RaftId,
}

/// A member as a command names it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MemberSpec {
    /// Its id; 0 in AddMember, which gives it one.
    #[prost(uint64, tag = "1")]
    pub raft_id: RaftId,
    /// Configured name.
    #[prost(string, tag = "2")]
    pub node_id: String,
    /// Id of its data folder.
    #[prost(string, tag = "3")]
    pub disk_id: String,
    /// HOST:PORT for nodes.
    #[prost(string, tag = "4")]
    pub peer_endpoint: String,
    /// HOST:PORT for clients.
    #[prost(string, tag = "5")]
    pub client_endpoint: String,
}

/// One registration, with the instance id made and the namespace filled in.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Registration {
    /// Namespace, not empty.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Service.
    #[prost(string, tag = "2")]
    pub service_name: String,
    /// Instance, not empty; see [`instance_id_of`].
    #[prost(string, tag = "3")]
    pub instance_id: String,
    /// Where it listens, without port and brackets.
    #[prost(string, tag = "4")]
    pub host: String,
    /// Main port.
    #[prost(uint32, tag = "5")]
    pub port: u32,
    /// The incarnation that the owner held before; 0 = none.
    #[prost(uint64, tag = "6")]
    pub incarnation: u64,
    /// An open lease to join; 0 = its own, else a new one.
    #[prost(fixed64, tag = "7")]
    pub lease_id: LeaseId,
    /// Time to live in milliseconds; 0 = permanent, unset = that of its lease, else the default.
    #[prost(uint64, optional, tag = "8")]
    pub ttl_ms: Option<u64>,
    /// Reported state; `Unspecified` = UP for a new owner, else unchanged.
    #[prost(enumeration = "crate::instance::InstanceState", tag = "9")]
    pub state: i32,
    /// Share of the traffic; unset = 100.
    #[prost(uint32, optional, tag = "10")]
    pub weight: Option<u32>,
    /// Zone; may be empty.
    #[prost(string, tag = "11")]
    pub zone: String,
    /// The owner's data, sorted by key, keys unique.
    #[prost(message, repeated, tag = "12")]
    pub metadata: Vec<Pair>,
    /// Labels, sorted, unique.
    #[prost(string, repeated, tag = "13")]
    pub tags: Vec<String>,
    /// Further ports, sorted by name, names unique.
    #[prost(message, repeated, tag = "14")]
    pub ports: Vec<NamedPort>,
}

/// A metadata pair.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
pub struct Pair {
    /// Key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A further port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
pub struct NamedPort {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Port.
    #[prost(uint32, tag = "2")]
    pub port: u32,
}

/// Registers an instance.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Register {
    /// What to register.
    #[prost(message, optional, tag = "1")]
    pub registration: Option<Registration>,
    /// Random id for the lease, should a new one be needed (P/L5).
    #[prost(fixed64, tag = "2")]
    pub new_lease_id: LeaseId,
}

/// Registers instances at one revision under one lease, all or none.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct BatchRegister {
    /// What to register; their `lease_id` and `ttl_ms` are unset.
    #[prost(message, repeated, tag = "1")]
    pub registrations: Vec<Registration>,
    /// An open lease that all join; 0 = a new one.
    #[prost(fixed64, tag = "2")]
    pub lease_id: LeaseId,
    /// Time to live of the new lease in milliseconds; as in [`Registration`].
    #[prost(uint64, optional, tag = "3")]
    pub ttl_ms: Option<u64>,
    /// Random id for the lease, should a new one be needed.
    #[prost(fixed64, tag = "4")]
    pub new_lease_id: LeaseId,
}

/// Names one instance, or by `lease_id` all instances of a lease; then the other fields are empty.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Target {
    /// Namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Service.
    #[prost(string, tag = "2")]
    pub service_name: String,
    /// Instance.
    #[prost(string, tag = "3")]
    pub instance_id: String,
    /// Only this incarnation; 0 = whichever is there.
    #[prost(uint64, tag = "4")]
    pub incarnation: u64,
    /// The lease.
    #[prost(fixed64, tag = "5")]
    pub lease_id: LeaseId,
}

/// Removes an instance or all of a lease.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Deregister {
    /// What to remove.
    #[prost(message, optional, tag = "1")]
    pub target: Option<Target>,
    /// True if an operator removes it.
    #[prost(bool, tag = "2")]
    pub by_operator: bool,
}

/// Sets the state that the owner reports.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SetState {
    /// What to change.
    #[prost(message, optional, tag = "1")]
    pub target: Option<Target>,
    /// The state.
    #[prost(enumeration = "crate::instance::InstanceState", tag = "2")]
    pub state: i32,
}

/// Sets DRAINING, as the owner or by an override.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Drain {
    /// What to drain.
    #[prost(message, optional, tag = "1")]
    pub target: Option<Target>,
    /// True = by an override. Not with a lease.
    #[prost(bool, tag = "2")]
    pub by_operator: bool,
}

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

/// Gives a disk its Raft id (P/N4, R1). A disk that has one keeps it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AddMember {
    /// Who; `raft_id` is 0.
    #[prost(message, optional, tag = "1")]
    pub member: Option<MemberSpec>,
    /// On whose behalf (P/N7).
    #[prost(enumeration = "MembershipOwner", tag = "2")]
    pub owner: i32,
}

/// Removes members for good (P/N4, R5).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RemoveMembers {
    /// Their ids.
    #[prost(uint64, repeated, tag = "1")]
    pub raft_ids: Vec<RaftId>,
    /// On whose behalf (P/N7).
    #[prost(enumeration = "MembershipOwner", tag = "2")]
    pub owner: i32,
}

/// Changes the settings (P/S1).
#[derive(Clone, PartialEq, Message)]
pub struct UpdateSettings {
    /// Version that the caller has seen.
    #[prost(uint64, tag = "1")]
    pub expected_version: u64,
    /// All settings, as they shall be.
    #[prost(message, optional, tag = "2")]
    pub settings: Option<ClusterSettings>,
}

/// Why bytes of the log are no command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer program; applying it would diverge (P/O3). The node must stop and be upgraded.
    #[error("command of format {found}, but this program reads formats up to {FORMAT}: upgrade this node")]
    HigherFormat {
        /// Its format.
        found: u32,
    },
    /// An operation that this program does not know (P/O3). The node must stop and be upgraded.
    #[error("command with an operation unknown to this program: upgrade this node")]
    UnknownOperation,
    /// Not a command at all: the log is damaged, or not a log of this program.
    #[error("malformed command: {0}")]
    Malformed(String),
}

/// The encoding of [`Command`], for reading.
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(uint64, tag = "2")]
    proposed_at_unix_ms: u64,
    #[prost(message, optional, tag = "3")]
    request: Option<RequestKey>,
    #[prost(
        oneof = "Operation",
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27"
    )]
    operation: Option<Operation>,
}

impl Command {
    /// Encodes the command for the log.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        encoding::uint32::encode(1, &FORMAT, &mut bytes);
        encoding::uint64::encode(2, &self.proposed_at_unix_ms, &mut bytes);
        if let Some(request) = &self.request {
            encoding::message::encode(3, request, &mut bytes);
        }
        self.operation.encode(&mut bytes);
        bytes
    }

    /// Size of the encoding, in bytes.
    pub fn encoded_len(&self) -> usize {
        encoding::uint32::encoded_len(1, &FORMAT)
            + encoding::uint64::encoded_len(2, &self.proposed_at_unix_ms)
            + self.request.as_ref().map_or(0, |request| encoding::message::encoded_len(3, request))
            + self.operation.encoded_len()
    }

    /// Decodes what [`encode`](Self::encode) made.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let envelope = Envelope::decode(bytes).map_err(|error| DecodeError::Malformed(error.to_string()))?;
        match envelope.format {
            0 => return Err(DecodeError::Malformed("it has no format number".into())),
            1..=FORMAT => {}
            found => return Err(DecodeError::HigherFormat { found }),
        }
        let operation = envelope.operation.ok_or(DecodeError::UnknownOperation)?;
        Ok(Self { proposed_at_unix_ms: envelope.proposed_at_unix_ms, request: envelope.request, operation })
    }
}

impl Operation {
    /// Hash for [`RequestKey::hash`]: the first 8 bytes of BLAKE3 over the canonical request, that is the
    /// operation without what the proposer adds (P/R3).
    pub fn request_hash(&self) -> u64 {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        match self {
            Operation::Register(register) if register.new_lease_id != 0 => {
                Operation::Register(Register { new_lease_id: 0, ..register.clone() }).encode(&mut bytes);
            }
            Operation::BatchRegister(batch) if batch.new_lease_id != 0 => {
                Operation::BatchRegister(BatchRegister { new_lease_id: 0, ..batch.clone() })
                    .encode(&mut bytes);
            }
            other => other.encode(&mut bytes),
        }
        let digest = *blake3::hash(&bytes).as_bytes();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// True for the writes of clients, whose outcomes are remembered by request id.
    pub fn is_deduplicated(&self) -> bool {
        matches!(
            self,
            Operation::Register(_)
                | Operation::BatchRegister(_)
                | Operation::Deregister(_)
                | Operation::SetState(_)
                | Operation::Drain(_)
                | Operation::SetOverride(_)
                | Operation::ClearOverride(_)
                | Operation::EndProtection(_)
        )
    }
}

impl Registration {
    /// Brings the lists into the order that [`State::apply`](crate::State::apply) demands. Of pairs or
    /// ports with one name the last one stays, as in a protobuf map.
    pub fn canonicalize(&mut self) {
        self.metadata.sort_by(|a, b| a.key.cmp(&b.key));
        keep_last(&mut self.metadata, |a, b| a.key == b.key);
        self.ports.sort_by(|a, b| a.name.cmp(&b.name));
        keep_last(&mut self.ports, |a, b| a.name == b.name);
        self.tags.sort();
        self.tags.dedup();
    }
}

/// Keeps the last of each run of equal neighbours.
fn keep_last<T>(items: &mut Vec<T>, same: impl Fn(&T, &T) -> bool) {
    items.reverse();
    items.dedup_by(|a, b| same(a, b));
    items.reverse();
}

/// The instance id of a registration that gives none: `HOST:PORT`, or `[HOST]:PORT` for IPv6.
pub fn instance_id_of(host: &str, port: u32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
