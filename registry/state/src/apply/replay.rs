//! Answering a write again from what is remembered of it (P/R3): outcome, incarnation, lease and revision
//! are those of then, the instance is that of now.

use std::sync::Arc;

use smol_str::SmolStr;

use super::overrides::Wanted;
use super::report::services_of;
use crate::client::Remembered;
use crate::command::{BatchRegister, Operation, Register, SetOverride};
use crate::ids::{LeaseId, Revision};
use crate::reply::{BatchEntry, Reason, RegisterOutcome, Rejection, Reply};
use crate::state::State;

/// What to remember of an answer; `None` for answers of the registry's own commands.
pub(super) fn remember(reply: &Reply) -> Option<Remembered> {
    Some(match reply {
        Reply::Registered { lease_id, incarnation, outcome, .. } => {
            Remembered::Registered { outcome: *outcome, incarnation: *incarnation, lease_id: *lease_id }
        }
        Reply::BatchRegistered { results, lease_id } => {
            Remembered::Batch { lease_id: *lease_id, outcomes: pack(results) }
        }
        Reply::Deregistered { removed } => Remembered::Deregistered { removed: *removed },
        Reply::StateSet { changed, overridden } => {
            Remembered::StateSet { changed: *changed, overridden: *overridden }
        }
        Reply::Drained { revision, .. } => Remembered::Drained { revision: *revision },
        Reply::OverrideSet { operator_override, registered } => {
            Remembered::OverrideSet { revision: operator_override.revision, registered: *registered }
        }
        Reply::OverrideCleared { cleared } => Remembered::OverrideCleared { cleared: *cleared },
        Reply::ProtectionEnded { ended } => Remembered::ProtectionEnded { ended: *ended },
        Reply::Rejected(rejection) => Remembered::Rejected(Arc::new(rejection.clone())),
        Reply::Initialized { .. }
        | Reply::OverridesTicked { .. }
        | Reply::OverridesEnded { .. }
        | Reply::Protected { .. }
        | Reply::Unprotected { .. }
        | Reply::GuardTicked { .. }
        | Reply::Expired { .. }
        | Reply::MemberAdded { .. }
        | Reply::MembersRemoved { .. }
        | Reply::SettingsUpdated { .. } => return None,
    })
}

impl State {
    /// The answer again. An outcome of another operation would mean that two hashes are equal by chance.
    pub(super) fn replay(
        &self,
        operation: &Operation,
        revision: Revision,
        outcome: &Remembered,
        now_unix_ms: u64,
    ) -> Reply {
        match (operation, outcome) {
            (_, Remembered::Rejected(rejection)) => Reply::Rejected((**rejection).clone()),
            (Operation::Register(register), Remembered::Registered { outcome, incarnation, lease_id }) => {
                self.replay_register(register, *outcome, *incarnation, *lease_id)
            }
            (Operation::BatchRegister(batch), Remembered::Batch { lease_id, outcomes }) => {
                self.replay_batch(batch, revision, *lease_id, outcomes).unwrap_or_else(Reply::Rejected)
            }
            (Operation::Deregister(_), Remembered::Deregistered { removed }) => {
                Reply::Deregistered { removed: *removed }
            }
            (Operation::SetState(_), Remembered::StateSet { changed, overridden }) => {
                Reply::StateSet { changed: *changed, overridden: *overridden }
            }
            (Operation::Drain(drain), Remembered::Drained { revision }) => {
                let records = self.resolve(drain.target.as_ref()).unwrap_or_default();
                Reply::Drained { revision: *revision, services: services_of(&records) }
            }
            (Operation::SetOverride(set), Remembered::OverrideSet { revision, registered }) => {
                self.replay_override(set, *revision, *registered, now_unix_ms)
            }
            (Operation::ClearOverride(_), Remembered::OverrideCleared { cleared }) => {
                Reply::OverrideCleared { cleared: *cleared }
            }
            (Operation::EndProtection(_), Remembered::ProtectionEnded { ended }) => {
                Reply::ProtectionEnded { ended: *ended }
            }
            _ => Reply::Rejected(Reason::RequestIdReused.into()),
        }
    }

    fn replay_register(
        &self,
        command: &Register,
        outcome: RegisterOutcome,
        incarnation: u64,
        lease_id: LeaseId,
    ) -> Reply {
        let found = command
            .registration
            .as_ref()
            .and_then(|r| self.instance(&r.namespace, &r.service_name, &r.instance_id))
            .filter(|record| record.incarnation == incarnation);
        match found {
            Some(instance) => {
                Reply::Registered { instance: instance.clone(), lease_id, incarnation, outcome }
            }
            None => Reply::Rejected(Reason::RegistrationGone.into()),
        }
    }

    /// The incarnations of a batch are not remembered: what it created has that of its revision, what it
    /// found there has an older one, and whatever came later has a higher one.
    fn replay_batch(
        &self,
        command: &BatchRegister,
        revision: Revision,
        lease_id: LeaseId,
        outcomes: &[u8],
    ) -> Result<Reply, Rejection> {
        let mut results = Vec::with_capacity(command.registrations.len());
        for (at, r) in command.registrations.iter().enumerate() {
            let outcome = unpack(outcomes, at);
            let made = matches!(outcome, RegisterOutcome::Created | RegisterOutcome::Replaced);
            let found = self.instance(&r.namespace, &r.service_name, &r.instance_id).filter(|record| {
                if made { record.incarnation == revision } else { record.incarnation <= revision }
            });
            let Some(record) = found else {
                return Err(Rejection { reason: Reason::RegistrationGone, index: u32::try_from(at).ok() });
            };
            let (instance_id, incarnation) = (SmolStr::new(&r.instance_id), record.incarnation);
            results.push(BatchEntry { instance_id, incarnation, outcome });
        }
        Ok(Reply::BatchRegistered { results, lease_id })
    }

    /// The override as it stands, or as it stood if it is gone or another one now.
    fn replay_override(
        &self,
        command: &SetOverride,
        revision: Revision,
        registered: bool,
        now: u64,
    ) -> Reply {
        let key = self.override_key(command.target.as_ref());
        let standing = self.overrides.get(&key).filter(|entry| entry.shared.revision == revision);
        let operator_override = match standing {
            Some(entry) => entry.shared.clone(),
            None => Arc::new(Wanted::of(command).made(revision, now)),
        };
        Reply::OverrideSet { operator_override, registered }
    }
}

/// Two bits for each outcome, four to a byte.
fn pack(results: &[BatchEntry]) -> Box<[u8]> {
    let bits = |entry: &BatchEntry| (entry.outcome as i32 - 1) as u8 & 0b11;
    results.chunks(4).map(|four| four.iter().rev().fold(0, |byte, entry| byte << 2 | bits(entry))).collect()
}

fn unpack(outcomes: &[u8], at: usize) -> RegisterOutcome {
    let byte = outcomes.get(at / 4).copied().unwrap_or(0);
    match byte >> (2 * (at % 4)) & 0b11 {
        0 => RegisterOutcome::Created,
        1 => RegisterOutcome::Updated,
        2 => RegisterOutcome::Renewed,
        _ => RegisterOutcome::Replaced,
    }
}
