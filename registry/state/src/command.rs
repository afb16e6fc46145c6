//! Commands: exactly what is written to the log.
//!
//! The encoding is protobuf. A field that is added must mean "as before" when absent, and must raise
//! [`FORMAT`] if an older program would do something else without it (P/O3). Lists that stand for maps
//! or sets are sorted, so that equal requests have equal bytes.

mod cluster;
mod lease;
mod operator;
mod owner;

pub use cluster::*;
pub use lease::*;
pub use operator::*;
pub use owner::*;

use prost::Message;
use prost::encoding;

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
