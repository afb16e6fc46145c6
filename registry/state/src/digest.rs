//! The incremental hash of the state (P/O4): the sum of the hashes of all records, so that it does not
//! depend on the order in which they came and is kept by adding and subtracting.
//!
//! It finds divergence by accident, not by intent. Hashing is wyhash's folded multiplication
//! (<https://github.com/wangyi-fudan/wyhash>, public domain) over 8 bytes at a time.

use crate::client::Client;
use crate::ids::{InstanceKey, LeaseId, ServiceKey};
use crate::instance::InstanceRecord;
use crate::lease::{Lease, LeaseHold};
use crate::member::{Member, Tombstone};
use crate::overrides::{Override, OverrideEntry};
use crate::service::{GuardState, Service};
use crate::state::State;

/// Version of the hash, raised with every change to this file: hashes of two versions do not compare.
pub(crate) const VERSION: u32 = 1;

/// Sum of the hashes of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest(u64);

impl Digest {
    pub(crate) fn add(&mut self, record: u64) {
        self.0 = self.0.wrapping_add(record);
    }

    pub(crate) fn remove(&mut self, record: u64) {
        self.0 = self.0.wrapping_sub(record);
    }
}

/// First words of hashes: a record of one kind never looks like one of another.
const INSTANCE: u64 = 1;
const SERVICE: u64 = 2;
const LEASE: u64 = 3;
const CLIENT: u64 = 4;
const OVERRIDE: u64 = 5;
const MEMBER: u64 = 6;
const TOMBSTONE: u64 = 7;
const WHOLE: u64 = 8;

const MULTIPLIER: u64 = 0xa076_1d64_78bd_642f;
const INCREMENT: u64 = 0xe703_7ed1_a0b4_28db;

struct Hash(u64);

impl Hash {
    fn of(kind: u64) -> Self {
        Self(INCREMENT).word(kind)
    }

    fn word(self, word: u64) -> Self {
        let product = u128::from(self.0 ^ word).wrapping_mul(u128::from(MULTIPLIER));
        let folded = (product as u64) ^ ((product >> 64) as u64);
        Self(folded.wrapping_add(INCREMENT))
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        let mut hash = self.word(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let word = chunk.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte));
            hash = hash.word(word);
        }
        hash
    }

    fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }
}

pub(crate) fn of_instance(instance: &InstanceRecord) -> u64 {
    let content = &instance.content;
    let mut hash = Hash::of(INSTANCE)
        .text(&instance.service.namespace)
        .text(&instance.service.name)
        .text(&instance.instance_id)
        .text(&content.host)
        .word(u64::from(content.port) << 32 | u64::from(content.weight))
        .text(&content.zone)
        .word(content.metadata.len() as u64)
        .word(content.tags.len() as u64)
        .word(content.ports.len() as u64);
    for (key, value) in &content.metadata {
        hash = hash.text(key).text(value);
    }
    for tag in &content.tags {
        hash = hash.text(tag);
    }
    for (name, port) in &content.ports {
        hash = hash.text(name).word(u64::from(*port));
    }
    hash = hash
        .word((instance.reported_state as u64) << 32 | u64::from(instance.ttl_ms))
        .word(instance.revision)
        .word(instance.incarnation)
        .word(instance.lease_id)
        .word(instance.registered_at_unix_s)
        .text(&instance.client)
        .word(instance.operator_override.as_ref().map_or(0, |o| o.revision));
    if let Some(protection) = &instance.protection {
        hash = hash.word(protection.silent_for_ms).word(protection.since_unix_ms);
    }
    hash.0
}

pub(crate) fn of_service(key: &ServiceKey, service: &Service) -> u64 {
    let guard = match service.guard {
        GuardState::Armed => 0,
        GuardState::Disarmed => 1,
        GuardState::Holding { remaining_ms } => remaining_ms.saturating_add(2),
    };
    Hash::of(SERVICE).text(&key.namespace).text(&key.name).word(service.revision).word(guard).0
}

pub(crate) fn of_lease(id: LeaseId, lease: &Lease) -> u64 {
    let hold = match lease.hold {
        LeaseHold::None => 0,
        LeaseHold::Held => 1,
        LeaseHold::Released => 2,
    };
    Hash::of(LEASE).word(id).word(lease.version).word(u64::from(lease.ttl_ms)).word(hold).0
}

pub(crate) fn of_client(name: &str, client: &Client) -> u64 {
    let mut hash = Hash::of(CLIENT).text(name).word(client.used).word(client.highest).word(client.done_below);
    for record in &client.records {
        hash = hash.word(record.serial).word(record.hash).word(record.revision);
    }
    hash.0
}

pub(crate) fn of_override(key: &InstanceKey, entry: &OverrideEntry) -> u64 {
    let Override { state, weight, comment, actor, set_at_unix_ms, expires_at_unix_ms, revision } =
        &*entry.shared;
    Hash::of(OVERRIDE)
        .text(&key.service.namespace)
        .text(&key.service.name)
        .text(&key.instance_id)
        .word(state.map_or(0, |state| state as u64))
        .word(weight.map_or(0, |weight| u64::from(weight) + 1))
        .text(comment)
        .text(actor)
        .word(*set_at_unix_ms)
        .word(expires_at_unix_ms.map_or(0, |at| at.saturating_add(1)))
        .word(*revision)
        .word(entry.remaining_ms.map_or(0, |remaining| remaining.saturating_add(1)))
        .0
}

pub(crate) fn of_member(member: &Member) -> u64 {
    Hash::of(MEMBER)
        .word(member.raft_id)
        .text(&member.node_id)
        .text(&member.disk_id)
        .text(&member.peer_endpoint)
        .text(&member.client_endpoint)
        .0
}

pub(crate) fn of_tombstone(tombstone: &Tombstone) -> u64 {
    Hash::of(TOMBSTONE).word(tombstone.raft_id).text(&tombstone.disk_id).0
}

impl State {
    /// The records and what there is only once.
    pub(crate) fn digest_of_whole(&self) -> u64 {
        let settings = prost::Message::encode_to_vec(&*self.settings);
        let (events, bytes) = self.history.size();
        Hash::of(WHOLE)
            .word(self.digest.0)
            .text(self.cluster_id().unwrap_or_default())
            .word(self.epoch())
            .word(u64::from(self.feature_level))
            .word(self.revision)
            .word(self.next_raft_id)
            .word(self.clients.tick())
            .bytes(&settings)
            .word(self.history_floor())
            .word(events)
            .word(bytes)
            .0
    }
}
